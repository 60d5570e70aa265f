//! One function per parser, of bytes that anybody may have sent.
//!
//! A target fails by panicking: because the parser does, or because what it says of the bytes
//! cannot be true.

use crate::{sdp_check, sessions};
use millrace::codec;
use millrace::media::codec::{Codec, Format};
use millrace::peer::agreement::{Credentials, Fingerprint, HashAlgorithm};
use millrace::peer::header::RtpHeader;
use millrace::peer::offer::{LocalDescription, answer_publisher, answer_viewer};
use millrace::peer::open::Opener;
use millrace::peer::seal::Sealer;
use millrace::peer::srtp::{MasterKey, SrtpProfile};
use signaling::sdp_fragment::SdpFragment;
use std::ffi::OsString;

/// A parser under test.
pub(crate) struct Target {
    /// As the parser's file names it, and its folder in the corpus.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Folders of `tests/data` that hold real inputs.
    pub(crate) recordings: &'static [&'static str],
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "sdp_offer", run: sdp_offer, recordings: &["offers"] },
    Target { name: "sdp_fragment", run: sdp_fragment, recordings: &[] },
    Target { name: "rtp_header", run: rtp_header, recordings: &[] },
    Target { name: "srtp", run: srtp, recordings: &[] },
    Target { name: "stun", run: sessions::stun, recordings: &[] },
    Target { name: "client_hello", run: sessions::client_hello, recordings: &[] },
    Target { name: "dtls_record", run: sessions::dtls_record, recordings: &[] },
    Target { name: "rtcp", run: sessions::rtcp, recordings: &[] },
    Target { name: "viewer_rtcp", run: sessions::viewer_rtcp, recordings: &[] },
    Target { name: "rtx", run: sessions::rtx, recordings: &[] },
    Target { name: "publisher", run: sessions::publisher, recordings: &[] },
    Target { name: "codec_h264", run: |bytes| payload(Codec::H264, bytes), recordings: &[] },
    Target { name: "codec_h265", run: |bytes| payload(Codec::H265, bytes), recordings: &[] },
    Target { name: "codec_vp8", run: |bytes| payload(Codec::Vp8, bytes), recordings: &[] },
    Target { name: "codec_vp9", run: |bytes| payload(Codec::Vp9, bytes), recordings: &[] },
    Target { name: "codec_av1", run: |bytes| payload(Codec::Av1, bytes), recordings: &[] },
    Target { name: "codec_opus", run: |bytes| payload(Codec::Opus, bytes), recordings: &[] },
    Target { name: "config", run: config, recordings: &[] },
];

/// Whatever is answered, a strict reader accepts.
fn sdp_offer(bytes: &[u8]) {
    let offer = String::from_utf8_lossy(bytes);
    let fingerprint = Fingerprint { algorithm: HashAlgorithm::Sha256, digest: vec![0xab; 32] };
    let candidates = ["192.0.2.1:8189", "[2001:db8::1]:8189"]
        .map(|address| address.parse().expect("a literal address"));
    let local = LocalDescription {
        credentials: Credentials { ufrag: "mill".to_owned(), pwd: "p".repeat(24) },
        fingerprint: &fingerprint,
        candidates: &candidates,
        session_id: 42,
        ssrcs: [11, 12, 21, 22],
        cname: "millrace",
        stream_id: "a/b",
    };
    let live = [Format { codec: Codec::Opus, parameters: String::new() }];
    let answers = [
        answer_publisher(&offer, &[Codec::H264], &local).map(|(_, answer)| answer),
        answer_viewer(&offer, &[], &local).map(|(_, answer)| answer),
        answer_viewer(&offer, &live, &local).map(|(_, answer)| answer),
    ];
    for answer in answers {
        match answer {
            Ok(answer) => assert_eq!(sdp_check::check(&offer, &answer), Ok(()), "{answer}"),
            Err(refusal) => assert!(refusal.to_string().len() < 4_096, "a long refusal"),
        }
    }
}

fn sdp_fragment(bytes: &[u8]) {
    if let Ok(fragment) = SdpFragment::parse(&String::from_utf8_lossy(bytes)) {
        assert!(fragment.candidates.len() <= 100 && fragment.mids.len() <= 32);
    }
}

fn rtp_header(bytes: &[u8]) {
    let Some(header) = RtpHeader::read(bytes) else { return };
    assert!(header.len <= bytes.len());
    let _ = header.payload(bytes);
    for id in [0, 1, 5, 14, 15, 16, 255] {
        let _ = header.extension(bytes, id);
    }
}

/// Strangers' packets do not open; what is sealed with the keys does, to the same bytes.
fn srtp(bytes: &[u8]) {
    for (profile, salt) in
        [(SrtpProfile::AeadAes128Gcm, &[7; 12][..]), (SrtpProfile::Aes128CmHmacSha1_80, &[7; 14])]
    {
        let key = MasterKey::new(profile, &[9; 16], salt).expect("the lengths fit");
        let mut opener = Opener::new(&key);
        assert!(opener.open(&mut bytes.to_vec()).is_none());
        assert!(opener.open_rtcp(&mut bytes.to_vec()).is_none());
        let mut sealed = vec![0; bytes.len() + Sealer::RTCP_OVERHEAD_MAX];
        if let Some(len) = Sealer::new(&key).seal_rtcp(bytes, &mut sealed) {
            let opened = opener.open_rtcp(&mut sealed[..len]);
            assert_eq!(opened, Some(bytes), "what we seal, we open");
        }
    }
}

fn payload(codec: Codec, bytes: &[u8]) {
    let starts = codec::is_keyframe(codec, bytes);
    let _ = codec::carries_parameters(codec, bytes);
    if let Some((width, height)) = codec::dimensions(codec, bytes) {
        assert!(width > 0 && height > 0);
    }
    assert!(!starts || !bytes.is_empty(), "a keyframe of nothing");
}

/// The operator's words are not hostile, but a slip of the pen must get an error, not a panic.
fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let environment = text.lines().take(16).map(|line| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (OsString::from(format!("MILLRACE_{key}")), OsString::from(value))
    });
    if let Err(error) = millrace::config::load([OsString::from("millrace")], environment) {
        assert!(!error.to_string().is_empty());
    }
}
