//! Answers to the offers of real clients, and refusals.
//!
//! - `check`: a strict reader of answers
//! - `faults`: that it finds what is wrong with one
//!
//! Golden answers lie in `tests/data/answers`; `UPDATE_GOLDEN=1 cargo test --test sdp` writes
//! them anew.

#![allow(missing_docs, clippy::missing_errors_doc)]

mod check;
mod faults;

use millrace::media::arena::TransportAddress;
use millrace::media::codec::{Codec, Format, Kind};
use millrace::peer::agreement::{
    Credentials, DtlsRole, Feedback, Fingerprint, HashAlgorithm, PublisherAgreement,
    ViewerAgreement,
};
use millrace::peer::offer::{
    AnswerError, LocalDescription, answer_publisher, answer_viewer, ice_fragment,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

const PREFERENCE: [Codec; 3] = [Codec::H264, Codec::Vp8, Codec::Opus];

fn with_local<T>(run: impl FnOnce(&LocalDescription<'_>) -> T) -> T {
    let fingerprint = Fingerprint { algorithm: HashAlgorithm::Sha256, digest: (0..32).collect() };
    let addresses: Vec<SocketAddr> = ["203.0.113.7:8189", "10.0.0.7:8189", "[2001:db8::7]:8189"]
        .iter()
        .map(|address| address.parse().expect("a literal address"))
        .collect();
    let over_udp = addresses.iter().copied().map(TransportAddress::udp);
    let over_tcp = addresses.iter().copied().map(TransportAddress::tcp);
    let candidates: Vec<TransportAddress> = over_udp.chain(over_tcp).collect();
    run(&LocalDescription {
        credentials: Credentials {
            ufrag: "mill".to_owned(),
            pwd: "0123456789abcdefghijkl".to_owned(),
        },
        fingerprint: &fingerprint,
        candidates: &candidates,
        session_id: u64::MAX,
        ssrcs: [1001, 1002, 2001, 2002],
        cname: "millrace",
        stream_id: "lot/42",
    })
}

fn publish(offer: &str) -> Result<(PublisherAgreement, String), AnswerError> {
    with_local(|local| answer_publisher(offer, &PREFERENCE, local))
}

fn view(offer: &str, live: &[Format]) -> Result<(ViewerAgreement, String), AnswerError> {
    with_local(|local| answer_viewer(offer, live, local))
}

fn data(folder: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

fn offers() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(data("offers")).expect("the offers are committed");
    let paths = files.map(|file| file.expect("a readable folder").path());
    let offers: BTreeMap<_, _> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sdp"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("an offer is text"))
        })
        .collect();
    assert!(offers.len() >= 20, "only {} offers", offers.len());
    offers
}

fn offer(name: &str) -> String {
    offers().remove(name).expect("there is an offer of this name")
}

fn is_viewer(name: &str) -> bool {
    name.contains("-whep")
}

fn answer(name: &str, offer: &str) -> Result<String, AnswerError> {
    if is_viewer(name) {
        return view(offer, &[]).map(|(_, answer)| answer);
    }
    publish(offer).map(|(_, answer)| answer)
}

#[test]
fn every_real_offer_gets_the_golden_answer_and_a_strict_reader_accepts_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, offer) in offers() {
        let answer = answer(&name, &offer).expect("a real offer is served");
        assert_eq!(check::check(&offer, &answer), Ok(()), "{name}");
        let path = data("answers").join(name.replace("-offer", "-answer.sdp"));
        if update {
            std::fs::write(&path, &answer).expect("the folder is there");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, answer, "{name}: UPDATE_GOLDEN=1 writes it anew");
    }
}

#[test]
fn chromium_publishes_three_layers_from_a_high_start() {
    let (agreement, answer) =
        publish(&offer("chromium-156-whip-h264-simulcast3-offer")).expect("served");
    let video = &agreement.media[1];
    assert_eq!(video.rids, ["q", "h", "f"]);
    assert_eq!((video.extensions.rid, video.extensions.repaired_rid), (Some(10), Some(11)));
    assert_eq!(video.formats[0].rtx, Some(109));
    assert_eq!(agreement.transport.role, DtlsRole::Server);
    assert!(answer.contains("a=simulcast:recv q;h;f\r\n"));
    assert!(answer.contains("profile-level-id=42e01f;x-google-start-bitrate="));
    assert!(answer.contains("a=fmtp:111 minptime=10;stereo=1;useinbandfec=1\r\n"));
    let (_, other) = publish(&offer("obs-32.2.2-whip-h264-simulcast3-offer")).expect("served");
    assert!(other.contains("a=simulcast:recv 0;1;2\r\n"));
    assert!(!other.contains("x-google"));
}

