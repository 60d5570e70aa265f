//! Four shards share one port: wherever a client's datagrams arrive and whoever owns its session,
//! it is served as by one.

use crate::camera::Camera;
use crate::keyframes::{UNASKED_NEVER, assert_one_per_second};
use crate::sequence::assert_unbroken;
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::engine::command::EndReason;
use millrace::media::codec::Kind;
use std::net::SocketAddr;

/// How many shards there are.
pub(crate) const SHARDS: usize = 4;

/// The client's datagrams arrive at this shard.
pub(crate) fn place(world: &mut World, client: usize, shard: usize) {
    let address = world.clients[client].address;
    world.placed.insert(address, shard);
}

/// A publisher whose datagrams arrive at this shard.
pub(crate) fn publish_at(world: &mut World, shard: usize, camera: Camera) -> usize {
    let camera = world.publish("lot-42", camera);
    place(world, camera, shard);
    camera
}

/// A viewer whose datagrams arrive at this shard.
pub(crate) fn view_at(world: &mut World, shard: usize) -> usize {
    let viewer = world.view("lot-42", Screen::default());
    place(world, viewer, shard);
    viewer
}

/// How many sessions each shard owns.
fn owned(world: &World) -> Vec<usize> {
    world.shards().map(|engine| engine.sizes()[0]).collect()
}

fn assert_whole(world: &mut World, camera: usize, viewer: usize) {
    for kind in Kind::ALL {
        let sent = world.publisher(camera).sent[kind.index()].clone();
        let mut got = world.viewer(viewer).got[kind.index()].clone();
        got.sort_by_key(|got| got.sequence);
        assert_unbroken(kind, &sent, &got);
    }
}

fn stop_sending(world: &mut World, camera: usize) {
    world.publisher(camera).sends = false;
    world.run_for(secs(3));
}

#[test]
fn viewers_on_other_shards_than_the_publisher_get_everything() {
    for eager in [false, true] {
        let mut world = World::sharded(81, SHARDS);
        world.eager = eager;
        let camera = publish_at(&mut world, 1, Camera::default());
        world.run_for(secs(1));
        let viewers: Vec<usize> = (0..8).map(|n| view_at(&mut world, n % SHARDS)).collect();
        world.run_for(secs(6));
        stop_sending(&mut world, camera);
        assert_eq!(owned(&world), [2, 3, 2, 2]);
        for viewer in viewers {
            assert_whole(&mut world, camera, viewer);
            assert!(!world.viewer(viewer).reports.is_empty(), "sender reports cross too");
        }
    }
}

#[test]
fn what_is_lost_on_a_viewer_s_link_is_sent_again_by_its_own_shard() {
    let mut world = World::sharded(82, SHARDS);
    let camera = publish_at(&mut world, 0, Camera::default());
    world.run_for(secs(1));
    let viewer = view_at(&mut world, 3);
    world.clients[viewer].down.loss = 0.02;
    world.run_for(secs(6));
    world.clients[viewer].down.loss = 0.0;
    stop_sending(&mut world, camera);
    assert_whole(&mut world, camera, viewer);
    assert!(world.shard(3).counters().retransmissions > 10);
    assert_eq!(world.shard(0).counters().retransmissions, 0);
}

#[test]
fn a_session_that_is_claimed_at_one_shard_and_speaks_at_another_is_served() {
    let mut world = World::sharded(83, SHARDS);
    let camera = publish_at(&mut world, 2, Camera::default());
    let viewer = view_at(&mut world, 1);
    // Only the first checks arrive there; the handshake and all media arrive elsewhere.
    world.run_for(ms(1));
    for (client, port) in [(camera, 7_003), (viewer, 7_004)] {
        world.rebind(client, port);
        world.clients[client].next_check = world.now;
        place(&mut world, client, 3);
    }
    world.run_for(secs(6));
    stop_sending(&mut world, camera);
    assert_eq!(owned(&world), [0, 1, 1, 0], "who claimed them keeps them");
    assert_whole(&mut world, camera, viewer);
    assert!(world.shard(3).counters().datagrams_forwarded > 500);
}

#[test]
fn a_client_that_moves_in_mid_stream_to_another_shard_s_socket_goes_on() {
    let mut world = World::sharded(84, SHARDS);
    let camera = publish_at(&mut world, 0, Camera::default());
    let viewer = view_at(&mut world, 1);
    world.run_for(secs(2));
    for (client, port, shard) in [(viewer, 7_001, 2), (camera, 7_002, 3)] {
        world.rebind(client, port);
        place(&mut world, client, shard);
        world.clients[client].next_check = world.now;
        world.run_for(secs(1));
    }
    let before = world.viewer(viewer).got[1].len();
    world.run_for(secs(1));
    assert!(world.viewer(viewer).got[1].len() > before + 50, "the picture goes on");
    assert_eq!(owned(&world), [1, 1, 0, 0]);
}

