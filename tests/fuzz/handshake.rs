//! A client with sound ICE and hostile DTLS: real handshakes with single datagrams changed.
//!
//! Each changed datagram is followed by the genuine one, so that later flights are reached. What
//! a stranger gets the DTLS library to read before it has proven anything is all in here.

use millrace::media::arena::{Path, SendArena};
use millrace::peer::agreement::{Credentials, DtlsRole};
use millrace::peer::identity::Identity;
use millrace::peer::stun::{DatagramKind, classify};
use millrace::peer::testing::{ClientKey, ClientOptions, Profiles, TestClient};
use millrace::peer::transport::{State, Timeouts, Transport};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A handshake has at most three round trips; cookies and losses may add some.
const TURNS_MAX: usize = 12;

static IDENTITY: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate().expect("the crypto library works")));

/// How one datagram is changed: four bytes of input.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// Which of the client's datagrams.
    number: u8,
    /// Where in it.
    at: u8,
    scale: u8,
    value: u8,
}

impl Change {
    fn apply(self, datagram: &mut Vec<u8>) {
        let at = usize::from(self.at) * usize::from(self.scale % 6 + 1) % datagram.len().max(1);
        match self.value {
            0..=15 => datagram.truncate(at),
            16..=31 => datagram.insert(at, self.value),
            value => datagram[at] ^= value,
        }
    }
}

/// The first byte says who is what, the others how the client's datagrams are changed.
pub(crate) fn run(bytes: &[u8]) {
    let _ = connects(bytes);
}

/// Whether the handshake was completed.
fn connects(bytes: &[u8]) -> bool {
    let (&kind, changes) = bytes.split_first().unwrap_or((&0, &[]));
    let changes: Vec<Change> = changes
        .chunks_exact(4)
        .take(32)
        .map(|c| Change { number: c[0] % 16, at: c[1], scale: c[2], value: c[3] })
        .collect();
    let options = ClientOptions {
        server_role: if kind & 1 == 0 { DtlsRole::Server } else { DtlsRole::Client },
        profiles: if kind & 2 == 0 { Profiles::Chromium } else { Profiles::CmOnly },
        key: if kind & 4 == 0 { ClientKey::Ecdsa } else { ClientKey::Rsa },
        mtu: if kind & 8 == 0 { 1_200 } else { 200 },
        ..ClientOptions::default()
    };
    let credentials = Credentials { ufrag: "mill".to_owned(), pwd: "p".repeat(24) };
    let mut client = TestClient::new(options, credentials);
    let mut now = Instant::now();
    let mut transport =
        Transport::new(client.agreement(), Arc::clone(&IDENTITY), Timeouts::default(), now);
    let mut arena = SendArena::new(256 * 1024);
    let remote = "127.0.0.1:50000".parse().expect("a literal address");
    let path = Path::udp(remote, None);
    transport.handle(path, &mut client.check(true), now, &mut arena);
    client.start(now);
    let mut sent = 0;
    for _ in 0..TURNS_MAX {
        now += Duration::from_millis(20);
        let answers: Vec<Vec<u8>> = arena.datagrams().map(|(_, bytes)| bytes.to_vec()).collect();
        arena.clear();
        for answer in &answers {
            client.handle(answer, now);
        }
        while let Some(genuine) = client.poll() {
            if classify(&genuine) != DatagramKind::Dtls {
                continue;
            }
            for change in changes.iter().filter(|change| usize::from(change.number) == sent) {
                let mut changed = genuine.clone();
                change.apply(&mut changed);
                transport.handle(path, &mut changed, now, &mut arena);
            }
            sent += 1;
            transport.handle(path, &mut genuine.clone(), now, &mut arena);
        }
        transport.handle_timeout(now, &mut arena);
    }
    let connected = *transport.state() == State::Connected;
    assert_eq!(connected, transport.sealer().is_some(), "keys and state disagree");
    connected
}

#[test]
fn the_unchanged_handshake_is_completed() {
    for kind in 0..16 {
        assert!(connects(&[kind]), "{kind}");
    }
}
