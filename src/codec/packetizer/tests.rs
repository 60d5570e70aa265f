//! What the packetizers make, put together again by depacketizers that share nothing with them.

use super::*;
use crate::codec;
use bytes::Bytes;
use proptest::prelude::*;
use rtp::codec::av1::Av1Depacketizer;
use rtp::codec::h264::H264Packet;
use rtp::codec::h265::{H265AggregationUnit, H265Packet, H265Payload};
use rtp::codec::vp8::Vp8Packet;
use rtp::codec::vp9::Vp9Packet;
use rtp::packetizer::Depacketizer;

const SPS: &str = "6742c01eda0290bf88930110000003001000000303c8f162ea";
const PPS: &str = "68ce0fc8";
const VPS_265: &str = "40010c01ffff01600000030090000003000003003fba0240";
const SPS_265: &str =
    "42010101600000030090000003000003003fa005220171c44996e92930bc05a020000003002000000303c1";
const PPS_265: &str = "4401c0718312";
const SEQUENCE: &str = "0a0b0000000cc5036936be4010";
const VP9_KEY: &str = "8249834200281016960638241c18";

/// The payloads of a frame; of them exactly the last is told to be.
fn payloads(packetizer: &mut Packetizer, frame: &[u8]) -> Vec<Vec<u8>> {
    let (mut payloads, mut lasts) = (Vec::new(), Vec::new());
    packetizer.packetize(frame, &mut |payload, last| {
        payloads.push(payload.to_vec());
        lasts.push(last);
    });
    let expected: Vec<bool> = (1..=payloads.len()).map(|count| count == payloads.len()).collect();
    assert_eq!(lasts, expected);
    assert!(payloads.iter().all(|payload| (1..=packetizer.payload_max).contains(&payload.len())));
    payloads
}

fn put_together(codec: Codec, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut depacketize: Box<dyn FnMut(&Bytes) -> Bytes> = match codec {
        Codec::H264 => {
            let mut it = H264Packet::default();
            it.is_avc = true;
            Box::new(move |payload| it.depacketize(payload).expect("a packet"))
        }
        Codec::H265 => {
            let mut fragments = Vec::new();
            Box::new(move |payload| h265_units(payload, &mut fragments))
        }
        Codec::Av1 => {
            let mut it = Av1Depacketizer::new();
            Box::new(move |payload| it.depacketize(payload).expect("a packet"))
        }
        Codec::Vp8 => Box::new(|payload| Vp8Packet::default().depacketize(payload).expect("one")),
        Codec::Vp9 => Box::new(|payload| Vp9Packet::default().depacketize(payload).expect("one")),
        Codec::Opus => Box::new(Bytes::clone),
    };
    let all = payloads.iter().flat_map(|it| depacketize(&Bytes::copy_from_slice(it)));
    all.collect()
}

fn h265_units(payload: &Bytes, fragments: &mut Vec<u8>) -> Bytes {
    let mut packet = H265Packet::default();
    packet.depacketize(payload).expect("a packet");
    match packet.payload() {
        H265Payload::H265SingleNALUnitPacket(_) => sized(&[payload]).into(),
        H265Payload::H265AggregationPacket(packet) => {
            let first = packet.first_unit().expect("there is one").nal_unit();
            let others = packet.other_units().iter().map(H265AggregationUnit::nal_unit);
            let units: Vec<Bytes> = std::iter::once(first).chain(others).collect();
            sized(&units.iter().map(Bytes::as_ref).collect::<Vec<_>>()).into()
        }
        H265Payload::H265FragmentationUnitPacket(packet) => {
            let header = packet.fu_header();
            if header.s() {
                fragments.clear();
                fragments.extend([header.fu_type() << 1 | payload[0] & 0x81, payload[1]]);
            }
            fragments.extend_from_slice(&packet.payload());
            if header.e() { sized(&[fragments]).into() } else { Bytes::new() }
        }
        other => unreachable!("{other:?}"),
    }
}

/// NAL units as a frame has them.
fn sized(units: &[&[u8]]) -> Vec<u8> {
    let sized = |unit: &&[u8]| [&(unit.len() as u32).to_be_bytes(), *unit].concat();
    units.iter().flat_map(sized).collect()
}

/// A unit with this header, and body in which nothing looks like anything.
fn unit(header: &[u8], len: usize) -> Vec<u8> {
    let body = (0..len).map(|at| (at % 251) as u8 | 0x80);
    header.iter().copied().chain(body).collect()
}

fn obu(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut size = Vec::new();
    let mut len = body.len();
    while len > 127 {
        size.push(len as u8 | 0x80);
        len >>= 7;
    }
    size.push(len as u8);
    [header, &size, body].concat()
}

