//! Workers for pictures that are watched: short shell scripts in the place of the real one.

use super::super::ipc::Wire as _;
use super::super::ipc::picture::{Codec as Named, Order};
use super::supervisor::order_of;
use super::*;
use crate::clock::{Clock, HandClock};
use crate::media::codec::Codec;
use crate::media::time::WallTime;
use crate::transcode::tests::{Fake, SOON, stream, until};
use crate::transcode::{StillError, Transcoder, Unavailable};
use bytes::Bytes;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

const READY: &str = r"printf '\0\0\0\001R' >&0";
/// Layer 3 is made by an encoder that is called x; a keyframe of one byte at 90,000 ticks.
const ONE_FRAME: &str = r"printf '\0\0\0\003C\003x\0\0\0\014F\003\0\0\0\0\0\001\137\220\001y' >&0";

fn start(transcoder: &Transcoder) -> (PictureWorker, Receiver<Told>) {
    let (out, told) = channel(1000);
    let sink = move |it| drop(out.try_send(it));
    let worker = transcoder.picture(&stream(), sink).expect("there is a worker");
    worker.stand_by(Standby::Yes);
    (worker, told)
}

async fn next(told: &mut Receiver<Told>) -> Told {
    tokio::time::timeout(SOON, told.recv()).await.expect("soon").expect("the sink is there")
}

/// The next thing that is told, a frame.
async fn next_frame(told: &mut Receiver<Told>) -> MadeFrame {
    match next(told).await {
        Told::Frame(made) => Some(made),
        _ => None,
    }
    .expect("a frame")
}

/// The next thing that is told, a fault, and whether it is given up.
async fn next_fault(told: &mut Receiver<Told>) -> (String, bool) {
    match next(told).await {
        Told::Failed { fault, is_given_up } => Some((fault, is_given_up)),
        _ => None,
    }
    .expect("a fault")
}

fn frame(ticks: i64, starts: bool, clock: &Clock) -> SourceFrame {
    let data = Bytes::from(vec![7; 100]);
    SourceFrame { codec: Codec::H264, ticks, starts, arrival: clock.now(), data }
}

fn layer() -> Layer {
    let (number, width, height, encoder) = (3, 854, 480, String::new());
    Layer { number, width, height, frame_rate_mhz: 30_000, bitrate_bps: 1_000_000, encoder }
}

fn bytes_of(orders: &[Order]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(orders.iter().all(|order| order.write_to(&mut bytes)));
    bytes
}

/// Where a script leaves what it got: it knows no other place of its own.
fn left_by(fake: &Fake, name: &str) -> PathBuf {
    fake.0.join(format!("{}.{name}", crate::transcode::REGISTRY))
}

#[tokio::test]
async fn a_worker_gets_the_source_and_its_layers_and_what_it_makes_comes_out() {
    let clock = Clock::system();
    let frames = [frame(0, true, &clock), frame(3_000, false, &clock)];
    let source = Order::Source(Named::H264);
    let orders = [source, order_of(&frames[0]), order_of(&frames[1]), Order::Start(layer())];
    let wanted = bytes_of(&orders);
    let fake = Fake::new(&format!(
        "[ \"$1\" = --picture ] || exit 9; {READY}; head -c {} >\"$GST_REGISTRY.new\"; \
         mv \"$GST_REGISTRY.new\" \"$GST_REGISTRY.got\"; {ONE_FRAME}; exec cat >/dev/null",
        wanted.len()
    ));
    let (worker, mut told) = start(&fake.transcoder(clock.clone()));
    for frame in frames {
        worker.write(frame);
    }
    worker.start(layer());
    assert_eq!(next(&mut told).await, Told::Encoder { layer: 3, name: "x".to_owned() });
    let made = next_frame(&mut told).await;
    assert_eq!((made.layer, made.ticks, made.is_keyframe), (3, 90_000, true));
    assert_eq!(made.data, b"y");
    assert_eq!(fs::read(left_by(&fake, "got")).expect("it is there"), wanted);
}

