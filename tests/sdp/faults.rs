//! That the strict reader finds what is wrong with an answer: each of its rules is broken once, and
//! no line of a golden answer can be left out or said twice.

use super::{answer, check, offer, offers};

/// An offer, what stands in its answer, what is put there instead, and what the reader says.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const CHROMIUM: &str = "chromium-156-whep-offer";
const SIMULCAST: &str = "chromium-156-whip-h264-simulcast3-offer";
const OBS: &str = "obs-32.2.2-whip-h264-simulcast3-offer";
const FFMPEG: &str = "ffmpeg-9.0.2-whip-h264-opus-offer";
const ACTIVE: &str = "ffmpeg-9.0.2-whip-h264-videoonly-dtlsactive-offer";
const BUNDLE_ONLY: &str = "gst-1.28.8-whipclientsink-0.15.4-offer";
const PION: &str = "pion-4.2.1-whep-offer";

const LAYERS: &str = "a=rid:0 recv\r\na=rid:1 recv\r\na=rid:2 recv\r\na=simulcast:recv 0;1;2\r\n";
const BUNDLED: &str = "a=group:BUNDLE 0 1\r\n";

/// RFC 8866.
const LINES: [Fault; 22] = [
    (OBS, "o=- ", "o=-\t", "is no line"),
    (OBS, "\r\n", "\n", "the last line has no end"),
    (OBS, "s=-", "s= ", "has a space too many"),
    (OBS, "v=0\r\no=", "o=", "session lines are ost"),
    (OBS, "s=-\r\nt=0 0", "t=0 0\r\ns=-", "session lines are vots"),
    (OBS, "v=0", "v=1", "version 1"),
    (OBS, "s=-", "s=millrace", "session name millrace"),
    (OBS, "t=0 0", "t=1 0", "time 1 0"),
    (OBS, "9223372036854775807", "9223372036854775808", "session id of over 63 bits"),
    (OBS, "775807 1 IN", "775807 x IN", "session version x"),
    (OBS, "IN IP4 127.0.0.1", "IN IP6 127.0.0.1", "is no address"),
    (OBS, "IN IP4 203.0.113.7", "IN IP4 here", "is no address"),
    (OBS, "c=IN IP4 203.0.113.7\r\na=mid:0", "a=mid:0", "section lines are m"),
    (OBS, "m=audio 8189", "m=audio 81890", "port 81890"),
    (OBS, "m=video 8189 UDP/TLS/RTP/SAVPF 96", "m=video 8189 UDP/TLS/RTP/SAVPF", "no format"),
    (OBS, "a=mid:0\r\n", "a=mid:0\r\na=tool:x\r\n", "a=tool does not belong here"),
    (OBS, "a=ice-lite", "a=ice-lite\r\na=setup:passive", "a=setup does not belong here"),
    (OBS, "a=mid:1", "a=mid:1\r\na=bundle-only", "a=bundle-only does not belong here"),
    (BUNDLE_ONLY, "a=rtcp-mux", "a=rtcp-mux-only", "a=rtcp-mux-only does not belong here"),
    (OBS, "a=rtcp-mux", "a=rtcp-mux:yes", "a=rtcp-mux with the value"),
    (OBS, "a=mid:1", "a=mid:", "a=mid with the value"),
    (OBS, "a=mid:1", "a=mid:1\r\na=setup:passive", "a=setup stands twice"),
];

