//! What files and playlists say of a track, out of its frames: the records that decoders are set up
//! with, and the strings by which players know whether they can play it (RFC 6381).
//!
//! Pure functions of what publishers send, hostile as it may be. Fuzz target: `configuration`.
//!
//! - `nal`: H.264 and H.265
//! - `av1`: AV1
//! - `sound`: AAC and Opus

mod av1;
mod nal;
mod sound;

use crate::media::codec::Codec;
use crate::media::frame::AudioCoding;
use bytes::Bytes;

/// What is said of a video track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfiguration {
    /// The codec.
    pub codec: Codec,
    /// The body of the configuration box: `avcC` (ISO/IEC 14496-15 §5.3.3), `hvcC` (§8.3.3) or
    /// `av1C` (AV1 in ISOBMFF §2.3).
    pub record: Bytes,
    /// How the codec is named, for example `avc1.64001f`.
    pub codec_string: String,
    /// Width and height.
    pub size: (u16, u16),
}

impl VideoConfiguration {
    /// Out of a keyframe that has its parameter sets; `None` where it lacks them, they make no
    /// sense, or the codec is not packaged.
    pub fn read(codec: Codec, keyframe: &[u8]) -> Option<Self> {
        match codec {
            Codec::H264 => nal::read_h264(keyframe),
            Codec::H265 => nal::read_h265(keyframe),
            Codec::Av1 => av1::read(keyframe),
            Codec::Vp8 | Codec::Vp9 | Codec::Opus => None,
        }
    }

    /// The sample entry that the record belongs in.
    pub const fn sample_entry(&self) -> [u8; 4] {
        match self.codec {
            Codec::H265 => *b"hvc1",
            Codec::Av1 => *b"av01",
            _ => *b"avc1",
        }
    }
}

/// A frame as it stands in a file. With `avc1` and `hvc1` parameter sets are in the record only
/// (ISO/IEC 14496-15 §5.4.2.1, §8.4.1); a start of AV1 has its sequence header (AV1 in ISOBMFF
/// §2.5).
///
/// Sets of pictures that come without sequence parameter sets are kept: no keyframe told of them.
pub fn strip_parameter_sets(codec: Codec, frame: &Bytes) -> Bytes {
    match codec {
        Codec::H264 | Codec::H265 => nal::strip(codec, frame),
        _ => frame.clone(),
    }
}

/// What is said of an audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioConfiguration {
    /// AAC: the `AudioSpecificConfig`. Opus: the body of `dOps` (Opus in ISOBMFF §4.3.2).
    pub record: Bytes,
    /// How the codec is named: `mp4a.40.2`, `opus`.
    pub codec_string: String,
    /// Samples per second of what comes out of a decoder.
    pub sample_rate: u32,
    /// Channels of what comes out of a decoder.
    pub channels: u8,
    /// How many of these samples a frame has; `None` where each tells
    /// ([`crate::codec::opus::duration`]).
    pub frame_samples: Option<u32>,
}

impl AudioConfiguration {
    /// Out of what comes with the frames; `None` where that makes no sense, or the coding is not
    /// packaged.
    pub fn read(coding: &AudioCoding) -> Option<Self> {
        match coding {
            AudioCoding::Aac(config) => sound::read_aac(config),
            AudioCoding::Opus => Some(sound::opus()),
            AudioCoding::Mpeg | AudioCoding::Ac3 => None,
        }
    }
}

#[cfg(test)]
mod tests;
