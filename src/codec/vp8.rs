//! VP8 in RTP (RFC 7741): where a decoder can start, and how large the picture is.
//!
//! Fuzz target: `codec_vp8`.

use super::descriptor::Descriptor;
use crate::media::codec::Codec;

/// Whether a keyframe begins here: the start of the first partition, with the P bit clear.
pub fn is_keyframe(payload: &[u8]) -> bool {
    frame_start(payload).is_some_and(|frame| frame.first().is_some_and(|first| first & 1 == 0))
}

/// The picture's size, where a keyframe begins (RFC 6386 §9.1).
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    keyframe_size(frame_start(payload)?)
}

/// The same of a whole frame; `None` where it is no keyframe.
pub(super) fn keyframe_size(frame: &[u8]) -> Option<(u16, u16)> {
    let &[first, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk()? else {
        return None;
    };
    if first & 1 != 0 {
        return None;
    }
    // The two top bits of each are scaling hints for the display.
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    super::size(side(w0, w1), side(h0, h1))
}

/// The VP8 frame that begins in this packet, without payload descriptor.
fn frame_start(payload: &[u8]) -> Option<&[u8]> {
    let descriptor = Descriptor::read(Codec::Vp8, payload).filter(|it| it.begins)?;
    payload.get(usize::from(descriptor.len)..)
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    #[test]
    fn keyframes_start_where_the_first_partition_of_one_does() {
        let table = [
            ("9080800010b4009d012a82026a0100c7", true), // ffmpeg, 15-bit picture id
            ("80808000", false),                        // the same frame goes on
            ("90808001711e001d11fc001e", false),        // inter frame
            ("1010b4009d012a8002e001", true),           // no extension
            ("90e0ff8005a010b4009d012a8002e001", true), // picture id, TL0PICIDX, TID
            ("9080051 0b4009d012a8002e001", true),      // 7-bit picture id
            ("1110b4009d012a", false),                  // second partition
            ("9080", false),
            ("90", false),
            ("10", false),
            ("", false),
        ];
        for (payload, start) in table {
            assert_eq!(is_keyframe(&hex(payload)), start, "{payload}");
        }
    }

    #[test]
    fn the_size_is_read_from_the_keyframe_header() {
        assert_eq!(dimensions(&hex("9080800010b4009d012a82026a0100c7")), Some((642, 362)));
        assert_eq!(dimensions(&hex("1010b4009d012a8042e081")), Some((640, 480)), "scaling hints");
        assert_eq!(dimensions(&hex("1010b4009d012b8002e001")), None, "wrong start code");
        assert_eq!(dimensions(&hex("1010b4009d012a8002e0")), None, "cut short");
        assert_eq!(dimensions(&hex("90808001711e001d11fc001e0000")), None, "inter frame");
    }
}
