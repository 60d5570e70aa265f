//! Any order of losses, reorderings, changes of the target and stays, against a viewer that knows
//! what each frame refers to.

use super::*;
use crate::media::codec::Codec;
use crate::media::layer::{LayerId, Scale};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

/// One frame of the publisher's.
#[derive(Debug)]
struct Frame {
    scale: Scale,
    is_key: bool,
    /// What it refers to.
    references: Vec<usize>,
    packets: Vec<Packet>,
}

/// What is left to chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a lane is encoded.
#[derive(Debug, Clone, Copy)]
struct Encoding {
    codec: Codec,
    spatial: u8,
    temporal: u8,
}

const VP8: Encoding = Encoding { codec: Codec::Vp8, spatial: 1, temporal: 3 };
/// `L3T3_KEY`: spatial layers refer to each other in keyframes only.
const SVC: Encoding = Encoding { codec: Codec::Av1, spatial: 3, temporal: 3 };

/// Where a lane's numbers begin: anywhere, so that all of them wrap now and then.
#[derive(Debug, Clone, Copy)]
struct Origin {
    sequence: u64,
    timestamp: u64,
    picture: u16,
    base: u8,
}

/// Some pictures of a lane, the first a keyframe.
fn encode(encoding: Encoding, pictures: usize, origin: Origin, chance: &mut Chance) -> Vec<Frame> {
    let Origin { mut sequence, mut timestamp, mut picture, mut base } = origin;
    let mut frames: Vec<Frame> = Vec::new();
    for number in 0..pictures {
        let is_key = number == 0 || chance.percent(2);
        let pattern = [0, 2, 1, 2][number % 4].min(encoding.temporal - 1);
        let temporal = if is_key || chance.percent(5) { 0 } else { pattern };
        let is_switch = temporal > 0 && chance.percent(30);
        timestamp += 1 + chance.below(6_000);
        picture = (picture + 1) & 0x7fff;
        base = base.wrapping_add(u8::from(temporal == 0));
        for spatial in 0..encoding.spatial {
            let index = frames.len();
            let newest = |spatial: u8, temporal: u8| {
                frames
                    .iter()
                    .rposition(|it| it.scale.spatial == spatial && it.scale.temporal == temporal)
            };
            let mut references = Vec::new();
            if is_key {
                references.extend((spatial > 0).then(|| index - 1));
            } else {
                references.extend(newest(spatial, 0));
                // What was before the newest keyframe is not referred to any more.
                let key = frames.iter().rposition(|it| it.is_key).unwrap_or(0);
                let lower = (1..temporal).filter_map(|layer| newest(spatial, layer));
                references.extend(lower.filter(|it| *it > key));
                let own = newest(spatial, temporal).filter(|it| !is_switch && *it > key);
                references.extend(own);
            }
            let count = 1 + chance.below(3);
            let packets = (0..count).map(|at| {
                let ends = at + 1 == count;
                let marker = ends && spatial + 1 == encoding.spatial;
                let scale = Scale { spatial, temporal, is_switch, ends };
                let [high, low] = picture.to_be_bytes();
                let start = if at == 0 { 0x90 } else { 0x80 };
                let payload = match encoding.codec {
                    Codec::Vp8 => {
                        vec![start, 0xe0, 0x80 | high, low, base, temporal << 6, at as u8]
                    }
                    _ => vec![at as u8],
                };
                Packet {
                    codec: encoding.codec,
                    layer: LayerId::ONLY,
                    scale,
                    sequence: sequence + at,
                    timestamp,
                    marker,
                    keyframe: is_key && spatial == 0 && at == 0,
                    arrival: Instant::now(),
                    payload,
                }
            });
            let packets: Vec<Packet> = packets.collect();
            sequence += count;
            let scale = packets[0].scale;
            frames.push(Frame { scale, is_key, references, packets });
        }
    }
    frames
}

/// What came of a stay.
struct Stay {
    rewriter: Rewriter,
    frames: Vec<Frame>,
    /// Sequence numbers of the packets that came.
    came: HashSet<u64>,
    sent: HashMap<u64, Verdict>,
    first_out: u64,
    /// Nothing was lost or late.
    is_orderly: bool,
}