/// RFC 3264, RFC 9429, RFC 9143.
const SECTIONS: [Fault; 23] = [
    (OBS, "8189 UDP", "0 UDP", "nothing is accepted"),
    (OBS, "m=audio 8189", "m=video 8189", "another medium"),
    (OBS, "m=video 8189 UDP/TLS/RTP/SAVPF", "m=video 8189 RTP/SAVPF", "another protocol"),
    (OBS, "a=mid:0", "a=mid:7", "another mid"),
    (OBS, "a=mid:0", "a=mid:1", "mid 1 stands twice"),
    (OBS, "SAVPF 111", "SAVPF 111 63", "format 63 not offered"),
    (OBS, "m=video 8189", "m=video 0", "refused with a="),
    (OBS, "BUNDLE 0 1", "BUNDLE 0", "is not the accepted sections"),
    (OBS, "BUNDLE 0 1", "BUNDLE 0 1 2", "a mid outside the offered group"),
    (OBS, "BUNDLE 0 1", "LS 0 1", "a group of another kind"),
    (OBS, "a=group:BUNDLE 0 1\r\n", "", "the BUNDLE group is lost"),
    (BUNDLE_ONLY, "BUNDLE video0 audio1", "BUNDLE audio1 video0", "was offered as bundle-only"),
    (OBS, "m=video 8189", "m=video 9", "another port within the group"),
    (OBS, "203.0.113.7\r\na=mid:1", "10.0.0.7\r\na=mid:1", "another address within the group"),
    (CHROMIUM, "a=sendonly", "a=recvonly", "recvonly in answer to recvonly"),
    (SIMULCAST, "a=recvonly", "a=sendonly", "sendonly in answer to sendonly"),
    (OBS, "a=recvonly", "a=inactive", "inactive in answer to sendonly"),
    (OBS, "a=recvonly\r\na=rtcp-mux", "a=rtcp-mux", "0 directions"),
    (OBS, "a=recvonly", "a=recvonly\r\na=sendonly", "2 directions"),
    (CHROMIUM, "a=msid:lot-42 audio", "a=msid:lot-42", "bad msid"),
    (CHROMIUM, "a=msid:lot-42 audio", "a=msid:lot-43 audio", "stream lot-42 differs"),
    (OBS, "a=mid:0", "a=msid:a b\r\na=mid:0", "sources of a receiver"),
    (OBS, "a=extmap:1 urn", "a=extmap:3 urn", "was not offered so"),
];

/// RFC 8839, RFC 8445, RFC 8842, RFC 8122, RFC 5761.
const TRANSPORT: [Fault; 28] = [
    (OBS, "\r\na=ice-lite", "", "no a=ice-lite"),
    (OBS, "ice2 trickle", "trickle", "no ICE option ice2"),
    (OBS, "ice2 trickle", "ice2 renomination", "was not offered"),
    (FFMPEG, "ice-options:ice2", "ice-options:ice2 trickle", "\"trickle\" was not offered"),
    (OBS, "a=ice-lite", "a=extmap-allow-mixed\r\na=ice-lite", "mixed was not offered"),
    (OBS, "a=rtcp-mux\r\n", "", "no a=rtcp-mux"),
    (OBS, "a=ice-ufrag:mill", "a=ice-ufrag:mil", "bad ICE credentials"),
    (OBS, "ijkl\r\n", "ijk\r\n", "bad ICE credentials"),
    (OBS, "a=mid:1", "a=mid:1\r\na=candidate:9 1 udp 1 1.1.1.1 1 typ host", "bad priority 1"),
    (
        OBS,
        "a=mid:1",
        "a=mid:1\r\na=candidate:9 1 udp 2130705663 1.1.1.1 1 typ host",
        "tagged section",
    ),
    (OBS, "sha-256 00:01", "sha-256 00:0g", "bad fingerprint"),
    (OBS, "sha-256 00:01", "sha-256 00", "bad fingerprint"),
    (OBS, "sha-256", "sha-1", "bad fingerprint"),
    (OBS, "setup:passive", "setup:actpass", "in answer to actpass"),
    (OBS, "setup:passive", "setup:holdconn", "in answer to actpass"),
    (FFMPEG, "setup:active", "setup:passive", "in answer to passive"),
    (ACTIVE, "setup:passive", "setup:active", "in answer to active"),
    (OBS, "typ host", "typ relay", "is no host candidate"),
    (OBS, "1 1 udp", "1 2 udp", "is no host candidate"),
    (OBS, "1 1 udp", "1 1 sctp", "is no candidate of a server"),
    (OBS, "1 1 udp 2130706431", "1 1 udp 1", "bad priority 1"),
    (OBS, "2130706175", "2130706431", "bad priority 2130706431"),
    (OBS, "candidate:2 ", "candidate:1 ", "foundation 1 of 10.0.0.7"),
    (OBS, "candidate:2 ", "candidate:- ", "bad foundation"),
    (OBS, "10.0.0.7 8189 typ", "10.0.0.7 0 typ", "bad port 0"),
    (OBS, "10.0.0.7 8189 typ", "host.local 8189 typ", "bad address"),
    (OBS, "3.7 8189 typ", "3.8 8189 typ", "c= is not the first candidate"),
    (OBS, "3.7 8189 typ", "3.7 8190 typ", "the port is not the first candidate's"),
];

