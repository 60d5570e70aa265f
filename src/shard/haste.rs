//! Whether packets go out one by one as they come, or wait for the rest of their picture.
//!
//! A message with one packet costs the kernel nearly what one with ten costs. While few are sent,
//! that buys some milliseconds for publishers that spread a picture over time.

use std::time::{Duration, Instant};

/// Counts what is sent.
#[derive(Debug)]
pub(super) struct Haste {
    since: Instant,
    packets: u64,
    is_eager: bool,
}

impl Haste {
    /// Long enough to even out single pictures.
    const WINDOW: Duration = Duration::from_millis(250);
    /// Sent one by one these take a tenth of a core. The measure is what is sent and not how busy
    /// the shard is: that depends on the answer, which would go to and fro.
    const PACKETS_PER_SECOND_MAX: u64 = 30_000;

    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, packets: 0, is_eager: true }
    }

    /// So many packets have been sent since the start.
    pub(super) fn note(&mut self, packets: u64, now: Instant) {
        let span = now.saturating_duration_since(self.since);
        if span < Self::WINDOW {
            return;
        }
        let sent = packets.saturating_sub(self.packets) as f64;
        self.is_eager = sent <= Self::PACKETS_PER_SECOND_MAX as f64 * span.as_secs_f64();
        (self.since, self.packets) = (now, packets);
    }

    /// Whether packets go out one by one.
    pub(super) const fn is_eager(&self) -> bool {
        self.is_eager
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_packets_go_at_once_and_many_wait_for_each_other() {
        let mut now = Instant::now();
        let mut haste = Haste::new(now);
        let mut sent = 0;
        for (per_millisecond, eager) in [(29, true), (31, false), (300, false), (1, true)] {
            for _ in 0..600 {
                now += Duration::from_millis(1);
                sent += per_millisecond;
                haste.note(sent, now);
            }
            assert_eq!(haste.is_eager(), eager, "{per_millisecond} a millisecond");
        }
    }
}
