//! The size of the picture that a keyframe begins with, where nobody has stamped what is sent: VP8
//! (RFC 7741 §4.2, RFC 6386 §9.1), and H.264 of the baseline and main profiles (ITU-T H.264
//! §7.3.2.1.1).

use crate::codec::Codec;

/// Bytes at the start of a payload that are looked at.
pub(super) const LOOKED_AT: usize = 32;

/// Width and height, if a payload that starts so tells them.
pub(super) fn size(codec: Codec, start: &[u8; LOOKED_AT]) -> Option<[u16; 2]> {
    match codec {
        Codec::Vp8 => vp8(start),
        Codec::H264 => h264(start),
        _ => None,
    }
}

fn vp8(start: &[u8]) -> Option<[u16; 2]> {
    let (&first, mut rest) = start.split_first()?;
    // S is set, and the partition is the first.
    if first & 0x17 != 0x10 {
        return None;
    }
    if first & 0x80 != 0 {
        let (&fields, after) = rest.split_first()?;
        let long_id = fields & 0x80 != 0 && after.first()? & 0x80 != 0;
        let lengths = [
            usize::from(fields & 0x80 != 0) + usize::from(long_id),
            usize::from(fields & 0x40 != 0),
            usize::from(fields & 0x30 != 0),
        ];
        rest = after.get(lengths.iter().sum::<usize>()..)?;
    }
    let [tag, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..] = *rest else { return None };
    let side = |bytes| u16::from_le_bytes(bytes) & 0x3FFF;
    (tag & 1 == 0).then(|| [side([w0, w1]), side([h0, h1])])
}

fn h264(start: &[u8]) -> Option<[u16; 2]> {
    let unit = match start.first()? & 0x1F {
        7 => start,
        // The first of an aggregate (RFC 6184 §5.7.1).
        24 => start.get(3..)?,
        _ => return None,
    };
    let (&[header, profile, _, _], body) = unit.split_first_chunk()?;
    if header & 0x1F != 7 || !matches!(profile, 66 | 77 | 88) {
        return None;
    }
    let mut bits = Bits { bytes: body, place: 0 };
    let _id = bits.unsigned()?;
    let _frame_number = bits.unsigned()?;
    match bits.unsigned()? {
        0 => drop(bits.unsigned()?),
        2 => {}
        _ => return None,
    }
    let _references = bits.unsigned()?;
    let _gaps = bits.bit()?;
    let (columns, rows) = (bits.unsigned()? + 1, bits.unsigned()? + 1);
    let fields = bits.bit()? == 0;
    if fields {
        bits.bit()?;
    }
    let _inference = bits.bit()?;
    let mut edges = [0; 4];
    if bits.bit()? == 1 {
        for edge in &mut edges {
            *edge = bits.unsigned()?;
        }
    }
    let lines = 16 * (1 + u32::from(fields));
    let side = |whole: u32, cut: u32| u16::try_from(whole.checked_sub(cut)?).ok();
    let [left, right, top, bottom] = edges.map(|edge| edge.min(1 << 14) * 2);
    let width = side(columns.min(1 << 12) * 16, left + right)?;
    Some([width, side(rows.min(1 << 12) * lines, (top + bottom) * (1 + u32::from(fields)))?])
}

/// Reads bits, past bytes of emulation prevention (§7.4.1).
struct Bits<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        let at = self.place / 8;
        let before = at.checked_sub(2).and_then(|from| self.bytes.get(from..at));
        if self.place.is_multiple_of(8) && before == Some(&[0, 0]) && self.bytes.get(at) == Some(&3)
        {
            self.place += 8;
        }
        let byte = self.bytes.get(self.place / 8)?;
        let bit = byte >> (7 - self.place % 8) & 1;
        self.place += 1;
        Some(bit.into())
    }

    /// `ue(v)` (§9.1).
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 16 {
                return None;
            }
        }
        (0..zeros).try_fold(1_u32, |value, _| Some(value << 1 | self.bit()?)).map(|it| it - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{VideoSettings, VideoSource};

    #[test]
    fn keyframes_tell_the_size_and_other_packets_none() {
        for codec in [Codec::H264, Codec::Vp8] {
            for wanted in [[1_280, 720], [640, 360], [320, 180], [1_920, 1_080]] {
                let settings = VideoSettings { codec, size: wanted, ..VideoSettings::default() };
                let mut source = VideoSource::new(settings, 96, 1);
                let mut told = |frame: usize| {
                    let packets = (0..=frame).map(|_| source.next_frame().packets).last();
                    let starts = packets.into_iter().flatten().map(|packet| {
                        let mut start = [0; LOOKED_AT];
                        let length = LOOKED_AT.min(packet.payload.len());
                        start[..length].copy_from_slice(&packet.payload[..length]);
                        size(codec, &start)
                    });
                    starts.flatten().collect::<Vec<_>>()
                };
                assert_eq!(told(0), [wanted], "{codec}");
                assert_eq!(told(0), [[0_u16; 2]; 0], "{codec}");
            }
        }
    }

    #[test]
    fn whatever_comes_is_read_without_harm() {
        let mut dice = 1_u64;
        for _ in 0..20_000 {
            let start = std::array::from_fn(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (dice >> 56) as u8
            });
            let with = |head: &[u8]| {
                let mut start: [u8; LOOKED_AT] = start;
                start[..head.len()].copy_from_slice(head);
                start
            };
            let _ = size(Codec::H264, &with(&[0x67, 66]));
            let _ = size(Codec::H264, &with(&[24, 0, 9, 0x67, 77]));
            let _ = size(Codec::Vp8, &with(&[0x90]));
        }
    }
}