/// RFC 3264, RFC 4585, RFC 4588, RFC 5761, RFC 6184, RFC 7587.
const FORMATS: [Fault; 22] = [
    (CHROMIUM, "apt=98", "apt=97", "rtx of rtx"),
    (CHROMIUM, "a=rtpmap:96 VP8", "a=rtpmap:96 VP9", "96 is VP9/90000, not VP8/90000"),
    (CHROMIUM, "SAVPF 111\r\n", "SAVPF 111 9\r\n", "no single a=rtpmap of 9"),
    (CHROMIUM, "SAVPF 111\r\n", "SAVPF 111 111\r\n", "format 111 stands twice"),
    (CHROMIUM, "apt=96", "apt=98", "apt of 97 is 98"),
    (CHROMIUM, "SAVPF 96 97", "SAVPF 97", "which is not agreed"),
    (CHROMIUM, "a=rtcp-fb:96 nack\r\n", "", "rtx of 96 without nack"),
    (CHROMIUM, "SAVPF 96 97", "SAVPF 96", "a=rtpmap of 97, not in m="),
    (CHROMIUM, "SAVPF 111\r\n", "SAVPF 111 8\r\na=rtpmap:8 PCMA/8000\r\n", "section lines"),
    (CHROMIUM, "profile-level-id=42e01f", "profile-level-id=64001f", "profile-level-id of 108"),
    (CHROMIUM, "packetization-mode=1;", "", "packetization-mode of 102 differs"),
    (CHROMIUM, "level-asymmetry-allowed=1;", "level-asymmetry-allowed=0;", "is 0, not"),
    (OBS, "fmtp:96 profile", "fmtp:96 max-fr=30;profile", "max-fr of 96 is 30, not None"),
    (OBS, ";packetization", "; packetization", "parameter \" packetization"),
    (OBS, "minptime=10;", "minptime=10;;", "parameter \"\""),
    (OBS, "minptime=10;", "minptime=10;minptime=10;", "minptime of 111 stands twice"),
    (OBS, "stereo=1", "stereo=2", "parameter \"stereo=2\""),
    (OBS, "stereo=1", "channels=2", "parameter channels of Opus"),
    (OBS, ";stereo=1", ";sprop-stereo=1", "of one who sends nothing"),
    (OBS, "a=fmtp:96 ", "a=fmtp:96 tier=1\r\na=fmtp:96 ", "two a=fmtp of 96"),
    (CHROMIUM, "a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack", "was not offered"),
    (FFMPEG, "a=mid:0", "a=rtcp-rsize\r\na=mid:0", "rtcp-rsize was not offered"),
];

