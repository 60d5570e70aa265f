//! The pace at which a track's frames come, at its best: what "late" is measured against. Pure.

use crate::media::frame::CLOCK_RATE;

const SECOND: i64 = CLOCK_RATE as i64;

/// The least delay of a track's frames, in ticks. A frame that comes sooner shows it at once; that
/// even the best come later is believed slowly: it may be a clock that drifts, or an encoder that
/// is too slow, or a backlog that is about to be caught up with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    best: i64,
    window: Window,
}

/// The time since the best delay was last revised.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: i64,
    least: Option<i64>,
    /// There was a time in which nothing came.
    has_stall: bool,
}

impl Pace {
    /// After so long the delay is revised.
    const WINDOW: i64 = 2 * SECOND;
    /// A frame that comes so much later than its turn shows a stall, not a pace.
    const STALL: i64 = SECOND / 2;
    /// Where frames come evenly, a pace of half the real one is still followed,
    const RISE_EVEN: i64 = 2;
    /// and where they do not, the drift of the worst clocks.
    const RISE_STALLED: i64 = 1_000;

    /// A track whose first frame came with this delay.
    pub(super) fn new(delay: i64, now: i64) -> Self {
        Self { best: delay, window: Window { began: now, ..Window::default() } }
    }

    /// The least delay.
    pub(super) const fn best(&self) -> i64 {
        self.best
    }

    /// A frame came so much later after the one before than its own times say.
    pub(super) const fn note_stall(&mut self, excess: i64) {
        self.window.has_stall |= excess > Self::STALL;
    }

    /// A frame came with this delay, and is not too late.
    pub(super) fn observe(&mut self, delay: i64, now: i64) {
        let window = &mut self.window;
        let least = window.least.map_or(delay, |least| least.min(delay));
        window.least = Some(least);
        self.best = self.best.min(delay);
        let length = now - window.began;
        if length >= Self::WINDOW {
            let slope = if window.has_stall { Self::RISE_STALLED } else { Self::RISE_EVEN };
            self.best += (least - self.best).clamp(0, length / slope);
            self.window = Window { began: now, ..Window::default() };
        }
    }

    /// What comes now is as good as it gets.
    pub(super) const fn accept(&mut self, late: i64) {
        self.best += late;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames every 40 ms of the publisher's time, each with this delay.
    fn best_after(seconds: i64, delay: impl Fn(i64) -> i64) -> i64 {
        let mut pace = Pace::new(delay(0), 0);
        let mut before = delay(0);
        for at in (0..seconds * SECOND).step_by(3_600) {
            pace.note_stall(delay(at) - before);
            before = delay(at);
            pace.observe(delay(at), at + delay(at));
        }
        pace.best()
    }

    #[test]
    fn a_sooner_frame_shows_the_best_delay_at_once() {
        let best = best_after(1, |at| if at == 7_200 { -9_000 } else { 0 });
        assert_eq!(best, -9_000);
    }

    #[test]
    fn a_drift_is_followed_and_jitter_is_not() {
        let drift = best_after(3_600, |at| at / 5_000);
        assert!((719 * SECOND / 1_000..=721 * SECOND / 1_000).contains(&drift), "{drift}");
        let jitter = best_after(60, |at| if at % 36_000 == 0 { 0 } else { 9_000 });
        assert_eq!(jitter, 0);
    }

    #[test]
    fn an_encoder_that_is_too_slow_is_followed() {
        let slow = best_after(60, |at| at / 5);
        assert!((11 * SECOND..=12 * SECOND).contains(&slow), "{slow}");
    }

    #[test]
    fn what_stalls_again_and_again_is_not_taken_for_a_pace() {
        let stalls = best_after(60, |at| at / (2 * SECOND) * SECOND * 6 / 10);
        assert!(stalls < SECOND / 10, "{stalls}");
    }
}
