//! One function per parser, of bytes that anybody may have sent.
//!
//! A target fails by panicking: because the parser does, or because what it says of the bytes
//! cannot be true.

use crate::{engines, frames, handshake, rtmp, sdp_check, sessions, source};
use millrace::codec;
use millrace::codec::dependency::{self, Dependency};
use millrace::codec::descriptor::Descriptor;
use millrace::codec::joined;
use millrace::egress::http::presentation::names;
use millrace::ingest::srt::mpegts::Demuxer;
use millrace::ingest::srt::stream_id;
use millrace::media::arena::TransportAddress;
use millrace::media::codec::{Codec, Format};
use millrace::media::patch::DependencyMoved;
use millrace::peer::agreement::{Credentials, Fingerprint, HashAlgorithm};
use millrace::peer::binding::{self, Answer};
use millrace::peer::header::RtpHeader;
use millrace::peer::offer::{LocalDescription, answer_publisher, answer_viewer};
use millrace::peer::open::Opener;
use millrace::peer::seal::Sealer;
use millrace::peer::srtp::{MasterKey, SrtpProfile};
use millrace::shard::tcp::framing::{DATAGRAM_MAX, Frames, HEADER, header};
use millrace::transcode::capabilities::Capabilities;
use millrace::transcode::ipc::picture::{Order, Report};
use millrace::transcode::ipc::{Incoming, Message, Wire};
use signaling::hls::query::{parse_directives, parse_token, token_pair};
use signaling::hls::range::{Wanted, parse_range};
use signaling::sdp_fragment::SdpFragment;
use std::ffi::OsString;
use std::fmt::Debug;
use std::time::Instant;

/// A parser under test.
pub(crate) struct Target {
    /// As the parser's file names it, and its folder in the corpus.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Folders of `tests/data` that hold real inputs.
    pub(crate) recordings: &'static [&'static str],
    /// How many mutations `cargo test` makes of it.
    pub(crate) mutations: u64,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run, recordings: &[], mutations: 2_000 }
    }
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { recordings: &["offers"], ..Target::new("sdp_offer", sdp_offer) },
    Target::new("sdp_fragment", sdp_fragment),
    Target::new("hls_query", hls_query),
    Target::new("hls_range", hls_range),
    Target::new("rtp_header", rtp_header),
    Target::new("srtp", srtp),
    Target::new("stun", sessions::stun),
    Target::new("stun_answer", stun_answer),
    Target::new("client_hello", sessions::client_hello),
    Target::new("dtls_record", sessions::dtls_record),
    Target { mutations: 100, ..Target::new("dtls_handshake", handshake::run) },
    Target::new("rtcp", sessions::rtcp),
    Target::new("viewer_rtcp", sessions::viewer_rtcp),
    Target::new("transport_feedback", sessions::transport_feedback),
    Target::new("rtx", sessions::rtx),
    Target::new("publisher", sessions::publisher),
    Target { mutations: 150, ..Target::new("engine", engines::run) },
    Target::new("codec_h264", |bytes| payload(Codec::H264, bytes)),
    Target::new("codec_h265", |bytes| payload(Codec::H265, bytes)),
    Target::new("codec_vp8", |bytes| payload(Codec::Vp8, bytes)),
    Target::new("codec_vp9", |bytes| payload(Codec::Vp9, bytes)),
    Target::new("codec_av1", |bytes| payload(Codec::Av1, bytes)),
    Target::new("codec_descriptor", descriptor),
    Target::new("codec_dependency", dependency),
    Target::new("codec_joined", joins),
    Target::new("codec_opus", |bytes| payload(Codec::Opus, bytes)),
    Target::new("configuration", frames::configuration),
    Target::new("depacketizer", frames::depacketizer),
    Target::new("source", source::source),
    Target::new("packetizer", frames::packetizer),
    Target::new("transcode_ipc", transcode_ipc::<Message>),
    Target::new("transcode_picture", transcode_picture),
    Target::new("transcode_probe", transcode_probe),
    Target::new("b_frames", frames::b_frames),
    Target { recordings: &["mpegts"], mutations: 500, ..Target::new("mpegts", mpegts) },
    Target::new("stream_id", stream_id),
    Target::new("hls_name", hls_name),
    Target::new("timing", frames::timing),
    Target::new("framing", framing),
    Target { mutations: 300, ..Target::new("rtmp_handshake", rtmp::handshake) },
    Target { recordings: &["rtmp"], mutations: 300, ..Target::new("rtmp_chunks", rtmp::chunks) },
    Target { recordings: &["rtmp"], mutations: 500, ..Target::new("rtmp_session", rtmp::session) },
    Target::new("rtmp_amf", rtmp::values),
    Target::new("rtmp_flv", rtmp::tags),
    Target::new("rtmp_address", rtmp::address),
    Target::new("config", config),
];

