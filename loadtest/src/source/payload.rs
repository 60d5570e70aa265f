//! One synthetic frame cut into payloads, as each codec's RTP format wants it.
//!
//! Every payload ends in room for a stamp, except those that carry parameter sets only.

use super::STAMP_BYTES;
use super::parameter_set::h264_sequence_parameter_set;
use crate::codec::Codec;

/// Baseline 640x360 parameter sets of a real encoder.
pub(super) const H264_SPS: [u8; 23] = [
    0x67, 0x42, 0xE0, 0x1F, 0xD9, 0x00, 0xA0, 0x2F, 0xF9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3C, 0x8F, 0x16,
];
pub(super) const H264_PPS: [u8; 4] = [0x68, 0xCB, 0x83, 0xCB];
const H265_VPS: [u8; 6] = [0x40, 0x01, 0x0C, 0x01, 0xFF, 0xFF];
const H265_SPS: [u8; 8] = [0x42, 0x01, 0x01, 0x01, 0x60, 0x5D, 0xA0, 0x88];
const H265_PPS: [u8; 6] = [0x44, 0x01, 0xC1, 0x72, 0xB4, 0x62];
/// VP9 bitstream specification §6.2: a shown keyframe of profile 0, sync code, BT.709; its size
/// follows after four bits.
const VP9_KEYFRAME: [u8; 4] = [0x82, 0x49, 0x83, 0x42];
/// A shown frame of profile 0 that is predicted from others.
const VP9_DELTA_FRAME: [u8; 1] = [0x86];
/// RFC 6184 §5.2: the two types of payload that hold more or less than one NAL unit.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// Width and height in the headers that have them, unless they are chosen.
pub(super) const SIZE: [u16; 2] = [640, 360];

/// What a frame is to be made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameShape {
    pub(super) codec: Codec,
    pub(super) keyframe: bool,
    /// Bytes of coded picture.
    pub(super) bytes: usize,
    /// Most bytes in one payload.
    pub(super) payload_max: usize,
    /// Counts the frames: VP8's and VP9's picture id, and the filling.
    pub(super) number: u64,
    /// Width and height, where a header has them.
    pub(super) size: [u16; 2],
}

/// Cuts a frame into payloads.
pub(super) fn packetize(shape: FrameShape) -> Vec<Vec<u8>> {
    match shape.codec {
        Codec::H264 => h264(shape),
        Codec::H265 => h265(shape),
        Codec::Vp8 => vp8(shape),
        Codec::Vp9 => vp9(shape),
        Codec::Av1 => av1(shape),
        Codec::Opus => vec![opus(shape)],
    }
}

/// RFC 6184: STAP-A with the parameter sets (§5.7.1), then the slice, as FU-A (§5.8) if need be.
fn h264(shape: FrameShape) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    if shape.keyframe {
        payloads.push(h264_parameters(shape.size));
    }
    let header: u8 = if shape.keyframe { 0x65 } else { 0x41 };
    let pieces = cut(shape, 2);
    let count = pieces.len();
    payloads.extend(pieces.into_iter().enumerate().map(|(at, piece)| {
        if count == 1 {
            return [&[header][..], &piece].concat();
        }
        let bits = start_end(at, count);
        [&[(header & 0x60) | FU_A, bits | (header & 0x1F)][..], &piece].concat()
    }));
    payloads
}

/// The parameter sets of H.264 as one aggregate.
pub(super) fn h264_parameters(size: [u16; 2]) -> Vec<u8> {
    aggregate(&[0x60 | STAP_A], &[&h264_sequence_parameter_set(size), &H264_PPS])
}

/// A fragment of a slice, of so many bytes.
pub(super) fn h264_fragment(keyframe: bool, first: bool, last: bool, bytes: usize) -> Vec<u8> {
    let header: u8 = if keyframe { 0x65 } else { 0x41 };
    let edges = (u8::from(first) << 7) | (u8::from(last) << 6);
    let mut payload = vec![0xA5; bytes];
    payload.splice(..2.min(bytes), [(header & 0x60) | FU_A, edges | (header & 0x1F)]);
    payload
}

