//! One access unit or audio frame, for ways in and out that do not speak RTP.

use super::codec::{Codec, Kind};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The clock of [`Frame::decode_ticks`] and [`Frame::present_ticks`], in ticks per second.
pub const CLOCK_RATE: u32 = 90_000;

/// One access unit, or what one audio packet of its container holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How it is encoded.
    pub coding: Coding,
    /// When it is decoded, in ticks of [`CLOCK_RATE`], unwrapped: rises within a track, apart from
    /// jumps that the publisher makes. Starts anywhere.
    pub decode_ticks: i64,
    /// When it is shown, on the same clock.
    pub present_ticks: i64,
    /// When the server received the last of it.
    pub arrival: Instant,
    /// The bytes, as [`Coding`] says.
    pub data: Bytes,
}

/// How a frame is encoded, and with that how its bytes are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coding {
    /// H.264, H.265: NAL units, each after its length in 4 bytes, big-endian; parameter sets that
    /// came apart from the frames stand before the next keyframe, once. AV1: the OBUs of a temporal
    /// unit, each with its size field, without temporal delimiter; a sequence header as parameter
    /// sets. VP8, VP9: the frame, a superframe as one.
    Video(Codec),
    /// Sound.
    Audio(AudioCoding),
}

/// How sound is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioCoding {
    /// Opus packets (RFC 6716), with 1 or 2 channels.
    Opus,
    /// AAC: raw frames without ADTS or LATM, with their `AudioSpecificConfig`
    /// (ISO/IEC 14496-3 §1.6.2.1).
    Aac(Arc<[u8]>),
    /// MPEG-1 and -2 audio, layers 1 to 3: frames with their headers.
    Mpeg,
    /// AC-3 (ETSI TS 102 366): sync frames.
    Ac3,
}

impl Coding {
    /// What it encodes.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Video(_) => Kind::Video,
            Self::Audio(_) => Kind::Audio,
        }
    }
}

impl fmt::Display for AudioCoding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Opus => "Opus",
            Self::Aac(_) => "AAC",
            Self::Mpeg => "MPEG audio",
            Self::Ac3 => "AC-3",
        })
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(codec) => codec.fmt(out),
            Self::Audio(coding) => coding.fmt(out),
        }
    }
}
