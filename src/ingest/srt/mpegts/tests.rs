//! Transport streams of real multiplexers (`tests/data/mpegts`), whole and damaged.

use super::*;
use crate::media::codec::{Codec, Kind};
use crate::media::frame::AudioCoding;

const AAC: &[u8] = include_bytes!("../../../../tests/data/mpegts/h264-aac.ts");
const LATM: &[u8] = include_bytes!("../../../../tests/data/mpegts/h265-latm.ts");
const OPUS: &[u8] = include_bytes!("../../../../tests/data/mpegts/h264-opus.ts");
const MP2: &[u8] = include_bytes!("../../../../tests/data/mpegts/h264-mp2.ts");
const AC3: &[u8] = include_bytes!("../../../../tests/data/mpegts/h264-ac3.ts");
const B_FRAMES: &[u8] = include_bytes!("../../../../tests/data/mpegts/h264-b-frames.ts");
const GSTREAMER: &[u8] = include_bytes!("../../../../tests/data/mpegts/gstreamer.ts");

/// What a stream holds, taken in by messages of so many bytes.
fn demuxed(stream: &[u8], message: usize) -> (Vec<Frame>, Damage) {
    let mut demuxer = Demuxer::default();
    let (mut frames, now) = (Vec::new(), Instant::now());
    for bytes in stream.chunks(message) {
        demuxer.push(bytes, now, &mut frames);
    }
    (frames, demuxer.damage())
}

fn of_kind(frames: &[Frame], kind: Kind) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.coding.kind() == kind).collect()
}

/// Everything but when it arrived.
fn content(frames: &[Frame]) -> Vec<(&Coding, i64, i64, &[u8])> {
    let one = |it: &'_ Frame| (it.decode_ticks, it.present_ticks);
    frames.iter().map(|it| (&it.coding, one(it).0, one(it).1, &it.data[..])).collect()
}

fn packets(stream: &[u8]) -> Vec<[u8; LEN]> {
    stream.as_chunks::<LEN>().0.to_vec()
}

/// The types of the NAL units of a picture.
fn nal_types(frame: &Frame, codec: Codec) -> Vec<u8> {
    let mut rest = &frame.data[..];
    let mut types = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (nal, after) = after.split_at(u32::from_be_bytes(*len) as usize);
        types.push(if codec == Codec::H265 { nal[0] >> 1 & 0x3f } else { nal[0] & 0x1f });
        rest = after;
    }
    assert!(rest.is_empty(), "lengths that do not fit");
    types
}

#[test]
fn streams_of_real_multiplexers_are_read() {
    let aac: AudioCoding = AudioCoding::Aac([0x11, 0x90].as_slice().into());
    // The stream, its codec, how many pictures, its audio and how many frames, ticks of each.
    let table = [
        (AAC, Codec::H264, 10, aac.clone(), 48, 1920),
        (LATM, Codec::H265, 10, aac.clone(), 48, 1920),
        (OPUS, Codec::H264, 10, AudioCoding::Opus, 51, 1800),
        (MP2, Codec::H264, 10, AudioCoding::Mpeg, 42, 2160),
        (AC3, Codec::H264, 10, AudioCoding::Ac3, 32, 2880),
        (GSTREAMER, Codec::H264, 10, aac, 41, 1920),
    ];
    for (at, (stream, codec, pictures, audio, sounds, ticks)) in table.into_iter().enumerate() {
        let (frames, damage) = demuxed(stream, 1316);
        assert_eq!(damage, Damage::default(), "stream {at}");
        let video = of_kind(&frames, Kind::Video);
        // The last picture of an unknown length is ended by nothing.
        assert!((pictures - 1..=pictures).contains(&video.len()), "stream {at}: {}", video.len());
        assert!(video.iter().all(|it| it.coding == Coding::Video(codec)));
        assert!(video.windows(2).all(|it| it[1].decode_ticks - it[0].decode_ticks == 9000));
        let sound = of_kind(&frames, Kind::Audio);
        assert!((sounds - 1..=sounds).contains(&sound.len()), "stream {at}: {}", sound.len());
        assert!(sound.iter().all(|it| it.coding == Coding::Audio(audio.clone())));
        for pair in sound.windows(2) {
            let apart = pair[1].present_ticks - pair[0].present_ticks;
            assert!((apart - ticks).abs() <= 2, "stream {at}: {apart} ticks apart");
        }
        assert!((sound[0].present_ticks - video[0].present_ticks).abs() < 9000, "stream {at}");
    }
}

#[test]
fn keyframes_carry_their_parameter_sets_and_no_delimiters() {
    for (stream, codec, first) in
        [(AAC, Codec::H264, &[7, 8, 6, 5][..]), (LATM, Codec::H265, &[32, 33, 34, 39, 20])]
    {
        let (frames, _) = demuxed(stream, 1316);
        let types: Vec<Vec<u8>> =
            of_kind(&frames, Kind::Video).iter().map(|it| nal_types(it, codec)).collect();
        let mut kinds = types[0].clone();
        kinds.dedup();
        assert_eq!(kinds, first, "{codec}");
        assert!(types.iter().flatten().all(|kind| !matches!((codec, kind), (Codec::H264, 9))));
        assert!(types.iter().flatten().all(|kind| !matches!((codec, kind), (Codec::H265, 35))));
    }
}

