//! A whole engine with a publisher and viewers that are authentic and hostile: what they seal is
//! the input. Nobody's fault may become the engine's, and what must always hold does.

use crate::sessions::media;
use millrace::engine::command::{Agreement, Claims, Command, EndReason, LayerChoice, Prepared};
use millrace::engine::{Engine, EngineSettings, Input};
use millrace::media::arena::{Path, SendArena};
use millrace::media::id::{SessionId, StreamName};
use millrace::media::time::{Epoch, Unwrapper, WallTime};
use millrace::peer::agreement::{Credentials, PublisherAgreement, SentMedia, ViewerAgreement};
use millrace::peer::header::RtpHeader;
use millrace::peer::identity::Identity;
use millrace::peer::stun::{DatagramKind, classify};
use millrace::peer::testing::{ClientOptions, TestClient};
use millrace::peer::transport::Timeouts;
use millrace::router::RouterSettings;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// A publisher, a viewer with RTX and one without.
const CLIENTS: usize = 3;
/// What is said of an input: more takes long and shows no more.
const SAID_MAX: usize = 1_000;
/// Each packet of a step is followed by so many more, numbered on, where that is asked for.
const TIMES: usize = 32;

static IDENTITY: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate().expect("the crypto library works")));

/// Sessions that wait for their clients.
struct Waiting(Arc<Mutex<Vec<Prepared>>>);

impl Claims for Waiting {
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        let mut waiting = self.0.lock().expect("nobody panics with it");
        let named = |it: &Prepared| it.agreement.transport().local.ufrag == ufrag;
        let at = waiting.iter().position(|prepared| named(prepared) && authentic(prepared))?;
        Some(waiting.swap_remove(at))
    }
}

/// An engine and its clients, without a network between.
struct Stage {
    engine: Engine,
    arena: SendArena,
    clients: Vec<TestClient>,
    began: Instant,
    now: Instant,
    /// By client and SSRC: the newest sequence number it was sent.
    numberings: HashMap<(usize, u32), Unwrapper>,
    /// By client, SSRC and extended sequence number: what was sealed so.
    sealed: HashMap<(usize, u32, u64), Vec<u8>>,
    /// Media packets for each client.
    sent: [usize; CLIENTS],
}

/// What an input came to.
#[derive(Debug)]
struct Outcome {
    /// Media packets for each client.
    sent: [usize; CLIENTS],
    /// Those of them that were sent again.
    again: u64,
    /// Keyframe requests to the publisher.
    requests: u64,
}

fn path(client: usize) -> Path {
    let port = 50_000 + client as u16;
    Path::udp(SocketAddr::from(([192, 0, 2, 1], port)), None)
}

fn session(client: usize) -> SessionId {
    SessionId::from_random([client as u8; 16])
}

/// What the client of this number has agreed to.
fn agreement(client: usize, peer: &TestClient) -> Agreement {
    let transport = peer.agreement();
    if client == 0 {
        return Agreement::Publisher(PublisherAgreement { transport, media: media(&[]) });
    }
    let sent = media(&[]).into_iter().zip([1, 2]).map(|(received, number)| {
        let ssrc = client as u32 * 10 + number;
        let mut formats = received.formats;
        let rtx = client == 1;
        formats.iter_mut().filter(|_| !rtx).for_each(|format| format.rtx = None);
        let (kind, mid, feedback) = (received.kind, received.mid, received.feedback);
        let extensions = received.extensions;
        SentMedia {
            kind,
            mid,
            formats,
            extensions,
            feedback,
            ssrc,
            rtx_ssrc: rtx.then(|| ssrc + 4),
        }
    });
    Agreement::Viewer(ViewerAgreement { transport, media: sent.collect() })
}

impl Stage {
    fn set() -> Self {
        let began = Instant::now();
        let wall = WallTime::since_unix_epoch(Duration::from_hours(500_000));
        let settings = EngineSettings {
            router: RouterSettings::default(),
            // Nobody sends checks any more.
            timeouts: Timeouts { consent: Duration::from_hours(10), ..Timeouts::default() },
            publisher_silence: Duration::from_hours(10),
            grace: Duration::from_secs(30),
            rtx_share: 0.15,
        };
        let waiting = Arc::new(Mutex::new(Vec::new()));
        let claims = Box::new(Waiting(Arc::clone(&waiting)));
        let epoch = Epoch { instant: began, wall };
        let mut stage = Self {
            engine: Engine::new(settings, Arc::clone(&IDENTITY), epoch, claims),
            arena: SendArena::new(1 << 20),
            clients: Vec::new(),
            began,
            now: began,
            numberings: HashMap::new(),
            sealed: HashMap::new(),
            sent: [0; CLIENTS],
        };
        for number in 0..CLIENTS {
            let server = Credentials { ufrag: format!("serv{number}"), pwd: "s".repeat(24) };
            let mut peer = TestClient::new(ClientOptions::default(), server);
            waiting.lock().expect("nobody panics with it").push(Prepared {
                session: session(number),
                stream: StreamName::parse("a").expect("a name"),
                agreement: agreement(number, &peer),
                random: [number as u8; 16],
                created: began,
                choice: LayerChoice::default(),
            });
            let check = peer.check(true);
            stage.clients.push(peer);
            stage.deliver(number, check);
            stage.clients[number].start(began);
            while let Some(datagram) = stage.clients[number].poll() {
                stage.deliver(number, datagram);
            }
            assert!(stage.clients[number].is_connected(), "client {number}");
        }
        stage
    }

