//! VP9 in RTP (RFC 9628): where a decoder can start, and how large the picture is.
//!
//! Fuzz target: `codec_vp9`.

use super::bits::BitReader;
use super::descriptor::Descriptor;
use crate::media::codec::Codec;
use crate::media::layer::Sizes;

/// A picture refers to so many others at most (RFC 9628 §4.2).
pub(super) const REFERENCES_MAX: usize = 3;

/// Whether a keyframe begins here: the start of the lowest spatial layer's frame, not predicted
/// from another picture, whose own header says keyframe. Intra-only frames are no start.
pub fn is_keyframe(payload: &[u8]) -> bool {
    read(payload).is_some_and(|start| read_keyframe(start.frame).is_some())
}

/// The picture's sizes where a keyframe begins: those of the scalability structure if there is one,
/// else what the frame's header says.
pub fn sizes(payload: &[u8]) -> Sizes {
    let Some(start) = read(payload) else { return Sizes::default() };
    let Some(keyframe) = read_keyframe(start.frame) else { return Sizes::default() };
    if start.layers.is_empty() { keyframe.size.into() } else { start.layers }
}

struct Start<'a> {
    frame: &'a [u8],
    /// As the scalability structure says.
    layers: Sizes,
}

/// Where a frame of the lowest spatial layer begins that is not predicted from earlier pictures.
fn read(payload: &[u8]) -> Option<Start<'_>> {
    let descriptor = Descriptor::read(Codec::Vp9, payload)?;
    if descriptor.is_predicted || !descriptor.begins || descriptor.spatial != 0 {
        return None;
    }
    let mut rest = payload.get(usize::from(descriptor.len)..)?;
    let mut layers = Sizes::default();
    if payload.first()? & 0x02 != 0 {
        rest = read_structure(rest, &mut layers)?;
    }
    Some(Start { frame: rest, layers })
}

/// What of a frame this payload carries, behind its descriptor and scalability structure.
pub(super) fn data<'a>(payload: &'a [u8], descriptor: &Descriptor) -> Option<&'a [u8]> {
    let rest = payload.get(usize::from(descriptor.len)..)?;
    if payload.first()? & 0x02 == 0 {
        return Some(rest);
    }
    read_structure(rest, &mut Sizes::default())
}

/// Passes over a scalability structure (RFC 9628 §4.2.1), noting its layers' sizes: all, or none
/// where one makes no sense.
fn read_structure<'a>(bytes: &'a [u8], layers: &mut Sizes) -> Option<&'a [u8]> {
    let (&head, mut rest) = bytes.split_first()?;
    if head & 0x10 != 0 {
        let mut told = Some(Sizes::default());
        for _ in 0..=head >> 5 {
            let (&[w0, w1, h0, h1], tail) = rest.split_first_chunk()?;
            let layer = super::size(
                u32::from(u16::from_be_bytes([w0, w1])),
                u32::from(u16::from_be_bytes([h0, h1])),
            );
            told = told.zip(layer).map(|(told, layer)| told.with(layer));
            rest = tail;
        }
        *layers = told.unwrap_or_default();
    }
    if head & 0x08 != 0 {
        let (&pictures, mut tail) = rest.split_first()?;
        for _ in 0..pictures {
            let (&picture, references) = tail.split_first()?;
            tail = references.get(usize::from(picture >> 2 & 0x03)..)?;
        }
        rest = tail;
    }
    Some(rest)
}

/// What a keyframe's own header says.
pub(super) struct Keyframe {
    pub(super) profile: u32,
    pub(super) size: Option<(u16, u16)>,
}

/// Reads a frame's uncompressed header (VP9 bitstream specification §6.2) up to the size; `None`
/// if it is no keyframe's.
pub(super) fn read_keyframe(frame: &[u8]) -> Option<Keyframe> {
    let mut header = BitReader::new(frame);
    if header.bits(2)? != 2 {
        return None;
    }
    let profile = header.bits(1)? | header.bits(1)? << 1;
    if profile == 3 {
        header.skip(1)?;
    }
    let shows_existing = header.flag()?;
    let is_inter = header.flag()?;
    if shows_existing || is_inter {
        return None;
    }
    header.skip(2)?; // show_frame, error_resilient_mode
    if header.bits(24)? != 0x49_83_42 {
        return None;
    }
    if profile >= 2 {
        header.skip(1)?; // bit depth
    }
    let rgb = header.bits(3)? == 7;
    let odd_profile = profile & 1 == 1;
    // The colour range and, in the odd profiles, the subsampling and a reserved bit; RGB has no
    // range and a fixed subsampling.
    header.skip(match (rgb, odd_profile) {
        (true, false) => 0,
        (true, true) | (false, false) => 1,
        (false, true) => 4,
    })?;
    let mut side = || header.bits(16).map(|side| side + 1);
    let size = side().zip(side()).and_then(|(width, height)| super::size(width, height));
    Some(Keyframe { profile, size })
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    const HEADER: &str = "8249834200281016960638241c18";

    #[test]
    fn keyframes_start_in_the_lowest_layer() {
        let table = [
            (format!("08{HEADER}"), true),           // ffmpeg: no picture id
            (format!("888123{HEADER}"), true),       // 15-bit picture id
            (format!("8805{HEADER}"), true),         // 7-bit picture id
            (format!("a8812300 07{HEADER}"), true),  // layer indices and TL0PICIDX
            (format!("b8812300{HEADER}"), true),     // flexible mode: no TL0PICIDX
            (format!("a8812302 07{HEADER}"), false), // second spatial layer
            (format!("00{HEADER}"), false),          // not the start of a frame
            (format!("48{HEADER}"), false),          // predicted
            ("0886004092f0e140".to_owned(), false),  // ffmpeg: inter frame
            ("0882498343".to_owned(), false),        // wrong sync code
            ("0882".to_owned(), false),
            ("a8".to_owned(), false),
            (String::new(), false),
        ];
        for (payload, start) in table {
            assert_eq!(is_keyframe(&hex(&payload)), start, "{payload}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_layers_else_the_frames() {
        let of = |payload: &str| sizes(&hex(payload));
        assert_eq!(of(&format!("08{HEADER}")), Some((642, 362)).into());
        // Three layers, 320x180 to 1280x720, and one picture group of one picture, one reference.
        let structure = "58 014000b4 02800168 050002d0 01 04 01";
        let layered = format!("aa8123 00 07 {structure} {HEADER}");
        let three = [(320, 180), (640, 360), (1280, 720)];
        assert_eq!(of(&layered), three.into_iter().fold(Sizes::default(), Sizes::with));
        assert!(of("0886004092f0e140").is_empty());
        // Chromium 156, `L3T3_KEY` of 640x360, of which it makes two.
        let chromium = "be839c10 30014000b402800168 834983420013f00b3813f80b38d0e0907065200003c0";
        assert_eq!(of(chromium), Sizes::default().with((320, 180)).with((640, 360)));
        let senseless = layered.replace("02800168", "02800000");
        assert_eq!(of(&senseless), Some((642, 362)).into(), "one has no lines");
    }

    #[test]
    fn cut_short_anywhere_nothing_panics() {
        let whole = hex(&format!("aa8123000758014000b402800168050002d0010401{HEADER}"));
        for end in 0..whole.len() {
            let _ = (is_keyframe(&whole[..end]), sizes(&whole[..end]));
        }
        assert!(!is_keyframe(&whole[..20]));
    }
}
