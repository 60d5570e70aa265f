//! Which layers are made, and when they are asked for keyframes. Pure.

use crate::media::layer::MadeLayer;
use std::time::{Duration, Instant};

/// What viewers want of the made layers of one stream. Sets of layers are bits, by their places.
#[derive(Debug, Default)]
pub(super) struct Demand {
    watched: u8,
    /// Those that cannot be had now.
    barred: u8,
    /// Those that are made.
    running: u8,
    /// Since when each of them is not watched any more.
    unwatched_since: [Option<Instant>; MadeLayer::MAX],
    /// Since when each of them cannot be had any more.
    barred_since: [Option<Instant>; MadeLayer::MAX],
    /// Of those that run, the ones of which something has come.
    begun: u8,
    /// Somebody waits for a keyframe of these.
    keyframes: u8,
    /// When they were asked for last.
    asked: Option<Instant>,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Todo {
    /// Layers to start.
    pub(super) start: u8,
    /// Layers to stop.
    pub(super) stop: u8,
    /// Whether to ask for a keyframe of all that run.
    pub(super) keyframe: bool,
}

impl Demand {
    /// A layer that nobody watches is made so long: whoever switches away may come back.
    const LINGER: Duration = Duration::from_secs(5);
    /// A layer that cannot be had any more is made so long for those who have it still: they are
    /// on their way to another.
    const FAREWELL: Duration = Duration::from_secs(2);
    /// Keyframes are asked for no more often: a hundred viewers who come at once need one.
    const KEYFRAMES_APART: Duration = Duration::from_millis(300);

    /// These are watched from now on.
    pub(super) const fn set_watched(&mut self, layers: u8) {
        self.watched = layers;
    }

    /// These cannot be had from now on, whoever wants them.
    pub(super) const fn set_barred(&mut self, layers: u8) {
        self.barred = layers;
    }

    /// Somebody waits for keyframes of these.
    pub(super) const fn want_keyframes(&mut self, layers: u8) {
        self.keyframes |= layers;
    }

    /// A frame of a layer has come.
    pub(super) const fn come(&mut self, index: usize, is_keyframe: bool) {
        self.begun |= 1 << index;
        if is_keyframe {
            self.keyframes &= !(1 << index);
        }
    }

    /// Another worker makes them: each begins with a keyframe.
    pub(super) const fn restarted(&mut self) {
        self.begun = 0;
    }

    /// Those that are made.
    pub(super) const fn running(&self) -> u8 {
        self.running
    }

    /// What is to be done now, once.
    pub(super) fn take(&mut self, now: Instant) -> Todo {
        let start = self.watched & !self.barred & !self.running;
        let mut stop = 0;
        for index in 0..MadeLayer::MAX {
            let bit = 1 << index;
            let (is_watched, is_barred) = (self.watched & bit != 0, self.barred & bit != 0);
            let runs = self.running & bit != 0;
            let keep =
                |since: Option<Instant>, is_so| since.or(Some(now)).filter(|_| runs && is_so);
            let unwatched = keep(self.unwatched_since[index], !is_watched);
            let barred = keep(self.barred_since[index], is_barred);
            let is_over = |since: Option<Instant>, span| since.is_some_and(|it| now >= it + span);
            if is_over(unwatched, Self::LINGER)
                || is_over(barred, Self::FAREWELL)
                || (runs && is_barred && !is_watched)
            {
                stop |= bit;
            }
            let stays = stop & bit == 0;
            self.unwatched_since[index] = unwatched.filter(|_| stays);
            self.barred_since[index] = barred.filter(|_| stays);
        }
        self.running = (self.running | start) & !stop;
        self.begun &= self.running & !start;
        self.keyframes &= self.running;
        let keyframe = self.wants_keyframe() && self.asked_until().is_none_or(|it| it <= now);
        if keyframe {
            self.asked = Some(now);
        }
        Todo { start, stop, keyframe }
    }

    /// Whether somebody waits for one; what has not begun begins with one.
    const fn wants_keyframe(&self) -> bool {
        self.keyframes & self.begun & self.running != 0
    }

    /// Until when the keyframe may come that was asked for last.
    fn asked_until(&self) -> Option<Instant> {
        self.asked.map(|asked| asked + Self::KEYFRAMES_APART)
    }