impl Stay {
    /// Lets a lane flow to the viewer over a bad link, with changes of the target on the way.
    fn play(frames: Vec<Frame>, after: After, loss: u64, delay: u64, chance: &mut Chance) -> Self {
        let mut order = Vec::new();
        let mut is_orderly = true;
        for (at, packet) in frames.iter().flat_map(|it| &it.packets).enumerate() {
            let is_first = at == 0;
            if !is_first && chance.percent(loss) {
                is_orderly = false;
                continue;
            }
            let late = if is_first || !chance.percent(20) { 0 } else { chance.below(delay + 1) };
            is_orderly &= late == 0;
            order.push((at as u64 + late, packet));
        }
        order.sort_by_key(|(at, _)| *at);
        let mut rewriter = Rewriter::begin(order[0].1, after);
        let (mut sent, mut came) = (HashMap::new(), HashSet::new());
        let (mut target, mut newest) = (Limits::ALL, 0);
        for (_, packet) in &order {
            if chance.percent(3) {
                let layer = |chance: &mut Chance| [0, 1, 2, u8::MAX][chance.below(4) as usize];
                target = Limits { spatial: layer(chance), temporal: layer(chance) };
                rewriter.set_target(target);
            }
            let verdict = rewriter.take(packet);
            came.insert(packet.sequence);
            if packet.timestamp > newest {
                newest = packet.timestamp;
                let is_sent = matches!(verdict, Verdict::Send(_, patch) if !patch.is_blank);
                assert!(!is_sent || target.pass(packet), "what is too much stops at once");
            }
            assert_eq!(rewriter.again(packet), verdict);
            sent.insert(packet.sequence, verdict);
        }
        Self { rewriter, came, sent, first_out: after.out, is_orderly, frames }
    }

    fn is_sent(&self, packet: &Packet) -> bool {
        let verdict = self.sent.get(&packet.sequence);
        matches!(verdict, Some(Verdict::Send(_, patch)) if !patch.is_blank)
    }

    /// Whether nothing of a frame was kept back.
    fn is_whole(&self, frame: &Frame) -> bool {
        let mut came = frame.packets.iter().filter(|it| self.came.contains(&it.sequence));
        came.all(|packet| self.is_sent(packet))
    }

    fn is_any_sent(&self, frame: &Frame) -> bool {
        frame.packets.iter().any(|packet| self.is_sent(packet))
    }

    /// Every number that is missing is that of a packet which never came.
    fn has_no_gaps(&self) {
        let mut outs = BTreeMap::new();
        for (sequence, verdict) in &self.sent {
            if let Verdict::Send(out, _) = verdict {
                assert_eq!(outs.insert(*out, *sequence), None, "a number for two packets");
            }
        }
        for out in self.first_out..self.rewriter.next_out() {
            let source = self.rewriter.source_of(out).expect("none is forgotten so soon");
            match outs.get(&out) {
                Some(sequence) => assert_eq!(source, *sequence),
                None => assert!(!self.came.contains(&source), "{out} is missing, {source} came"),
            }
        }
        assert_eq!(self.rewriter.source_of(self.rewriter.next_out()), None);
        assert!(outs.range(self.rewriter.next_out()..).next().is_none());
    }

    /// Whatever is sent can be decoded, as far as the link allows.
    fn is_decodable(&self) {
        for frame in self.frames.iter().filter(|frame| self.is_any_sent(frame)) {
            assert!(self.is_whole(frame), "half a frame: {frame:?}");
            for reference in &frame.references {
                let reference = &self.frames[*reference];
                assert!(self.is_whole(reference), "{frame:?} lacks {reference:?}");
            }
        }
    }

    /// Each picture has one end.
    fn pictures_end(&self) {
        let mut pictures: BTreeMap<u64, Vec<&Packet>> = BTreeMap::new();
        for packet in self.frames.iter().flat_map(|it| &it.packets) {
            pictures.entry(packet.timestamp).or_default().push(packet);
        }
        for packets in pictures.values() {
            if packets.iter().any(|packet| !self.came.contains(&packet.sequence)) {
                continue;
            }
            let sent = packets.iter().filter(|packet| self.is_sent(packet));
            let ends: Vec<bool> = sent
                .map(|packet| match self.sent[&packet.sequence] {
                    Verdict::Send(_, patch) => packet.marker || patch.marker,
                    Verdict::Drop => false,
                })
                .collect();
            if let Some((last, others)) = ends.split_last() {
                assert!(*last && !others.contains(&true), "{ends:?}");
            }
        }
    }

    /// Picture ids and counts of base layer frames as the viewer sees them.
    fn numbers(&self) -> Vec<(u16, u8, u8)> {
        let mut numbers = Vec::new();
        for frame in &self.frames {
            let sent = frame.packets.iter().filter(|packet| self.is_sent(packet));
            let seen: HashSet<(u16, u8)> = sent
                .map(|packet| {
                    let Verdict::Send(_, patch) = self.sent[&packet.sequence] else {
                        unreachable!("it is sent")
                    };
                    let mut payload = packet.payload.clone();
                    payload[..patch.head().len()].copy_from_slice(patch.head());
                    assert_eq!(payload[5..], packet.payload[5..], "no more than numbers differ");
                    let own = Descriptor::read(packet.codec, &payload).expect("well-formed");
                    let picture = own.picture_id.expect("patched, not removed").value;
                    (picture, own.base_index.expect("patched, not removed").value)
                })
                .collect();
            assert!(seen.len() <= 1, "a frame has one picture id");
            numbers.extend(seen.iter().map(|(id, base)| (*id, *base, frame.scale.temporal)));
        }
        numbers
    }