    /// A client's datagram arrives.
    fn deliver(&mut self, client: usize, mut bytes: Vec<u8>) {
        let input = Input::Datagram { path: path(client), bytes: &mut bytes };
        self.engine.handle(input, self.now, &mut self.arena);
        self.flush();
    }

    fn turn(&mut self, passed: Duration) {
        self.now += passed;
        self.engine.handle_timeout(self.now, &mut self.arena);
        self.flush();
        while self.engine.fan_out(self.now, &mut self.arena) {
            self.flush();
        }
        self.engine.catch_up(self.now, 1_000, &mut self.arena);
        self.flush();
        while self.engine.poll().is_some() {}
        while self.engine.poll_message().is_some() {}
    }

    /// What waits arrives at once, and is looked at.
    fn flush(&mut self) {
        let datagrams: Vec<(Path, Vec<u8>)> =
            self.arena.datagrams().map(|(path, bytes)| (path, bytes.to_vec())).collect();
        self.arena.clear();
        for (to, datagram) in datagrams {
            let client = usize::from(to.remote.port() - 50_000);
            match classify(&datagram) {
                DatagramKind::Rtp => self.note(client, &datagram),
                DatagramKind::Rtcp => {}
                _ => self.clients[client].handle(&datagram, self.now),
            }
        }
    }

    /// The nonce rule: the same number is never sealed twice with different bytes.
    fn note(&mut self, client: usize, datagram: &[u8]) {
        let header = RtpHeader::read(datagram).expect("what we send has a header");
        let numbering = self.numberings.entry((client, header.ssrc)).or_default();
        let index = numbering.extend(u32::from(header.sequence), 16);
        self.sent[client] += 1;
        let before = self.sealed.insert((client, header.ssrc, index), datagram.to_vec());
        assert!(before.is_none_or(|before| before == datagram), "a nonce twice");
    }

    /// Seals what a client says, whatever it is, and lets it arrive.
    fn say(&mut self, client: usize, plain: &[u8]) {
        let Some(outbound) = self.clients[client].outbound() else { return };
        let sealed = match classify(plain) {
            DatagramKind::Rtcp => outbound.encrypt_rtcp(plain),
            // What has no header is dropped before it is opened.
            DatagramKind::Rtp => {
                let Some(header) = RtpHeader::read(plain) else { return };
                let fields = rtp::Header {
                    sequence_number: header.sequence,
                    ssrc: header.ssrc,
                    csrc: vec![0; (header.len - RtpHeader::FIXED) / 4],
                    ..Default::default()
                };
                outbound.encrypt_rtp_with_header(plain, &fields)
            }
            _ => return self.deliver(client, plain.to_vec()),
        };
        if let Ok(sealed) = sealed {
            self.deliver(client, sealed.to_vec());
        }
    }

    /// All leave; nothing is left of them.
    fn clear(mut self) -> Outcome {
        let seconds = (self.now - self.began).as_secs();
        let counters = *self.engine.counters();
        assert_eq!(counters.faults, 0, "a fault that the engine has caught");
        assert!(counters.keyframe_requests <= seconds + 1, "in {seconds} s");
        for number in 0..CLIENTS {
            let end = Command::End(session(number), EndReason::Deleted);
            self.engine.handle(Input::Command(end), self.now, &mut self.arena);
        }
        self.turn(Duration::from_hours(1));
        assert_eq!(self.engine.sizes(), [0; 3]);
        let (again, requests) = (counters.retransmissions, counters.keyframe_requests);
        Outcome { sent: self.sent, again, requests }
    }
}

/// An input is a sequence of steps: who speaks (the low two bits; the third: several times,
/// numbered on), how long passes afterwards (the other five, in squares of milliseconds), how long
/// what is said is, and that.
pub(crate) fn run(bytes: &[u8]) {
    let _ = played(bytes);
}

fn played(bytes: &[u8]) -> Outcome {
    let mut stage = Stage::set();
    let mut rest = bytes;
    let mut left = SAID_MAX;
    while left > 0 {
        let Some((&[who, len], tail)) = rest.split_first_chunk() else { break };
        let (said, tail) = tail.split_at(usize::from(len).min(tail.len()));
        rest = tail;
        let client = usize::from(who & 3).min(CLIENTS - 1);
        let mut said = said.to_vec();
        let times = if who & 4 == 0 { 1 } else { TIMES };
        left = left.saturating_sub(times);
        for _ in 0..times {
            stage.say(client, &said);
            if let Some(number) = said.get_mut(2..4) {
                let next = u16::from_be_bytes([number[0], number[1]]).wrapping_add(1);
                number.copy_from_slice(&next.to_be_bytes());
            }
        }
        let pause = u64::from(who >> 3);
        stage.turn(Duration::from_millis(pause * pause));
    }
    stage.turn(Duration::from_secs(1));
    stage.clear()
}

#[test]
fn the_corpus_gets_through_to_the_viewers() {
    let outcome = played(include_bytes!("corpus/engine/h264_nack"));
    assert!(outcome.sent[1] >= 8 && outcome.sent[2] >= 8, "{outcome:?}");
    assert!(outcome.again > 10, "{outcome:?}");
    let outcome = played(include_bytes!("corpus/engine/vp8_pli"));
    assert!(outcome.sent[1] >= 4 && outcome.sent[2] >= 4, "{outcome:?}");
    assert!(outcome.requests >= 1, "{outcome:?}");
    let outcome = played(include_bytes!("corpus/engine/sound_repairs_reports"));
    assert!(outcome.sent[1] > 64 && outcome.again > 10, "{outcome:?}");
}
