//! What of a container's packet is one frame for a decoder, and what its header tells. Pure.
//!
//! MPEG audio and AC-3 come as many frames as the multiplexer liked to put together; decoders want
//! them one by one. GStreamer's parsers would do it, but Debian has them in a package that brings a
//! hundred others (`gstreamer1.0-plugins-good`).

/// What one frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its length with its header, in bytes.
    pub(crate) length: usize,
    /// Of MPEG audio: 1 to 3.
    pub(crate) layer: u8,
    /// In hertz.
    pub(crate) rate: u32,
    /// Samples of each channel.
    pub(crate) samples: u32,
    /// 1 and more.
    pub(crate) channels: u8,
}

/// Kilobits per second of MPEG-1 layers 1, 2, 3, then of MPEG-2 layer 1, and layers 2 and 3
/// (ISO/IEC 11172-3 §2.4.2.3, ISO/IEC 13818-3 §2.4.2.3).
const MPEG_KBPS: [[u32; 14]; 5] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Hertz of MPEG-1; MPEG-2 has half of it, MPEG-2.5 a quarter.
const MPEG_RATES: [u32; 3] = [44_100, 48_000, 32_000];
/// Kilobits per second of AC-3 by half of `frmsizecod` (ETSI TS 102 366 table 4.13).
const AC3_KBPS: [u32; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
/// Full-range channels by `acmod` (ETSI TS 102 366 table 4.3).
const AC3_CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];

/// Reads the header of an MPEG audio frame. Free format, which has no length, is none.
pub(crate) fn mpeg(bytes: &[u8]) -> Option<Header> {
    let [sync, version, bits, mode, ..] = *bytes else { return None };
    let is_sync = sync == 0xff && version & 0xe0 == 0xe0;
    let version_bits = version >> 3 & 3;
    let layer = 4 - (version >> 1 & 3);
    if !is_sync || version_bits == 1 || layer == 4 {
        return None;
    }
    let is_first = version_bits == 3;
    let table = match (is_first, layer) {
        (true, layer) => usize::from(layer) - 1,
        (false, 1) => 3,
        (false, _) => 4,
    };
    let kbps = *MPEG_KBPS.get(table)?.get(usize::from(bits >> 4).checked_sub(1)?)?;
    let shift = match version_bits {
        3 => 0,
        2 => 1,
        _ => 2,
    };
    let rate = MPEG_RATES.get(usize::from(bits >> 2 & 3))? >> shift;
    let padding = u32::from(bits >> 1 & 1);
    let samples = match (layer, is_first) {
        (1, _) => 384,
        (3, false) => 576,
        _ => 1152,
    };
    let length = match layer {
        1 => (12_000 * kbps / rate + padding) * 4,
        _ => samples / 8 * 1000 * kbps / rate + padding,
    };
    let channels = if mode >> 6 == 3 { 1 } else { 2 };
    Some(Header { length: length as usize, layer, rate, samples, channels })
}

/// Reads the header of an AC-3 sync frame (ETSI TS 102 366 §4.3, §4.4).
pub(crate) fn ac3(bytes: &[u8]) -> Option<Header> {
    let [0x0b, 0x77, _, _, size, stream, mode, ..] = *bytes else { return None };
    if stream >> 3 > 8 {
        // Enhanced AC-3 begins the same way, and is another codec.
        return None;
    }
    let kbps = *AC3_KBPS.get(usize::from(size & 0x3f) / 2)?;
    let (rate, words) = match size >> 6 {
        0 => (48_000, kbps * 2),
        1 => (44_100, kbps * 96_000 / 44_100 + u32::from(size & 1)),
        2 => (32_000, kbps * 3),
        _ => return None,
    };
    let channels = *AC3_CHANNELS.get(usize::from(mode >> 5))?;
    Some(Header { length: words as usize * 2, layer: 0, rate, samples: 1536, channels })
}

