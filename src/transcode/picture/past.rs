//! Frames of a source on their way to its worker, and those with which the next one begins. Pure.
//!
//! What comes faster than the worker takes it waits here, a little: then whole groups of pictures
//! are left out, up to a keyframe. What has been handed over since the newest keyframe is kept, for
//! a worker that has to start in the middle.

use crate::media::codec::Codec;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One frame of a source, laid out as [`crate::media::frame::Coding`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFrame {
    /// How it is encoded.
    pub codec: Codec,
    /// When it is shown, in ticks of 90 kHz.
    pub ticks: i64,
    /// Whether a decoder can start with it.
    pub starts: bool,
    /// When the server received it.
    pub arrival: Instant,
    /// Its bytes.
    pub data: Bytes,
}

/// What waits, and what is kept.
#[derive(Debug)]
pub(super) struct Past {
    frames: VecDeque<SourceFrame>,
    bytes: usize,
    /// How many of them the worker has.
    next: usize,
    /// Which one is the newest keyframe, while that is kept.
    keyframe: Option<usize>,
    /// Something before is missing: nothing is of use up to a keyframe.
    is_broken: bool,
    /// The worker has had all that there was.
    is_caught_up: bool,
    /// There is one, or will be soon.
    has_worker: bool,
    dropped: u64,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            next: 0,
            keyframe: None,
            is_broken: true,
            is_caught_up: false,
            has_worker: false,
            dropped: 0,
        }
    }
}

impl Past {
    /// As with what is kept for viewers: encoders send a keyframe every two to ten seconds.
    const SPAN_MAX: Duration = Duration::from_secs(12);
    const BYTES_MAX: usize = 16 << 20;
    /// Where a later keyframe waits too, what is older than that is left out.
    const LATE: Duration = Duration::from_millis(500);
    /// What is older than that is left out in any case, and the next keyframe waited for.
    const TOO_LATE: Duration = Duration::from_secs(2);

    /// Puts a frame last.
    pub(super) fn push(&mut self, frame: SourceFrame) {
        if frame.starts {
            self.is_broken = false;
            if !self.has_worker {
                self.clear_frames();
            }
            self.keyframe = Some(self.frames.len());
        } else if self.is_broken {
            self.drop_frames(1);
            return;
        }
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
        self.forget_handed_over();
        if self.is_too_much() {
            self.skip_to_keyframe();
        }
        if self.is_too_much() {
            self.keyframe = None;
            self.forget_handed_over();
        }
        if self.is_too_much() {
            self.clear();
        }
    }

    /// Takes the next frame for the worker.
    pub(super) fn pop(&mut self, now: Instant) -> Option<SourceFrame> {
        let age = |frame: &SourceFrame| now.saturating_duration_since(frame.arrival);
        if age(self.frames.get(self.next)?) > Self::LATE {
            self.skip_to_keyframe();
        }
        if self.is_caught_up && age(self.frames.get(self.next)?) > Self::TOO_LATE {
            self.clear();
        }
        let frame = self.frames.get(self.next)?.clone();
        self.next += 1;
        self.is_caught_up |= self.next == self.frames.len();
        Some(frame)
    }

    /// Another worker begins: at the newest keyframe, as far as that is kept.
    pub(super) fn rewind(&mut self) {
        (self.is_caught_up, self.has_worker) = (false, true);
        if self.keyframe.is_some() {
            self.skip_to_keyframe();
            self.next = 0;
        } else {
            self.clear();
        }
    }

    /// No worker needs anything: what one would begin with is kept, and nothing counts as left out.
    pub(super) const fn rest(&mut self) {
        self.has_worker = false;
    }

    /// Whether the worker has had all that there was, since it began.
    pub(super) const fn is_caught_up(&self) -> bool {
        self.is_caught_up
    }

    /// How many frames wait.
    pub(super) fn waiting(&self) -> usize {
        self.frames.len() - self.next
    }

    /// How many frames were left out since this was asked last.
    pub(super) const fn take_dropped(&mut self) -> u64 {
        std::mem::replace(&mut self.dropped, 0)
    }

    fn is_too_much(&self) -> bool {
        let ends = [self.frames.front(), self.frames.back()].map(|it| it.map(|it| it.arrival));
        let [Some(first), Some(last)] = ends else { return false };
        self.bytes > Self::BYTES_MAX || last.saturating_duration_since(first) > Self::SPAN_MAX
    }

    /// Keeps nothing of what the worker has but what begins with the newest keyframe.
    fn forget_handed_over(&mut self) {
        while self.next > 0 && self.keyframe != Some(0) {
            self.forget_first();
        }
    }

    /// Leaves out what waits before the newest keyframe, if it waits too.
    fn skip_to_keyframe(&mut self) {
        while self.keyframe.is_some_and(|keyframe| keyframe > 0) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some(frame) = self.frames.pop_front() else { return };
        self.bytes -= frame.data.len();
        match self.next.checked_sub(1) {
            Some(next) => self.next = next,
            None => self.drop_frames(1),
        }
        self.keyframe = self.keyframe.and_then(|keyframe| keyframe.checked_sub(1));
    }

    /// Keeps nothing; goes on with the next keyframe.
    fn clear(&mut self) {
        self.drop_frames(self.waiting() as u64);
        self.clear_frames();
        self.is_broken = true;
    }

