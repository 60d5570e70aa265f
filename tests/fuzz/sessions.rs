//! Targets that are more than one function: what a session makes of a client's datagrams.

use millrace::media::arena::{Path, SendArena};
use millrace::media::bitrate::Bitrate;
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::layer::LayerId;
use millrace::media::packet::PacketPool;
use millrace::media::time::WallTime;
use millrace::peer::agreement::{
    Credentials, DtlsRole, ExtensionIds, Feedback, Fingerprint, HashAlgorithm, PayloadFormat,
    ReceivedMedia, SentMedia, TransportAgreement,
};
use millrace::peer::client_hello;
use millrace::peer::estimate::{Estimate, Estimator, feedback};
use millrace::peer::header::RtpHeader;
use millrace::peer::identity::Identity;
use millrace::peer::publisher::{Receiver, rtcp, rtx};
use millrace::peer::stun::{DatagramKind, authentic_check, classify, local_ufrag};
use millrace::peer::testing::fuzz;
use millrace::peer::transport::{Timeouts, Transport};
use millrace::peer::viewer::Viewer;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A binding request for [`credentials`], after which a transport takes DTLS from its sender.
const CHECK: &[u8] = include_bytes!("corpus/stun/check");

static IDENTITY: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate().expect("the crypto library works")));

fn credentials() -> Credentials {
    Credentials { ufrag: "mill".to_owned(), pwd: "p".repeat(24) }
}

pub(crate) fn stun(bytes: &[u8]) {
    let _ = classify(bytes);
    if authentic_check(bytes, &credentials()) {
        assert_eq!(local_ufrag(bytes), Some("mill"), "authentic for somebody else");
        let other = Credentials { pwd: "q".repeat(24), ..credentials() };
        assert!(!authentic_check(bytes, &other), "authentic under two passwords");
    }
}

pub(crate) fn client_hello(bytes: &[u8]) {
    let _ = client_hello::best_profile(bytes);
    handshake(bytes, DtlsRole::Server);
}

pub(crate) fn dtls_record(bytes: &[u8]) {
    fuzz::dtls_record(bytes); // record and assembly by themselves, however the library reads them
    for role in [DtlsRole::Client, DtlsRole::Server] {
        handshake(bytes, role);
    }
}

/// The bytes as a client's first datagram after its check, whole and then in two. Says how many
/// bytes it was answered.
fn handshake(bytes: &[u8], role: DtlsRole) -> usize {
    let start = Instant::now();
    let remote = "127.0.0.1:50000".parse().expect("a literal address");
    let path = Path::udp(remote, None);
    let agreement = TransportAgreement {
        local: credentials(),
        remote: credentials(),
        fingerprints: vec![Fingerprint { algorithm: HashAlgorithm::Sha256, digest: vec![0; 32] }],
        role,
    };
    let mut arena = SendArena::new(256 * 1024);
    let identity = Arc::clone(&IDENTITY);
    let mut transport = Transport::new(agreement, identity, Timeouts::default(), start);
    transport.handle(path, &mut CHECK.to_vec(), start, &mut arena);
    assert_eq!(transport.path(), Some(path), "the check is not authentic");
    let before = arena.remaining();
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    for (step, datagram) in (1..).zip([bytes, head, tail]) {
        let now = start + Duration::from_millis(step);
        transport.handle(path, &mut datagram.to_vec(), now, &mut arena);
        transport.handle_timeout(now, &mut arena);
    }
    let answered = before - arena.remaining();
    transport.handle_timeout(start + Duration::from_mins(2), &mut arena);
    assert!(transport.sealer().is_none(), "keys out of nothing");
    answered
}

pub(crate) fn rtcp(bytes: &[u8]) {
    let read: usize = rtcp::packets(bytes).map(|packet| packet.body.len() + 4).sum();
    assert!(read <= bytes.len());
    let now = Instant::now();
    let mut receiver = Receiver::new(&media(&[]), 77, now);
    receiver.handle_rtcp(bytes, now, &mut |_| {});
    receiver.poll_rtcp(now + Duration::from_secs(2), &mut |compound| {
        assert!(compound.len() <= rtcp::COMPOUND_MAX);
    });
}

pub(crate) fn viewer_rtcp(bytes: &[u8]) {
    let asked = wishes(bytes);
    assert!(asked <= bytes.len() * 5, "{asked} wishes out of {} bytes", bytes.len());
}

/// How much an authentic viewer asks for in one compound.
fn wishes(bytes: &[u8]) -> usize {
    let now = Instant::now();
    let sent = |kind, ssrc| SentMedia {
        kind,
        mid: String::new(),
        formats: Vec::new(),
        extensions: ExtensionIds::default(),
        feedback: Feedback::default(),
        ssrc,
        rtx_ssrc: Some(ssrc + 1),
    };
    let media = vec![sent(Kind::Audio, 7), sent(Kind::Video, 8)];
    let mut viewer = Viewer::new(media, "mill".to_owned(), 0.15, [1, 2], now);
    let mut asked = 0;
    let wall = WallTime::since_unix_epoch(Duration::from_hours(500_000));
    viewer.measure(true, now);
    viewer.handle_rtcp(bytes, (now, wall), |_, _| asked += 1);
    asked
}