/// Messages of pictures, in both directions.
fn transcode_picture(bytes: &[u8]) {
    transcode_ipc::<Order>(bytes);
    transcode_ipc::<Report>(bytes);
}

/// What comes out is written as it came in; what makes no sense ends it for good.
fn transcode_ipc<M: Wire + Debug + PartialEq>(bytes: &[u8]) {
    let mut incoming = Incoming::<M>::default();
    let mut written = Vec::new();
    for piece in bytes.chunks(7) {
        incoming.feed(piece);
        loop {
            match incoming.take_next() {
                Ok(None) => break,
                Ok(Some(message)) => assert!(message.write_to(&mut written)),
                Err(error) => {
                    assert_eq!(incoming.take_next().err(), Some(error));
                    return;
                }
            }
        }
    }
    let mut again = Incoming::<M>::default();
    again.feed(&written);
    let mut twice = Vec::new();
    while let Ok(Some(message)) = again.take_next() {
        assert!(message.write_to(&mut twice));
    }
    assert_eq!(written, twice);
}

/// Whatever a worker prints, what it can do is a list of known words.
fn transcode_probe(bytes: &[u8]) {
    let able = Capabilities::parse(&String::from_utf8_lossy(bytes)).to_string();
    assert!(able.len() < 200, "{able}");
}

/// Whatever is answered, a strict reader accepts.
fn sdp_offer(bytes: &[u8]) {
    let offer = String::from_utf8_lossy(bytes);
    let fingerprint = Fingerprint { algorithm: HashAlgorithm::Sha256, digest: vec![0xab; 32] };
    let [v4, v6] = ["192.0.2.1:8189", "[2001:db8::1]:8189"]
        .map(|address| address.parse().expect("a literal address"));
    let candidates =
        [TransportAddress::udp(v4), TransportAddress::udp(v6), TransportAddress::tcp(v4)];
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

/// A part is of a segment; a token goes on as it came in, in characters that end no URL.
fn hls_query(bytes: &[u8]) {
    let query = String::from_utf8_lossy(bytes);
    if let Ok(directives) = parse_directives(&query) {
        assert!(directives.msn.is_some() || directives.part.is_none());
    }
    if let Ok(Some(token)) = parse_token(&query) {
        let pair = token_pair(&token);
        assert!(pair.bytes().all(|b| b.is_ascii_alphanumeric() || b"=%-._~".contains(&b)));
        assert_eq!(parse_token(&pair), Ok(Some(token)));
    }
}

/// What is given is there.
fn hls_range(bytes: &[u8]) {
    let header = String::from_utf8_lossy(bytes);
    for len in [0, 1, 10, usize::MAX] {
        if let Wanted::Part(range) = parse_range(&header, len) {
            assert!(range.start < range.end && range.end <= len, "{header} of {len}");
        }
    }
}

fn sdp_fragment(bytes: &[u8]) {
    if let Ok(fragment) = SdpFragment::parse(&String::from_utf8_lossy(bytes)) {
        assert!(fragment.candidates.len() <= 100 && fragment.mids.len() <= 32);
    }
}

/// Whatever is taken for an answer has the question's number, and names a host.
fn stun_answer(bytes: &[u8]) {
    let number = bytes.get(8..20).and_then(|number| number.try_into().ok()).unwrap_or([0; 12]);
    if let Some(Answer::Seen(seen)) = binding::read_answer(bytes, number) {
        assert!(!seen.ip().is_unspecified() && seen.port() != 0);
    }
    assert_eq!(binding::read_answer(bytes, number.map(|byte| !byte)), None);
}

fn rtp_header(bytes: &[u8]) {
    let Some(header) = RtpHeader::read(bytes) else { return };
    assert!(header.len <= bytes.len());
    let _ = header.payload(bytes);
    for id in [0, 1, 5, 14, 15, 16, 255] {
        let _ = header.extension(bytes, id);
    }
}

/// What comes out fits into what came in, and is the same however that is cut into messages: but
/// for garbage, where a packet that ends a message is taken for one on its own word.
fn mpegts(bytes: &[u8]) {
    let read = |message: usize| {
        let mut demuxer = Demuxer::default();
        let (mut frames, now) = (Vec::new(), Instant::now());
        for part in bytes.chunks(message) {
            demuxer.push(part, now, &mut frames);
        }
        let written: Vec<_> =
            frames.into_iter().map(|it| (it.coding, it.decode_ticks, it.data)).collect();
        (written, demuxer.take_unused(), demuxer.damage())
    };
    let (frames, unused, damage) = read(1316);
    let out: usize = frames.iter().map(|(_, _, data)| data.len()).sum();
    // A length takes a byte more than a start code may; LATM is shifted, not copied.
    assert!(out <= 2 * bytes.len(), "{out} bytes of {}", bytes.len());
    assert!(damage.skipped_bytes <= bytes.len() as u64);
    let cut = read(7);
    if damage.skipped_bytes == 0 && cut.2.skipped_bytes == 0 {
        assert_eq!(cut, (frames, unused, damage));
    }
}

/// A file has one name.
fn hls_name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(name) = names::read(&text) {
        assert_eq!(names::write(name), text);
    }
}

