//! Which made layers are given up while the machine is too slow for all of them. Pure.
//!
//! The one that the fewest watch goes first, of equals the largest: it costs most by far. Whoever
//! watches it gets the next smaller one or the source. So the smallest that runs stays while others
//! do, as those who watch it have nowhere to go; and the last one stays in any case: its worker
//! leaves out pictures, but is never late.

use crate::engine::made::Watching;
use crate::media::layer::MadeLayer;
use std::time::{Duration, Instant};

/// What has been given up of the made layers of one stream, which are the largest first.
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

    /// The worker has told whether it falls behind, with these layers, which so many watch; the one
    /// that is given up.
    pub(super) fn load(
        &mut self,
        is_behind: bool,
        running: u8,
        watching: Watching,
        now: Instant,
    ) -> Option<usize> {
        self.behind = if is_behind { self.behind + 1 } else { 0 };
        if self.behind < Self::BEHIND_MAX {
            return None;
        }
        let smallest = running.checked_ilog2()? as usize;
        let larger = (0..smallest).filter(|at| running & (1 << at) != 0);
        let given_up = larger.min_by_key(|at| watching[*at])?;
        self.behind = 0;
        let times = &mut self.times[given_up];
        self.until[given_up] = Some(now + Self::FIRST * (1 << (*times).min(Self::DOUBLINGS_MAX)));
        *times += 1;
        Some(given_up)
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

    /// As many watch each.
    const ALIKE: Watching = [1; MadeLayer::MAX];

    #[test]
    fn the_layer_goes_first_that_the_fewest_watch() {
        let now = Clock::system().now();
        for (running, watching, given_up) in [
            (0b111, [1, 1, 1, 0, 0, 0, 0], &[0, 1][..]),
            (0b111, [3, 1, 1, 0, 0, 0, 0], &[1, 0]),
            (0b1111, [5, 2, 2, 9, 0, 0, 0], &[1, 2, 0]),
            (0b111, [9, 9, 1, 0, 0, 0, 0], &[0, 1]),
            (0b111, [9, 0, 9, 0, 0, 0, 0], &[1, 0]),
            (0b101, [9, 0, 1, 0, 0, 0, 0], &[0]),
            (0b100, [0, 0, 1, 0, 0, 0, 0], &[]),
            (0, [0; MadeLayer::MAX], &[]),
        ] {
            let (mut shedding, mut running) = (Shedding::default(), running);
            let mut order = Vec::new();
            for _ in 0..30 {
                if let Some(index) = shedding.load(true, running, watching, now) {
                    order.push(index);
                    running &= !(1 << index);
                }
            }
            assert_eq!(order, given_up, "{running:b} {watching:?}");
        }
    }

    #[test]
    fn it_takes_three_loads_in_a_row_and_the_last_one_stays() {
        let (mut shedding, start) = (Shedding::default(), Clock::system().now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let behind = [(true, None), (true, None), (false, None), (true, None), (true, None)];
        for (second, (is_behind, shed)) in (0..).zip(behind) {
            assert_eq!(shedding.load(is_behind, 0b111, ALIKE, at(second)), shed);
        }
        assert_eq!(shedding.load(true, 0b111, ALIKE, at(5)), Some(0));
        assert_eq!(shedding.shed(), 0b001);
        assert_eq!(shedding.load(true, 0b110, ALIKE, at(6)), None);
        assert_eq!(shedding.load(true, 0b110, ALIKE, at(7)), None);
        assert_eq!(shedding.load(true, 0b110, ALIKE, at(8)), Some(1));
        for second in 9..20 {
            assert_eq!(shedding.load(true, 0b100, ALIKE, at(second)), None, "the last one");
        }
        assert_eq!(shedding.shed(), 0b011);
    }

    #[test]
    fn what_was_given_up_is_tried_again_one_after_the_other_and_later_each_time() {
        let (mut shedding, start) = (Shedding::default(), Clock::system().now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let shed = |shedding: &mut Shedding, running, second| {
            (0..3).find_map(|_| shedding.load(true, running, ALIKE, at(second)))
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
