//! Which frames of a stream its thumbnail is made of. Pure.
//!
//! A keyframe alone costs least, if it is young. A publisher that answers requests may send one a
//! minute, so that it is asked. Of one that does not answer all is decoded since its keyframe.

use crate::codec::keyframe_size;
use crate::media::frame::Coding;
use crate::media::layer::{LayerId, LayerState};
use crate::media::sample::Sample;
use crate::transcode::picture::SourceFrame;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The search in one publisher's stream.
#[derive(Debug)]
pub(super) struct Search {
    /// So high the thumbnail is to be.
    height: u16,
    began: Instant,
    /// Whether a keyframe can be asked for.
    takes_requests: bool,
    asked: Option<Instant>,
    /// Something of a picture has come.
    has_picture: bool,
    /// What there was has been told: what comes is live.
    is_live: bool,
    /// How high the layers are, as far as that is known.
    heights: BTreeMap<LayerId, u16>,
    /// What has come of each since its newest keyframe.
    held: BTreeMap<LayerId, Vec<SourceFrame>>,
    bytes: usize,
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More is to come, by then at the latest.
    Wait(Instant),
    /// A keyframe is to be asked for.
    Ask,
    /// These frames, the first a keyframe; the newest picture of them is the one.
    Found(Vec<SourceFrame>),
    /// The stream has none.
    NoPicture,
    /// None has come that a decoder can start with.
    NoKeyframe,
}

impl Search {
    /// A keyframe is young until then: a picture that is as old as a thumbnail may be.
    const YOUNG: Duration = Duration::from_secs(4);
    /// What there was is told at once, with the next that comes; where nothing comes, by then.
    const LIVE_BY: Duration = Duration::from_millis(300);
    /// A browser answers within two round trips and the time to encode a keyframe.
    const ANSWER_MAX: Duration = Duration::from_millis(900);
    /// Without a picture for so long there is none.
    const PICTURE_MAX: Duration = Duration::from_secs(1);
    /// How long a keyframe is waited for: encoders send one every two to ten seconds.
    const KEYFRAME_MAX: Duration = Duration::from_secs(4);
    /// More than is kept of a stream; what is longer begins anew with a keyframe.
    const BYTES_MAX: usize = 24 << 20;

    /// Begins with a publisher.
    pub(super) const fn new(height: u16, takes_requests: bool, now: Instant) -> Self {
        Self {
            height,
            began: now,
            takes_requests,
            asked: None,
            has_picture: false,
            is_live: false,
            heights: BTreeMap::new(),
            held: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Something of a picture has come, whole or not.
    pub(super) const fn see_picture(&mut self) {
        self.has_picture = true;
    }

    /// These layers there are.
    pub(super) fn set_layers(&mut self, layers: &[LayerState]) {
        let known = |it: &LayerState| Some((it.layer, it.dimensions.filter(|_| it.is_active)?.1));
        let heights: BTreeMap<_, _> = layers.iter().filter_map(known).collect();
        if !heights.is_empty() {
            self.heights = heights;
        }
    }

    /// Takes in a frame.
    pub(super) fn take(&mut self, sample: &Sample) {
        self.is_live |= sample.arrival >= self.began;
        let Coding::Video(codec) = sample.coding else { return };
        let layer = sample.layer;
        if sample.starts {
            self.drop_held(layer);
            let height = self.heights.entry(layer).or_default();
            *height = keyframe_size(codec, &sample.data).map_or(*height, |(_, height)| height);
            self.held.insert(layer, Vec::new());
        }
        let Some(held) = self.held.get_mut(&layer) else { return };
        held.push(SourceFrame {
            codec,
            ticks: sample.present_ticks,
            starts: sample.starts,
            arrival: sample.arrival,
            data: sample.data.clone(),
        });
        self.bytes += sample.data.len();
        if self.bytes > Self::BYTES_MAX {
            self.drop_held(layer);
        }
    }

    /// Something of a layer is missing: it goes on with a keyframe.
    pub(super) fn miss(&mut self, layer: LayerId) {
        self.drop_held(layer);
    }

    fn drop_held(&mut self, layer: LayerId) {
        let held = self.held.remove(&layer).unwrap_or_default();
        self.bytes -= held.iter().map(|frame| frame.data.len()).sum::<usize>();
    }

    /// What is to be done now.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let live_by = self.began + Self::LIVE_BY;
        if !self.is_live && now < live_by {
            return Step::Wait(live_by);
        }
        let is_young = |frames: &[SourceFrame]| {
            frames.first().is_some_and(|first| now < first.arrival + Self::YOUNG)
        };
        let best = self.best(self.heights.keys());
        if let Some(layer) =
            best.filter(|layer| self.held.get(layer).is_some_and(|it| is_young(it)))
        {
            return self.found(layer, 1);
        }
        if self.takes_requests {
            let Some(asked) = self.asked else {
                self.asked = Some(now);
                return Step::Ask;
            };
            let answer_by = asked + Self::ANSWER_MAX;
            if now < answer_by {
                return Step::Wait(answer_by);
            }
        }
        let young = self.held.iter().filter(|(_, frames)| is_young(frames)).map(|(layer, _)| layer);
        if let Some(layer) = self.best(young) {
            return self.found(layer, 1);
        }
        if let Some(layer) = self.best(self.held.keys()) {
            return self.found(layer, usize::MAX);
        }
        let limit = if self.has_picture { Self::KEYFRAME_MAX } else { Self::PICTURE_MAX };
        match (now < self.began + limit, self.has_picture) {
            (true, _) => Step::Wait(self.began + limit),
            (false, true) => Step::NoKeyframe,
            (false, false) => Step::NoPicture,
        }
    }

    /// Of these layers the smallest that is high enough, else the largest.
    fn best<'a>(&self, layers: impl Iterator<Item = &'a LayerId>) -> Option<LayerId> {
        let height = |layer: &LayerId| self.heights.get(layer).copied().unwrap_or_default();
        let cost = |layer: &LayerId| {
            let height = height(layer);
            if height >= self.height { (0, height) } else { (1, u16::MAX - height) }
        };
        layers.min_by_key(|layer| cost(layer)).copied()
    }

