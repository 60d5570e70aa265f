//! How sessions end, and that nothing stays of them.

use crate::camera::Camera;
use crate::sessions::session;
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::engine::command::{Command, EndReason};
use millrace::peer::transport::EndReason as TransportEnd;

const CAMERA: usize = 0;
const ANA: usize = 1;
const BEN: usize = 2;

/// A publisher with two viewers.
fn lot(seed: u64) -> World {
    let mut world = World::seeded(seed);
    world.publish("lot-42", Camera::default());
    world.view("lot-42", Screen::default());
    world.view("lot-42", Screen { rtx: false, nack: true, ..Screen::default() });
    world.run_for(secs(2));
    assert!((0..3).all(|number| world.connected(number) && world.ended(number).is_none()));
    world
}

fn reason(world: &World, number: usize) -> Option<EndReason> {
    world.ended(number).map(|(_, reason)| reason.clone())
}

/// Whether a client was told: a viewer by BYE, everybody by `close_notify`.
fn told(world: &World, number: usize) -> bool {
    let closed = world.clients[number].peer.closed;
    closed && (number == CAMERA || world.viewer(number).goodbye)
}

fn assert_nothing_is_left(world: &World) {
    assert_eq!(world.engine.sizes(), [0; 3]);
    assert_eq!(world.engine.deadline(), None, "nothing is left to be done");
}

/// Ben still watches, and misses nothing.
fn assert_ben_watches(world: &mut World) {
    world.run_for(secs(1));
    let newest = world.viewer(BEN).got[1].last().map(|got| got.at);
    assert!(newest > Some(world.ago(ms(100))));
    let (missing, expected) = world.viewer(BEN).missing();
    assert!(missing == 0 && expected > 300);
}

#[test]
fn delete_ends_a_viewer_who_is_told() {
    let mut world = lot(81);
    world.command(Command::End(session(ANA), EndReason::Deleted));
    world.run_for(ms(20));
    assert_eq!(reason(&world, ANA), Some(EndReason::Deleted));
    assert!(told(&world, ANA));
    assert_ben_watches(&mut world);
    assert_eq!(world.engine.sessions(), 2);
}

#[test]
fn a_viewer_that_closes_has_left() {
    let mut world = lot(82);
    let now = world.now;
    world.clients[ANA].peer.close(now);
    let alert = world.clients[ANA].peer.poll().expect("the alert");
    world.up(ANA, &alert);
    world.run_for(ms(20));
    let closed = EndReason::Transport(TransportEnd::ClosedByClient);
    assert_eq!(reason(&world, ANA), Some(closed));
    assert!(!world.viewer(ANA).goodbye, "it is not told what it knows");
    assert_ben_watches(&mut world);
}

#[test]
fn a_viewer_that_falls_silent_loses_its_consent_after_30_seconds() {
    let mut world = lot(83);
    world.clients[ANA].dead = true;
    let died = world.now;
    world.run_for(secs(32));
    let (at, reason) = world.ended(ANA).expect("it is over");
    assert_eq!(*reason, EndReason::Transport(TransportEnd::ConsentLost));
    assert!((secs(27)..=secs(31)).contains(&(at - died)), "{:?}", at - died);
    assert_ben_watches(&mut world);
}

#[test]
fn a_publisher_that_falls_silent_is_given_up_and_its_viewers_after_the_grace_time() {
    let mut world = lot(84);
    world.clients[CAMERA].dead = true;
    world.run_for(secs(62));
    let lost = EndReason::Transport(TransportEnd::ConsentLost);
    // Consent is lost and the stream silent at the same moment; either is right.
    let reasons = [Some(lost), Some(EndReason::Silent)];
    assert!(reasons.contains(&reason(&world, CAMERA)), "{:?}", reason(&world, CAMERA));
    for viewer in [ANA, BEN] {
        assert_eq!(reason(&world, viewer), Some(EndReason::StreamEnded));
        assert!(told(&world, viewer));
    }
    assert_nothing_is_left(&world);
}

#[test]
fn a_publisher_that_is_there_and_sends_nothing_is_ended() {
    let mut world = lot(85);
    world.publisher(CAMERA).sends = false;
    let stopped = world.now;
    world.run_for(secs(63));
    let (at, reason_of) = world.ended(CAMERA).expect("it is over");
    assert_eq!(*reason_of, EndReason::Silent);
    assert!((secs(30)..=secs(31)).contains(&(at - stopped)), "{:?}", at - stopped);
    for viewer in [ANA, BEN] {
        assert_eq!(reason(&world, viewer), Some(EndReason::StreamEnded));
        assert!(told(&world, viewer));
    }
    assert!(told(&world, CAMERA));
    assert_nothing_is_left(&world);
}

#[test]
fn a_publisher_that_never_sends_anything_is_ended_as_soon() {
    let mut world = World::seeded(86);
    world.publish("lot-42", Camera::default());
    world.publisher(CAMERA).sends = false;
    world.run_for(secs(32));
    let (at, reason) = world.ended(CAMERA).expect("it is over");
    assert_eq!(*reason, EndReason::Silent);
    assert!(at - world.epoch.instant <= secs(31), "{:?}", at - world.epoch.instant);
    assert_nothing_is_left(&world);
}

#[test]
fn stop_ends_everybody_and_tells_them() {
    let mut world = lot(88);
    world.command(Command::Stop);
    world.run_for(ms(20));
    for number in [CAMERA, ANA, BEN] {
        let reasons = [Some(EndReason::Stopping), Some(EndReason::StreamEnded)];
        assert!(reasons.contains(&reason(&world, number)), "{:?}", reason(&world, number));
        assert!(told(&world, number), "{number}");
    }
    assert_eq!(reason(&world, CAMERA), Some(EndReason::Stopping));
    assert_nothing_is_left(&world);
}

#[test]
fn a_client_that_never_shakes_hands_is_given_up_after_ten_seconds() {
    let mut world = World::seeded(90);
    let viewer = world.view("lot-42", Screen::default());
    world.clients[viewer].up.lose = Some(Box::new(|datagram| datagram[0] > 3));
    world.run_for(secs(11));
    let timeout = EndReason::Transport(TransportEnd::HandshakeTimeout);
    assert_eq!(reason(&world, viewer), Some(timeout));
    assert_nothing_is_left(&world);
}

#[test]
fn sessions_that_have_nothing_to_do_let_the_shard_rest() {
    let mut world = World::seeded(91);
    world.view("nobody-publishes", Screen::default());
    world.publish("nobody-watches", Camera::default());
    world.publisher(1).sends = false;
    world.run_for(secs(2));
    let before = world.wakes;
    world.run_for(secs(10));
    let wakes = world.wakes - before;
    assert!(wakes <= 150, "a viewer without a stream is looked at ten times a second: {wakes}");
    assert_eq!(world.overdue, 0, "after each turn there is nothing left to do");
}

#[test]
fn a_running_stream_wakes_the_shard_for_its_batches_and_reports_only() {
    let mut world = lot(92);
    let (wakes, batches) = (world.wakes, world.engine.counters().batches);
    world.run_for(secs(10));
    let batches = world.engine.counters().batches - batches;
    let wakes = world.wakes - wakes;
    assert!(wakes <= batches + 100, "{wakes} wakes, {batches} batches");
    assert_eq!(world.overdue, 0);
}