/// RFC 8285, RFC 8851, RFC 8853, RFC 5576.
const EXTENSIONS: [Fault; 26] = [
    (CHROMIUM, "extmap:4 ", "extmap:5 ", "was not offered so"),
    (CHROMIUM, "extmap:4 ", "extmap:15 ", "extension id 15"),
    (CHROMIUM, "extmap:4 ", "extmap:0 ", "extension id 0"),
    (CHROMIUM, "extmap:4 ", "extmap:3 ", "extension id 3 stands twice"),
    (CHROMIUM, "extmap:4 ", "extmap:4/sendrecv ", "was not offered so"),
    (OBS, "a=mid:0", "a=extmap-allow-mixed\r\na=mid:0", "a=extmap-allow-mixed was not offered"),
    (OBS, "a=rid:0 recv", "a=rid:0 send", "rid 0 send not received"),
    (OBS, "a=rid:0 recv", "a=rid:9 recv", "rid 9 was not offered"),
    (OBS, "a=rid:0 recv", "a=rid:0 recv max-width=9", "restriction max-width=9 of rid 0"),
    (OBS, "a=rid:0 recv", "a=rid:0 recv pt=97", "restriction pt=97 of rid 0"),
    (OBS, "a=rid:2 recv\r\n", "", "a=simulcast and a=rid disagree"),
    (OBS, "a=simulcast:recv 0;1;2\r\n", "", "a=simulcast and a=rid disagree"),
    (OBS, "recv 0;1;2", "recv 0;1", "a=simulcast and a=rid disagree"),
    (OBS, "recv 0;1;2", "recv 0;2;1", "a=simulcast and a=rid disagree"),
    (OBS, "a=rid:2 recv\r\na=simulcast:recv 0;1;2", "a=simulcast:recv 0;1", "layer 2 is not"),
    (OBS, "recv 0;1;2", "send 0;1;2", "simulcast is not received"),
    (OBS, LAYERS, "", "layer 0 is not accepted"),
    (OBS, "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n", "", "that names them"),
    (CHROMIUM, "a=ssrc:2002 cname:millrace\r\n", "", "1 a=ssrc lines"),
    (CHROMIUM, "FID 2001 2002", "FID 2002 2001", "bad a=ssrc-group"),
    (CHROMIUM, "a=ssrc-group:FID 2001 2002\r\n", "", "bad a=ssrc-group"),
    (CHROMIUM, "FID 2001 2002", "FEC-FR 2001 2002", "bad a=ssrc-group"),
    (CHROMIUM, "a=ssrc:1001 cname", "a=ssrc:x cname", "bad SSRC x"),
    (CHROMIUM, "a=ssrc:1001 cname:millrace", "a=ssrc:1001 label:x", "an SSRC without cname"),
    (CHROMIUM, "1001 cname:millrace", "1001 cname:other", "cname cname:millrace differs"),
    (CHROMIUM, "2002", "1001", "ssrc 1001 stands in two sections"),
];

/// What one section says and the next does not.
const ONLY_FIRST: [Fault; 8] = [
    (OBS, "a=ice-ufrag:mill", "a=ice-ufrag:milk", "a=ice-ufrag differs within the group"),
    (OBS, "0123456789", "0123456780", "a=ice-pwd differs within the group"),
    (OBS, "00:01:02", "00:01:03", "a=fingerprint differs within the group"),
    (OBS, "setup:passive", "setup:active", "a=setup differs within the group"),
    (
        OBS,
        "a=candidate:1 1 udp 2130706431 203.0.113.7 8189 typ host\r\n",
        "",
        "c= is not the first",
    ),
    (OBS, "a=end-of-candidates\r\n", "", "bad a=end-of-candidates"),
    (PION, "extmap:4 ", "extmap:1 ", "was not offered so"),
    (SIMULCAST, "a=rtcp-fb:108 transport-cc\r\n", "", "half of transport-cc"),
];

