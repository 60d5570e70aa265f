//! Packets of pictures as encoders make them: what the server reads of each codec is as it should
//! be, the rest says who sent it and no other packet says the same.

use crate::scalable::Says;
use millrace::media::codec::Codec;

/// A picture parameter set, which travels apart from the picture.
const PPS: &[u8] = b"\x68\xce\x06\xe2";
/// The longest side that is told: codes of such numbers are 13 bits long.
const SIDE_MAX: u16 = 2_000;

/// A packet's place in its picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) keyframe: bool,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// Whose a packet is, and which of its packets: this makes it unlike all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) publisher: usize,
    /// Of which of its lanes.
    pub(crate) lane: usize,
    pub(crate) number: usize,
}

impl Stamp {
    /// Its bytes.
    pub(crate) const LEN: usize = 10;

    pub(crate) fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&(self.number as u64).to_be_bytes());
        bytes[0] = self.lane as u8;
        bytes[8..].copy_from_slice(&(self.publisher as u16).to_be_bytes());
        bytes
    }
}

/// What a codec sends in packets of their own before a keyframe of this size.
pub(crate) fn parameters(codec: Codec, size: (u16, u16)) -> Vec<Vec<u8>> {
    match codec {
        Codec::H264 => vec![sequence_parameters(size), PPS.to_vec()],
        // Video, sequence and picture parameter set; their content is not needed here.
        Codec::H265 => {
            [b"\x40\x01\x0c", b"\x42\x01\x01", b"\x44\x01\xc0"].map(|it| it.to_vec()).into()
        }
        Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::Opus => Vec::new(),
    }
}

/// Bits, first to last.
#[derive(Default)]
pub(crate) struct Bits(Vec<bool>);

impl Bits {
    pub(crate) fn put(mut self, value: u32, len: u32) -> Self {
        self.0.extend((0..len).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    /// An Exp-Golomb code (H.264 §9.1).
    fn code(self, value: u32) -> Self {
        let len = 32 - (value + 1).leading_zeros();
        self.put(value + 1, 2 * len - 1)
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at))
        };
        self.0.chunks(8).map(byte).collect()
    }
}

/// A sequence parameter set (H.264 §7.3.2.1.1) of the Baseline profile.
fn sequence_parameters((width, height): (u16, u16)) -> Vec<u8> {
    debug_assert!(width.max(height) <= SIDE_MAX && width % 16 == 0 && height % 16 == 0);
    let blocks = |side: u16| u32::from(side) / 16 - 1;
    let bits = Bits::default().put(0x67, 8).put(66, 8).put(0xe0, 8).put(31, 8);
    // Numbers of frames, the order in which they are shown, references, gaps.
    let bits = bits.code(0).code(0).code(2).code(1).put(0, 1);
    let bits = bits.code(blocks(width)).code(blocks(height));
    // Frames, inference, no cropping, nothing on usability, and the stop bit.
    bits.put(0b11001, 5).bytes()
}

/// A packet of a picture: as many bytes as asked for, or as its beginning and its stamp need. It
/// says what its frame is, where frames can be left out.
pub(crate) fn packet(
    codec: Codec,
    (place, says): (Place, Option<Says>),
    size: (u16, u16),
    stamp: Stamp,
    len: usize,
) -> Vec<u8> {
    let mut packet = beginning(codec, place, says, size);
    packet.extend(stamp.bytes());
    let filled = len.max(packet.len());
    packet.resize(filled, (stamp.number * 31) as u8);
    packet
}

fn beginning(
    codec: Codec,
    place: Place,
    says: Option<Says>,
    (width, height): (u16, u16),
) -> Vec<u8> {
    let Place { keyframe, first, last } = place;
    let bit = |set: bool, place: u8| u8::from(set) << place;
    let descriptor =
        |single: u8| says.map_or(vec![single], |says| says.descriptor(place, (width, height)));
    match codec {
        // Fragments of a slice (RFC 6184 §5.8).
        Codec::H264 => {
            let kind = if keyframe { 5 } else { 1 };
            let slice = if first { 0x88 } else { 0x11 };
            vec![0x7c, bit(first, 7) | bit(last, 6) | kind, slice]
        }
        // The same (RFC 7798 §4.4.3).
        Codec::H265 => {
            let kind = if keyframe { 19 } else { 1 };
            let slice = if first { 0x88 } else { 0x11 };
            vec![49 << 1, 1, bit(first, 7) | bit(last, 6) | kind, slice]
        }
        // Descriptor without extensions, then the frame tag (RFC 7741 §4.2, RFC 6386 §9.1).
        Codec::Vp8 => {
            let [[w0, w1], [h0, h1]] = [width, height].map(u16::to_le_bytes);
            let header = [0, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1];
            let inter = [bit(!keyframe, 0)];
            let header = if keyframe && first { header.as_slice() } else { &inter };
            [&descriptor(bit(first, 4)), header].concat()
        }
        // Descriptor, then the uncompressed header with its start code (RFC 9628 §4.2).
        Codec::Vp9 => {
            let mut all = descriptor(bit(!keyframe, 6) | bit(first, 3) | bit(last, 2));
            match (first, keyframe) {
                (true, true) => {
                    let sides = [width, height].map(|side| u32::from(side) - 1);
                    let header = Bits::default().put(0x8249_8342, 32).put(0, 4);
                    all.extend(header.put(sides[0], 16).put(sides[1], 16).bytes());
                }
                (true, false) => all.push(0x86),
                (false, _) => {}
            }
            all
        }
        // The aggregation header: one element, which the packets share (AV1 RTP §4.4).
        Codec::Av1 => {
            let begins_sequence = keyframe && first;
            let head = bit(!first, 7) | bit(!last, 6) | bit(true, 4) | bit(begins_sequence, 3);
            if !begins_sequence {
                return vec![head, 0x0a];
            }
            // A reduced sequence header (AV1 specification §5.5.1).
            let sides = [width, height].map(|side| u32::from(side) - 1);
            let header = Bits::default().put(0b11, 5).put(0, 5).put(0xff, 8);
            let header = header.put(sides[0], 16).put(sides[1], 16).bytes();
            [[head, 0x0a].as_slice(), &header].concat()
        }
        Codec::Opus => Vec::new(),
    }
}
