//! Frames that wait for the decoder. Live pictures are worth nothing late: where it is too slow,
//! first those are dropped that no other needs, then all up to a keyframe that waits. Pure.

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
/// Where even more waits, it goes on with the newest keyframe, if one is there. To throw away what
/// can be decoded and wait for one would not be sooner.
const LATE_MAX: i64 = CLOCK_RATE;

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
    taken: u32,
    dropped: u32,
}

impl Default for Input {
    fn default() -> Self {
        Self { frames: VecDeque::new(), bytes: 0, needs_keyframe: true, taken: 0, dropped: 0 }
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

    /// The next frame to decode, and whether it is late.
    pub(crate) fn pop(&mut self) -> Option<(Frame, bool)> {
        if self.span() > LATE_MAX
            && let Some(newest) = self.newest_keyframe()
        {
            (0..newest).for_each(|_| self.drop_first());
        }
        while self.span() > LATE && self.frames.front().is_some_and(is_spare) {
            self.drop_first();
        }
        let is_late = self.span() > LATE;
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

    /// How much of the source waits, in ticks.
    fn span(&self) -> i64 {
        let ends = self.frames.front().zip(self.frames.back());
        ends.map_or(0, |(first, last)| last.ticks.saturating_sub(first.ticks))
    }

    /// Where the newest keyframe waits. One that is first already is none: it helps nobody on.
    fn newest_keyframe(&self) -> Option<usize> {
        self.frames.iter().rposition(|frame| frame.is_keyframe).filter(|&at| at > 0)
    }

    /// Drops all before the newest keyframe, or all, and what comes up to the next one.
    fn skip_to_keyframe(&mut self) {
        let newest = self.newest_keyframe();
        (0..newest.unwrap_or(self.frames.len())).for_each(|_| self.drop_first());
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

    /// The frame of this number at 30 per second. Every other one is no reference.
    fn frame(number: i64, is_keyframe: bool) -> Frame {
        let head = if number % 2 == 1 { 0x01 } else { 0x41 };
        let data = vec![0, 0, 0, 1, if is_keyframe { 0x65 } else { head }];
        Frame { number: 0, codec: Codec::H264, ticks: number * 3000, is_keyframe, data }
    }

    fn numbers(input: &mut Input) -> Vec<i64> {
        std::iter::from_fn(|| Some(input.pop()?.0.ticks / 3000)).collect()
    }

    #[test]
    fn nothing_comes_out_before_a_keyframe() {
        let mut input = Input::default();
        (0..5).for_each(|number| input.push(frame(number, number == 3)));
        assert_eq!(numbers(&mut input), [3, 4]);
        assert_eq!(input.take_counts(), (5, 3));
        assert_eq!(input.take_counts(), (0, 0));
    }

    #[test]
    fn a_late_decoder_is_spared_what_no_frame_needs() {
        let mut input = Input::default();
        (0..12).for_each(|number| input.push(frame(number, number == 0)));
        assert_eq!(input.pop().map(|(frame, is_late)| (frame.ticks, is_late)), Some((0, true)));
        // 6 frames and a step are 200 ms: from 5 on nothing is late.
        assert_eq!(numbers(&mut input), [2, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(input.take_counts(), (12, 2));
    }

    #[test]
    fn a_decoder_that_is_late_by_a_second_goes_on_with_a_keyframe_that_waits() {
        let mut input = Input::default();
        (0..90).for_each(|number| input.push(frame(number * 2, number % 40 == 0)));
        let (next, _) = input.pop().expect("a keyframe waits");
        assert_eq!((next.ticks, next.is_keyframe), (160 * 3000, true));
        assert_eq!(numbers(&mut input).len(), 9);
        assert_eq!(input.take_counts(), (90, 80));
    }

    #[test]
    fn where_no_keyframe_waits_all_is_decoded_until_one_comes() {
        let mut input = Input::default();
        (0..90).for_each(|number| input.push(frame(number * 2, number == 0)));
        for number in 0..20 {
            assert!(input.pop().is_some_and(|(it, is_late)| it.ticks == number * 6000 && is_late));
        }
        input.push(frame(180, true));
        input.push(frame(182, false));
        assert_eq!(numbers(&mut input), [180, 182]);
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
