//! What a viewer is sent of a track: from where on, and with which numbers.

use super::*;
use crate::media::packet::PacketFields;
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Instant;

fn packet(sequence: u64, keyframe: bool) -> Packet {
    let fields = PacketFields::single(Codec::Vp8, sequence, 0, Instant::now());
    PacketFields { keyframe, ..fields }.with(Vec::new())
}

fn of_layer(layer: usize, sequence: u64, timestamp: u64, keyframe: bool) -> Packet {
    let layer = LayerId::at(layer).expect("few");
    Packet { layer, timestamp, ..packet(sequence, keyframe) }
}

fn select(subscription: &mut Subscription, packet: &Packet) -> Option<u64> {
    subscription.select(packet, |_| 0).map(|place| place.sequence)
}

fn source_of(subscription: &Subscription, sequence: u16) -> Option<(u64, u64)> {
    subscription.source_of(sequence).map(|(_, source, out)| (source, out))
}

#[test]
fn video_begins_at_a_keyframe_and_what_came_before_stays_out() {
    let mut subscription = Subscription::new(Kind::Video, 0x8005);
    assert_eq!(select(&mut subscription, &packet(100, false)), None);
    assert_eq!(select(&mut subscription, &packet(101, true)), Some(5));
    assert_eq!(select(&mut subscription, &packet(100, false)), None);
    assert_eq!(select(&mut subscription, &packet(103, false)), Some(7));
    assert_eq!(select(&mut subscription, &packet(102, false)), Some(6));
    assert_eq!(source_of(&subscription, 6), Some((102, 6)));
    assert_eq!(source_of(&subscription, 8), None, "not sent yet");
    assert_eq!(source_of(&subscription, 4), None, "before the first");
}

#[test]
fn audio_begins_at_once() {
    let mut subscription = Subscription::new(Kind::Audio, 0);
    assert_eq!(select(&mut subscription, &packet(7, false)), Some(0));
}

#[test]
fn a_new_start_leaves_no_gap_and_what_was_before_can_be_asked_for() {
    let mut subscription = Subscription::new(Kind::Video, 0);
    subscription.begin_at(&packet(100, true), 0, 9_000, 0);
    assert_eq!(select(&mut subscription, &packet(100, true)), Some(0));
    assert_eq!(select(&mut subscription, &packet(101, false)), Some(1));
    subscription.begin_at(&packet(500, true), 0, 90_000, 0);
    assert_eq!(select(&mut subscription, &packet(102, false)), None, "its turn is over");
    assert_eq!(select(&mut subscription, &packet(500, true)), Some(2));
    assert_eq!(source_of(&subscription, 1), Some((101, 1)));
    assert_eq!(source_of(&subscription, 2), Some((500, 2)));
    subscription.forget();
    assert_eq!(source_of(&subscription, 2), None, "the numbers are another publisher's");
    assert_eq!(select(&mut subscription, &packet(501, false)), None);
    assert_eq!(select(&mut subscription, &packet(600, true)), Some(3));
}

#[test]
fn another_layer_goes_on_with_its_keyframe_and_the_one_before_is_still_repaired() {
    let mut subscription = Subscription::new(Kind::Video, 0);
    assert_eq!(select(&mut subscription, &of_layer(0, 100, 3_000, true)), Some(0));
    assert_eq!(select(&mut subscription, &of_layer(0, 102, 6_000, false)), Some(2));
    let upper = LayerId::at(1).expect("two");
    subscription.aim(upper);
    assert!(subscription.is_moving());
    assert_eq!(select(&mut subscription, &of_layer(1, 7, 500, false)), None);
    // Its clock is another: what it is moved by is told by what the one before was.
    let place = subscription.select(&of_layer(1, 9, 1_000, true), |before| {
        assert_eq!(before, Some((LayerId::ONLY, 0)));
        8_000
    });
    assert_eq!(place, Some(Place { sequence: 3, timestamp: 9_000, patch: Patch::NONE }));
    assert_eq!(subscription.current(), Some(upper));
    assert_eq!(select(&mut subscription, &of_layer(0, 103, 9_000, false)), None, "it is left");
    assert_eq!(select(&mut subscription, &of_layer(0, 101, 3_000, false)), Some(1), "late");
    let (stay, source, _) = subscription.source_of(1).expect("sent");
    assert_eq!((stay.layer, source), (LayerId::ONLY, 101));
    let (stay, source, _) = subscription.source_of(3).expect("sent");
    assert_eq!((stay.layer, source, stay.timestamp(1_000)), (upper, 9, 9_000));
    // Back before its keyframe has come: nothing happens.
    subscription.aim(LayerId::ONLY);
    subscription.aim(upper);
    assert_eq!(select(&mut subscription, &of_layer(1, 10, 4_000, false)), Some(4));
}

