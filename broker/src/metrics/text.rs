//! Prometheus' text format 0.0.4, as far as natssh speaks it. Pure.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>: a family's
//! series stand together, below its help and its type.

use super::{BOUNDS, Histogram};
use std::fmt::{Display, Write as _};

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, until the broker starts again; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// Label names and values; the names are ours, the values may be anything.
pub(super) type Labels<'l> = [(&'l str, &'l str)];

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// One family of it; the next one begins when this is let go.
pub(super) struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Page {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        put(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: &mut self.0, name }
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One series with a number.
    pub(super) fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The series of a histogram.
    pub(super) fn histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) {
        let counts = histogram.cumulative();
        for (bound, count) in BOUNDS.iter().zip(&counts) {
            self.line("_bucket", labels, Some(&bound.to_string()), count);
        }
        let all = counts[BOUNDS.len()];
        self.line("_bucket", labels, Some("+Inf"), all);
        self.line("_sum", labels, None, histogram.sum_seconds());
        self.line("_count", labels, None, all);
    }

    fn line(&mut self, ending: &str, labels: &Labels<'_>, bound: Option<&str>, value: impl Display) {
        put(self.page, format_args!("{}{ending}", self.name));
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in labels {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            put(self.page, format_args!("{before}{name}=\"{value}\""));
            before = ',';
        }
        let closed = if before == ',' { "}" } else { "" };
        put(self.page, format_args!("{closed} {value}\n"));
    }
}

/// Writing to a String cannot fail.
fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}
