//! Held against what ffmpeg 5.1 writes with real encoders' streams of 642x362.

use super::*;
use crate::codec::hex;
use crate::codec::packetizer::nal_units;

/// x264, Baseline, High and High 10; x265, Main and Main 10: name, record.
const NAL_STREAMS: [(Codec, &str, &str); 5] = [
    (
        Codec::H264,
        "avc1.42c01e",
        "0142c01effe1001a6742c01ed900a42fe224c044000003000400000300f03c58b92001000568cb83cb20",
    ),
    (
        Codec::H264,
        "avc1.64001e",
        "0164001effe1001b6764001eacd940a42fe224c044000003000400000300f03c58b65801000668ebe3cb22c0\
         fdf8f800",
    ),
    (
        Codec::H264,
        "avc1.6e001e",
        "016e001effe1001b676e001ea6cd940a42fe224c0440000003004000000f03c58b658001000668ebe3cb22c0\
         fdfafa00",
    ),
    (
        Codec::H265,
        "hvc1.1.6.L63.90",
        "0101600000009000000000003ff000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003\
         000003003f959809a10001002c42010101600000030090000003000003003fa005120171c9265959a4932bc0\
         5a020000030002000003003c10a2000100074401c172b46240",
    ),
    (
        Codec::H265,
        "hvc1.2.4.L63.90",
        "0102200000009000000000003ff000fcfdfafa00000f03a00001001840010c01ffff02200000030090000003\
         000003003f959809a10001002c42010102200000030090000003000003003fa005120171c92365959a4932bc\
         05a020000003002000000303c1a2000100074401c172b46240",
    ),
];

/// libaom 4:2:0, 4:4:4 with 10 bits, grey in the colours of HDR; SVT-AV1 with 10 bits; libaom for
/// real time, 1080p60. ffmpeg leaves out that the second is 4:4:4, and writes out what is the
/// default of the last.
const AV1_STREAMS: [(&str, &str); 5] = [
    ("av01.0.01M.08", "81010c000a0b0000000cc5036936be4010"),
    ("av01.1.01M.10.0.000.01.01.01.0", "812140000a0b2000000cc5036936be5080"),
    ("av01.0.01M.08.1.110.09.16.09.1", "81011c000a0e0000000cc5036936be4c24402680"),
    ("av01.0.01M.10", "81014c000a0b0000000cc5036900be1010"),
    ("av01.0.09M.08", "81090c000a0f0000004aabbfc37e0ecd1010101040"),
];

/// A keyframe with the parameter sets of a record.
fn keyframe(codec: Codec, record: &[u8]) -> Vec<u8> {
    let is_h264 = codec == Codec::H264;
    let mut frame = Vec::new();
    let mut rest = &record[if is_h264 { 5 } else { 23 }..];
    for array in 0..if is_h264 { 2 } else { 3 } {
        let head = if is_h264 { 1 } else { 3 };
        assert_eq!(rest[head - 1] & 0x1f, 1, "one set in array {array}");
        let len = usize::from(rest[head]) << 8 | usize::from(rest[head + 1]);
        frame.extend([0, 0]);
        frame.extend_from_slice(&rest[head..head + 2 + len]);
        rest = &rest[head + 2 + len..];
    }
    let picture: &[u8] = if is_h264 { &[0x65, 0x88, 0x84] } else { &[0x26, 1, 0xaf, 9] };
    frame.extend((picture.len() as u32).to_be_bytes());
    frame.extend_from_slice(picture);
    frame
}

#[test]
fn the_records_of_h264_and_h265_are_those_of_ffmpeg() {
    for (codec, name, record) in NAL_STREAMS {
        let record = hex(record);
        let read = VideoConfiguration::read(codec, &keyframe(codec, &record)).expect(name);
        assert_eq!(read.record, record, "{name}");
        assert_eq!(read.codec_string, name);
        assert_eq!(read.size, (642, 362), "{name}");
        assert_eq!(read.sample_entry(), name.as_bytes()[..4], "{name}");
    }
}

#[test]
fn the_records_of_av1_are_those_of_ffmpeg() {
    for (name, record) in AV1_STREAMS {
        let record = hex(record);
        let read = VideoConfiguration::read(Codec::Av1, &record[4..]).expect(name);
        assert_eq!(read.record, record, "{name}");
        assert_eq!(read.codec_string, name);
        let size = if name.contains("09M") { (1920, 1080) } else { (642, 362) };
        assert_eq!(read.size, size, "{name}");
    }
    // Without size field, and after a delimiter, it is the same.
    let bare = hex("1200 08 0000000cc5036936be4010");
    let read = VideoConfiguration::read(Codec::Av1, &bare).expect("a header");
    assert_eq!(read.record, hex(AV1_STREAMS[0].1));
}

