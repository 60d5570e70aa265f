//! H.265 in RTP (RFC 7798): where a decoder can start, how large the picture is, and whether
//! pictures are shown in another order than they are sent in.
//!
//! Reads single NAL units, aggregation packets and fragmentation units without decoding order
//! numbers: `sprop-max-don-diff` is never negotiated. Fuzz target: `codec_h265`.

use super::SampleFormat;
use super::bits::BitReader;

/// Intra random access pictures: BLA, IDR, CRA (H.265 table 7-1).
pub(super) const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=21;
/// Other types of NAL unit, and of packet (RFC 7798 §4.4).
pub(super) const VPS: u8 = 32;
pub(super) const SPS: u8 = 33;
pub(super) const PPS: u8 = 34;
pub(super) const AGGREGATION: u8 = 48;
pub(super) const FRAGMENTATION: u8 = 49;

/// Whether an access unit that a decoder can start with begins here: the packet carries a video
/// or sequence parameter set, or the start of the first slice of a random access picture.
pub fn is_keyframe(payload: &[u8]) -> bool {
    nal_units(payload).any(|nal| matches!(nal_type(nal), Some(VPS | SPS)))
        || starts_random_access(payload)
}

/// Whether the packet carries a video parameter set: the others refer to it and come after it. A
/// sequence parameter set alone may be what is left of a start whose first packet is on its way.
pub fn carries_parameters(payload: &[u8]) -> bool {
    nal_units(payload).any(|nal| nal_type(nal) == Some(VPS))
}

/// The picture's size after cropping, where the packet carries a sequence parameter set.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    nal_units(payload).find(|nal| nal_type(nal) == Some(SPS)).and_then(|nal| read_sps(nal)?.size)
}

/// How many pictures a decoder has to hold back at most, to show them in their order, and how many
/// temporal layers there are; `None` where the NAL unit is no sequence parameter set.
pub fn reordering(nal: &[u8]) -> Option<(u32, u8)> {
    if nal_type(nal) != Some(SPS) {
        return None;
    }
    let sps = read_sps(nal)?;
    Some((sps.reordering?, sps.layers))
}

/// How samples are laid out, as a sequence parameter set says.
pub(super) fn sample_format(nal: &[u8]) -> Option<SampleFormat> {
    (nal_type(nal) == Some(SPS)).then(|| read_sps(nal)?.format).flatten()
}

/// What a sequence parameter set opens with: how many temporal layers there are, whether they nest,
/// and the general profile, tier and level as they stand there, without escapes (H.265 §7.3.3).
pub(super) fn profile_tier_level(nal: &[u8]) -> Option<(u8, bool, [u8; 12])> {
    let mut sps = BitReader::escaped(nal.get(2..)?);
    sps.skip(4)?; // video parameter set
    let layers = sps.bits(3)? as u8 + 1;
    let nests = sps.flag()?;
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = sps.bits(8)? as u8;
    }
    Some((layers, nests, general))
}

/// Whether other pictures of its temporal layer may be predicted from the picture of this slice
/// (H.265 table 7-1), and which layer that is; `None` where the NAL unit is no slice.
pub fn is_reference(nal: &[u8]) -> Option<(bool, u8)> {
    let &[_, low] = nal.first_chunk()?;
    let layer = (low & 7).checked_sub(1)?;
    let kind = nal_type(nal)?;
    (kind < VPS).then_some((kind >= 16 || kind & 1 == 1, layer))
}

/// The number of a video parameter set.
pub(super) fn vps_id(nal: &[u8]) -> Option<u8> {
    nal.get(2).map(|byte| byte >> 4)
}

/// The number of a sequence parameter set, below 16 (H.265 §7.4.3.2.1).
pub(super) fn sps_id(nal: &[u8]) -> Option<u8> {
    let mut sps = BitReader::escaped(nal.get(2..)?);
    read_profile_and_level(&mut sps)?;
    let id = sps.unsigned()?;
    (id < 16).then_some(id as u8)
}

