//! H.264 in RTP (RFC 6184): where a decoder can start, and how large the picture is.
//!
//! Reads single NAL units, STAP-A and FU-A: what packetization modes 0 and 1 carry. The
//! interleaved mode 2 is never negotiated. Fuzz target: `codec_h264`.

use super::bits::BitReader;

const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Whether an access unit that a decoder can start with begins here: the packet carries a
/// sequence parameter set, or the start of the first slice of an IDR picture.
pub fn is_keyframe(payload: &[u8]) -> bool {
    carries_parameters(payload) || starts_idr(payload)
}

/// Whether the packet carries a sequence parameter set. A keyframe has at least two packets that
/// are starts by [`is_keyframe`] when its parameter sets travel apart from its picture.
pub fn carries_parameters(payload: &[u8]) -> bool {
    nal_units(payload).any(|nal| nal_type(nal) == Some(SPS))
}

/// The picture's size after cropping, where the packet carries a sequence parameter set.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    nal_units(payload).find(|nal| nal_type(nal) == Some(SPS)).and_then(sps_dimensions)
}

fn starts_idr(payload: &[u8]) -> bool {
    if nal_type(payload) == Some(FU_A) {
        // RFC 6184 §5.8: indicator, then S E R and the type of the fragmented unit.
        let Some(&[_, fragment, slice]) = payload.first_chunk() else { return false };
        return fragment & 0x80 != 0 && fragment & 0x1f == IDR_SLICE && is_first_slice(slice);
    }
    nal_units(payload).any(|nal| {
        nal_type(nal) == Some(IDR_SLICE) && nal.get(1).is_some_and(|&slice| is_first_slice(slice))
    })
}

/// A slice header opens with `first_mb_in_slice` as `ue(v)`, whose zero is a single set bit.
fn is_first_slice(first_byte: u8) -> bool {
    first_byte & 0x80 != 0
}

fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header & 0x1f)
}

/// The complete NAL units of a packet: its one, or those of its STAP-A (RFC 6184 §5.7.1).
fn nal_units(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (single, aggregate): (Option<&[u8]>, &[u8]) = match nal_type(payload) {
        Some(STAP_A) => (None, payload.get(1..).unwrap_or_default()),
        Some(1..=23) => (Some(payload), &[]),
        _ => (None, &[]),
    };
    single.into_iter().chain(super::sized_units(aggregate))
}

/// Reads the sequence parameter set (H.264 §7.3.2.1.1) up to the cropping.
fn sps_dimensions(nal: &[u8]) -> Option<(u16, u16)> {
    let mut sps = BitReader::escaped(nal.get(1..)?);
    let profile = sps.bits(8)?;
    sps.skip(16)?; // constraint flags, level
    sps.unsigned()?; // id
    let mut chroma_format = 1;
    if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
        chroma_format = sps.unsigned()?;
        if chroma_format == 3 && sps.flag()? {
            chroma_format = 0; // three monochrome planes
        }
        sps.unsigned()?; // luma bit depth
        sps.unsigned()?; // chroma bit depth
        sps.skip(1)?; // lossless bypass
        if sps.flag()? {
            skip_scaling_lists(&mut sps, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    sps.unsigned()?; // frame number bits
    match sps.unsigned()? {
        0 => {
            sps.unsigned()?;
        }
        1 => {
            sps.skip(1)?;
            sps.signed()?;
            sps.signed()?;
            for _ in 0..sps.unsigned()?.min(255) {
                sps.signed()?;
            }
        }
        _ => {}
    }
    sps.unsigned()?; // reference frames
    sps.skip(1)?; // gaps in frame numbers
    let columns = sps.unsigned()?.checked_add(1)?;
    let rows = sps.unsigned()?.checked_add(1)?;
    let frame_only = sps.flag()?;
    if !frame_only {
        sps.skip(1)?; // frame and field macroblocks mixed
    }
    sps.skip(1)?; // direct 8x8 inference
    let fields = if frame_only { 1 } else { 2 };
    let (mut width, mut height) = (columns.checked_mul(16)?, rows.checked_mul(16 * fields)?);
    if sps.flag()? {
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2 * fields),
            2 => (2, fields),
            _ => (1, fields),
        };
        let crop_x = sps.unsigned()?.checked_add(sps.unsigned()?)?.checked_mul(unit_x)?;
        let crop_y = sps.unsigned()?.checked_add(sps.unsigned()?)?.checked_mul(unit_y)?;
        width = width.checked_sub(crop_x)?;
        height = height.checked_sub(crop_y)?;
    }
    super::size(width, height)
}

/// H.264 §7.3.2.1.1.1.
fn skip_scaling_lists(sps: &mut BitReader<'_>, lists: u32) -> Option<()> {
    for list in 0..lists {
        if !sps.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = last.checked_add(sps.signed()?)?.rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    /// SPS and PPS of a 642x362 stream in one STAP-A, as ffmpeg packs x264's.
    const STAP: &str = "1800196742c01eda0290bf88930110000003001000000303c8f162ea000468ce0fc8";

    #[test]
    fn starts_are_parameter_sets_and_first_idr_slices() {
        // The payload, whether a decoder can start there, whether it has parameter sets.
        let table = [
            (STAP, true, true),
            ("6742c01eda0290bf88", true, true),    // SPS alone
            ("68ce0fc8", false, false),            // PPS alone
            ("658884", true, false),               // whole IDR slice
            ("6500f6", false, false),              // second IDR slice
            ("7c858884", true, false),             // FU-A, start of the first IDR slice
            ("7c8500f6", false, false),            // FU-A, start of the second
            ("7c050002", false, false),            // FU-A, middle
            ("7c45e000", false, false),            // FU-A, end
            ("419a22bc", false, false),            // other slice
            ("18000268ce0003658884", true, false), // STAP-A of PPS and IDR slice
            ("1800ff68ce", false, false),          // STAP-A that lies about a length
            ("7c85", false, false),
            ("18", false, false),
            ("", false, false),
        ];
        for (payload, start, parameters) in table {
            let bytes = hex(payload);
            assert_eq!(is_keyframe(&bytes), start, "{payload}");
            assert_eq!(carries_parameters(&bytes), parameters, "{payload}");
        }
    }

    #[test]
    fn the_size_is_read_with_cropping_chroma_and_fields() {
        // Baseline with bottom and right cropping; High, interlaced; OpenH264 as in Chromium.
        let table = [
            (STAP, (642, 362)),
            ("6764001eace80a463cf36022000003000200000300783e285540", (644, 364)),
            ("6742c01f8c8d40501e900f08846a", (640, 480)),
        ];
        for (payload, size) in table {
            assert_eq!(dimensions(&hex(payload)), Some(size), "{payload}");
        }
        assert_eq!(dimensions(&hex("68ce0fc8")), None);
    }

    #[test]
    fn cut_short_anywhere_nothing_panics() {
        let whole = hex(STAP);
        for end in 0..whole.len() {
            let _ = (is_keyframe(&whole[..end]), dimensions(&whole[..end]));
        }
        // A reader that runs past a cut would answer for the parameter set alone.
        assert_eq!(dimensions(&whole[3..12]), None);
    }
}
