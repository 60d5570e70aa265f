//! A viewer begins with the past, whatever the publisher does, and is live soon.

use crate::camera::Camera;
use crate::sequence::assert_unbroken;
use crate::sessions::{ssrc, viewer_ssrc};
use crate::viewer::{Got, Screen};
use crate::world::{World, ms, secs};
use millrace::media::codec::Kind;
use std::time::{Duration, Instant};

const VIDEO: usize = Kind::Video as usize;
const AT_ONCE: &[u8] = &[0, 0, 0];
const LIFTED: &[u8] = &[0, 0x03, 0xe8];

/// A publisher that sends a keyframe so often and not when it is asked.
fn keyframe_every(seconds: u64) -> Camera {
    Camera { group: seconds * 30, obliges: false, ..Camera::default() }
}

/// What a viewer got of video from a moment on.
fn since(world: &World, viewer: usize, moment: Instant) -> Vec<(Instant, u32, Vec<u8>)> {
    let got = world.viewer(viewer).got[VIDEO].iter().filter(|got| got.at >= moment);
    got.map(|got| (got.at, got.timestamp, got.payload.clone())).collect()
}

/// It gets the same as one that was there before, at the same times.
fn assert_same(world: &World, newcomer: usize, old: usize, for_the_last: Duration) {
    let moment = world.ago(for_the_last);
    let (new, old) = (since(world, newcomer, moment), since(world, old, moment));
    assert!(new.len() > 100 && new == old, "viewer {newcomer}: {} of {}", new.len(), old.len());
}

/// No number is missing, and no picture is shown before the one it follows.
fn assert_in_order(got: &[Got]) {
    for pair in got.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1, "no gap");
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed();
        assert!(if pair[0].marker { step > 0 } else { step >= 0 }, "{step} ticks");
    }
}

/// How long after the session was connected the first packet of video came.
fn first_picture(world: &World, viewer: usize) -> Duration {
    let connected = world.connected_at(viewer).expect("it connects");
    world.viewer(viewer).got[VIDEO][0].at - connected
}

#[test]
fn a_newcomer_sees_a_keyframe_at_once_and_is_live_soon() {
    for (group, wait) in [(2, 1_990), (2, 3_500), (10, 5_000), (10, 9_400)] {
        let mut world = World::seeded(group + wait);
        let camera = world.publish("lot-42", keyframe_every(group));
        world.run_for(ms(100));
        let old = world.view("lot-42", Screen::default());
        world.run_for(ms(wait));
        let newcomer = world.view("lot-42", Screen::default());
        world.run_for(ms(700));
        assert_eq!(world.engine.catching_up(), 0);
        world.run_for(secs(3));
        assert!(first_picture(&world, newcomer) <= ms(11), "the way takes ten");
        assert_same(&world, newcomer, old, secs(3));
        let counters = world.engine.counters();
        assert_eq!((counters.starts_cached, counters.starts_requested), (2, 0));
        world.publisher(camera).sends = false;
        world.run_for(ms(100));
        for kind in Kind::ALL {
            let sent = world.publisher(camera).sent[kind.index()].clone();
            assert_unbroken(kind, &sent, &world.viewer(newcomer).got[kind.index()]);
        }
        assert_in_order(&world.viewer(newcomer).got[VIDEO]);
        assert!(world.publisher(camera).keyframe_requests.is_empty(), "it was not asked");
    }
}

#[test]
fn the_past_is_to_be_shown_at_once_and_says_nothing_of_the_time() {
    let mut world = World::seeded(71);
    // So slow that it takes more than the time to the first report.
    world.burst_max = 1;
    world.publish("lot-42", keyframe_every(10));
    world.run_for(secs(5));
    let viewer = world.view("lot-42", Screen::default());
    while world.engine.catching_up() == 0 {
        world.run_for(ms(1));
    }
    while world.engine.catching_up() > 0 {
        world.run_for(ms(1));
    }
    let live = world.now;
    world.run_for(secs(2));
    let watching = world.viewer(viewer);
    let reports = |kind| {
        let ssrc = ssrc(viewer_ssrc(viewer), kind);
        watching.reports.iter().filter(move |(_, report)| report.ssrc == ssrc).map(|(at, _)| *at)
    };
    assert!(reports(Kind::Audio).any(|at| at < live), "sound is live from the first on");
    let first = reports(Kind::Video).next().expect("the picture is reported");
    assert!((live..=live + ms(150)).contains(&first), "soon after it is live");
    let delays: Vec<_> = watching.got[VIDEO].iter().map(|got| got.delay.as_deref()).collect();
    let runs: Vec<_> = delays.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    let [(Some(AT_ONCE), past), (Some(LIFTED), lifting), (None, present)] = runs[..] else {
        unreachable!("past, lifting and present: {runs:?}")
    };
    assert!(past > 600 && (64..100).contains(&lifting) && present > 100, "{runs:?}");
}

#[test]
fn a_new_keyframe_takes_the_place_of_the_rest_of_the_past() {
    for (seed, jitter) in (720..728).zip([0, 10, 25, 50].into_iter().cycle()) {
        let mut world = World::seeded(seed);
        world.burst_max = 1;
        let camera = world.publish("lot-42", keyframe_every(10));
        world.clients[camera].up.jitter = ms(jitter);
        world.run_for(ms(300));
        let old = world.view("lot-42", Screen::default());
        world.run_for(ms(9_600));
        let newcomer = world.view("lot-42", Screen::default());
        world.run_for(secs(4));
        assert_same(&world, newcomer, old, secs(3));
        let got = &world.viewer(newcomer).got[VIDEO];
        assert_in_order(got);
        let keyframes: Vec<_> = got.iter().filter(|got| got.payload[0] == 0x67).collect();
        assert_eq!(keyframes.len(), 2, "it was half way when the second came");
        let skipped = world.viewer(old).got[VIDEO].len() - got.len();
        assert!(skipped > 50, "{skipped} at {jitter} ms");
        assert!(world.publisher(camera).keyframe_requests.is_empty());
    }
}

