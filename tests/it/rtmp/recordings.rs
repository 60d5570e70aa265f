//! What real encoders sent, read by the server's own readers: every frame of it.
//!
//! `tests/data/rtmp` has what each said after its handshake: a second of 160 by 90 pictures, ten of
//! them, with a tone. ffmpeg 5.1.9 is Debian's, 9.0.2 has Enhanced RTMP; `rtmpsink` is librtmp.

use bytes::BytesMut;
use millrace::ingest::rtmp::flv::Demuxer;
use millrace::ingest::rtmp::session::{Event, Session};
use millrace::media::frame::{Coding, Frame};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// What was read of one recording.
struct Reading {
    stream: String,
    token: String,
    frames: Vec<Frame>,
    others: Vec<String>,
    ended: bool,
}

fn read(name: &str) -> Reading {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rtmp");
    let bytes = std::fs::read(folder.join(name)).expect("a recording");
    let (mut session, mut demuxer) = (Session::default(), Demuxer::default());
    let (mut stream, mut token) = (String::new(), String::new());
    let (mut frames, mut others, mut ended) = (Vec::new(), Vec::new(), false);
    let mut input = BytesMut::new();
    for piece in bytes.chunks(1460) {
        input.extend_from_slice(piece);
        session.note_received(piece.len());
        while let Some(event) = session.read(&mut input).expect("chunks of a real encoder") {
            match event {
                Event::Publish(address) => {
                    (stream, token) = (address.stream, address.token);
                    session.accept("go");
                }
                Event::Media(message) => {
                    demuxer.read(&message, Instant::now(), |frame| frames.push(frame));
                    if let Some(new) = demuxer.new_others() {
                        others = new.to_vec();
                    }
                }
                Event::Unpublish => ended = true,
                Event::Close => unreachable!("{name} is told to go"),
            }
        }
    }
    Reading { stream, token, frames, others, ended }
}

#[test]
fn every_frame_of_every_encoder_is_read() {
    for (name, video, pictures, audio, sounds) in [
        ("ffmpeg5-h264-aac", "H264", 10, "AAC", 48),
        ("ffmpeg9-hevc-opus", "H265", 10, "Opus", 51),
        ("ffmpeg9-av1-opus", "AV1", 10, "Opus", 51),
        ("ffmpeg9-vp9-aac", "VP9", 10, "AAC", 48),
        ("ffmpeg9-multitrack", "H264", 10, "AAC", 48),
        ("gstreamer122-rtmp2sink", "H264", 10, "AAC", 40),
        ("gstreamer122-rtmpsink", "H264", 10, "", 0),
    ] {
        let reading = read(name);
        assert_eq!((reading.stream.as_str(), reading.token.as_str()), ("lot", "pub"), "{name}");
        let mut counts = BTreeMap::new();
        for frame in &reading.frames {
            *counts.entry(frame.coding.to_string()).or_insert(0) += 1;
        }
        let mut expected = BTreeMap::from([(video.to_owned(), pictures)]);
        if sounds > 0 {
            expected.insert(audio.to_owned(), sounds);
        }
        assert_eq!(counts, expected, "{name}");
        assert!(reading.ended || name.contains("rtmpsink"), "{name} says that it ends");
        assert_times(name, &reading.frames);
    }
}

/// Each track's frames are decoded in their order, and none long before or after the others.
fn assert_times(name: &str, frames: &[Frame]) {
    for is_video in [true, false] {
        let of_kind = |frame: &&Frame| matches!(frame.coding, Coding::Video(_)) == is_video;
        let track: Vec<&Frame> = frames.iter().filter(of_kind).collect();
        assert!(track.is_sorted_by_key(|frame| frame.decode_ticks), "{name}");
        let late = |frame: &&&Frame| frame.present_ticks - frame.decode_ticks > 45_000;
        assert_eq!(track.iter().filter(late).count(), 0, "{name}");
        let (first, last) = (track.first(), track.last());
        let span =
            first.zip(last).map_or(0, |(first, last)| last.decode_ticks - first.decode_ticks);
        assert!(track.is_empty() || (60_000..110_000).contains(&span), "{name}: {span} ticks");
    }
}

#[test]
fn the_first_picture_comes_with_its_parameter_sets() {
    for (name, kinds) in [
        ("ffmpeg5-h264-aac", &[7, 8][..]),
        ("gstreamer122-rtmp2sink", &[7, 8]),
        ("ffmpeg9-hevc-opus", &[32, 33, 34]),
    ] {
        let reading = read(name);
        let video = reading.frames.iter().find(|it| matches!(it.coding, Coding::Video(_)));
        let (mut rest, mut found) = (&video.expect("a picture").data[..], Vec::new());
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let kind = if kinds.len() == 2 { after[0] & 0x1f } else { after[0] >> 1 & 0x3f };
            found.push(kind);
            rest = &after[u32::from_be_bytes(*len) as usize..];
        }
        assert!(found.starts_with(kinds), "{name}: {found:?}");
    }
}

#[test]
fn the_tracks_that_are_not_used_are_listed() {
    let others = read("ffmpeg9-multitrack").others;
    let expected = ["video track 1, H264", "audio track 1, AAC"];
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(others.iter().zip(expected).all(|(it, start)| it.starts_with(start)), "{others:?}");
}