/// Reads rate and channels of AAC out of its `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
/// Decoders read all the rest of it.
pub(crate) fn aac(config: &[u8]) -> Option<(u32, u8)> {
    const RATES: [u32; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
        8_000, 7_350,
    ];
    let bit = |at: usize| Some(config.get(at / 8)? >> (7 - at % 8) & 1);
    let bits = |from: usize, count: usize| {
        (from..from + count).try_fold(0_u32, |sum, at| Some(sum << 1 | u32::from(bit(at)?)))
    };
    let mut at = if bits(0, 5)? == 31 { 11 } else { 5 };
    let index = bits(at, 4)?;
    at += 4;
    let rate = if index == 15 {
        at += 24;
        bits(at - 24, 24)?
    } else {
        *RATES.get(index as usize)?
    };
    let channels = match bits(at, 4)? as u8 {
        channels @ 1..=6 => channels,
        7 => 8,
        // A program config element says more than is to be read here.
        _ => 2,
    };
    Some((rate, channels))
}

/// Calls `frame` with each frame of a packet, and with the time of its first sample; bytes between
/// them are passed over.
pub(crate) fn frames(
    packet: &[u8],
    mut ticks: i64,
    read: fn(&[u8]) -> Option<Header>,
    mut frame: impl FnMut(&[u8], i64, Header),
) {
    let mut rest = packet;
    while !rest.is_empty() {
        let whole = read(rest).and_then(|header| Some((header, rest.get(..header.length)?)));
        let Some((header, bytes)) = whole.filter(|(_, bytes)| !bytes.is_empty()) else {
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        frame(bytes, ticks, header);
        let span = i64::from(header.samples) * 90_000 / i64::from(header.rate.max(1));
        ticks = ticks.saturating_add(span);
        rest = rest.get(header.length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_mpeg_audio_are_read() {
        for (bytes, length, layer, rate, samples, channels) in [
            // As ffmpeg writes them: MP2 192 kb/s, MP3 128 kb/s with padding, MPEG-2 MP3 in mono.
            ([0xff, 0xfd, 0xa4, 0x00], 576, 2, 48_000, 1152, 2),
            ([0xff, 0xfb, 0x92, 0x64], 418, 3, 44_100, 1152, 2),
            ([0xff, 0xf3, 0x84, 0xc4], 192, 3, 24_000, 576, 1),
        ] {
            let expected = Header { length, layer, rate, samples, channels };
            assert_eq!(mpeg(&bytes), Some(expected), "{bytes:?}");
        }
        for bad in [[0xff, 0xfd, 0x04, 0], [0xff, 0xfd, 0xf4, 0], [0xff, 0xfd, 0xac, 0], [0; 4]] {
            assert_eq!(mpeg(&bad), None, "{bad:?}");
        }
        assert_eq!(mpeg(&[0xff, 0xfd]), None);
    }

    #[test]
    fn headers_of_ac3_are_read_and_enhanced_ac3_is_none() {
        let header = |size, stream| ac3(&[0x0b, 0x77, 0, 0, size, stream, 0xe1, 0]);
        let at_48 = header(0x14, 0x40).expect("448 kb/s are no mystery");
        assert_eq!((at_48.length, at_48.rate, at_48.channels), (768, 48_000, 5));
        let at_44 = header(0x55, 0x40).expect("it is AC-3");
        assert_eq!((at_44.length, at_44.rate), (836, 44_100));
        assert_eq!(header(0x14, 0x80), None);
        assert_eq!(header(0x3f, 0x40), None);
    }

    #[test]
    fn the_config_of_aac_tells_rate_and_channels() {
        assert_eq!(aac(&[0x12, 0x10]), Some((44_100, 2)));
        assert_eq!(aac(&[0x11, 0xb0]), Some((48_000, 6)));
        // An explicit rate, and the escape of the object type.
        assert_eq!(aac(&[0x17, 0x80, 0x5d, 0xc0, 0x08]), Some((48_000, 1)));
        assert_eq!(aac(&[0xf8, 0x06, 0x40]).map(|(_, channels)| channels), Some(2));
        assert_eq!(aac(&[0x12]), None);
        assert_eq!(aac(&[]), None);
    }

    #[test]
    fn a_packet_is_taken_apart_into_frames_with_times_of_their_own() {
        let one = [&[0xff, 0xfd, 0xa4, 0x00][..], &[7; 572]].concat();
        let packet = [&one[..], &[1, 2, 3], &one, &one[..100]].concat();
        let mut seen = Vec::new();
        frames(&packet, 1_000, mpeg, |bytes, ticks, _| seen.push((bytes.len(), ticks)));
        assert_eq!(seen, [(576, 1_000), (576, 3_160)]);
    }
}
