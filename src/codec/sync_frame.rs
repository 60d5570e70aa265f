//! Headers of frames that begin with a sync word and tell their length: MPEG audio, AC-3. Pure.
//!
//! The worker that decodes them reads them too, by this same file: it names nothing else of ours.
//! Fuzz target: `mpegts`.

/// What one frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its length with its header, in bytes.
    pub length: usize,
    /// Of MPEG audio: 1 to 3.
    pub layer: u8,
    /// In hertz.
    pub rate: u32,
    /// Samples of each channel.
    pub samples: u32,
    /// 1 and more.
    pub channels: u8,
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
pub fn mpeg(bytes: &[u8]) -> Option<Header> {
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
pub fn ac3(bytes: &[u8]) -> Option<Header> {
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
        // Header, length, rate, samples: with and without padding, the versions, layer I.
        for (bytes, length, rate, samples) in [
            ([0xff, 0xfd, 0x84, 0x00], 384, 48_000, 1152),
            ([0xff, 0xfb, 0x90, 0x00], 417, 44_100, 1152),
            ([0xff, 0xfb, 0x92, 0x00], 418, 44_100, 1152),
            ([0xff, 0xf3, 0x80, 0x00], 208, 22_050, 576),
            ([0xff, 0xff, 0x48, 0x00], 192, 32_000, 384),
        ] {
            let header = mpeg(&bytes).expect("a header");
            let told = (header.length, header.rate, header.samples);
            assert_eq!(told, (length, rate, samples), "{bytes:x?}");
        }
        for bad in [[0xff, 0xfd, 0x04, 0], [0xff, 0xfd, 0xf4, 0], [0xff, 0xfd, 0xac, 0], [0; 4]] {
            assert_eq!(mpeg(&bad), None, "{bad:?}");
        }
        assert_eq!(mpeg(&[0xff, 0xed, 0x84, 0]), None, "no such version");
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
        assert_eq!(header(0xc0, 0x40), None);
    }
}
