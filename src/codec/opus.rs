//! Opus in RTP (RFC 7587): what a start is, and how long a packet sounds.
//!
//! Fuzz target: `codec_opus`.

/// A decoder can start with any Opus packet; one without a byte is none (RFC 6716 §3.1).
pub fn is_keyframe(payload: &[u8]) -> bool {
    !payload.is_empty()
}

/// How long a packet sounds, in samples of 48 kHz (RFC 6716 §3.1); `None` where it is no packet, or
/// one of more than the 120 ms that are allowed (§3.2.5).
pub fn duration(payload: &[u8]) -> Option<u32> {
    const SAMPLES_MAX: u32 = 120 * 48;
    let (&head, rest) = payload.split_first()?;
    let samples = match head >> 3 {
        // SILK: 10, 20, 40, 60 ms.
        config @ 0..12 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        // Hybrid: 10, 20 ms.
        config @ 12..16 => [480, 960][usize::from(config & 1)],
        // CELT: 2.5, 5, 10, 20 ms.
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match head & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    let samples = samples * frames;
    (1..=SAMPLES_MAX).contains(&samples).then_some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_a_start_and_padding_is_not() {
        assert!(is_keyframe(&[0xfc]));
        assert!(!is_keyframe(&[]));
    }

    #[test]
    fn the_duration_is_that_of_all_frames() {
        let table: [(&[u8], _); 18] = [
            (&[0xfc, 1], Some(960)),         // CELT, 20 ms, as browsers send it
            (&[0xe4, 1], Some(120)),         // 2.5 ms
            (&[0x78, 1], Some(960)),         // hybrid, 20 ms
            (&[0x58, 1], Some(2_880)),       // SILK, 60 ms
            (&[0xfd, 1], Some(1_920)),       // two frames
            (&[0xfb, 0x03, 1], Some(2_880)), // three
            (&[0xfb, 0x00], None),           // none
            (&[0x5b, 0x03], None),           // 180 ms
            (&[0xfb], None),                 // how many is missing
            (&[], None),
            // By milliseconds of one frame: RFC 6716 table 2.
            (&[0x00], Some(480)),
            (&[0x18], Some(2_880)),
            (&[0x61], Some(960)),
            (&[0x80], Some(120)),
            (&[0xfc], Some(960)),
            (&[0xfb, 2], Some(1_920)),
            (&[0xfb, 0], None),
            (&[0xfb, 63], None),
        ];
        for (payload, samples) in table {
            assert_eq!(duration(payload), samples, "{payload:02x?}");
        }
    }
}
