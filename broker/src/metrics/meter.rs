//! What is counted of each upstream. A meter outlives the upstream it belongs to:
//! a reload that replaces one must not set its counters back.

use super::Histogram;
use crate::splice::Traffic;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The meters, by the name of the upstream.
#[derive(Debug, Default)]
pub struct Meters(Mutex<BTreeMap<String, Arc<Meter>>>);

/// The meter of one upstream.
#[derive(Debug, Default)]
pub struct Meter {
    /// Dials that opened a trunk.
    pub dials: Histogram,
    /// From the request for a stream to the open stream.
    pub opens: Histogram,
    /// Bytes both ways.
    pub traffic: Arc<Traffic>,
    dials_failed: AtomicU64,
    open: AtomicU64,
    cut: AtomicU64,
}

/// A stream while it is carried; it counts as open until this is dropped.
#[derive(Debug)]
pub struct Carried(Arc<Meter>);

impl Meters {
    /// The meter of an upstream, new where there was none.
    #[must_use]
    pub fn of(&self, upstream: &str) -> Arc<Meter> {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = meters.get(upstream) {
            return meter.clone();
        }
        meters.entry(upstream.to_owned()).or_default().clone()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Arc<Meter>)> {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().map(|(name, meter)| (name.clone(), meter.clone())).collect()
    }
}

impl Meter {
    /// Counts a stream that was opened within `took`.
    #[must_use]
    pub fn stream_opened(self: &Arc<Self>, took: Duration) -> Carried {
        self.opens.observe(took);
        self.open.fetch_add(1, Relaxed);
        Carried(self.clone())
    }

    /// Counts a stream that ended before its time.
    pub fn stream_cut(&self) {
        self.cut.fetch_add(1, Relaxed);
    }

    /// Counts a dial that opened no trunk.
    pub fn dial_failed(&self) {
        self.dials_failed.fetch_add(1, Relaxed);
    }

    pub(super) fn streams_opened(&self) -> u64 {
        self.opens.count()
    }

    pub(super) fn streams_open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub(super) fn streams_cut(&self) -> u64 {
        self.cut.load(Relaxed)
    }

    pub(super) fn dials_failed(&self) -> u64 {
        self.dials_failed.load(Relaxed)
    }
}

impl Deref for Carried {
    type Target = Meter;

    fn deref(&self) -> &Meter {
        &self.0
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_open_for_as_long_as_it_is_carried_and_opened_for_ever() {
        let meters = Meters::default();
        let carried = meters.of("office").stream_opened(Duration::from_millis(7));
        let same = meters.of("office");
        assert_eq!((same.streams_open(), same.streams_opened()), (1, 1));
        carried.stream_cut();
        drop(carried);
        assert_eq!((same.streams_open(), same.streams_opened(), same.streams_cut()), (0, 1, 1));
        assert_eq!(meters.all().len(), 1);
    }
}
