//! Results as a table for people and as JSON for programs.

use crate::probe::StreamSummary;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What a run of viewers brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ViewReport {
    /// Viewers that connected.
    pub connected: usize,
    /// Viewers that did not, with the reason.
    pub failed: Vec<String>,
    /// Milliseconds from POST to the end of DTLS, one per viewer, ascending.
    pub connect_ms: Vec<u64>,
    /// Every RTP stream of every viewer.
    pub streams: Vec<StreamSummary>,
}

impl ViewReport {
    /// Adds a viewer that connected.
    pub fn add(&mut self, connect_ms: u64, streams: BTreeMap<u32, StreamSummary>) {
        self.connected += 1;
        self.connect_ms.push(connect_ms);
        self.connect_ms.sort_unstable();
        self.streams.extend(streams.into_values());
    }

    /// Packets lost by all viewers together.
    pub fn lost(&self) -> u64 {
        self.streams.iter().map(|stream| stream.lost).sum()
    }

    /// Whether every viewer connected and received something.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && !self.streams.is_empty()
    }
}

impl fmt::Display for ViewReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:>10} {:>3} {:>9} {:>6} {:>5} {:>9} {:>7} {:>8} {:>8} {:>8}",
            "ssrc",
            "pt",
            "packets",
            "lost",
            "dup",
            "recovered",
            "frames",
            "p50 ms",
            "p99 ms",
            "gap ms"
        )?;
        let milliseconds = |micros: Option<u64>| {
            micros.map_or("-".to_owned(), |it| format!("{:.1}", it as f64 / 1_000.0))
        };
        for stream in &self.streams {
            writeln!(
                out,
                "{:>10} {:>3} {:>9} {:>6} {:>5} {:>9} {:>7} {:>8} {:>8} {:>8}",
                stream.ssrc,
                stream.payload_type,
                stream.received,
                stream.lost,
                stream.duplicates,
                stream.recovered,
                stream.frames,
                milliseconds(stream.latency_p50_us),
                milliseconds(stream.latency_p99_us),
                stream.longest_gap_ms
            )?;
        }
        for reason in &self.failed {
            writeln!(out, "failed: {reason}")?;
        }
        let slowest = self.connect_ms.last().copied().unwrap_or(0);
        let median = self.connect_ms.get(self.connect_ms.len() / 2).copied().unwrap_or(0);
        write!(
            out,
            "{} connected, {} failed, {} lost; connect median {median} ms, slowest {slowest} ms",
            self.connected,
            self.failed.len(),
            self.lost()
        )
    }
}

/// What a run of publishing brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PublishReport {
    /// Packets sent.
    pub packets: u64,
    /// Keyframes sent.
    pub keyframes: u64,
    /// Keyframes the server asked for.
    pub keyframe_requests: usize,
    /// Packets the server asked for again.
    pub nacked: usize,
    /// Packets sent again.
    pub resent: u64,
}

impl fmt::Display for PublishReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} packets, {} keyframes ({} asked for), {} packets asked for again, {} resent",
            self.packets, self.keyframes, self.keyframe_requests, self.nacked, self.resent
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_which_a_viewer_failed_is_not_good() {
        let mut report = ViewReport::default();
        report.add(12, BTreeMap::from([(7, StreamSummary { ssrc: 7, ..Default::default() })]));
        assert!(report.is_good());
        assert!(report.to_string().contains("1 connected, 0 failed, 0 lost"));
        report.failed.push("503".to_owned());
        assert!(!report.is_good());
    }
}
