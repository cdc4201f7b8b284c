//! A reader of the text format that takes nothing the format does not allow, and knows the
//! rules that a page must keep: series stand below their type, and buckets add up.

use std::collections::{BTreeMap, BTreeSet};

/// The series of a page: name, labels, value.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Names of families and their types.
    pub(super) types: BTreeMap<String, String>,
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Parsed {
    /// Reads a page.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line does not end".into());
        }
        for line in text.lines() {
            let said = |what: &str| format!("{what}: {line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| said("no help"))?;
                unescape(help, "").ok_or_else(|| said("an escape that is none"))?;
                if !helped.insert(name.to_owned()) {
                    return Err(said("a family twice"));
                }
                family = name.into();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| said("no type"))?;
                let known = ["counter", "gauge", "histogram"].contains(&kind);
                if name != family || !known || !is_name(name) {
                    return Err(said("a type out of place"));
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return Err(said("counters, and they alone, end in _total"));
                }
                parsed.types.insert(name.into(), kind.into());
            } else {
                let (name, labels, value) = series(line).ok_or_else(|| said("no series"))?;
                let kind = parsed.types.get(&family).ok_or_else(|| said("a series without a type"))?;
                let base = match kind.as_str() {
                    "histogram" => {
                        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))
                    }
                    _ => Some(name.as_str()),
                };
                if base != Some(&family) {
                    return Err(said("a series of another family"));
                }
                if parsed.series.insert((name, labels), value).is_some() {
                    return Err(said("a series twice"));
                }
            }
        }
        parsed.check_histograms()?;
        Ok(parsed)
    }

    /// Buckets grow with their bounds, and the last one is the count.
    fn check_histograms(&self) -> Result<(), String> {
        for ((name, labels), value) in &self.series {
            if self.types.contains_key(name)
                && (!value.is_finite() || (*value < 0.0 && name.ends_with("_total")))
            {
                return Err(format!("{name} is {value}"));
            }
            let Some(base) = name.strip_suffix("_count") else { continue };
            let mut bounds: Vec<(f64, f64)> = Vec::new();
            for ((other, of), count) in &self.series {
                let mut of = of.clone();
                let Some(bound) = of.remove("le") else { continue };
                if *other == format!("{base}_bucket") && of == *labels {
                    let bound =
                        if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
                    bounds.push((bound, *count));
                }
            }
            bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let grows = bounds.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = bounds.last().copied();
            if !grows || last != Some((f64::INFINITY, *value)) {
                return Err(format!("{base}: {bounds:?}, {value} in all"));
            }
        }
        Ok(())
    }

    /// The value of a series.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.series.get(&(name.into(), labels)).copied()
    }
}

fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// `name{label="value",…} number`
fn series(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let close = closing_quote(after)?;
            let fresh = labels.insert(label.to_owned(), unescape(&after[..close], "\"")?).is_none();
            if !is_name(label) || label.contains(':') || !fresh {
                return None;
            }
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let number = rest.strip_prefix(' ')?;
    let plain = number.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    (is_name(name) && plain).then_some((name.to_owned(), labels, number.parse().ok()?))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

fn unescape(text: &str, more: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                '\\' => '\\',
                other if more.contains(other) => other,
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}