/// The number of a picture parameter set, below 64 (H.265 §7.4.3.3.1).
pub(super) fn pps_id(nal: &[u8]) -> Option<u8> {
    let id = BitReader::escaped(nal.get(2..)?).unsigned()?;
    (id < 64).then_some(id as u8)
}

/// What a sequence parameter set says of the stream, in the terms of `a=fmtp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability {
    pub(super) profile: u32,
    pub(super) tier: u32,
    pub(super) level: u32,
}

/// Profile, tier and level of a sequence parameter set.
pub(super) fn capability(nal: &[u8]) -> Option<Capability> {
    read_profile_and_level(&mut BitReader::escaped(nal.get(2..)?)).map(|(capability, _)| capability)
}

fn starts_random_access(payload: &[u8]) -> bool {
    if nal_type(payload) == Some(FRAGMENTATION) {
        // RFC 7798 §4.4.3: two bytes of header, then S E and the type of the fragmented unit.
        let Some(&[_, _, fragment, slice]) = payload.first_chunk() else { return false };
        return fragment & 0x80 != 0
            && RANDOM_ACCESS.contains(&(fragment & 0x3f))
            && is_first_slice(slice);
    }
    nal_units(payload).any(|nal| {
        nal_type(nal).is_some_and(|kind| RANDOM_ACCESS.contains(&kind))
            && nal.get(2).is_some_and(|&slice| is_first_slice(slice))
    })
}

/// A slice header opens with `first_slice_segment_in_pic_flag`.
fn is_first_slice(first_byte: u8) -> bool {
    first_byte & 0x80 != 0
}

pub(super) fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header >> 1 & 0x3f)
}

/// The complete NAL units of a packet: its one, or those it aggregates (RFC 7798 §4.4.2).
fn nal_units(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (single, aggregate): (Option<&[u8]>, &[u8]) = match nal_type(payload) {
        Some(AGGREGATION) => (None, payload.get(2..).unwrap_or_default()),
        Some(0..=47) => (Some(payload), &[]),
        _ => (None, &[]),
    };
    single.into_iter().chain(super::sized_units(aggregate))
}

/// What a sequence parameter set says.
struct Sps {
    /// After cropping.
    size: Option<(u16, u16)>,
    format: Option<SampleFormat>,
    /// See [`reordering`].
    reordering: Option<u32>,
    layers: u8,
}

/// Reads the sequence parameter set (H.265 §7.3.2.2.1).
fn read_sps(nal: &[u8]) -> Option<Sps> {
    let mut sps = BitReader::escaped(nal.get(2..)?);
    let (_, sub_layers) = read_profile_and_level(&mut sps)?;
    sps.unsigned()?; // id
    let chroma = sps.unsigned()?;
    let mut chroma_format = chroma;
    if chroma_format == 3 && sps.flag()? {
        chroma_format = 0; // three monochrome planes
    }
    let (mut width, mut height) = (sps.unsigned()?, sps.unsigned()?);
    if sps.flag()? {
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let crop_x = sps.unsigned()?.checked_add(sps.unsigned()?)?.checked_mul(unit_x)?;
        let crop_y = sps.unsigned()?.checked_add(sps.unsigned()?)?.checked_mul(unit_y)?;
        width = width.checked_sub(crop_x)?;
        height = height.checked_sub(crop_y)?;
    }
    let format = SampleFormat::read(chroma, &mut sps);
    let reordering = format.and_then(|_| read_reordering(&mut sps, sub_layers));
    let layers = sub_layers as u8 + 1;
    Some(Sps { size: super::size(width, height), format, reordering, layers })
}

/// `sps_max_num_reorder_pics` of the highest temporal layer, which comes last.
fn read_reordering(sps: &mut BitReader<'_>, sub_layers: u32) -> Option<u32> {
    sps.unsigned()?; // picture order count bits
    let each = sps.flag()?;
    let mut reordering = None;
    for _ in 0..=if each { sub_layers } else { 0 } {
        sps.unsigned()?; // buffer
        reordering = Some(sps.unsigned()?);
        sps.unsigned()?; // latency
    }
    reordering
}

