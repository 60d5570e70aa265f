//! `av1C`, and the name of AV1 (AV1 Codec ISO Media File Format Binding §2.3, §5).
//!
//! Fuzz target: `configuration`.

use super::VideoConfiguration;
use crate::codec::av1::{self, Colour, SEQUENCE_HEADER};
use crate::codec::packetizer::av1::obus;
use crate::media::codec::Codec;
use std::fmt::Write;

/// Marker and version.
const VERSION: u8 = 0x81;

/// Out of the sequence header of a temporal unit.
pub(super) fn read(keyframe: &[u8]) -> Option<VideoConfiguration> {
    let header = obus(keyframe).find(|obu| obu.kind() == SEQUENCE_HEADER)?;
    let av1::Capability { profile, level, tier } = av1::capability(header.body)?;
    let size = av1::sequence_size(header.body)?;
    let colour = av1::colour(header.body)?;
    let mut flags = (tier as u8) << 7;
    flags |= u8::from(colour.depth > 8) << 6 | u8::from(colour.depth > 10) << 5;
    flags |= u8::from(colour.is_mono) << 4;
    let [x, y] = colour.is_halved.map(u8::from);
    flags |= x << 3 | y << 2 | colour.chroma_position;
    let mut record = vec![VERSION, (profile as u8) << 5 | level as u8, flags, 0];
    header.write(&mut record);
    let codec_string = name(profile, level, tier, &colour);
    Some(VideoConfiguration { codec: Codec::Av1, record: record.into(), codec_string, size })
}

/// All that is optional is written where something of it is not the default: 4:2:0, BT.709, limited
/// range. What is not said of colours is that.
fn name(profile: u32, level: u32, tier: u32, colour: &Colour) -> String {
    let tier = if tier == 0 { 'M' } else { 'H' };
    let mut name = format!("av01.{profile}.{level:02}{tier}.{:02}", colour.depth);
    let [primaries, transfer, matrix] = colour.description.unwrap_or([1; 3]);
    let [mono, range] = [colour.is_mono, colour.is_full_range].map(u8::from);
    let [x, y] = colour.is_halved.map(u8::from);
    // Where chroma lies is only said of 4:2:0.
    let position = if x + y == 2 { colour.chroma_position } else { 0 };
    let mut rest = String::new();
    let _ =
        write!(rest, ".{mono}.{x}{y}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{range}");
    if !matches!(rest.as_str(), ".0.110.01.01.01.0" | ".0.111.01.01.01.0" | ".0.112.01.01.01.0") {
        name.push_str(&rest);
    }
    name
}
