//! What a source turns out to be: its size, its frame rate, what it takes. Pure.

use crate::codec::keyframe_size;
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
        let size = keyframe_size(codec, &sample.data)?;
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
        let rate = intervals * f64::from(CLOCK_RATE) / span.max(1) as f64;
        (is_known && span > 0).then(|| (rate * 100.0).round() / 100.0)
    }

    /// What it takes, once that is known.
    pub(super) fn rate(&self, now: Instant) -> Option<Bitrate> {
        let is_known = now >= self.began + Self::RATE_KNOWN;
        is_known.then(|| self.meter.rate_since(self.began, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::media::frame::Coding;
    use crate::media::layer::LayerId;
    use crate::media::time::WallTime;

    /// Parameter sets of 642x362, and a slice.
    const KEYFRAME: &[u8] = b"\0\0\0\x19\x67\x42\xc0\x1e\xda\x02\x90\xbf\x88\x93\x01\x10\0\0\x03\
        \0\x10\0\0\x03\x03\xc8\xf1\x62\xea\0\0\0\x04\x68\xce\x0f\xc8\0\0\0\x03\x65\x88\x80";

    fn sample(start: Instant, ms: u64, data: &'static [u8]) -> Sample {
        let wall = WallTime::since_unix_epoch(Duration::from_millis(ms));
        let ticks = (ms * 90).cast_signed();
        Sample {
            coding: Coding::Video(Codec::H264),
            layer: LayerId::ONLY,
            decode_ticks: ticks,
            present_ticks: ticks,
            wall,
            starts: true,
            arrival: start + Duration::from_millis(ms),
            data: data.into(),
        }
    }

    #[test]
    fn size_and_frame_rate_are_known_soon_and_the_rate_later() {
        let start = Clock::system().now();
        let mut measure =
            Measure::begin(Codec::H264, &sample(start, 0, KEYFRAME)).expect("it tells its size");
        assert_eq!(measure.size, (642, 362));
        for number in 0..150 {
            assert_eq!(measure.frame_rate().is_some(), number >= 12, "after {number} frames");
            // As RTMP rounds them.
            measure.add(&sample(start, number * 1000 / 30, &[0; 1000]));
        }
        assert!((measure.frame_rate().expect("it is known") - 30.0).abs() < 0.1);
        let at = |ms| measure.rate(start + Duration::from_millis(ms));
        assert_eq!(at(3_000), None);
        let rate = at(5_000).expect("it is known").as_bps();
        assert!((230_000..=250_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_picture_that_comes_seldom_tells_its_frame_rate_too() {
        let start = Clock::system().now();
        let mut measure = Measure::begin(Codec::H264, &sample(start, 0, KEYFRAME)).expect("a size");
        for number in 0..3 {
            measure.add(&sample(start, number * 500, &[0; 10]));
        }
        assert_eq!(measure.frame_rate(), Some(2.0));
        assert!(Measure::begin(Codec::H264, &sample(start, 0, b"\0\0\0\x01\x65")).is_none());
    }
}
