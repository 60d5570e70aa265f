//! What a source turns out to be: its size, its frame rate, what it takes. Pure.

use crate::codec::configuration::VideoConfiguration;
use crate::media::bitrate::Bitrate;
use crate::media::codec::Codec;
use crate::media::frame::CLOCK_RATE;
use crate::media::meter::Meter;
use crate::media::sample::Sample;
use std::time::{Duration, Instant};

/// One picture, from a keyframe on.
#[derive(Debug)]
pub(super) struct Measure {
    /// How it is encoded.
    pub(super) codec: Codec,
    /// Its width and height.
    pub(super) size: (u16, u16),
    began: Instant,
    meter: Meter,
    /// When the first frame is decoded, and the newest, of those that are counted.
    ticks: (i64, i64),
    frames: u32,
}

impl Measure {
    /// Its rate is that of so long a while: pictures of which nothing moves are followed by others.
    const RATE_SPAN: Duration = Duration::from_secs(8);
    /// Before that it is that of a keyframe mostly.
    const RATE_KNOWN: Duration = Duration::from_secs(4);
    /// So many frames tell how many there are in a second.
    const FRAMES: u32 = 12;
    const FRAMES_MAX: u32 = 1_000;
    /// Where they come so seldom, fewer must do.
    const TICKS_MAX: i64 = CLOCK_RATE as i64;

    /// From this keyframe on; `None`: it does not say how large it is.
    pub(super) fn begin(codec: Codec, sample: &Sample) -> Option<Self> {
        let size = VideoConfiguration::read(codec, &sample.data)?.size;
        let ticks = (sample.decode_ticks, sample.decode_ticks);
        let (began, meter) = (sample.arrival, Meter::new(Self::RATE_SPAN, sample.arrival));
        Some(Self { codec, size, began, meter, ticks, frames: 0 })
    }

    /// Counts a frame.
    pub(super) fn add(&mut self, sample: &Sample) {
        self.meter.add(sample.data.len(), sample.arrival);
        if self.frames < Self::FRAMES_MAX {
            self.frames += 1;
            self.ticks.1 = self.ticks.1.max(sample.decode_ticks);
        }
    }

    /// Frames per second, once that is known.
    pub(super) fn frame_rate(&self) -> Option<f64> {
        let span = self.ticks.1 - self.ticks.0;
        let is_known = self.frames >= Self::FRAMES || span >= Self::TICKS_MAX;
        let intervals = f64::from(self.frames.checked_sub(1)?);
        (is_known && span > 0).then(|| intervals * f64::from(CLOCK_RATE) / span as f64)
    }

    /// What it takes, once that is known.
    pub(super) fn rate(&self, now: Instant) -> Option<Bitrate> {
        let is_known = now >= self.began + Self::RATE_KNOWN;
        is_known.then(|| self.meter.rate_since(self.began, now))
    }
}