#[test]
fn ffmpeg_is_the_dtls_server_where_it_says_so_and_no_pli_is_claimed() {
    let (agreement, answer) = publish(&offer("ffmpeg-9.0.2-whip-h264-opus-offer")).expect("served");
    assert_eq!(agreement.transport.role, DtlsRole::Client);
    assert!(answer.contains("a=setup:active\r\n"));
    let video = &agreement.media[1];
    assert_eq!(video.feedback, Feedback { nack: true, ..Feedback::default() });
    let announced = video.ssrcs[0];
    assert_eq!((announced.ssrc, announced.rtx), (2_293_020_596, Some(2_293_020_597)));
    let first = answer.lines().find(|line| line.starts_with("a=candidate")).expect("candidates");
    assert!(first.contains("203.0.113.7 8189"), "{first}");

    let only = offer("ffmpeg-9.0.2-whip-h264-videoonly-dtlsactive-offer");
    let (agreement, _) = publish(&only).expect("video only is served");
    assert_eq!(agreement.transport.role, DtlsRole::Server);
    assert_eq!(agreement.media.len(), 1);
}

#[test]
fn a_publisher_of_everything_is_asked_for_the_preferred_codec_first() {
    let pion = offer("pion-4.2.1-whip-offer");
    let (agreement, _) = publish(&pion).expect("served");
    let codecs: Vec<Codec> = agreement.media[0].formats.iter().map(|f| f.format.codec).collect();
    assert!(codecs.starts_with(&[Codec::H264, Codec::H264]));
    assert_eq!(agreement.media[0].formats[0].format.parameter("packetization-mode"), Some("1"));
    let (agreement, _) =
        with_local(|local| answer_publisher(&pion, &[Codec::Av1], local)).expect("served");
    assert_eq!(agreement.media[0].formats[0].format.codec, Codec::Av1);
}

#[test]
fn a_viewer_gets_every_common_codec_whatever_is_live() {
    let vp8 = Format { codec: Codec::Vp8, parameters: String::new() };
    let (agreement, answer) = view(&offer("chromium-156-whep-offer"), &[vp8]).expect("served");
    let (audio, video) = (&agreement.media[0], &agreement.media[1]);
    for codec in [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1] {
        let format = video.formats.iter().find(|format| format.format.codec == codec);
        assert!(format.expect("every common codec").rtx.is_some());
    }
    assert_eq!((audio.ssrc, audio.rtx_ssrc), (1001, None));
    assert_eq!((video.ssrc, video.rtx_ssrc), (2001, Some(2002)));
    assert!(video.feedback.transport_cc && video.feedback.remb && video.feedback.pli);
    assert_eq!(video.extensions.playout_delay, Some(5));
    assert!(answer.contains("a=msid:lot-42 video\r\n"));
    for unwanted in ["red", "ulpfec", "flexfec", "CN/8000", "telephone-event"] {
        assert!(!answer.contains(unwanted), "{unwanted}");
    }
}

#[test]
fn a_stream_goes_out_on_the_payload_type_of_its_profile_whatever_its_level() {
    let [pion, chromium] = ["pion-4.2.1-whep-offer", "chromium-156-whep-offer"]
        .map(|name| view(&offer(name), &[]).expect("served").0.media);
    let high = "packetization-mode=1;profile-level-id=640028";
    let high = Format { codec: Codec::H264, parameters: high.to_owned() };
    let chosen = pion.iter().find_map(|media| media.payload_for(&high)).expect("it is listed");
    assert_eq!(chosen.format.parameter("profile-level-id"), Some("64001f"));
    let video = &chromium[1];
    for (codec, sent, expected) in [
        (Codec::H264, "packetization-mode=1;profile-level-id=640028", "42001f"),
        (Codec::H264, "packetization-mode=1;profile-level-id=4d4033", "4d001f"),
        (Codec::H264, "packetization-mode=1;profile-level-id=42c01e", "42001f"),
        (Codec::H264, "packetization-mode=1;profile-level-id=42e01f", "42e01f"),
        (Codec::Vp9, "profile-id=2", "profile-id=2"),
        (Codec::Av1, "level-idx=13;profile=1;tier=0", "profile=1"),
    ] {
        let format = Format { codec, parameters: sent.to_owned() };
        let chosen = video.payload_for(&format).expect("a difference of profile is no refusal");
        let parameters = &chosen.format.parameters;
        assert!(parameters.contains(expected), "{sent}: {parameters}");
        if codec == Codec::H264 {
            assert!(parameters.contains("packetization-mode=1"), "{sent}: {parameters}");
        }
    }
}