/// A receiver that goes back to a codec whose frames are numbered takes lower numbers for late.
#[test]
fn numbers_of_frames_go_on_past_a_codec_that_has_none() {
    let mut subscription = Subscription::new(Kind::Video, 0).with_dependencies(true);
    let mut begin = |sequence, codec, number: u8| {
        subscription.forget();
        let packet = packet(sequence, true);
        let dependency = [0xc0, 0, number].repeat(usize::from(codec == Codec::Av1));
        let packet = Packet { codec, dependency, ..packet };
        let patch = subscription.select(&packet, |_| 0).expect("it begins").patch;
        number.wrapping_add(patch.dependency.frame as u8)
    };
    assert_eq!(begin(100, Codec::Av1, 50), 50);
    assert_eq!(begin(200, Codec::Av1, 7), 51);
    begin(300, Codec::H264, 0);
    assert_eq!(begin(400, Codec::Av1, 9), 52);
}

/// As encoders do that begin anew under another SSRC.
#[test]
fn a_publisher_that_numbers_its_frames_anew_is_gone_on_with_from_its_keyframe() {
    let mut subscription = Subscription::new(Kind::Video, 0).with_dependencies(true);
    let mut select = |sequence, keyframe, number: u16| {
        let [high, low] = number.to_be_bytes();
        let dependency = vec![0xc0, high, low];
        let packet = Packet { codec: Codec::Av1, dependency, ..packet(sequence, keyframe) };
        let place = subscription.select(&packet, |before| before.map_or(0, |(_, by)| by))?;
        Some((place.sequence, number.wrapping_add(place.patch.dependency.frame)))
    };
    assert_eq!(select(100, true, 500), Some((0, 500)));
    assert_eq!(select(101, false, 501), Some((1, 501)));
    assert_eq!(select(104, true, 503), Some((4, 503)), "one like any other");
    assert_eq!(select(102, true, 501), Some((2, 501)), "a late one");
    assert_eq!(select(105, true, 3), Some((5, 504)));
    assert_eq!(select(106, false, 4), Some((6, 505)));
    assert_eq!(select(103, false, 502), Some((3, 502)), "from before that");
}

/// A layer's keyframe of a moment whose picture was sent already from the one before.
#[test]
fn two_pictures_of_one_moment_have_two_timestamps() {
    let mut subscription = Subscription::new(Kind::Video, 0);
    subscription.select(&of_layer(0, 100, 90_000, true), |_| 0);
    subscription.aim(LayerId::at(1).expect("two"));
    let mut last = 90_000;
    for picture in 0..100 {
        let packet = of_layer(1, 50 + picture, 90_000 + picture * 3_000, picture == 0);
        let place = subscription.select(&packet, |_| 0).expect("it flows");
        assert!(place.timestamp > last);
        last = place.timestamp;
    }
    assert_eq!(last, 90_000 + 99 * 3_000, "and soon it is the publisher's again");
}

