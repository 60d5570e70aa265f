//! The head of an audio or video tag, of FLV 10.1 §E.4 and of Enhanced RTMP v2 alike.
//! Fuzz target: `rtmp_flv`.
//!
//! One tag holds several tracks in Enhanced RTMP; each is a [`Part`]. What a part's body is, is
//! none of this file's business.

use crate::media::codec::{Codec, Kind};
use bytes::{Buf as _, Bytes};

/// The most tracks of one tag that are looked at.
const PARTS_MAX: usize = 16;
/// The most extensions before the rest of a tag's head.
const EXTENSIONS_MAX: usize = 8;

/// What encodes a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagCodec {
    /// H.264, H.265, AV1, VP8 or VP9.
    Video(Codec),
    /// Opus.
    Opus,
    /// AAC.
    Aac,
    /// MPEG-1 and -2 audio.
    Mpeg,
    /// AC-3.
    Ac3,
    /// One that has a number in FLV, and no use here.
    Unused(&'static str),
    /// One whose four characters are not known.
    Unknown([u8; 4]),
}

/// What a part's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// A sequence header: what the decoder is set up with.
    Setup,
    /// A frame.
    Frame {
        /// How much later than decoded it is shown, in milliseconds.
        composition_ms: i32,
    },
    /// The end of a sequence, and whatever else has no picture and no sound.
    Nothing,
}

/// What a tag has for one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) track: u8,
    pub(super) codec: TagCodec,
    pub(super) body: Body,
    pub(super) data: Bytes,
}

/// A tag.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// Whether it says of its pictures that decoding may start with them.
    pub(super) is_keyframe: bool,
    /// What is to be added to its timestamp.
    pub(super) offset_nanos: u32,
    pub(super) parts: Vec<Part>,
}

