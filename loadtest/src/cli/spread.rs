//! How far measured times spread.

use loadtest::swarm::Histogram;
use serde::Serialize;
use std::fmt;

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) count: u64,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) p999: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Spread {
    /// Of microseconds.
    pub(super) fn of(histogram: &Histogram) -> Self {
        let milliseconds = |micros: u64| micros as f64 / 1_000.0;
        let at = |percent| histogram.percentile(percent).map(milliseconds);
        Self {
            count: histogram.total(),
            p50: at(50.0),
            p95: at(95.0),
            p99: at(99.0),
            p999: at(99.9),
            max: histogram.largest().map(milliseconds),
        }
    }

    /// Of microseconds.
    pub(super) fn among(values: impl Iterator<Item = u64>) -> Self {
        let mut histogram = Histogram::default();
        values.for_each(|value| histogram.add(value));
        Self::of(&histogram)
    }
}

/// Median, 99th percentile and most.
impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.0}"));
        write!(out, "{} / {} / {} ms", cell(self.p50), cell(self.p99), cell(self.max))
    }
}
