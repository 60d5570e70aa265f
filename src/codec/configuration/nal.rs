//! `avcC` and `hvcC`, and the names of H.264 and H.265. Fuzz target: `configuration`.

use super::VideoConfiguration;
use crate::codec::packetizer::nal::{NalCodec, Unit};
use crate::codec::packetizer::{h264::H264, h265::H265, nal_units, write_nal_unit};
use crate::codec::parameter_sets::{ParameterSets, SetId};
use crate::codec::{SampleFormat, h264, h265};
use crate::media::codec::Codec;
use bytes::Bytes;
use std::fmt::Write;

/// Lengths before NAL units have 4 bytes; the bits around it are reserved and set.
const LENGTH_SIZE_MINUS_ONE: u8 = 3;
/// All that there is of this type stands here, and nothing of it in samples.
const ARRAY_COMPLETE: u8 = 0x80;

/// The parameter sets of a frame.
fn sets<C: NalCodec>(frame: &[u8]) -> ParameterSets {
    let mut sets = ParameterSets::default();
    for nal in nal_units(frame) {
        if let Unit::Set(id) = C::unit(nal) {
            sets.put(id, nal);
        }
    }
    sets
}

/// ISO/IEC 14496-15 §5.3.3.1.2; the name after RFC 6381 §3.3.
pub(super) fn read_h264(keyframe: &[u8]) -> Option<VideoConfiguration> {
    let sets = sets::<H264>(keyframe);
    let first = sets.sequence()?;
    let &[profile, constraints, level] = first.get(1..)?.first_chunk()?;
    let (size, format) = (h264::dimensions(first)?, h264::sample_format(first)?);
    let is_sequence = |nal: &&[u8]| h264::nal_type(nal) == Some(h264::SPS);
    let (sequences, pictures): (Vec<_>, Vec<_>) = sets.iter().partition(is_sequence);
    if pictures.is_empty() {
        return None;
    }
    let mut record = vec![1, profile, constraints, level, 0xfc | LENGTH_SIZE_MINUS_ONE];
    record.push(0xe0 | counted(sequences.len(), 31)?);
    write_sized(&sequences, &mut record)?;
    record.push(counted(pictures.len(), 255)?);
    write_sized(&pictures, &mut record)?;
    if !matches!(profile, 66 | 77 | 88) {
        let SampleFormat { chroma, luma_depth, chroma_depth } = format;
        record.extend([0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0]);
    }
    let codec_string = format!("avc1.{profile:02x}{constraints:02x}{level:02x}");
    Some(VideoConfiguration { codec: Codec::H264, record: record.into(), codec_string, size })
}

/// ISO/IEC 14496-15 §8.3.3.1.2. How pictures can be decoded in parallel, and how many come in a
/// second, is left open.
pub(super) fn read_h265(keyframe: &[u8]) -> Option<VideoConfiguration> {
    let sets = sets::<H265>(keyframe);
    let first = sets.sequence()?;
    let (layers, nests, general) = h265::profile_tier_level(first)?;
    let (size, format) = (h265::dimensions(first)?, h265::sample_format(first)?);
    let SampleFormat { chroma, luma_depth, chroma_depth } = format;
    let mut record = vec![1];
    record.extend(general);
    record.extend([0xf0, 0, 0xfc, 0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0, 0]);
    record.push(layers << 3 | u8::from(nests) << 2 | LENGTH_SIZE_MINUS_ONE);
    record.push(3);
    for kind in [h265::VPS, h265::SPS, h265::PPS] {
        let of_kind = |nal: &&[u8]| h265::nal_type(nal) == Some(kind);
        let nals: Vec<&[u8]> = sets.iter().filter(of_kind).collect();
        if nals.is_empty() {
            return None;
        }
        record.push(ARRAY_COMPLETE | kind);
        record.extend(u16::try_from(nals.len()).ok()?.to_be_bytes());
        write_sized(&nals, &mut record)?;
    }
    let codec_string = name_h265(&general);
    Some(VideoConfiguration { codec: Codec::H265, record: record.into(), codec_string, size })
}

/// ISO/IEC 14496-15 §E.3: profile, what it is compatible with, tier and level, constraints.
fn name_h265(general: &[u8; 12]) -> String {
    let &[profile, c0, c1, c2, c3, ref constraints @ .., level] = general;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    // The lowest bit is that of profile 0.
    let compatible = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let mut name = format!("hvc1.{space}{}.{compatible:X}.{tier}{level}", profile & 0x1f);
    let len = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..len] {
        let _ = write!(name, ".{byte:X}");
    }
    name
}

fn counted(count: usize, max: u8) -> Option<u8> {
    u8::try_from(count).ok().filter(|&count| count <= max)
}

fn write_sized(nals: &[&[u8]], record: &mut Vec<u8>) -> Option<()> {
    for nal in nals {
        record.extend(u16::try_from(nal.len()).ok()?.to_be_bytes());
        record.extend_from_slice(nal);
    }
    Some(())
}

/// See [`super::strip_parameter_sets`].
pub(super) fn strip(codec: Codec, frame: &Bytes) -> Bytes {
    let set = |nal: &[u8]| {
        let unit = if codec == Codec::H264 { H264::unit(nal) } else { H265::unit(nal) };
        if let Unit::Set(id) = unit { Some(id) } else { None }
    };
    let is_sequence = |nal| matches!(set(nal), Some(SetId::Sequence(_)));
    if !nal_units(frame).any(is_sequence) {
        return frame.clone();
    }
    let mut stripped = Vec::with_capacity(frame.len());
    for nal in nal_units(frame).filter(|nal| set(nal).is_none()) {
        write_nal_unit(nal, &mut stripped);
    }
    stripped.into()
}