    fn clear_frames(&mut self) {
        self.frames.clear();
        (self.bytes, self.next, self.keyframe) = (0, 0, None);
    }

    const fn drop_frames(&mut self, count: u64) {
        if self.has_worker {
            self.dropped += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    /// Frames of ten a second; a tenth that can be divided by `apart` is that of a keyframe.
    struct Feed {
        past: Past,
        start: Instant,
        apart: u32,
    }

    impl Feed {
        fn new(apart: u32) -> Self {
            let mut past = Past::default();
            past.rewind();
            Self { past, start: Clock::system().now(), apart }
        }

        fn at(&self, tenths: u32) -> Instant {
            self.start + Duration::from_millis(100) * tenths
        }

        fn push_sized(&mut self, tenths: u32, size: usize) {
            self.past.push(SourceFrame {
                codec: Codec::H264,
                ticks: i64::from(tenths),
                starts: tenths.is_multiple_of(self.apart),
                arrival: self.at(tenths),
                data: Bytes::from(vec![0; size]),
            });
        }

        fn push(&mut self, tenths: u32) {
            self.push_sized(tenths, 10);
        }

        fn pop(&mut self, now: u32) -> Option<i64> {
            let now = self.at(now);
            self.past.pop(now).map(|frame| frame.ticks)
        }

        fn pop_all(&mut self, now: u32) -> Vec<i64> {
            std::iter::from_fn(|| self.pop(now)).collect()
        }
    }

    #[test]
    fn a_worker_that_keeps_up_gets_every_frame_from_the_first_keyframe_on() {
        let mut feed = Feed::new(10);
        for tenths in 7..200 {
            feed.push(tenths);
            assert_eq!(feed.pop(tenths), (tenths >= 10).then_some(i64::from(tenths)));
            assert_eq!(feed.pop(tenths), None);
        }
        assert_eq!(feed.past.take_dropped(), 3);
        assert!(feed.past.is_caught_up() && feed.past.frames.len() <= 10);
    }

    #[test]
    fn another_worker_begins_with_the_newest_keyframe() {
        let mut feed = Feed::new(10);
        for tenths in 10..26 {
            feed.push(tenths);
            feed.pop(tenths);
        }
        feed.past.rewind();
        assert!(!feed.past.is_caught_up());
        feed.push(26);
        assert_eq!(feed.pop_all(26), (20..=26).collect::<Vec<_>>(), "however old they are");
        assert!(feed.past.is_caught_up());
        assert_eq!(feed.past.take_dropped(), 0);
    }

    #[test]
    fn while_no_worker_runs_what_one_would_begin_with_is_kept() {
        let mut feed = Feed::new(10);
        feed.past.rest();
        for tenths in 7..1_000 {
            feed.push(tenths);
            assert!(feed.past.frames.len() <= 10, "{} frames", feed.past.frames.len());
        }
        feed.push(1_000);
        feed.past.rewind();
        feed.push(1_001);
        assert_eq!(feed.pop_all(1_001), [1_000, 1_001]);
        feed.past.rest();
        (1_002..1_007).for_each(|tenths| feed.push(tenths));
        feed.past.rewind();
        assert_eq!(feed.pop_all(1_006), (1_000..1_007).collect::<Vec<_>>());
        assert_eq!(feed.past.take_dropped(), 0);
    }

    #[test]
    fn a_worker_that_is_late_goes_on_with_a_keyframe_that_waits() {
        let mut feed = Feed::new(10);
        for tenths in 10..18 {
            feed.push(tenths);
        }
        assert_eq!(feed.pop_all(17).len(), 8);
        for tenths in 18..25 {
            feed.push(tenths);
        }
        assert_eq!(feed.pop_all(24), [20, 21, 22, 23, 24]);
        assert_eq!(feed.past.take_dropped(), 2);
    }

    #[test]
    fn a_worker_that_is_much_too_late_waits_for_the_next_keyframe() {
        let mut feed = Feed::new(100);
        feed.push(0);
        assert_eq!(feed.pop_all(0), [0]);
        for tenths in 1..40 {
            feed.push(tenths);
        }
        assert_eq!(feed.pop_all(39), [0; 0]);
        assert_eq!(feed.past.take_dropped(), 39);
        for tenths in 40..102 {
            feed.push(tenths);
        }
        assert_eq!(feed.pop_all(101), [100, 101]);
    }

    #[test]
    fn a_group_that_is_too_long_to_be_kept_is_handed_over_all_the_same() {
        let mut feed = Feed::new(1000);
        for tenths in 0..300 {
            feed.push(tenths);
            assert_eq!(feed.pop(tenths), Some(i64::from(tenths)));
        }
        assert!(feed.past.frames.len() <= 121, "{} frames", feed.past.frames.len());
        feed.past.rewind();
        feed.push(300);
        assert_eq!(feed.pop_all(300), [0; 0], "there is nothing to begin with");
        feed.push(1000);
        assert_eq!(feed.pop_all(1000), [1000]);
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_comes() {
        let mut feed = Feed::new(7);
        for tenths in 0..200 {
            feed.push_sized(tenths, 3 << 20);
            assert!(feed.past.bytes <= Past::BYTES_MAX, "{} bytes", feed.past.bytes);
            if tenths % 5 == 0 {
                feed.pop(tenths);
            }
        }
        let held: usize = feed.past.frames.iter().map(|frame| frame.data.len()).sum();
        assert_eq!(held, feed.past.bytes);
    }
}
