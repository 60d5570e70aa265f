//! Many viewers cost the publisher few keyframes.

use crate::camera::{Camera, Repair};
use crate::scalable::Mode;
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::media::codec::Codec;
use std::time::{Duration, Instant};

/// A publisher that sends keyframes only when it is asked for one.
pub(crate) const UNASKED_NEVER: Camera = Camera {
    codec: Codec::H264,
    frame_rate: 15,
    ladder: &[],
    together: false,
    packets: 1,
    payload_bytes: 300,
    group: u64::MAX,
    audio: false,
    repair: Repair::No,
    obliges: true,
    mode: Mode::L1T1,
};

/// A request each second at most.
pub(crate) fn assert_one_per_second(requests: &[Instant]) {
    for pair in requests.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(999), "{:?}", pair[1] - pair[0]);
    }
}

#[test]
fn three_hundred_viewers_joining_within_a_second_cost_one_keyframe() {
    let mut world = World::seeded(51);
    let camera = world.publish("lot-42", UNASKED_NEVER);
    let viewers = join(&mut world, 300);
    for viewer in viewers {
        let got = &world.viewer(viewer).got[1];
        assert!(!got.is_empty(), "viewer {viewer} sees something two seconds after it came");
    }
    assert_eq!(world.publisher(camera).keyframe_requests.len(), 1);
    assert_eq!(
        world.engine.counters().starts_cached,
        300 - world.engine.counters().starts_requested
    );
}

#[test]
fn a_publisher_that_does_not_oblige_is_asked_once_a_second_whoever_waits() {
    let mut world = World::seeded(54);
    let camera = world.publish("lot-42", Camera { obliges: false, ..UNASKED_NEVER });
    join(&mut world, 300);
    let requests = &world.publisher(camera).keyframe_requests;
    assert!((3..=4).contains(&requests.len()), "{}", requests.len());
    assert_one_per_second(requests);
}

/// So many come within a second to a stream whose keyframe is too old to begin with, and watch.
fn join(world: &mut World, viewers: u32) -> Vec<usize> {
    world.run_for(secs(13));
    let joined = (0..viewers)
        .map(|_| {
            world.run_for(secs(1) / viewers);
            world.view("lot-42", Screen::default())
        })
        .collect();
    world.run_for(secs(2));
    joined
}

#[test]
fn a_keyframe_request_that_is_lost_is_made_again() {
    let mut world = World::seeded(52);
    let camera = world.publish("lot-42", UNASKED_NEVER);
    world.run_for(secs(13));
    world.clients[camera].down.loss = 1.0;
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(2));
    assert!(world.viewer(viewer).got[1].is_empty());
    world.clients[camera].down.loss = 0.0;
    world.run_for(ms(1_200));
    assert!(!world.viewer(viewer).got[1].is_empty());
}

/// Whoever comes next begins with what is kept since a keyframe.
#[test]
fn damage_on_the_way_in_is_mended_before_anybody_watches() {
    let mut world = World::seeded(540);
    let camera = world.publish("lot-42", UNASKED_NEVER);
    world.run_for(secs(1));
    world.clients[camera].up.loss = 0.1;
    world.run_for(secs(10));
    let requests = &world.publisher(camera).keyframe_requests;
    assert!(requests.len() >= 5, "{}", requests.len());
    assert_one_per_second(requests);
}

#[test]
fn damage_on_the_way_in_and_viewers_who_ask_cost_one_request_a_second_together() {
    for seed in 530..540 {
        let mut world = World::seeded(seed);
        let camera = world.publish("lot-42", UNASKED_NEVER);
        world.run_for(secs(1));
        world.clients[camera].up.loss = 0.1;
        for _ in 0..8 {
            world.view("lot-42", Screen::default());
            world.run_for(ms(1_710));
        }
        let requests = &world.publisher(camera).keyframe_requests;
        assert!(requests.len() >= 5, "{}", requests.len());
        assert_one_per_second(requests);
    }
}

/// It begins with the first picture that there is.
#[test]
fn who_waited_for_the_publisher_sees_its_first_picture() {
    let mut world = World::seeded(541);
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(2));
    let camera = Camera { obliges: false, group: 300, ..Camera::default() };
    world.publish("lot-42", camera);
    world.run_for(secs(2));
    let got = &world.viewer(viewer).got[1];
    assert!(got.len() > 200, "{}", got.len());
}
