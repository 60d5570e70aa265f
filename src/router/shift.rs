//! One publisher follows another: the timestamps of a stream go on rising, as the time does.
//!
//! Each publisher counts from a number of its own. What a viewer is sent keeps its numbering, or
//! its player would have to begin anew: the later publisher's timestamps are moved so that its
//! first packet is as much later than the last one before as it came later.

use crate::media::codec::Kind;
use crate::media::layer::Lane;
use crate::media::time::ticks_of;
use std::time::Instant;

/// How far the timestamps of both tracks are moved: of video those of the layer that came first, by
/// which those of the others are placed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shifts([Shift; 2]);

#[derive(Debug, Clone, Copy, Default)]
struct Shift {
    by: u64,
    /// Whose timestamps they are; none before a publisher's first packet.
    lane: Option<Lane>,
    /// The highest moved timestamp, and when its packet arrived.
    newest: Option<(u64, Instant)>,
}

impl Shifts {
    /// What a timestamp of this kind is moved by, to be added with wrapping.
    pub const fn by(&self, kind: Kind) -> u64 {
        self.0[kind.index()].by
    }

    /// Whose timestamps they are that are moved so: the lane of which something came first.
    pub const fn lane(&self, kind: Kind) -> Option<Lane> {
        self.0[kind.index()].lane
    }

    /// Another publisher goes on.
    pub fn begin_term(&mut self) {
        for shift in &mut self.0 {
            shift.lane = None;
        }
    }

    /// A packet arrived.
    pub fn packet(&mut self, lane: Lane, timestamp: u64, clock_rate: u32, arrival: Instant) {
        let shift = &mut self.0[lane.kind().index()];
        let begins = shift.lane.is_none();
        if *shift.lane.get_or_insert(lane) != lane {
            return;
        }
        if let (true, Some((newest, at))) = (begins, shift.newest) {
            let passed = ticks_of(arrival.saturating_duration_since(at), clock_rate).max(1);
            shift.by = newest.saturating_add(passed).wrapping_sub(timestamp);
        }
        let moved = timestamp.wrapping_add(shift.by);
        if shift.newest.is_none_or(|(newest, _)| newest < moved) {
            shift.newest = Some((moved, arrival));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::layer::LayerId;
    use std::time::Duration;

    const VIDEO: Lane = Lane::Video(LayerId::ONLY);
    const CLOCK: u32 = 90_000;

    #[test]
    fn a_later_publisher_goes_on_as_much_later_as_it_came() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for theirs in [7, 1 << 40, u64::MAX - 4_000] {
            let mut shifts = Shifts::default();
            shifts.packet(VIDEO, 1 << 33, CLOCK, at(0));
            assert_eq!(shifts.by(Kind::Video), 0, "the first publisher's stay as they are");
            shifts.begin_term();
            shifts.packet(VIDEO, theirs, CLOCK, at(2_000));
            let moved =
                |ticks: u64| theirs.wrapping_add(ticks).wrapping_add(shifts.by(Kind::Video));
            assert_eq!(moved(0), (1 << 33) + 180_000);
            assert_eq!(moved(3_000), (1 << 33) + 183_000);
            assert_eq!(shifts.by(Kind::Audio), 0, "there was no sound yet");
        }
    }

    #[test]
    fn whatever_the_arrivals_say_the_timestamps_rise() {
        let start = Instant::now();
        let mut shifts = Shifts::default();
        shifts.packet(Lane::Audio, 500_000, 48_000, start + Duration::from_secs(1));
        for _ in 0..3 {
            shifts.begin_term();
            shifts.begin_term();
            let before = 90_000_u64.wrapping_add(shifts.by(Kind::Audio));
            shifts.packet(Lane::Audio, 90_000, 48_000, start);
            assert!(90_000_u64.wrapping_add(shifts.by(Kind::Audio)) > before.max(500_000));
        }
    }
}