#[tokio::test]
async fn the_next_worker_begins_at_the_newest_keyframe_with_what_was_made() {
    let clock = Clock::system();
    let frames = [frame(0, true, &clock), frame(3_000, true, &clock), frame(6_000, false, &clock)];
    let [first, second, third] = frames.each_ref().map(order_of);
    let source = || Order::Source(Named::H264);
    let all = [source(), first, second.clone(), third.clone(), Order::Start(layer())];
    let again = bytes_of(&[source(), second, third, Order::Start(layer())]);
    // The first one dies when it has got all, the second one stays.
    let fake = Fake::new(&format!(
        "{READY}; if mkdir \"$GST_REGISTRY.first\"; then head -c {} >/dev/null; exit 3; fi; \
         head -c {} >\"$GST_REGISTRY.new\"; mv \"$GST_REGISTRY.new\" \"$GST_REGISTRY.got\"; \
         {ONE_FRAME}; exec cat >/dev/null",
        bytes_of(&all).len(),
        again.len()
    ));
    let (worker, mut told) = start(&fake.transcoder(clock.clone()));
    for frame in frames {
        worker.write(frame);
    }
    worker.start(layer());
    assert!(!next_fault(&mut told).await.1, "it is tried again");
    assert!(matches!(next(&mut told).await, Told::Encoder { .. }));
    assert_eq!(next(&mut told).await, Told::Well);
    assert!(matches!(next(&mut told).await, Told::Frame(_)));
    assert_eq!(fs::read(left_by(&fake, "got")).expect("it is there"), again);
}

#[tokio::test]
async fn what_was_made_of_a_layer_before_it_was_started_again_is_left_out() {
    let before = r"printf '\0\0\0\014F\003\0\0\0\0\0\0\0\001\001z' >&0";
    let fake = Fake::new(&format!(
        "{READY}; head -c 138 >/dev/null; {before}; {ONE_FRAME}; exec cat >/dev/null"
    ));
    let clock = Clock::system();
    let (worker, mut told) = start(&fake.transcoder(clock.clone()));
    worker.write(frame(0, true, &clock));
    worker.start(layer());
    assert!(matches!(next(&mut told).await, Told::Encoder { .. }));
    let made = next_frame(&mut told).await;
    assert_eq!(made.data, b"y");
}

