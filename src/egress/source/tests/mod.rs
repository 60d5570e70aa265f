//! A publisher whose packets are mixed up, late and lost, and what comes of them.
//!
//! - `layers`: pictures of several layers
//! - `times`: where frames are on the line, whatever clocks say

mod layers;
mod times;

use super::*;
use crate::codec::configuration::VideoConfiguration;
use crate::codec::hex;
use crate::codec::packetizer::{Packetizer, nal_units};
use crate::media::id::SessionId;
use crate::media::layer::{LAYERS_MAX, Lane, LayerId, Scale, Sizes};
use crate::media::packet::PacketFields;
use crate::media::packet::PacketPool;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use proptest::prelude::*;

const SPS: &str = "6764001eacd940a42fe224c044000003000400000300f03c58b658";
const PPS: &str = "68ebe3cb22c0";
/// Where its publisher's timestamps begin.
const VIDEO_TICKS: u64 = 5_000_000_000;
const AUDIO_TICKS: u64 = 7_000_000_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A stream: 25 pictures and 50 sounds a second, a keyframe every 20 pictures.
struct World {
    start: Instant,
    source: Source,
    pool: PacketPool,
    packetizer: Packetizer,
    sequences: [u64; 2],
    found: Vec<Found>,
    term: Term,
}

fn epoch(start: Instant) -> Epoch {
    Epoch { instant: start, wall: WallTime::since_unix_epoch(Duration::from_hours(500_000)) }
}

impl World {
    fn new() -> Self {
        let start = Instant::now() + Duration::from_mins(1);
        let mut world = Self {
            start,
            source: Source::new(epoch(start)),
            pool: PacketPool::default(),
            packetizer: Packetizer::new(Codec::H264, 300),
            sequences: [70_000, 90_000],
            found: Vec::new(),
            term: Term { since: start, session: SessionId::from_random([1; 16]) },
        };
        let keyframes_apart = Some(Duration::from_secs(2));
        world.take(Tapped::Began { term: world.term, takes_requests: true, keyframes_apart }, 0);
        world
    }

    /// With both clocks known: what both tracks begin with is of one moment.
    fn synchronised() -> Self {
        let mut world = Self::new();
        for kind in Kind::ALL {
            world.clock(kind, 0, 0);
        }
        world
    }

    fn clock(&mut self, kind: Kind, at: u64, off_ms: i64) {
        let timestamp = match kind {
            Kind::Audio => AUDIO_TICKS + at * 48,
            Kind::Video => VIDEO_TICKS + at * 90,
        };
        let wall = epoch(self.start).wall_of(self.start + ms(at)).offset_micros(off_ms * 1_000);
        let lane = Lane::of(kind, LayerId::ONLY);
        self.take(Tapped::Clock { lane, timestamp, wall }, at);
    }

    fn take(&mut self, tapped: Tapped, at: u64) {
        let found = &mut self.found;
        self.source.take(tapped, self.start + ms(at), &mut |it| found.push(it));
    }

    fn packets(&mut self, packets: &[Arc<Packet>], at: u64) {
        self.take(Tapped::Packets(packets.into()), at);
    }

    /// How many packets wait.
    fn held(&self) -> usize {
        self.source.publisher.iter().flat_map(|it| it.chains.values()).map(Chain::len).sum()
    }

    /// Lets time pass.
    fn pass(&mut self, at: u64) {
        let (now, found) = (self.start + ms(at), &mut self.found);
        while self.source.deadline().is_some_and(|deadline| deadline <= now) {
            self.source.handle_timeout(now, &mut |it| found.push(it));
        }
    }

    fn make(&mut self, fields: PacketFields, payload: &[u8]) -> Arc<Packet> {
        let sequence = &mut self.sequences[fields.codec.kind().index()];
        *sequence += 1;
        self.pool.make(PacketFields { sequence: *sequence, ..fields }, payload)
    }

    /// The packets of the picture with this number.
    fn picture(&mut self, number: u64) -> Vec<Arc<Packet>> {
        self.picture_at(VIDEO_TICKS + number * 3_600, number)
    }

    fn picture_at(&mut self, timestamp: u64, number: u64) -> Vec<Arc<Packet>> {
        let mut payloads = Vec::new();
        self.packetizer.packetize(&frame(number), &mut |payload, marker| {
            payloads.push((payload.to_vec(), marker));
        });
        let arrival = self.start + ms(number * 40);
        let fields = |(payload, marker): &(Vec<u8>, bool)| PacketFields {
            codec: Codec::H264,
            layer: LayerId::ONLY,
            scale: Scale::default(),
            sizes: Sizes::default(),
            sequence: 0,
            timestamp,
            marker: *marker,
            keyframe: crate::codec::is_keyframe(Codec::H264, payload),
            arrival,
        };
        payloads.iter().map(|it| self.make(fields(it), &it.0)).collect()
    }

