//! A publisher that drops is not a dropped audience: viewers stay, and go on with whoever publishes
//! the stream next, in the same session and without a gap in what they are sent.

use crate::camera::{Camera, Repair};
use crate::link::Random;
use crate::oracle::Rule;
use crate::sessions::{session, settings};
use crate::shards::{SHARDS, place, publish_at, view_at};
use crate::viewer::Screen;
use crate::world::{Slow, World, ms, secs};
use millrace::engine::EngineSettings;
use millrace::engine::command::{Command, EndReason, Event};
use millrace::media::codec::Kind;
use millrace::media::time::ticks_of;
use std::time::Duration;

/// A viewer at each shard.
fn audience(world: &mut World) -> Vec<usize> {
    (0..SHARDS).map(|shard| view_at(world, shard)).collect()
}

/// What a viewer got is the tail of one publisher after that of another, from a keyframe on each,
/// under one numbering without a gap, with timestamps that rise as the time does.
fn assert_goes_on(world: &mut World, cameras: &[usize], viewer: usize) {
    assert!(world.ended(viewer).is_none(), "viewer {viewer} stays");
    for kind in Kind::ALL {
        let mut got = world.viewer(viewer).got[kind.index()].clone();
        got.sort_by_key(|got| got.sequence);
        let numbers: Vec<u64> = got.iter().map(|got| got.sequence).collect();
        let gap = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]);
        assert_eq!(gap, None, "viewer {viewer}, {kind}");
        let of = |world: &mut World, payload: &[u8]| {
            cameras.iter().position(|&camera| {
                let sent = &world.publisher(camera).sent[kind.index()];
                sent.iter().any(|sent| sent.payload == payload)
            })
        };
        let mut publisher = None;
        let mut seen = Vec::new();
        for pair in got.windows(2) {
            let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            let is_new_picture = pair[0].marker || kind == Kind::Audio;
            assert!(step < 1 << 31, "viewer {viewer}, {kind}: {step} goes back");
            assert!(step > 0 || !is_new_picture, "viewer {viewer}, {kind}: two at one time");
        }
        for got in &got {
            let from = of(world, &got.payload).expect("what came was sent");
            if publisher.replace(from) != Some(from) {
                let sent = &world.publisher(cameras[from]).sent[kind.index()];
                let first = sent.iter().find(|sent| sent.payload == got.payload);
                let is_start = first.is_some_and(|sent| sent.keyframe);
                assert!(kind == Kind::Audio || is_start, "viewer {viewer}: from a keyframe on");
                seen.push(from);
            }
        }
        let all: Vec<usize> = (0..cameras.len()).collect();
        assert_eq!(seen, all, "viewer {viewer}, {kind}: one publisher after another");
    }
}

/// The picture a viewer gets is live: its newest packet is of the last moments.
fn assert_is_live(world: &World, viewer: usize) {
    let newest = world.viewer(viewer).got[Kind::Video.index()].last().map(|got| got.at);
    assert!(newest > Some(world.ago(ms(100))), "viewer {viewer}");
}

#[test]
fn who_publishes_the_stream_anew_takes_over_at_once_wherever_it_arrives() {
    for shard in 0..SHARDS {
        let mut world = World::sharded(300 + shard as u64, SHARDS);
        let first = publish_at(&mut world, 1, Camera::default());
        world.run_for(secs(1));
        let viewers = audience(&mut world);
        world.run_for(secs(2));
        let second = publish_at(&mut world, shard, Camera::default());
        world.run_for(ms(500));
        assert_eq!(world.ended(first).map(|(_, reason)| reason), Some(&EndReason::Replaced));
        let connected = world.connected_at(second).expect("it is connected");
        for &viewer in &viewers {
            let got = &world.viewer(viewer).got[Kind::Video.index()];
            let back = got.iter().find(|got| got.at >= connected).expect("the picture goes on");
            assert!(back.at - connected < ms(100), "viewer {viewer}: {:?}", back.at - connected);
        }
        world.run_for(secs(2));
        assert!(world.publisher(second).keyframe_requests.is_empty(), "it began with a keyframe");
        for viewer in viewers {
            assert_is_live(&world, viewer);
            assert_goes_on(&mut world, &[first, second], viewer);
        }
    }
}

#[test]
fn a_publisher_that_vanished_and_comes_back_finds_its_viewers() {
    for (seed, shard) in [(310, 1), (311, 2)] {
        let mut world = World::sharded(seed, SHARDS);
        let first = publish_at(&mut world, 1, Camera::default());
        world.run_for(secs(1));
        let viewers = audience(&mut world);
        world.run_for(secs(2));
        world.clients[first].dead = true;
        world.run_for(secs(40));
        assert!(world.ended(first).is_some(), "its consent is lost");
        let vacant = |event: &Event| matches!(event, Event::Vacant { .. });
        assert_eq!(world.events.iter().filter(|(_, event)| vacant(event)).count(), 1);
        let second = publish_at(&mut world, shard, Camera::default());
        world.run_for(secs(2));
        for viewer in viewers {
            assert_is_live(&world, viewer);
            assert_goes_on(&mut world, &[first, second], viewer);
            // The time that has passed is in the timestamps too.
            let got = &world.viewer(viewer).got[Kind::Video.index()];
            let (from, to) = (got.first().expect("some"), got.last().expect("some"));
            let passed = ticks_of(to.at - from.at, 90_000) as u32;
            let stamped = to.timestamp.wrapping_sub(from.timestamp);
            assert!(stamped.abs_diff(passed) < 90_000 / 2, "{stamped} for {passed} ticks");
        }
    }
}

