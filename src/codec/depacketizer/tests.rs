//! What the packetizers take apart, and payloads that nobody honest sends.

use super::*;
use crate::codec::hex;
use crate::codec::packetizer::Packetizer;
use proptest::prelude::*;

const PACKAGED: [Codec; 4] = [Codec::H264, Codec::H265, Codec::Av1, Codec::Opus];

fn payloads(codec: Codec, payload_max: usize, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    Packetizer::new(codec, payload_max)
        .packetize(frame, &mut |payload, _| payloads.push(payload.to_vec()));
    payloads
}

fn together(codec: Codec, payloads: &[Vec<u8>]) -> Option<Vec<u8>> {
    depacketize(codec, payloads.iter().map(Vec::as_slice))
}

/// Units with these headers and lengths; none of them changes on the way.
fn frame(codec: Codec, units: &[(usize, usize)]) -> Vec<u8> {
    let headers: &[&[u8]] = match codec {
        Codec::H264 => &[&[0x41], &[0x01], &[0x61]],
        Codec::H265 => &[&[0x02, 0x01], &[0x00, 0x01], &[0x02, 0x03], &[0x50, 0x01]],
        Codec::Av1 => &[&[0x32], &[0x1a], &[0x22], &[0x36, 0x28], &[0x2a]],
        _ => &[&[0xfc]],
    };
    let mut frame = Vec::new();
    for &(header, len) in units {
        let header = headers[header % headers.len()];
        let body = (0..len).map(|at| (at % 251) as u8 | 0x80);
        match codec {
            Codec::H264 | Codec::H265 => frame.extend(((header.len() + len) as u32).to_be_bytes()),
            Codec::Av1 => {
                frame.extend_from_slice(header);
                crate::codec::av1::write_leb128(len, &mut frame);
                frame.extend(body);
                continue;
            }
            _ => return header.iter().copied().chain(body.take(60)).collect(),
        }
        frame.extend_from_slice(header);
        frame.extend(body);
    }
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_taken_apart_is_put_together_again(
        codec in proptest::sample::select(PACKAGED.to_vec()),
        units in proptest::collection::vec(
            (0_usize..5, prop_oneof![2_usize..40, 2_usize..300, 1_000_usize..6_000]),
            0..9,
        ),
        payload_max in 64_usize..1_400,
        lost in any::<proptest::sample::Index>(),
    ) {
        // The first is always a picture.
        let frame = frame(codec, &[&[(0, 30)][..], &units].concat());
        let mut payloads = payloads(codec, payload_max, &frame);
        prop_assert_eq!(together(codec, &payloads), Some(frame.clone()));
        // Without one of them it is another frame, or none.
        payloads.remove(lost.index(payloads.len()));
        prop_assert_ne!(together(codec, &payloads), Some(frame));
    }
}

#[test]
fn real_streams_are_put_together_again() {
    for name in ["h264-in-order", "h264-baseline", "h265-in-order", "h265-b-open"] {
        let codec = if name.starts_with("h264") { Codec::H264 } else { Codec::H265 };
        let path = format!("{}/tests/data/frames/{name}.frames", env!("CARGO_MANIFEST_DIR"));
        let stream = std::fs::read(path).expect("it is there");
        // Times are in the first 16 bytes of each.
        let mut rest = stream.get(16..);
        while let Some((len, tail)) = rest.and_then(|it| it.split_first_chunk()) {
            let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            rest = tail.get(16..);
            assert_eq!(together(codec, &payloads(codec, 200, frame)).as_deref(), Some(frame));
        }
    }
}

#[test]
fn padding_is_passed_over_and_what_cannot_be_is_no_frame() {
    let table: [(Codec, &[&str], Option<&str>); 28] = [
        (Codec::H264, &["", "419a22", ""], Some("00000003419a22")),
        (Codec::H264, &["18 0002 0910 0003 419a22"], Some("000000020910 00000003419a22")),
        (Codec::H264, &["5c81aa", "5c01bb", "5c41cc"], Some("00000004 41aabbcc")),
        (Codec::H264, &["5c81aa", "5c01bb"], None), // the end is missing
        (Codec::H264, &["5c01bb", "5c41cc"], None), // the beginning is
        (Codec::H264, &["5c81aa", "419a22", "5c41cc"], None),
        (Codec::H264, &["5c81aa", "5c81aa", "5c41cc"], None),
        (Codec::H264, &["18 0002 0910 0003 419a"], None), // a length that lies
        (Codec::H264, &["19 0000 0002 0910"], None),      // STAP-B: never negotiated
        (Codec::H264, &["5c"], None),
        (Codec::H264, &[], None),
        (Codec::H265, &["6001 0004 4e01aabb 0003 0201d0"], Some("000000044e01aabb 000000030201d0")),
        (Codec::H265, &["620181aa", "620141bb"], Some("00000004 0201aabb")),
        (Codec::H265, &["6401aa"], None), // PACI
        (Codec::Av1, &["10 30aabb"], Some("3202aabb")),
        (Codec::Av1, &["20 02 1200 3202aabb"], Some("3202aabb")),
        (Codec::Av1, &["50 30aa", "d0 bb", "90 cc"], Some("3203aabbcc")),
        (Codec::Av1, &["50 30aa", "10 30bb"], None),
        (Codec::Av1, &["50 30aa"], None),
        (Codec::Av1, &["90 30aa"], None),
        (Codec::Vp8, &["10aabb", "00cc"], Some("aabbcc")),
        (Codec::Vp8, &["908005aa", "808005bb", "918005cc"], Some("aabbcc")),
        (Codec::Vp8, &["00aa"], None),
        (Codec::Vp8, &["10aa", "80"], None),
        (Codec::Vp9, &["8805aa", "8405bb"], Some("aabb")),
        (Codec::Vp9, &["8a05 10 00ff 00ff aa", "8405bb"], Some("aabb")),
        (Codec::Vp9, &["8405bb"], None),
        // Two spatial layers, and where they begin.
        (
            Codec::Vp9,
            &["ac05 00 07 aa", "a805 02 07 bb", "a405 02 07 cc"],
            Some("aabbcc d9 01000000 02000000 d9"),
        ),
    ];
    for (codec, payloads, frame) in table {
        let bytes: Vec<Vec<u8>> = payloads.iter().map(|payload| hex(payload)).collect();
        assert_eq!(together(codec, &bytes), frame.map(hex), "{codec} {payloads:?}");
    }
    let opus = [vec![0xfc, 1], vec![0xfc, 2]];
    assert_eq!(together(Codec::Opus, &opus[..1]), Some(vec![0xfc, 1]));
    assert_eq!(together(Codec::Opus, &opus), None);
}

#[test]
fn no_frame_is_longer_than_the_bound() {
    let middle = [vec![0x5c, 0x01], vec![0xaa; 60_000]].concat();
    for (count, fits) in [(139, true), (140, false)] {
        let mut payloads = vec![vec![0x5c, 0x81, 0]];
        payloads.extend(std::iter::repeat_n(middle.clone(), count));
        payloads.push(vec![0x5c, 0x41, 0]);
        assert_eq!(together(Codec::H264, &payloads).is_some(), fits, "{count}");
    }
    let middle = [vec![0xd0], vec![0xaa; 60_000]].concat();
    let mut payloads = vec![vec![0x50, 0x30]];
    payloads.extend(std::iter::repeat_n(middle, 140));
    payloads.push(vec![0x90, 0]);
    assert_eq!(together(Codec::Av1, &payloads), None);
}