    fn found(&mut self, layer: LayerId, count: usize) -> Step {
        let mut frames = self.held.remove(&layer).unwrap_or_default();
        frames.truncate(count);
        Step::Found(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::media::bitrate::Bitrate;
    use crate::media::codec::Codec;
    use crate::media::frame::AudioCoding;
    use crate::media::time::WallTime;
    use bytes::Bytes;

    struct Rig {
        start: Instant,
        search: Search,
    }

    impl Rig {
        /// It begins ten seconds after what is called 0.
        fn new(takes_requests: bool) -> Self {
            let start = Clock::system().now();
            let began = start + Duration::from_secs(10);
            Self { start, search: Search::new(180, takes_requests, began) }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn frame(&mut self, layer: u8, ms: u64, starts: bool) {
            let sample = Sample {
                coding: Coding::Video(Codec::Vp8),
                layer: LayerId::at(usize::from(layer)).expect("a layer"),
                decode_ticks: 0,
                present_ticks: ms.cast_signed(),
                wall: WallTime::since_unix_epoch(Duration::ZERO),
                starts,
                arrival: self.at(ms),
                data: Bytes::from_static(b"x"),
            };
            self.search.see_picture();
            self.search.take(&sample);
        }

        fn sound(&mut self, ms: u64) {
            let sample = Sample {
                coding: Coding::Audio(AudioCoding::Opus),
                layer: LayerId::ONLY,
                decode_ticks: 0,
                present_ticks: 0,
                wall: WallTime::since_unix_epoch(Duration::ZERO),
                starts: true,
                arrival: self.at(ms),
                data: Bytes::new(),
            };
            self.search.take(&sample);
        }

        fn layers(&mut self, heights: &[u16]) {
            let state = |(index, height): (usize, &u16)| LayerState {
                layer: LayerId::at(index).expect("a layer"),
                rid: String::new(),
                codec: None,
                bitrate: Bitrate::kbps(1),
                dimensions: Some((height * 16 / 9, *height)),
                frame_rate: 30.0,
                is_active: *height > 0,
                is_made: false,
                is_idle: false,
                is_withdrawn: false,
                spatial: Vec::new(),
            };
            let layers: Vec<_> = heights.iter().enumerate().map(state).collect();
            self.search.set_layers(&layers);
        }

        /// The times of what is found at a time, or what else.
        fn step(&mut self, ms: u64) -> Result<Vec<i64>, Step> {
            match self.search.step(self.at(ms)) {
                Step::Found(frames) => Ok(frames.iter().map(|frame| frame.ticks).collect()),
                other => Err(other),
            }
        }
    }

    #[test]
    fn a_young_keyframe_is_taken_alone() {
        let mut rig = Rig::new(false);
        rig.frame(0, 8_000, true);
        rig.frame(0, 8_033, false);
        let live_by = rig.at(10_300);
        assert_eq!(rig.step(10_001), Err(Step::Wait(live_by)), "a younger one may be told next");
        rig.frame(0, 9_000, true);
        rig.frame(0, 10_010, false);
        assert_eq!(rig.step(10_010), Ok(vec![9_000]));
    }

    #[test]
    fn of_an_old_one_all_is_decoded_that_came_since() {
        let mut rig = Rig::new(false);
        rig.frame(0, 1_000, true);
        rig.frame(0, 5_000, false);
        rig.frame(0, 10_010, false);
        assert_eq!(rig.step(10_010), Ok(vec![1_000, 5_000, 10_010]));
    }

    #[test]
    fn whoever_takes_requests_is_asked_and_its_answer_is_the_picture() {
        let mut rig = Rig::new(true);
        rig.frame(0, 1_000, true);
        rig.frame(0, 10_010, false);
        assert_eq!(rig.step(10_010), Err(Step::Ask));
        let answer_by = rig.at(10_910);
        assert_eq!(rig.step(10_011), Err(Step::Wait(answer_by)), "it is asked once");
        rig.frame(0, 10_150, true);
        assert_eq!(rig.step(10_150), Ok(vec![10_150]));
        // One that does not answer:
        let mut rig = Rig::new(true);
        rig.frame(0, 1_000, true);
        rig.frame(0, 10_010, false);
        assert_eq!(rig.step(10_010), Err(Step::Ask));
        assert_eq!(rig.step(10_910), Ok(vec![1_000, 10_010]));
    }

    #[test]
    fn the_smallest_layer_that_is_high_enough_is_taken() {
        for (heights, best) in [
            (&[720, 360, 180, 90][..], 2),
            (&[720, 360], 1),
            (&[90, 144, 120], 1),
            (&[0, 1080, 2160], 1),
        ] {
            let mut rig = Rig::new(false);
            for layer in 0..heights.len() as u8 {
                rig.frame(layer, 9_000 + u64::from(layer), true);
            }
            rig.layers(heights);
            assert_eq!(rig.step(10_300), Ok(vec![9_000 + best]), "{heights:?}");
        }
    }

    #[test]
    fn another_layer_does_where_the_best_one_does_not_answer() {
        let mut rig = Rig::new(true);
        rig.layers(&[720, 360]);
        rig.frame(0, 9_000, true);
        rig.frame(1, 1_000, true);
        assert_eq!(rig.step(10_300), Err(Step::Ask));
        assert!(matches!(rig.step(10_400), Err(Step::Wait(_))));
        assert_eq!(rig.step(11_200), Ok(vec![9_000]));
    }

    #[test]
    fn where_nothing_comes_that_is_told_in_the_end() {
        let mut rig = Rig::new(false);
        rig.sound(10_005);
        let picture_by = rig.at(11_000);
        assert_eq!(rig.step(10_005), Err(Step::Wait(picture_by)));
        assert_eq!(rig.step(11_000), Err(Step::NoPicture));
        let mut rig = Rig::new(false);
        rig.frame(0, 10_010, false);
        let keyframe_by = rig.at(14_000);
        assert_eq!(rig.step(11_000), Err(Step::Wait(keyframe_by)));
        assert_eq!(rig.step(14_000), Err(Step::NoKeyframe));
        rig.frame(0, 14_001, true);
        assert_eq!(rig.step(14_001), Ok(vec![14_001]));
    }

    #[test]
    fn what_is_missing_or_too_much_is_not_decoded() {
        let mut rig = Rig::new(false);
        rig.frame(0, 9_000, true);
        rig.search.miss(LayerId::ONLY);
        rig.frame(0, 10_010, false);
        assert!(matches!(rig.step(10_010), Err(Step::Wait(_))));
        assert_eq!(rig.search.bytes, 0);
        rig.search.bytes = Search::BYTES_MAX;
        rig.frame(0, 10_020, true);
        assert!(matches!(rig.step(10_020), Err(Step::Wait(_))));
        assert_eq!(rig.search.bytes, Search::BYTES_MAX);
    }
}
