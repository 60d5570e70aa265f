//! From messages to frames: what of them is kept, and when it is shown.

use super::*;
use std::fmt::Write as _;

const AVC_SETUP: &[u8] =
    b"\x17\x00\x00\x00\x00\x01\x42\x00\x1f\xff\xe1\x00\x02\x67\x01\x01\x00\x01\x68";
const AVC_SETS: &[u8] = b"\x00\x00\x00\x02\x67\x01\x00\x00\x00\x01\x68";
const AAC_SETUP: &[u8] = b"\xaf\x00\x12\x10";

/// Frames as text: coding, decode and presentation time in milliseconds, length.
#[derive(Default)]
struct Reading {
    demuxer: Demuxer,
    frames: Vec<Frame>,
}

impl Reading {
    fn of(messages: &[(u8, u32, &[u8])]) -> Self {
        let mut reading = Self::default();
        for &(kind, timestamp, payload) in messages {
            let payload = Bytes::copy_from_slice(payload);
            let message = Message { timestamp, kind, stream: 1, payload };
            // Arrival is only passed on.
            let arrival = crate::clock::Clock::system().now();
            reading.demuxer.read(&message, arrival, |frame| reading.frames.push(frame));
        }
        reading
    }

    fn told(&self) -> String {
        let mut text = String::new();
        for Frame { coding, decode_ticks, present_ticks, data, .. } in &self.frames {
            let (decode, present) = (decode_ticks / 90, present_ticks / 90);
            write!(text, "{coding} {decode} {present} {}|", data.len()).expect("memory");
        }
        text
    }
}

fn video(timestamp: u32, payload: &[u8]) -> (u8, u32, &[u8]) {
    (kind::VIDEO, timestamp, payload)
}

fn audio(timestamp: u32, payload: &[u8]) -> (u8, u32, &[u8]) {
    (kind::AUDIO, timestamp, payload)
}

#[test]
fn parameter_sets_stand_before_the_next_keyframe_once() {
    let idr = b"\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x09";
    let other = b"\x27\x01\x00\x00\x50\x00\x00\x00\x02\x41\x09";
    let frames = [video(0, AVC_SETUP), video(0, other), video(40, idr), video(80, idr)];
    let reading = Reading::of(&frames);
    assert_eq!(reading.told(), "H264 0 80 6|H264 40 40 17|H264 80 80 6|");
    assert_eq!(reading.frames[1].data, [AVC_SETS, &idr[5..]].concat());
}

#[test]
fn a_keyframe_that_is_not_marked_is_one_all_the_same() {
    let unmarked = b"\x27\x01\x00\x00\x00\x00\x00\x00\x02\x65\x09";
    let reading = Reading::of(&[video(0, AVC_SETUP), video(0, unmarked)]);
    assert!(reading.frames[0].data.starts_with(AVC_SETS));
    let mut setup = vec![0x90];
    setup.extend(b"hvc1");
    setup.extend([1; 21]);
    setup.extend([0xff, 1, 0x20, 0, 1, 0, 1, 0x40]);
    let reading = Reading::of(&[video(0, &setup), video(0, b"\xa3hvc1\x00\x00\x00\x01\x26")]);
    assert_eq!(reading.frames[0].data, b"\x00\x00\x00\x01\x40\x00\x00\x00\x01\x26"[..]);
}

#[test]
fn short_lengths_of_nal_units_become_four_bytes() {
    let mut setup = AVC_SETUP.to_vec();
    setup[9] = 0xfd;
    let reading = Reading::of(&[video(0, &setup), video(0, b"\x27\x01\x00\x00\x00\x00\x01\x41")]);
    assert_eq!(reading.frames[0].data, [0, 0, 0, 1, 0x41][..]);
}

#[test]
fn sound_needs_its_setup_and_keeps_it() {
    let raw = b"\xaf\x01\x21\x10";
    let reading = Reading::of(&[audio(0, raw), audio(10, AAC_SETUP), audio(23, raw)]);
    assert_eq!(reading.told(), "AAC 23 23 2|");
    let config = AudioCoding::Aac(Arc::from([0x12, 0x10]));
    assert_eq!(reading.frames[0].coding, Coding::Audio(config));
    assert_eq!(Reading::of(&[audio(7, b"\x2f\xff\xfb")]).told(), "MPEG audio 7 7 2|");
    let opus = [audio(0, b"\x90OpusOpusHead\x01\x02"), audio(20, b"\x91Opus\xfc\x01")];
    assert_eq!(Reading::of(&opus).told(), "Opus 20 20 2|");
}