/// What stands at the beginning of a sequence parameter set: profile, tier and level, and how many
/// temporal layers there are above the lowest.
fn read_profile_and_level(sps: &mut BitReader<'_>) -> Option<(Capability, u32)> {
    sps.skip(4)?; // video parameter set
    let sub_layers = sps.bits(3)?;
    sps.skip(1)?; // temporal nesting
    sps.skip(2)?; // profile space
    let (tier, profile) = (sps.bits(1)?, sps.bits(5)?);
    sps.skip(80)?; // compatibility and constraints
    let level = sps.bits(8)?;
    skip_sub_layers(sps, sub_layers)?;
    Some((Capability { profile, tier, level }, sub_layers))
}

/// H.265 §7.3.3: profile and level of each temporal layer that states its own.
fn skip_sub_layers(sps: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    let mut bits = 0;
    for _ in 0..sub_layers {
        bits += if sps.flag()? { 88 } else { 0 };
        bits += if sps.flag()? { 8 } else { 0 };
    }
    if sub_layers > 0 {
        sps.skip(2 * (8 - sub_layers))?;
    }
    sps.skip(bits)
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    /// VPS, SPS and PPS of a 642x362 stream in one aggregation packet, as ffmpeg packs x265's.
    const AGGREGATED: &str = "6001
        0018 40010c01ffff01600000030090000003000003003fba0240
        002b 42010101600000030090000003000003003fa005220171c44996e92930bc05a020000003002000000303c1
        0006 4401c0718312";
    const SPS_ALONE: &str =
        "42010101600000030090000003000003003fa005220171c44996e92930bc05a020000003002000000303c1";

    #[test]
    fn starts_are_parameter_sets_and_first_random_access_slices() {
        let table = [
            (AGGREGATED, true, true),
            (SPS_ALONE, true, false),
            ("40010c01", true, true),   // VPS alone
            ("4401c071", false, false), // PPS alone
            ("2601af01", true, false),  // whole IDR slice
            ("26016701", false, false), // second IDR slice
            ("2a01af01", true, false),  // CRA
            ("620193af", true, false),  // FU, start of the first IDR slice
            ("62019367", false, false), // FU, start of the second
            ("620113af", false, false), // FU, middle
            ("620181d0", false, false), // FU, start of another slice
            ("0201d009", false, false), // other slice
            ("6001ffff", false, false), // aggregation that lies about a length
            ("6201", false, false),
            ("", false, false),
        ];
        for (payload, start, parameters) in table {
            let bytes = hex(payload);
            assert_eq!(is_keyframe(&bytes), start, "{payload}");
            assert_eq!(carries_parameters(&bytes), parameters, "{payload}");
        }
    }

    #[test]
    fn the_size_is_read_with_its_window() {
        assert_eq!(dimensions(&hex(AGGREGATED)), Some((642, 362)));
        assert_eq!(dimensions(&hex(SPS_ALONE)), Some((642, 362)));
        assert_eq!(dimensions(&hex("4401c071")), None);
        let capability = capability(&hex(SPS_ALONE));
        assert_eq!(capability, Some(Capability { profile: 1, tier: 0, level: 63 }));
    }

    #[test]
    fn the_reordering_is_read() {
        let pyramid = "42010101600000030090000003000003001ea01020496595964932bc05a020000003002000\
            000303c1";
        assert_eq!(reordering(&hex(pyramid)), Some((2, 1)), "x265, one temporal layer");
        assert_eq!(reordering(&hex(SPS_ALONE)), Some((0, 1)), "x265, bframes=0");
        assert_eq!(reordering(&hex("4401c071")), None);
    }

    #[test]
    fn cut_short_anywhere_nothing_panics() {
        let whole = hex(AGGREGATED);
        for end in 0..whole.len() {
            let _ = (is_keyframe(&whole[..end]), dimensions(&whole[..end]));
        }
        assert_eq!(dimensions(&hex(SPS_ALONE)[..20]), None);
    }
}