/// Packet types of Enhanced RTMP.
mod packet {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const METADATA: u8 = 4;
    pub(super) const MULTITRACK_AUDIO: u8 = 5;
    pub(super) const MULTITRACK_VIDEO: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

/// The kinds of multitrack tags.
mod multitrack {
    pub(super) const ONE_TRACK: u8 = 0;
    pub(super) const MANY_TRACKS: u8 = 1;
    pub(super) const MANY_TRACKS_MANY_CODECS: u8 = 2;
}

/// A frame of no picture (FLV 10.1 §E.4.3.1).
const COMMAND_FRAME: u8 = 5;

/// Reads a tag. `None` where it is cut short or makes no sense.
pub(super) fn read(kind: Kind, payload: Bytes) -> Option<Tag> {
    match kind {
        Kind::Video => video(payload),
        Kind::Audio => audio(payload),
    }
}

fn video(mut rest: Bytes) -> Option<Tag> {
    let first = take::<1>(&mut rest)?[0];
    if first & 0x80 != 0 {
        let frame_type = first >> 4 & 7;
        return enhanced(Kind::Video, frame_type, first & 15, rest);
    }
    let frame_type = first >> 4;
    let codec = match first & 15 {
        7 => TagCodec::Video(Codec::H264),
        // No standard has it; encoders that sent H.265 before Enhanced RTMP do.
        12 => TagCodec::Video(Codec::H265),
        2 => TagCodec::Unused("Sorenson H.263"),
        3 | 6 => TagCodec::Unused("Screen video"),
        4 | 5 => TagCodec::Unused("VP6"),
        _ => TagCodec::Unused("an unknown video codec"),
    };
    if frame_type == COMMAND_FRAME {
        return Some(Tag::default());
    }
    let body = if matches!(codec, TagCodec::Video(_)) {
        let [kind, time @ ..] = take::<4>(&mut rest)?;
        match kind {
            0 => Body::Setup,
            1 => Body::Frame { composition_ms: signed(time) },
            _ => Body::Nothing,
        }
    } else {
        Body::Nothing
    };
    let part = Part { track: 0, codec, body, data: rest };
    Some(Tag { is_keyframe: frame_type == 1, offset_nanos: 0, parts: vec![part] })
}

fn audio(mut rest: Bytes) -> Option<Tag> {
    /// `soundFormat` that says that Enhanced RTMP follows.
    const ENHANCED: u8 = 9;
    let first = take::<1>(&mut rest)?[0];
    let codec = match first >> 4 {
        ENHANCED => return enhanced(Kind::Audio, 0, first & 15, rest),
        10 => TagCodec::Aac,
        2 | 14 => TagCodec::Mpeg,
        0 | 3 => TagCodec::Unused("PCM"),
        1 => TagCodec::Unused("ADPCM"),
        4..=6 => TagCodec::Unused("Nellymoser"),
        7 | 8 => TagCodec::Unused("G.711"),
        11 => TagCodec::Unused("Speex"),
        _ => TagCodec::Unused("an unknown audio codec"),
    };
    let frame = Body::Frame { composition_ms: 0 };
    let body = match codec {
        TagCodec::Aac => match take::<1>(&mut rest)? {
            [0] => Body::Setup,
            [1] => frame,
            _ => Body::Nothing,
        },
        TagCodec::Mpeg => frame,
        _ => Body::Nothing,
    };
    let part = Part { track: 0, codec, body, data: rest };
    Some(Tag { parts: vec![part], ..Tag::default() })
}

/// Enhanced RTMP v2: `ExVideoTagHeader` and `ExAudioTagHeader` with their bodies.
fn enhanced(kind: Kind, frame_type: u8, mut packet: u8, mut rest: Bytes) -> Option<Tag> {
    let mut tag = Tag { is_keyframe: frame_type == 1, ..Tag::default() };
    let mut extensions = 0;
    while packet == packet::MOD_EX {
        extensions += 1;
        if extensions > EXTENSIONS_MAX {
            return None;
        }
        let (next, nanos) = extension(&mut rest)?;
        packet = next;
        tag.offset_nanos = nanos.unwrap_or(tag.offset_nanos);
    }
    let is_video = kind == Kind::Video;
    if is_video && (packet == packet::METADATA || frame_type == COMMAND_FRAME) {
        return Some(tag);
    }
    let marks_tracks = if is_video { packet::MULTITRACK_VIDEO } else { packet::MULTITRACK_AUDIO };
    if packet != marks_tracks {
        let codec = codec(kind, take(&mut rest)?);
        tag.parts.push(part(0, codec, packet, rest)?);
        return Some(tag);
    }
    let both = take::<1>(&mut rest)?[0];
    let (tracks, packet) = (both >> 4, both & 15);
    let mut shared = None;
    match tracks {
        multitrack::ONE_TRACK | multitrack::MANY_TRACKS => {
            shared = Some(codec(kind, take(&mut rest)?));
        }
        multitrack::MANY_TRACKS_MANY_CODECS => {}
        _ => return None,
    }
    while !rest.is_empty() && tag.parts.len() < PARTS_MAX {
        let codec = match shared {
            Some(codec) => codec,
            None => codec(kind, take(&mut rest)?),
        };
        let track = take::<1>(&mut rest)?[0];
        let len = match tracks {
            multitrack::ONE_TRACK => rest.len(),
            _ => unsigned(take(&mut rest)?) as usize,
        };
        if len > rest.len() {
            return None;
        }
        tag.parts.push(part(track, codec, packet, rest.split_to(len))?);
    }
    Some(tag)
}

/// One `ModEx`: what kind of packet follows it, and the nanoseconds, if it has these.
fn extension(rest: &mut Bytes) -> Option<(u8, Option<u32>)> {
    const TIMESTAMP_OFFSET_NANO: u8 = 0;
    let mut len = usize::from(take::<1>(rest)?[0]) + 1;
    if len == 256 {
        len = usize::from(u16::from_be_bytes(take(rest)?)) + 1;
    }
    if len > rest.len() {
        return None;
    }
    let mut data = rest.split_to(len);
    let both = take::<1>(rest)?[0];
    let nanos = (both >> 4 == TIMESTAMP_OFFSET_NANO).then(|| take(&mut data)).flatten();
    Some((both & 15, nanos.map(unsigned)))
}

fn part(track: u8, codec: TagCodec, packet: u8, mut data: Bytes) -> Option<Part> {
    let has_composition = matches!(codec, TagCodec::Video(Codec::H264 | Codec::H265));
    let body = match packet {
        packet::SEQUENCE_START => Body::Setup,
        packet::CODED_FRAMES if has_composition => {
            Body::Frame { composition_ms: signed(take(&mut data)?) }
        }
        packet::CODED_FRAMES | packet::CODED_FRAMES_X => Body::Frame { composition_ms: 0 },
        _ => Body::Nothing,
    };
    Some(Part { track, codec, body, data })
}

fn codec(kind: Kind, name: [u8; 4]) -> TagCodec {
    match (kind, &name) {
        (Kind::Video, b"avc1") => TagCodec::Video(Codec::H264),
        (Kind::Video, b"hvc1") => TagCodec::Video(Codec::H265),
        (Kind::Video, b"av01") => TagCodec::Video(Codec::Av1),
        (Kind::Video, b"vp09") => TagCodec::Video(Codec::Vp9),
        (Kind::Video, b"vp08") => TagCodec::Video(Codec::Vp8),
        (Kind::Audio, b"Opus") => TagCodec::Opus,
        (Kind::Audio, b"mp4a") => TagCodec::Aac,
        (Kind::Audio, b".mp3") => TagCodec::Mpeg,
        (Kind::Audio, b"ac-3") => TagCodec::Ac3,
        (Kind::Audio, b"ec-3") => TagCodec::Unused("E-AC-3"),
        (Kind::Audio, b"fLaC") => TagCodec::Unused("FLAC"),
        _ => TagCodec::Unknown(name),
    }
}

fn take<const N: usize>(rest: &mut Bytes) -> Option<[u8; N]> {
    let bytes = *rest.first_chunk()?;
    rest.advance(N);
    Some(bytes)
}

fn unsigned([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

fn signed([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video_tag(bytes: &[u8]) -> Option<Tag> {
        read(Kind::Video, Bytes::copy_from_slice(bytes))
    }

    fn audio_tag(bytes: &[u8]) -> Option<Tag> {
        read(Kind::Audio, Bytes::copy_from_slice(bytes))
    }

    fn only(tag: Option<Tag>) -> Part {
        let parts = tag.expect("a tag").parts;
        assert_eq!(parts.len(), 1);
        parts.into_iter().next().expect("one part")
    }

    #[test]
    fn legacy_video_has_a_composition_time_with_a_sign() {
        let part = only(video_tag(&[0x27, 1, 0xff, 0xff, 0xd8, 9, 9]));
        assert_eq!(part.codec, TagCodec::Video(Codec::H264));
        assert_eq!(part.body, Body::Frame { composition_ms: -40 });
        assert_eq!(part.data, [9, 9][..]);
        assert!(video_tag(&[0x17, 0, 0, 0, 0]).expect("a tag").is_keyframe);
        assert_eq!(only(video_tag(&[0x1c, 0, 0, 0, 0])).codec, TagCodec::Video(Codec::H265));
        assert_eq!(only(video_tag(&[0x12, 1])).codec, TagCodec::Unused("Sorenson H.263"));
        assert_eq!(video_tag(&[0x57, 0]), Some(Tag::default()), "a command frame is no picture");
    }

    #[test]
    fn legacy_audio_is_aac_mp3_or_named() {
        assert_eq!(only(audio_tag(&[0xaf, 0, 0x12, 0x10])).body, Body::Setup);
        assert_eq!(only(audio_tag(&[0xaf, 1, 7])).body, Body::Frame { composition_ms: 0 });
        assert_eq!(only(audio_tag(&[0x2f, 0xff, 0xfb])).codec, TagCodec::Mpeg);
        assert_eq!(only(audio_tag(&[0xb6, 1])).codec, TagCodec::Unused("Speex"));
    }

    #[test]
    fn enhanced_tags_name_their_codec_by_four_characters() {
        for (name, codec, body) in [
            (b"hvc1", Codec::H265, Body::Frame { composition_ms: 40 }),
            (b"avc1", Codec::H264, Body::Frame { composition_ms: 40 }),
            (b"av01", Codec::Av1, Body::Frame { composition_ms: 0 }),
            (b"vp09", Codec::Vp9, Body::Frame { composition_ms: 0 }),
            (b"vp08", Codec::Vp8, Body::Frame { composition_ms: 0 }),
        ] {
            let tag = [&[0x91][..], name, &[0, 0, 40, 1]].concat();
            let part = only(video_tag(&tag));
            assert_eq!((part.codec, part.body), (TagCodec::Video(codec), body));
        }
        let part = only(video_tag(b"\xa3hvc1\x01\x02"));
        assert_eq!(part.body, Body::Frame { composition_ms: 0 });
        assert_eq!(part.data, [1, 2][..]);
        assert_eq!(only(audio_tag(b"\x90OpusOpusHead")).body, Body::Setup);
        let part = only(audio_tag(b"\x91ac-3\x0b\x77"));
        assert_eq!((part.codec, part.data.len()), (TagCodec::Ac3, 2));
        assert_eq!(only(audio_tag(b"\x91fLaC")).codec, TagCodec::Unused("FLAC"));
        assert_eq!(only(audio_tag(b"\x91????")).codec, TagCodec::Unknown(*b"????"));
    }

    #[test]
    fn metadata_and_the_end_of_a_sequence_are_nothing() {
        assert_eq!(video_tag(b"\x94hvc1abc").expect("a tag").parts, []);
        assert_eq!(only(video_tag(b"\x92hvc1")).body, Body::Nothing);
        assert_eq!(only(audio_tag(b"\x94mp4a\x00\x02")).body, Body::Nothing);
    }

    #[test]
    fn several_tracks_come_in_one_tag() {
        let one = only(video_tag(b"\x96\x01av01\x03data"));
        assert_eq!((one.track, one.data.len()), (3, 4));
        let many = video_tag(b"\x96\x13av01\x00\x00\x00\x01a\x01\x00\x00\x02bb").expect("a tag");
        let tracks: Vec<_> = many.parts.iter().map(|part| (part.track, part.data.len())).collect();
        assert_eq!(tracks, [(0, 1), (1, 2)]);
        let codecs = audio_tag(b"\x95\x21Opus\x00\x00\x00\x01amp4a\x02\x00\x00\x01b");
        let codecs: Vec<_> = codecs.expect("a tag").parts.iter().map(|part| part.codec).collect();
        assert_eq!(codecs, [TagCodec::Opus, TagCodec::Aac]);
    }

    #[test]
    fn nanoseconds_stand_in_an_extension() {
        let tag = video_tag(b"\x97\x02\x0f\x42\x3f\x03hvc1x").expect("a tag");
        assert_eq!((tag.offset_nanos, tag.parts.len()), (999_999, 1));
        let long = [&[0x97, 0xff, 0, 0xff][..], &[0; 256], b"\x13hvc1x"].concat();
        let tag = video_tag(&long).expect("a tag");
        assert_eq!((tag.offset_nanos, tag.parts.len()), (0, 1), "an unknown one is passed over");
        assert_eq!(video_tag(&[&[0x97][..], &[0, 0, 0x17].repeat(50)].concat()), None);
    }

    #[test]
    fn tags_that_are_cut_short_are_none() {
        for bytes in
            [&b""[..], b"\x17\x00", b"\x91hv", b"\x91hvc1\x00", b"\x96\x13av01\x00\x00\x00\x09a"]
        {
            assert_eq!(video_tag(bytes), None, "{bytes:?}");
        }
        assert_eq!(video_tag(b"\x96\x33av01"), None, "there is no such kind of multitrack");
        assert_eq!(audio_tag(b"\xaf"), None);
    }
}