    /// The packet of the sound with this number.
    fn sound(&mut self, number: u64) -> Arc<Packet> {
        let fields = PacketFields {
            codec: Codec::Opus,
            layer: LayerId::ONLY,
            scale: Scale::default(),
            sizes: Sizes::default(),
            sequence: 0,
            timestamp: AUDIO_TICKS + number * 960,
            marker: false,
            keyframe: true,
            arrival: self.start + ms(number * 20),
        };
        self.make(fields, &[0xfc, number as u8])
    }

    fn samples(&self, kind: Kind) -> Vec<&Sample> {
        let samples = self.found.iter().filter_map(|found| match found {
            Found::Sample(sample) => Some(sample),
            _ => None,
        });
        samples.filter(|sample| sample.coding.kind() == kind).collect()
    }

    fn gaps(&self) -> usize {
        self.found.iter().filter(|found| matches!(found, Found::Gap(_))).count()
    }

    /// The numbers of the pictures that came out.
    fn pictures(&self) -> Vec<u64> {
        self.samples(Kind::Video).iter().map(|sample| number(&sample.data)).collect()
    }
}

fn nals(units: &[Vec<u8>]) -> Vec<u8> {
    units.iter().flat_map(|it| [&(it.len() as u32).to_be_bytes()[..], it].concat()).collect()
}

fn is_key(number: u64) -> bool {
    number.is_multiple_of(20)
}

/// A picture in two slices, as it comes out: its number stands in it.
fn frame(number: u64) -> Vec<u8> {
    let body = [vec![0x88, number as u8], vec![0xaa; 700]].concat();
    let slice = |header: u8| [&[header][..], &body].concat();
    if is_key(number) {
        nals(&[hex(SPS), hex(PPS), slice(0x65), slice(0x65)])
    } else {
        nals(&[slice(0x41), slice(0x41)])
    }
}

fn number(frame: &[u8]) -> u64 {
    let slice = nal_units(frame).last().expect("a slice");
    u64::from(slice[2])
}

