//! The rate of the last second.

use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

const SLOT: Duration = Duration::from_millis(100);
const SLOTS: usize = 10;

/// Bytes in slots of a tenth of a second each.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    start: Instant,
    bytes: [u64; SLOTS],
    /// How many slots lie between the start and the newest one written.
    newest: u64,
}

impl Meter {
    /// A meter that has seen nothing.
    pub(super) const fn new(now: Instant) -> Self {
        Self { start: now, bytes: [0; SLOTS], newest: 0 }
    }

    /// Counts bytes.
    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        let slot = self.slot(now);
        for passed in (self.newest + 1..=slot).take(SLOTS) {
            // Past a whole turn every slot is cleared, whichever numbers the loop names.
            self.bytes[(passed % SLOTS as u64) as usize] = 0;
        }
        self.newest = self.newest.max(slot);
        self.bytes[(self.newest % SLOTS as u64) as usize] += bytes as u64;
    }

    /// The rate of the last second.
    pub(super) fn rate(&self, now: Instant) -> Bitrate {
        let slot = self.slot(now).max(self.newest);
        let oldest = (slot + 1).saturating_sub(SLOTS as u64);
        let bytes = (oldest..=self.newest).map(|slot| self.bytes[(slot % SLOTS as u64) as usize]);
        Bitrate::of(bytes.sum(), SLOT * SLOTS as u32)
    }

    fn slot(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_millis() / SLOT.as_millis()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_last_seconds() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut meter = Meter::new(start);
        for step in 0..30 {
            meter.add(1_250, at(step * 100));
        }
        assert_eq!(meter.rate(at(2_950)), Bitrate::kbps(100));
        assert_eq!(meter.rate(at(3_450)), Bitrate::kbps(50));
        assert_eq!(meter.rate(at(4_000)), Bitrate::bps(0));
        meter.add(1_250, at(60_000));
        assert_eq!(meter.rate(at(60_050)), Bitrate::kbps(10));
    }
}
