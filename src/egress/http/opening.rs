//! Where a publisher's first segment begins. Pure.
//!
//! A tap begins with everything since the publisher's newest keyframe. A publisher that answers
//! requests sends none unasked, so that this may be ten seconds of one picture after the other:
//! it is asked, and its answer is where to begin. One that does not answer has its own rhythm, and
//! its past is of use: with it there is something to play at once.

use crate::media::codec::Kind;
use crate::media::sample::Sample;
use std::time::{Duration, Instant};

/// The beginning of one publisher.
#[derive(Debug)]
pub(super) enum Opening {
    /// It has begun.
    Open,
    /// A keyframe was asked for.
    Asked {
        /// When.
        at: Instant,
        /// What has come until then.
        held: Vec<Sample>,
        /// How many bytes that is.
        bytes: usize,
    },
}

/// What is known when a publisher opens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// What is to be packaged.
    pub(super) samples: Vec<Sample>,
    /// Whether it begins with that.
    pub(super) begins: bool,
    /// Whether it has answered.
    pub(super) has_answered: bool,
}

impl Opening {
    /// A browser answers within two round trips and the time to encode a keyframe.
    const ANSWER_MAX: Duration = Duration::from_millis(900);
    /// Without a picture for so long there is none.
    const PICTURE_MAX: Duration = Duration::from_millis(500);
    /// What is held for the while.
    const BYTES_MAX: usize = 24 << 20;

    /// It was asked for a keyframe now.
    pub(super) const fn asked(at: Instant) -> Self {
        Self::Asked { at, held: Vec::new(), bytes: 0 }
    }

    /// Takes a sample of it; gives what is to be packaged now.
    pub(super) fn take(&mut self, sample: Sample, now: Instant) -> Option<Opened> {
        let Self::Asked { at, held, bytes } = self else {
            let samples = vec![sample];
            return Some(Opened { samples, begins: false, has_answered: false });
        };
        let is_answer =
            sample.coding.kind() == Kind::Video && sample.starts && sample.arrival >= *at;
        let begin = sample.decode_ticks;
        *bytes += sample.data.len();
        held.push(sample);
        if is_answer {
            // What sounds with the picture may have come before it, and so may another layer's
            // answer, which may be a little off on the line.
            let asked = *at;
            let answers =
                |it: &Sample| it.coding.kind() == Kind::Video && it.starts && it.arrival >= asked;
            held.retain(|it| it.decode_ticks >= begin || answers(it));
            return self.open(true);
        }
        self.look(now)
    }

    /// Gives what is held where nothing more is waited for.
    pub(super) fn look(&mut self, now: Instant) -> Option<Opened> {
        let Self::Asked { at, held, bytes } = self else { return None };
        let has_picture = held.iter().any(|it| it.coding.kind() == Kind::Video);
        let limit = if has_picture { Self::ANSWER_MAX } else { Self::PICTURE_MAX };
        let is_over = now >= *at + limit || *bytes > Self::BYTES_MAX;
        if is_over && !held.is_empty() { self.open(false) } else { None }
    }

    fn open(&mut self, has_answered: bool) -> Option<Opened> {
        match std::mem::replace(self, Self::Open) {
            Self::Asked { held: samples, .. } => {
                Some(Opened { samples, begins: true, has_answered })
            }
            Self::Open => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::frame::{AudioCoding, Coding};
    use crate::media::layer::LayerId;
    use crate::media::time::WallTime;
    use bytes::Bytes;

    const VIDEO: Coding = Coding::Video(Codec::H264);
    const SOUND: Coding = Coding::Audio(AudioCoding::Opus);

    fn sample(coding: Coding, ms: i64, starts: bool, arrival: Instant) -> Sample {
        let ticks = ms * 90;
        let wall = WallTime::since_unix_epoch(Duration::from_secs(1));
        let data = Bytes::from_static(b"x");
        Sample {
            coding,
            layer: LayerId::ONLY,
            decode_ticks: ticks,
            present_ticks: ticks,
            wall,
            starts,
            arrival,
            data,
        }
    }

    fn times(opened: Option<Opened>) -> Option<(Vec<i64>, bool)> {
        opened.map(|it| (it.samples.iter().map(|s| s.decode_ticks / 90).collect(), it.has_answered))
    }

    #[test]
    fn who_answers_begins_with_the_answer_and_the_sound_that_goes_with_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let before = start.checked_sub(Duration::from_secs(8)).expect("time goes back that far");
        let mut opening = Opening::asked(start);
        for (coding, ms, starts) in [(VIDEO, 0, true), (VIDEO, 7_960, false), (SOUND, 7_980, true)]
        {
            assert_eq!(opening.take(sample(coding, ms, starts, before), at(1)), None);
        }
        assert_eq!(opening.take(sample(SOUND, 8_101, true, at(95)), at(95)), None);
        let opened = opening.take(sample(VIDEO, 8_100, true, at(100)), at(100));
        assert_eq!(times(opened), Some((vec![8_101, 8_100], true)));
        let next = opening.take(sample(VIDEO, 8_133, false, at(133)), at(133));
        assert_eq!(times(next), Some((vec![8_133], false)));
    }

    #[test]
    fn who_does_not_answer_begins_with_its_past() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut opening = Opening::asked(at(10));
        assert_eq!(opening.take(sample(VIDEO, 0, true, start), at(10)), None);
        assert_eq!(opening.take(sample(VIDEO, 40, false, at(50)), at(50)), None);
        assert_eq!(opening.look(at(909)), None);
        assert_eq!(times(opening.look(at(910))), Some((vec![0, 40], false)));
        assert_eq!(opening.look(at(2_000)), None, "it is open");
    }

    #[test]
    fn sound_alone_is_not_held_back_for_long() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut opening = Opening::asked(start);
        assert_eq!(opening.look(at(5_000)), None, "nothing has come");
        assert_eq!(opening.take(sample(SOUND, 0, true, at(1)), at(1)), None);
        let opened = opening.take(sample(SOUND, 500, true, at(501)), at(501));
        assert_eq!(times(opened), Some((vec![0, 500], false)));
    }
}
