//! AAC in LATM within LOAS (ISO/IEC 14496-3 §1.7): what broadcasters send.
//!
//! One program, one layer, frames of a length that each of them tells: what there is in practice.

use std::sync::Arc;

/// Frames of one LOAS packet; `numSubFrames` has 6 bits.
const FRAMES_MAX: usize = 64;
/// The longest configuration that makes sense.
const CONFIG_MAX: usize = 64;
/// §1.6.3.4: samples per second by index.
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000,
    7350,
];

/// What one LOAS packet tells of those that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// The `AudioSpecificConfig`.
    pub(super) audio: Arc<[u8]>,
    pub(super) rate: u32,
    pub(super) samples: u32,
    frames: usize,
}

/// Samples per second of an index.
pub(super) fn rate(index: u32) -> Option<u32> {
    RATES.get(index as usize).copied()
}

/// The length of the LOAS packet that begins here, header included; `None` where none does.
pub(super) fn packet_len(bytes: [u8; 3]) -> Option<usize> {
    // §1.7.2: 11 bits 0x2b7, then 13 bits of length.
    let [first, second, third] = bytes;
    let is_sync = first == 0x56 && second & 0xe0 == 0xe0;
    is_sync.then_some(3 + (usize::from(second & 0x1f) << 8 | usize::from(third)))
}

/// The frames of an `AudioMuxElement` (§1.7.3.1), each as it stands without LATM. `config` is that
/// of the packet before, and is changed where this one brings another.
pub(super) fn frames(element: &[u8], config: &mut Option<Config>) -> Option<Vec<Vec<u8>>> {
    let mut bits = Bits { bytes: element, at: 0 };
    if bits.take(1)? == 0 {
        let new = read_config(&mut bits)?;
        if config.as_ref() != Some(&new) {
            *config = Some(new);
        }
    }
    let config = config.as_ref()?;
    let mut frames = Vec::new();
    for _ in 0..config.frames {
        // PayloadLengthInfo: bytes of 255, and one that is less.
        let mut len = 0;
        loop {
            let part = bits.take(8)?;
            len += part as usize;
            if part != 255 {
                break;
            }
        }
        frames.push(bits.bytes(len)?);
    }
    Some(frames)
}

/// `StreamMuxConfig` (§1.7.3.1, table 1.42).
fn read_config(bits: &mut Bits<'_>) -> Option<Config> {
    let version = bits.take(1)?;
    let has_other_syntax = version == 1 && bits.take(1)? == 1;
    if has_other_syntax {
        return None;
    }
    if version == 1 {
        value(bits)?; // taraBufferFullness
    }
    let same_time = bits.take(1)?;
    let frames = bits.take(6)? as usize + 1;
    let (programs, layers) = (bits.take(4)?, bits.take(3)?);
    if (same_time, programs, layers) != (1, 0, 0) || frames > FRAMES_MAX {
        return None;
    }
    let announced = if version == 1 { Some(value(bits)? as usize) } else { None };
    let begin = bits.at;
    let (rate, samples) = audio_config(bits)?;
    let read = bits.at - begin;
    let len = announced.unwrap_or(read);
    bits.skip(len.checked_sub(read)?)?;
    let audio = bits.copy(begin, len)?;
    // frameLengthType 0: each frame tells its length. The fullness of a buffer means nothing here.
    if bits.take(3)? != 0 {
        return None;
    }
    bits.skip(8)?;
    if bits.take(1)? == 1 {
        skip_other_data(bits, version)?;
    }
    if bits.take(1)? == 1 {
        bits.skip(8)?; // a checksum of this configuration
    }
    Some(Config { audio: audio.into(), rate, samples, frames })
}

/// How much there is of other data behind the frames: nobody reads that.
fn skip_other_data(bits: &mut Bits<'_>, version: u32) -> Option<()> {
    if version == 1 {
        return value(bits).map(drop);
    }
    while bits.take(1)? == 1 {
        bits.skip(8)?;
    }
    bits.skip(8)
}

/// `LatmGetValue`: one to four bytes.
fn value(bits: &mut Bits<'_>) -> Option<u32> {
    let count = bits.take(2)? + 1;
    bits.take(count * 8)
}

/// `AudioSpecificConfig` (§1.6.2.1) of the kinds of AAC that are in use: samples per second, and
/// per frame.
fn audio_config(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    let mut object = object_type(bits)?;
    let rate = sampling(bits)?;
    let channels = bits.take(4)?;
    let is_spectral = object == 5 || object == 29;
    if is_spectral {
        // Spectral band replication: the frames are of the core, at half the rate.
        sampling(bits)?;
        object = object_type(bits)?;
    }
    // GASpecificConfig (§4.4.1) of Main, LC, SSR, LTP; a configuration of channels that is spelled
    // out is not read.
    if !(1..=4).contains(&object) || channels == 0 {
        return None;
    }
    let samples = if bits.take(1)? == 1 { 960 } else { 1024 };
    if bits.take(1)? == 1 {
        bits.skip(14)?; // depends on a core coder
    }
    bits.skip(1)?; // no extension with these kinds
    Some((rate, samples))
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(5)? {
        31 => Some(32 + bits.take(6)?),
        kind => Some(kind),
    }
}

