//! The codecs the synthetic source can imitate, with the names SDP gives them.
//!
//! A list of its own: this crate shares no code with the server it measures.

use std::fmt;
use std::str::FromStr;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Audio => "audio",
            Self::Video => "video",
        })
    }
}

/// What a payload type may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// AV1 (AOM RTP payload specification).
    Av1,
    /// Opus (RFC 7587).
    Opus,
}

impl Codec {
    /// Those that carry a picture.
    pub const VIDEO: [Self; 5] = [Self::H264, Self::H265, Self::Vp8, Self::Vp9, Self::Av1];

    /// The value of `a=rtpmap` after the payload type.
    pub const fn rtpmap(self) -> &'static str {
        match self {
            Self::H264 => "H264/90000",
            Self::H265 => "H265/90000",
            Self::Vp8 => "VP8/90000",
            Self::Vp9 => "VP9/90000",
            Self::Av1 => "AV1/90000",
            Self::Opus => "opus/48000/2",
        }
    }

    /// RTP ticks per second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// What it encodes.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Opus => Kind::Audio,
            _ => Kind::Video,
        }
    }

    /// The `a=fmtp` value a browser sends for it, if any.
    pub const fn parameters(self) -> Option<&'static str> {
        match self {
            Self::H264 => {
                Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
            }
            Self::H265 => Some("level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST"),
            Self::Vp8 => None,
            Self::Vp9 => Some("profile-id=0"),
            Self::Av1 => Some("level-idx=5;profile=0;tier=0"),
            Self::Opus => Some("minptime=10;useinbandfec=1"),
        }
    }

    /// Reads the encoding name of an `a=rtpmap`, which is case-insensitive (RFC 4855 §3).
    pub fn from_rtpmap(value: &str) -> Option<Self> {
        value.split('/').next()?.parse().ok()
    }
}

/// The name stands for no codec known here.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown codec {0}: use h264, h265, vp8, vp9, av1 or opus")]
pub struct UnknownCodec(String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.to_ascii_lowercase().as_str() {
            "h264" => Ok(Self::H264),
            "h265" => Ok(Self::H265),
            "vp8" => Ok(Self::Vp8),
            "vp9" => Ok(Self::Vp9),
            "av1" => Ok(Self::Av1),
            "opus" => Ok(Self::Opus),
            _ => Err(UnknownCodec(name.to_owned())),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.rtpmap().split('/').next().unwrap_or_default())
    }
}