fn stream_id(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(wanted) = stream_id::parse(&text) {
        assert!(!wanted.stream.is_empty());
        assert!(text.contains(wanted.stream) && text.contains(wanted.token));
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

/// However a stream is cut into pieces, the same datagrams come out, and they are its bytes.
fn framing(bytes: &[u8]) {
    let read = |piece_max: usize| {
        let (mut frames, mut stream, mut datagrams) = (Frames::default(), bytes.to_vec(), 0);
        let mut again = Vec::new();
        let mut pieces = stream.chunks_mut(piece_max.max(1));
        let ends_well = pieces.all(|piece| {
            let read = frames.read(piece, |datagram| {
                assert!((1..=DATAGRAM_MAX).contains(&datagram.len()));
                again.extend(header(datagram.len()));
                again.extend_from_slice(datagram);
                datagrams += 1;
            });
            read.is_ok()
        });
        assert!(again.len() >= datagrams * (HEADER + 1) && again.len() <= bytes.len());
        (ends_well, again)
    };
    let whole = read(bytes.len());
    for piece_max in [1, 2, 3, 7, 100] {
        assert_eq!(read(piece_max), whole, "in pieces of {piece_max}");
    }
}

fn payload(codec: Codec, bytes: &[u8]) {
    let starts = codec::is_keyframe(codec, bytes);
    let _ = codec::carries_parameters(codec, bytes);
    if let Some((width, height)) = codec::sizes(codec, bytes).largest() {
        assert!(width > 0 && height > 0);
    }
    assert!(!starts || !bytes.is_empty(), "a keyframe of nothing");
}

/// What is said to stand somewhere stands there.
fn descriptor(bytes: &[u8]) {
    for codec in [Codec::Vp8, Codec::Vp9] {
        let Some(read) = Descriptor::read(codec, bytes) else { continue };
        assert!(usize::from(read.len) <= bytes.len() && read.spatial < 8 && read.temporal < 8);
        if let Some(id) = read.picture_id {
            assert!(id.value <= id.mask() && usize::from(id.at) + 1 < Descriptor::NUMBERS_MAX);
            let first = bytes[usize::from(id.at)];
            assert_eq!(first & 0x80 != 0, id.is_long);
        }
        if let Some(index) = read.base_index {
            assert_eq!(bytes[usize::from(index.at)], index.value);
            assert!(usize::from(index.at) < Descriptor::NUMBERS_MAX);
        }
    }
}

/// Values of an extension, each with its length before it: layers stay within their bounds.
/// Spatial layers that are joined say the same of each frame but for that, and once is enough.
fn joins(bytes: &[u8]) {
    let mut payload = bytes.to_vec();
    joined::join_vp9(&mut payload);
    let [before, after] = [bytes, &payload].map(|it| Descriptor::read(Codec::Vp9, it));
    assert_eq!(before, after);
    let Some(whole) = joined::joined(bytes) else { return };
    assert!(whole.len() <= 255);
    assert_eq!(joined::joined(&whole), None);
    let (mut before, mut after) = (None, None);
    let read = [Dependency::read(bytes, &mut before), Dependency::read(&whole, &mut after)];
    // What is cut short may go on with the zeros that fill it up.
    assert!(read[0].is_none() || (read[0] == read[1] && before == after));
}

/// Numbers that are moved, and moved back, are what they were, and so is all else.
fn numbers_move_back(value: &[u8]) {
    let (frame, template) = (0xabcd_u16, 23_u8);
    let mut there = value.to_vec();
    for by in [(frame, template), (frame.wrapping_neg(), 64 - template)] {
        let (frame, template) = by;
        let head = dependency::moved(&there, DependencyMoved { frame, template });
        let len = head.len().min(there.len());
        there[..len].copy_from_slice(&head[..len]);
        let [read, was] = [there.as_slice(), value].map(dependency::Numbers::read);
        assert_eq!(read.is_some(), was.is_some());
    }
    assert!(value.len() < 3 || there == value);
}

fn dependency(mut bytes: &[u8]) {
    let mut known = None;
    while let Some((&len, rest)) = bytes.split_first() {
        let (value, tail) = rest.split_at(rest.len().min(usize::from(len)));
        bytes = tail;
        numbers_move_back(value);
        let Some(read) = Dependency::read(value, &mut known) else { continue };
        let (spatial, temporal) = known.as_ref().expect("or nothing is known").highest();
        assert!(read.spatial <= spatial && read.temporal <= temporal);
        assert!(spatial < 4 && temporal < 8);
        assert!(read.opens.is_none_or(|opens| (read.temporal..=temporal).contains(&opens)));
    }
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
