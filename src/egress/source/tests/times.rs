//! Where frames are on the line, whatever clocks say.

use super::*;
use crate::media::frame::AudioCoding;
use crate::media::time::micros_of_ticks;

/// How many milliseconds sound is behind its picture on the line, at what was sent in one moment.
fn apart(world: &World) -> i64 {
    let picture = world.samples(Kind::Video).pop().expect("pictures");
    let sound = world.samples(Kind::Audio).pop().expect("sound");
    // The newest sound was sent 20 ms after the newest picture.
    micros_of_ticks(sound.decode_ticks - picture.decode_ticks, 90_000) / 1_000 - 20
}

fn second_of_both(world: &mut World, second: u64) {
    for number in second * 25..(second + 1) * 25 {
        let mut packets = world.picture(number);
        packets.extend([world.sound(number * 2), world.sound(number * 2 + 1)]);
        world.packets(&packets, number * 40);
    }
}

#[test]
fn sound_moves_to_its_picture_when_it_is_found_to_be_apart_and_not_before() {
    let mut world = World::synchronised();
    second_of_both(&mut world, 0);
    assert_eq!(apart(&world), 0);
    // Clocks that are known better by a little change nothing on the line.
    world.clock(Kind::Audio, 1_000, 30);
    second_of_both(&mut world, 1);
    assert_eq!(apart(&world), 0);
    for (second, off) in [(2, 100), (3, -60)] {
        world.clock(Kind::Audio, second * 1_000, off);
        world.clock(Kind::Video, second * 1_000, 0);
        second_of_both(&mut world, second);
        assert_eq!(apart(&world), off);
    }
    let pictures = world.samples(Kind::Video);
    let is_even = |pair: &[&Sample]| pair[1].decode_ticks - pair[0].decode_ticks == 3_600;
    assert_eq!(pictures.len(), 100);
    assert!(pictures.windows(2).all(is_even), "pictures never move");
    let sounds = world.samples(Kind::Audio);
    assert!(sounds.windows(2).all(|pair| pair[0].decode_ticks < pair[1].decode_ticks));
    assert_eq!(sounds.len(), 200 - 8, "160 ms were heard already");
}

#[test]
fn a_clock_is_waited_for() {
    let mut world = World::new();
    for number in 0..10 {
        let packets = world.picture(number);
        world.packets(&packets, number * 40);
        world.pass(number * 40);
    }
    assert_eq!(world.pictures(), [0; 0]);
    // By its publisher's clock they are half a second older than when they came.
    world.clock(Kind::Video, 400, -500);
    assert_eq!(world.pictures(), (0..10).collect::<Vec<u64>>());
    let first = world.samples(Kind::Video)[0];
    assert_eq!(first.wall.micros_since(epoch(world.start).wall), -500_000);
    assert_eq!(world.source.deadline(), None);
}

#[test]
fn without_a_clock_arrival_must_do() {
    let mut world = World::new();
    for number in 0..20 {
        let late = if number == 3 { 0 } else { 25 };
        let packets: Vec<_> = world
            .picture(number)
            .iter()
            .map(|it| Arc::new(Packet { arrival: it.arrival + ms(late), ..Packet::clone(it) }))
            .collect();
        world.packets(&packets, number * 40 + late);
        world.pass(number * 40 + late);
        // The first came at 25 ms.
        let expected = if number * 40 >= 500 { number as usize + 1 } else { 0 };
        assert_eq!(world.pictures().len(), expected, "{number}");
    }
    let first = world.samples(Kind::Video)[0];
    // The fourth came without delay.
    assert_eq!(first.wall.micros_since(epoch(world.start).wall), 0);
    assert_eq!(world.samples(Kind::Video)[3].decode_ticks - first.decode_ticks, 3 * 3_600);
}

#[test]
fn timestamps_that_jump_leave_no_hole_and_nothing_goes_back() {
    let mut world = World::synchronised();
    for number in 0..60 {
        let jumped = match number {
            0..20 => 0,
            20..40 => 90_000 * 3_600,
            _ => -90_000 * 3_600,
        };
        let timestamp = (VIDEO_TICKS + number * 3_600).wrapping_add_signed(jumped);
        let packets = world.picture_at(timestamp, number);
        world.packets(&packets, number * 40);
    }
    let pictures = world.samples(Kind::Video);
    assert_eq!(pictures.len(), 60);
    for (number, sample) in (0_u32..).zip(&pictures) {
        assert_eq!(sample.decode_ticks - pictures[0].decode_ticks, 3_600 * i64::from(number));
        let moment = world.start + ms(40) * number;
        assert_eq!(sample.wall, epoch(world.start).wall_of(moment));
    }
}

#[test]
fn pictures_out_of_order_rise_all_the_same() {
    let mut world = World::synchronised();
    for (number, shown) in [(0, 0), (1, 3), (2, 1), (3, 2), (4, 4)] {
        let packets = world.picture_at(VIDEO_TICKS + shown * 3_600, number);
        world.packets(&packets, number * 40);
    }
    let pictures = world.samples(Kind::Video);
    assert_eq!(pictures.len(), 5);
    assert!(pictures.windows(2).all(|pair| pair[0].decode_ticks < pair[1].decode_ticks));
}

#[test]
fn frames_keep_their_times_and_b_frames() {
    let mut world = World::new();
    let wall = epoch(world.start).wall;
    let with_sets_once = |number: u64| {
        let frame = frame(number);
        if number == 20 {
            nals(&nal_units(&frame).skip(2).map(<[u8]>::to_vec).collect::<Vec<_>>())
        } else {
            frame
        }
    };
    for number in 0..30_i64 {
        let frame = Frame {
            coding: Coding::Video(Codec::H264),
            decode_ticks: 1_000 + number * 3_600,
            present_ticks: 1_000 + number * 3_600 + number % 3 * 3_600,
            arrival: world.start,
            data: with_sets_once(number as u64).into(),
        };
        world.take(Tapped::Frame(frame, wall), 0);
        let aac: Arc<[u8]> = [0x11, 0x90].into();
        let frame = Frame {
            coding: Coding::Audio(AudioCoding::Aac(aac)),
            decode_ticks: 1_000 + number * 1_920,
            present_ticks: 1_000 + number * 1_920,
            arrival: world.start,
            data: vec![number as u8].into(),
        };
        world.take(Tapped::Frame(frame, wall), 0);
    }
    let pictures = world.samples(Kind::Video);
    assert_eq!((pictures.len(), world.samples(Kind::Audio).len()), (30, 30));
    for (number, sample) in (0..).zip(pictures) {
        assert_eq!(sample.decode_ticks, 1_000 + number * 3_600);
        assert_eq!(sample.present_ticks - sample.decode_ticks, number % 3 * 3_600);
        assert_eq!(sample.data, frame(number as u64), "with its sets");
        assert_eq!((sample.starts, sample.wall), (is_key(number as u64), wall));
    }
}
