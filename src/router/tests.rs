//! What comes in, what goes out of it, and what is asked of the publisher.

use super::batch::Batch;
use super::*;
use crate::media::codec::Codec;
use crate::media::packet::PacketFields;
use crate::media::time::WallTime;

const VIDEO: Lane = Lane::Video(LayerId::ONLY);

fn router(now: Instant) -> Router {
    let wall = WallTime::since_unix_epoch(Duration::ZERO);
    Router::new(RouterSettings::default(), Epoch { instant: now, wall })
}

#[test]
fn sound_does_not_end_the_wait_for_a_keyframe() {
    let now = Instant::now();
    let mut router = router(now);
    let packet = |codec| {
        let fields = PacketFields::single(codec, 1, 0, now);
        Arc::new(PacketFields { marker: true, keyframe: true, ..fields }.with(vec![0]))
    };
    router.want_keyframe(LayerId::ONLY);
    assert!(router.keyframe_request_due(now).is_some());
    router.push(&packet(Codec::Opus));
    assert!(router.keyframe_deadline().is_some(), "the viewer still waits");
    router.push(&packet(Codec::Vp8));
    assert_eq!(router.keyframe_deadline(), None);
}

/// Whoever came before any layer did would else have the others begin anew each second.
#[test]
fn a_layer_that_does_not_flow_is_not_asked_for_a_keyframe() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut router = router(start);
    let (first, second) = (LayerId::ONLY, LayerId::at(1).expect("two"));
    let push = |router: &mut Router, layer, sequence, ms| {
        let fields = PacketFields::single(Codec::Vp8, sequence, ms * 90, at(ms));
        router.push(&Arc::new(PacketFields { layer, marker: true, ..fields }.with(vec![0])));
    };
    router.want_keyframe(first);
    assert_eq!(router.keyframe_request_due(at(0)), Some(first), "nobody knows which will come");
    push(&mut router, second, 1, 500);
    assert_eq!(router.keyframe_request_due(at(1_000)), None, "only the other one has come");
    assert_eq!(router.keyframe_deadline(), Some(at(2_000)), "it may come yet");
    push(&mut router, first, 1, 1_900);
    assert_eq!(router.keyframe_request_due(at(2_000)), Some(first), "it came without one");
    for picture in 0..30 {
        push(&mut router, second, 2 + picture, 2_000 + picture * 33);
    }
    assert_eq!(router.keyframe_request_due(at(3_000)), None, "it has stopped");
    push(&mut router, first, 2, 3_900);
    assert_eq!(router.keyframe_request_due(at(4_000)), Some(first));
}

/// What was on its way would be kept, and whoever follows begin with a layer that never flows.
#[test]
fn nobody_begins_with_a_layer_that_has_ended() {
    let start = Instant::now();
    let mut router = router(start);
    let push = |router: &mut Router, sequence: u64, keyframe| {
        let fields = PacketFields::single(Codec::Vp8, sequence, sequence * 3_000, start);
        router.push(&Arc::new(PacketFields { marker: true, keyframe, ..fields }.with(vec![0])))
    };
    push(&mut router, 1, true);
    push(&mut router, 2, false);
    router.stop_made(LayerId::ONLY);
    assert_eq!(router.past_and_present().1.len(), 0, "nothing is handed to a follower");
    router.begin_batch(start + Duration::from_millis(10));
    assert_eq!(router.batch(VIDEO).len(), 2, "whoever has it gets the rest");
    router.finish_batch();
    assert_eq!((router.cached(), router.layers(start).len()), (0, 0));
    assert_eq!(push(&mut router, 3, false), Pushed::NoRoom);
    push(&mut router, 4, true);
    router.begin_batch(start + Duration::from_millis(20));
    router.finish_batch();
    assert_eq!(router.past_and_present().1.len(), 1, "it begins anew");
}

/// Told with the numbers of the publisher before, it would tear sound and picture apart.
#[test]
fn a_timestamp_is_not_told_before_it_is_known_by_what_it_is_moved() {
    let now = Instant::now();
    let mut router = router(now);
    let wall = router.epoch.wall;
    let sound = |sequence, timestamp| {
        let fields = PacketFields::single(Codec::Opus, sequence, timestamp, now);
        Arc::new(fields.with(vec![0]))
    };
    router.push(&sound(1, 5_000_000));
    router.sender_report(Lane::Audio, wall, 5_000_000, now);
    let told = |router: &Router| router.timestamp_to_begin_at(Kind::Audio, now).map(|(_, at)| at);
    assert!(told(&router).is_some());
    let mut next = TimeLine::new(router.epoch);
    next.packet(Lane::Audio, 70, 48_000, now);
    next.sender_report(Lane::Audio, wall, 70, now);
    router.begin_term();
    router.go_on(next, Vec::new(), now);
    assert_eq!(told(&router), None);
    router.push(&sound(1, 70));
    assert!(told(&router).is_some_and(|at| at > 5_000_000));
}