/// Pictures and what goes with them; none of them changes on the way.
fn frames(codec: Codec) -> BoxedStrategy<Vec<u8>> {
    let headers: &'static [&'static [u8]] = match codec {
        Codec::H264 => &[&[0x41], &[0x01], &[0x61]],
        Codec::H265 => &[&[0x02, 0x01], &[0x00, 0x01], &[0x02, 0x03], &[0x50, 0x01]],
        Codec::Av1 => &[&[0x32], &[0x1a], &[0x22], &[0x36, 0x28], &[0x2a]],
        _ => &[&[0x86]],
    };
    // Shorter ones the other side takes for none.
    let sizes = prop_oneof![2_usize..40, 2_usize..300, 1_000_usize..6_000];
    let units = proptest::collection::vec((0..headers.len(), sizes), 0..9);
    // The first is always a picture.
    let frame = move |units: Vec<(usize, usize)>| {
        let all = std::iter::once((0, 30)).chain(units);
        let units: Vec<Vec<u8>> = match codec {
            Codec::H264 | Codec::H265 => all.map(|(at, len)| unit(headers[at], len)).collect(),
            Codec::Av1 => all.map(|(at, len)| obu(headers[at], &unit(&[], len))).collect(),
            Codec::Opus => return unit(&[0xfc], 60),
            _ => return all.flat_map(|(_, len)| unit(&[0x87], len)).collect(),
        };
        if codec == Codec::Av1 {
            units.concat()
        } else {
            sized(&units.iter().map(Vec::as_slice).collect::<Vec<_>>())
        }
    };
    units.prop_map(frame).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_taken_apart_is_put_together_again(
        (codec, frame) in proptest::sample::select(Codec::ALL.to_vec())
            .prop_flat_map(|codec| (Just(codec), frames(codec))),
        payload_max in 64_usize..1_400,
    ) {
        let mut packetizer = Packetizer::new(codec, payload_max);
        let payloads = payloads(&mut packetizer, &frame);
        prop_assert!(!payloads.is_empty());
        prop_assert_eq!(put_together(codec, &payloads), frame);
    }

    #[test]
    fn hostile_frames_make_payloads_within_the_bound_or_none(
        codec in proptest::sample::select(Codec::ALL.to_vec()),
        hostile in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..8),
        lengths in any::<bool>(),
    ) {
        let mut packetizer = Packetizer::new(codec, 100);
        for mut frame in hostile {
            if lengths && frame.len() > 8 {
                frame[..4].copy_from_slice(&7_u32.to_be_bytes());
            }
            payloads(&mut packetizer, &frame);
            packetizer.format();
        }
    }
}

struct Keyframe {
    codec: Codec,
    /// What decoders must have, as it comes; nothing where it is part of the picture.
    parameters: Vec<u8>,
    picture: Vec<u8>,
    /// A picture that is no start.
    other: Vec<u8>,
    format: &'static str,
}

