//! What strangers send to the RTMP port, layer by layer.

use bytes::{Bytes, BytesMut};
use millrace::ingest::rtmp::address::Address;
use millrace::ingest::rtmp::amf::{self, Value};
use millrace::ingest::rtmp::chunk::{ChunkReader, Message, kind};
use millrace::ingest::rtmp::flv::Demuxer;
use millrace::ingest::rtmp::session::{Event, Reason, Session};
use millrace::media::codec::Codec;
use millrace::media::frame::{Coding, Frame};
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use std::time::Instant;

/// The handshake of `rml_rtmp`, which strangers' bytes reach: three packets at most are answered.
pub(crate) fn handshake(bytes: &[u8]) {
    let (mut handshake, mut answered) = (Handshake::new(PeerType::Server), 0);
    for piece in bytes.chunks(1000) {
        match handshake.process_bytes(piece) {
            Ok(HandshakeProcessResult::InProgress { response_bytes }) => {
                answered += response_bytes.len();
            }
            Ok(HandshakeProcessResult::Completed { remaining_bytes, .. }) => {
                assert!(remaining_bytes.len() < 1000);
                break;
            }
            Err(_) => break,
        }
        assert!(answered <= 1 + 2 * 1536);
    }
}

/// However the bytes come in pieces, they are the same messages, or the same fault.
pub(crate) fn chunks(bytes: &[u8]) {
    let read = |piece: usize, takes_media| {
        let (mut reader, mut input) = (ChunkReader::default(), BytesMut::new());
        reader.take_media(takes_media);
        let (mut messages, mut fault) = (Vec::new(), None);
        'pieces: for piece in bytes.chunks(piece.max(1)) {
            input.extend_from_slice(piece);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => {
                        fault = Some(error);
                        break 'pieces;
                    }
                }
            }
        }
        (messages, fault)
    };
    let whole = read(bytes.len(), true);
    let carried: usize = whole.0.iter().map(|message| message.payload.len()).sum();
    assert!(carried <= bytes.len(), "more comes out than went in");
    for piece in [1, 5, 100, 4096] {
        assert_eq!(read(piece, true), whole, "in pieces of {piece}");
    }
    let (strangers, _) = read(bytes.len(), false);
    assert!(strangers.iter().all(|it| !matches!(it.kind, kind::AUDIO | kind::VIDEO)));
}

/// What is read is neither deep nor many.
pub(crate) fn values(bytes: &[u8]) {
    fn measure(value: &Value) -> (usize, usize) {
        let inner: Vec<&Value> = match value {
            Value::Object(members) => members.iter().map(|(_, value)| value).collect(),
            Value::List(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        let inner = inner.into_iter().map(measure);
        inner.fold((1, 1), |(depth, count), it| (depth.max(it.0 + 1), count + it.1))
    }
    let Ok(values) = amf::read(bytes) else { return };
    let measured: Vec<(usize, usize)> = values.iter().map(measure).collect();
    assert!(measured.iter().all(|(depth, _)| *depth <= 8));
    assert!(measured.iter().map(|(_, count)| count).sum::<usize>() <= 1024);
}

/// Tags one after the other, each after a byte for its kind and two for its length: whatever comes
/// out is laid out as frames are.
pub(crate) fn tags(bytes: &[u8]) {
    let (mut demuxer, mut rest) = (Demuxer::default(), bytes);
    let arrival = Instant::now();
    while let Some(([kind, len @ ..], after)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (payload, after) = after.split_at(len);
        rest = after;
        let kind = [kind::AUDIO, kind::VIDEO, kind::AGGREGATE][usize::from(kind % 3)];
        let payload = Bytes::copy_from_slice(payload);
        let message = Message { timestamp: len as u32, kind, stream: 1, payload };
        demuxer.read(&message, arrival, |frame| assert_frame(&frame));
        assert!(demuxer.new_others().is_none_or(|others| others.len() <= 16));
    }
}

fn assert_frame(frame: &Frame) {
    assert!(!frame.data.is_empty());
    let mut rest: &[u8] = &frame.data;
    match frame.coding {
        Coding::Video(Codec::H264 | Codec::H265) => {
            while let Some((len, after)) = rest.split_first_chunk::<4>() {
                let len = u32::from_be_bytes(*len) as usize;
                assert!((1..=after.len()).contains(&len), "{frame:?}");
                rest = &after[len..];
            }
            assert!(rest.is_empty(), "{frame:?}");
        }
        Coding::Video(Codec::Av1) => assert!(rest[0] & 2 == 2 && rest[0] >> 3 & 15 != 2),
        _ => {}
    }
}

/// A session whose publishers are let in at times. It answers no more than it can afford.
pub(crate) fn session(bytes: &[u8]) {
    let mut session = Session::default();
    let (mut input, mut lets_in) = (BytesMut::new(), true);
    let mut demuxer = Demuxer::default();
    for piece in bytes.chunks(700) {
        input.extend_from_slice(piece);
        session.note_received(piece.len());
        loop {
            match session.read(&mut input) {
                Ok(Some(Event::Publish(_))) if lets_in => session.accept("go"),
                Ok(Some(Event::Publish(_))) => session.refuse(Reason::BadName, "no"),
                Ok(Some(Event::Media(message))) => {
                    demuxer.read(&message, Instant::now(), |frame| assert_frame(&frame));
                }
                Ok(Some(Event::Unpublish)) => lets_in = !lets_in,
                Ok(None) => break,
                Ok(Some(Event::Close)) | Err(_) => return,
            }
        }
        assert!(session.output().len() <= 2048 + 32 * piece.len());
        assert!(input.len() < 32, "only half a header is left");
    }
}

/// Application and key, divided by the first line's end: a name has no empty part.
pub(crate) fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (application, key) = text.split_once('\n').unwrap_or((&text, ""));
    let Address { stream, token } = Address::parse(application, key);
    assert!(stream.is_empty() || stream.split('/').all(|part| !part.is_empty()), "{stream}");
    assert!(!stream.contains('?') && stream.len() + token.len() <= text.len() * 3);
}