#[test]
fn frames_are_whole_in_order_and_on_one_line() {
    let mut world = World::synchronised();
    for number in 0..50 {
        let mut packets = world.picture(number);
        packets.extend([world.sound(number * 2), world.sound(number * 2 + 1)]);
        world.packets(&packets, number * 40);
    }
    let is_told = |found: &Found| {
        let expected = (true, Some(ms(2_000)));
        matches!(found, Found::Began { takes_requests, keyframes_apart, .. }
            if (*takes_requests, *keyframes_apart) == expected)
    };
    assert!(is_told(&world.found[0]), "{:?}", world.found[0]);
    let (pictures, sounds) = (world.samples(Kind::Video), world.samples(Kind::Audio));
    assert_eq!((pictures.len(), sounds.len(), world.gaps()), (50, 100, 0));
    let begin = pictures[0].decode_ticks;
    for (index, sample) in pictures.into_iter().enumerate() {
        let number = index as u64;
        assert_eq!(sample.data, frame(number));
        assert_eq!(sample.starts, is_key(number));
        assert_eq!(sample.decode_ticks - begin, 3_600 * number.cast_signed());
        assert_eq!(sample.present_ticks, sample.decode_ticks);
        let moment = world.start + ms(number * 40);
        assert_eq!((sample.wall, sample.arrival), (epoch(world.start).wall_of(moment), moment));
    }
    for (number, sample) in (0_u8..).zip(sounds) {
        assert_eq!(sample.decode_ticks - begin, 1_800 * i64::from(number));
        assert!(sample.starts && sample.data[1] == number);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_comes_late_is_waited_for(
        delays in proptest::collection::vec(prop_oneof![4 => 0_u64..8, 1 => 0_u64..280], 300),
        first in 0_u64..8,
    ) {
        let mut world = World::synchronised();
        // The keyframe that it begins with is there; then each packet has a delay of its own.
        let mut arriving: Vec<(u64, Arc<Packet>)> = Vec::new();
        for number in 0..45 {
            for packet in world.picture(number) {
                let delay = if number == 0 { first } else { delays[arriving.len() % 300] };
                let at = number * 40 + delay;
                let arrival = world.start + ms(at);
                arriving.push((at, Arc::new(Packet { arrival, ..Packet::clone(&packet) })));
            }
        }
        arriving.sort_by_key(|(at, _)| *at);
        for (at, packet) in arriving {
            world.pass(at);
            world.packets(&[packet], at);
        }
        prop_assert_eq!(world.pictures(), (0..45).collect::<Vec<u64>>());
        prop_assert_eq!(world.gaps(), 0);
        let all = world.samples(Kind::Video);
        prop_assert!(all.iter().all(|sample| sample.data == frame(number(&sample.data))));
        let deadline = world.source.deadline();
        prop_assert!(deadline.is_none(), "{:?}", deadline);
    }

    #[test]
    fn whatever_is_lost_a_picture_is_whole_and_its_references_are_there(
        lost in proptest::collection::vec(0_usize..300, 0..12),
    ) {
        let mut world = World::synchronised();
        let mut sent = 0;
        for number in 0..60 {
            let mut packets = world.picture(number);
            packets.retain(|_| {
                sent += 1;
                !lost.contains(&(sent - 1))
            });
            world.pass(number * 40);
            world.packets(&packets, number * 40);
        }
        world.pass(60 * 40 + 1_000);
        let mut last = None;
        let mut is_gap = false;
        for found in &world.found {
            is_gap |= matches!(found, Found::Gap(_));
            let Found::Sample(sample) = found else { continue };
            let number = number(&sample.data);
            prop_assert_eq!(&sample.data, &frame(number));
            let follows = last.map(|last| last + 1) == Some(number);
            prop_assert!(sample.starts || (follows && !is_gap), "{} after {:?}", number, last);
            prop_assert!(follows || is_gap || last.is_none());
            (last, is_gap) = (Some(number), false);
        }
        prop_assert_eq!(world.source.deadline(), None);
    }
}

#[test]
fn what_stays_away_is_given_up_after_a_while_and_a_keyframe_goes_on() {
    let mut world = World::synchronised();
    for number in 0..30 {
        let mut packets = world.picture(number);
        if number == 5 {
            packets.remove(1);
        }
        world.pass(number * 40);
        world.packets(&packets, number * 40);
        // What is behind the hole came at 200 ms, with the rest of its picture.
        assert_eq!(world.gaps(), usize::from(number * 40 >= 500), "{number}");
    }
    let expected: Vec<u64> = (0..5).chain(20..30).collect();
    assert_eq!(world.pictures(), expected);
    assert!(world.samples(Kind::Video)[5].starts);
}

#[test]
fn a_keyframe_that_waits_behind_what_is_missing_is_not_lost_with_it() {
    let mut world = World::synchronised();
    for number in 0..30 {
        let mut packets = world.picture(number);
        if number == 18 {
            packets.truncate(1);
        }
        world.pass(number * 40);
        world.packets(&packets, number * 40);
    }
    let expected: Vec<u64> = (0..18).chain(20..30).collect();
    assert_eq!((world.pictures(), world.gaps()), (expected, 1));
}

#[test]
fn sound_goes_on_without_what_is_lost() {
    let mut world = World::synchronised();
    for number in 0..20 {
        let packet = world.sound(number);
        world.pass(number * 20);
        if number != 7 {
            world.packets(&[packet], number * 20);
        }
    }
    let heard: Vec<u8> = world.samples(Kind::Audio).iter().map(|it| it.data[1]).collect();
    assert_eq!(heard, (0..20).filter(|number| *number != 7).collect::<Vec<u8>>());
    assert_eq!(world.gaps(), 0);
}

#[test]
fn a_tap_that_was_not_emptied_goes_on_with_the_next_keyframe() {
    let mut world = World::synchronised();
    for number in 0..45 {
        let packets = world.picture(number);
        if number == 10 {
            world.take(Tapped::Lost, number * 40);
        } else {
            world.packets(&packets, number * 40);
        }
    }
    let expected: Vec<u64> = (0..10).chain(20..45).collect();
    assert_eq!((world.pictures(), world.gaps()), (expected, 1));
}

#[test]
fn what_a_start_needs_is_awaited() {
    let mut world = World::synchronised();
    for number in 11..30 {
        let packets = world.picture(number);
        world.packets(&packets, number * 40);
    }
    assert_eq!(world.pictures(), (20..30).collect::<Vec<u64>>());
    let first = world.samples(Kind::Video)[0];
    let read = VideoConfiguration::read(Codec::H264, &first.data).expect("it has its sets");
    assert_eq!((read.codec_string.as_str(), read.size), ("avc1.64001e", (642, 362)));
}

#[test]
fn padding_between_frames_is_nothing() {
    let mut world = World::synchronised();
    for number in 0..5 {
        let packets = world.picture(number);
        let last = packets.last().expect("there is one");
        let (timestamp, arrival) = (last.timestamp, last.arrival);
        world.packets(&packets, number * 40);
        let codec = Codec::H264;
        let (marker, keyframe) = (false, false);
        let fields = PacketFields {
            codec,
            layer: LayerId::ONLY,
            scale: Scale::default(),
            sizes: Sizes::default(),
            sequence: 0,
            timestamp,
            marker,
            keyframe,
            arrival,
        };
        let padding = [world.make(fields, &[]), world.make(fields, &[])];
        world.packets(&padding, number * 40);
    }
    assert_eq!(world.pictures(), [0, 1, 2, 3, 4]);
}

#[test]
fn numbers_that_begin_anew_are_followed() {
    let mut world = World::synchronised();
    for number in 0..45 {
        if number == 10 {
            world.sequences = [1_000, 1_000];
        }
        let packets = world.picture(number);
        world.packets(&packets, number * 40);
    }
    let expected: Vec<u64> = (0..10).chain(20..45).collect();
    assert_eq!((world.pictures(), world.gaps()), (expected, 1));
}

#[test]
fn what_cannot_be_packaged_is_told_once_and_sound_goes_on() {
    let mut world = World::synchronised();
    let format = |codec| Some(Format { codec, parameters: String::new() });
    world.take(Tapped::Formats([format(Codec::Opus), format(Codec::Vp8)]), 0);
    for number in 0..5 {
        let mut packets = world.picture(number);
        for packet in &mut packets {
            *packet = Arc::new(Packet { codec: Codec::Vp8, ..Packet::clone(packet) });
        }
        packets.push(world.sound(number));
        world.packets(&packets, number * 40);
    }
    let told: Vec<&String> = world
        .found
        .iter()
        .filter_map(|it| if let Found::NotPlayable(why) = it { Some(why) } else { None })
        .collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("VP8") && told[0].contains("H.264"), "{}", told[0]);
    assert_eq!(world.samples(Kind::Audio).len(), 5);
    assert!(world.samples(Kind::Video).is_empty());
}

