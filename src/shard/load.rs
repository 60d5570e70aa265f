//! How busy a shard is: the share of wall time that it does not spend waiting.

use std::time::{Duration, Instant};

/// Measures in windows; what one says holds during the next.
#[derive(Debug)]
pub(super) struct Load {
    window_began: Instant,
    work_began: Instant,
    worked: Duration,
    share: f32,
}

impl Load {
    /// Long enough to even out single frames, short enough that a flood of joins is noticed.
    const WINDOW: Duration = Duration::from_millis(100);

    pub(super) fn new(now: Instant) -> Self {
        Self { window_began: now, work_began: now, worked: Duration::ZERO, share: 0.0 }
    }

    /// Waiting is over.
    pub(super) fn work_begins(&mut self, now: Instant) {
        self.work_began = now;
    }

    /// Waiting begins.
    pub(super) fn work_ends(&mut self, now: Instant) {
        self.worked += now.saturating_duration_since(self.work_began);
        self.work_began = now;
        let window = now.saturating_duration_since(self.window_began);
        if window >= Self::WINDOW {
            self.share = self.worked.as_secs_f32() / window.as_secs_f32();
            self.window_began = now;
            self.worked = Duration::ZERO;
        }
    }

    /// Between 0 (idle) and 1 (never waits).
    pub(super) const fn share(&self) -> f32 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_work_over_wall_time_of_the_last_window() {
        let ms = Duration::from_millis;
        let mut now = Instant::now();
        let mut load = Load::new(now);
        for (work, rest, expected) in [(3, 1, 0.75), (1, 3, 0.25), (4, 0, 1.0)] {
            // The first window of each kind may still hold a little of the kind before.
            for _ in 0..60 {
                load.work_begins(now);
                now += ms(work);
                load.work_ends(now);
                now += ms(rest);
            }
            assert!((load.share() - expected).abs() < 0.02, "{} for {expected}", load.share());
        }
    }
}
