//! Who listens to what timestamps stand for is told the same as by its sender reports.

use crate::camera::Camera;
use crate::sessions::{session, ssrc, viewer_ssrc};
use crate::shards::{SHARDS, publish_at, view_at};
use crate::world::{World, ms, secs};
use millrace::engine::command::{Command, Event, TrackClock};
use millrace::media::codec::Kind;
use millrace::media::time::micros_of_ticks;
use std::time::Instant;

fn listen(world: &mut World, shard: usize, viewer: usize, listens: bool) {
    world.command_at(shard, Command::Listen(session(viewer), listens));
}

/// What a viewer was told of a kind, and when.
fn told(world: &World, viewer: usize, kind: Kind) -> Vec<(Instant, TrackClock)> {
    let told = world.events.iter().filter_map(|(at, event)| match event {
        Event::Clock { session: of, clocks } if *of == session(viewer) => {
            Some((*at, clocks[kind.index()]?))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_viewer_who_listens_is_told_once_a_second_what_its_sender_reports_say() {
    for camera_shard in [0, 3] {
        let mut world = World::sharded(720, SHARDS);
        publish_at(&mut world, camera_shard, Camera::default());
        // So that it begins with the past, and its timestamps are moved.
        world.run_for(secs(5));
        let (ana, ben) = (view_at(&mut world, 0), view_at(&mut world, 0));
        world.run_for(ms(200));
        let began = world.connected_at(ana).expect("it is connected");
        listen(&mut world, 0, ana, true);
        world.run_for(secs(10));
        for (kind, rate) in [(Kind::Audio, 48_000), (Kind::Video, 90_000)] {
            let told = told(&world, ana, kind);
            assert!((9..=12).contains(&told.len()), "{kind}: {}", told.len());
            let own = ssrc(viewer_ssrc(ana), kind);
            let reports = &world.viewer(ana).reports;
            let of_kind: Vec<_> = reports.iter().filter(|(_, it)| it.ssrc == own).collect();
            let same = |clock: &TrackClock| {
                let (ntp, rtp) = (clock.wall.to_ntp(), clock.timestamp);
                of_kind.iter().any(|(_, it)| (it.ntp_time, it.rtp_time) == (ntp, rtp))
            };
            let reported = told.iter().filter(|(_, clock)| same(clock)).count();
            // The first may have come with the wish; the last report may be on its way.
            assert!(reported + 2 >= told.len(), "{kind}: {reported} of {}", told.len());
            let (first, last) = (told[0], told[told.len() - 1]);
            for (at, clock) in &told {
                assert_eq!(clock.ssrc, own);
                assert!(at >= &began);
                let ticks = last.1.timestamp.wrapping_sub(clock.timestamp).cast_signed();
                let line = micros_of_ticks(i64::from(ticks), rate);
                let apart = last.1.wall.micros_since(clock.wall) - line;
                assert!(apart.abs() < 5_000, "{kind}: {apart} us");
            }
            assert!(first.0 - began < secs(1), "{kind}");
        }
        assert!(told(&world, ben, Kind::Video).is_empty(), "nobody has asked for it");
        listen(&mut world, 0, ana, false);
        let before = told(&world, ana, Kind::Audio).len();
        world.run_for(secs(3));
        assert_eq!(told(&world, ana, Kind::Audio).len(), before);
    }
}

#[test]
fn nothing_is_told_of_a_picture_while_its_past_is_sent() {
    let mut world = World::sharded(721, SHARDS);
    publish_at(&mut world, 1, Camera { packets: 12, ..Camera::default() });
    world.run_for(secs(9));
    // What may be sent of the past in one turn: it takes a while.
    world.burst_max = 4;
    let viewer = view_at(&mut world, 1);
    let mut asked = false;
    let mut was_past = 0;
    for _ in 0..2_000 {
        world.run_for(ms(1));
        if world.connected(viewer) && !std::mem::replace(&mut asked, true) {
            listen(&mut world, 1, viewer, true);
        }
        if world.shard(1).catching_up() > 0 {
            was_past += 1;
            assert!(told(&world, viewer, Kind::Video).is_empty());
        }
    }
    assert!(was_past > 50, "{was_past} ms");
    assert!(!told(&world, viewer, Kind::Video).is_empty(), "but afterwards");
}
