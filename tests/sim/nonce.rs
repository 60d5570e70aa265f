//! Nothing is sealed twice with different bytes; the oracle looks at each packet.

use crate::camera::{Camera, Repair};
use crate::viewer::Screen;
use crate::world::{World, ms, secs};

#[test]
fn no_nonce_is_used_twice_whatever_is_lost_reordered_doubled_and_sent_again() {
    for (seed, eager) in (0..8).map(|n| (310 + n, n % 2 == 1)) {
        let mut world = World::seeded(seed);
        world.eager = eager;
        let repair = Repair::Resend;
        world.publish("lot-42", Camera { packets: 6, repair, ..Camera::default() });
        let mut viewers = Vec::new();
        for rtx in [true, false, false] {
            viewers.push(world.view("lot-42", Screen { rtx, nack: true, ..Screen::default() }));
        }
        for client in &mut world.clients {
            for link in [&mut client.up, &mut client.down] {
                (link.loss, link.reordering, link.duplication) = (0.04, 0.1, 0.05);
            }
        }
        world.run_for(secs(12));
        let [rtx, ..] = viewers[..] else { unreachable!("there are three") };
        assert!(world.viewer(rtx).rtx.packets > 50, "packets were sent again on their own SSRC");
        assert!(world.oracle.repeated() > 100, "and as they were: {}", world.oracle.repeated());
        assert!(world.oracle.packets() > 6_000, "{}", world.oracle.packets());
    }
}

#[test]
fn no_nonce_is_used_twice_while_viewers_catch_up() {
    for (seed, repair) in (320..330).zip([Repair::Rtx, Repair::Resend].into_iter().cycle()) {
        let mut world = World::seeded(seed);
        world.eager = seed % 3 == 0;
        // So slow that it takes a second or two, with a new keyframe in between.
        world.burst_max = 2;
        let camera = Camera { packets: 6, group: 45, repair, obliges: false, ..Camera::default() };
        let camera = world.publish("lot-42", camera);
        world.run_for(secs(1));
        let up = &mut world.clients[camera].up;
        (up.loss, up.reordering, up.duplication) = (0.05, 0.1, 0.05);
        let viewers: Vec<_> = (0..8)
            .map(|number| {
                let rtx = number % 2 == 0;
                let viewer = world.view("lot-42", Screen { rtx, nack: true, ..Screen::default() });
                let down = &mut world.clients[viewer].down;
                (down.loss, down.reordering) = (0.05, 0.1);
                world.run_for(ms(730));
                viewer
            })
            .collect();
        world.run_for(secs(5));
        assert_eq!(world.engine.catching_up(), 0);
        assert_eq!(world.engine.counters().starts_cached, 8);
        assert!(world.oracle.repeated() > 20, "{}", world.oracle.repeated());
        for viewer in viewers {
            let (missing, expected) = world.viewer(viewer).missing();
            assert!(missing * 20 < expected, "viewer {viewer}: {missing} of {expected}");
        }
    }
}

#[test]
fn no_nonce_is_used_twice_across_the_rollover() {
    let mut world = World::seeded(34);
    let audio = false;
    let camera =
        Camera { packets: 40, payload_bytes: 30, frame_rate: 100, audio, ..Camera::default() };
    world.publish("lot-42", camera);
    let viewer = world.view("lot-42", Screen { rtx: false, nack: true, ..Screen::default() });
    world.clients[viewer].down.loss = 0.01;
    world.run_for(secs(9));
    let (missing, expected) = world.viewer(viewer).missing();
    assert!(missing < 40 && expected > 34_000, "{missing} of {expected}: it went on");
    assert!(world.oracle.rollovers() > 0);
    assert!(world.oracle.repeated() > 50);
}
