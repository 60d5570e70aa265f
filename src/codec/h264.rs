//! H.264 in RTP (RFC 6184): where a decoder can start, how large the picture is, and whether
//! pictures are shown in another order than they are sent in.
//!
//! Reads single NAL units, STAP-A and FU-A: what packetization modes 0 and 1 carry. The
//! interleaved mode 2 is never negotiated. Fuzz target: `codec_h264`.

use super::SampleFormat;
use super::bits::BitReader;

/// Types of NAL unit (H.264 table 7-1) and of packet (RFC 6184 table 1).
pub(super) const IDR_SLICE: u8 = 5;
pub(super) const SEI: u8 = 6;
pub(super) const SPS: u8 = 7;
pub(super) const PPS: u8 = 8;
pub(super) const STAP_A: u8 = 24;
pub(super) const FU_A: u8 = 28;

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
    nal_units(payload).find(|nal| nal_type(nal) == Some(SPS)).and_then(|nal| read_sps(nal)?.size)
}

/// How many pictures a decoder has to hold back at most, to show them in their order, as a sequence
/// parameter set says; `None` where the NAL unit is none, or does not say.
pub fn reordering(nal: &[u8]) -> Option<u32> {
    (nal_type(nal) == Some(SPS)).then(|| read_sps(nal)?.reordering).flatten()
}

/// How samples are laid out, as a sequence parameter set says.
pub(super) fn sample_format(nal: &[u8]) -> Option<SampleFormat> {
    (nal_type(nal) == Some(SPS)).then(|| read_sps(nal).map(|sps| sps.format)).flatten()
}

/// Whether other pictures may be predicted from the picture of this slice; `None` where the NAL
/// unit is no slice.
pub fn is_reference(nal: &[u8]) -> Option<bool> {
    let header = nal.first()?;
    matches!(header & 0x1f, 1..=5).then_some(header & 0x60 != 0)
}

/// The number of a sequence parameter set, below 32 (H.264 §7.4.2.1.1).
pub(super) fn sps_id(nal: &[u8]) -> Option<u8> {
    let id = BitReader::escaped(nal.get(4..)?).unsigned()?;
    (id < 32).then_some(id as u8)
}

/// The number of a picture parameter set, below 256 (H.264 §7.4.2.2).
pub(super) fn pps_id(nal: &[u8]) -> Option<u8> {
    BitReader::escaped(nal.get(1..)?).unsigned()?.try_into().ok()
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

pub(super) fn nal_type(nal: &[u8]) -> Option<u8> {
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

/// What a sequence parameter set says.
struct Sps {
    /// After cropping.
    size: Option<(u16, u16)>,
    format: SampleFormat,
    /// See [`reordering`].
    reordering: Option<u32>,
}

/// Reads the sequence parameter set (H.264 §7.3.2.1.1).
fn read_sps(nal: &[u8]) -> Option<Sps> {
    let mut sps = BitReader::escaped(nal.get(1..)?);
    let profile = sps.bits(8)?;
    sps.skip(16)?; // constraint flags, level
    sps.unsigned()?; // id
    let (format, chroma_format) = read_chroma(&mut sps, profile)?;
    sps.unsigned()?; // frame number bits
    let order = sps.unsigned()?;
    match order {
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
    // Baseline has no B slices (H.264 §A.2.1); an order of type 2 is that of decoding (§8.2.1.3).
    let in_order = profile == 66 || order == 2;
    let reordering = if in_order { Some(0) } else { read_reordering(&mut sps) };
    Some(Sps { size: super::size(width, height), format, reordering })
}

/// How samples are laid out, and by what chroma counts in the size (`ChromaArrayType`): the high
/// profiles say it.
fn read_chroma(sps: &mut BitReader<'_>, profile: u32) -> Option<(SampleFormat, u32)> {
    if !matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244)
    {
        return Some((SampleFormat { chroma: 1, luma_depth: 0, chroma_depth: 0 }, 1));
    }
    let chroma_format = sps.unsigned()?;
    let (lists, mut array) = (if chroma_format == 3 { 12 } else { 8 }, chroma_format);
    if chroma_format == 3 && sps.flag()? {
        array = 0; // three monochrome planes
    }
    let format = SampleFormat::read(chroma_format, sps)?;
    sps.skip(1)?; // lossless bypass
    if sps.flag()? {
        skip_scaling_lists(sps, lists)?;
    }
    Some((format, array))
}

/// `max_num_reorder_frames`, near the end of the usability information (H.264 §E.1.1).
fn read_reordering(sps: &mut BitReader<'_>) -> Option<u32> {
    const EXTENDED_ASPECT: u32 = 255;
    if !sps.flag()? {
        return None; // no usability information
    }
    if sps.flag()? && sps.bits(8)? == EXTENDED_ASPECT {
        sps.skip(32)?;
    }
    if sps.flag()? {
        sps.skip(1)?; // overscan
    }
    if sps.flag()? {
        sps.skip(4)?; // video format, range
        if sps.flag()? {
            sps.skip(24)?; // colours
        }
    }
    if sps.flag()? {
        sps.unsigned()?; // where chroma samples lie
        sps.unsigned()?;
    }
    if sps.flag()? {
        sps.skip(65)?; // timing
    }
    let nal = sps.flag()?;
    if nal {
        skip_buffering(sps)?;
    }
    let all = sps.flag()?;
    if all {
        skip_buffering(sps)?;
    }
    if nal || all {
        sps.skip(1)?; // low delay
    }
    sps.skip(1)?; // picture structure
    if !sps.flag()? {
        return None; // no restrictions
    }
    sps.skip(1)?; // motion over boundaries
    for _ in 0..4 {
        sps.unsigned()?; // sizes, lengths of vectors
    }
    sps.unsigned()
}

/// H.264 §E.1.2.
fn skip_buffering(sps: &mut BitReader<'_>) -> Option<()> {
    let buffers = sps.unsigned()?.min(31);
    sps.skip(8)?;
    for _ in 0..=buffers {
        sps.unsigned()?;
        sps.unsigned()?;
        sps.skip(1)?;
    }
    sps.skip(20)
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
    fn the_reordering_is_read_where_it_is_said() {
        let table = [
            ("6742c01eda0290bf88930110000003001000000303c8f162ea", Some(0)), // Baseline
            ("6764000aacd9420bf970110000030001000003003c0f122596", Some(2)), // x264, pyramid
            ("6764000aacd3082fe5c044000003000400000300f03c4894e0", Some(1)), // x264, bframes=2
            ("6764000aacb6105fcb8088000003000800000301e0789137", Some(0)),   // x264, bframes=0
            ("6764000aacd3082fe5c0", None), // without its usability information
            ("68ce0fc8", None),
            ("6764001eac", None),
        ];
        for (nal, reordering) in table {
            assert_eq!(super::reordering(&hex(nal)), reordering, "{nal}");
        }
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
