//! How long to wait before the next start of a worker. Pure.

use std::time::Duration;

/// Not at all after a worker that had run for a while; longer and longer where the next ones fail
/// too.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Starts in a row that came to nothing.
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(10);
    /// A worker that has run for so long was well.
    const WELL: Duration = Duration::from_secs(10);

    /// After a worker that ran for so long.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= Self::WELL {
            self.failures = 0;
        }
        let wait = match self.failures {
            0 => Duration::ZERO,
            failures => Self::FIRST.saturating_mul(1 << (failures - 1).min(16)).min(Self::LAST),
        };
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// How many have failed since one was well.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_next_ones_wait_longer_and_longer() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(5);
        let waits: Vec<u64> = (0..10).map(|_| backoff.after(short).as_millis() as u64).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.failures(), 10);
        assert_eq!(backoff.after(Duration::from_mins(1)), Duration::ZERO);
        assert_eq!(backoff.after(short), Backoff::FIRST);
        assert_eq!(backoff.failures(), 2);
    }
}
