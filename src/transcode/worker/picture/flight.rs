//! Frames in the decoder: which of them come out as pictures, and which it makes nothing of. Pure.

use std::collections::VecDeque;

/// More frames no decoder keeps to itself: H.264 and H.265 reorder 16 at most.
const FRAMES_MAX: usize = 32;

/// What is known of a frame while it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// It is the so manyth that came.
    pub(crate) number: u64,
    /// When it is shown.
    pub(crate) ticks: i64,
    pub(crate) is_keyframe: bool,
    /// Whether no other frame needs it.
    pub(crate) is_disposable: bool,
    /// Whether it came late.
    pub(crate) is_late: bool,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    entries: VecDeque<Entry>,
    broken: u32,
    /// When the newest keyframe is shown that came out.
    keyframe_ticks: Option<i64>,
    /// Pictures show what is not there: they are of frames that refer to a broken one.
    is_marred: bool,
}

impl Flight {
    /// A frame goes into the decoder.
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.entries.len() >= FRAMES_MAX
            && let Some(lost) = self.entries.pop_front()
        {
            self.lose(lost);
        }
        self.entries.push_back(entry);
    }

    /// The decoder does not take this frame, or ends.
    pub(crate) fn lose(&mut self, entry: Entry) {
        self.broken += 1;
        // What is shown before a keyframe and comes after it may need what was before that, and no
        // later frame needs it (H.265 §3.74): decoders that begin there leave it out.
        let is_leading = self.keyframe_ticks.is_some_and(|keyframe| entry.ticks < keyframe);
        self.is_marred |= !entry.is_disposable && !is_leading;
    }

    /// The decoder ends: what is in it does not come out.
    pub(crate) fn lose_all(&mut self) {
        while let Some(entry) = self.entries.pop_front() {
            self.lose(entry);
        }
    }

    /// A picture comes out: its frame, if it shows what it should. Pictures come in the order in
    /// which they are shown, so what should have been shown before is lost.
    pub(crate) fn take(&mut self, ticks: i64) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.ticks == ticks)?;
        let entry = self.entries.remove(at)?;
        // A jump of the clock is no loss: only what went in before it counts.
        let lost: Vec<usize> = (0..at).filter(|&at| self.entries[at].ticks < ticks).collect();
        for at in lost.into_iter().rev() {
            if let Some(lost) = self.entries.remove(at) {
                self.lose(lost);
            }
        }
        if entry.is_keyframe {
            self.is_marred = false;
            self.keyframe_ticks = Some(ticks);
        }
        if self.is_marred {
            self.broken += 1;
            return None;
        }
        Some(entry)
    }

    /// How many frames came to nothing since this was asked last.
    pub(crate) fn take_broken(&mut self) -> u32 {
        std::mem::take(&mut self.broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ticks: i64) -> Entry {
        Entry { number: 0, ticks, is_keyframe: ticks == 0, is_disposable: false, is_late: false }
    }

    #[test]
    fn frames_that_come_out_in_another_order_are_all_there() {
        let mut flight = Flight::default();
        for ticks in [0, 4, 2, 1, 3] {
            flight.push(entry(ticks));
        }
        for ticks in 0..5 {
            assert_eq!(flight.take(ticks), Some(entry(ticks)));
        }
        assert_eq!(flight.take_broken(), 0);
    }

    #[test]
    fn after_a_frame_that_is_lost_nothing_is_shown_before_a_keyframe() {
        let mut flight = Flight::default();
        for ticks in [-3, -2, -1, 0, 1] {
            flight.push(entry(ticks));
        }
        assert_eq!(flight.take(-3), Some(entry(-3)));
        // -2 never comes.
        assert_eq!(flight.take(-1), None);
        assert_eq!(flight.take(0), Some(entry(0)));
        assert_eq!(flight.take(1), Some(entry(1)));
        assert_eq!(flight.take_broken(), 2);
        assert_eq!(flight.take_broken(), 0);
    }

    #[test]
    fn a_lost_frame_that_none_needs_costs_no_other() {
        let mut flight = Flight::default();
        flight.push(entry(0));
        flight.push(Entry { is_disposable: true, ..entry(1) });
        flight.push(entry(2));
        assert!(flight.take(0).is_some() && flight.take(2).is_some());
        assert_eq!(flight.take_broken(), 1);
    }

    #[test]
    fn frames_that_lead_a_first_keyframe_may_be_left_out() {
        let mut flight = Flight::default();
        for ticks in [0, -2, -1, 1, 2] {
            flight.push(entry(ticks));
        }
        for ticks in 0..3 {
            assert_eq!(flight.take(ticks), Some(entry(ticks)));
        }
        assert_eq!(flight.take_broken(), 2);
    }

    #[test]
    fn a_clock_that_jumps_back_costs_nothing_that_came_out() {
        let mut flight = Flight::default();
        for ticks in [0, 1000, -50] {
            flight.push(entry(ticks));
        }
        for ticks in [0, 1000, -50] {
            assert!(flight.take(ticks).is_some());
        }
        assert_eq!(flight.take(7), None, "nothing of it went in");
        assert_eq!(flight.take_broken(), 0);
    }

    #[test]
    fn what_never_comes_out_is_counted_and_forgotten() {
        let mut flight = Flight::default();
        (0..100).for_each(|ticks| flight.push(entry(ticks)));
        assert_eq!(flight.take_broken() as usize, 100 - FRAMES_MAX);
        flight.lose_all();
        assert_eq!(flight.take_broken() as usize, FRAMES_MAX);
    }
}
