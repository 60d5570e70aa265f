//! Frames that wait for the decoder. Live pictures are worth nothing late: where it is too slow,
//! first those are dropped that no other needs, then all up to a keyframe. Pure.

use crate::ipc::picture::Codec;
use crate::picture::nal::is_disposable;
use crate::picture::stamp::CLOCK_RATE;
use std::collections::VecDeque;

/// A worker that takes over begins with all that came since a keyframe: so many frames are 20 s
/// at 60 per second.
const FRAMES_MAX: usize = 1200;
/// As much as the server keeps of a stream, and one frame of the largest.
const BYTES_MAX: usize = 24 << 20;
/// Where more of the source waits, the decoder is late.
const LATE: i64 = CLOCK_RATE / 5;
/// Decoders are faster than real time by far: one that has been late for so long stays so.
const LATE_MAX_NS: u64 = 3_000_000_000;

/// A frame of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// It is the so manyth that came, the first is 0.
    pub(crate) number: u64,
    pub(crate) codec: Codec,
    /// When it is shown.
    pub(crate) ticks: i64,
    pub(crate) is_keyframe: bool,
    pub(crate) data: Vec<u8>,
}

/// What waits, and what was dropped of it.
#[derive(Debug)]
pub(crate) struct Input {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Nothing can be decoded before a keyframe comes.
    needs_keyframe: bool,
    /// Since when the decoder has been late, in nanoseconds of whatever clock.
    late_since_ns: Option<u64>,
    taken: u32,
    dropped: u32,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            needs_keyframe: true,
            late_since_ns: None,
            taken: 0,
            dropped: 0,
        }
    }
}

impl Input {
    /// Takes a frame.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.taken += 1;
        if self.frames.len() >= FRAMES_MAX || self.bytes + frame.data.len() > BYTES_MAX {
            self.skip_to_keyframe();
        }
        if self.needs_keyframe && !frame.is_keyframe {
            self.dropped += 1;
            return;
        }
        self.needs_keyframe = false;
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
    }

    /// The next frame to decode at `now_ns`, and whether it is late.
    pub(crate) fn pop(&mut self, now_ns: u64) -> Option<(Frame, bool)> {
        if self.is_late() {
            let since = *self.late_since_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(since) > LATE_MAX_NS {
                self.late_since_ns = None;
                self.skip_to_keyframe();
            }
        } else {
            self.late_since_ns = None;
        }
        while self.is_late() && self.frames.front().is_some_and(is_spare) {
            self.drop_first();
        }
        let is_late = self.is_late();
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.data.len();
        Some((frame, is_late))
    }

    /// How many frames wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.frames.len() as u32
    }

    /// Frames that were taken, and of them those that were dropped, since this was asked last.
    pub(crate) fn take_counts(&mut self) -> (u32, u32) {
        (std::mem::take(&mut self.taken), std::mem::take(&mut self.dropped))
    }

    /// Whether more waits than a decoder leaves waiting that keeps up.
    fn is_late(&self) -> bool {
        let (Some(first), Some(last)) = (self.frames.front(), self.frames.back()) else {
            return false;
        };
        last.ticks.saturating_sub(first.ticks) > LATE
    }

    /// Drops all before the newest keyframe, or all, and what comes up to the next one.
    fn skip_to_keyframe(&mut self) {
        let newest = self.frames.iter().rposition(|frame| frame.is_keyframe);
        // One that is first already does not help.
        let newest = newest.filter(|&at| at > 0);
        for _ in 0..newest.unwrap_or(self.frames.len()) {
            self.drop_first();
        }
        self.needs_keyframe = newest.is_none();
    }

    fn drop_first(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.data.len();
            self.dropped += 1;
        }
    }
}

fn is_spare(frame: &Frame) -> bool {
    !frame.is_keyframe && is_disposable(frame.codec, &frame.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// The frame of this number at 30 per second. Every other one is no reference.
    fn frame(number: i64, is_keyframe: bool) -> Frame {
        let head = if number % 2 == 1 { 0x01 } else { 0x41 };
        let data = vec![0, 0, 0, 1, if is_keyframe { 0x65 } else { head }];
        Frame { number: 0, codec: Codec::H264, ticks: number * 3000, is_keyframe, data }
    }

    fn numbers(input: &mut Input, now_ns: u64) -> Vec<i64> {
        std::iter::from_fn(|| Some(input.pop(now_ns)?.0.ticks / 3000)).collect()
    }

    #[test]
    fn nothing_comes_out_before_a_keyframe() {
        let mut input = Input::default();
        (0..5).for_each(|number| input.push(frame(number, number == 3)));
        assert_eq!(numbers(&mut input, 0), [3, 4]);
        assert_eq!(input.take_counts(), (5, 3));
        assert_eq!(input.take_counts(), (0, 0));
    }

    #[test]
    fn a_late_decoder_is_spared_what_no_frame_needs() {
        let mut input = Input::default();
        (0..12).for_each(|number| input.push(frame(number, number == 0)));
        assert_eq!(input.pop(0).map(|(frame, is_late)| (frame.ticks, is_late)), Some((0, true)));
        // 6 frames and a step are 200 ms: from 5 on nothing is late.
        assert_eq!(numbers(&mut input, 0), [2, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(input.take_counts(), (12, 2));
    }

    #[test]
    fn a_decoder_that_stays_late_goes_on_with_a_keyframe() {
        let mut input = Input::default();
        (0..90).for_each(|number| input.push(frame(number * 2, number % 40 == 0)));
        assert!(input.pop(0).is_some_and(|(frame, is_late)| frame.ticks == 0 && is_late));
        assert!(input.pop(3 * SECOND_NS).is_some_and(|(frame, _)| frame.ticks == 6000));
        let next = input.pop(3 * SECOND_NS + 1).expect("a keyframe waits");
        assert_eq!((next.0.ticks, next.0.is_keyframe), (160 * 3000, true));
        assert_eq!(input.take_counts(), (90, 78));
    }

    #[test]
    fn where_no_keyframe_waits_all_is_dropped_up_to_the_next() {
        let mut input = Input::default();
        (0..90).for_each(|number| input.push(frame(number * 2, number == 0)));
        assert!(input.pop(0).is_some());
        assert!(input.pop(4 * SECOND_NS).is_none());
        input.push(frame(200, false));
        input.push(frame(202, true));
        assert_eq!(numbers(&mut input, 4 * SECOND_NS), [202]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut input = Input::default();
        (0..10_000).for_each(|number| input.push(frame(number, number == 0)));
        assert!(input.frames.len() <= FRAMES_MAX);
        let mut input = Input::default();
        for number in 0..100 {
            let data = vec![0; 1 << 20];
            input.push(Frame { data, ..frame(number, number % 10 == 0) });
            assert!(input.bytes <= BYTES_MAX);
        }
        let bytes: usize = input.frames.iter().map(|frame| frame.data.len()).sum();
        assert_eq!(input.bytes, bytes);
    }
}