proptest! {
    /// A decoder must see the pictures in their order, each with a time of its own; the first
    /// is of the present, and the past is over when it has been sent.
    #[test]
    fn compressed_timestamps_keep_the_order_and_run_as_the_time_does(
        first in 1_u64 << 33..1 << 34,
        span in 0_u64..12 * 90_000,
        least in 0_u64..90_000,
        at in 0_u64..1 << 21,
        step in 32_u64..1 << 20,
    ) {
        let present = first + span;
        let past = Past::between(first, present, least);
        let at = first + at;
        prop_assert!(past.compress(at + step) > past.compress(at));
        prop_assert!(past.compress(at + 1) >= past.compress(at));
        prop_assert!(past.compress(at) >= at);
        prop_assert!(past.compress(first) >= present.saturating_sub(1));
        prop_assert!(past.compress(first) <= present + 32);
        let takes = past.ends - present;
        prop_assert_eq!(past.compress(past.ends + at), past.ends + at);
        prop_assert!(takes >= least.min(span) / 2, "{} for {}", takes, least);
    }

    /// However far the publisher's clock was misjudged when the one before began.
    #[test]
    fn a_new_start_comes_after_all_that_was_sent(
        sent in 180_000_u64..1 << 33,
        back in 0_u64..90_000,
        span in 0_u64..90_000,
    ) {
        let mut subscription = Subscription::new(Kind::Video, 0);
        let at = |sequence, timestamp| Packet { timestamp, ..packet(sequence, true) };
        select(&mut subscription, &at(1, sent));
        let first = sent - back;
        subscription.wait();
        let keyframe = at(2, first);
        if span > 0 {
            subscription.begin_at(&keyframe, 0, first + span, 0);
        }
        prop_assert_eq!(select(&mut subscription, &keyframe), Some(1));
        prop_assert!(subscription.timestamp(first) > sent.min(first + back));
        prop_assert!(subscription.timestamp(first + 3_000) > subscription.timestamp(first));
        // Where they go back further, nothing is made of it.
        let anew = Packet { timestamp: 5, ..packet(9, true) };
        subscription.wait();
        select(&mut subscription, &anew);
        prop_assert!(sent < 360_000 || subscription.timestamp(5) == 5);
    }

    /// However a viewer is moved between layers, what it is sent is one stream: each number
    /// stands for one packet, is found again, and leaves no gap but where something is lost.
    #[test]
    fn layers_come_out_as_one_unbroken_stream(
        random: u16,
        steps in prop::collection::vec(
            (0_usize..3, 0_usize..3, 0_u32..40, any::<bool>()),
            1..400,
        ),
    ) {
        let mut subscription = Subscription::new(Kind::Video, random);
        let (mut sent, mut next) = (HashMap::new(), [5_000_u64, 70_000, 1 << 20]);
        let (mut last, mut pictures) = (None, 0);
        for (aimed, layer, lost, keyframe) in steps {
            subscription.aim(LayerId::at(aimed).expect("few"));
            pictures += 1;
            // Each layer counts time from another start.
            let timestamp = (1 << 33) + layer as u64 * 1_000_000 + pictures * 3_000;
            for _ in 0..3 {
                let sequence = next[layer];
                next[layer] += 1;
                if lost == 0 {
                    continue;
                }
                let packet = of_layer(layer, sequence, timestamp, keyframe);
                let moved = |_| 0_u64.wrapping_sub(layer as u64 * 1_000_000);
                let Some(place) = subscription.select(&packet, moved) else { continue };
                let source = (layer, sequence);
                prop_assert_eq!(*sent.entry(place.sequence).or_insert(source), source);
                let found = subscription.source_of(place.sequence as u16);
                let found = found.map(|(stay, source, _)| (stay.layer.index(), source));
                prop_assert_eq!(found, Some(source));
                if let Some((before, (number, at))) = last {
                    let (before, number): ((usize, u64), u64) = (before, number);
                    prop_assert!(place.timestamp >= at, "back in time");
                    let between = place.sequence - number - 1;
                    let lost = if before.0 == layer { sequence - before.1 - 1 } else { 0 };
                    prop_assert_eq!(between, lost, "a gap of our making");
                }
                last = Some((source, (place.sequence, place.timestamp)));
            }
        }
    }

    /// The nonce rule (ARCHITECTURE.md): a sequence number never stands for two packets, and
    /// every one that was sent in the last half turn is found again.
    #[test]
    fn a_sequence_number_stands_for_one_packet(
        random: u16,
        start in 0_u64..1 << 40,
        steps in prop::collection::vec(-40_i64..400, 1..500),
    ) {
        let mut subscription = Subscription::new(Kind::Audio, random);
        let mut sent = HashMap::new();
        let mut source = start + 70_000;
        for step in steps {
            source = source.saturating_add_signed(step);
            if let Some(out) = select(&mut subscription, &packet(source, false)) {
                prop_assert_eq!(*sent.entry(out).or_insert(source), source);
                prop_assert_eq!(source_of(&subscription, out as u16), Some((source, out)));
            }
        }
    }
}

#[test]
fn a_clock_set_back_runs_on_at_its_own_pace() {
    let mut subscription = Subscription::new(Kind::Video, 0);
    let at = |sequence, timestamp| Packet { timestamp, ..packet(sequence, true) };
    select(&mut subscription, &at(1, 1 << 33));
    let back = (1 << 33) - 54_000_000;
    let step = subscription.timestamp(back + 3_000) - subscription.timestamp(back);
    assert_eq!(step, 3_000);
}