#[test]
fn what_lacks_a_parameter_set_is_not_configured() {
    for (codec, name, record) in NAL_STREAMS {
        let frame = keyframe(codec, &hex(record));
        let units: Vec<&[u8]> = nal_units(&frame).collect();
        for left_out in 0..units.len() - 1 {
            let mut less = Vec::new();
            for (_, unit) in units.iter().enumerate().filter(|(at, _)| *at != left_out) {
                less.extend((unit.len() as u32).to_be_bytes());
                less.extend_from_slice(unit);
            }
            assert_eq!(VideoConfiguration::read(codec, &less), None, "{name} without {left_out}");
        }
        for len in 0..frame.len() - 8 {
            let _ = VideoConfiguration::read(codec, &frame[..len]);
        }
    }
    assert_eq!(VideoConfiguration::read(Codec::Vp8, &[0x10; 40]), None);
}

#[test]
fn parameter_sets_leave_keyframes_and_nothing_else_does() {
    for (codec, name, record) in NAL_STREAMS {
        let frame = Bytes::from(keyframe(codec, &hex(record)));
        let stripped = strip_parameter_sets(codec, &frame);
        assert_eq!(nal_units(&stripped).count(), 1, "{name}");
        assert_eq!(nal_units(&stripped).last(), nal_units(&frame).last(), "{name}");
        // What has none is the same memory.
        assert_eq!(strip_parameter_sets(codec, &stripped).as_ptr(), stripped.as_ptr());
    }
    let picture_set = Bytes::from(hex("00000004 68ce0fc8 00000003 419a22"));
    assert_eq!(strip_parameter_sets(Codec::H264, &picture_set), picture_set);
    let sequence = Bytes::from(hex("0a0b0000000cc5036936be4010 320110"));
    assert_eq!(strip_parameter_sets(Codec::Av1, &sequence), sequence);
}

#[test]
fn aac_is_read_with_what_extends_it() {
    let table = [
        // What, name, rate, channels, samples.
        ("1190 56e500", "mp4a.40.2", 48_000, 2, 1024), // ffmpeg: it says there is no extension
        ("1210", "mp4a.40.2", 44_100, 2, 1024),
        ("1208", "mp4a.40.2", 44_100, 1, 1024),
        ("1194", "mp4a.40.2", 48_000, 2, 960),
        ("0a10", "mp4a.40.1", 44_100, 2, 1024),        // Main
        ("11b8", "mp4a.40.2", 48_000, 8, 1024),        // 7.1
        ("2b118800", "mp4a.40.5", 48_000, 2, 2048),    // HE-AAC, told first
        ("eb098800", "mp4a.40.29", 48_000, 2, 2048),   // HE-AAC v2
        ("1310 56e598", "mp4a.40.5", 48_000, 2, 2048), // HE-AAC, told behind
        ("1308 56e59d4880", "mp4a.40.29", 48_000, 2, 2048),
        ("17805dc008", "mp4a.40.2", 48_000, 1, 1024), // the rate spelled out
        ("1180", "mp4a.40.2", 48_000, 2, 1024),       // the channels spelled out
    ];
    for (config, name, rate, channels, samples) in table {
        let config: std::sync::Arc<[u8]> = hex(config).into();
        let read = AudioConfiguration::read(&AudioCoding::Aac(config.clone())).expect(name);
        assert_eq!(read.codec_string, name, "{config:02x?}");
        assert_eq!((read.sample_rate, read.channels), (rate, channels), "{config:02x?}");
        assert_eq!(read.frame_samples, Some(samples), "{config:02x?}");
        assert_eq!(*read.record, *config);
    }
    for config in ["", "11", "1f80000010", "f94a00", "11c0", "2b"] {
        let coding = AudioCoding::Aac(hex(config).into());
        assert_eq!(AudioConfiguration::read(&coding), None, "{config}");
    }
}

#[test]
fn opus_is_two_channels_of_48_khz() {
    let read = AudioConfiguration::read(&AudioCoding::Opus).expect("always");
    assert_eq!(read.record, hex("00 02 0138 0000bb80 0000 00"));
    assert_eq!((read.codec_string.as_str(), read.sample_rate), ("opus", 48_000));
    assert_eq!(AudioConfiguration::read(&AudioCoding::Mpeg), None);
}
