//! How far the pictures of a stream are apart, and with that how long its parts are.

use crate::media::frame::CLOCK_RATE;

/// Milliseconds, in ticks.
const MILLISECOND: i64 = (CLOCK_RATE / 1_000) as i64;
/// Intervals that differ by no more come from one frame rate: some protocols count milliseconds.
const ROUNDING: i64 = 3 * MILLISECOND;
/// No part is longer, whatever the frame rate: a player stays three parts behind.
const PART_MAX: i64 = 500 * MILLISECOND;

/// How far pictures are apart, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// The shortest time from one to the next: so long a picture lasts at least.
    pub(super) shortest: i64,
    /// What is usual.
    pub(super) usual: i64,
    /// The longest.
    pub(super) longest: i64,
}

impl Pace {
    /// Of pictures that are decoded at these times; `None` where these are too few.
    pub(super) fn measure(times: impl Iterator<Item = i64> + Clone) -> Option<Self> {
        let mut apart: Vec<i64> =
            times.clone().zip(times.skip(1)).map(|(one, next)| (next - one).max(1)).collect();
        apart.sort_unstable();
        let (shortest, longest) = (*apart.first()?, *apart.last()?);
        let usual = if longest - shortest <= ROUNDING {
            let count = i64::try_from(apart.len()).ok()?;
            (apart.iter().sum::<i64>() + count / 2) / count
        } else {
            apart[apart.len() / 2]
        };
        // One that came late, and the next in time, is no frame rate.
        Some(Self { shortest: shortest.max(usual / 2), usual, longest })
    }

    /// The Part Target Duration, in milliseconds: that of the whole number of pictures that comes
    /// nearest to what is wanted.
    pub(super) fn part_target(&self, wanted: i64) -> i64 {
        let pictures = ((wanted + self.usual / 2) / self.usual).max(1);
        let uneven = self.longest - self.shortest;
        let slack = if uneven <= ROUNDING { uneven } else { 0 };
        let target = (pictures * self.usual + slack).min(PART_MAX.max(wanted));
        (target + MILLISECOND - 1) / MILLISECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: &[i64]) -> impl Iterator<Item = i64> + Clone + '_ {
        millis.iter().map(|millis| millis * MILLISECOND)
    }

    #[test]
    fn parts_hold_the_number_of_pictures_nearest_to_200_ms() {
        let wanted = 200 * MILLISECOND;
        for (ticks, target) in
            [(3_600, 200), (3_003, 201), (3_000, 200), (1_500, 200), (1_502, 201)]
        {
            let pace = Pace::measure((0..20).map(|index| index * ticks)).expect("enough");
            assert_eq!(pace.part_target(wanted), target, "{ticks}");
        }
        let rounded = Pace::measure(times(&[0, 33, 67, 100, 133, 167, 200])).expect("enough");
        assert_eq!((rounded.usual, rounded.part_target(wanted)), (3_000, 201));
    }

    #[test]
    fn slow_pictures_make_long_parts_up_to_a_limit() {
        let slow = Pace::measure(times(&[0, 400, 800])).expect("enough");
        assert_eq!(slow.part_target(200 * MILLISECOND), 400);
        let slower = Pace::measure(times(&[0, 1_000, 2_000])).expect("enough");
        assert_eq!(slower.part_target(200 * MILLISECOND), 500);
    }

    #[test]
    fn one_picture_tells_nothing() {
        assert_eq!(Pace::measure(times(&[0])), None);
    }
}
