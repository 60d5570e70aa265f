//! Any order of losses, reorderings, changes of the target and stays.
//!
//! - `described`: dependency descriptors, and a receiver that reads them
//! - `model`: a publisher, a link and a viewer that knows what it needs

mod described;
mod model;

use super::*;
use crate::media::codec::Codec;
use crate::media::layer::{LayerId, Scale, Sizes};
use described::Receiver;
use model::{Chance, DESCRIBED, Frame, Origin, SVC, Stay, VP8, encode};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Where numbers begin, near to where they wrap as likely as not.
fn origin() -> impl Strategy<Value = Origin> {
    (65_400_u64..66_000, 1_u64 << 32..1 << 33, 0x7f80_u16..0x8010, any::<u8>()).prop_map(
        |(sequence, timestamp, picture, base)| Origin {
            sequence,
            timestamp,
            picture: picture & 0x7fff,
            base,
        },
    )
}

proptest! {
    #[test]
    fn what_a_viewer_sees_is_unbroken_and_decodable(
        encoding in prop_oneof![Just(VP8), Just(SVC), Just(DESCRIBED)],
        origins in prop::collection::vec(origin(), 1..4),
        seed: u64,
        loss in prop_oneof![Just(0_u64), 0_u64..20],
        delay in prop_oneof![Just(0_u64), 0_u64..12],
    ) {
        let mut chance = Chance(seed);
        let mut after = After { out: chance.below(0x8000), numbers: Numbers::default() };
        let mut used = HashSet::new();
        let mut receiver = Receiver::default();
        for origin in origins {
            let frames = encode(encoding, 90, origin, &mut chance);
            let stay = Stay::play(frames, after, loss, delay, &mut chance);
            stay.has_no_gaps();
            stay.is_decodable();
            stay.pictures_end();
            if encoding.codec == Codec::Vp8 {
                stay.numbers_go_on(after.numbers);
            }
            if encoding.codec == Codec::Av1 {
                receiver.reads(&stay);
            }
            for verdict in stay.sent.values() {
                if let Verdict::Send(out, _) = verdict {
                    prop_assert!(used.insert(*out), "{} was another stay's", out);
                }
            }
            // The nonce rule (ARCHITECTURE.md): what is sent again is what was sent.
            for packet in stay.frames.iter().flat_map(|it| &it.packets) {
                let again = stay.rewriter.again(packet);
                let before = stay.sent.get(&packet.sequence);
                prop_assert!(again == Verdict::Drop || before.is_none_or(|it| *it == again));
            }
            after = stay.rewriter.after();
        }
    }

    /// Whoever sends it, and however little sense it makes: a number stands for one thing.
    #[test]
    fn hostile_numbers_never_make_two_packets_of_one(
        packets in prop::collection::vec(
            (
                (-6_i64..40, -200_000_i64..9_000),
                (0_u8..3, 0_u8..3),
                any::<[bool; 4]>(),
                any::<[u8; 6]>(),
            ),
            1..300,
        ),
        targets in prop::collection::vec((0_u8..3, 0_u8..3), 1..20),
        codec in prop_oneof![Just(Codec::Vp8), Just(Codec::Vp9), Just(Codec::Av1)],
    ) {
        let (mut sequence, mut timestamp) = (70_000_u64, 1_u64 << 33);
        let mut rewriter: Option<Rewriter> = None;
        let mut came = HashSet::new();
        let mut sent: Vec<(Packet, u64, Patch)> = Vec::new();
        for (at, packet) in packets.into_iter().enumerate() {
            let ((step, ticks), (spatial, temporal), flags, bytes) = packet;
            sequence = sequence.saturating_add_signed(step);
            timestamp = timestamp.saturating_add_signed(if flags[0] { ticks } else { 3_000 });
            let mut payload = bytes.to_vec();
            (payload[0], payload[1]) = (payload[0] | 0x80, payload[1] | 0xe0);
            let [_, is_switch, ends, marker] = flags;
            let packet = Packet {
                codec,
                layer: LayerId::ONLY,
                scale: Scale { spatial, temporal, is_switch, ends },
                sizes: Sizes::default(),
                sequence,
                timestamp,
                marker,
                keyframe: bytes[5] < 16,
                arrival: Instant::now(),
                payload,
                dependency: bytes[..usize::from(bytes[4] % 7)].to_vec(),
            };
            if !came.insert(sequence) {
                continue;
            }
            let rewriter = rewriter.get_or_insert_with(|| begin(&packet));
            let (spatial, temporal) = targets[at / 15 % targets.len()];
            rewriter.set_target(Limits { spatial, temporal });
            if let Verdict::Send(out, patch) = rewriter.take(&packet) {
                prop_assert!(out < rewriter.next_out());
                prop_assert!(sent.iter().all(|(_, other, _)| *other != out));
                sent.push((packet, out, patch));
            }
            for (packet, out, patch) in &sent {
                let again = rewriter.again(packet);
                prop_assert!(again == Verdict::Drop || again == Verdict::Send(*out, *patch));
                let source = rewriter.source_of(*out);
                prop_assert!(source.is_none_or(|source| source == packet.sequence));
            }
        }
    }
}