#[test]
fn a_viewer_is_sent_the_dependency_descriptor_where_it_can_be_and_is_of_use() {
    let player = offer("chromium-156-player-whep-offer");
    let (agreement, answer) = view(&player, &[]).expect("served");
    let id = agreement.media[1].extensions.dependency_descriptor.expect("it is offered");
    let line = format!("a=extmap:{id} https://aomediacodec.github.io/av1-rtp-spec/#dependency");
    assert!(answer.contains(&line) && answer.contains("a=extmap-allow-mixed\r\n"), "{answer}");
    assert_eq!(agreement.media[0].extensions.dependency_descriptor, None);
    let agreed = |offer: &str| {
        let (agreement, _) = view(offer, &[]).expect("served");
        agreement.media[1].extensions.dependency_descriptor
    };
    // With a structure it is too long for the one-byte form (RFC 8285 §4.2).
    assert_eq!(agreed(&player.replace("a=extmap-allow-mixed\r\n", "")), None);
    assert_eq!(agreed(&player.replace(" AV1/90000", " AV9/90000")), None);
    assert_eq!(agreed(&offer("chromium-156-whep-offer")), None, "it is not offered");
}

#[test]
fn a_viewer_that_would_learn_the_round_trip_is_told_that_it_will() {
    let with = |name| offer(name).replace(" nack pli\r\n", " nack pli\r\na=rtcp-fb:* rrtr\r\n");
    let (agreement, answer) = view(&with("chromium-156-whep-offer"), &[]).expect("served");
    assert!(agreement.media[1].feedback.rrtr);
    assert!(answer.contains("a=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 rrtr\r\n"), "{answer}");
    let (_, answer) = publish(&with("chromium-156-whip-h264-offer")).expect("served");
    assert!(!answer.contains("rrtr"), "a publisher has our receiver reports: {answer}");
}

#[test]
fn a_viewer_that_can_play_nothing_of_what_is_live_is_told_both_sides() {
    let live = |codecs: &[Codec]| -> Vec<Format> {
        codecs.iter().map(|&codec| Format { codec, parameters: String::new() }).collect()
    };
    let firefox = offer("firefox-153esr-whep-offer");
    let refusal = view(&firefox, &live(&[Codec::H264])).expect_err("no H.264 in this Firefox");
    let text = refusal.to_string();
    assert!(matches!(refusal, AnswerError::NoCommonCodec { .. }), "{text}");
    assert!(text.contains("VP8") && text.contains("the stream carries H264"), "{text}");
    let refusal = view(&firefox, &live(&[Codec::Opus, Codec::H265])).expect_err("no picture");
    assert!(refusal.to_string().contains("the stream carries Opus, H265"), "{refusal}");
    assert!(view(&firefox, &live(&[Codec::Opus])).is_ok(), "there is none");
    let (sound, _) = firefox.split_once("m=video").expect("a section of video");
    let sound = sound.replace("BUNDLE 0 1", "BUNDLE 0");
    assert!(view(&sound, &live(&[Codec::Opus, Codec::H265])).is_ok(), "none is asked for");
    let profile = Format {
        codec: Codec::H264,
        parameters: "packetization-mode=1;profile-level-id=640c1f".to_owned(),
    };
    assert!(view(&offer("node-datachannel-0.33.4-whep-offer"), &[profile]).is_ok());
}

#[test]
fn a_restart_of_ice_is_answered_by_a_fragment() {
    let credentials =
        Credentials { ufrag: "abcd".to_owned(), pwd: "0123456789abcdefghijkl".to_owned() };
    let address = "203.0.113.7:8189".parse().expect("a literal address");
    let candidates = [TransportAddress::udp(address)];
    let fragment =
        ice_fragment(&credentials, &candidates, &[(Kind::Audio, "0"), (Kind::Video, "1")]);
    assert_eq!(
        fragment,
        "a=ice-lite\r\na=ice-options:ice2 trickle\r\na=group:BUNDLE 0 1\r\nm=audio 9 RTP/AVP 0\r\n\
         a=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\n\
         a=candidate:1 1 udp 2130706431 203.0.113.7 8189 typ host\r\na=end-of-candidates\r\n"
    );
}

