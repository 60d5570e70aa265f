//! What a viewer saw: latency, loss, gaps, duplicates.

use crate::layers::{Glimpse, LayerReport, LayerWatch};
use crate::source::{Stamp, now_micros};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// A hole older than this many packets is lost for good.
const REORDER_MAX: i64 = 2_048;
/// Latencies kept per RTP stream; beyond them every other one is thrown away.
const LATENCIES_MAX: usize = 65_536;

/// What one RTP stream showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StreamSummary {
    /// The SSRC.
    pub ssrc: u32,
    /// The payload type last seen.
    pub payload_type: u8,
    /// Distinct packets.
    pub received: u64,
    /// Packets between the first and the last that never came.
    pub lost: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Marker bits: frames of video.
    pub frames: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// The longest time without a packet, in milliseconds.
    pub longest_gap_ms: u64,
    /// End to end, microseconds, from the stamps; absent where there were none.
    pub latency_p50_us: Option<u64>,
    /// The 99th percentile.
    pub latency_p99_us: Option<u64>,
    /// The largest.
    pub latency_max_us: Option<u64>,
}

#[derive(Debug, Default)]
struct StreamProbe {
    summary: StreamSummary,
    first: i64,
    highest: i64,
    missing: BTreeSet<i64>,
    given_up: u64,
    last_arrival: Option<Instant>,
    latencies: Vec<u64>,
    latency_stride: u64,
    layers: LayerWatch,
}

/// Watches RTP streams; fed with every packet that arrives.
#[derive(Debug, Default)]
pub struct Probe {
    streams: HashMap<u32, StreamProbe>,
}

impl Probe {
    /// Takes a packet. `recovered` says that it came by retransmission.
    ///
    /// Returns the sequence numbers newly found missing.
    pub fn take(&mut self, packet: &rtp::Packet, at: Instant, recovered: bool) -> Vec<u16> {
        self.streams.entry(packet.header.ssrc).or_default().take(packet, at, recovered)
    }

    /// The holes of a stream that may yet be filled, oldest first.
    pub fn missing(&self, ssrc: u32) -> Vec<u16> {
        let stream = self.streams.get(&ssrc);
        stream.into_iter().flat_map(|it| it.missing.iter().map(|number| *number as u16)).collect()
    }

    /// The highest extended sequence number of a stream (RFC 3550 §6.4.1).
    pub fn highest(&self, ssrc: u32) -> Option<u32> {
        self.streams.get(&ssrc).map(|stream| stream.highest as u32)
    }

    /// What was seen of the publisher's layers in the stream that came last with one of these
    /// payload types.
    pub fn layers(&self, payload_types: &[u8]) -> Option<&LayerReport> {
        let wanted = |it: &&StreamProbe| payload_types.contains(&it.summary.payload_type);
        let newest = self.streams.values().filter(wanted).max_by_key(|it| it.last_arrival);
        newest.map(|stream| stream.layers.report())
    }

    /// What was seen so far, by SSRC.
    pub fn summary(&self) -> BTreeMap<u32, StreamSummary> {
        self.streams.iter().map(|(ssrc, stream)| (*ssrc, stream.summarise())).collect()
    }
}

impl StreamProbe {
    fn take(&mut self, packet: &rtp::Packet, at: Instant, recovered: bool) -> Vec<u16> {
        let number = i64::from(packet.header.sequence_number);
        let (extended, fresh) = if self.summary.received == 0 {
            self.summary.ssrc = packet.header.ssrc;
            (self.first, self.highest) = (number, number);
            (number, Vec::new())
        } else {
            let step =
                packet.header.sequence_number.wrapping_sub(self.highest as u16).cast_signed();
            let extended = self.highest + i64::from(step);
            if step > 0 {
                (extended, self.advance(extended))
            } else if self.missing.remove(&extended) {
                self.summary.reordered += u64::from(!recovered);
                (extended, Vec::new())
            } else {
                self.summary.duplicates += 1;
                return Vec::new();
            }
        };
        let gap = self.last_arrival.map(|last| at.saturating_duration_since(last));
        let gap_ms = gap.unwrap_or(Duration::ZERO).as_millis() as u64;
        self.summary.longest_gap_ms = self.summary.longest_gap_ms.max(gap_ms);
        self.last_arrival = Some(at);
        self.summary.payload_type = packet.header.payload_type;
        self.summary.received += 1;
        self.summary.recovered += u64::from(recovered);
        self.summary.frames += u64::from(packet.header.marker);
        self.summary.bytes += packet.payload.len() as u64;
        if let Some(stamp) = Stamp::read(&packet.payload) {
            let at_micros = now_micros();
            self.take_latency(at_micros.saturating_sub(stamp.sent_micros));
            let (sequence, timestamp) = (extended.cast_unsigned(), packet.header.timestamp);
            self.layers.take(Glimpse { sequence, timestamp, stamp, at_micros });
        }
        fresh
    }

    fn advance(&mut self, extended: i64) -> Vec<u16> {
        let hole = self.highest + 1..extended;
        self.missing.extend(hole.clone());
        self.highest = extended;
        let kept = self.missing.split_off(&(extended - REORDER_MAX));
        self.given_up += self.missing.len() as u64;
        self.missing = kept;
        hole.map(|number| number as u16).collect()
    }

    /// Keeps every packet's latency at first, every second when there are many, and so on.
    fn take_latency(&mut self, micros: u64) {
        let stride = self.latency_stride.max(1);
        if self.summary.received.is_multiple_of(stride) {
            self.latencies.push(micros);
        }
        if self.latencies.len() >= LATENCIES_MAX {
            let mut keep = false;
            self.latencies.retain(|_| {
                keep = !keep;
                keep
            });
            self.latency_stride = stride * 2;
        }
    }

    fn summarise(&self) -> StreamSummary {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            sorted.get((sorted.len() * percent / 100).min(sorted.len().wrapping_sub(1))).copied()
        };
        StreamSummary {
            lost: self.given_up + self.missing.len() as u64,
            latency_p50_us: percentile(50),
            latency_p99_us: percentile(99),
            latency_max_us: sorted.last().copied(),
            ..self.summary.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence_number: u16) -> rtp::Packet {
        let header = rtp::Header { version: 2, ssrc: 1, sequence_number, ..Default::default() };
        rtp::Packet { header, ..Default::default() }
    }

    fn seen(numbers: &[u16]) -> StreamSummary {
        let mut probe = Probe::default();
        let now = Instant::now();
        for number in numbers {
            probe.take(&packet(*number), now, false);
        }
        probe.summary().remove(&1).expect("a stream")
    }

    #[test]
    fn an_unbroken_stream_over_the_wrap_has_no_loss() {
        let summary = seen(&[65_534, 65_535, 0, 1]);
        assert_eq!((summary.received, summary.lost, summary.duplicates), (4, 0, 0));
    }

    #[test]
    fn loss_reordering_and_duplicates_are_told_apart() {
        let summary = seen(&[10, 12, 11, 12, 15]);
        assert_eq!(summary.received, 4);
        assert_eq!((summary.lost, summary.reordered, summary.duplicates), (2, 1, 1));
    }

    #[test]
    fn a_hole_is_reported_once() {
        let mut probe = Probe::default();
        let now = Instant::now();
        assert!(probe.take(&packet(65_535), now, false).is_empty());
        assert_eq!(probe.take(&packet(2), now, false), [0, 1]);
        assert!(probe.take(&packet(3), now, false).is_empty());
        assert_eq!(probe.missing(1), [0, 1]);
    }
}
