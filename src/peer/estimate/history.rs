//! What was sent to a viewer under transport-wide sequence numbers, and when: flat, of fixed size.
//!
//! An entry has eight bytes, and numbers follow each other: what is noted per packet touches a new
//! cache line once in eight packets, and allocates nothing.

use std::time::{Duration, Instant};

/// How many packets are remembered, a power of two: 0.8 s of 25 Mb/s, 3 s of 6 Mb/s. Feedback comes
/// within a round trip and at most 250 ms.
const PACKETS: usize = 2048;

/// What is known of a packet's fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    /// Nothing was said of it.
    #[default]
    Open,
    /// It was said to be missing; it may still come.
    Missing,
    /// It came.
    Came,
}

/// One packet.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// When it departed, in microseconds since the epoch: the lower 32 bits.
    micros: u32,
    size: u16,
    fate: Fate,
}

/// A packet of which something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departed {
    /// Its extended number.
    pub(super) number: u64,
    /// When it departed.
    pub(super) at: Instant,
    /// Bytes of the datagram.
    pub(super) size: usize,
    /// It had been said to be missing.
    pub(super) was_missing: bool,
}

/// The packets sent last.
#[derive(Debug)]
pub struct SendHistory {
    epoch: Instant,
    entries: Box<[Entry]>,
    /// The number of the next packet.
    next: u64,
    /// Bytes of all packets.
    bytes: u64,
}

impl SendHistory {
    /// A history without packets.
    pub fn new(now: Instant) -> Self {
        let entries = vec![Entry::default(); PACKETS].into_boxed_slice();
        Self { epoch: now, entries, next: 0, bytes: 0 }
    }

    /// The number that the next packet carries.
    pub const fn next_number(&self) -> u16 {
        self.next as u16
    }

    /// This moment as abs-send-time has it: seconds since some moment, 18 of its 24 bits after the
    /// point. The same clock for all packets of a viewer.
    pub fn send_time(&self, now: Instant) -> u32 {
        // A bit of it is 3.8 microseconds.
        ((self.micros(now) << 18) / 1_000_000) as u32 & 0x00ff_ffff
    }

    /// The extended number of the next packet, and the bytes of all before it.
    pub(super) const fn position(&self) -> (u64, u64) {
        (self.next, self.bytes)
    }

    /// The packet of the next number departs, as a datagram of so many bytes.
    pub fn departs(&mut self, size: usize, now: Instant) {
        let micros = self.micros(now) as u32;
        self.bytes += size as u64;
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        self.entries[self.next as usize % PACKETS] = Entry { micros, size, fate: Fate::Open };
        self.next += 1;
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// The extended number of what a viewer speaks of, if it is remembered.
    fn find(&self, number: u16) -> Option<u64> {
        let newest = self.next.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(number));
        newest.checked_sub(back).filter(|_| back < PACKETS as u64)
    }

    fn departed(&self, number: u64, now: Instant) -> Departed {
        let Entry { micros, size, fate } = self.entries[number as usize % PACKETS];
        let now = self.micros(now);
        let ago = u64::from((now as u32).wrapping_sub(micros));
        Departed {
            number,
            at: self.epoch + Duration::from_micros(now.saturating_sub(ago)),
            size: usize::from(size),
            was_missing: fate == Fate::Missing,
        }
    }

    /// The packet of this number came. `None` if that is known, or it is not remembered.
    pub(super) fn came(&mut self, number: u16, now: Instant) -> Option<Departed> {
        let number = self.find(number)?;
        let departed = self.departed(number, now);
        let fate = &mut self.entries[number as usize % PACKETS].fate;
        (std::mem::replace(fate, Fate::Came) != Fate::Came).then_some(departed)
    }

    /// The packet of this number is missing. `None` if something was said of it before, or it is
    /// not remembered.
    pub(super) fn is_missing(&mut self, number: u16, now: Instant) -> Option<Departed> {
        let number = self.find(number)?;
        let departed = self.departed(number, now);
        let fate = &mut self.entries[number as usize % PACKETS].fate;
        if *fate != Fate::Open {
            return None;
        }
        *fate = Fate::Missing;
        Some(departed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_has_eight_bytes() {
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn a_packet_is_said_to_have_come_once_and_to_be_missing_once() {
        let start = Instant::now();
        let mut history = SendHistory::new(start);
        history.departs(1_200, start + Duration::from_millis(3));
        let later = start + Duration::from_millis(90);
        let missing = history.is_missing(0, later).expect("sent");
        let at = start + Duration::from_millis(3);
        assert_eq!(missing, Departed { number: 0, at, size: 1_200, was_missing: false });
        assert_eq!(history.is_missing(0, later), None);
        assert!(history.came(0, later).expect("it comes late").was_missing);
        assert_eq!(history.came(0, later), None);
        assert_eq!(history.is_missing(0, later), None);
        assert_eq!(history.came(1, later), None, "not sent");
    }

    proptest! {
        /// Over wraps of the numbers and of the 32 bits of time (72 minutes), whatever the pace.
        #[test]
        fn the_last_packets_are_found_with_their_times(
            steps in prop::collection::vec((0_u64..600_000_000, 1_u64..4_000), 1..60),
            ask: u16,
        ) {
            let start = Instant::now();
            let mut history = SendHistory::new(start);
            let mut sent = Vec::new();
            let mut at = Duration::ZERO;
            for (micros, burst) in steps {
                at += Duration::from_micros(micros);
                for _ in 0..burst {
                    history.departs(sent.len() % 1_400, start + at);
                    sent.push(at);
                }
            }
            let now = start + at;
            let known = sent.len().saturating_sub(PACKETS)..sent.len();
            let newest = sent.len() as u64 - 1;
            let asked = newest.checked_sub(u64::from((newest as u16).wrapping_sub(ask)));
            let asked = asked.map(|number| number as usize).filter(|number| known.contains(number));
            let found = history.came(ask, now);
            prop_assert_eq!(found.map(|it| it.number as usize), asked);
            if let Some((found, asked)) = found.zip(asked) {
                prop_assert_eq!(found.size, asked % 1_400);
                if at < sent[asked] + Duration::from_secs(4_000) {
                    prop_assert_eq!(found.at, start + sent[asked]);
                }
            }
        }
    }
}
