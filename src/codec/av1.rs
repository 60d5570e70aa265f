//! AV1 in RTP (AOM "RTP Payload Format For AV1" 1.0): where a decoder can start, and how large the
//! picture is.
//!
//! Fuzz target: `codec_av1`.

use super::bits::BitReader;

/// Types of OBU (AV1 specification §6.2.2).
pub(super) const SEQUENCE_HEADER: u8 = 1;
pub(super) const TEMPORAL_DELIMITER: u8 = 2;
pub(super) const FRAME_HEADER: u8 = 3;
pub(super) const FRAME: u8 = 6;

/// Whether a coded video sequence begins here: the N bit of the aggregation header (§4.4), in a
/// packet that does not go on with an earlier packet's element.
pub fn is_keyframe(payload: &[u8]) -> bool {
    matches!(payload.split_first(), Some((head, [_, ..])) if head & 0x88 == 0x08)
}

/// The largest picture of the sequence, where the packet carries its header.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    if !is_keyframe(payload) {
        return None;
    }
    elements(payload).flatten().find_map(|element| {
        let (&head, mut rest) = element.split_first()?;
        if head >> 3 & 0x0f != SEQUENCE_HEADER {
            return None;
        }
        if head & 0x04 != 0 {
            rest = rest.get(1..)?; // layer ids
        }
        if head & 0x02 != 0 {
            (_, rest) = read_leb128(rest)?;
        }
        read_sequence(rest)?.size
    })
}

/// The OBU elements of a packet (§4.4); the last may be the first part of one. `None` ends them
/// where a length lies.
pub(super) fn elements(payload: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let (head, mut rest) = payload.split_first().map_or((0, payload), |(&head, rest)| (head, rest));
    // W: how many elements there are, the last without length; 0: each has one.
    let counted = head >> 4 & 0x03;
    let mut left = counted;
    std::iter::from_fn(move || {
        if rest.is_empty() || (counted != 0 && left == 0) {
            return None;
        }
        left = left.saturating_sub(1);
        if counted != 0 && left == 0 {
            return Some(Some(std::mem::take(&mut rest)));
        }
        let read = read_leb128(rest).and_then(|(len, tail)| tail.split_at_checked(len));
        let (element, tail) = read.unzip();
        rest = tail.unwrap_or_default();
        Some(element)
    })
}

/// AV1 specification §4.10.5, as far as lengths within a datagram go: at most four bytes.
pub(super) fn read_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// Writes a number in LEB128 (AV1 §4.10.5).
pub(crate) fn write_leb128(mut value: usize, bytes: &mut Vec<u8>) {
    while value >= 1 << 7 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// What a sequence header says of the stream, in the terms of `a=fmtp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability {
    pub(super) profile: u32,
    /// `seq_level_idx` of the first operating point.
    pub(super) level: u32,
    pub(super) tier: u32,
}

/// Profile, level and tier of a sequence header without its OBU header.
pub(super) fn capability(bytes: &[u8]) -> Option<Capability> {
    read_sequence(bytes).map(|sequence| sequence.capability)
}

/// What a sequence header says of colours (AV1 specification §5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    /// Bits of a sample: 8, 10 or 12.
    pub(super) depth: u8,
    pub(super) is_mono: bool,
    /// Primaries, transfer characteristics and matrix, where they are said.
    pub(super) description: Option<[u8; 3]>,
    pub(super) is_full_range: bool,
    /// Whether chroma has half the columns, and half the rows.
    pub(super) is_halved: [bool; 2],
    /// Where chroma samples lie.
    pub(super) chroma_position: u8,
}

/// The largest picture of a sequence, of its header without OBU header.
pub(super) fn sequence_size(bytes: &[u8]) -> Option<(u16, u16)> {
    read_sequence(bytes)?.size
}

/// Colours of a sequence header without its OBU header.
pub(super) fn colour(bytes: &[u8]) -> Option<Colour> {
    read_sequence(bytes)?.colour
}

struct SequenceHeader {
    capability: Capability,
    size: Option<(u16, u16)>,
    colour: Option<Colour>,
}

/// Reads a sequence header (AV1 specification §5.5.1) up to the colours.
fn read_sequence(bytes: &[u8]) -> Option<SequenceHeader> {
    let mut header = BitReader::new(bytes);
    let profile = header.bits(3)?;
    header.skip(1)?; // still picture
    let is_reduced = header.flag()?;
    let (level, tier) = if is_reduced {
        (header.bits(5)?, 0) // reduced header: the level and nothing else
    } else {
        read_operating_points(&mut header)?
    };
    let width_bits = header.bits(4)? + 1;
    let height_bits = header.bits(4)? + 1;
    let width = header.bits(width_bits)? + 1;
    let height = header.bits(height_bits)? + 1;
    let size = super::size(width, height);
    let colour = skip_tools(&mut header, is_reduced).and_then(|()| {
        header.skip(3)?; // scaled pictures, filters
        read_colour(&mut header, profile)
    });
    Some(SequenceHeader { capability: Capability { profile, level, tier }, size, colour })
}