#[test]
fn viewers_of_a_publisher_that_stays_away_are_let_go_after_the_grace_time() {
    let mut world = World::sharded(320, SHARDS);
    let camera = publish_at(&mut world, 0, Camera::default());
    let viewers = audience(&mut world);
    world.run_for(secs(2));
    world.command(Command::End(session(camera), EndReason::Deleted));
    world.run_for(secs(29));
    assert!(viewers.iter().all(|&viewer| world.ended(viewer).is_none()));
    world.run_for(secs(2));
    for viewer in viewers {
        let reason = world.ended(viewer).map(|(_, reason)| reason);
        assert_eq!(reason, Some(&EndReason::StreamEnded), "viewer {viewer}");
        assert!(world.viewer(viewer).goodbye);
    }
    world.run_for(secs(60));
    assert!(world.shards().all(|engine| engine.sizes() == [0; 3] && engine.deadline().is_none()));
}

/// Publishers come and go at all shards faster than these hear of each other; whatever the order,
/// viewers get the last of them, and when that has left none waits for ever.
#[test]
fn however_publishers_flap_between_shards_nobody_is_left_behind() {
    for seed in 330..338 {
        let mut world = World::sharded(seed, SHARDS);
        let mut random = Random::seeded(seed, 77);
        world.strict = false;
        world.slow = Some(Slow::seeded(seed, 0.1));
        let mut cameras = vec![publish_at(&mut world, 0, Camera::default())];
        world.run_for(secs(1));
        let mut viewers = audience(&mut world);
        for _ in 0..12 {
            cameras.push(publish_at(
                &mut world,
                random.next() as usize % SHARDS,
                Camera::default(),
            ));
            world.run_for(random.below(ms(250)));
            if random.happens(0.5) {
                let gone = cameras[random.next() as usize % cameras.len()];
                (0..SHARDS).for_each(|shard| {
                    world.command_at(shard, Command::End(session(gone), EndReason::Deleted));
                });
            }
            if random.happens(0.3) {
                viewers.extend(audience(&mut world));
            }
            world.run_for(random.below(ms(250)));
        }
        world.run_for(secs(2));
        let last = publish_at(&mut world, random.next() as usize % SHARDS, Camera::default());
        world.run_for(secs(3));
        for &viewer in &viewers {
            assert!(world.ended(viewer).is_none(), "seed {seed}: viewer {viewer}");
            assert_is_live(&world, viewer);
        }
        (0..SHARDS).for_each(|shard| {
            world.command_at(shard, Command::End(session(last), EndReason::Deleted));
        });
        world.run_for(secs(60));
        assert!(viewers.iter().all(|&viewer| world.ended(viewer).is_some()), "seed {seed}");
        world.slow = None;
        world.run_for(secs(60));
        // Whoever hears late of a publisher misses its first sound.
        let mut violations = world.oracle.violations.iter();
        let wrong = violations.find(|violation| violation.rule != Rule::Starved);
        assert!(wrong.is_none(), "seed {seed}: {}", wrong.expect("it is some"));
        world.shards().for_each(|engine| assert_eq!(engine.sizes(), [0; 3], "seed {seed}"));
        world.shards().for_each(|engine| assert_eq!(engine.held().abroad, 0, "seed {seed}"));
    }
}

/// It has heard of the one before only, who has been replaced when its wish arrives.
#[test]
fn a_shard_that_follows_late_begins_with_the_next_publisher_once() {
    for seed in 345..365 {
        let mut world = World::sharded(seed, SHARDS);
        let first = publish_at(&mut world, 1, Camera::default());
        world.run_for(secs(1));
        world.strict = false;
        world.slow = Some(Slow::seeded(seed, 0.0));
        let viewer = world.view("lot-42", Screen::default());
        place(&mut world, viewer, 2);
        let second = publish_at(&mut world, 1, Camera::default());
        world.run_for(ms(500));
        assert!(world.ended(first).is_some() && world.connected_at(second).is_some());
        world.slow.as_mut().expect("they are slow").arrives = 0.1;
        world.run_for(secs(2));
        assert_is_live(&world, viewer);
        let gap = world.oracle.violations.iter().find(|violation| violation.rule == Rule::Gap);
        assert!(gap.is_none(), "{}", gap.expect("it is some"));
    }
}

