//! Messages of all three kinds come out as they went in; what is none ends the talk.

use super::picture::{Codec, Layer, LayerLoad, Load, Order, Report};
use super::*;
use std::fmt::Debug;

fn sounds() -> Vec<Message> {
    let aac = || Sound::Aac(vec![0x12, 0x10]);
    vec![
        Message::Configure { from: aac(), to: Sound::Opus, bitrate_bps: 128_000 },
        Message::Configure { from: Sound::Ac3, to: Sound::Aac(vec![]), bitrate_bps: 1 },
        Message::Ready,
        Message::Format(aac()),
        Message::Format(Sound::Mpeg),
        Message::Frame { ticks: -5, data: vec![1, 2, 3] },
        Message::Frame { ticks: i64::MAX, data: vec![] },
        Message::Failed("no such element".to_owned()),
    ]
}

fn layer(encoder: &str) -> Layer {
    Layer {
        number: 7,
        width: 1280,
        height: 720,
        frame_rate_mhz: 29_970,
        bitrate_bps: 2_500_000,
        encoder: encoder.to_owned(),
    }
}

fn orders() -> Vec<Order> {
    let mut orders: Vec<Order> = Codec::ALL.map(Order::Source).into();
    orders.extend([
        Order::Start(layer("")),
        Order::Start(layer("x264enc")),
        Order::Bitrate { layer: 0, bitrate_bps: u32::MAX },
        Order::Stop(3),
        Order::Keyframe,
        Order::Still(180),
        Order::Frame { ticks: -1, is_keyframe: true, data: vec![0, 0, 0, 1, 0x65] },
        Order::Frame { ticks: i64::MIN, is_keyframe: false, data: vec![] },
    ]);
    orders
}

fn reports() -> Vec<Report> {
    let layers = (0..8).map(|layer| LayerLoad { layer, frames: 30, skipped: 1, encode_us: 9_000 });
    let load = Load {
        taken: 31,
        dropped: 2,
        broken: 3,
        decoded: 26,
        waiting: 1,
        decode_us: 7_500,
        speed_percent: 97,
        is_behind: true,
        layers: layers.collect(),
    };
    vec![
        Report::Ready,
        Report::Decoder("avdec_h264".to_owned()),
        Report::Encoder { layer: 1, name: "x264enc".to_owned() },
        Report::Refused { layer: 2, reason: "GStreamer has no nvh264enc".to_owned() },
        Report::Frame { layer: 2, ticks: 1 << 40, is_keyframe: true, data: vec![9; 70_000] },
        Report::Load(Load::default()),
        Report::Load(load),
        Report::Still(vec![0xff, 0xd8]),
        Report::Failed("the decoder is gone".to_owned()),
    ]
}

fn bytes_of<M: Wire>(messages: &[M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(messages.iter().all(|message| message.write_to(&mut bytes)));
    bytes
}

fn read_all<M: Wire>(incoming: &mut Incoming<M>) -> Vec<M> {
    std::iter::from_fn(|| incoming.take_next().expect("well formed")).collect()
}

fn come_out_as_they_went_in<M: Wire + Debug + PartialEq>(all: &[M]) {
    let bytes = bytes_of(all);
    for size in [1, 2, 3, 7, 64, bytes.len()] {
        let mut incoming = Incoming::<M>::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(size) {
            incoming.feed(piece);
            read.extend(read_all(&mut incoming));
        }
        assert_eq!(read, all, "in pieces of {size}");
    }
}

#[test]
fn messages_come_out_as_they_went_in_whatever_the_pieces() {
    come_out_as_they_went_in(&sounds());
    come_out_as_they_went_in(&orders());
    come_out_as_they_went_in(&reports());
}

/// `sized` makes a message of so many bytes.
fn is_bounded<M: Wire + Debug + PartialEq>(sized: impl Fn(usize) -> M) {
    let longest = sized(M::BYTES_MAX);
    let mut incoming = Incoming::<M>::default();
    incoming.feed(&bytes_of(std::slice::from_ref(&longest)));
    assert_eq!(read_all(&mut incoming), [longest]);
    let mut bytes = vec![1, 2];
    assert!(!sized(M::BYTES_MAX + 1).write_to(&mut bytes));
    assert_eq!(bytes, [1, 2]);
    incoming.feed(&(M::BYTES_MAX as u32 + 1).to_be_bytes());
    assert_eq!(incoming.take_next().err(), Some(BadMessage::Length(M::BYTES_MAX + 1)));
}

#[test]
fn a_message_longer_than_the_bound_is_neither_written_nor_read() {
    is_bounded(|size| Message::Frame { ticks: 0, data: vec![7; size - 9] });
    let is_keyframe = true;
    is_bounded(|size| Order::Frame { ticks: 0, is_keyframe, data: vec![7; size - 10] });
    is_bounded(|size| Report::Still(vec![7; size - 1]));
}

fn makes_no_sense<M: Wire + Debug + PartialEq>(body: &[u8]) {
    let mut bytes = u32::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(body);
    let mut incoming = Incoming::<M>::default();
    incoming.feed(&bytes);
    assert_eq!(incoming.take_next().err(), Some(BadMessage::Content), "{body:?}");
    assert_eq!(incoming.take_next().err(), Some(BadMessage::Content), "and again");
}

#[test]
fn what_makes_no_sense_ends_the_talk() {
    for body in [&b"x"[..], b"R1", b"F1234567", b"C", b"TA\x00\x05abc", b"TOO", b"C1234OO1"] {
        makes_no_sense::<Message>(body);
    }
    for body in [
        &b"x"[..],
        b"S2",
        b"S44",
        // Layer 8; a picture of no height; one of an odd width; a name that is none.
        b"L\x08\x02\x00\x01\x00ratebps.",
        b"L\x00\x02\x00\x00\x00ratebps.",
        b"L\x00\x02\x01\x01\x00ratebps.",
        b"L\x00\x02\x00\x01\x00ratebps.a b",
        b"B\x01bps",
        b"X",
        b"K1",
        b"J\x00\x01",
        b"F\x00\x00\x00\x00\x00\x00\x00\x00\x02",
    ] {
        makes_no_sense::<Order>(body);
    }
    for body in [&b"x"[..], b"R1", b"D/etc", b"C\x08x264enc", b"F\x01", b"P\x00", b"N"] {
        makes_no_sense::<Report>(body);
    }
    let mut nine = bytes_of(&[Report::Load(Load::default())]).split_off(LENGTH_BYTES);
    nine.extend([0; 9 * 13]);
    makes_no_sense::<Report>(&nine);
    let mut incoming = Incoming::<Message>::default();
    incoming.feed(&[0; 4]);
    assert_eq!(incoming.take_next().err(), Some(BadMessage::Length(0)));
}

#[test]
fn the_text_of_a_fault_is_one_short_line() {
    let text = format!("a\nb{}", "x".repeat(5000));
    let expected = format!("a b{}", "x".repeat(FAULT_BYTES_MAX - 3));
    let mut incoming = Incoming::default();
    incoming.feed(&bytes_of(&[Message::Failed(text.clone())]));
    assert_eq!(incoming.take_next(), Ok(Some(Message::Failed(expected.clone()))));
    let mut incoming = Incoming::default();
    incoming.feed(&bytes_of(&[Report::Refused { layer: 0, reason: text }]));
    assert_eq!(incoming.take_next(), Ok(Some(Report::Refused { layer: 0, reason: expected })));
}
