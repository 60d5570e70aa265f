//! The bodies of RTMP's audio and video messages: those of FLV tags (Adobe's "Video File Format
//! Specification" 10.1, annex E), Opus by Enhanced RTMP v2.

use crate::source::{PARAMETER_SETS, Picture};
use bytes::Bytes;

/// A keyframe and another picture, in H.264.
const KEYFRAME: u8 = 0x17;
const PICTURE: u8 = 0x27;
/// `AVCPacketType`.
const SEQUENCE_HEADER: u8 = 0;
const NAL_UNITS: u8 = 1;
/// The `ExHeader` of audio with its packet type (Enhanced RTMP v2, `ExAudioTagHeader`).
const OPUS_START: u8 = 0x90;
const OPUS_FRAMES: u8 = 0x91;
const OPUS: &[u8; 4] = b"Opus";
/// AAC, whatever the other bits say (FLV E.4.2.1).
const AAC: u8 = 0xAF;

/// What comes before the first picture: an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15
/// §5.3.3.1), with lengths of four bytes.
pub(super) fn video_header() -> Bytes {
    let [sequence, picture] = PARAMETER_SETS;
    let mut body = vec![KEYFRAME, SEQUENCE_HEADER, 0, 0, 0, 1];
    body.extend(sequence.iter().skip(1).take(3));
    body.extend([0xFF, 0xE1]);
    body.extend((sequence.len() as u16).to_be_bytes());
    body.extend_from_slice(sequence);
    body.push(1);
    body.extend((picture.len() as u16).to_be_bytes());
    body.extend_from_slice(picture);
    body.into()
}

/// One picture, shown when it is decoded.
pub(super) fn video(picture: &Picture) -> Bytes {
    let mut body = Vec::with_capacity(picture.nal.len() + 9);
    body.extend([if picture.keyframe { KEYFRAME } else { PICTURE }, NAL_UNITS, 0, 0, 0]);
    body.extend((picture.nal.len() as u32).to_be_bytes());
    body.extend_from_slice(&picture.nal);
    body.into()
}

/// What comes before the first sound: `OpusHead` (RFC 7845 §5.1), stereo, or the
/// `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1) of AAC-LC, stereo at 48 kHz.
pub(super) fn audio_header(aac: bool) -> Bytes {
    if aac {
        return Bytes::from_static(&[AAC, 0, 0x11, 0x90]);
    }
    let mut body = vec![OPUS_START];
    body.extend(OPUS);
    body.extend(b"OpusHead");
    body.extend([1, 2, 0, 0]);
    body.extend(48_000_u32.to_le_bytes());
    body.extend([0, 0, 0]);
    body.into()
}

/// One frame of AAC: two channels of silence.
pub(super) fn silence() -> Bytes {
    Bytes::from_static(&[AAC, 1, 0x21, 0x10, 0x04, 0x60, 0x8C, 0x1C])
}

/// One packet of sound.
pub(super) fn audio(packet: &[u8]) -> Bytes {
    [&[OPUS_FRAMES][..], OPUS, packet].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{PictureSource, VideoSettings};

    #[test]
    fn the_configuration_says_profile_and_both_parameter_sets() {
        let header = video_header();
        let [sequence, picture] = PARAMETER_SETS;
        assert_eq!(header[..11], [0x17, 0, 0, 0, 0, 1, 0x42, 0xE0, 0x1F, 0xFF, 0xE1]);
        let rest = &header[11..];
        assert_eq!(rest[..2], [0, sequence.len() as u8]);
        assert!(rest[2..].starts_with(sequence) && rest.ends_with(picture));
    }

    #[test]
    fn a_picture_is_one_unit_with_its_length() {
        let picture = PictureSource::new(VideoSettings::default()).next_picture();
        let body = video(&picture);
        assert_eq!(body[..5], [0x17, 1, 0, 0, 0]);
        assert_eq!(body[5..9], (picture.nal.len() as u32).to_be_bytes());
        assert_eq!(body[9..], picture.nal);
    }
}
