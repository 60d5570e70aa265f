//! `[whip]` and `[ingest]`: what publishers may send, and how they are treated.

use super::pattern::Row;
use super::reader::Reader;
use crate::media::codec::{Codec, Kind};
use std::time::Duration;

/// Settings of WHIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whip {
    /// Every video codec, the preferred first. H.264 leads, since it plays everywhere.
    pub codec_preference: Vec<Codec>,
    /// The publisher is asked for keyframes at most this often per layer: a hundred viewers
    /// joining at once must not cost it a hundred keyframes.
    pub keyframe_request_interval: Duration,
    /// How long viewers stay where their publisher has left: an uplink that drops, or an encoder
    /// that is started anew, must not cost it its audience.
    pub grace_time: Duration,
}

/// Settings of all ways in that do not speak WebRTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// The longest RTP payload that is made. With headers and protection a packet is 100 bytes
    /// longer at most, and must pass every path without fragments.
    pub payload_max_bytes: usize,
    /// A publisher that is further behind than this goes on with a later keyframe.
    pub late_max: Duration,
    /// What is done with B-frames.
    pub b_frames: BFramePolicy,
    /// The same for the streams of a pattern; the first that fits counts.
    pub b_frames_of: Vec<Row<BFramePolicy>>,
}

/// What is done with B-frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BFramePolicy {
    /// They are left out where no other picture needs them; else viewers by WebRTC get what is made
    /// of the picture, and where nothing is made of it the stream is not for WebRTC.
    #[default]
    Transcode,
    /// They are left out where no other picture needs them; the others are passed on as they are,
    /// and players stutter.
    Drop,
    /// A stream with them is not for WebRTC.
    Reject,
}

impl BFramePolicy {
    /// What `parse` understands, in words.
    const TAKES: &str = "transcode, drop or reject";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "transcode" => Some(Self::Transcode),
            "drop" => Some(Self::Drop),
            "reject" => Some(Self::Reject),
            _ => None,
        }
    }
}

impl Ingest {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            payload_max_bytes: reader.number("ingest.payload_max_bytes", 1200, 500..=1400),
            late_max: reader.milliseconds("ingest.late_max_ms", 2000, 200..=60_000),
            b_frames: reader.text(
                "ingest.b_frames",
                "transcode",
                BFramePolicy::TAKES,
                BFramePolicy::parse,
            ),
            b_frames_of: reader.by_stream(
                "ingest.b_frames_of",
                BFramePolicy::TAKES,
                BFramePolicy::parse,
            ),
        }
    }

    /// What is done with B-frames of a stream.
    pub fn b_frame_policy(&self, stream: &str) -> BFramePolicy {
        *Row::first(&self.b_frames_of, stream).unwrap_or(&self.b_frames)
    }
}

/// The order in which video codecs are answered unless the operator says otherwise.
const PREFERENCE: [&str; 5] = ["H264", "VP8", "VP9", "AV1", "H265"];

impl Whip {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            codec_preference: reader.list(
                "whip.codec_preference",
                &PREFERENCE,
                "a list of video codecs out of H264, VP8, VP9, AV1, H265, each at most once",
                preference,
            ),
            keyframe_request_interval: reader.milliseconds(
                "whip.keyframe_request_interval_ms",
                1000,
                100..=60_000,
            ),
            grace_time: reader.seconds("whip.grace_time_s", 30, 0..=3600),
        }
    }
}

/// The codecs in the order given, then those that were not named.
fn preference(items: &[&str]) -> Option<Vec<Codec>> {
    let mut codecs = Vec::new();
    for item in items {
        let codec = Codec::parse(item).filter(|codec| codec.kind() == Kind::Video)?;
        if codecs.contains(&codec) {
            return None;
        }
        codecs.push(codec);
    }
    let rest = PREFERENCE.iter().filter_map(|name| Codec::parse(name));
    let rest: Vec<Codec> = rest.filter(|codec| !codecs.contains(codec)).collect();
    codecs.extend(rest);
    Some(codecs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_fits_tells_what_is_done_with_b_frames() {
        let mut ingest = Ingest::read(&mut Reader::default());
        assert_eq!(ingest.b_frame_policy("cam"), BFramePolicy::Transcode);
        let row =
            |pattern, policy| Row::parse(pattern, policy, BFramePolicy::parse).expect("a row");
        ingest.b_frames_of = vec![row("lot-*", "reject"), row("*-7", "drop")];
        let of = ["lot-7", "cam-7", "cam"].map(|name| ingest.b_frame_policy(name));
        assert_eq!(of, [BFramePolicy::Reject, BFramePolicy::Drop, BFramePolicy::Transcode]);
        assert_eq!(BFramePolicy::parse("auto"), None, "it is called transcode");
    }

    #[test]
    fn codecs_that_are_not_named_come_last() {
        use Codec::{Av1, H264, H265, Vp8, Vp9};
        assert_eq!(preference(&["vp9", "AV1"]), Some(vec![Vp9, Av1, H264, Vp8, H265]));
        assert_eq!(preference(&[]), Some(vec![H264, Vp8, Vp9, Av1, H265]));
    }

    #[test]
    fn a_codec_named_twice_or_unknown_is_a_mistake() {
        for bad in [&["H264", "h264"][..], &["opus"], &["mpeg2"]] {
            assert_eq!(preference(bad), None, "{bad:?}");
        }
    }
}
