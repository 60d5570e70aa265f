//! The codecs forwarded here, and one negotiated format: codec plus the parameters that matter.

use std::fmt;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

impl Kind {
    /// Both, in the order in which tables are laid out.
    pub const ALL: [Self; 2] = [Self::Audio, Self::Video];

    /// Position in a two-element table.
    pub const fn index(self) -> usize {
        match self {
            Self::Audio => 0,
            Self::Video => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Audio => "audio",
            Self::Video => "video",
        })
    }
}

/// A codec that is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::H264, Self::H265, Self::Vp8, Self::Vp9, Self::Av1, Self::Opus];

    /// The encoding name as `a=rtpmap` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::Opus => "opus",
        }
    }

    /// Reads an encoding name, which is case-insensitive (RFC 4855 §3).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// What it encodes.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Opus => Kind::Audio,
            _ => Kind::Video,
        }
    }

    /// Whether its encoders make several spatial layers in one stream (SVC) that receivers can put
    /// together again.
    pub const fn has_spatial_layers(self) -> bool {
        matches!(self, Self::Vp9 | Self::Av1)
    }

    /// Whether they can do so only by the dependency descriptor: payloads do not say enough. Of AV1
    /// with several spatial layers Chromium 156 decodes nothing without.
    pub const fn needs_dependencies(self) -> bool {
        matches!(self, Self::Av1)
    }

    /// RTP ticks per second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            _ => 90_000,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Opus => "Opus",
            codec => codec.name(),
        })
    }
}

/// What one payload type stands for: a codec and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The codec.
    pub codec: Codec,
    /// The value of `a=fmtp`, as the publisher wrote it; empty when there was none.
    pub parameters: String,
}

impl Format {
    /// One parameter of the `a=fmtp` value, for example `packetization-mode`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_whatever_their_case() {
        assert_eq!(Codec::parse("OPUS"), Some(Codec::Opus));
        assert_eq!(Codec::parse("h264"), Some(Codec::H264));
        assert_eq!(Codec::parse("rtx"), None);
    }

    #[test]
    fn parameters_are_found_by_name() {
        let format = Format {
            codec: Codec::H264,
            parameters: "level-asymmetry-allowed=1; packetization-mode=1".to_owned(),
        };
        assert_eq!(format.parameter("packetization-mode"), Some("1"));
        assert_eq!(format.parameter("mode"), None);
    }
}
