//! A ceiling for publishers that take no feedback per packet: how much the path bears, as seen
//! from this end (draft-alvestrand-rmcat-remb-03).

use crate::media::bitrate::Bitrate;
use crate::media::time::Unwrapper;
use interceptor::{BandwidthEstimator, Gcc, PacketReport};
use std::time::{Duration, Instant};

/// What is granted from the start, however little comes: Chromium never sends its top layer to
/// a receiver that lets it grow from nothing.
const START: Bitrate = Bitrate::kbps(3_000);
/// What is granted on the worst path; below it no picture is worth watching.
const FLOOR: Bitrate = Bitrate::kbps(150);
/// What is granted on the best.
const CEILING: Bitrate = Bitrate::kbps(100_000);
/// How far beyond what comes the grant goes: a path is known only as far as it was used.
const HEADROOM: f64 = 1.5;
/// How often arrivals are handed to the estimator.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// The most arrivals in one batch: 60 Mb/s; more are left out of the estimate.
const BATCH_MAX: usize = 512;
/// How often the sender is told; at once when the ceiling falls by [`FALL`].
const INTERVAL: Duration = Duration::from_millis(500);
const FALL: f64 = 0.97;

/// The estimate of one publisher's path.
pub(super) struct Remb {
    epoch: Instant,
    gcc: Gcc,
    /// Extends the 24 bits of abs-send-time (6.18 fixed point seconds).
    send_times: Unwrapper,
    first_sent: Option<u64>,
    batch: Vec<PacketReport>,
    batch_due: Instant,
    told: Option<(Instant, Bitrate)>,
    late_packets: u64,
}

impl Remb {
    pub(super) fn new(now: Instant) -> Self {
        let [initial, min, max] = [START, FLOOR, CEILING].map(|rate| rate.as_bps() as f64);
        Self {
            epoch: now,
            gcc: Gcc::new(initial, min, max),
            send_times: Unwrapper::default(),
            first_sent: None,
            batch: Vec::with_capacity(BATCH_MAX),
            batch_due: now + BATCH_INTERVAL,
            told: None,
            late_packets: 0,
        }
    }

    /// Records a packet that carries abs-send-time, of so many bytes in all.
    pub(super) fn record(&mut self, abs_send_time: &[u8], size: usize, now: Instant) {
        let &[high, middle, low] = abs_send_time else { return };
        if self.batch.len() == BATCH_MAX {
            return;
        }
        let sent = self.send_times.extend(u32::from_be_bytes([0, high, middle, low]), 24);
        let first = *self.first_sent.get_or_insert(sent);
        let nanos = (u128::from(sent.saturating_sub(first)) * 1_000_000_000) >> 18;
        let elapsed = Duration::from_nanos(nanos as u64);
        let Some(departure) = self.epoch.checked_add(elapsed) else { return };
        let arrival = Some(now.saturating_duration_since(self.epoch));
        self.batch.push(Self::packet(departure, arrival, size));
    }

    fn packet(departure: Instant, arrival: Option<Duration>, size: usize) -> PacketReport {
        PacketReport {
            ssrc: 0,
            id: 0,
            rtp_sequence_number: 0,
            is_twcc: false,
            twcc_sequence_number: 0,
            size,
            arrived: arrival.is_some(),
            departure,
            arrival,
            ecn: rtc_rtcp::transport_feedbacks::cc_feedback_report::Ecn::default(),
        }
    }

    /// When [`Remb::poll`] has something to do.
    pub(super) const fn deadline(&self) -> Instant {
        self.batch_due
    }

    /// The ceiling to tell the sender now, if it is time to; `received` is what comes, and
    /// `late_packets` counts what did not come in time, since the start.
    pub(super) fn poll(
        &mut self,
        received: Bitrate,
        late_packets: u64,
        now: Instant,
    ) -> Option<Bitrate> {
        if self.batch_due > now {
            return None;
        }
        self.batch_due = now + BATCH_INTERVAL;
        let estimate = if self.first_sent.is_none() {
            CEILING // nothing to estimate from: the received rate alone decides
        } else {
            let late = late_packets.saturating_sub(self.late_packets) as usize;
            for _ in 0..late.min(BATCH_MAX - self.batch.len()) {
                self.batch.push(Self::packet(now, None, 0));
            }
            self.late_packets = late_packets;
            self.gcc.on_reports(now, &self.batch);
            self.batch.clear();
            Bitrate::bps(self.gcc.target_bitrate() as u64)
        };
        let grant = estimate.min(received.scaled(HEADROOM).max(START)).max(FLOOR);
        let is_due = self.told.is_none_or(|(at, told)| {
            now.saturating_duration_since(at) >= INTERVAL || grant < told.scaled(FALL)
        });
        is_due.then(|| {
            self.told = Some((now, grant));
            grant
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs ten seconds of 20 ms bursts of two packets over a link that delays each burst by
    /// `queue` more than the one before and loses one packet in `lost_one_in`.
    fn run(bytes: usize, queue: Duration, lost_one_in: u64, with_times: bool) -> Vec<Bitrate> {
        let start = Instant::now();
        let mut remb = Remb::new(start);
        let mut told = Vec::new();
        let received = Bitrate::of(bytes as u64 * 2, Duration::from_millis(20));
        for step in 0..500_u32 {
            let sent = Duration::from_millis(20) * step;
            let now = start + sent + queue * step;
            for _ in 0..2 {
                let stamp = ((sent.as_micros() as u64) << 18) / 1_000_000;
                if with_times {
                    remb.record(&(stamp as u32).to_be_bytes()[1..], bytes, now);
                }
            }
            let late_packets = u64::from(step) * 2 / lost_one_in;
            told.extend(remb.poll(received, late_packets, now));
        }
        told
    }

    #[test]
    fn the_grant_starts_high_and_follows_what_comes() {
        for with_times in [false, true] {
            let modest = run(200, Duration::ZERO, u64::MAX, with_times);
            assert!(modest.iter().all(|&rate| rate == START), "{modest:?}");
        }
        // 9.6 Mb/s without send times: one and a half times as much is granted.
        assert_eq!(run(12_000, Duration::ZERO, u64::MAX, false)[0], Bitrate::kbps(14_400));
    }

    #[test]
    fn an_overloaded_link_brings_the_grant_down() {
        // Twice what the link carries, in a queue that never drains; then in one without a queue.
        let queueing = run(1_200, Duration::from_millis(20), u64::MAX, true);
        let losing = run(1_200, Duration::ZERO, 2, true);
        for told in [queueing, losing] {
            let last = told.last().expect("the sender is told twice a second");
            assert!(*last < Bitrate::kbps(1_500), "{told:?}");
            assert!(told.iter().all(|&rate| rate >= FLOOR));
        }
    }
}
