//! Sequence headers: what decoders are set up with, as ISO base media files have it.
//! Fuzz target: `rtmp_flv`.

use super::units::push_unit;

/// The longest `AudioSpecificConfig` that is kept; one has 2 to 5 bytes, with a list of channels
/// some dozens.
const AUDIO_CONFIG_BYTES_MAX: usize = 256;

/// What a sequence header of H.264 or H.265 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NalSetup {
    /// How many bytes stand before each NAL unit of a frame: 1 to 4.
    pub(super) length_bytes: usize,
    /// The parameter sets, each after its length in 4 bytes.
    pub(super) parameter_sets: Vec<u8>,
}

/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1).
pub(super) fn avc(bytes: &[u8]) -> Option<NalSetup> {
    let (head, mut rest) = bytes.split_first_chunk::<5>()?;
    let length_bytes = usize::from(head[4] & 3) + 1;
    let mut parameter_sets = Vec::new();
    for mask in [0x1f, 0xff] {
        let (&count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..count & mask {
            push_unit(&mut parameter_sets, sized(&mut rest)?);
        }
    }
    Some(NalSetup { length_bytes, parameter_sets })
}

/// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1).
pub(super) fn hevc(bytes: &[u8]) -> Option<NalSetup> {
    /// VPS, SPS and PPS (H.265 §7.4.2.2).
    const PARAMETER_SETS: std::ops::RangeInclusive<u8> = 32..=34;
    let (head, mut rest) = bytes.split_first_chunk::<23>()?;
    let length_bytes = usize::from(head[21] & 3) + 1;
    let mut parameter_sets = Vec::new();
    for _ in 0..head[22] {
        let ([kind, count @ ..], after) = rest.split_first_chunk::<3>()?;
        rest = after;
        for _ in 0..u16::from_be_bytes(*count) {
            let unit = sized(&mut rest)?;
            if PARAMETER_SETS.contains(&(kind & 0x3f)) {
                push_unit(&mut parameter_sets, unit);
            }
        }
    }
    Some(NalSetup { length_bytes, parameter_sets })
}

/// `AV1CodecConfigurationRecord` (AV1 in ISOBMFF §2.3): the OBUs in it.
pub(super) fn av1(bytes: &[u8]) -> Option<&[u8]> {
    let (head, obus) = bytes.split_first_chunk::<4>()?;
    // The marker and the version.
    (head[0] == 0x81).then_some(obus)
}

/// `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1), not looked into.
pub(super) fn aac(bytes: &[u8]) -> Option<&[u8]> {
    (2..=AUDIO_CONFIG_BYTES_MAX).contains(&bytes.len()).then_some(bytes)
}

/// `OpusHead` (RFC 7845 §5.1): how many channels it has.
pub(super) fn opus_channels(bytes: &[u8]) -> Option<u8> {
    bytes.strip_prefix(b"OpusHead")?.get(1).copied()
}

fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    *rest = after;
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_sets_of_h264_are_found() {
        let record = [1, 0x42, 0, 0x1f, 0xff, 0xe1, 0, 2, 0x67, 1, 1, 0, 1, 0x68];
        let setup = avc(&record).expect("a record");
        assert_eq!(setup.length_bytes, 4);
        assert_eq!(setup.parameter_sets, [0, 0, 0, 2, 0x67, 1, 0, 0, 0, 1, 0x68]);
        assert_eq!(avc(&record[..13]), None);
        // What High profile has behind them is passed over.
        assert!(avc(&[&record[..], &[0xfc, 0xf8, 0xf8, 0]].concat()).is_some());
    }

    #[test]
    fn the_parameter_sets_of_h265_are_found_and_nothing_else() {
        let mut record = vec![1; 23];
        (record[21], record[22]) = (0xfd, 3);
        record.extend([0xa0, 0, 1, 0, 1, 0x40]);
        record.extend([39, 0, 1, 0, 2, 0x4e, 1]);
        record.extend([0x22, 0, 2, 0, 1, 0x44, 0, 1, 0x45]);
        let setup = hevc(&record).expect("a record");
        assert_eq!(setup.length_bytes, 2);
        let sets = [0, 0, 0, 1, 0x40, 0, 0, 0, 1, 0x44, 0, 0, 0, 1, 0x45];
        assert_eq!(setup.parameter_sets, sets);
        assert_eq!(hevc(&record[..record.len() - 1]), None);
    }

    #[test]
    fn the_other_records_are_checked_at_their_heads() {
        assert_eq!(av1(&[0x81, 0, 0x0c, 0, 0x0a, 0]), Some(&[0x0a, 0][..]));
        assert_eq!(av1(&[0x01, 0, 0x0c, 0]), None);
        assert_eq!(aac(&[0x12, 0x10]), Some(&[0x12, 0x10][..]));
        assert_eq!((aac(&[0x12]), aac(&[0; 257])), (None, None));
        assert_eq!(opus_channels(b"OpusHead\x01\x02\x38\x01"), Some(2));
        assert_eq!(opus_channels(b"OpusTags\x01\x02"), None);
    }
}