fn sampling(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(4)? {
        15 => bits.take(24).filter(|&rate| rate > 0),
        index => rate(index),
    }
}

/// Single bits, at most 32 at a time.
#[derive(Debug)]
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|&at| at <= self.bytes.len() * 8)?;
        Some(())
    }

    /// So many whole bytes, which need not begin where a byte does.
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        let begin = self.at;
        self.skip(len.checked_mul(8)?)?;
        self.shifted(begin, len)
    }

    /// So many bits from a place, filled up with zeros.
    fn copy(&self, begin: usize, count: usize) -> Option<Vec<u8>> {
        let len = count.div_ceil(8);
        if len > CONFIG_MAX {
            return None;
        }
        let mut copied = self.shifted(begin, len)?;
        if let Some(last) = copied.last_mut() {
            *last &= 0xff_u8 << (len * 8 - count);
        }
        Some(copied)
    }

    /// So many bytes from a place; behind the end there are zeros.
    fn shifted(&self, begin: usize, len: usize) -> Option<Vec<u8>> {
        let (first, shift) = (begin / 8, begin % 8);
        let rest = self.bytes.get(first..)?;
        let byte = |at: usize| rest.get(at).map_or(0, |&byte| u16::from(byte));
        Some((0..len).map(|at| ((byte(at) << 8 | byte(at + 1)) >> (8 - shift)) as u8).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes bits, for samples.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn put(mut self, value: u32, count: u32) -> Self {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
            self
        }

        fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                bits.iter().enumerate().fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at))
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    /// A configuration of AAC-LC, 48 kHz, stereo.
    fn configured(version: u32) -> Writer {
        let head = Writer::default().put(0, 1).put(version, 1);
        let head = if version == 1 { head.put(0, 1).put(0, 2).put(0xff, 8) } else { head };
        let head = head.put(1, 1).put(0, 6).put(0, 4).put(0, 3);
        let head = if version == 1 { head.put(0, 2).put(16, 8) } else { head };
        let audio = head.put(2, 5).put(3, 4).put(2, 4).put(0, 3);
        audio.put(0, 3).put(0xff, 8).put(0, 1).put(0, 1)
    }

    #[test]
    fn frames_come_out_whole_however_they_are_shifted() {
        for version in [0, 1] {
            let element = configured(version).put(3, 8).put(0x00ab_cdef, 24).bytes();
            let mut config = None;
            assert_eq!(frames(&element, &mut config), Some(vec![vec![0xab, 0xcd, 0xef]]));
            let config = config.expect("it brought one");
            assert_eq!(*config.audio, [0x11, 0x90]);
            assert_eq!((config.rate, config.samples), (48_000, 1024));
        }
    }

    #[test]
    fn a_packet_may_leave_the_configuration_out_once_it_is_known() {
        let again = Writer::default().put(1, 1).put(255, 8).put(1, 8);
        let again = (0..256).fold(again, |writer, _| writer.put(7, 8)).bytes();
        let mut config = None;
        assert_eq!(frames(&again, &mut config), None);
        frames(&configured(0).put(0, 8).bytes(), &mut config).expect("a configuration");
        let found = frames(&again, &mut config).expect("one frame");
        assert_eq!(found, [vec![7; 256]]);
    }

    #[test]
    fn spectral_band_replication_counts_the_core() {
        let sbr = Writer::default().put(5, 5).put(6, 4).put(2, 4).put(3, 4).put(2, 5).put(0, 3);
        let bytes = sbr.bytes();
        let mut bits = Bits { bytes: &bytes, at: 0 };
        assert_eq!(audio_config(&mut bits), Some((24_000, 1024)));
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_no_frame() {
        let whole = configured(0).put(3, 8).put(0x00ab_cdef, 24).bytes();
        for len in 0..whole.len() {
            assert_eq!(frames(&whole[..len], &mut None), None, "{len} bytes");
        }
        let two_programs = Writer::default().put(0, 2).put(1, 1).put(0, 6).put(1, 4).put(0, 32);
        assert_eq!(frames(&two_programs.bytes(), &mut None), None);
        assert_eq!(packet_len([0x56, 0xe1, 0x02]), Some(3 + 0x102));
        assert_eq!(packet_len([0x56, 0xc1, 0x02]), None);
    }
}