#[test]
fn parameter_sets_of_the_offer_stand_before_keyframes() {
    let mut world = World::synchronised();
    let sets = [SPS, PPS].map(|set| BASE64.encode(hex(set))).join(",");
    let parameters = format!("packetization-mode=1;sprop-parameter-sets={sets}");
    let format = Some(Format { codec: Codec::H264, parameters });
    world.take(Tapped::Formats([None, format]), 0);
    for number in 0..25 {
        let mut packets = world.picture(number);
        if is_key(number) {
            // The sets are in the first.
            packets.remove(0);
        }
        world.packets(&packets, number * 40);
    }
    // The number of the one that is missing is not waited for at the beginning, but later.
    assert_eq!(world.pictures(), (0..20).collect::<Vec<u64>>());
    assert_eq!(world.samples(Kind::Video)[0].data, frame(0));
}

#[test]
fn publishers_follow_each_other_and_what_waits_is_not_lost() {
    let mut world = World::new();
    let packets = world.picture(0);
    world.packets(&packets, 0);
    let other = Term { session: SessionId::from_random([2; 16]), ..world.term };
    world.take(Tapped::Left(other), 10);
    assert_eq!(world.found.len(), 1, "somebody else has left");
    world.take(Tapped::Left(world.term), 20);
    assert_eq!((world.pictures(), world.found.last()), (vec![0], Some(&Found::Left)));
    assert_eq!(world.source.deadline(), None);
    let packets = world.picture(1);
    world.packets(&packets, 30);
    assert_eq!(world.found.len(), 3, "nobody is there");
    world.take(Tapped::Began { term: other, takes_requests: false, keyframes_apart: None }, 40);
    world.clock(Kind::Video, 40, 0);
    let packets = world.picture(20);
    world.packets(&packets, 40);
    assert_eq!(world.pictures(), [0, 20]);
}

#[test]
fn what_is_held_is_bounded() {
    let mut world = World::synchronised();
    let packets = world.picture(0);
    world.packets(&packets, 0);
    // A frame that never ends, with a hole in it.
    for part in 0..40_000_u64 {
        let fields = PacketFields {
            codec: Codec::H264,
            layer: LayerId::ONLY,
            scale: Scale::default(),
            sizes: Sizes::default(),
            sequence: 0,
            timestamp: VIDEO_TICKS + 3_600,
            marker: false,
            keyframe: false,
            arrival: world.start,
        };
        let packet = world.make(fields, &[0x5c, 0x01, 0xaa]);
        if part != 5 && part != 20_000 {
            world.packets(&[packet], 1);
        }
        assert!(world.held() <= 8_192, "{} packets", world.held());
    }
    assert!(world.gaps() >= 1);
}