/// Passes over what encoders may use.
fn skip_tools(header: &mut BitReader<'_>, is_reduced: bool) -> Option<()> {
    if is_reduced {
        return header.skip(3);
    }
    if header.flag()? {
        header.skip(4 + 3)?; // numbers of frames
    }
    header.skip(3)?; // blocks, filters
    header.skip(4)?; // motion
    let has_order = header.flag()?;
    if has_order {
        header.skip(2)?;
    }
    let chooses_screen_tools = header.flag()?;
    let may_have_screen_tools = chooses_screen_tools || header.flag()?;
    if may_have_screen_tools && !header.flag()? {
        header.skip(1)?; // whole vectors or not
    }
    if has_order {
        header.skip(3)?;
    }
    Some(())
}

/// AV1 specification §5.5.2.
fn read_colour(header: &mut BitReader<'_>, profile: u32) -> Option<Colour> {
    /// Primaries of BT.709, sRGB's transfer, no matrix: RGB.
    const RGB: [u8; 3] = [1, 13, 0];
    let is_high = header.flag()?;
    let is_highest = profile == 2 && is_high && header.flag()?;
    let depth = if is_highest { 12 } else { 8 + 2 * u8::from(is_high) };
    let is_mono = profile != 1 && header.flag()?;
    let mut description = None;
    if header.flag()? {
        let mut byte = || header.bits(8).map(|value| value as u8);
        description = Some([byte()?, byte()?, byte()?]);
    }
    let mut colour = Colour {
        depth,
        is_mono,
        description,
        is_full_range: true,
        is_halved: [false; 2],
        chroma_position: 0,
    };
    if is_mono {
        colour.is_full_range = header.flag()?;
        colour.is_halved = [true; 2];
    } else if description != Some(RGB) {
        colour.is_full_range = header.flag()?;
        colour.is_halved = match profile {
            0 => [true; 2],
            1 => [false; 2],
            _ if is_highest => {
                let x = header.flag()?;
                [x, x && header.flag()?]
            }
            _ => [true, false],
        };
        if colour.is_halved == [true; 2] {
            colour.chroma_position = header.bits(2)? as u8;
        }
    }
    Some(colour)
}

/// Passes over timing and operating points; level and tier of the first.
fn read_operating_points(header: &mut BitReader<'_>) -> Option<(u32, u32)> {
    let mut decoder_model_bits = None;
    if header.flag()? {
        header.skip(64)?; // units in a tick, time scale
        if header.flag()? {
            header.unsigned()?; // ticks per picture, uvlc()
        }
        if header.flag()? {
            decoder_model_bits = Some(header.bits(5)? + 1);
            header.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = header.flag()?;
    let mut first = None;
    for _ in 0..=header.bits(5)? {
        header.skip(12)?; // what is in it
        let level = header.bits(5)?;
        let tier = if level > 7 { header.bits(1)? } else { 0 };
        first.get_or_insert((level, tier));
        if let Some(bits) = decoder_model_bits
            && header.flag()?
        {
            header.skip(2 * bits + 1)?;
        }
        if display_delay && header.flag()? {
            header.skip(4)?;
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    /// A sequence header of 642x362 by libaom, without its size field.
    const SEQUENCE: &str = "08 00 00 00 0c c5 03 69 36 be 40 10";

    #[test]
    fn starts_are_marked_by_the_n_bit() {
        let table = [("1808", true), ("1030", false), ("9808", false), ("18", false), ("", false)];
        for (payload, start) in table {
            assert_eq!(is_keyframe(&hex(payload)), start, "{payload}");
        }
    }

    #[test]
    fn the_size_is_read_however_elements_are_laid_out() {
        let table = [
            format!("28 0c {SEQUENCE} 30aabbcc"),                    // W = 2
            format!("18 {SEQUENCE}"),                                // W = 1
            format!("08 0c {SEQUENCE} 03 30aabb"),                   // W = 0
            "28 0d 0a0b 0000000cc5036936be4010 30aabbcc".to_owned(), // with size field
            format!("38 02 1200 0c {SEQUENCE} 30aa"),                // temporal delimiter first
        ];
        for payload in table {
            assert_eq!(dimensions(&hex(&payload)), Some((642, 362)), "{payload}");
        }
        let film = hex("18 08 0000004 2a7bfe4600d0040");
        assert_eq!(dimensions(&film), Some((1920, 804)), "a level above 3.3 has a tier bit");
    }

    #[test]
    fn lies_about_lengths_are_no_size() {
        for payload in ["28ffffffff0f08", "280c0800", "08ff0108", "2880808080800108", "28"] {
            assert_eq!(dimensions(&hex(payload)), None, "{payload}");
        }
    }
}