#[test]
fn each_rule_is_broken_and_the_strict_reader_says_which() {
    let everywhere = [&LINES[..], &SECTIONS, &TRANSPORT, &FORMATS, &EXTENSIONS].concat();
    let faults = everywhere.into_iter().map(|fault| (fault, usize::MAX));
    let mut unnoticed = Vec::new();
    for ((name, good, bad, why), times) in faults.chain(ONLY_FIRST.map(|fault| (fault, 1))) {
        let offer = offer(name);
        let answer = answer(name, &offer).expect("a real offer is served");
        let faulty = answer.replacen(good, bad, times);
        assert_ne!(answer, faulty, "{name}: {good:?} is not in the answer");
        let result = check::check(&offer, &faulty);
        if !result.as_ref().is_err_and(|refusal| refusal.contains(why)) {
            unnoticed.push(format!("{name}: {good:?} -> {bad:?}: {why:?}, not {result:?}"));
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// What the first place in an offer and the first in its answer are changed to.
type Change = ((&'static str, &'static str), (&'static str, &'static str));

#[test]
fn an_answer_is_read_against_its_offer() {
    let nothing = ("", "");
    let cases: [(&str, Change, &str); 8] = [
        (ACTIVE, (("a=rtcp-mux\r\n", ""), nothing), "a=rtcp-mux was not offered"),
        (OBS, (("m=audio 9", "m=audio 0"), nothing), "accepts what was not offered"),
        (OBS, ((BUNDLED, ""), nothing), "a BUNDLE group that was not offered"),
        (OBS, ((BUNDLED, ""), (BUNDLED, "")), "several sections without BUNDLE"),
        (OBS, (("send 0;1;2", "send 0;1"), nothing), "was not offered in this place"),
        (OBS, (("VPF 111", "VPF 80"), ("VPF 111", "VPF 80")), "format 80 reads as RTCP"),
        (OBS, (("111 opus", "111 L16"), ("111 opus", "111 L16")), "l16 is not forwarded"),
        (PION, (("extmap:4", "extmap:5"), ("extmap:4", "extmap:5")), "differs within the group"),
    ];
    for (name, (in_offer, in_answer), why) in cases {
        let whole = offer(name);
        let answered = answer(name, &whole).expect("a real offer is served");
        let changed = whole.replacen(in_offer.0, in_offer.1, 1);
        assert_ne!(changed, whole, "{in_offer:?} is not in the offer");
        let answered = answered.replacen(in_answer.0, in_answer.1, 1);
        let refusal = check::check(&changed, &answered).expect_err(why);
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
}

/// Lines that an answer may do without: what they offer is then not used.
fn is_optional(line: &str) -> bool {
    let names = ["a=rtcp-rsize", "a=extmap-allow-mixed"];
    // Of these the rest of the answer says whether they are needed; see above.
    let starts = ["a=rtcp-fb:", "a=extmap:"];
    let another_candidate = line.starts_with("a=candidate:") && !line.contains("candidate:1 ");
    let opus = line.starts_with("a=fmtp:") && (line.contains("stereo=") || line.contains("ptime="));
    names.contains(&line)
        || opus
        || another_candidate
        || starts.iter().any(|start| line.starts_with(start))
}

#[test]
fn no_line_of_an_answer_can_be_left_out_or_said_twice() {
    let mut left_out = 0;
    for (name, offer) in offers() {
        let answer = answer(&name, &offer).expect("a real offer is served");
        let lines: Vec<&str> = answer.split_inclusive("\r\n").collect();
        for (index, line) in lines.iter().enumerate() {
            let [mut shorter, mut longer] = [lines.clone(), lines.clone()];
            shorter.remove(index);
            longer.insert(index, line);
            if !is_optional(line.trim_end()) {
                left_out += 1;
                let result = check::check(&offer, &shorter.concat());
                assert!(result.is_err(), "{name}: {line:?} can be left out");
            }
            let result = check::check(&offer, &longer.concat());
            assert!(result.is_err(), "{name}: {line:?} can be said twice");
        }
    }
    assert!(left_out > 500, "only {left_out} lines");
}

#[test]
fn sections_stay_in_their_order() {
    for (name, offer) in offers() {
        let answer = answer(&name, &offer).expect("a real offer is served");
        let [session, first, second] = answer.split("m=").collect::<Vec<_>>()[..] else {
            continue;
        };
        let turned = format!("{session}m={second}m={first}");
        let refusal = check::check(&offer, &turned).expect_err(&name);
        assert!(refusal.contains("another medium"), "{name}: {refusal}");
        let one_more = format!("{answer}m={second}");
        let refusal = check::check(&offer, &one_more).expect_err(&name);
        assert!(refusal.contains("another number of m= sections"), "{name}: {refusal}");
    }
}

#[test]
fn a_candidate_of_tcp_stands_behind_those_of_udp() {
    let offer = offer(OBS);
    let answer = answer(OBS, &offer).expect("a real offer is served");
    assert_eq!(check::check(&offer, &answer), Ok(()));
    let is_tcp = |line: &&str| line.starts_with("a=candidate:") && line.contains(" tcp ");
    let tcp = answer.lines().find(is_tcp).expect("TCP is served");
    let foundation = tcp.split(' ').next().expect("a first word");
    let first = "a=candidate:1 1 udp";
    for (faulty, why) in [
        (
            answer.replace(&format!("{tcp}\r\n"), "").replace(first, &format!("{tcp}\r\n{first}")),
            "behind one of TCP",
        ),
        (answer.replace(" tcptype passive", ""), "is no candidate of a server"),
        (answer.replace("passive\r\n", "active\r\n"), "is no candidate of a server"),
        (answer.replace(foundation, "a=candidate:1"), "foundation 1 of 203.0.113.7 tcp"),
    ] {
        let refusal = check::check(&offer, &faulty).expect_err(why);
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
}
