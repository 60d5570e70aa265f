//! A client's address may change: media follows its next check. So may its ICE credentials.

use crate::camera::Camera;
use crate::sessions::session;
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::engine::command::Command;
use millrace::peer::agreement::Credentials;
use std::time::Instant;

/// When a viewer got its newest packet.
fn newest(world: &World, viewer: usize) -> Option<Instant> {
    world.viewer(viewer).got.iter().flatten().map(|got| got.at).max()
}

#[test]
fn media_follows_a_viewer_whose_address_changes_with_its_next_check() {
    let mut world = World::seeded(71);
    let camera = world.publish("lot-42", Camera::default());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(2));
    world.rebind(viewer, 7_000);
    let moved = world.now;
    let checks = world.clients[viewer].next_check;
    world.run_for(checks - moved);
    let last = newest(&world, viewer).expect("it has been watching");
    assert!(last <= moved + ms(10), "nobody knows where it is");
    world.run_for(ms(100));
    assert!(newest(&world, viewer) > Some(checks), "the check has told");
    world.run_for(secs(2));
    let outage = (checks - moved).as_millis() as u64;
    let (missing, _) = world.viewer(viewer).missing();
    // 170 packets a second; what is still kept is sent again as far as the budget goes.
    assert!(missing < outage * 170 / 1_000 / 2, "{missing} missing after {outage} ms");

    // The old address ends with the session: nothing is left of either.
    world.clients[viewer].peer.close(world.now);
    world.clients[camera].peer.close(world.now);
    world.run_for(secs(1));
    assert!(world.ended(viewer).is_some() && world.ended(camera).is_some());
    assert_eq!(world.engine.sizes(), [0; 3]);
}

#[test]
fn a_check_that_does_not_nominate_moves_no_media() {
    let mut world = World::seeded(72);
    world.publish("lot-42", Camera::default());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(1));
    world.clients[viewer].nominates = false;
    world.rebind(viewer, 7_001);
    world.run_for(secs(4));
    assert!(newest(&world, viewer).is_some_and(|newest| newest < world.ago(secs(2))));
    world.clients[viewer].nominates = true;
    world.run_for(secs(3));
    assert!(newest(&world, viewer).is_some_and(|newest| newest > world.ago(ms(100))));
}

#[test]
fn a_publisher_whose_address_changes_is_a_stranger_until_its_next_check() {
    let mut world = World::seeded(73);
    let camera = world.publish("lot-42", Camera::default());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(2));
    world.rebind(camera, 7_002);
    let moved = world.now;
    let checks = world.clients[camera].next_check;
    let strangers = world.engine.counters().strangers;
    world.run_for(checks - moved);
    let last = newest(&world, viewer).expect("it has been watching");
    assert!(last <= moved + ms(50), "nobody knows whose packets these are");
    assert!(world.engine.counters().strangers > strangers + 20);
    world.run_for(secs(3));
    assert!(newest(&world, viewer) > Some(world.ago(ms(200))), "the check has told");
    assert!(world.ended(camera).is_none() && world.ended(viewer).is_none());
}

#[test]
fn clients_restart_ice_again_and_again_wherever_they_are_and_leave_no_name_behind() {
    let mut world = World::seeded(74);
    let camera = world.publish("lot-42", Camera::default());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(1));
    for round in 0..6 {
        for number in [camera, viewer] {
            let renewed = Credentials {
                ufrag: format!("round{round}of{number}"),
                pwd: format!("{round}").repeat(24),
            };
            // Of every other answer the client never hears, and asks again.
            world.command(Command::Restart(session(number), renewed.clone()));
            world.run_for(secs(3));
            if round % 2 == 1 {
                world.clients[number].peer.server = renewed;
            }
            world.rebind(number, 7_100 + round * 2 + number as u16);
            world.clients[number].next_check = world.now;
            world.run_for(secs(3));
            assert!(newest(&world, viewer) > Some(world.ago(ms(200))), "{round} of {number}");
        }
    }
    for number in [viewer, camera] {
        assert!(world.ended(number).is_none());
        world.clients[number].peer.close(world.now);
        world.run_for(secs(1));
        assert!(world.ended(number).is_some());
    }
    assert_eq!(world.engine.sizes(), [0; 3]);
}

/// A shard gives publishers sockets of their own where they send from, but only so often: what is
/// no change must not use that up, or a publisher is without one in its first second.
#[test]
fn where_publishers_send_from_counts_as_changed_when_it_has() {
    let mut world = World::seeded(75);
    let camera = world.publish("lot-42", Camera::default());
    let (mut paths, mut changes) = (Vec::new(), 0);
    for step in 0..400 {
        if step == 200 {
            world.rebind(camera, 7_000);
        }
        world.run_for(ms(10));
        let now: Vec<_> = world.engine.publisher_paths().collect();
        let changed = world.engine.publishers_moved();
        assert_eq!(changed > changes, now != paths, "step {step}");
        (paths, changes) = (now, changed);
    }
    assert_eq!((paths.len(), changes), (1, 2));
}