/// Changed offers of OBS (two sections, session-level fingerprint) and what is said of each.
#[test]
fn each_refusal_says_what_is_missing() {
    let obs = offer("obs-32.2.2-whip-h264-offer");
    let fingerprint = obs.lines().find(|line| line.starts_with("a=fingerprint")).expect("one");
    let without = |prefix: &str| -> String {
        obs.split_inclusive('\n').filter(|line| !line.starts_with(prefix)).collect()
    };
    let sha1 = format!("a=fingerprint:sha-1 {}", &"AB:".repeat(20)[..59]);
    let data_only = format!(
        "{}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n",
        obs.split("m=audio").next().expect("a session part")
    );
    let cases = [
        (without("a=fingerprint"), "no a=fingerprint"),
        (without("a=ice-ufrag"), "no a=ice-ufrag"),
        (without("a=ice-pwd"), "no a=ice-pwd"),
        (without("a=rtcp-mux"), "no a=rtcp-mux"),
        (without("a=group:BUNDLE"), "one BUNDLE group"),
        (obs.replace(fingerprint, &sha1), "sha-256, sha-384 or sha-512"),
        (obs.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "is RTP/AVP, this server needs"),
        (obs.replace("a=setup:actpass", "a=setup:holdconn"), "none of actpass"),
        (obs.replace("t=0 0", "t=0 0\r\na=ice-lite"), "a=ice-lite"),
        (obs.replace("a=sendonly", "a=recvonly"), "is recvonly: a publisher sends"),
        (obs.replace("a=sendonly", "a=inactive"), "is inactive: a publisher sends"),
        (obs.replace("m=audio 9", "m=audio 0").replace("m=video 9", "m=video 0"), "has port 0"),
        (obs.replace("BUNDLE 0 1", "BUNDLE 7"), "is not in its BUNDLE group"),
        (obs.replace("96", "111"), "stands for two things"),
        (data_only, "neither audio nor video"),
    ];
    for (offer, why) in cases {
        let refusal = publish(&offer).expect_err(why);
        let text = refusal.to_string();
        assert!(matches!(refusal, AnswerError::Unservable(_)), "{why}: {text}");
        assert!(text.contains(why), "{why}: {text}");
    }
    let unknown = publish(&obs.replace("opus", "PCMU").replace("H264", "MPV")).expect_err("codec");
    assert!(matches!(unknown, AnswerError::NoCommonCodec { .. }));
    assert!(unknown.to_string().contains("PCMU, MPV, this server forwards H264"), "{unknown}");
    for bad in [
        String::new(),
        obs.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 Z"),
        obs.replace("a=ice-pwd:", "a=ice-pwd::"),
        obs.replace("a=mid:1", "a=mid:0"),
    ] {
        let refusal = publish(&bad).expect_err("malformed");
        assert!(matches!(refusal, AnswerError::Malformed(_)), "{refusal}");
    }
    assert!(view(&obs, &[]).expect_err("sendonly").to_string().contains("a viewer receives"));
}

/// The same offer with harmless changes: served, and the strict reader agrees.
#[test]
fn odd_but_legal_offers_are_served() {
    let obs = offer("obs-32.2.2-whip-h264-offer");
    let chromium = offer("chromium-156-whip-h264-simulcast3-offer");
    let data =
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n";
    let second = obs.split("m=video").nth(1).expect("a video section").replace("mid:1", "mid:2");
    let cases = [
        (obs.replace("\r\n", "\n"), 2),
        (obs.replace("a=sendonly", "a=sendrecv"), 2),
        (obs.replacen("a=sendonly\r\n", "", 1), 2),
        (obs.replacen("a=sendonly", "a=inactive", 1), 1),
        (obs.replacen("m=audio 9", "m=audio 0", 1), 1),
        (obs.replacen("a=rtpmap:111 opus", "a=rtpmap:111 L16", 1), 1),
        (obs.replace("BUNDLE 0 1", "BUNDLE 1"), 1),
        (obs.replace("BUNDLE 0 1", "BUNDLE 2 0 1") + data, 2),
        (obs.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + "m=video" + &second, 2),
        (obs.replace("a=setup:actpass\r\n", ""), 2),
        (obs.replace("minptime=10", "minptime=1000"), 2),
        (obs.replace("minptime=10", "minptime=\"10\""), 2),
        (obs.replace("=42e01f", "=42 e01f"), 1),
        (obs.replace("=42e01f;", "=42e01f;profile-level-id=640c1f;"), 2),
        (
            obs.replace("m=audio 9", "m=audio 0").replacen(
                "a=mid:0",
                "a=bundle-only\r\na=mid:0",
                1,
            ),
            2,
        ),
        (chromium.replace("send q;h;f", "send ~q;h,x;f"), 2),
        (chromium.replace("a=rid:h send", "a=rid:h send pt=99"), 2),
        (chromium.replace("a=rid:q send", "a=rid:q send pt=108,99;max-width=320"), 2),
    ];
    for (offer, sections) in cases {
        let (agreement, answer) = publish(&offer).expect("an odd offer is served");
        assert_eq!(agreement.media.len(), sections, "{offer}");
        assert_eq!(check::check(&offer, &answer), Ok(()), "{offer}");
    }
}
