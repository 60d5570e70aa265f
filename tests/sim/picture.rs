//! Packets of pictures as encoders make them: what the server reads of each codec is as it should
//! be, the rest says who sent it and no other packet says the same.

use millrace::media::codec::Codec;

/// Parameter sets of 1280x720 pictures, which travel apart from the picture.
const SPS: &[u8] = b"\x67\x42\xe0\x1f\xda\x01\x40\x16\xe8\x06\xd0\xa1\x35";
const PPS: &[u8] = b"\x68\xce\x06\xe2";

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
    pub(crate) number: usize,
}

impl Stamp {
    /// Its bytes.
    pub(crate) const LEN: usize = 10;

    pub(crate) fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&(self.number as u64).to_be_bytes());
        bytes[8..].copy_from_slice(&(self.publisher as u16).to_be_bytes());
        bytes
    }
}

/// What a codec sends in packets of their own before a keyframe.
pub(crate) fn parameters(codec: Codec) -> &'static [&'static [u8]] {
    match codec {
        Codec::H264 => &[SPS, PPS],
        // Video, sequence and picture parameter set; their content is not needed here.
        Codec::H265 => &[b"\x40\x01\x0c", b"\x42\x01\x01", b"\x44\x01\xc0"],
        Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::Opus => &[],
    }
}

/// A packet of a picture: as many bytes as asked for, or as its beginning and its stamp need.
pub(crate) fn packet(codec: Codec, place: Place, stamp: Stamp, len: usize) -> Vec<u8> {
    let mut packet = beginning(codec, place);
    packet.extend(stamp.bytes());
    let filled = len.max(packet.len());
    packet.resize(filled, (stamp.number * 31) as u8);
    packet
}

fn beginning(codec: Codec, Place { keyframe, first, last }: Place) -> Vec<u8> {
    let bit = |set: bool, place: u8| u8::from(set) << place;
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
        Codec::Vp8 => vec![bit(first, 4), bit(!keyframe, 0)],
        // Descriptor, then the uncompressed header with its start code (RFC 9628 §4.2).
        Codec::Vp9 => {
            let descriptor = bit(!keyframe, 6) | bit(first, 3) | bit(last, 2);
            match (first, keyframe) {
                (true, true) => vec![descriptor, 0x82, 0x49, 0x83, 0x42],
                (true, false) => vec![descriptor, 0x86],
                (false, _) => vec![descriptor],
            }
        }
        // The aggregation header: one element, which the packets share (AV1 RTP §4.4).
        Codec::Av1 => {
            let begins_sequence = keyframe && first;
            vec![bit(!first, 7) | bit(!last, 6) | bit(true, 4) | bit(begins_sequence, 3), 0x0a]
        }
        Codec::Opus => Vec::new(),
    }
}
