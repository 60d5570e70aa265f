//! What of a container's packet is one frame for a decoder. Pure.
//!
//! MPEG audio and AC-3 come as many frames as the multiplexer liked to put together; decoders want
//! them one by one. GStreamer's parsers would do it, but Debian has them in a package that brings a
//! hundred others (`gstreamer1.0-plugins-good`).

use crate::sync_frame::Header;

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
    use crate::sync_frame::mpeg;

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
