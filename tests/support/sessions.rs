//! Sessions as HTTP would have left them for an engine: who comes, and what was agreed.

use millrace::engine::EngineSettings;
use millrace::engine::command::{Agreement, Claims, LayerChoice, Prepared};
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::id::{SessionId, StreamName};
use millrace::peer::agreement::{
    AnnouncedSsrc, Credentials, ExtensionIds, Feedback, PayloadFormat, PublisherAgreement,
    ReceivedMedia, SentMedia, ViewerAgreement,
};
use millrace::peer::testing::{ClientOptions, TestClient};
use millrace::peer::transport::Timeouts;
use millrace::router::RouterSettings;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Sessions that wait to be claimed, and who has claimed which; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Waiting {
    pub(crate) sessions: Arc<Mutex<Sessions>>,
    /// The shard that claims by this clone.
    pub(crate) shard: usize,
}

/// Those of all clones.
#[derive(Default)]
pub(crate) struct Sessions {
    waiting: Vec<Prepared>,
    claimed: Vec<(usize, SessionId, Credentials)>,
}

impl Waiting {
    /// Adds a session.
    pub(crate) fn add(&self, prepared: Prepared) {
        self.lock().waiting.push(prepared);
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("nobody panics with it")
    }
}

impl Claims for Waiting {
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        let mut sessions = self.lock();
        let named = |prepared: &Prepared| prepared.agreement.transport().local.ufrag == ufrag;
        let mut fits = |prepared: &Prepared| named(prepared) && authentic(prepared);
        let index = sessions.waiting.iter().position(&mut fits)?;
        let prepared = sessions.waiting.swap_remove(index);
        let local = prepared.agreement.transport().local.clone();
        sessions.claimed.push((self.shard, prepared.session, local));
        Some(prepared)
    }

    fn owner(
        &self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Credentials) -> bool,
    ) -> Option<(usize, SessionId)> {
        let sessions = self.lock();
        let (shard, session, _) = sessions
            .claimed
            .iter()
            .find(|(_, _, local)| local.ufrag == ufrag && authentic(local))?;
        Some((*shard, *session))
    }
}

/// An engine's settings as the configuration has them by default.
pub(crate) fn settings() -> EngineSettings {
    EngineSettings {
        router: RouterSettings::default(),
        timeouts: Timeouts::default(),
        publisher_silence: Duration::from_secs(30),
        grace: Duration::from_secs(30),
        rtx_share: 0.15,
    }
}

/// A client that will talk to the server in the session of this number.
pub(crate) fn client(number: usize, options: ClientOptions) -> TestClient {
    let server = Credentials { ufrag: format!("serv{number}"), pwd: "s".repeat(24) };
    TestClient::new(options, server)
}

/// The session of this number.
pub(crate) fn session(number: usize) -> SessionId {
    SessionId::from_random((number as u128).to_le_bytes())
}

/// A session that waits for its client.
pub(crate) fn prepare(number: usize, agreement: Agreement, stream: &str, now: Instant) -> Prepared {
    let stream = StreamName::parse(stream).expect("a stream name");
    // Numberings begin as high as they may, so that their turn comes as soon as it can.
    let random = [0xff; 16];
    let choice = LayerChoice::default();
    Prepared { session: session(number), stream, agreement, random, created: now, choice }
}

/// What is agreed with a publisher of audio and H.264.
pub(crate) fn publisher(client: &TestClient, rtx: bool) -> Agreement {
    let media = Kind::ALL.map(|kind| received(kind, PUBLISHER_SSRC, rtx, true));
    let transport = client.agreement();
    Agreement::Publisher(PublisherAgreement { transport, media: media.into() })
}

/// What is agreed with the viewer of this number.
pub(crate) fn viewer(client: &TestClient, number: usize, rtx: bool) -> Agreement {
    let media = Kind::ALL.map(|kind| SentMedia {
        kind,
        mid: kind.index().to_string(),
        formats: formats(kind, rtx),
        extensions: ExtensionIds { playout_delay: Some(PLAYOUT_DELAY), ..Default::default() },
        feedback: feedback(true),
        ssrc: ssrc(viewer_ssrc(number), kind),
        rtx_ssrc: rtx.then(|| rtx_ssrc(viewer_ssrc(number), kind)),
    });
    let transport = client.agreement();
    Agreement::Viewer(ViewerAgreement { transport, media: media.into() })
}

/// The id of the playout-delay extension.
pub(crate) const PLAYOUT_DELAY: u8 = 5;

/// The first of a publisher's SSRCs.
pub(crate) const PUBLISHER_SSRC: u32 = 1_000;

/// The first of a viewer's SSRCs.
pub(crate) fn viewer_ssrc(number: usize) -> u32 {
    2_000 + number as u32 * 4
}

/// The SSRC of media, in the four from `first` on.
pub(crate) fn ssrc(first: u32, kind: Kind) -> u32 {
    first + kind.index() as u32
}

/// The SSRC of retransmissions, in the four from `first` on.
pub(crate) fn rtx_ssrc(first: u32, kind: Kind) -> u32 {
    first + 2 + kind.index() as u32
}

/// The receiving end of what is agreed, whoever has it.
pub(crate) fn received(kind: Kind, first_ssrc: u32, rtx: bool, nack: bool) -> ReceivedMedia {
    let repair = rtx.then(|| rtx_ssrc(first_ssrc, kind));
    ReceivedMedia {
        kind,
        mid: kind.index().to_string(),
        formats: formats(kind, rtx),
        extensions: ExtensionIds::default(),
        feedback: feedback(nack),
        ssrcs: vec![AnnouncedSsrc { ssrc: ssrc(first_ssrc, kind), rtx: repair }],
        rids: Vec::new(),
    }
}

fn feedback(nack: bool) -> Feedback {
    Feedback { nack, pli: true, ..Feedback::default() }
}

/// The payload type of media.
pub(crate) fn payload_type(kind: Kind) -> u8 {
    [111, 102][kind.index()]
}

/// The payload type of retransmissions.
pub(crate) fn rtx_payload_type(kind: Kind) -> u8 {
    [112, 103][kind.index()]
}

fn formats(kind: Kind, rtx: bool) -> Vec<PayloadFormat> {
    let format = match kind {
        Kind::Audio => Format { codec: Codec::Opus, parameters: String::new() },
        Kind::Video => Format {
            codec: Codec::H264,
            parameters: "packetization-mode=1;profile-level-id=42e01f".to_owned(),
        },
    };
    let rtx = rtx.then(|| rtx_payload_type(kind));
    vec![PayloadFormat { payload_type: payload_type(kind), format, rtx }]
}

/// The fields of an RTP header without extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rtp {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl Rtp {
    /// Header and payload.
    pub(crate) fn packet(&self, payload: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0x80, u8::from(self.marker) << 7 | self.payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload.concat());
        packet
    }
}