/// A first stay, of somebody who can make use of all layers.
fn begin(packet: &Packet) -> Rewriter {
    Rewriter::begin(packet, After::default(), u8::MAX)
}

const SOMEWHERE: Origin = Origin { sequence: 70_000, timestamp: 9_000, picture: 5, base: 9 };

fn limits(spatial: u8, temporal: u8) -> Limits {
    Limits { spatial, temporal }
}

/// The layers of what passes of each picture.
fn passing(rewriter: &mut Rewriter, frames: &[Frame]) -> Vec<(u8, u8)> {
    let mut layers = Vec::new();
    for frame in frames {
        for packet in &frame.packets {
            let verdict = rewriter.take(packet);
            if matches!(verdict, Verdict::Send(_, patch) if !patch.is_blank) {
                layers.push((frame.scale.spatial, frame.scale.temporal));
            }
        }
    }
    layers.dedup();
    layers
}

/// A lane with one packet per frame, of these temporal layers; `!` marks those that allow to go up.
fn lane(pattern: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    let (mut timestamp, mut base) = (3_000, 0_u8);
    for (at, temporal) in pattern.bytes().filter(u8::is_ascii_digit).enumerate() {
        let temporal = temporal - b'0';
        timestamp += 3_000;
        base += u8::from(temporal == 0);
        let payload = vec![0x90, 0xe0, 0x80, at as u8, base, temporal << 6];
        let packet = Packet {
            codec: Codec::Vp8,
            layer: LayerId::ONLY,
            scale: Scale { temporal, ends: true, ..Scale::default() },
            sizes: Sizes::default(),
            sequence: 100 + at as u64,
            timestamp,
            marker: true,
            keyframe: at == 0,
            arrival: Instant::now(),
            payload,
            dependency: Vec::new(),
        };
        let scale = packet.scale;
        let (references, packets) = (Vec::new(), vec![packet]);
        frames.push(Frame { scale, is_key: at == 0, references, packets });
    }
    let marks = pattern.bytes().filter(|byte| *byte != b' ').collect::<Vec<u8>>();
    let mut at = 0;
    for pair in marks.windows(2) {
        at += usize::from(pair[0].is_ascii_digit());
        if pair[1] == b'!' {
            frames[at - 1].packets[0].scale.is_switch = true;
        }
    }
    frames
}

#[test]
fn temporal_layers_go_at_once_and_come_back_one_by_one_where_they_can() {
    let frames = lane("0212 0212 0212 0 2! 1! 2 0 2! 1 2");
    let mut rewriter = begin(&frames[0].packets[0]);
    assert_eq!(passing(&mut rewriter, &frames[..2]), [(0, 0), (0, 2)]);
    rewriter.set_target(limits(0, 0));
    assert_eq!(passing(&mut rewriter, &frames[2..9]), [(0, 0)], "of the rest the base alone");
    rewriter.set_target(Limits::ALL);
    assert_eq!(passing(&mut rewriter, &frames[9..13]), [(0, 0)], "nothing allows it");
    let back = passing(&mut rewriter, &frames[13..]);
    assert_eq!(back, [(0, 1), (0, 0), (0, 2), (0, 1), (0, 2)], "not before the layer below");
    assert_eq!(rewriter.current().temporal, 2);
}

#[test]
fn spatial_layers_go_at_once_and_come_back_with_a_keyframe() {
    let mut chance = Chance(3);
    let frames = encode(SVC, 9, SOMEWHERE, &mut chance);
    assert!(frames[1..].iter().filter(|frame| frame.is_key).count() == 2, "one keyframe");
    let mut rewriter = begin(&frames[0].packets[0]);
    passing(&mut rewriter, &frames[..9]);
    rewriter.set_target(limits(1, 9));
    // That the lane has more is seen in the first picture.
    passing(&mut rewriter, &frames[9..12]);
    let layers = passing(&mut rewriter, &frames[12..18]);
    assert!(layers.iter().all(|(spatial, _)| *spatial < 2) && layers.contains(&(1, 0)));
    rewriter.set_target(Limits::ALL);
    let layers = passing(&mut rewriter, &frames[18..]);
    assert!(rewriter.needs_keyframe() && layers.iter().all(|(spatial, _)| *spatial < 2));
    let again =
        encode(SVC, 2, Origin { sequence: 80_000, timestamp: 1 << 20, ..SOMEWHERE }, &mut chance);
    let layers = passing(&mut rewriter, &again);
    assert!(layers.contains(&(2, 0)) && !rewriter.needs_keyframe());
}

