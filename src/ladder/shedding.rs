//! Which made layers are given up while the machine is too slow for all of them. Pure.
//!
//! The largest goes first: it costs most by far, and whoever watches it gets the next smaller one
//! or the source. The last one that runs stays: its worker leaves out pictures, but is never late.

use crate::media::layer::MadeLayer;
use std::time::{Duration, Instant};

/// What has been given up of the made layers of one stream, largest first.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    /// Loads in a row by which the worker falls behind.
    behind: u32,
    /// Until when each is given up.
    until: [Option<Instant>; MadeLayer::MAX],
    /// How often each was.
    times: [u32; MadeLayer::MAX],
    /// When one was tried again last.
    tried: Option<Instant>,
}

impl Shedding {
    /// So many loads in a row, seconds, are no accident.
    const BEHIND_MAX: u32 = 3;
    /// It is tried again after this, and after twice as long each time that it was too much.
    const FIRST: Duration = Duration::from_secs(30);
    const DOUBLINGS_MAX: u32 = 3;
    /// So long one shows whether there is room for it, before the next is tried.
    const TRIED: Duration = Duration::from_secs(10);

    /// The worker has told whether it falls behind, with these layers; the one that is given up.
    pub(super) fn load(&mut self, is_behind: bool, running: u8, now: Instant) -> Option<usize> {
        self.behind = if is_behind { self.behind + 1 } else { 0 };
        if self.behind < Self::BEHIND_MAX || running.count_ones() < 2 {
            return None;
        }
        self.behind = 0;
        let largest = running.trailing_zeros() as usize;
        let times = self.times.get_mut(largest)?;
        self.until[largest] = Some(now + Self::FIRST * (1 << (*times).min(Self::DOUBLINGS_MAX)));
        *times += 1;
        Some(largest)
    }

    /// The one that is tried again now: one at a time, the smallest first.
    pub(super) fn look(&mut self, now: Instant) -> Option<usize> {
        let smallest = self.until.iter().rposition(Option::is_some)?;
        if self.tried.is_some_and(|tried| now < tried + Self::TRIED) {
            return None;
        }
        self.until[smallest].take_if(|until| *until <= now)?;
        self.tried = Some(now);
        Some(smallest)
    }

    /// Those that are given up.
    pub(super) fn shed(&self) -> u8 {
        let shed = self.until.iter().enumerate().filter(|(_, until)| until.is_some());
        shed.fold(0, |bits, (index, _)| bits | 1 << index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn the_largest_layer_goes_first_and_the_last_one_stays() {
        let (mut shedding, start) = (Shedding::default(), Clock::system().now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let behind = [(true, None), (true, None), (false, None), (true, None), (true, None)];
        for (second, (is_behind, shed)) in (0..).zip(behind) {
            assert_eq!(shedding.load(is_behind, 0b111, at(second)), shed);
        }
        assert_eq!(shedding.load(true, 0b111, at(5)), Some(0));
        assert_eq!(shedding.shed(), 0b001);
        assert_eq!(shedding.load(true, 0b110, at(6)), None);
        assert_eq!(shedding.load(true, 0b110, at(7)), None);
        assert_eq!(shedding.load(true, 0b110, at(8)), Some(1));
        for second in 9..20 {
            assert_eq!(shedding.load(true, 0b100, at(second)), None, "it is the last one");
        }
        assert_eq!(shedding.shed(), 0b011);
    }

    #[test]
    fn what_was_given_up_is_tried_again_one_after_the_other_and_later_each_time() {
        let (mut shedding, start) = (Shedding::default(), Clock::system().now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let shed = |shedding: &mut Shedding, running, second| {
            (0..3).find_map(|_| shedding.load(true, running, at(second)))
        };
        assert_eq!(shed(&mut shedding, 0b111, 0), Some(0));
        assert_eq!(shed(&mut shedding, 0b110, 10), Some(1));
        assert_eq!(shedding.look(at(35)), None, "the smaller one first");
        assert_eq!(shedding.look(at(40)), Some(1));
        assert_eq!(shedding.look(at(49)), None, "the other one shows first whether there is room");
        assert_eq!(shedding.look(at(50)), Some(0));
        assert_eq!((shedding.look(at(50)), shedding.shed()), (None, 0));
        assert_eq!(shed(&mut shedding, 0b111, 50), Some(0));
        assert_eq!(shedding.look(at(109)), None);
        assert_eq!(shedding.look(at(110)), Some(0));
        for time in 0..40 {
            assert_eq!(shed(&mut shedding, 0b111, time * 300), Some(0));
            assert_eq!(shedding.look(at(time * 300 + 240)), Some(0));
        }
    }
}
