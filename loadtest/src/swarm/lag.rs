//! How far newcomers are behind one who was there before.

use super::stats::Lag;
use super::track::Sample;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A newcomer has so long to catch up with what is live.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Between looks for the same packet at the earliest viewer, and how many there are.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOKS: u32 = 40;
/// Packets of the earliest viewer that are remembered: ten seconds of 2.5 Mb/s.
const REMEMBERED: usize = 4_096;
/// RTP ticks of video in a millisecond.
const TICKS: f64 = 90.0;

/// The earliest viewer's last packets, and who is to be compared with it.
#[derive(Debug)]
pub(super) struct LagProbe {
    earliest: Option<usize>,
    packets: Box<[Option<Sample>]>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    viewer: usize,
    at: Instant,
    looks: u32,
    lag: Option<Lag>,
}

impl LagProbe {
    pub(super) fn new() -> Self {
        Self {
            earliest: None,
            packets: vec![None; REMEMBERED].into_boxed_slice(),
            waiting: VecDeque::new(),
        }
    }

    /// A viewer has connected; the first one is whom the others are compared with.
    pub(super) fn connected(&mut self, viewer: usize, now: Instant) {
        if self.earliest.is_none() {
            self.earliest = Some(viewer);
            return;
        }
        self.waiting.push_back(Waiting { viewer, at: now + SETTLED_AFTER, looks: 0, lag: None });
    }

    /// A viewer is gone.
    pub(super) fn gone(&mut self, viewer: usize) {
        self.waiting.retain(|waiting| waiting.viewer != viewer);
        if self.earliest == Some(viewer) {
            self.earliest = None;
            self.packets.fill(None);
        }
    }

    /// Whether a viewer's packets are to be noted.
    pub(super) fn is_earliest(&self, viewer: usize) -> bool {
        self.earliest == Some(viewer)
    }

    /// Remembers a packet of the earliest viewer.
    pub(super) fn note(&mut self, sample: Sample) {
        let place = sample.stamp.counter as usize % REMEMBERED;
        if let Some(packet) = self.packets.get_mut(place) {
            *packet = Some(sample);
        }
    }

    /// Who has not been compared yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Compares those whose time has come, and tells the result. `newest` gives a viewer's last
    /// picture; `wall_micros` is the time of `now` in the clock of the stamps.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        wall_micros: i64,
        newest: impl Fn(usize) -> Option<Sample>,
        mut tell: impl FnMut(usize, Lag),
    ) {
        for _ in 0..self.waiting.len() {
            let Some(mut waiting) = self.waiting.pop_front() else { return };
            if waiting.at > now {
                self.waiting.push_back(waiting);
                continue;
            }
            let ours = newest(waiting.viewer);
            let theirs = self.earliest.and_then(&newest);
            let age = |sample: Sample| wall_micros - sample.stamp.sent_micros.cast_signed();
            if waiting.lag.is_none()
                && let Some((ours, theirs)) = ours.zip(theirs)
            {
                let (age_us, earliest_age_us) = (age(ours), age(theirs));
                waiting.lag = Some(Lag { age_us, earliest_age_us, rtp_offset_ms: None });
            }
            let offset = ours.and_then(|ours| self.offset(ours));
            waiting.looks += 1;
            waiting.at = now + LOOK_AGAIN;
            match waiting.lag {
                Some(lag) if offset.is_some() || waiting.looks >= LOOKS => {
                    tell(waiting.viewer, Lag { rtp_offset_ms: offset, ..lag });
                }
                None if waiting.looks >= LOOKS => {}
                _ => self.waiting.push_back(waiting),
            }
        }
    }

    /// The difference of the RTP times that two viewers got the same packet with.
    fn offset(&self, ours: Sample) -> Option<f64> {
        let theirs = (*self.packets.get(ours.stamp.counter as usize % REMEMBERED)?)?;
        let place = |sample: Sample| (sample.stamp.layer, sample.stamp.counter);
        let same = place(theirs) == place(ours);
        let ticks = ours.timestamp.wrapping_sub(theirs.timestamp).cast_signed();
        same.then(|| f64::from(ticks) / TICKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Stamp;

    fn sample(counter: u64, sent_micros: u64, timestamp: u32) -> Sample {
        Sample { stamp: Stamp { counter, sent_micros, layer: 0 }, timestamp }
    }

    /// Looks once, at a time when a newcomer is settled.
    fn look(probe: &mut LagProbe, now: Instant, ours: Sample, theirs: Sample) -> Option<Lag> {
        let mut told = None;
        let newest = |viewer| Some(if viewer == 0 { theirs } else { ours });
        probe.poll(now, 1_000_000, newest, |viewer, lag| told = Some((viewer, lag)));
        told.map(|(viewer, lag)| {
            assert_eq!(viewer, 1);
            lag
        })
    }

    #[test]
    fn a_newcomer_is_compared_by_age_and_by_the_same_packet() {
        let mut probe = LagProbe::new();
        let now = Instant::now();
        probe.connected(0, now);
        probe.connected(1, now);
        let (ours, theirs) = (sample(7, 950_000, 10), sample(9, 990_000, 3_000));
        assert_eq!(look(&mut probe, now, ours, theirs), None, "it has three seconds");
        let later = now + SETTLED_AFTER;
        assert_eq!(look(&mut probe, later, ours, theirs), None, "nobody noted packet 7 yet");
        probe.note(sample(7, 950_000, 10_u32.wrapping_sub(90)));
        let lag = look(&mut probe, later + LOOK_AGAIN, ours, theirs).expect("it is due");
        assert_eq!((lag.behind_us(), lag.rtp_offset_ms), (40_000, Some(1.0)));
        assert_eq!(probe.waiting(), 0);
    }

    #[test]
    fn without_the_same_packet_the_age_is_told_in_the_end() {
        let mut probe = LagProbe::new();
        let now = Instant::now();
        probe.connected(0, now);
        probe.connected(1, now);
        let told = (0..LOOKS).find_map(|look_number| {
            let at = now + SETTLED_AFTER + LOOK_AGAIN * look_number;
            look(&mut probe, at, sample(1, 900_000, 0), sample(2, 900_000, 0))
        });
        assert_eq!(told.map(|lag| (lag.behind_us(), lag.rtp_offset_ms)), Some((0, None)));
    }

    #[test]
    fn when_the_earliest_is_gone_the_next_one_takes_its_place() {
        let mut probe = LagProbe::new();
        let now = Instant::now();
        probe.connected(0, now);
        probe.connected(1, now);
        probe.gone(0);
        assert!(!probe.is_earliest(0));
        probe.connected(2, now);
        assert!(probe.is_earliest(2));
    }
}
