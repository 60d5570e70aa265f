//! Whether a worker that transcodes a picture hangs. Pure.

use crate::media::frame::CLOCK_RATE;
use crate::transcode::ipc::picture::Load;
use std::time::{Duration, Instant};

/// What is known of one worker.
#[derive(Debug)]
pub(super) struct Watchdog {
    started: Instant,
    /// When it told something last, once it is ready.
    heard: Option<Instant>,
    /// The first and the newest frame that it has got since.
    owed: Option<(i64, i64)>,
    /// Loads in a row by which it takes frames and does nothing with them.
    idle_loads: u32,
}

impl Watchdog {
    /// How long a worker may take to start: GStreamer may look at all its plugins first.
    const START: Duration = Duration::from_secs(15);
    /// One that makes layers gives frames all the time: viewers are to wait 2 s at most for the
    /// next one's.
    const SILENCE: Duration = Duration::from_millis(1_500);
    /// One that only decodes tells its load once a second.
    const LONG_SILENCE: Duration = Duration::from_secs(3);
    /// More than decoders and encoders keep to themselves.
    const OWED_TICKS: u64 = CLOCK_RATE as u64;
    /// So many loads in a row without anything done, of so many frames each, are a hang.
    const IDLE_LOADS_MAX: u32 = 2;
    const IDLE_FRAMES: u32 = 5;

    pub(super) const fn new(now: Instant) -> Self {
        Self { started: now, heard: None, owed: None, idle_loads: 0 }
    }

    /// It has told something.
    pub(super) const fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
        self.owed = None;
    }

    /// It has got a frame.
    pub(super) fn give(&mut self, ticks: i64) {
        self.owed.get_or_insert((ticks, ticks)).1 = ticks;
    }

    /// It has told its load.
    pub(super) const fn load(&mut self, load: &Load) {
        let done = load.decoded.saturating_add(load.dropped).saturating_add(load.broken);
        let is_idle = load.taken >= Self::IDLE_FRAMES && done == 0;
        self.idle_loads = if is_idle { self.idle_loads + 1 } else { 0 };
    }

    /// Why it must end, if it must; `runs`: it has layers to make.
    pub(super) fn fault(&self, runs: bool, now: Instant) -> Option<&'static str> {
        let Some(heard) = self.heard else {
            let is_late = now.saturating_duration_since(self.started) > Self::START;
            return is_late.then_some("it does not get ready");
        };
        if self.idle_loads >= Self::IDLE_LOADS_MAX {
            return Some("it takes frames and decodes none");
        }
        let owes = self.owed.is_some_and(|(first, last)| first.abs_diff(last) >= Self::OWED_TICKS);
        let silence_max = if runs && owes { Self::SILENCE } else { Self::LONG_SILENCE };
        let is_silent = now.saturating_duration_since(heard) >= silence_max;
        is_silent.then_some("it tells nothing any more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_worker_that_is_silent_hangs() {
        let start = Clock::system().now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watchdog = Watchdog::new(start);
        assert_eq!(watchdog.fault(false, at(14_000)), None);
        assert!(watchdog.fault(false, at(16_000)).is_some(), "it never gets ready");
        watchdog.hear(at(20_000));
        assert_eq!(watchdog.fault(true, at(22_900)), None, "nothing was given");
        assert!(watchdog.fault(true, at(23_000)).is_some());
        watchdog.give(0);
        assert_eq!(watchdog.fault(true, at(21_600)), None, "one frame is not much");
        watchdog.give(90_000);
        assert_eq!(watchdog.fault(true, at(21_400)), None);
        assert!(watchdog.fault(true, at(21_500)).is_some());
        assert_eq!(watchdog.fault(false, at(21_500)), None, "it has nothing to give");
        watchdog.hear(at(21_500));
        assert_eq!(watchdog.fault(true, at(23_400)), None);
    }

    #[test]
    fn a_worker_hangs_that_takes_frames_and_does_nothing_with_them() {
        let start = Clock::system().now();
        let mut watchdog = Watchdog::new(start);
        watchdog.hear(start);
        let idle = Load { taken: 30, ..Load::default() };
        for load in [
            Load { decoded: 30, ..idle.clone() },
            Load { dropped: 30, ..idle.clone() },
            Load { broken: 30, ..idle.clone() },
            Load::default(),
        ] {
            watchdog.load(&idle);
            assert_eq!(watchdog.fault(false, start), None, "it may be late");
            watchdog.load(&load);
            assert_eq!(watchdog.fault(false, start), None, "{load:?}");
        }
        watchdog.load(&idle);
        watchdog.load(&idle);
        assert!(watchdog.fault(false, start).is_some());
    }
}
