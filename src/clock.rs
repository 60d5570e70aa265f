//! The one reader of the system clock, and a hand-driven one for tests.
//!
//! Everything that decides about media is told the time; whoever tells it has it from here.

use crate::media::time::{Epoch, WallTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Tells the time: the system's, or in tests the one that was set by hand.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    hands: Option<HandClock>,
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self { hands: None }
    }

    /// Now on the monotonic clock.
    pub fn now(&self) -> Instant {
        match &self.hands {
            None => Instant::now(),
            Some(hands) => hands.now(),
        }
    }

    /// Now on the wall clock.
    pub fn wall(&self) -> WallTime {
        match &self.hands {
            None => WallTime::from_system(SystemTime::now()),
            Some(hands) => hands.start.wall_of(hands.now()),
        }
    }

    /// One moment on both clocks, from which pure code tells the wall time of any other.
    pub fn epoch(&self) -> Epoch {
        Epoch { instant: self.now(), wall: self.wall() }
    }
}

/// A clock that stands still until it is moved; its [`Clock`]s all show the same time.
#[derive(Debug, Clone)]
pub struct HandClock {
    start: Epoch,
    elapsed_nanos: Arc<AtomicU64>,
}

impl HandClock {
    /// A clock that stands at `wall`.
    pub fn starting_at(wall: WallTime) -> Self {
        let start = Epoch { instant: Instant::now(), wall };
        Self { start, elapsed_nanos: Arc::default() }
    }

    /// A clock to hand to whatever is tested.
    pub fn clock(&self) -> Clock {
        Clock { hands: Some(self.clone()) }
    }

    /// Moves it forward.
    pub fn advance(&self, span: Duration) {
        self.elapsed_nanos.fetch_add(span.as_nanos() as u64, Ordering::Relaxed);
    }

    fn now(&self) -> Instant {
        self.start.instant + Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_driven_clock_moves_only_when_it_is_moved() {
        let start = WallTime::since_unix_epoch(Duration::from_secs(1_764_000_001));
        let hands = HandClock::starting_at(start);
        let clock = hands.clock();
        let before = clock.epoch();
        assert_eq!(clock.now(), before.instant);
        hands.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now() - before.instant, Duration::from_millis(1_500));
        assert_eq!(clock.wall().micros_since(start), 1_500_000);
    }

    #[test]
    fn the_system_clock_reads_both_clocks_at_one_moment() {
        let clock = Clock::system();
        let epoch = clock.epoch();
        let difference = epoch.wall_of(clock.now()).micros_since(clock.wall());
        assert!(difference.abs() < 1_000_000, "{difference} us apart");
    }
}
