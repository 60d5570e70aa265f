//! Pictures of two layers, each with numbers and a clock of its own.

use super::*;
use crate::codec::depacketizer::depacketize;

/// Where the timestamps of the second layer begin.
const SECOND_TICKS: u64 = 11_000_000_000;

fn second() -> LayerId {
    LayerId::at(1).expect("there are as many")
}

impl World {
    /// The packets of the picture with this number, of both layers.
    fn both(&mut self, number: u64) -> [Vec<Arc<Packet>>; 2] {
        let first = self.picture(number);
        let of_second = |packet: &Arc<Packet>| {
            let (timestamp, sequence) = (SECOND_TICKS + number * 3_600, packet.sequence + 5_000);
            Arc::new(Packet { layer: second(), timestamp, sequence, ..Packet::clone(packet) })
        };
        let other = first.iter().map(of_second).collect();
        [first, other]
    }

    /// What a timestamp of the second layer stands for.
    fn second_clock(&mut self, at: u64, off_ms: i64) {
        let wall = epoch(self.start).wall_of(self.start + ms(at)).offset_micros(off_ms * 1_000);
        let timestamp = SECOND_TICKS + at * 90;
        self.take(Tapped::Clock { lane: Lane::Video(second()), timestamp, wall }, at);
    }

    fn of(&self, layer: LayerId) -> Vec<&Sample> {
        let samples = self.samples(Kind::Video);
        samples.into_iter().filter(|sample| sample.layer == layer).collect()
    }
}

#[test]
fn what_is_missing_of_one_layer_holds_up_no_other() {
    let mut world = World::synchronised();
    world.second_clock(0, 0);
    for number in 0..30 {
        let [mut first, other] = world.both(number);
        if number == 5 {
            first.remove(1);
        }
        world.pass(number * 40);
        world.packets(&[first, other].concat(), number * 40);
        assert_eq!(world.of(second()).len() as u64, number + 1);
    }
    let numbers: Vec<u64> = world.of(LayerId::ONLY).iter().map(|it| number(&it.data)).collect();
    assert_eq!(numbers, (0..5).chain(20..30).collect::<Vec<u64>>());
    let gaps = world.found.iter().filter(|it| **it == Found::Gap(LayerId::ONLY)).count();
    assert_eq!((gaps, world.gaps()), (1, 1));
}

#[test]
fn the_same_picture_is_at_the_same_time_in_all_layers_once_clocks_are_right() {
    let mut world = World::synchronised();
    // What is known at first is an estimate.
    world.second_clock(0, 60);
    let apart = |world: &World| {
        let newest = |layer| world.of(layer).last().expect("pictures").decode_ticks;
        (newest(second()) - newest(LayerId::ONLY)) / 90
    };
    for number in 0..50 {
        if number == 25 {
            assert_eq!(apart(&world), 60);
            world.second_clock(1_000, 0);
        }
        let both = world.both(number);
        world.packets(&both.concat(), number * 40);
    }
    assert_eq!(apart(&world), 0);
    let first = world.of(LayerId::ONLY);
    assert!(first.windows(2).all(|pair| pair[1].decode_ticks - pair[0].decode_ticks == 3_600));
    let moved = world.of(second());
    assert!(moved.windows(2).all(|pair| pair[0].decode_ticks < pair[1].decode_ticks));
    assert_eq!((moved.len(), world.gaps()), (50, 0));
}

#[test]
fn what_layers_carry_is_passed_on() {
    let mut world = World::new();
    let layers = vec![LayerState { layer: second(), ..LayerState::default() }];
    world.take(Tapped::Layers(layers.clone()), 0);
    assert_eq!(world.found.last(), Some(&Found::Layers(layers.clone())));
    // No player of HLS takes VP8, whatever is made of it.
    let vp8 = LayerState { codec: Some(Codec::Vp8), ..LayerState::default() };
    world.take(Tapped::Layers([vec![vp8], layers.clone()].concat()), 0);
    assert_eq!(world.found.last(), Some(&Found::Layers(layers)));
}

#[test]
fn what_all_layers_hold_is_bounded_together() {
    let mut world = World::synchronised();
    let picture = world.picture(0);
    let last = Arc::clone(picture.last().expect("it has packets"));
    for part in 1..3_000 {
        let mut packets = Vec::new();
        for layer in (0..LAYERS_MAX).filter_map(LayerId::at) {
            if part == 1 {
                let of_layer = |packet: &Arc<Packet>| Packet { layer, ..Packet::clone(packet) };
                packets.extend(picture.iter().map(of_layer).map(Arc::new));
            }
            // A frame that never ends, of each.
            packets.push(Arc::new(Packet {
                layer,
                sequence: last.sequence + part,
                timestamp: last.timestamp + 3_600,
                marker: false,
                keyframe: false,
                ..Packet::clone(&last)
            }));
        }
        world.packets(&packets, 1);
        assert!(world.held() <= 8_192, "{} packets", world.held());
    }
    assert!(world.gaps() >= 1);
}

#[test]
fn what_is_made_of_a_publisher_s_frames_is_at_their_times() {
    let mut world = World::new();
    let term = Term { since: world.start + ms(1), session: SessionId::from_random([3; 16]) };
    world.take(Tapped::Began { term, takes_requests: false, keyframes_apart: None }, 0);
    let wall = |at| epoch(world.start).wall_of(world.start + ms(at));
    let walls: Vec<WallTime> = (0..30).map(|number| wall(number * 40)).collect();
    for number in 0..30_u64 {
        let own = world.picture(number);
        let ticks = 5_000_000 + number.cast_signed() * 3_600;
        let payloads = own.iter().map(|packet| packet.payload.as_slice());
        let data = depacketize(own[0].codec, payloads).expect("a picture").into();
        let (coding, arrival) = (Coding::Video(own[0].codec), own[0].arrival);
        let frame = Frame { coding, decode_ticks: ticks, present_ticks: ticks, arrival, data };
        world.take(Tapped::Frame(frame, walls[number as usize]), number * 40);
        let made = own.iter().map(|packet| {
            let timestamp = ticks.unsigned_abs();
            Arc::new(Packet { layer: second(), timestamp, ..Packet::clone(packet) })
        });
        let made: Arc<[_]> = made.collect();
        if number == 0 {
            let (lane, wall) = (Lane::Video(second()), walls[0]);
            world.take(Tapped::Clock { lane, timestamp: 5_000_000, wall }, 0);
        }
        world.take(Tapped::Made(made), number * 40 + 15);
    }
    let places = |layer| -> Vec<(i64, WallTime)> {
        world.of(layer).iter().map(|it| (it.present_ticks, it.wall)).collect()
    };
    assert_eq!(places(LayerId::ONLY).len(), 30);
    assert_eq!(places(LayerId::ONLY), places(second()));
}