#[tokio::test]
async fn workers_that_die_again_and_again_are_given_up() {
    let fake = Fake::new("echo x >>\"$GST_REGISTRY.starts\"; echo it hurts >&2; exit 3");
    let transcoder = fake.transcoder(Clock::system());
    let (_worker, mut told) = start(&transcoder);
    for number in 1..=5 {
        assert_eq!(next_fault(&mut told).await, ("it hurts".to_owned(), number == 5));
    }
    let starts = fs::read_to_string(left_by(&fake, "starts")).expect("it is there");
    assert_eq!(starts.lines().count(), 5);
    assert_eq!(transcoder.counts().restarts, 5);
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed() {
    let fake = Fake::new(&format!("{READY}; exec sleep 1000"));
    let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::from_secs(1)));
    let (worker, mut told) = start(&fake.transcoder(hands.clock()));
    let failed = async {
        loop {
            // Time passes only while it is silent: what starts slowly does not hang.
            hands.advance(Duration::from_millis(20));
            worker.want_keyframe();
            let waits = tokio::time::timeout(Duration::from_millis(10), told.recv());
            if let Ok(Some(Told::Failed { fault, .. })) = waits.await {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(SOON, failed).await.expect("soon");
    assert!(fault.contains("tells nothing") || fault.contains("get ready"), "{fault}");
}

#[tokio::test]
async fn more_pictures_than_may_be_wait_and_are_told_the_option() {
    let fake = Fake::new("exec cat >/dev/null");
    let transcoder = fake.transcoder(Clock::system());
    let running = [start(&transcoder), start(&transcoder)];
    until("both run", || transcoder.counts().pictures == 2).await;
    let (third, mut told) = start(&transcoder);
    let Told::Full(reason) = next(&mut told).await else { unreachable!("two may run") };
    assert_eq!(reason, Unavailable::PicturesFull(2));
    assert!(reason.to_string().contains("transcode.pictures_max"), "{reason}");
    drop(running);
    assert_eq!(next(&mut told).await, Told::Room);
    until("only the third runs", || transcoder.counts().pictures == 1).await;
    drop(third);
    until("none runs", || transcoder.counts().pictures == 0).await;
}

#[tokio::test]
async fn a_worker_that_only_stands_by_gives_way_to_those_that_are_needed() {
    let fake = Fake::new("exec cat >/dev/null");
    let transcoder = fake.transcoder(Clock::system());
    let standing = [start(&transcoder), start(&transcoder)];
    for (worker, _) in &standing {
        worker.stand_by(Standby::IfThereIsRoom);
    }
    until("both run", || transcoder.counts().pictures == 2).await;
    let (third, mut told) = start(&transcoder);
    assert!(matches!(next(&mut told).await, Told::Full(_)));
    assert_eq!(next(&mut told).await, Told::Room);
    // It takes its place back when that is free, not before.
    let [(first, mut first_told), (second, mut second_told)] = standing;
    let rests = async {
        tokio::select! {
            told = next(&mut first_told) => told,
            told = next(&mut second_told) => told,
        }
    };
    assert_eq!(rests.await, Told::Rests);
    drop(third);
    until("both run again", || transcoder.counts().pictures == 2).await;
    drop((first, second));
}

#[tokio::test]
async fn no_worker_runs_for_a_picture_of_which_nothing_is_wanted_and_it_ends_a_while_after() {
    let fake = Fake::new(&format!(
        "{READY}; : >\"$GST_REGISTRY.ready\"; while sleep 0.01; do {READY}; done"
    ));
    let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::from_secs(1)));
    let transcoder = fake.transcoder(hands.clock());
    let (worker, mut told) = start(&transcoder);
    worker.stand_by(Standby::No);
    tokio::task::yield_now().await;
    assert_eq!(transcoder.counts().pictures, 0, "nothing is wanted of it");
    worker.start(layer());
    until("it runs", || left_by(&fake, "ready").exists()).await;
    worker.stop(layer().number);
    let mut tenths = 0;
    let has_ended = || {
        hands.advance(Duration::from_millis(100));
        tenths += 1;
        matches!(told.try_recv(), Ok(Told::Rests))
    };
    until("it ends", has_ended).await;
    assert!(tenths >= 300, "after {tenths} tenths of a second");
}

#[tokio::test]
async fn a_worker_for_one_picture_gets_its_frames_and_gives_it() {
    let clock = Clock::system();
    let frames = [frame(0, true, &clock), frame(3_000, false, &clock)];
    let [first, second] = frames.each_ref().map(order_of);
    let wanted = bytes_of(&[Order::Source(Named::H264), first, second, Order::Still(270)]);
    let fake = Fake::new(&format!(
        "[ \"$1\" = --still ] || exit 9; {READY}; head -c {} >\"$GST_REGISTRY.got\"; \
         printf '\\0\\0\\0\\003Jab' >&0; exec cat >/dev/null",
        wanted.len()
    ));
    let made = fake.transcoder(clock).still(&frames, 270).await;
    assert_eq!(made, Ok(b"ab".to_vec()));
    assert_eq!(fs::read(left_by(&fake, "got")).expect("it is there"), wanted);
}

#[tokio::test]
async fn what_is_wrong_with_a_worker_for_one_picture_is_told() {
    let clock = Clock::system();
    let frames = [frame(0, true, &clock)];
    for (script, fault) in [
        ("echo it hurts >&2; exit 3", "it hurts"),
        (r"printf '\0\0\0\005Eugly' >&0; exec cat >/dev/null", "ugly"),
        (r"printf '\0\0\0\001?' >&0; exec cat >/dev/null", "a message that makes no sense"),
    ] {
        let made = Fake::new(script).transcoder(clock.clone()).still(&frames, 270).await;
        assert_eq!(made, Err(StillError::Fault(fault.to_owned())));
    }
    let mut of_vp8 = frame(0, true, &clock);
    of_vp8.codec = Codec::Vp8;
    let made = Fake::new("exit 3").transcoder(clock).still(&[of_vp8], 270).await;
    assert!(matches!(made, Err(StillError::Unavailable(Unavailable::Lacks { .. }))), "{made:?}");
}
