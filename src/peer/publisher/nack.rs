//! What is missing of one layer, and when to ask for it again (RFC 4585 §6.2.1).
//!
//! However many viewers miss a packet, the publisher is asked for it once per round trip.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a packet may be late before it counts as lost: reordering is no loss.
const PATIENCE: Duration = Duration::from_millis(8);
/// A packet older than this has missed its moment on every viewer's screen.
const AGE_MAX: Duration = Duration::from_secs(1);
/// How often one packet is asked for.
const TRIES_MAX: u32 = 8;
/// The most missing packets remembered: a second of loss at 10 Mb/s.
const MISSING_MAX: usize = 1024;

/// The round trip to the publisher, sampled from retransmissions only: what they answer is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
}

impl RoundTrip {
    /// Takes a sample in (RFC 6298 §2, with its gain of one eighth).
    pub(super) fn sample(&mut self, span: Duration) {
        self.smoothed = Some(self.smoothed.map_or(span, |smoothed| (smoothed * 7 + span) / 8));
    }

    /// The smoothed round trip, once there was a sample.
    pub(super) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long a retransmission is waited for before it is asked for again: a round trip and the
    /// time a paced sender may take to get to it.
    pub(super) fn patience(&self) -> Duration {
        let round_trip = self.smoothed.unwrap_or(Duration::from_millis(80));
        (round_trip + (round_trip / 4).max(Duration::from_millis(10)))
            .clamp(Duration::from_millis(20), Duration::from_millis(500))
    }
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    noticed: Instant,
    asked: Option<Instant>,
    tries: u32,
}

impl Missing {
    fn due(&self, patience: Duration) -> Instant {
        self.asked.map_or(self.noticed + PATIENCE, |asked| asked + patience)
    }

    fn is_given_up(&self, now: Instant, patience: Duration) -> bool {
        let waited = now.saturating_duration_since(self.noticed);
        let tried = self.tries >= TRIES_MAX && self.due(patience) <= now;
        waited >= AGE_MAX || tried
    }
}

/// The missing packets of one layer, oldest first.
#[derive(Debug)]
pub(super) struct MissingPackets {
    list: VecDeque<Missing>,
    due: Option<Instant>,
    given_up: GivenUp,
    late_packets: u64,
}

/// Packets that will not come any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// How many.
    pub(super) count: u64,
    /// The highest sequence number among them.
    pub(super) newest: u64,
}

/// What a packet that came was until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Struck {
    /// Not missing, or given up.
    Unknown,
    /// Missing; which request it answers, if any, cannot be told.
    Missing,
    /// Missing, and asked for just once, so long ago.
    Answer(Duration),
}

impl MissingPackets {
    /// Nothing is missing.
    pub(super) fn new() -> Self {
        let list = VecDeque::with_capacity(MISSING_MAX);
        Self { list, due: None, given_up: GivenUp::default(), late_packets: 0 }
    }

