//! A viewer's stream has no hole of our making: every packet once, numbers and times as sent.

use crate::camera::{Camera, Repair};
use crate::publisher::Sent;
use crate::viewer::{Got, Screen};
use crate::world::{World, ms, secs};
use millrace::media::codec::Kind;

/// What a viewer got of a kind, in the order of its numbers, is what the publisher sent, from the
/// viewer's first packet to the publisher's last; what was past when it came is compressed.
pub(crate) fn assert_unbroken(kind: Kind, sent: &[Sent], got: &[Got]) {
    let first = got.first().expect("something came");
    let start = sent.iter().position(|sent| sent.payload == first.payload);
    let sent = &sent[start.expect("what came was sent")..];
    assert!(kind == Kind::Audio || sent[0].keyframe, "pictures begin with a keyframe");
    assert_eq!(got.len(), sent.len(), "{kind}: everything from the start on, once");
    let ticks = |timestamp: u32| timestamp.wrapping_sub(sent[0].header.timestamp);
    let pairs = || got.iter().zip(sent);
    let is_live = |(got, sent): &(&Got, &Sent)| got.timestamp == sent.header.timestamp;
    let live = pairs().filter(is_live).map(|(_, sent)| ticks(sent.header.timestamp)).min();
    let live = live.expect("it reaches the present");
    let mut before = None;
    for (number, (got, sent_then)) in pairs().enumerate() {
        assert_eq!(got.sequence, first.sequence + number as u64, "{kind}");
        assert_eq!(got.payload, sent_then.payload, "{kind} {number}");
        assert_eq!(got.marker, sent_then.header.marker, "{kind} {number}");
        let (sent_at, at) = (ticks(sent_then.header.timestamp), ticks(got.timestamp));
        assert!(at == sent_at || (sent_at < at && sent_at < live && at <= live), "{kind} {number}");
        let (sent_before, got_before) = before.replace((sent_at, at)).unwrap_or((sent_at, at));
        let order = sent_at.cmp(&sent_before);
        assert_eq!(at.cmp(&got_before), order, "{kind} {number}: in their order");
    }
}

/// Runs a world with viewers of all sorts that come at different times.
fn run(world: &mut World, camera: usize) -> Vec<usize> {
    let mut viewers = Vec::new();
    for screen in [
        Screen { rtx: true, nack: true, ..Screen::default() },
        Screen { rtx: false, nack: false, ..Screen::default() },
    ] {
        viewers.push(world.view("lot-42", screen));
        world.run_for(ms(2_345));
    }
    world.run_for(secs(5));
    world.publisher(camera).sends = false;
    world.run_for(secs(3));
    viewers
}

#[test]
fn every_viewer_gets_every_packet_from_its_keyframe_on_once_and_in_order() {
    for eager in [false, true] {
        let mut world = World::seeded(21);
        world.eager = eager;
        let camera = world.publish("lot-42", Camera::default());
        for viewer in run(&mut world, camera) {
            for kind in Kind::ALL {
                let sent = world.publisher(camera).sent[kind.index()].clone();
                assert_unbroken(kind, &sent, &world.viewer(viewer).got[kind.index()]);
            }
        }
    }
}

#[test]
fn what_is_lost_reordered_or_doubled_on_the_way_in_comes_out_whole() {
    for (seed, repair) in (220..228).zip([Repair::Rtx, Repair::Resend].into_iter().cycle()) {
        let mut world = World::seeded(seed);
        let camera = world.publish("lot-42", Camera { repair, ..Camera::default() });
        // The first second is for the beginning: what comes before anything is known of.
        world.run_for(secs(1));
        let client = &mut world.clients[camera];
        (client.up.loss, client.up.reordering, client.up.duplication) = (0.03, 0.05, 0.05);
        client.down.loss = 0.03;
        for viewer in run(&mut world, camera) {
            for kind in Kind::ALL {
                let sent = world.publisher(camera).sent[kind.index()].clone();
                let mut got = world.viewer(viewer).got[kind.index()].clone();
                let in_order = got.is_sorted_by_key(|got| got.sequence);
                assert!(!in_order || kind == Kind::Audio, "repair comes late");
                got.sort_by_key(|got| got.sequence);
                assert_unbroken(kind, &sent, &got);
            }
        }
        assert!(world.publisher(camera).asked_again > 20, "{repair:?}");
        assert!(world.engine.counters().packets_dropped == 0, "duplicates end in the receiver");
    }
}