#[test]
fn av1_has_its_sequence_header_before_the_first_keyframe() {
    let setup = b"\x90av01\x81\x00\x0c\x00\x0a\x01\x07";
    let key = b"\x91av01\x12\x00\x32\x02\x08\x09";
    let other = b"\xa1av01\x12\x00\x32\x02\x08\x09";
    let reading = Reading::of(&[video(0, setup), video(0, key), video(33, other)]);
    assert_eq!(reading.told(), "AV1 0 0 7|AV1 33 33 4|");
    assert_eq!(reading.frames[0].data, b"\x0a\x01\x07\x32\x02\x08\x09"[..]);
}

#[test]
fn an_encoder_that_changes_its_codec_leaves_nothing_of_the_old_one() {
    let setup = b"\x90av01\x81\x00\x0c\x00\x0a\x01\x07";
    let idr = b"\x17\x01\x00\x00\x00\x00\x00\x00\x02\x65\x09";
    let mut short_lengths = AVC_SETUP.to_vec();
    short_lengths[9] = 0xfd;
    let hevc = b"\xa3hvc1\x00\x00\x00\x01\x02";
    let reading =
        Reading::of(&[video(0, setup), video(0, idr), video(40, &short_lengths), video(80, hevc)]);
    assert_eq!(reading.told(), "H264 0 0 6|H265 80 80 5|");
}

#[test]
fn timestamps_wrap_and_both_kinds_stay_together() {
    let raw = b"\xaf\x01\x21\x10";
    let frame = b"\x27\x01\x00\x00\x00\x00\x00\x00\x01\x41";
    let reading = Reading::of(&[
        audio(u32::MAX - 9, AAC_SETUP),
        video(u32::MAX - 9, frame),
        audio(5, raw),
        video(u32::MAX, frame),
        video(30, frame),
    ]);
    let start = i64::from(u32::MAX) - 9;
    let times: Vec<i64> = reading.frames.iter().map(|it| it.decode_ticks / 90 - start).collect();
    assert_eq!(times, [0, 15, 9, 40]);
}

#[test]
fn nanoseconds_are_added() {
    let reading = Reading::of(&[video(10, b"\x97\x02\x07\xa1\x20\x03vp09x")]);
    assert_eq!(reading.frames[0].decode_ticks, 10 * 90 + 45);
}

#[test]
fn the_first_tracks_are_used_and_the_others_are_listed_once() {
    let many = b"\x96\x11av01\x01\x00\x00\x02\x32\x00\x02\x00\x00\x02\x32\x00";
    let sound = b"\x95\x21fLaC\x00\x00\x00\x01aOpus\x01\x00\x00\x01b";
    let mut reading = Reading::of(&[video(0, many), audio(0, sound), video(9, many)]);
    assert_eq!(reading.told(), "AV1 0 0 2|Opus 0 0 1|AV1 9 9 2|");
    let others = reading.demuxer.new_others().expect("there are others");
    let expected = [
        "video track 2, AV1: another track is used",
        "audio track 0, FLAC: it cannot be used: set the encoder to AAC or Opus",
    ];
    assert_eq!(others, expected);
    assert_eq!(reading.demuxer.new_others(), None, "they are told once");
}

#[test]
fn sound_of_more_than_two_channels_is_told_and_not_used() {
    let messages = [audio(0, b"\x90OpusOpusHead\x01\x06"), audio(20, b"\x91Opus\xfc\x01")];
    let mut reading = Reading::of(&messages);
    assert_eq!(reading.told(), "");
    let others = reading.demuxer.new_others().expect("a note");
    assert!(others[0].contains("stereo"), "{others:?}");
}

#[test]
fn an_aggregate_is_several_tags() {
    let tag = |kind: u8, time: u32, data: &[u8]| {
        let [high, time @ ..] = time.to_be_bytes();
        let size = (data.len() as u32).to_be_bytes();
        let tail = (data.len() as u32 + 11).to_be_bytes();
        [&[kind], &size[1..], &time, &[high, 0, 0, 0], data, &tail].concat()
    };
    let parts = [
        tag(kind::AUDIO, 1000, AAC_SETUP),
        tag(18, 1000, b"\x02"),
        tag(kind::AUDIO, 1023, b"\xaf\x01\x21\x10"),
        tag(kind::AUDIO, 1046, b"\xaf\x01\x21\x10"),
    ];
    let reading = Reading::of(&[(kind::AGGREGATE, 500, &parts.concat())]);
    assert_eq!(reading.told(), "AAC 523 523 2|AAC 546 546 2|");
}

#[test]
fn what_makes_no_sense_is_counted_and_the_next_tag_is_read() {
    let reading = Reading::of(&[
        video(0, b"\x17"),
        video(0, b"\x17\x00\x00\x00\x00\x01"),
        video(0, b""),
        video(0, b"\x91vp09x"),
    ]);
    assert_eq!((reading.told().as_str(), reading.demuxer.bad()), ("VP9 0 0 1|", 2));
}
