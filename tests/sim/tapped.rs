//! Whoever reads a stream is handed what its publisher sends next to the viewers, each packet once.

use crate::camera::{Camera, TWO};
use crate::keyframes::{UNASKED_NEVER, assert_one_per_second};
use crate::publisher::Publishing;
use crate::sessions::session;
use crate::shards::{SHARDS, place, publish_at, view_at};
use crate::world::{World, ms, secs};
use millrace::engine::command::Command;
use millrace::engine::message::Term;
use millrace::engine::tap::{TapId, TapSink, Tapped};
use millrace::media::codec::{Codec, Kind};
use millrace::media::id::StreamName;
use millrace::media::packet::Packet;
use millrace::media::time::{WallTime, micros_of_ticks};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    is_closed: AtomicBool,
    told: Mutex<Vec<(Term, Tapped)>>,
}

impl TapSink for Notes {
    fn tell(&self, term: Term, tapped: Tapped) {
        self.told.lock().expect("fine").push((term, tapped));
    }

    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }
}

fn name() -> StreamName {
    StreamName::parse("lot-42").expect("a name")
}

/// Somebody reads the stream, as the bus arranges it.
fn tap(world: &mut World, id: u64) -> Arc<Notes> {
    let notes = Arc::new(Notes::default());
    for shard in 0..SHARDS {
        let sink: Arc<dyn TapSink> = notes.clone();
        world.command_at(shard, Command::Tap(name(), TapId(id), sink));
    }
    notes
}

impl Notes {
    /// What was told of the publisher with this number.
    fn of(&self, number: usize) -> Vec<Tapped> {
        let told = self.told.lock().expect("fine");
        let own = told.iter().filter(|(term, _)| term.session == session(number));
        own.map(|(_, tapped)| tapped.clone()).collect()
    }

    fn packets(&self, number: usize, kind: Kind) -> Vec<Arc<Packet>> {
        let told = self.of(number);
        let packets = told.iter().filter_map(|tapped| match tapped {
            Tapped::Packets(packets) => Some(packets.to_vec()),
            _ => None,
        });
        packets.flatten().filter(|packet| packet.codec.kind() == kind).collect()
    }

    fn payloads(&self, number: usize, kind: Kind) -> Vec<Vec<u8>> {
        self.packets(number, kind).iter().map(|packet| packet.payload.clone()).collect()
    }

    /// What it was told in which order; packets by kind once.
    fn plan(&self, number: usize) -> Vec<&'static str> {
        let named = |tapped: &Tapped| match tapped {
            Tapped::Began { .. } => "began",
            Tapped::Formats(_) => "formats",
            Tapped::Packets(_) => "packets",
            Tapped::Made(_) => "made",
            Tapped::Clock { .. } => "clock",
            Tapped::Layers(_) => "layers",
            Tapped::Frame(..) => "frame",
            Tapped::NeedsMade(_) => "needs made",
            Tapped::Lost => "lost",
            Tapped::Left(_) => "left",
        };
        self.of(number).iter().map(named).collect()
    }
}

/// Everything a publisher has sent, by kind.
fn sent(world: &mut World, number: usize, kind: Kind) -> Vec<Vec<u8>> {
    world.publisher(number).sent[kind.index()].iter().map(|sent| sent.payload.clone()).collect()
}

fn stop(world: &mut World, number: usize) {
    world.publisher(number).sends = false;
    world.run_for(secs(1));
}

#[test]
fn every_packet_is_handed_over_once_next_to_viewers_here_and_elsewhere() {
    let mut world = World::sharded(700, SHARDS);
    let notes = tap(&mut world, 1);
    let camera = publish_at(&mut world, 1, Camera::default());
    let viewers: Vec<usize> = (0..SHARDS).map(|shard| view_at(&mut world, shard)).collect();
    world.run_for(secs(5));
    stop(&mut world, camera);
    for kind in Kind::ALL {
        assert_eq!(notes.payloads(camera, kind), sent(&mut world, camera, kind), "{kind}");
        for &viewer in &viewers {
            assert!(world.viewer(viewer).got[kind.index()].len() > 100, "{kind}");
        }
    }
    let plan = notes.plan(camera);
    assert_eq!(plan[0], "began");
    let first = |what| plan.iter().position(|it| *it == what).expect("it was told");
    assert!(first("formats") < first("packets") && first("clock") < first("packets"), "{plan:?}");
    let batches = plan.iter().filter(|it| **it == "packets").count();
    let packets =
        notes.packets(camera, Kind::Video).len() + notes.packets(camera, Kind::Audio).len();
    assert!(batches * 2 < packets, "{batches} for {packets}: a frame at a time");
}