#[test]
fn without_a_grace_time_viewers_go_with_their_publisher() {
    let mut world = World::with(321, EngineSettings { grace: Duration::ZERO, ..settings() });
    let camera = world.publish("lot-42", Camera::default());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(2));
    let again = world.publish("lot-42", Camera::default());
    world.run_for(secs(1));
    assert!(world.ended(viewer).is_none(), "taking over is at once");
    assert_goes_on(&mut world, &[camera, again], viewer);
    world.command(Command::End(session(again), EndReason::Deleted));
    world.run_for(ms(20));
    assert_eq!(world.ended(viewer).map(|(_, reason)| reason), Some(&EndReason::StreamEnded));
}

#[test]
fn a_viewer_that_comes_while_the_publisher_is_away_waits_with_the_others() {
    let mut world = World::sharded(322, SHARDS);
    let first = publish_at(&mut world, 0, Camera::default());
    world.run_for(secs(1));
    world.clients[first].peer.close(world.now);
    world.run_for(ms(100));
    let late = audience(&mut world);
    world.run_for(secs(10));
    assert!(late.iter().all(|&viewer| world.connected(viewer) && world.ended(viewer).is_none()));
    let second = publish_at(&mut world, 3, Camera::default());
    world.run_for(secs(2));
    for viewer in late {
        assert_is_live(&world, viewer);
        assert_goes_on(&mut world, &[second], viewer);
    }
    // Whoever comes to a stream that never was waits no longer either.
    let mut world = World::seeded(323);
    let nobody = world.view("nobody", Screen::default());
    world.run_for(secs(29));
    assert!(world.ended(nobody).is_none());
    world.run_for(secs(3));
    assert_eq!(world.ended(nobody).map(|(_, reason)| reason), Some(&EndReason::StreamEnded));
}

#[test]
fn a_publisher_may_come_back_again_and_again_with_and_without_sound() {
    let mut world = World::sharded(324, SHARDS);
    let sounds = [true, false, true, true];
    let mut cameras = vec![publish_at(&mut world, 0, Camera::default())];
    world.run_for(secs(1));
    let viewers = audience(&mut world);
    for (number, audio) in sounds.into_iter().enumerate().skip(1) {
        world.run_for(secs(2));
        cameras.push(publish_at(&mut world, number % 2, Camera { audio, ..Camera::default() }));
    }
    world.run_for(secs(3));
    for viewer in viewers {
        assert_is_live(&world, viewer);
        let got = &world.viewer(viewer).got;
        let numbers = |kind: Kind| {
            let numbers = got[kind.index()].iter().map(|got| got.sequence);
            (numbers.clone().min(), numbers.max(), got[kind.index()].len() as u64)
        };
        for kind in Kind::ALL {
            let (Some(first), Some(last), count) = numbers(kind) else { continue };
            assert_eq!(last - first + 1, count, "viewer {viewer}, {kind}: no gap");
        }
        let last_sound = got[Kind::Audio.index()].last().map(|got| got.at);
        assert!(last_sound > Some(world.ago(ms(200))), "sound is back");
    }
}

/// A keyframe that is lost on a bad uplink is asked for.
#[test]
fn if_the_first_keyframe_of_the_next_publisher_is_lost_another_is_asked_for() {
    let mut world = World::seeded(325);
    world.publish("lot-42", Camera::default());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(2));
    let camera = Camera { repair: Repair::No, ..Camera::default() };
    let again = world.publish("lot-42", camera);
    let mut left = 12;
    world.clients[again].up.lose = Some(Box::new(move |datagram| {
        let is_video = datagram[0] >> 6 == 2 && datagram[1] & 0x7f == 102;
        let loses = is_video && left > 0;
        left -= usize::from(loses);
        loses
    }));
    world.run_for(secs(2));
    assert!(!world.publisher(again).keyframe_requests.is_empty());
    assert_is_live(&world, viewer);
    let (missing, _) = world.viewer(viewer).missing();
    assert_eq!(missing, 0);
}

/// A viewer that was still walking through the past of the one before goes on with the next.
#[test]
fn a_burst_under_way_ends_where_another_publisher_begins() {
    for wait in [2, 5, 10, 30, 60] {
        let mut world = World::seeded(330 + wait);
        world.burst_max = 3;
        let first = world.publish("lot-42", Camera { group: 3_000, ..Camera::default() });
        world.run_for(secs(8));
        let second = world.publish("lot-42", Camera::default());
        let viewer = world.view("lot-42", Screen::default());
        world.run_for(ms(wait));
        world.run_for(secs(3));
        assert!(world.ended(first).is_some() && world.ended(second).is_none());
        assert_is_live(&world, viewer);
        assert_eq!(world.viewer(viewer).missing().0, 0);
        assert_eq!(world.engine.catching_up(), 0);
        let got = &world.viewer(viewer).got[Kind::Video.index()];
        let rises =
            got.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 1 << 31);
        assert!(rises, "{wait} ms");
    }
}
