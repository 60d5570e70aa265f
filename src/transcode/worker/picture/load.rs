//! How the worker keeps up, told once a second. Pure.

use crate::ipc::picture::{LayerLoad, Load};
use crate::picture::stamp::CLOCK_RATE;

/// How often it is told.
const EVERY_NS: u64 = 1_000_000_000;
/// More than this cannot be told from a clock that jumped.
const SPEED_MAX: i128 = 10_000;
/// Pictures of a layer that may be left out without a word: one of so many.
const SKIPPED_PART: u32 = 20;

/// What has happened since the last time.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When it was told last; `None` at first.
    told_ns: Option<u64>,
    frames: u32,
    busy_ns: u64,
    decoded: u32,
    broken: u32,
    was_late: bool,
    newest: Option<i64>,
    /// The newest when it was told last.
    told_newest: Option<i64>,
}

impl Meter {
    /// After so many nanoseconds it is to be told.
    pub(crate) fn due_in(&mut self, now_ns: u64) -> u64 {
        let told_ns = *self.told_ns.get_or_insert(now_ns);
        told_ns.saturating_add(EVERY_NS).saturating_sub(now_ns)
    }

    /// Notes a frame that went through the decoder: what it took, how many pictures came out, the
    /// ticks of the newest, and how many frames were found to be broken.
    pub(crate) fn note(
        &mut self,
        busy_ns: u64,
        pictures: u32,
        newest: Option<i64>,
        broken: u32,
        is_late: bool,
    ) {
        self.frames += 1;
        self.busy_ns += busy_ns;
        self.decoded += pictures;
        self.broken += broken;
        self.was_late |= is_late;
        self.newest = newest.or(self.newest);
    }

    /// What there is to tell; what is known of the input is left to others.
    pub(crate) fn take_load(&mut self, now_ns: u64, layers: Vec<LayerLoad>) -> Load {
        let told_ns = self.told_ns.replace(now_ns).unwrap_or(now_ns);
        let passed_ns = i128::from(now_ns.saturating_sub(told_ns).max(1));
        let ticks = self
            .newest
            .zip(self.told_newest)
            .map_or(0, |(newest, told)| newest.saturating_sub(told));
        let speed = i128::from(ticks) * 100_000_000_000 / i128::from(CLOCK_RATE) / passed_ns;
        let skips = |layer: &LayerLoad| layer.skipped * SKIPPED_PART > layer.frames;
        let load = Load {
            broken: self.broken,
            decoded: self.decoded,
            decode_us: (self.busy_ns / u64::from(self.frames.max(1)) / 1000) as u32,
            speed_percent: speed.clamp(0, SPEED_MAX) as u32,
            is_behind: self.was_late || layers.iter().any(skips),
            layers,
            ..Load::default()
        };
        let newest = self.newest;
        *self = Self { told_ns: Some(now_ns), newest, told_newest: newest, ..Self::default() };
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_of_the_time_since_the_last_one() {
        let mut meter = Meter::default();
        assert_eq!(meter.due_in(7), EVERY_NS);
        assert_eq!(meter.due_in(EVERY_NS), 7);
        assert_eq!(meter.due_in(3 * EVERY_NS), 0);
        meter.note(1, 1, Some(900), 0, false);
        assert!(meter.take_load(EVERY_NS, vec![]).decoded == 1);
        meter.note(3_000_000, 1, Some(900 + 45_000), 0, false);
        meter.note(5_000_000, 1, Some(900 + 89_100), 2, false);
        let load = meter.take_load(2 * EVERY_NS, vec![]);
        let expected =
            Load { broken: 2, decoded: 2, decode_us: 4000, speed_percent: 99, ..Load::default() };
        assert_eq!(load, expected);
        assert_eq!(meter.take_load(3 * EVERY_NS, vec![]), Load::default());
    }

    #[test]
    fn it_is_behind_where_frames_are_late_or_layers_skip_some() {
        let mut meter = Meter::default();
        meter.note(1, 1, None, 0, true);
        assert!(meter.take_load(0, vec![]).is_behind);
        let layer = |skipped| LayerLoad { layer: 0, frames: 30, skipped, encode_us: 1 };
        assert!(!meter.take_load(0, vec![layer(1)]).is_behind);
        assert!(meter.take_load(0, vec![layer(2)]).is_behind);
    }

    #[test]
    fn a_clock_that_jumps_breaks_nothing() {
        let mut meter = Meter::default();
        for newest in [i64::MAX, i64::MIN, 0] {
            meter.note(1, 1, Some(newest), 0, false);
            assert!(meter.take_load(1, vec![]).speed_percent <= SPEED_MAX as u32);
        }
    }
}
