//! What a viewer is asked, told, and what its packets carry.

use super::super::agreement::{ExtensionIds, Feedback, PayloadFormat};
use super::super::outgoing::{Numbered, Sent, Wire};
use super::super::seal::Sealer;
use super::super::srtp::{MasterKey, SrtpProfile};
use super::asked::whole_packets;
use super::*;
use crate::media::arena::{Path, SendArena};
use crate::media::codec::{Codec, Format};
use crate::media::packet::{Packet, PacketFields};
use crate::media::patch::Patch;
use crate::media::time::WallTime;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::SocketAddr;

#[test]
fn only_what_is_read_is_parsed() {
    let feedback = [0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    let chunks = [0x3f, 0xff, 0x3f, 0xff, 0x3f, 0xff, 0x3f, 0xff];
    let loss = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let compound = [feedback.as_slice(), &chunks, &loss].concat();
    let now = Instant::now();
    let mut viewer = Viewer::new(Vec::new(), "cname".into(), 0.1, [0; 2], now);
    let mut heard = Vec::new();
    let wall = WallTime::since_unix_epoch(Duration::ZERO);
    viewer.handle_rtcp(&compound, (now, wall), |_, asked| heard.push(asked));
    assert_eq!(heard, [Asked::Keyframe], "read without the library's look at the feedback");
}

fn send_one(track: &mut Outgoing, now: Instant) {
    let packet = PacketFields::single(Codec::Opus, 1, 0, now).with(vec![0; 20]);
    let numbered =
        Numbered { packet: &packet, padding: 0, sequence: 1, timestamp: 0, patch: Patch::NONE };
    let master = MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]);
    let sealer = &mut Sealer::new(&master.expect("fitting lengths"));
    let path = Path::udp(SocketAddr::from(([192, 0, 2, 1], 9)), None);
    let mut wire = Wire { sealer, path, arena: &mut SendArena::new(1_000) };
    let sent = track.send(numbered, &mut wire, None);
    assert_eq!(sent, Sent::Yes);
}

#[test]
fn what_the_viewers_clock_showed_is_said_back_once_with_the_next_report() {
    let now = Instant::now();
    let format = Format { codec: Codec::Opus, parameters: String::new() };
    let section = SentMedia {
        kind: Kind::Audio,
        mid: String::new(),
        formats: vec![PayloadFormat { payload_type: 111, format, rtx: None }],
        extensions: ExtensionIds::default(),
        feedback: Feedback::default(),
        ssrc: 7,
        rtx_ssrc: None,
    };
    let mut viewer = Viewer::new(vec![section], "cname".into(), 0.1, [0; 2], now);
    send_one(viewer.track(Kind::Audio).expect("agreed"), now);
    let clock = [0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
    let wall = WallTime::since_unix_epoch(Duration::ZERO);
    let mut asked = 0;
    viewer.handle_rtcp(&clock, (now, wall), |_, _| asked += 1);
    assert_eq!(asked, 0, "it asks for nothing");
    let mut next = || {
        let report = viewer.reports(viewer.deadline(), |_| Some((wall, 0))).expect("due");
        whole_packets(&report).any(|packet| packet[1] == 207 && packet[16..20] == [3, 4, 5, 6])
    };
    assert!(next() && !next());
}

#[test]
fn who_asks_without_end_is_heard_a_bounded_number_of_times_a_second() {
    let start = Instant::now();
    let wall = WallTime::since_unix_epoch(Duration::ZERO);
    let video = SentMedia {
        kind: Kind::Video,
        mid: String::new(),
        formats: Vec::new(),
        extensions: ExtensionIds::default(),
        feedback: Feedback::default(),
        ssrc: 2,
        rtx_ssrc: None,
    };
    let mut viewer = Viewer::new(vec![video], "cname".into(), 0.1, [0; 2], start);
    let mut nack = vec![0x81, 205, 0, 82, 0, 0, 0, 1, 0, 0, 0, 2];
    nack.extend([7, 7, 0xff, 0xff].repeat(80)); // 17 numbers each
    let loss = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let mut heard = |compound: &[u8], ms| {
        let mut count = 0;
        let now = start + Duration::from_millis(ms);
        viewer.handle_rtcp(compound, (now, wall), |_, _| count += 1);
        count
    };
    assert_eq!(heard(&nack, 0), 1023, "a burst, of which the packet itself is one");
    assert_eq!(heard(&loss, 0), 0);
    let in_a_second: u32 = (1..=1_000).map(|ms| heard(&nack, ms)).sum();
    assert!((3_000..=4_096).contains(&in_a_second), "{in_a_second}");
    assert_eq!(heard(&loss, 1_100), 1, "who rests is heard again");
}

/// What a viewer of sound and picture has agreed to that tells of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreed {
    Numbers,
    /// And its own estimate.
    Times,
}