#[test]
fn damage_of_any_layer_is_mended_for_whoever_reads_the_stream_and_nobody_else() {
    let mut world = World::sharded(707, SHARDS);
    let camera = publish_at(&mut world, 1, Camera { ladder: TWO, ..UNASKED_NEVER });
    world.run_for(secs(1));
    world.clients[camera].up.loss = 0.1;
    world.run_for(secs(5));
    assert!(world.publisher(camera).keyframe_requests.is_empty(), "nobody gets it");
    tap(&mut world, 1);
    world.run_for(secs(5));
    let requests = world.publisher(camera).keyframe_requests.len();
    assert!(requests >= 5, "{requests}");
}

#[test]
fn who_comes_in_the_middle_begins_with_the_keyframe_and_misses_nothing_after_it() {
    let mut world = World::sharded(701, SHARDS);
    let first = tap(&mut world, 1);
    let camera = publish_at(&mut world, 2, Camera { group: 90, ..Camera::default() });
    for wait in [1_700, 1_013, 411] {
        world.run_for(ms(wait));
        let notes = tap(&mut world, wait);
        world.run_for(ms(500));
        let got = notes.packets(camera, Kind::Video);
        assert!(got[0].keyframe && !got[0].payload.is_empty(), "after {wait} ms");
        let keyframe = got[0].timestamp;
        assert!(got.len() > 60, "what was there is there");
        let all = sent(&mut world, camera, Kind::Video);
        let begin = all.iter().position(|sent| *sent == got[0].payload).expect("it was sent");
        let payloads = notes.payloads(camera, Kind::Video);
        // What is on its way has not come yet.
        assert_eq!(payloads[..], all[begin..begin + payloads.len()], "after {wait} ms");
        assert!(all.len() - begin - payloads.len() < 12);
        let sound = notes.payloads(camera, Kind::Audio);
        let all = sent(&mut world, camera, Kind::Audio);
        let begin = all.iter().position(|sent| *sent == sound[0]).expect("it was sent");
        assert_eq!(sound[..], all[begin..begin + sound.len()], "after {wait} ms");
        let since = notes.packets(camera, Kind::Audio)[0].arrival;
        let later = since.saturating_duration_since(got[0].arrival);
        assert!(later < ms(30), "sound begins with the picture: {later:?}, {keyframe}");
        assert_eq!(notes.plan(camera)[..4], ["began", "formats", "clock", "clock"]);
        assert_eq!(notes.plan(camera)[4..6], ["layers", "packets"]);
    }
    let all = sent(&mut world, camera, Kind::Video);
    let got = first.payloads(camera, Kind::Video);
    assert_eq!(got[..], all[..got.len()], "who was there before gets nothing twice");
    let apart = first.of(camera);
    assert!(matches!(apart[0], Tapped::Began { keyframes_apart: None, .. }));
    let late = tap(&mut world, 9).of(camera);
    let apart = match late[0] {
        Tapped::Began { keyframes_apart, takes_requests: true, .. } => keyframes_apart,
        _ => None,
    };
    let apart = apart.expect("there were several");
    assert!(apart.abs_diff(secs(3)) < ms(50), "{apart:?}");
}

#[test]
fn a_takeover_between_shards_is_told_of_both_sides_and_nothing_of_either_is_left_out() {
    for (seed, next) in [(702, 3), (703, 0)] {
        let mut world = World::sharded(seed, SHARDS);
        let notes = tap(&mut world, 1);
        let first = publish_at(&mut world, 0, Camera::default());
        world.run_for(secs(2));
        let second = world.publish("lot-42", Camera::default());
        place(&mut world, second, next);
        world.run_for(secs(2));
        stop(&mut world, second);
        for kind in Kind::ALL {
            let (got, all) = (notes.payloads(first, kind), sent(&mut world, first, kind));
            assert_eq!(got[..], all[..got.len()], "{kind}: until it is replaced");
            assert_eq!(notes.payloads(second, kind), sent(&mut world, second, kind), "{kind}");
        }
        let (one, two) = (notes.plan(first), notes.plan(second));
        assert_eq!((one[0], one.last()), ("began", Some(&"left")));
        assert_eq!(one.iter().filter(|it| **it == "left" || **it == "began").count(), 2);
        assert_eq!(two[0], "began");
        assert!(!two.contains(&"left"));
        world.command_at(next, Command::Stop);
        assert_eq!(notes.plan(second).last(), Some(&"left"));
    }
}

