//! An engine with a publisher and its viewers, all connected, without a network between.

use crate::sessions::{
    PUBLISHER_SSRC, Rtp, Waiting, client, payload_type, prepare, publisher, settings, ssrc, viewer,
};
use millrace::engine::{Engine, Input};
use millrace::media::arena::{Path, SendArena};
use millrace::media::codec::Kind;
use millrace::media::time::Epoch;
use millrace::peer::identity::Identity;
use millrace::peer::testing::{ClientOptions, TestClient};
use std::sync::Arc;
use std::time::Duration;

/// The first client publishes, the others watch.
pub(crate) struct Audience {
    pub(crate) engine: Engine,
    pub(crate) arena: SendArena,
    publisher: TestClient,
    sequences: [u16; 2],
}

/// The start of a fragmented IDR slice (RFC 6184 §5.8).
const IDR_START: &[u8; 3] = b"\x7c\x85\x88";
/// The middle of a slice of another picture.
const SLICE_MIDDLE: &[u8; 3] = b"\x5c\x01\x9a";

impl Audience {
    /// Connects clients at these addresses.
    pub(crate) fn new(paths: &[Path], epoch: Epoch) -> Self {
        let now = epoch.instant;
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let waiting = Waiting::default();
        let mut settings = settings();
        // Clients that have connected send no more checks.
        settings.timeouts.consent = Duration::from_hours(1);
        let mut engine = Engine::new(settings, identity, epoch, Box::new(waiting.clone()));
        let mut arena = SendArena::new(1 << 20);
        let mut clients = Vec::with_capacity(paths.len());
        for (number, &path) in paths.iter().enumerate() {
            let mut peer = client(number, ClientOptions::default());
            let agreement = match number {
                0 => publisher(&peer, false),
                _ => viewer(&peer, number, false),
            };
            waiting.add(prepare(number, agreement, "lot-42", now));
            connect(&mut peer, path, &mut engine, &mut arena, epoch);
            clients.push(peer);
        }
        assert_eq!(engine.sessions(), paths.len());
        let publisher = clients.swap_remove(0);
        Self { engine, arena, publisher, sequences: [0; 2] }
    }

    /// The publisher's next packet, sealed.
    pub(crate) fn datagram(
        &mut self,
        kind: Kind,
        payload_bytes: usize,
        timestamp: u32,
        (marker, keyframe): (bool, bool),
    ) -> Vec<u8> {
        let mut payload = vec![0xa5; payload_bytes.max(3)];
        if kind == Kind::Video {
            payload[..3].copy_from_slice(if keyframe { IDR_START } else { SLICE_MIDDLE });
        }
        let sequence = &mut self.sequences[kind.index()];
        *sequence = sequence.wrapping_add(1);
        let header = Rtp {
            payload_type: payload_type(kind),
            marker,
            sequence: *sequence,
            timestamp,
            ssrc: ssrc(PUBLISHER_SSRC, kind),
        };
        self.publisher.seal(&header.packet(&[&payload]))
    }
}

/// Checks and the handshake.
fn connect(
    peer: &mut TestClient,
    path: Path,
    engine: &mut Engine,
    arena: &mut SendArena,
    epoch: Epoch,
) {
    let now = epoch.instant;
    let mut datagrams = vec![peer.check(true)];
    while !datagrams.is_empty() {
        for mut bytes in datagrams.drain(..) {
            engine.handle(Input::Datagram { path, bytes: &mut bytes }, now, arena);
        }
        for (_, answer) in arena.datagrams() {
            peer.handle(answer, now);
        }
        arena.clear();
        if peer.checks_answered == 1 && !peer.is_connected() {
            peer.start(now);
        }
        datagrams.extend(std::iter::from_fn(|| peer.poll()));
    }
    assert!(peer.is_connected(), "{:?}", peer.error);
}