/// RFC 7798: an aggregation packet (§4.4.2), then fragmentation units (§4.4.3).
fn h265(shape: FrameShape) -> Vec<Vec<u8>> {
    const AP: u8 = 48;
    const FU: u8 = 49;
    const IDR_W_RADL: u8 = 19;
    const TRAIL_R: u8 = 1;
    let mut payloads = Vec::new();
    if shape.keyframe {
        payloads.push(aggregate(&[AP << 1, 1], &[&H265_VPS, &H265_SPS, &H265_PPS]));
    }
    let kind = if shape.keyframe { IDR_W_RADL } else { TRAIL_R };
    let pieces = cut(shape, 3);
    let count = pieces.len();
    payloads.extend(pieces.into_iter().enumerate().map(|(at, piece)| {
        if count == 1 {
            return [&[kind << 1, 1][..], &piece].concat();
        }
        [&[FU << 1, 1, start_end(at, count) | kind][..], &piece].concat()
    }));
    payloads
}

/// RFC 7741: descriptor with a 15-bit picture id (§4.2), payload header in the first (§4.3).
fn vp8(shape: FrameShape) -> Vec<Vec<u8>> {
    let [id_high, id_low] = picture_id(shape.number);
    let mut start = vec![0x10 | u8::from(!shape.keyframe), 0x20, 0x00];
    if shape.keyframe {
        start.extend([0x9D, 0x01, 0x2A]);
        start.extend(shape.size.iter().flat_map(|side| side.to_le_bytes()));
    }
    let pieces = cut(shape, 4 + start.len());
    let with_header = |(at, piece): (usize, Vec<u8>)| {
        let first = at == 0;
        let descriptor = [if first { 0x90 } else { 0x80 }, 0x80, id_high, id_low];
        let header: &[u8] = if first { &start } else { &[] };
        [&descriptor[..], header, &piece].concat()
    };
    pieces.into_iter().enumerate().map(with_header).collect()
}

/// RFC 9628 §4.2: non-flexible mode, one spatial layer, scalability structure on keyframes.
fn vp9(shape: FrameShape) -> Vec<Vec<u8>> {
    let [id_high, id_low] = picture_id(shape.number);
    let mut structure = vec![0x10];
    structure.extend(shape.size.iter().flat_map(|side| side.to_be_bytes()));
    let keyframe = vp9_keyframe(shape.size);
    let header: &[u8] = if shape.keyframe { &keyframe } else { &VP9_DELTA_FRAME };
    let pieces = cut(shape, 3 + structure.len() + header.len());
    let count = pieces.len();
    let with_header = |(at, piece): (usize, Vec<u8>)| {
        let (first, last) = (at == 0, at + 1 == count);
        let with_structure = shape.keyframe && first;
        let bits = [
            (true, 0x80),
            (!shape.keyframe, 0x40),
            (first, 0x08),
            (last, 0x04),
            (with_structure, 0x02),
        ];
        let flags = bits.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
        let structure: &[u8] = if with_structure { &structure } else { &[] };
        let header = if first { header } else { &[] };
        [&[flags, id_high, id_low][..], structure, header, &piece].concat()
    };
    pieces.into_iter().enumerate().map(with_header).collect()
}

/// The uncompressed header of a keyframe, as far as its size: each side less one, in 16 bits.
fn vp9_keyframe([width, height]: [u16; 2]) -> Vec<u8> {
    let size = u64::from(width.saturating_sub(1)) << 16 | u64::from(height.saturating_sub(1));
    // Colour space and range end in the middle of a byte, and so does all that follows.
    let bits = (0x4_u64 << 32 | size) << 4;
    VP9_KEYFRAME.iter().copied().chain(bits.to_be_bytes().into_iter().skip(3)).collect()
}

/// AV1 RTP payload §4.4: Z and Y at the fragment's edges, N and a sequence header on keyframes.
fn av1(shape: FrameShape) -> Vec<Vec<u8>> {
    const SEQUENCE_HEADER: [u8; 6] = [0x08, 0x11, 0x22, 0x33, 0x44, 0x55];
    const FRAME: u8 = 6 << 3;
    let pieces = cut(shape, 3 + SEQUENCE_HEADER.len());
    let count = pieces.len();
    let with_header = |(at, piece): (usize, Vec<u8>)| {
        let (first, last) = (at == 0, at + 1 == count);
        let with_sequence = shape.keyframe && first;
        let elements: u8 = if with_sequence { 2 } else { 1 };
        let mut payload = vec![(u8::from(!first) << 7) | (u8::from(!last) << 6) | (elements << 4)];
        if with_sequence {
            payload[0] |= 0x08;
            payload.push(SEQUENCE_HEADER.len() as u8);
            payload.extend(SEQUENCE_HEADER);
        }
        if first {
            payload.push(FRAME);
        }
        payload.extend(piece);
        payload
    };
    pieces.into_iter().enumerate().map(with_header).collect()
}

