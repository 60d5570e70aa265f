//! Sessions and their addresses; what other files' tests begin with.

use super::*;
use crate::media::arena::TransportAddress;
use crate::media::codec::{Codec, Kind};
use crate::media::packet::PacketFields;
use crate::media::time::WallTime;
use crate::peer::agreement::{Credentials, ExtensionIds, Feedback, SentMedia, ViewerAgreement};
use crate::peer::testing::{ClientOptions, TestClient};
use command::{Agreement, LayerChoice, Prepared};
use std::net::SocketAddr;

struct Waiting(Vec<Prepared>);

impl Claims for Waiting {
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        let named = |p: &Prepared| p.agreement.transport().local.ufrag == ufrag;
        let at = self.0.iter().position(|p| named(p) && authentic(p))?;
        Some(self.0.remove(at))
    }
}

fn client(number: u8) -> TestClient {
    let server = Credentials { ufrag: format!("viewer{number}"), pwd: "s".repeat(24) };
    TestClient::new(ClientOptions::default(), server)
}

/// A viewer of nothing that waits to be claimed.
pub(super) fn agreement(number: u8, stream: &str) -> Prepared {
    let transport = client(number).agreement();
    let video = SentMedia {
        kind: Kind::Video,
        mid: "0".to_owned(),
        formats: Vec::new(),
        extensions: ExtensionIds::default(),
        feedback: Feedback::default(),
        ssrc: 7,
        rtx_ssrc: None,
    };
    Prepared {
        session: SessionId::from_random([number; 16]),
        stream: StreamName::parse(stream).expect("a name"),
        agreement: Agreement::Viewer(ViewerAgreement { transport, media: vec![video] }),
        random: [number; 16],
        created: Instant::now(),
        choice: LayerChoice::default(),
    }
}

pub(super) fn engine(now: Instant, waiting: Vec<Prepared>) -> Engine {
    let settings = EngineSettings {
        router: RouterSettings::default(),
        timeouts: Timeouts::default(),
        publisher_silence: Duration::from_secs(30),
        grace: Duration::from_secs(30),
        rtx_share: 0.1,
    };
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let epoch = Epoch { instant: now, wall: WallTime::since_unix_epoch(Duration::ZERO) };
    Engine::new(settings, identity, epoch, Box::new(Waiting(waiting)))
}

/// A stream with a packet that waits; `complete` ends its frame.
pub(super) fn stream_with_packet(
    engine: &mut Engine,
    name: &str,
    complete: bool,
    now: Instant,
) -> usize {
    let index = engine.stream_named(&StreamName::parse(name).expect("a name"), now);
    let fields = PacketFields::single(Codec::Vp8, 1, 0, now);
    let fields = PacketFields { marker: complete, keyframe: true, ..fields };
    engine.streams[index].router.push(&Arc::new(fields.with(vec![0; 1_000])));
    engine.waiting.push(index);
    index
}

impl Engine {
    /// A check of that session from that port.
    pub(super) fn check(&mut self, number: u8, port: u16, now: Instant, arena: &mut SendArena) {
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        let bytes = &mut client(number).check(true);
        self.handle(Input::Datagram { path: Path::udp(remote, None), bytes }, now, arena);
    }
}

/// Whoever has a session and can forge addresses could else cut any other client off.
#[test]
fn a_session_that_lives_keeps_its_address() {
    let now = Instant::now();
    let mut engine = engine(now, vec![agreement(1, "a"), agreement(2, "a")]);
    let mut arena = SendArena::new(10_000);
    let address = |port| TransportAddress::udp(SocketAddr::from(([192, 0, 2, 1], port)));
    engine.check(1, 5_000, now, &mut arena);
    engine.check(2, 6_000, now, &mut arena);
    let first = engine.demux.by_address(address(5_000));
    let second = engine.demux.by_address(address(6_000));
    assert!(first.is_some() && second.is_some() && first != second);
    engine.check(2, 5_000, now + Duration::from_secs(1), &mut arena);
    assert_eq!(engine.demux.by_address(address(5_000)), first, "it lives there");
    // A network that gives a silent client's address to another one is believed.
    engine.check(2, 5_000, now + Duration::from_secs(5), &mut arena);
    assert_eq!(engine.demux.by_address(address(5_000)), second);
    // Nor does a session keep what it has left.
    engine.check(1, 7_000, now + Duration::from_secs(5), &mut arena);
    engine.check(1, 6_000, now + Duration::from_secs(6), &mut arena);
    assert_eq!(engine.demux.by_address(address(6_000)), first);
}