/// A viewer of sound and picture.
fn viewer(agreed: Agreed, rtx: bool, nack: bool, now: Instant) -> Viewer {
    let has_numbers = agreed == Agreed::Numbers;
    let section = |kind, codec, ssrc: u32| SentMedia {
        kind,
        mid: String::new(),
        formats: vec![PayloadFormat {
            payload_type: ssrc as u8,
            format: Format { codec, parameters: String::new() },
            rtx: rtx.then_some(120 + ssrc as u8),
        }],
        extensions: ExtensionIds {
            abs_send_time: Some(2),
            transport_cc: has_numbers.then_some(3),
            playout_delay: Some(5),
            ..ExtensionIds::default()
        },
        feedback: Feedback { nack, transport_cc: has_numbers, remb: true, ..Feedback::default() },
        ssrc,
        rtx_ssrc: rtx.then_some(ssrc + 100),
    };
    let sections = vec![section(Kind::Audio, Codec::Opus, 1), section(Kind::Video, Codec::Vp8, 2)];
    Viewer::new(sections, "cname".into(), 0.5, [7; 2], now)
}

fn packet(codec: Codec, sequence: u64, arrival: Instant) -> Packet {
    let fields = PacketFields::single(codec, sequence, sequence, arrival);
    fields.with(vec![sequence as u8; 50])
}

/// What departs of a packet that is sent in one of four ways.
fn departs(
    viewer: &mut Viewer,
    way: u8,
    codec: Codec,
    at: u64,
    (sealer, now): (&mut Sealer, Instant),
) -> Vec<u8> {
    let path = Path::udp(SocketAddr::from(([192, 0, 2, 1], 9)), None);
    let mut arena = SendArena::new(1_000);
    let packet = packet(codec, at, now);
    let (padding, patch) = (0, Patch::NONE);
    let numbered = Numbered { packet: &packet, padding, sequence: at, timestamp: at, patch };
    let mut track = viewer.sending(codec.kind(), now).expect("agreed");
    let wire = &mut Wire { sealer, path, arena: &mut arena };
    match way {
        0 => drop(track.send(numbered, wire)),
        1 => drop(track.resend(numbered, false, wire)),
        2 => drop(track.probe(None, wire)),
        _ => drop(track.probe(Some(numbered), wire)),
    }
    arena.datagrams().next().map_or(Vec::new(), |(_, datagram)| datagram.to_vec())
}

fn sealer() -> Sealer {
    let master = MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]);
    Sealer::new(&master.expect("fitting lengths"))
}

/// The transport-wide number of a packet that carries one.
fn number(datagram: &[u8]) -> Option<u16> {
    let has_extensions = datagram[0] & 0x10 != 0;
    has_extensions.then(|| u16::from_be_bytes([datagram[17], datagram[18]]))
}

#[test]
fn packets_of_all_tracks_are_numbered_while_the_path_is_measured() {
    let now = Instant::now();
    let (mut viewer, mut sealer) = (viewer(Agreed::Numbers, true, true, now), sealer());
    let mut send = |viewer: &mut Viewer, way, codec, at| {
        number(&departs(viewer, way, codec, at, (&mut sealer, now)))
    };
    assert_eq!(send(&mut viewer, 0, Codec::Vp8, 1), None);
    viewer.measure(true, now);
    assert_eq!(viewer.estimate(now), None, "nothing was said yet");
    assert_eq!(send(&mut viewer, 0, Codec::Vp8, 2), Some(0));
    assert_eq!(send(&mut viewer, 0, Codec::Opus, 1), Some(1));
    assert_eq!(send(&mut viewer, 1, Codec::Vp8, 1), Some(2));
    assert_eq!(send(&mut viewer, 3, Codec::Vp8, 2), Some(3));
    assert_eq!(send(&mut viewer, 2, Codec::Vp8, 2), Some(4));
    let feedback = [
        0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 9, 1, 0x20, 4, 4, 4, 4, 4, 0, 0,
    ];
    let wall = WallTime::since_unix_epoch(Duration::ZERO);
    viewer.handle_rtcp(&feedback, (now, wall), |_, _| ());
    assert_eq!(viewer.feedback_packets(), 1);
    assert!(viewer.estimate(now).is_some());
    viewer.measure(false, now);
    assert_eq!(send(&mut viewer, 0, Codec::Vp8, 3), None);
    assert_eq!(viewer.estimate(now), None);
}

