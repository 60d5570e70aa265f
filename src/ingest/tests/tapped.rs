//! From the entrance to those who read the stream.

use super::{OPUS, VP8, name, recorded, rig, rig_of, vp8};
use crate::bus::tap::Tap;
use crate::codec::packetizer::nal_units;
use crate::config::Config;
use crate::config::ingest::BFramePolicy;
use crate::config::transcode::{Ladder, WorkerProgram};
use crate::engine::tap::Tapped;
use crate::ingest::Feed;
use crate::media::codec::Kind;
use crate::media::frame::{AudioCoding, Coding, Frame};
use crate::media::time::WallTime;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::unconstrained;

/// What somebody who reads the stream is told now: publishers' comings and goings, and frames.
async fn tapped(tap: &mut Tap) -> (Vec<&'static str>, Vec<(Frame, WallTime)>) {
    let (mut told, mut frames) = (Vec::new(), Vec::new());
    while let Ok(tapped) = tokio::time::timeout(Duration::ZERO, unconstrained(tap.next())).await {
        match tapped.expect("the server runs") {
            Tapped::Began { takes_requests, .. } => {
                assert!(!takes_requests);
                told.push("began");
            }
            Tapped::Left(_) => told.push("left"),
            Tapped::NeedsMade(true) => told.push("needs made"),
            Tapped::NeedsMade(false) => told.push("needs nothing made"),
            Tapped::Frame(frame, wall) => frames.push((frame, wall)),
            _ => told.push("what is said of WebRTC only"),
        }
    }
    (told, frames)
}

#[tokio::test]
async fn who_reads_a_stream_gets_its_b_frames_and_its_sound_as_they_came() {
    let rig = rig();
    let mut tap = rig.bus.tap(&name("lot-42"));
    let mut feed = rig.admit("lot-42");
    let config: Arc<[u8]> = Arc::from([0x12, 0x10]);
    let aac = Coding::Audio(AudioCoding::Aac(Arc::clone(&config)));
    let recorded = recorded(&rig, "h264-b-pyramid");
    let start = rig.clock.clock();
    let (began, base) = (start.wall(), recorded[0].decode_ticks);
    for (index, frame) in recorded.iter().enumerate() {
        feed.write(Frame { arrival: start.now(), ..frame.clone() });
        let sound = rig.frame(aac.clone(), 0, &[0x21, index as u8]);
        feed.write(Frame {
            decode_ticks: frame.decode_ticks,
            present_ticks: frame.decode_ticks,
            ..sound
        });
        rig.clock.advance(Duration::from_millis(40));
    }
    let (told, frames) = tapped(&mut tap).await;
    assert_eq!(told, ["began"]);
    let (video, audio): (Vec<_>, Vec<_>) =
        frames.into_iter().partition(|(frame, _)| frame.coding.kind() == Kind::Video);
    assert_eq!((video.len(), audio.len()), (recorded.len(), recorded.len()));
    assert!(audio.iter().all(|(frame, _)| frame.coding == aac));
    let line = video[0].0.decode_ticks - base;
    for ((frame, wall), original) in video.iter().zip(&recorded) {
        assert_eq!(frame.decode_ticks, original.decode_ticks + line);
        assert_eq!(frame.present_ticks, original.present_ticks + line);
        let since = wall.micros_since(began);
        let expected = (original.present_ticks - base) * 1_000 / 90;
        assert!((since - expected).abs() < 100, "{since} {expected}");
    }
    assert!(video.windows(2).any(|pair| pair[1].0.present_ticks < pair[0].0.present_ticks));
    drop(feed);
    assert_eq!(tapped(&mut tap).await.0, ["left"]);
}

#[tokio::test]
async fn who_makes_layers_hears_at_once_that_viewers_can_have_nothing_else_if_that_is_the_policy() {
    let policies = [
        (BFramePolicy::Transcode, &["began", "needs made"][..]),
        (BFramePolicy::Drop, &["began"]),
        (BFramePolicy::Reject, &["began"]),
    ];
    for (policy, expected) in policies {
        let mut config = Config::default();
        config.ingest.b_frames = policy;
        // One that has not answered yet what it can do.
        config.transcode.worker = WorkerProgram::At("/nowhere".into());
        config.transcode.ladder = Ladder::parse("on").expect("a ladder");
        let rig = rig_of(config);
        let mut early = rig.bus.tap(&name("lot-42"));
        let mut feed = rig.admit("lot-42");
        let recorded = recorded(&rig, "h264-b-pyramid");
        for frame in recorded.iter().take(8) {
            feed.write(frame.clone());
        }
        assert_eq!(tapped(&mut early).await.0, expected, "{policy:?}");
        let mut late = rig.bus.tap(&name("lot-42"));
        feed.write(recorded[8].clone());
        let (told, frames) = tapped(&mut late).await;
        assert_eq!((told.as_slice(), frames.len()), (expected, 9), "{policy:?}: with the past");
    }
}