/// RFC 6716 §3.1: 20 ms of full-band stereo CELT, one frame.
fn opus(shape: FrameShape) -> Vec<u8> {
    let mut payload = vec![0xFC];
    payload.extend(filling(shape, shape.bytes.max(STAMP_BYTES)));
    payload
}

/// A header followed by length-prefixed units.
fn aggregate(header: &[u8], units: &[&[u8]]) -> Vec<u8> {
    let mut payload = header.to_vec();
    for unit in units {
        payload.extend((unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    payload
}

/// The S and E bits of a fragment.
fn start_end(at: usize, count: usize) -> u8 {
    (u8::from(at == 0) << 7) | (u8::from(at + 1 == count) << 6)
}

fn picture_id(number: u64) -> [u8; 2] {
    ((number & 0x7FFF) as u16 | 0x8000).to_be_bytes()
}

/// The coded picture in pieces that leave room for `header` bytes in each payload.
fn cut(shape: FrameShape, header: usize) -> Vec<Vec<u8>> {
    let room = shape.payload_max.saturating_sub(header).max(STAMP_BYTES);
    let count = shape.bytes.div_ceil(room).max(1);
    let size = shape.bytes.div_ceil(count).max(STAMP_BYTES);
    (0..count)
        .map(|at| filling(FrameShape { number: shape.number + at as u64, ..shape }, size))
        .collect()
}

/// Bytes that depend on the number and are never zero, so that no start code appears in them.
fn filling(shape: FrameShape, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| ((shape.number * 31 + at * 7) % 255 + 1) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(codec: Codec, keyframe: bool, bytes: usize) -> FrameShape {
        FrameShape { codec, keyframe, bytes, payload_max: 1_100, number: 5, size: SIZE }
    }

    #[test]
    fn a_large_h264_keyframe_is_parameter_sets_and_fragments() {
        let payloads = packetize(shape(Codec::H264, true, 3_000));
        let kinds: Vec<u8> = payloads.iter().map(|payload| payload[0] & 0x1F).collect();
        assert_eq!(kinds, [24, 28, 28, 28]);
        assert_eq!(payloads[1][1], 0x80 | 5);
        assert_eq!(payloads[2][1], 5);
        assert_eq!(payloads[3][1], 0x40 | 5);
    }

    #[test]
    fn a_small_h264_frame_is_one_nal_unit() {
        let payloads = packetize(shape(Codec::H264, false, 300));
        assert_eq!(payloads.len(), 1);
        assert_eq!(payloads[0][0], 0x41);
    }

    #[test]
    fn no_payload_is_larger_than_asked_for() {
        for codec in Codec::VIDEO {
            for bytes in [1, 1_000, 1_100, 40_000] {
                for payload in packetize(shape(codec, true, bytes)) {
                    assert!(payload.len() <= 1_100, "{codec}: {}", payload.len());
                }
            }
        }
    }

    #[test]
    fn vp8_keyframes_carry_the_start_code_and_delta_frames_the_inverse_key_bit() {
        let key = packetize(shape(Codec::Vp8, true, 200));
        assert_eq!(key[0][4] & 1, 0);
        assert_eq!(key[0][7..10], [0x9D, 0x01, 0x2A]);
        assert_eq!(packetize(shape(Codec::Vp8, false, 200))[0][4] & 1, 1);
    }

    #[test]
    fn a_vp9_keyframe_tells_its_size() {
        let known = [0x82, 0x49, 0x83, 0x42, 0x40, 0x27, 0xF0, 0x16, 0x70];
        assert_eq!(vp9_keyframe([640, 360]), known);
    }

    #[test]
    fn av1_fragments_continue_one_another() {
        let payloads = packetize(shape(Codec::Av1, true, 2_500));
        let edges: Vec<u8> = payloads.iter().map(|payload| payload[0] >> 6).collect();
        assert_eq!(edges, [0b01, 0b11, 0b10]);
        assert_eq!(payloads[0][0] & 0x08, 0x08, "N marks the start of a coded video sequence");
    }
}