#[test]
fn a_browser_s_pairs_may_arrive_at_every_shard_and_media_goes_to_the_one_it_chose() {
    let mut world = World::sharded(85, SHARDS);
    let camera = publish_at(&mut world, 0, Camera::default());
    let viewer = view_at(&mut world, 1);
    let pairs: Vec<SocketAddr> =
        (0..3).map(|n| SocketAddr::from(([198, 51, 100, 9], 8_001 + n))).collect();
    for round in 0..50 {
        for (pair, shard) in pairs.iter().zip([2, 3, 0]) {
            world.placed.insert(*pair, shard);
            world.check_from(viewer, *pair, false);
        }
        world.run_for(ms(if round < 10 { 20 } else { 100 }));
    }
    stop_sending(&mut world, camera);
    assert_whole(&mut world, camera, viewer);
    assert_eq!(owned(&world), [1, 0, 1, 0], "the first check to arrive has claimed it");

    // All that was known of its addresses goes with it, at once or when it is next looked for.
    world.clients[viewer].peer.close(world.now);
    world.run_for(secs(1));
    assert!(world.ended(viewer).is_some());
    let known: usize = world.shards().map(|engine| engine.sizes()[2]).sum();
    assert!(known <= 3 + 3, "the camera's three names and three silent addresses, not {known}");
}

#[test]
fn of_two_publishers_that_connect_at_the_same_time_at_two_shards_one_stays() {
    let mut world = World::sharded(87, SHARDS);
    let first = publish_at(&mut world, 0, Camera::default());
    world.run_for(ms(1));
    let second = publish_at(&mut world, 1, Camera::default());
    world.clients[first].next_check = world.now;
    world.run_for(secs(3));
    assert_eq!(world.ended(first).map(|(_, reason)| reason), Some(&EndReason::Replaced));
    assert!(world.ended(second).is_none());
    let viewer = view_at(&mut world, 2);
    world.run_for(secs(3));
    stop_sending(&mut world, second);
    assert_whole(&mut world, second, viewer);
}

#[test]
fn when_the_publisher_stays_away_viewers_everywhere_are_told_and_nothing_stays() {
    let mut world = World::sharded(88, SHARDS);
    let camera = publish_at(&mut world, 2, Camera::default());
    world.run_for(secs(1));
    let viewers: Vec<usize> = (0..8).map(|n| view_at(&mut world, n % SHARDS)).collect();
    world.run_for(secs(2));
    world.clients[camera].peer.close(world.now);
    world.run_for(secs(31));
    for viewer in viewers {
        assert!(world.viewer(viewer).goodbye, "{viewer}");
    }
    for engine in world.shards() {
        assert_eq!(engine.sizes(), [0; 3]);
    }
}

#[test]
fn when_the_last_viewer_of_a_shard_leaves_it_is_handed_nothing_more() {
    let mut world = World::sharded(89, SHARDS);
    publish_at(&mut world, 0, Camera::default());
    world.run_for(secs(1));
    let viewer = view_at(&mut world, 1);
    world.run_for(secs(2));
    world.clients[viewer].peer.close(world.now);
    world.run_for(secs(1));
    let handed = world.shard(1).counters().packets_handed;
    assert!(handed > 200);
    world.run_for(secs(2));
    assert_eq!(world.shard(1).counters().packets_handed, handed);
}

#[test]
fn a_hundred_viewers_on_four_shards_cost_one_keyframe_request_a_second() {
    let mut world = World::sharded(90, SHARDS);
    let camera = publish_at(&mut world, 0, UNASKED_NEVER);
    world.run_for(ms(1_500));
    let viewers: Vec<usize> = (0..100)
        .map(|number| {
            world.run_for(ms(10));
            view_at(&mut world, number % SHARDS)
        })
        .collect();
    world.run_for(secs(2));
    for viewer in viewers {
        assert!(!world.viewer(viewer).got[1].is_empty(), "{viewer}");
    }
    assert_one_per_second(&world.publisher(camera).keyframe_requests);
}

/// Whoever has a session and can forge addresses could else cut others off, whose shard does not
/// see the forged check.
#[test]
fn a_session_at_another_shard_keeps_its_address_while_it_lives() {
    let mut world = World::sharded(91, SHARDS);
    publish_at(&mut world, 0, Camera::default());
    let victim = view_at(&mut world, 1);
    let thief = view_at(&mut world, 2);
    world.run_for(secs(1));
    // The victim speaks where another shard than its own listens.
    world.rebind(victim, 7_777);
    place(&mut world, victim, 3);
    world.clients[victim].next_check = world.now;
    world.run_for(secs(1));
    let address = world.clients[victim].address;
    for _ in 0..40 {
        world.check_from(thief, address, true);
        world.run_for(ms(100));
    }
    let newest = world.viewer(victim).got[1].last().map(|got| got.at);
    assert!(newest > Some(world.ago(ms(200))), "it goes on watching");
    assert!(world.ended(victim).is_none());
}

/// A publisher that is asked for nothing, ten seconds from keyframe to keyframe.
#[test]
fn a_shard_s_first_viewer_begins_with_the_keyframe_that_the_publisher_s_shard_has() {
    let camera = Camera { group: 300, obliges: false, ..Camera::default() };
    let mut world = World::sharded(92, SHARDS);
    let camera = publish_at(&mut world, 0, camera);
    world.run_for(secs(5));
    let viewers: Vec<usize> = (0..SHARDS).map(|shard| view_at(&mut world, shard)).collect();
    world.run_for(secs(3));
    assert!(world.publisher(camera).keyframe_requests.is_empty(), "nobody had to ask");
    stop_sending(&mut world, camera);
    for viewer in viewers {
        assert_whole(&mut world, camera, viewer);
        let got = &world.viewer(viewer).got[1];
        let live = got.iter().rev().take(20).map(|got| got.timestamp).collect::<Vec<_>>();
        let of_first = &world.viewer(1).got[1];
        let others = of_first.iter().rev().take(20).map(|got| got.timestamp).collect::<Vec<_>>();
        assert_eq!(live, others, "viewer {viewer} is as live as the one beside the publisher");
    }
}