fn keyframes() -> Vec<Keyframe> {
    let nals = |digits: &[&str]| {
        let units: Vec<Vec<u8>> = digits.iter().map(|digits| codec::hex(digits)).collect();
        sized(&units.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    vec![
        Keyframe {
            codec: Codec::H264,
            parameters: nals(&[SPS, PPS]),
            picture: sized(&[&unit(&[0x65], 3_000)]),
            other: sized(&[&unit(&[0x41], 3_000)]),
            format: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01e",
        },
        Keyframe {
            codec: Codec::H265,
            parameters: nals(&[VPS_265, SPS_265, PPS_265]),
            picture: sized(&[&unit(&[0x26, 0x01], 3_000)]),
            other: sized(&[&unit(&[0x02, 0x01], 3_000)]),
            format: "level-id=63;profile-id=1;tier-flag=0;tx-mode=SRST",
        },
        Keyframe {
            codec: Codec::Av1,
            parameters: codec::hex(SEQUENCE),
            picture: obu(&[0x32], &unit(&[0x10], 3_000)),
            other: obu(&[0x32], &unit(&[0x30], 3_000)),
            format: "level-idx=1;profile=0;tier=0",
        },
        Keyframe {
            codec: Codec::Vp9,
            parameters: Vec::new(),
            picture: unit(&codec::hex(VP9_KEY), 3_000),
            other: unit(&[0x86], 3_000),
            format: "profile-id=0",
        },
        Keyframe {
            codec: Codec::Vp8,
            parameters: Vec::new(),
            picture: unit(&codec::hex("10b4009d012a82026a01"), 3_000),
            other: unit(&[0x11], 3_000),
            format: "",
        },
    ]
}

#[test]
fn a_keyframe_begins_with_what_its_decoder_needs_and_is_known_for_one() {
    for Keyframe { codec, parameters, picture, other, format } in keyframes() {
        let mut packetizer = Packetizer::new(codec, 1_200);
        let whole = [parameters.clone(), picture.clone()].concat();
        // The sets stand before the first keyframe only.
        for frame in [&whole, &other, &picture, &whole] {
            let payloads = payloads(&mut packetizer, frame);
            let starts: Vec<bool> =
                payloads.iter().map(|payload| codec::is_keyframe(codec, payload)).collect();
            let is_start = frame != &other;
            assert_eq!(starts[0], is_start, "{codec}");
            assert_eq!(packetizer.starts(frame), is_start, "{codec}");
            assert!(payloads[1..].iter().all(|it| !codec::carries_parameters(codec, it)));
            assert_eq!(codec::carries_parameters(codec, &payloads[0]), is_start, "{codec}");
            let expected = if is_start { &whole } else { &other };
            assert_eq!(&put_together(codec, &payloads), expected, "{codec}");
            if is_start {
                assert_eq!(
                    codec::sizes(codec, &payloads[0]).largest(),
                    Some((642, 362)),
                    "{codec}"
                );
            }
        }
        let told = packetizer.format().map(|format| format.parameters);
        assert_eq!(told.as_deref(), Some(format));
    }
}

#[test]
fn without_parameter_sets_nothing_is_known_and_no_start_is_promised() {
    for Keyframe { codec, parameters, picture, .. } in keyframes() {
        let mut packetizer = Packetizer::new(codec, 1_200);
        if parameters.is_empty() {
            continue;
        }
        assert!(!payloads(&mut packetizer, &picture).is_empty());
        assert_eq!(packetizer.format(), None, "{codec}");
        assert!(payloads(&mut packetizer, &parameters).is_empty(), "sets alone are no picture");
        assert!(packetizer.format().is_some(), "{codec}: but they are remembered");
    }
}

#[test]
fn the_parameter_sets_of_a_frame_that_is_left_out_are_kept() {
    for Keyframe { codec, parameters, picture, .. } in keyframes() {
        let mut packetizer = Packetizer::new(codec, 1_200);
        let whole = [parameters, picture.clone()].concat();
        packetizer.skip(&whole);
        assert_eq!(put_together(codec, &payloads(&mut packetizer, &picture)), whole, "{codec}");
    }
}

#[test]
fn newer_parameter_sets_take_the_place_of_older_ones() {
    let mut packetizer = Packetizer::new(Codec::H264, 1_200);
    let [older, newer] = [SPS, "6742c01f8c8d40501e900f08846a"].map(codec::hex);
    let (pps, picture) = (codec::hex(PPS), unit(&[0x65], 100));
    payloads(&mut packetizer, &sized(&[&older, &pps, &picture]));
    // Before a picture that is no start they would make it look like one.
    let delta = payloads(&mut packetizer, &sized(&[&newer, &unit(&[0x41], 100)]));
    assert_eq!(delta, [unit(&[0x41], 100)]);
    let key = payloads(&mut packetizer, &sized(&[&picture]));
    assert_eq!(put_together(Codec::H264, &key), sized(&[&newer, &pps, &picture]));
    let told = packetizer.format().expect("known");
    assert_eq!(told.parameter("profile-level-id"), Some("42c01f"));
}

#[test]
fn delimiters_filler_and_layers_that_no_browser_decodes_are_left_out() {
    let slice = unit(&[0x41], 50);
    let others = ["0910", "0a", "0b", "0cffff80", "0e01", "1401", "1801", "1c8501", "c101", ""];
    let others: Vec<Vec<u8>> = others.map(codec::hex).to_vec();
    let mut units: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    units.push(&slice);
    let mut packetizer = Packetizer::new(Codec::H264, 1_200);
    assert_eq!(payloads(&mut packetizer, &sized(&units)), [slice]);

    let slice = unit(&[0x02, 0x01], 50);
    let others = ["460110", "480101", "4a0101", "4c01ff", "020901", "020001", "600101", "820101"];
    let others: Vec<Vec<u8>> = others.map(codec::hex).to_vec();
    let mut units: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    units.push(&slice);
    let mut packetizer = Packetizer::new(Codec::H265, 1_200);
    assert_eq!(payloads(&mut packetizer, &sized(&units)), [slice]);

    let frame = obu(&[0x32], &unit(&[0x30], 50));
    let whole = [codec::hex("1200"), obu(&[0x42], &[1, 2]), frame.clone(), obu(&[0x7a], &[0; 9])];
    let mut packetizer = Packetizer::new(Codec::Av1, 1_200);
    let payloads = payloads(&mut packetizer, &whole.concat());
    assert_eq!(payloads[0][..2], [0x10, 0x30], "one element, without its size");
    assert_eq!(put_together(Codec::Av1, &payloads), frame);
}

#[test]
fn a_length_that_lies_ends_the_frame() {
    let slice = unit(&[0x41], 50);
    let lies = [sized(&[&slice]), vec![0xff, 0xff, 0xff, 0xff, 0x65, 0x88]].concat();
    let mut packetizer = Packetizer::new(Codec::H264, 1_200);
    assert_eq!(payloads(&mut packetizer, &lies), [slice]);
    let frame = obu(&[0x32], &unit(&[0x30], 50));
    let lies = [frame.clone(), codec::hex("32ffff7f00")].concat();
    let mut packetizer = Packetizer::new(Codec::Av1, 1_200);
    assert_eq!(put_together(Codec::Av1, &payloads(&mut packetizer, &lies)), frame);
}

#[test]
fn a_recovery_point_is_a_start_and_an_intra_picture_is_one_after_its_sets() {
    let [sps, pps, recovery] = [SPS, PPS, "06060180"].map(codec::hex);
    let [intra, predicted] = [[0x41, 0x88], [0x41, 0x9a]].map(|header| unit(&header, 50));
    let mut packetizer = Packetizer::new(Codec::H264, 1_200);
    let mut is_start = |units: &[&[u8]]| {
        codec::is_keyframe(Codec::H264, &payloads(&mut packetizer, &sized(units))[0])
    };
    assert!(is_start(&[&sps, &pps, &intra]));
    assert!(!is_start(&[&intra]), "later ones may refer to what was before it");
    assert!(is_start(&[&recovery, &predicted]), "intra refresh");
    assert!(!is_start(&[&sps, &pps, &predicted]), "sets before every picture");
}

#[test]
fn an_opus_packet_is_a_payload() {
    let mut packetizer = Packetizer::new(Codec::Opus, 1_200);
    assert_eq!(payloads(&mut packetizer, &[0xfc, 1, 2]), [[0xfc, 1, 2]]);
    assert_eq!(packetizer.format().map(|it| it.parameters), Some(String::new()));
    assert!(payloads(&mut packetizer, &[0; 1_201]).is_empty());
    assert!(payloads(&mut packetizer, &[]).is_empty());
}

#[test]
fn real_streams_come_through_and_start_where_their_keyframes_are() {
    for name in ["h264-in-order", "h264-baseline", "h265-in-order", "h265-b-open"] {
        let codec = if name.starts_with("h264") { Codec::H264 } else { Codec::H265 };
        let path = format!("{}/tests/data/frames/{name}.frames", env!("CARGO_MANIFEST_DIR"));
        let stream = std::fs::read(path).expect("it is there");
        let (mut rest, mut starts) = (stream.as_slice(), Vec::new());
        let mut packetizer = Packetizer::new(codec, 200);
        for index in 0.. {
            // Times are in the first 16 bytes.
            let Some((len, tail)) = rest.get(16..).and_then(|it| it.split_first_chunk()) else {
                break;
            };
            let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            rest = tail;
            let payloads = payloads(&mut packetizer, frame);
            assert_eq!(put_together(codec, &payloads), frame, "{name} {index}");
            if codec::carries_parameters(codec, &payloads[0]) {
                assert_eq!(codec::sizes(codec, &payloads[0]).largest(), Some((128, 72)), "{name}");
                starts.push(index);
            }
        }
        let second = if name == "h265-b-open" { 10 } else { 12 };
        assert_eq!(starts, [0, second], "{name}");
    }
}

#[test]
fn a_frame_is_made_whole_where_its_parameter_sets_came_before_it() {
    let obu = |kind: u8, body: &[u8]| [&[kind << 3 | 2, body.len() as u8], body].concat();
    let hex = |text: &str| -> Vec<u8> {
        let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
    };
    let mut packetizer = Packetizer::new(Codec::Av1, 1_200);
    let (sequence, key) = (hex(SEQUENCE), obu(6, &[0x10, 0, 1, 2]));
    assert_eq!(packetizer.whole(&key), None, "nothing is known");
    packetizer.skip(&sequence);
    assert_eq!(packetizer.whole(&key), Some([&sequence[..], &key].concat()));
    assert_eq!(packetizer.whole(&[&sequence[..], &key].concat()), None);
    let unit = |nal: &[u8]| [&(nal.len() as u32).to_be_bytes(), nal].concat();
    let (sps, pps) = (unit(&hex(SPS)), unit(&hex(PPS)));
    let (delimiter, slice) = (unit(&[9, 0x10]), unit(&[0x65, 0x88, 1, 2]));
    let mut packetizer = Packetizer::new(Codec::H264, 1_200);
    let complete = [&sps[..], &pps, &slice].concat();
    assert_eq!(packetizer.whole(&complete), None);
    assert_eq!(packetizer.whole(&[delimiter, slice.clone()].concat()), Some(complete.clone()));
    assert_eq!(packetizer.whole(&[sps, slice].concat()), Some(complete));
}