#[tokio::test]
async fn who_comes_in_the_middle_begins_with_the_keyframe_and_the_sound_of_its_time() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    let step = |feed: &mut Feed, index: i64| {
        feed.write(rig.frame(OPUS, index * 40 + 5, &[0xfc, 1, 2]));
        feed.write(rig.frame(VP8, index * 40, &vp8(index % 10 == 0)));
        rig.clock.advance(Duration::from_millis(40));
    };
    // Keyframes are 400 ms apart: two seconds before the newest are enough.
    (0..85).for_each(|index| step(&mut feed, index));
    let mut tap = rig.bus.tap(&name("lot-42"));
    let mut other = rig.bus.tap(&name("lot-42"));
    (85..90).for_each(|index| step(&mut feed, index));
    let (told, frames) = tapped(&mut tap).await;
    assert_eq!(told, ["began"]);
    let first = frames[0].0.present_ticks.min(frames[1].0.present_ticks);
    let ms = |kind: Kind| -> Vec<i64> {
        let of_kind = frames.iter().filter(|(frame, _)| frame.coding.kind() == kind);
        of_kind.map(|(frame, _)| (frame.present_ticks - first) / 90).collect()
    };
    let expected: Vec<i64> = (0..60).map(|index| index * 40).collect();
    assert_eq!(ms(Kind::Video), expected, "from the thirtieth on, and nothing twice");
    assert_eq!(ms(Kind::Audio), expected.iter().map(|ms| ms + 5).collect::<Vec<_>>());
    assert_eq!(tapped(&mut other).await.1.len(), frames.len());
    drop(tap);
    step(&mut feed, 90);
    assert_eq!(tapped(&mut other).await.1.len(), 2, "one's leaving is none of the other's");
    // A stream without keyframes is kept for twelve seconds.
    (91..410).for_each(|index| {
        feed.write(rig.frame(VP8, index * 40, &vp8(false)));
        rig.clock.advance(Duration::from_millis(40));
    });
    let mut late = rig.bus.tap(&name("lot-42"));
    feed.write(rig.frame(VP8, 410 * 40, &vp8(false)));
    assert_eq!(tapped(&mut late).await.1.len(), 1);
}

#[tokio::test]
async fn parameter_sets_that_came_only_once_stand_before_each_keyframe_that_is_read() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    let recorded = recorded(&rig, "h264-in-order");
    let sets =
        |frame: &Frame| nal_units(&frame.data).filter(|nal| matches!(nal[0] & 0x1f, 7 | 8)).count();
    assert_eq!(sets(&recorded[0]), 2);
    let without: Vec<u8> = nal_units(&recorded[0].data)
        .filter(|nal| !matches!(nal[0] & 0x1f, 7 | 8))
        .flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), nal].concat())
        .collect();
    feed.write(recorded[0].clone());
    for seconds in 1..3 {
        rig.clock.advance(Duration::from_secs(1));
        let frame = rig.frame(recorded[0].coding.clone(), 0, &without);
        let ticks = recorded[0].decode_ticks + seconds * 90_000;
        feed.write(Frame { decode_ticks: ticks, present_ticks: ticks, ..frame });
    }
    let mut tap = rig.bus.tap(&name("lot-42"));
    rig.clock.advance(Duration::from_millis(40));
    let ticks = recorded[0].decode_ticks + 183_600;
    feed.write(Frame {
        decode_ticks: ticks,
        present_ticks: ticks,
        arrival: rig.clock.clock().now(),
        ..recorded[1].clone()
    });
    let (_, frames) = tapped(&mut tap).await;
    assert_eq!(frames.iter().map(|(frame, _)| sets(frame)).collect::<Vec<_>>(), [2, 2, 2, 0]);
    let pictures = |data: &[u8]| -> Vec<Vec<u8>> {
        nal_units(data).filter(|nal| matches!(nal[0] & 0x1f, 1 | 5)).map(<[u8]>::to_vec).collect()
    };
    assert_eq!(pictures(&frames[0].0.data), pictures(&without));
}

#[tokio::test]
async fn sound_alone_is_kept_for_some_seconds() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    for index in 0..500 {
        rig.clock.advance(Duration::from_millis(20));
        feed.write(rig.frame(OPUS, index * 20, &[0xfc, 1, 2]));
    }
    let mut tap = rig.bus.tap(&name("lot-42"));
    feed.write(rig.frame(OPUS, 10_000, &[0xfc, 1, 2]));
    assert_eq!(tapped(&mut tap).await.1.len(), 302);
}