#[test]
fn what_was_missing_when_a_stay_ended_still_comes_and_nothing_else() {
    for target in [Limits::ALL, limits(0, 0)] {
        let frames = lane("0200000");
        let packet = |at: usize| &frames[at].packets[0];
        let mut rewriter = begin(packet(0));
        rewriter.set_target(target);
        for at in [0, 1, 2, 4] {
            rewriter.take(packet(at));
        }
        let end = rewriter.next_out();
        rewriter.finish();
        assert!(matches!(rewriter.take(packet(3)), Verdict::Send(out, _) if out == end - 2));
        assert_eq!(rewriter.take(packet(5)), Verdict::Drop);
        assert_eq!((rewriter.next_out(), rewriter.source_of(end)), (end, None));
    }
}

/// Its number was kept free, as nobody knew what it is.
#[test]
fn a_late_packet_of_what_is_left_out_goes_as_padding_under_its_number() {
    let frames = lane("0202 0202");
    let packet = |at: usize| &frames[at].packets[0];
    let mut rewriter = begin(packet(0));
    rewriter.set_target(limits(0, 0));
    let out = |verdict| match verdict {
        Verdict::Send(out, patch) => Some((out, patch.is_blank)),
        Verdict::Drop => None,
    };
    assert_eq!(out(rewriter.take(packet(0))), Some((0, false)));
    assert_eq!(out(rewriter.take(packet(1))), None);
    assert_eq!(out(rewriter.take(packet(4))), Some((3, false)), "two are missing");
    assert_eq!(out(rewriter.take(packet(3))), Some((2, true)));
    assert_eq!(out(rewriter.take(packet(2))), Some((1, false)));
    assert_eq!(out(rewriter.again(packet(3))), Some((2, true)));
    assert_eq!((rewriter.source_of(2), rewriter.source_of(1)), (Some(103), Some(102)));
}

#[test]
fn a_gap_within_a_frame_that_is_left_out_is_closed() {
    let mut frames = lane("0202");
    for (at, timestamp) in [(2, 1), (3, 1)] {
        frames[at].packets[0].timestamp = frames[timestamp].packets[0].timestamp;
        frames[at].packets[0].scale = frames[timestamp].packets[0].scale;
    }
    let later = lane("00000");
    let mut rewriter = begin(&frames[0].packets[0]);
    rewriter.set_target(limits(0, 0));
    passing(&mut rewriter, &frames[..2]);
    passing(&mut rewriter, &frames[3..]);
    assert!(matches!(rewriter.take(&later[4].packets[0]), Verdict::Send(1, _)));
    assert_eq!(rewriter.take(&frames[2].packets[0]), Verdict::Drop);
}

/// `TL0PICIDX` counts the frames that the viewer is to have, and so a picture id is kept free for
/// those among the lost, and for no others.
#[test]
fn picture_ids_have_no_gaps_for_lost_frames_that_would_have_been_left_out() {
    let frames = lane("0212 0212 0212 0");
    let mut rewriter = begin(&frames[0].packets[0]);
    rewriter.set_target(limits(0, 0));
    let mut seen = Vec::new();
    for at in [0, 1, 2, 4, 12, 8] {
        let packet = &frames[at].packets[0];
        if let Verdict::Send(_, patch) = rewriter.take(packet) {
            let mut payload = packet.payload.clone();
            payload[..patch.head().len()].copy_from_slice(patch.head());
            let own = Descriptor::read(Codec::Vp8, &payload).and_then(|own| own.picture_id);
            seen.push((at, own.expect("it has one").value));
        }
    }
    assert_eq!(seen, [(0, 0), (4, 1), (12, 3), (8, 2)]);
}

#[test]
fn nothing_is_allocated_or_changed_while_nothing_is_left_out() {
    let frames = lane("0212");
    let mut rewriter = begin(&frames[0].packets[0]);
    rewriter.set_target(limits(0, 2));
    for (out, frame) in (0..).zip(&frames) {
        assert_eq!(rewriter.take(&frame.packets[0]), Verdict::Send(out, Patch::NONE));
    }
    assert!(rewriter.filter.is_none());
}

/// A publisher's clock that is set back begins with a keyframe, and what was chosen goes on.
#[test]
fn a_clock_set_back_does_not_keep_layers_out_for_ever() {
    let mut frames = lane("0202");
    for frame in &mut frames {
        frame.packets[0].timestamp += 1 << 30;
    }
    let mut rewriter = begin(&frames[0].packets[0]);
    rewriter.set_target(limits(0, 0));
    assert_eq!(passing(&mut rewriter, &frames), [(0, 0)]);
    let mut again = lane("0202");
    for frame in &mut again {
        frame.packets[0].sequence += 100;
    }
    rewriter.set_target(Limits::ALL);
    assert_eq!(passing(&mut rewriter, &again), [(0, 0), (0, 2), (0, 0), (0, 2)]);
    assert_eq!(rewriter.again(&frames[0].packets[0]), Verdict::Drop, "its time came again");
}