/// What a clock says that a moment after the publisher's begin is on the server's clock.
fn moments(notes: &Notes, number: usize, kind: Kind, rate: u32) -> Vec<WallTime> {
    let begin = Publishing::timestamp(kind, Duration::ZERO);
    let told = notes.of(number);
    let clocks = told.iter().filter_map(|tapped| match tapped {
        Tapped::Clock { lane, timestamp, wall } if lane.kind() == kind => Some((*timestamp, *wall)),
        _ => None,
    });
    let moment = |(timestamp, wall): (u64, WallTime)| {
        let ticks = (timestamp as u32).wrapping_sub(begin).cast_signed();
        wall.offset_micros(-micros_of_ticks(i64::from(ticks), rate))
    };
    clocks.map(moment).collect()
}

#[test]
fn the_clock_is_told_at_once_and_about_once_a_second_and_keeps_the_tracks_together() {
    let mut world = World::sharded(704, SHARDS);
    let notes = tap(&mut world, 1);
    let camera = publish_at(&mut world, 1, Camera::default());
    world.clients[camera].up.jitter = ms(20);
    world.run_for(secs(10));
    let video = moments(&notes, camera, Kind::Video, 90_000);
    let audio = moments(&notes, camera, Kind::Audio, 48_000);
    // The publisher reports twice a second.
    assert!((10..30).contains(&video.len()) && (10..30).contains(&audio.len()), "{}", video.len());
    let apart = |a: &WallTime, b: &WallTime| a.micros_since(*b).abs();
    for (a, v) in audio.iter().rev().zip(video.iter().rev()).take(8) {
        assert!(apart(a, v) <= 1_000, "{} us", apart(a, v));
    }
    let last = video.last().expect("some");
    for early in &video {
        assert!(apart(early, last) < 60_000, "the first is an estimate: {}", apart(early, last));
    }
    let later = tap(&mut world, 2);
    let told = moments(&later, camera, Kind::Video, 90_000);
    assert!(apart(&told[0], last) < 1_000, "{}", apart(&told[0], last));
}

#[test]
fn whoever_reads_a_stream_may_ask_for_keyframes_as_viewers_do() {
    let mut world = World::sharded(705, SHARDS);
    let notes = tap(&mut world, 1);
    let camera = publish_at(&mut world, 1, UNASKED_NEVER);
    world.run_for(secs(1));
    for _ in 0..50 {
        world.run_for(ms(100));
        (0..SHARDS).for_each(|shard| world.command_at(shard, Command::WantKeyframe(name())));
    }
    let requests = world.publisher(camera).keyframe_requests.clone();
    assert_one_per_second(&requests);
    assert!((4..=6).contains(&requests.len()), "{}", requests.len());
    let keyframes = notes.packets(camera, Kind::Video).iter().filter(|it| it.keyframe).count();
    assert!(keyframes >= requests.len(), "{keyframes}");
}

#[test]
fn who_reads_no_more_is_told_nothing_and_nothing_of_it_stays() {
    let mut world = World::sharded(706, SHARDS);
    let (one, two) = (tap(&mut world, 1), tap(&mut world, 2));
    let camera = publish_at(&mut world, 1, Camera { codec: Codec::Vp8, ..Camera::default() });
    world.run_for(secs(1));
    (0..SHARDS).for_each(|shard| world.command_at(shard, Command::Untap(name(), TapId(1))));
    // The other one's leaving was not heard: its place is taken back when the next one comes.
    two.is_closed.store(true, Ordering::Relaxed);
    let before = one.of(camera).len();
    let three = tap(&mut world, 3);
    world.run_for(secs(1));
    assert_eq!(one.of(camera).len(), before);
    assert!(three.of(camera).len() > 20);
    world.shards().for_each(|engine| assert_eq!(engine.held().readers, 1));
    (0..SHARDS).for_each(|shard| world.command_at(shard, Command::Untap(name(), TapId(3))));
    world.run_for(secs(1));
    world.shards().for_each(|engine| assert_eq!(engine.held().readers, 0));
    assert!(world.publisher(camera).keyframe_requests.is_empty());
}