#[test]
fn who_asks_for_packets_and_takes_no_rtx_gets_them_again_and_no_numbers() {
    let now = Instant::now();
    let (mut viewer, mut sealer) = (viewer(Agreed::Numbers, false, true, now), sealer());
    viewer.measure(true, now);
    let first = departs(&mut viewer, 0, Codec::Vp8, 1, (&mut sealer, now));
    assert_eq!(number(&first), None);
    assert_eq!(departs(&mut viewer, 1, Codec::Vp8, 1, (&mut sealer, now)), first);
    assert!(departs(&mut viewer, 2, Codec::Vp8, 1, (&mut sealer, now)).is_empty());
}

/// The time at which a packet of the picture says that it was sent, if it says so.
fn send_time(datagram: &[u8]) -> Option<f64> {
    let is_one = datagram[0] & 0x10 != 0 && datagram[16] == 2 << 4 | 2;
    let [high, middle, low] = [17, 18, 19].map(|at| datagram[at]);
    let time = u32::from_be_bytes([0, high, middle, low]);
    is_one.then(|| f64::from(time) / f64::from(1 << 18))
}

/// Without it a viewer that knows nothing of transport-wide feedback has nothing to estimate from.
#[test]
fn who_tells_its_own_estimate_is_told_when_each_packet_was_sent() {
    let start = Instant::now();
    let (mut viewer, mut sealer) = (viewer(Agreed::Times, true, true, start), sealer());
    let mut send = |viewer: &mut Viewer, way, at, ms| {
        let now = start + Duration::from_millis(ms);
        send_time(&departs(viewer, way, Codec::Vp8, at, (&mut sealer, now)))
    };
    assert_eq!(send(&mut viewer, 0, 1, 0), None);
    viewer.measure(true, start);
    let first = send(&mut viewer, 0, 2, 100).expect("told");
    let again = send(&mut viewer, 1, 1, 1_350).expect("a repair too");
    assert!((again - first - 1.25).abs() < 0.000_01, "{first} {again}");
    // 64 seconds are a turn.
    let turned = send(&mut viewer, 0, 3, 64_100).expect("told");
    assert!((turned - first).abs() < 0.000_01, "{first} {turned}");
    assert!(!viewer.tracks().any(Outgoing::takes_probes), "nobody would tell when they came");
}

#[test]
fn who_takes_transport_wide_feedback_is_told_no_times() {
    let now = Instant::now();
    let (mut viewer, mut sealer) = (viewer(Agreed::Numbers, true, true, now), sealer());
    viewer.measure(true, now);
    let datagram = departs(&mut viewer, 0, Codec::Vp8, 1, (&mut sealer, now));
    assert_eq!((send_time(&datagram), datagram[16] >> 4), (None, 3));
}

proptest! {
    /// The nonce rule (ARCHITECTURE.md).
    #[test]
    fn a_number_of_an_ssrc_never_stands_for_two_packets(
        has_numbers: bool,
        rtx: bool,
        nack: bool,
        steps in prop::collection::vec((0_u8..6, 0_u64..6, any::<bool>()), 1..200),
    ) {
        let now = Instant::now();
        let agreed = if has_numbers { Agreed::Numbers } else { Agreed::Times };
        let (mut viewer, mut sealer) = (viewer(agreed, rtx, nack, now), sealer());
        let mut departed = HashMap::new();
        let mut next = [0_u64; 2];
        for (step, (way, back, of_sound)) in steps.into_iter().enumerate() {
            let now = now + Duration::from_millis(step as u64);
            if way >= 4 {
                viewer.measure(way == 4, now);
                continue;
            }
            let codec = if of_sound { Codec::Opus } else { Codec::Vp8 };
            let next = &mut next[usize::from(of_sound)];
            let at = if way == 0 { Some(*next) } else { next.checked_sub(back + 1) };
            let Some(at) = at else {
                continue;
            };
            *next += u64::from(way == 0);
            let datagram = departs(&mut viewer, way, codec, at, (&mut sealer, now));
            if datagram.is_empty() {
                continue;
            }
            let nonce = [&datagram[2..4], &datagram[8..12]].concat();
            let before = departed.entry(nonce).or_insert_with(|| datagram.clone());
            prop_assert_eq!(&*before, &datagram);
        }
    }
}