    fn numbers_go_on(&self, before: Numbers) {
        let mut before = before.picture.zip(before.base);
        for (picture, base, temporal) in self.numbers() {
            if let Some((last, last_base)) = before {
                let ahead = picture.wrapping_sub(last) & 0x7fff;
                assert!((1..1_000).contains(&ahead), "{last} {picture}");
                let base_ahead = base.wrapping_sub(last_base);
                if self.is_orderly {
                    assert_eq!(ahead, 1, "{last} {picture}");
                    assert_eq!(base_ahead, u8::from(temporal == 0));
                }
                assert!(base_ahead < 100);
            }
            before = Some((picture, base));
        }
        let after = self.rewriter.after().numbers;
        let (picture, base) = before.expect("the keyframe was sent");
        let ahead = after.picture.expect("known").wrapping_sub(picture) & 0x7fff;
        // What follows comes after all that was sent, or might yet be.
        assert!(ahead < 1_000 && (!self.is_orderly || ahead == 0), "{picture} {after:?}");
        assert!(after.base.is_some_and(|after| after.wrapping_sub(base) < 100));
    }
}

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
        encoding in prop_oneof![Just(VP8), Just(SVC)],
        origins in prop::collection::vec(origin(), 1..4),
        seed: u64,
        loss in prop_oneof![Just(0_u64), 0_u64..20],
        delay in prop_oneof![Just(0_u64), 0_u64..12],
    ) {
        let mut chance = Chance(seed);
        let mut after = After { out: chance.below(0x8000), numbers: Numbers::default() };
        let mut used = HashSet::new();
        for origin in origins {
            let frames = encode(encoding, 90, origin, &mut chance);
            let stay = Stay::play(frames, after, loss, delay, &mut chance);
            stay.has_no_gaps();
            stay.is_decodable();
            stay.pictures_end();
            if encoding.codec == Codec::Vp8 {
                stay.numbers_go_on(after.numbers);
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
            (-6_i64..40, -200_000_i64..9_000, 0_u8..3, 0_u8..3, any::<[bool; 4]>(), any::<[u8; 6]>()),
            1..300,
        ),
        targets in prop::collection::vec((0_u8..3, 0_u8..3), 1..20),
        codec in prop_oneof![Just(Codec::Vp8), Just(Codec::Vp9), Just(Codec::Av1)],
    ) {
        let (mut sequence, mut timestamp) = (70_000_u64, 1_u64 << 33);
        let mut rewriter: Option<Rewriter> = None;
        let mut came = HashSet::new();
        let mut sent: Vec<(Packet, u64, Patch)> = Vec::new();
        for (at, (step, ticks, spatial, temporal, flags, bytes)) in packets.into_iter().enumerate() {
            sequence = sequence.saturating_add_signed(step);
            timestamp = timestamp.saturating_add_signed(if flags[0] { ticks } else { 3_000 });
            let mut payload = bytes.to_vec();
            (payload[0], payload[1]) = (payload[0] | 0x80, payload[1] | 0xe0);
            let [_, is_switch, ends, marker] = flags;
            let packet = Packet {
                codec,
                layer: LayerId::ONLY,
                scale: Scale { spatial, temporal, is_switch, ends },
                sequence,
                timestamp,
                marker,
                keyframe: bytes[5] < 16,
                arrival: Instant::now(),
                payload,
            };
            if !came.insert(sequence) {
                continue;
            }
            let rewriter = rewriter.get_or_insert_with(|| Rewriter::begin(&packet, After::default()));
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
            sequence: 100 + at as u64,
            timestamp,
            marker: true,
            keyframe: at == 0,
            arrival: Instant::now(),
            payload,
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
    let mut rewriter = Rewriter::begin(&frames[0].packets[0], After::default());
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
    let mut rewriter = Rewriter::begin(&frames[0].packets[0], After::default());
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
        let mut rewriter = Rewriter::begin(packet(0), After::default());
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
    let mut rewriter = Rewriter::begin(packet(0), After::default());
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
    let mut rewriter = Rewriter::begin(&frames[0].packets[0], After::default());
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
    let mut rewriter = Rewriter::begin(&frames[0].packets[0], After::default());
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
    let mut rewriter = Rewriter::begin(&frames[0].packets[0], After::default());
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
    let mut rewriter = Rewriter::begin(&frames[0].packets[0], After::default());
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
