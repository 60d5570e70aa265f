//! `[whip]` and `[ingest]`: what publishers may send, and how they are treated.

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
}

/// What is done with B-frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BFramePolicy {
    /// They are left out where no other picture needs them; else viewers are told that the stream
    /// is not for WebRTC.
    Auto,
    /// They are left out where no other picture needs them; else they are passed on.
    Drop,
    /// A stream with them is not for WebRTC.
    Reject,
}

impl Ingest {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            payload_max_bytes: reader.number("ingest.payload_max_bytes", 1200, 500..=1400),
            late_max: reader.milliseconds("ingest.late_max_ms", 2000, 200..=60_000),
            b_frames: reader.text("ingest.b_frames", "auto", "auto, drop or reject", |text| {
                match text {
                    "auto" => Some(BFramePolicy::Auto),
                    "drop" => Some(BFramePolicy::Drop),
                    "reject" => Some(BFramePolicy::Reject),
                    _ => None,
                }
            }),
        }
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
