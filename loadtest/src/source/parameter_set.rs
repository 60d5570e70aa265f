//! The sequence parameter set of an H.264 stream that tells the size of its pictures (ITU-T H.264
//! §7.3.2.1.1): constrained baseline, one reference, no reordering.

/// `profile_idc` 66 with the constraint flags of constrained baseline (ITU-T H.264 §A.2.1.1).
const PROFILE: [u8; 2] = [66, 0xE0];
/// Levels by the macroblocks of a picture (ITU-T H.264 Table A-1).
const LEVELS: [(u32, u8); 3] = [(3_600, 31), (8_192, 40), (36_864, 51)];

/// The NAL unit, header included. Sides are even, and at least two.
pub(super) fn h264_sequence_parameter_set([width, height]: [u16; 2]) -> Vec<u8> {
    let (columns, rows) = (u32::from(width).div_ceil(16), u32::from(height).div_ceil(16));
    let level = LEVELS.iter().find(|(most, _)| columns * rows <= *most).map_or(62, |it| it.1);
    let mut bits = Bits::default();
    bits.unsigned(0); // seq_parameter_set_id
    bits.unsigned(0); // log2_max_frame_num_minus4
    bits.unsigned(2); // pic_order_cnt_type: in decoding order
    bits.unsigned(1); // max_num_ref_frames
    bits.bit(false); // gaps_in_frame_num_value_allowed_flag
    bits.unsigned(columns - 1);
    bits.unsigned(rows - 1);
    bits.bit(true); // frame_mbs_only_flag
    bits.bit(true); // direct_8x8_inference_flag
    let (right, bottom) = (columns * 16 - u32::from(width), rows * 16 - u32::from(height));
    bits.bit(right + bottom > 0);
    if right + bottom > 0 {
        // In units of two samples (§7.4.2.1.1, 4:2:0).
        for edge in [0, right / 2, 0, bottom / 2] {
            bits.unsigned(edge);
        }
    }
    bits.bit(false); // vui_parameters_present_flag
    bits.bit(true); // rbsp_stop_one_bit
    let head = [0x67, PROFILE[0], PROFILE[1], level];
    head.into_iter().chain(bits.into_bytes()).collect()
}

/// Bits, the first of each byte its highest.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn bit(&mut self, bit: bool) {
        self.0.push(bit);
    }

    /// `ue(v)`: as many zeros as there are bits after the first one (ITU-T H.264 §9.1).
    fn unsigned(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = u64::BITS - code.leading_zeros();
        self.0.extend((1..length).map(|_| false));
        self.0.extend((0..length).rev().map(|place| code >> place & 1 == 1));
    }

    /// With emulation prevention (§7.4.1): no two zeros are followed by three or less.
    fn into_bytes(self) -> Vec<u8> {
        let (mut bytes, mut zeros) = (Vec::new(), 0);
        for chunk in self.0.chunks(8) {
            let value = |(place, bit): (usize, &bool)| u8::from(*bit) << (7 - place);
            let byte = chunk.iter().enumerate().map(value).sum();
            if zeros >= 2 && byte <= 3 {
                bytes.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            bytes.push(byte);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_an_encoder_writes_them() {
        // 1280x720 are 80 by 45 macroblocks: nothing is cut off.
        // 1 1 011 010 0, ue(79) 0000001010000, ue(44) 00000101101, 1 1 0 0 1
        assert_eq!(
            h264_sequence_parameter_set([1_280, 720]),
            [0x67, 66, 0xE0, 31, 0b1101_1010, 0b0000_0001, 0b0100_0000, 0b0001_0110, 0b1110_0100]
        );
    }

    #[test]
    fn what_is_no_multiple_of_sixteen_is_cropped() {
        let [whole, cropped] = [[640, 368], [640, 360]].map(h264_sequence_parameter_set);
        // The same macroblocks; then a flag, and four lines less in units of two.
        assert_eq!(whole[..7], cropped[..7]);
        assert!(cropped.len() > whole.len(), "{whole:02x?} {cropped:02x?}");
        assert_eq!(h264_sequence_parameter_set([1_920, 1_080])[3], 40);
    }

    #[test]
    fn zeros_are_kept_apart() {
        let bits = Bits(vec![false; 32]);
        assert_eq!(bits.into_bytes(), [0, 0, 3, 0, 0]);
    }
}