/// A viewer that begins with it is owed them.
#[test]
fn what_came_before_a_late_packet_has_passed_it_whichever_batch_it_went_out_with() {
    let now = Instant::now();
    let mut router = router(now);
    router.set_batch_wait(Duration::ZERO);
    let depart = |router: &mut Router, sequences: &[u64]| {
        for &sequence in sequences {
            let fields = PacketFields::single(Codec::H264, sequence, 0, now);
            let fields = PacketFields { keyframe: sequence == 70_000, ..fields };
            router.push(&Arc::new(fields.with(vec![0])));
        }
        router.finish_batch();
        router.begin_batch(now);
    };
    depart(&mut router, &[70_001]);
    depart(&mut router, &[70_002, 70_000, 70_003]);
    let late = &router.batch(VIDEO)[1].packet;
    let passed: Vec<u64> = router.passed(late).map(|(packet, _)| packet.sequence).collect();
    assert_eq!(passed, [70_001, 70_002], "and what comes after it is still to come");
}

/// A viewer there would begin with the keyframe, and lack for ever what had overtaken it.
#[test]
fn what_has_overtaken_a_keyframe_is_there_where_the_stream_goes_on_before_that_comes() {
    let now = Instant::now();
    let mut routers = [router(now), router(now)];
    let depart = |router: &mut Router, sequence: u64| {
        let fields = PacketFields::single(Codec::Vp8, sequence, 3_000, now);
        let fields = PacketFields { keyframe: sequence == 70_000, marker: true, ..fields };
        router.push(&Arc::new(fields.with(vec![0])));
        router.begin_batch(now);
        router.finish_batch();
    };
    depart(&mut routers[0], 70_001);
    let (time_line, packets) = routers[0].past_and_present();
    routers[1].go_on(time_line, packets, now);
    for router in &mut routers {
        depart(router, 70_000);
        let cached = router.cache(LayerId::ONLY).expect("there is one").packets();
        let cached: Vec<u64> = cached.map(|departed| departed.packet.sequence).collect();
        assert_eq!(cached, [70_000, 70_001]);
    }
}

#[test]
fn what_waits_is_bounded_when_viewers_are_served_too_slowly() {
    let now = Instant::now();
    let mut router = router(now);
    let push = |router: &mut Router, sequence| {
        let fields = PacketFields::single(Codec::Vp8, sequence, 0, now);
        router.push(&Arc::new(PacketFields { marker: true, ..fields }.with(vec![0])))
    };
    push(&mut router, 0);
    router.begin_batch(now);
    let taken = (1..100_000).filter(|&n| push(&mut router, n) == Pushed::New).count();
    assert_eq!(taken, Batch::WAITING_MAX);
    router.finish_batch();
    let (mut later, mut gone) = (now, 0);
    while let Some(deadline) = router.deadline() {
        later = later.max(deadline);
        assert!(router.is_due(later));
        router.begin_batch(later);
        gone += router.batch(VIDEO).len();
        router.finish_batch();
    }
    assert_eq!(gone, taken);
    assert!(later - now < Duration::from_millis(20), "even a backlog does not last");
    assert_eq!(push(&mut router, 100_000), Pushed::New, "it goes on");
}

/// Overload must not make whoever watches ever later.
#[test]
fn what_has_waited_too_long_is_lost_up_to_the_next_keyframe() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut router = router(start);
    let push = |router: &mut Router, number: u64, keyframe| {
        let fields = PacketFields::single(Codec::Vp8, number, number * 3_000, at(number * 100));
        router.push(&Arc::new(PacketFields { marker: true, keyframe, ..fields }.with(vec![0])))
    };
    let sent = |router: &mut Router, ms| {
        router.begin_batch(at(ms));
        let sent: Vec<u64> = router.batch(VIDEO).iter().map(|it| it.packet.sequence).collect();
        router.finish_batch();
        sent
    };
    push(&mut router, 0, true);
    assert_eq!(sent(&mut router, 0), [0]);
    push(&mut router, 1, false);
    assert_eq!(sent(&mut router, 550), [1], "a moment's delay costs nothing");
    for number in 2..=5 {
        push(&mut router, number, number == 4);
    }
    assert_eq!(sent(&mut router, 750), [4, 5], "on with the keyframe that came meanwhile");
    push(&mut router, 6, false);
    assert_eq!(sent(&mut router, 1_150), [6]);
    push(&mut router, 7, false);
    assert!(sent(&mut router, 1_400).is_empty(), "nothing that waits is of use");
    assert_eq!(router.cached(), 0);
    assert!(router.keyframe_request_due(at(1_400)).is_some());
    assert_eq!(push(&mut router, 14, false), Pushed::NoRoom);
    assert_eq!(push(&mut router, 15, true), Pushed::New);
    assert_eq!(push(&mut router, 16, false), Pushed::New);
    assert_eq!(sent(&mut router, 1_650), [15, 16]);
}

/// The nonce rule: what a packet will be padded with is not known before it goes out, and what
/// is sent again must be identical.
#[test]
fn a_packet_that_waits_cannot_be_sent_again() {
    let now = Instant::now();
    let mut router = router(now);
    router.set_batch_wait(Duration::ZERO);
    for (sequence, size) in [(70_000, 1_000), (70_001, 998)] {
        let fields = PacketFields::single(Codec::Vp8, sequence, 0, now);
        router.push(&Arc::new(fields.with(vec![0; size])));
    }
    assert!(router.past(VIDEO, 70_001).is_none());
    router.begin_batch(now);
    let padding = |sequence| router.past(VIDEO, sequence).map(|(_, padding)| padding);
    assert_eq!((padding(70_000), padding(70_001)), (Some(0), Some(2)));
}