    /// Notes the gap between two packets; both ends are exclusive.
    pub(super) fn note_gap(&mut self, before: u64, after: u64, now: Instant) {
        // The oldest of more than can be remembered are given up at once.
        let first = (before + 1).max(after.saturating_sub(MISSING_MAX as u64));
        if first > before + 1 {
            self.give_up(first - before - 1, first - 1);
        }
        for sequence in first..after {
            if self.list.len() == MISSING_MAX
                && let Some(oldest) = self.list.pop_front()
            {
                self.give_up(1, oldest.sequence);
            }
            self.list.push_back(Missing { sequence, noticed: now, asked: None, tries: 0 });
        }
        if first < after {
            let due = now + PATIENCE;
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    fn give_up(&mut self, count: u64, newest: u64) {
        self.given_up.count += count;
        self.given_up.newest = self.given_up.newest.max(newest);
    }

    /// Strikes a packet that came.
    pub(super) fn strike(&mut self, sequence: u64, now: Instant) -> Struck {
        let found = self.list.binary_search_by_key(&sequence, |missing| missing.sequence);
        let Some(missing) = found.ok().and_then(|index| self.list.remove(index)) else {
            return Struck::Unknown;
        };
        match missing.asked {
            Some(asked) if missing.tries == 1 => {
                Struck::Answer(now.saturating_duration_since(asked))
            }
            _ => Struck::Missing,
        }
    }

    /// Whether anything is missing from `first` up to, not including, `end`.
    pub(super) fn any_within(&self, first: u64, end: u64) -> bool {
        let index = self.list.partition_point(|missing| missing.sequence < first);
        self.list.get(index).is_some_and(|missing| missing.sequence < end)
    }

    /// How many packets were missed for longer than reordering takes, since the start.
    pub(super) const fn late_packets(&self) -> u64 {
        self.late_packets
    }

    /// When something is to be asked for or given up.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Hands every packet that is due to `ask`, and gives up on those waited for too long.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        patience: Duration,
        mut ask: impl FnMut(u16),
    ) -> GivenUp {
        if self.due.is_some_and(|due| due <= now) {
            let given_up = &mut self.given_up;
            self.list.retain(|missing| {
                let gone = missing.is_given_up(now, patience);
                if gone {
                    given_up.count += 1;
                    given_up.newest = given_up.newest.max(missing.sequence);
                }
                !gone
            });
            for missing in &mut self.list {
                if missing.tries < TRIES_MAX && missing.due(patience) <= now {
                    self.late_packets += u64::from(missing.tries == 0);
                    missing.asked = Some(now);
                    missing.tries += 1;
                    ask(missing.sequence as u16);
                }
            }
            self.due = self
                .list
                .iter()
                .map(|missing| missing.due(patience).min(missing.noticed + AGE_MAX))
                .min();
        }
        std::mem::take(&mut self.given_up)
    }

    /// Forgets everything: the numbering has started anew. Tells how many were still missing.
    pub(super) fn clear(&mut self) -> u64 {
        let count = self.list.len() as u64 + self.given_up.count;
        self.list.clear();
        self.due = None;
        self.given_up = GivenUp::default();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_AFTER: Duration = Duration::from_millis(50);

    fn asked(missing: &mut MissingPackets, now: Instant) -> Vec<u16> {
        let mut asked = Vec::new();
        missing.poll(now, PATIENCE_AFTER, |sequence| asked.push(sequence));
        asked
    }

    #[test]
    fn a_reordered_packet_is_never_asked_for() {
        let start = Instant::now();
        let mut missing = MissingPackets::new();
        missing.note_gap(10, 13, start);
        assert_eq!(missing.deadline(), Some(start + PATIENCE));
        assert!(asked(&mut missing, start + Duration::from_millis(7)).is_empty());
        assert_eq!(missing.strike(11, start), Struck::Missing);
        assert_eq!(missing.strike(11, start), Struck::Unknown, "struck already");
        assert_eq!(asked(&mut missing, start + PATIENCE), [12]);
    }

    #[test]
    fn a_lost_packet_is_asked_for_once_per_round_trip_and_given_up_in_the_end() {
        let start = Instant::now();
        let mut missing = MissingPackets::new();
        missing.note_gap(10, 12, start);
        let mut times = Vec::new();
        let mut given_up = GivenUp::default();
        for millis in 0..1_200 {
            let now = start + Duration::from_millis(millis);
            let gone = missing.poll(now, PATIENCE_AFTER, |_| times.push(millis));
            given_up.count += gone.count;
        }
        assert_eq!(times, [8, 58, 108, 158, 208, 258, 308, 358]);
        assert_eq!((given_up.count, missing.deadline()), (1, None));
    }

    #[test]
    fn an_answer_to_the_only_request_is_a_round_trip() {
        let start = Instant::now();
        let mut missing = MissingPackets::new();
        missing.note_gap(10, 13, start);
        let request = start + PATIENCE;
        assert_eq!(asked(&mut missing, request), [11, 12]);
        let answer = request + Duration::from_millis(40);
        assert_eq!(missing.strike(11, answer), Struck::Answer(Duration::from_millis(40)));
        asked(&mut missing, request + PATIENCE_AFTER);
        assert_eq!(missing.strike(12, answer), Struck::Missing, "asked for twice");
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_given_up() {
        let start = Instant::now();
        let mut missing = MissingPackets::new();
        missing.note_gap(100, 2_901, start);
        missing.note_gap(2_901, 2_912, start);
        assert_eq!(missing.list.len(), MISSING_MAX);
        let given_up = missing.poll(start, PATIENCE_AFTER, |_| {});
        assert_eq!(given_up.count, 2_800 + 10 - MISSING_MAX as u64);
        assert!(missing.any_within(2_890, 2_901));
        assert!(!missing.any_within(101, 1_000));
    }
}