pub(crate) fn transport_feedback(bytes: &[u8]) {
    let Some(feedback) = feedback::Feedback::read(bytes) else { return };
    assert!(feedback.statuses().count() <= feedback.cost() as usize);
    let now = Instant::now();
    let mut estimator = Estimator::new(true, now);
    for number in 0..3_000_u64 {
        let departs = now + Duration::from_micros(number * 100);
        estimator.history().departs(1_000, departs);
    }
    for again in 0..3 {
        let now = now + Duration::from_millis(400 + again * 100);
        estimator.on_feedback(&feedback, now);
        estimator.want(Bitrate::kbps(2_000), now);
        estimator.probe(now);
        let bitrate = estimator.estimate(now).expect("there was feedback").bitrate;
        assert!((Estimate::FLOOR..=Estimate::CEILING).contains(&bitrate), "{bitrate}");
    }
}

pub(crate) fn rtx(bytes: &[u8]) {
    if let Some((_, original)) = rtx::unwrap(bytes) {
        assert_eq!(original.len() + 2, bytes.len());
    }
}

/// The bytes as many opened packets, each behind its length: a publisher who is authentic and
/// hostile. Where a length is a multiple of four, so many milliseconds pass.
pub(crate) fn publisher(bytes: &[u8]) {
    for rids in [&["q", "h"][..], &[]] {
        assert!(forwarded(bytes, rids) <= bytes.len());
    }
}

/// How many packets of the bytes are forwarded.
fn forwarded(bytes: &[u8], rids: &[&str]) -> usize {
    let start = Instant::now();
    let mut now = start;
    let mut receiver = Receiver::new(&media(rids), 77, now);
    let mut pool = PacketPool::default();
    let mut packets = 0;
    let mut rest = bytes;
    while let Some((&len, tail)) = rest.split_first() {
        let (datagram, tail) = tail.split_at(usize::from(len).min(tail.len()));
        rest = tail;
        if classify(datagram) == DatagramKind::Rtcp {
            receiver.handle_rtcp(datagram, now, &mut |_| {});
            receiver.request_keyframe(LayerId::ONLY, now);
        } else if let Some(header) = RtpHeader::read(datagram) {
            let packet = receiver.handle_rtp(&header, datagram, now, &mut pool);
            packets += usize::from(packet.is_some());
        }
        if len % 4 == 0 {
            now += Duration::from_millis(u64::from(len));
            receiver.poll_rtcp(now, &mut |compound| {
                assert!(compound.len() <= rtcp::COMPOUND_MAX);
                let read: usize = rtcp::packets(compound).map(|packet| packet.body.len()).sum();
                assert!(read > 0, "a compound that we do not read ourselves");
            });
        }
        assert!(receiver.deadline().is_none_or(|deadline| deadline >= start));
    }
    for kind in Kind::ALL {
        let _ = receiver.report(kind, now);
    }
    packets
}

/// Audio, and video in these layers with retransmission: as Chromium agrees on.
pub(crate) fn media(rids: &[&str]) -> Vec<ReceivedMedia> {
    let format = |codec, payload_type, rtx| PayloadFormat {
        payload_type,
        format: Format { codec, parameters: String::new() },
        rtx,
    };
    let extensions = ExtensionIds {
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        abs_send_time: Some(2),
        transport_cc: Some(3),
        dependency_descriptor: Some(12),
        playout_delay: None,
    };
    let asked = Feedback { nack: true, pli: true, fir: true, ..Feedback::default() };
    let feedback = Feedback { transport_cc: true, remb: true, ..asked };
    let section = |kind, mid: &str, formats, rids: &[&str]| ReceivedMedia {
        kind,
        mid: mid.to_owned(),
        formats,
        extensions,
        feedback,
        ssrcs: Vec::new(),
        rids: rids.iter().map(|&rid| rid.to_owned()).collect(),
    };
    let video = vec![format(Codec::H264, 96, Some(97)), format(Codec::Vp8, 98, Some(99))];
    vec![
        section(Kind::Audio, "0", vec![format(Codec::Opus, 111, None)], &[]),
        section(Kind::Video, "1", video, rids),
    ]
}

#[test]
fn the_corpora_get_as_far_as_they_are_meant_to() {
    assert_eq!(forwarded(include_bytes!("corpus/publisher/two_layers"), &["q", "h"]), 36);
    assert_eq!(forwarded(include_bytes!("corpus/publisher/vp8_gaps"), &[]), 8);
    assert!(handshake(include_bytes!("corpus/client_hello/two_fragments"), DtlsRole::Server) > 0);
    assert_eq!(wishes(include_bytes!("corpus/viewer_rtcp/rr_nack")), 3);
    assert!(authentic_check(include_bytes!("corpus/stun/nominating"), &credentials()));
}