#[test]
fn pictures_out_of_order_keep_both_their_times() {
    let (frames, _) = demuxed(B_FRAMES, 1316);
    let decoded: Vec<i64> = frames.iter().map(|it| it.decode_ticks).collect();
    assert!(decoded.windows(2).all(|it| it[1] - it[0] == 9000), "{decoded:?}");
    assert!(frames.windows(2).any(|it| it[1].present_ticks < it[0].present_ticks));
    assert!(frames.iter().all(|it| it.present_ticks >= it.decode_ticks));
}

#[test]
fn how_it_is_cut_into_messages_makes_no_difference() {
    for stream in [AAC, LATM] {
        let (whole, _) = demuxed(stream, stream.len());
        for message in [1, 7, 188, 189, 1000, 1456] {
            let (cut, damage) = demuxed(stream, message);
            assert_eq!(content(&cut), content(&whole), "{message} bytes");
            assert_eq!(damage, Damage::default(), "{message} bytes");
        }
    }
}

#[test]
fn packets_with_error_correction_and_garbage_between_packets_are_read() {
    let (whole, _) = demuxed(AAC, 1316);
    let longer: Vec<u8> =
        packets(AAC).iter().flat_map(|it| [&it[..], &[0x55; 16]].concat()).collect();
    for message in [1316, 1428] {
        let (frames, _) = demuxed(&longer, message);
        assert_eq!(content(&frames), content(&whole), "{message} bytes");
    }
    let garbage: Vec<u8> = [&[0x47; 100][..], &[0x11; 77], AAC].concat();
    let (frames, damage) = demuxed(&garbage, 1316);
    assert_eq!(content(&frames), content(&whole));
    assert_eq!(damage.skipped_bytes, 177);
}

#[test]
fn a_picture_with_a_hole_is_dropped_and_the_others_are_not() {
    let (whole, _) = demuxed(AAC, 1316);
    let all = packets(AAC);
    let video_pid = 0x100;
    let is_video = |it: &[u8; LEN]| Packet::split(it).is_some_and(|it| it.pid == video_pid);
    let mut holes = 0;
    // What is missing before the first is missed by nobody either.
    for hole in (0..all.len()).filter(|&at| is_video(&all[at])).skip(1) {
        let mut rest = all.clone();
        rest.remove(hole);
        let (frames, damage) = demuxed(rest.as_flattened(), 1316);
        let missing = whole.len() - frames.len();
        // The last packet of all is missed by nobody.
        let is_last = !all[hole + 1..].iter().any(is_video);
        assert!(missing <= 2 && damage.continuity_errors == u64::from(!is_last), "hole {hole}");
        let content_of_whole = content(&whole);
        assert!(content(&frames).iter().all(|it| content_of_whole.contains(it)), "hole {hole}");
        holes += missing;
    }
    assert!(holes > 10, "{holes}");
}

#[test]
fn packets_sent_twice_count_once() {
    let (whole, _) = demuxed(AAC, 1316);
    let twice: Vec<u8> = packets(AAC).iter().flat_map(|it| [*it, *it]).flatten().collect();
    let (frames, damage) = demuxed(&twice, 1316);
    assert_eq!(content(&frames), content(&whole));
    assert_eq!(damage, Damage::default());
}

#[test]
fn what_is_not_used_is_named() {
    let mut demuxer = Demuxer::default();
    demuxer.push(AAC, Instant::now(), &mut Vec::new());
    assert_eq!(demuxer.take_unused(), Some(Vec::new()));
    assert_eq!(demuxer.take_unused(), None, "nothing has changed");
    // H.264 called MPEG-2 video, in the table that says what there is.
    let mut all = packets(AAC);
    for packet in &mut all {
        let pmt = Packet::split(packet).is_some_and(|it| it.pid == 0x1000);
        if pmt && let Some(at) = packet.iter().position(|&byte| byte == 0x1b) {
            packet[at] = 0x02;
            let len = 8 + (usize::from(packet[6] & 0x0f) << 8 | usize::from(packet[7])) - 4;
            let sum = section::crc(&packet[5..len]);
            packet[len..len + 4].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let mut frames = Vec::new();
    demuxer.push(all.as_flattened(), Instant::now(), &mut frames);
    assert_eq!(demuxer.take_unused(), Some(vec!["MPEG-2 video (PID 256)".to_owned()]));
    assert!(of_kind(&frames, Kind::Video).is_empty());
    assert!(of_kind(&frames, Kind::Audio).len() > 40, "the other goes on");
}

#[test]
fn timestamps_do_not_wrap_and_may_jump_back() {
    let mut clock = Unwrapper::default();
    let end = (1_u64 << 33) - 100;
    let unwrapped: Vec<i64> = [end, 50, end, 200].map(|it| clock.unwrap(it)).to_vec();
    assert_eq!(unwrapped, [WRAP - 100, WRAP + 50, WRAP - 100, WRAP + 200]);
    assert_eq!(Unwrapper(Some(9000)).unwrap(3000), 3000);
}

#[test]
fn pictures_do_not_wait_for_the_next_one_once_their_ends_are_known() {
    // Whether each picture is out before the next one begins.
    let mut demuxer = Demuxer::default();
    let (mut frames, mut begun, mut early) = (Vec::new(), 0, 0);
    for packet in packets(AAC) {
        let split = Packet::split(&packet).expect("a packet");
        if split.pid == 0x100 && split.is_start {
            early += usize::from(begun > 0 && of_kind(&frames, Kind::Video).len() == begun);
            begun += 1;
        }
        demuxer.push(&packet, Instant::now(), &mut frames);
    }
    assert!(early >= 1, "{early} of {begun}");
}