    /// When there will be something to do, if nothing changes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let unwatched = self.unwatched_since.iter().flatten().map(|since| *since + Self::LINGER);
        let barred = self.barred_since.iter().flatten().map(|since| *since + Self::FAREWELL);
        let keyframe = self.asked_until().filter(|_| self.wants_keyframe());
        unwatched.chain(barred).chain(keyframe).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn at() -> impl Fn(u64) -> Instant {
        let start = Clock::system().now();
        move |ms| start + Duration::from_millis(ms)
    }

    const NOTHING: Todo = Todo { start: 0, stop: 0, keyframe: false };

    #[test]
    fn a_layer_is_made_from_the_first_who_watches_to_five_seconds_after_the_last() {
        let (mut demand, at) = (Demand::default(), at());
        assert_eq!(demand.take(at(0)), NOTHING);
        demand.set_watched(0b10);
        assert_eq!(demand.take(at(0)), Todo { start: 0b10, ..NOTHING });
        assert_eq!((demand.take(at(1)), demand.deadline()), (NOTHING, None));
        demand.set_watched(0);
        assert_eq!(demand.take(at(1_000)), NOTHING);
        assert_eq!(demand.deadline(), Some(at(6_000)));
        demand.set_watched(0b11);
        assert_eq!(demand.take(at(5_000)), Todo { start: 0b01, ..NOTHING });
        demand.set_watched(0b01);
        assert_eq!(demand.take(at(7_000)), NOTHING, "it was watched again in between");
        assert_eq!(demand.take(at(12_000)), Todo { stop: 0b10, ..NOTHING });
        assert_eq!((demand.take(at(60_000)), demand.running()), (NOTHING, 0b01));
    }

    #[test]
    fn a_layer_that_cannot_be_had_stops_when_nobody_has_it_any_more_and_comes_back() {
        let (mut demand, at) = (Demand::default(), at());
        demand.set_watched(0b11);
        demand.take(at(0));
        demand.set_barred(0b11);
        assert_eq!((demand.take(at(10)), demand.deadline()), (NOTHING, Some(at(2_010))));
        demand.set_watched(0b10);
        assert_eq!(demand.take(at(20)), Todo { stop: 0b01, ..NOTHING });
        assert_eq!(demand.take(at(2_010)), Todo { stop: 0b10, ..NOTHING }, "it was long enough");
        demand.set_watched(0b11);
        assert_eq!((demand.take(at(2_020)), demand.deadline()), (NOTHING, None));
        demand.set_barred(0b10);
        assert_eq!(demand.take(at(3_000)), Todo { start: 0b01, ..NOTHING });
    }

    #[test]
    fn keyframes_are_asked_for_together_and_not_too_often() {
        let (mut demand, at) = (Demand::default(), at());
        demand.set_watched(0b11);
        demand.take(at(0));
        demand.want_keyframes(0b11);
        assert_eq!(demand.take(at(10)), NOTHING, "both begin with one");
        demand.come(0, true);
        demand.come(1, true);
        assert_eq!(demand.take(at(40)), NOTHING);
        demand.want_keyframes(0b10);
        assert_eq!(demand.take(at(100)), Todo { keyframe: true, ..NOTHING });
        demand.want_keyframes(0b01);
        assert_eq!((demand.take(at(110)), demand.deadline()), (NOTHING, Some(at(400))));
        demand.come(0, true);
        demand.come(1, false);
        assert_eq!(demand.take(at(399)), NOTHING);
        assert_eq!(demand.take(at(400)), Todo { keyframe: true, ..NOTHING }, "it did not come");
        demand.come(1, true);
        assert_eq!((demand.take(at(900)), demand.deadline()), (NOTHING, None));
        demand.want_keyframes(0b01);
        demand.restarted();
        assert_eq!(demand.take(at(1_000)), NOTHING, "the next worker begins with one");
        demand.come(0, false);
        assert_eq!(demand.take(at(1_001)), Todo { keyframe: true, ..NOTHING });
    }

    #[test]
    fn nobody_waits_for_what_is_not_made() {
        let (mut demand, at) = (Demand::default(), at());
        demand.want_keyframes(0b1);
        assert_eq!(demand.take(at(0)), NOTHING);
        demand.set_watched(0b1);
        demand.take(at(1));
        demand.come(0, true);
        assert_eq!((demand.take(at(2)), demand.deadline()), (NOTHING, None));
    }
}
