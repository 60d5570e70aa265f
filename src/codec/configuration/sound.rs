//! What AAC and Opus are in files. Fuzz target: `configuration`.

use super::AudioConfiguration;
use crate::codec::bits::BitReader;
use bytes::Bytes;

/// ISO/IEC 14496-3 table 1.18: samples per second by index.
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000,
    7350,
];
/// Audio object types (ISO/IEC 14496-3 table 1.17): spectral band replication, parametric stereo.
const SBR: u32 = 5;
const PS: u32 = 29;

/// An `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1) of the kinds of AAC that are in use: Main,
/// LC, SSR, LTP, alone or with what doubles rate and channels.
pub(super) fn read_aac(config: &[u8]) -> Option<AudioConfiguration> {
    let mut bits = BitReader::new(config);
    let first = object_type(&mut bits)?;
    let core_rate = sampling(&mut bits)?;
    let channel_configuration = bits.bits(4)?;
    let (mut rate, mut named, mut core) = (core_rate, first, first);
    if matches!(first, SBR | PS) {
        rate = sampling(&mut bits)?;
        core = object_type(&mut bits)?;
    }
    if !(1..=4).contains(&core) {
        return None;
    }
    // GASpecificConfig (§4.4.1).
    let core_samples = if bits.flag()? { 960 } else { 1024 };
    if bits.flag()? {
        bits.skip(14)?; // depends on a core coder
    }
    bits.skip(1)?; // no extension with these kinds
    if !matches!(first, SBR | PS)
        && channel_configuration != 0
        && let Some((extension, extended_rate)) = read_extension(&mut bits)
    {
        (named, rate) = (extension, extended_rate);
    }
    // Rates of sound as players take them; and so no product overflows.
    if !(7_350..=192_000).contains(&rate) || !(7_350..=192_000).contains(&core_rate) {
        return None;
    }
    let channels = match channel_configuration {
        1 if named == PS => 2,
        // Spelled out within the configuration: decoders go by that and not by this number.
        0 => 2,
        count @ 1..=6 => count as u8,
        7 => 8,
        _ => return None,
    };
    Some(AudioConfiguration {
        record: Bytes::copy_from_slice(config),
        codec_string: format!("mp4a.40.{named}"),
        sample_rate: rate,
        channels,
        frame_samples: Some(core_samples * rate / core_rate),
    })
}

/// What decoders that do not know it pass over, behind the end (§1.6.5.2): an object type that says
/// what is added, and the rate with it.
fn read_extension(bits: &mut BitReader<'_>) -> Option<(u32, u32)> {
    const SYNC: u32 = 0x2b7;
    const PS_SYNC: u32 = 0x548;
    if bits.bits(11)? != SYNC || object_type(bits)? != SBR || !bits.flag()? {
        return None;
    }
    let rate = sampling(bits)?;
    let has_ps = bits.bits(11) == Some(PS_SYNC) && bits.flag() == Some(true);
    Some((if has_ps { PS } else { SBR }, rate))
}

fn object_type(bits: &mut BitReader<'_>) -> Option<u32> {
    match bits.bits(5)? {
        31 => Some(32 + bits.bits(6)?),
        kind => Some(kind),
    }
}

fn sampling(bits: &mut BitReader<'_>) -> Option<u32> {
    match bits.bits(4)? {
        15 => bits.bits(24),
        index => RATES.get(index as usize).copied(),
    }
}

/// Two channels always: packets of one may follow packets of two, and what is decoded into two
/// plays both (RFC 7587 §7, RFC 6716 §2.1.2).
pub(super) fn opus() -> AudioConfiguration {
    const CHANNELS: u8 = 2;
    const RATE: u32 = 48_000;
    /// What an encoder looks ahead, at 48 kHz: that of libopus.
    const PRE_SKIP: u16 = 312;
    // Version, gain and mapping family are 0.
    let mut record = vec![0, CHANNELS];
    record.extend(PRE_SKIP.to_be_bytes());
    record.extend(RATE.to_be_bytes());
    record.extend([0; 3]);
    AudioConfiguration {
        record: record.into(),
        codec_string: "opus".to_owned(),
        sample_rate: RATE,
        channels: CHANNELS,
        frame_samples: None,
    }
}
