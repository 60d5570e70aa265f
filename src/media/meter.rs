//! The rate of the last second, or of another while.

use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

const SLOTS: u32 = 10;

/// Bytes of the last while in slots, ten of them.
#[derive(Debug, Clone)]
pub struct Meter {
    start: Instant,
    slot: Duration,
    bytes: [u64; SLOTS as usize],
    /// How many slots lie between the start and the newest one written.
    newest: u64,
}

impl Meter {
    /// Less time than that tells of no rate.
    const YOUNG: Duration = Duration::from_millis(200);

    /// A meter that has seen nothing, of so long a while.
    pub fn new(span: Duration, now: Instant) -> Self {
        Self { start: now, slot: span / SLOTS, bytes: [0; SLOTS as usize], newest: 0 }
    }

    /// Counts bytes.
    pub fn add(&mut self, bytes: usize, now: Instant) {
        let slot = self.slot(now);
        for passed in (self.newest + 1..=slot).take(SLOTS as usize) {
            // Past a whole turn every slot is cleared, whichever numbers the loop names.
            self.bytes[(passed % u64::from(SLOTS)) as usize] = 0;
        }
        self.newest = self.newest.max(slot);
        self.bytes[(self.newest % u64::from(SLOTS)) as usize] += bytes as u64;
    }

    /// The rate of that while.
    pub fn rate(&self, now: Instant) -> Bitrate {
        let slot = self.slot(now).max(self.newest);
        let oldest = (slot + 1).saturating_sub(u64::from(SLOTS));
        let bytes =
            (oldest..=self.newest).map(|slot| self.bytes[(slot % u64::from(SLOTS)) as usize]);
        Bitrate::of(bytes.sum(), self.slot * SLOTS)
    }

    /// The same of what began within that while: what was before its beginning does not count.
    pub fn rate_since(&self, began: Instant, now: Instant) -> Bitrate {
        let age = now.saturating_duration_since(began).max(Self::YOUNG);
        let span = self.slot * SLOTS;
        if age >= span {
            return self.rate(now);
        }
        Bitrate::bps(
            (self.rate(now).as_bps() as f64 * span.as_secs_f64() / age.as_secs_f64()) as u64,
        )
    }

    fn slot(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_micros() / self.slot.as_micros()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_last_seconds() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut meter = Meter::new(Duration::from_secs(1), start);
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
