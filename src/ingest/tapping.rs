//! A publisher's frames as they came, for those who read its stream: B-frames stay, and sound keeps
//! its coding.
//!
//! Everything since the keyframe before the newest is kept, so that whoever comes in between begins
//! there, with a segment that is complete. The bytes are shared with whatever else holds the frame.

use super::timing::Placed;
use crate::bus::tap::Readers;
use crate::engine::tap::Tapped;
use crate::media::codec::Kind;
use crate::media::frame::{CLOCK_RATE, Frame};
use crate::media::spacing::Spacing;
use crate::media::time::{Epoch, WallTime};
use std::collections::VecDeque;
use std::time::Duration;

/// Those who read the stream of one publisher, and what they begin with.
#[derive(Debug)]
pub(super) struct Tapping {
    readers: Readers,
    past: Past,
    spacing: Spacing,
    epoch: Epoch,
    /// Viewers can have only what is made of the picture.
    needs_made: bool,
}

/// All since one of the last keyframes; nothing while what has come since the newest is too much.
#[derive(Debug, Default)]
struct Past {
    frames: VecDeque<(Frame, WallTime)>,
    bytes: usize,
    begins: Begins,
    /// When what is kept from each of them on is decoded, oldest first.
    keyframes: VecDeque<i64>,
}

/// Where what is kept begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Begins {
    /// There is only sound: a while ago.
    #[default]
    WithSound,
    /// At a keyframe.
    WithKeyframe,
    /// Nowhere before the next keyframe.
    Later,
}

impl Tapping {
    pub(super) fn new(readers: Readers, epoch: Epoch) -> Self {
        let (past, spacing) = (Past::default(), Spacing::default());
        Self { readers, past, spacing, epoch, needs_made: false }
    }

    /// Whether viewers can have only what is made of the picture, from now on.
    pub(super) fn need_made(&mut self, needs_made: bool) {
        if std::mem::replace(&mut self.needs_made, needs_made) != needs_made {
            self.readers.tell(|| Tapped::NeedsMade(needs_made));
        }
    }

    /// Hands on a frame that has a place on the line; `starts`: a decoder can start with it.
    pub(super) fn write(&mut self, frame: Frame, placed: Placed, starts: bool) {
        let is_video = frame.coding.kind() == Kind::Video;
        let present_ticks = placed.ticks.cast_signed();
        let decode_ticks = if is_video { placed.decode_ticks } else { present_ticks };
        let wall = self.epoch.wall_of(placed.moment);
        let frame = Frame { decode_ticks, present_ticks, ..frame };
        let Self { readers, past, spacing, needs_made, .. } = self;
        let (term, keyframes_apart) = (readers.term(), spacing.longest(frame.arrival));
        readers.greet(|| {
            let began = Tapped::Began { term, takes_requests: false, keyframes_apart };
            let past = past.frames.iter().cloned();
            let needs_made = needs_made.then_some(Tapped::NeedsMade(true));
            [began]
                .into_iter()
                .chain(needs_made)
                .chain(past.map(|(frame, wall)| Tapped::Frame(frame, wall)))
                .collect()
        });
        readers.tell(|| Tapped::Frame(frame.clone(), wall));
        if is_video && starts {
            spacing.note(placed.ticks, frame.arrival);
        }
        past.push(frame, wall, starts);
    }
}

impl Past {
    /// As with what is kept of packets: encoders send a keyframe every two to ten seconds.
    const SPAN_MAX: Duration = Duration::from_secs(12);
    const BYTES_MAX: usize = 16 << 20;
    /// Of sound alone so much is kept: a playlist of it can begin at once.
    const SOUND_TICKS: i64 = 6 * CLOCK_RATE as i64;
    /// So much is kept before the newest keyframe, if the bounds allow it: what is packaged begins
    /// with a segment.
    const BEFORE_TICKS: i64 = 2 * CLOCK_RATE as i64;

    fn push(&mut self, frame: Frame, wall: WallTime, starts: bool) {
        match (frame.coding.kind(), starts) {
            (Kind::Video, true) => self.begin(&frame),
            (Kind::Video, false) if self.begins == Begins::WithSound => self.clear(),
            _ => {}
        }
        if self.begins == Begins::Later {
            return;
        }
        self.bytes += frame.data.len();
        let newest = frame.present_ticks;
        self.frames.push_back((frame, wall));
        while self.begins == Begins::WithSound
            && let Some((oldest, _)) = self.frames.front()
            && oldest.present_ticks < newest - Self::SOUND_TICKS
        {
            self.bytes -= oldest.data.len();
            self.frames.pop_front();
        }
        while self.is_too_much() {
            if self.keyframes.len() > 1 {
                self.keyframes.pop_front();
                self.leave_out();
            } else {
                self.clear();
            }
        }
    }

    fn is_too_much(&self) -> bool {
        let ends = [self.frames.front(), self.frames.back()].map(|it| it.map(|it| it.0.arrival));
        let [Some(first), Some(last)] = ends else { return false };
        let span = last.saturating_duration_since(first);
        span > Self::SPAN_MAX || self.bytes > Self::BYTES_MAX
    }

    /// A keyframe comes: what is kept begins there, or with one before, and the sound that goes
    /// with it.
    fn begin(&mut self, keyframe: &Frame) {
        if self.begins != Begins::WithKeyframe {
            self.keyframes.clear();
        }
        let since = keyframe.decode_ticks.min(keyframe.present_ticks);
        self.keyframes.push_back(since);
        let enough = since - Self::BEFORE_TICKS;
        while self.keyframes.get(1).is_some_and(|next| *next <= enough) {
            self.keyframes.pop_front();
        }
        self.begins = Begins::WithKeyframe;
        self.leave_out();
    }

    /// Keeps nothing from before the oldest keyframe.
    fn leave_out(&mut self) {
        let Some(&since) = self.keyframes.front() else { return };
        self.frames.retain(|(frame, _)| match frame.coding.kind() {
            Kind::Audio => frame.present_ticks >= since,
            Kind::Video => frame.decode_ticks >= since,
        });
        self.bytes = self.frames.iter().map(|(frame, _)| frame.data.len()).sum();
    }

    /// Keeps nothing until the next keyframe.
    fn clear(&mut self) {
        *self = Self { begins: Begins::Later, ..Self::default() };
    }
}
