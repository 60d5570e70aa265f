//! What the server must know of a codec: where a decoder can start, and the picture's size.
//!
//! Pure functions of one RTP payload, made for hostile bytes; nothing here decodes. And the way
//! from a frame to payloads.
//!
//! - `h264`: RFC 6184
//! - `h265`: RFC 7798
//! - `vp8`: RFC 7741
//! - `vp9`: RFC 9628
//! - `av1`: RTP payload format for AV1
//! - `opus`: RFC 7587
//! - `packetizer`: from a frame to RTP payloads
//! - `depacketizer`: from RTP payloads to a frame
//! - `access_unit`: what decoders must have, before each start
//! - `configuration`: what files say of a track, out of its frames
//! - `parameter_sets`: what decoders must have before the first picture
//! - `sync_frame`: MPEG audio and AC-3, which come in and are transcoded
//! - `descriptor`: layers and numbers of a packet's frame, as VP8 and VP9 say them
//! - `dependency`: layers of a packet's frame, as a header extension says them
//! - `joined`: spatial layers that say of each frame that it needs the one below
//! - `bits`: single bits and Exp-Golomb numbers

pub mod access_unit;
pub mod av1;
mod bits;
pub mod configuration;
pub mod depacketizer;
pub mod dependency;
pub mod descriptor;
pub mod h264;
pub mod h265;
pub mod joined;
pub mod opus;
pub mod packetizer;
mod parameter_sets;
pub mod sync_frame;
pub mod vp8;
pub mod vp9;

use crate::media::codec::Codec;
use crate::media::layer::Sizes;

/// What is known of one codec's payloads.
struct Functions {
    is_keyframe: fn(&[u8]) -> bool,
    carries_parameters: fn(&[u8]) -> bool,
    sizes: fn(&[u8]) -> Sizes,
}

/// The table: one row per codec.
const fn functions(codec: Codec) -> Functions {
    match codec {
        Codec::H264 => Functions {
            is_keyframe: h264::is_keyframe,
            carries_parameters: h264::carries_parameters,
            sizes: |payload| h264::dimensions(payload).into(),
        },
        Codec::H265 => Functions {
            is_keyframe: h265::is_keyframe,
            carries_parameters: h265::carries_parameters,
            sizes: |payload| h265::dimensions(payload).into(),
        },
        Codec::Vp8 => Functions {
            is_keyframe: vp8::is_keyframe,
            carries_parameters: vp8::is_keyframe,
            sizes: |payload| vp8::dimensions(payload).into(),
        },
        Codec::Vp9 => Functions {
            is_keyframe: vp9::is_keyframe,
            carries_parameters: vp9::is_keyframe,
            sizes: vp9::sizes,
        },
        Codec::Av1 => Functions {
            is_keyframe: av1::is_keyframe,
            carries_parameters: av1::is_keyframe,
            sizes: |payload| av1::dimensions(payload).into(),
        },
        Codec::Opus => Functions {
            is_keyframe: opus::is_keyframe,
            carries_parameters: opus::is_keyframe,
            sizes: |_| Sizes::default(),
        },
    }
}

/// Whether a decoder can start with the frame that begins in this RTP payload.
///
/// With H.264 and H.265 more than one packet of a frame may say so: the parameter sets and the
/// picture after them. The frame starts with the first of them; [`carries_parameters`] tells
/// whether this one is the first for sure.
pub fn is_keyframe(codec: Codec, payload: &[u8]) -> bool {
    (functions(codec).is_keyframe)(payload)
}

/// Whether this RTP payload carries what a decoder must have read before the keyframe's picture;
/// with codecs that have no parameter sets apart from the frame, the keyframe itself does.
pub fn carries_parameters(codec: Codec, payload: &[u8]) -> bool {
    (functions(codec).carries_parameters)(payload)
}

/// Width and height of the picture, where this RTP payload tells them: of each spatial layer, if it
/// says so much.
pub fn sizes(codec: Codec, payload: &[u8]) -> Sizes {
    (functions(codec).sizes)(payload)
}

/// Width and height of the picture that a whole keyframe begins, laid out as
/// [`crate::media::frame::Coding`] says, with what decoders need; `None` where it is none.
pub fn keyframe_size(codec: Codec, frame: &[u8]) -> Option<(u16, u16)> {
    match codec {
        Codec::H264 | Codec::H265 | Codec::Av1 => {
            Some(configuration::VideoConfiguration::read(codec, frame)?.size)
        }
        Codec::Vp8 => vp8::keyframe_size(frame),
        Codec::Vp9 => vp9::read_keyframe(frame)?.size,
        Codec::Opus => None,
    }
}

/// How samples of a picture are laid out, in the terms of H.264 and H.265.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleFormat {
    /// `chroma_format_idc`: 1 is 4:2:0.
    chroma: u8,
    /// Bits beyond 8.
    luma_depth: u8,
    /// Bits beyond 8.
    chroma_depth: u8,
}

impl SampleFormat {
    /// Reads both depths, which the standards bound to 16 bits.
    fn read(chroma: u32, reader: &mut bits::BitReader<'_>) -> Option<Self> {
        let mut depth = || u8::try_from(reader.unsigned()?).ok().filter(|&depth| depth <= 8);
        let (luma_depth, chroma_depth) = (depth()?, depth()?);
        Some(Self { chroma: chroma as u8 & 3, luma_depth, chroma_depth })
    }
}

/// A size that a codec can mean: no side is zero or beyond 16 bits.
fn size(width: u32, height: u32) -> Option<(u16, u16)> {
    let side = |side: u32| u16::try_from(side).ok().filter(|&side| side > 0);
    Some((side(width)?, side(height)?))
}

/// What an aggregation packet holds: units that each have their length before them, in 16 bits
/// (RFC 6184 §5.7.1, RFC 7798 §4.4.2). One that is cut short ends it.
fn sized_units(mut aggregate: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = aggregate.split_first_chunk::<2>()?;
        let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        aggregate = rest;
        Some(unit)
    })
}

/// Bytes from hexadecimal digits, for golden packets; white space is passed over.
#[cfg(test)]
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("golden packets are written in hexadecimal"))
        .collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_never_panics_and_never_gives_an_empty_picture() {
        let mut state = 7_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        let mut told = 0;
        for length in (0..96).cycle().take(20_000) {
            let payload: Vec<u8> = (0..length).map(|_| noise()).collect();
            for codec in Codec::ALL {
                let _ = (is_keyframe(codec, &payload), carries_parameters(codec, &payload));
                if let Some((width, height)) = sizes(codec, &payload).largest() {
                    told += 1;
                    assert!(width > 0 && height > 0);
                }
            }
        }
        assert!(told > 0, "some noise gets through to the sizes");
    }
}