#[test]
fn what_is_lost_of_the_past_is_sent_again() {
    for (seed, rtx) in (730..736).zip([true, false].into_iter().cycle()) {
        let mut world = World::seeded(seed);
        let camera = world.publish("lot-42", keyframe_every(10));
        world.run_for(secs(9));
        let newcomer = world.view("lot-42", Screen { rtx, nack: true, ..Screen::default() });
        world.clients[newcomer].down.loss = 0.05;
        world.run_for(secs(2));
        // What comes last would not be missed.
        world.clients[newcomer].down.loss = 0.0;
        world.run_for(secs(1));
        world.publisher(camera).sends = false;
        world.run_for(secs(1));
        let (missing, expected) = world.viewer(newcomer).missing();
        assert!(expected > 1_400 && missing == 0, "{missing} of {expected}");
        let sent = world.publisher(camera).sent[VIDEO].clone();
        let mut got = world.viewer(newcomer).got[VIDEO].clone();
        got.sort_by_key(|got| got.sequence);
        assert_unbroken(Kind::Video, &sent, &got);
        let counters = world.engine.counters();
        assert!(counters.retransmissions > 50, "{}", counters.retransmissions);
        assert_eq!(world.oracle.repeated() > 0, !rtx);
    }
}

/// What the old viewer of a world gets, and when, while so many join.
fn old_beside(joiners: usize) -> (Vec<(Duration, u32, Vec<u8>)>, World) {
    let mut world = World::seeded(74);
    world.burst_max = 20;
    world.publish("lot-42", keyframe_every(2));
    world.run_for(ms(100));
    let old = world.view("lot-42", Screen::default());
    world.run_for(secs(3));
    for _ in 0..joiners {
        world.view("lot-42", Screen::default());
    }
    world.run_for(secs(4));
    let start = world.epoch.instant;
    let got = since(&world, old, start).into_iter();
    (got.map(|(at, timestamp, payload)| (at - start, timestamp, payload)).collect(), world)
}

#[test]
fn fifty_newcomers_share_what_there_is_and_the_old_viewer_notices_nothing() {
    let (undisturbed, _) = old_beside(0);
    let (beside, world) = old_beside(50);
    assert!(undisturbed.len() > 700);
    assert!(undisturbed == beside, "the same packets at the same times");
    for newcomer in 2..52 {
        // Ten packets for each of fifty, twenty of them a millisecond.
        assert!(first_picture(&world, newcomer) <= ms(10 + 25 + 5), "{newcomer}");
        assert_same(&world, newcomer, 1, secs(2));
        assert_in_order(&world.viewer(newcomer).got[VIDEO]);
    }
}

#[test]
fn who_catches_up_when_the_keyframe_gets_too_old_waits_for_the_next() {
    let mut world = World::seeded(75);
    world.burst_max = 1;
    let camera = world.publish("lot-42", Camera { group: u64::MAX, ..Camera::default() });
    world.run_for(ms(100));
    let old = world.view("lot-42", Screen::default());
    world.run_for(ms(11_500));
    let newcomer = world.view("lot-42", Screen::default());
    world.run_for(secs(4));
    assert_eq!(world.publisher(camera).keyframe_requests.len(), 1);
    assert_same(&world, newcomer, old, secs(2));
    let got = &world.viewer(newcomer).got[VIDEO];
    assert_in_order(got);
    assert_eq!(got.last().and_then(|got| got.delay.clone()), None, "the limits are lifted");
    assert!(got.iter().any(|got| got.delay.as_deref() == Some(LIFTED)));
}

/// Else it would stand still for up to ten seconds: OBS does not answer requests for keyframes.
#[test]
fn who_has_lost_the_picture_of_a_publisher_that_does_not_answer_begins_again_at_once() {
    let mut world = World::seeded(73);
    let camera = world.publish("lot-42", keyframe_every(10));
    world.run_for(ms(100));
    let viewer = world.view("lot-42", Screen { rtx: true, nack: false, ..Screen::default() });
    world.run_for(secs(5));
    world.clients[viewer].down.loss = 1.0;
    world.run_for(ms(300));
    world.clients[viewer].down.loss = 0.0;
    // As a browser asks that cannot decode: again and again.
    let mut again = Vec::new();
    for _ in 0..25 {
        world.send_rtcp(viewer, &picture_loss(viewer_ssrc(viewer) + VIDEO as u32));
        world.run_for(ms(100));
        again.push(world.engine.counters().starts_again);
    }
    assert_eq!(again[4], 0, "the publisher is given time to answer");
    assert_eq!((again[7], again[24]), (1, 1), "one burst, however often it asks");
    let keyframe = world.publisher(camera).sent[VIDEO][0].payload.clone();
    let got = &world.viewer(viewer).got[VIDEO];
    let starts = got.iter().filter(|got| got.payload == keyframe).count();
    assert_eq!(starts, 2, "the keyframe of five seconds ago came again");
    let step = got.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
    assert!(step.map(u32::cast_signed).all(|step| step >= 0), "time does not run backwards");
}

/// RFC 4585 §6.3.1.
fn picture_loss(media_ssrc: u32) -> Vec<u8> {
    [&[0x81, 206, 0, 2, 0, 0, 0, 1][..], &media_ssrc.to_be_bytes()].concat()
}
