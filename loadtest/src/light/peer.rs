//! An [`Agent`] with a socket and a task: what tests and load hold in their hands.

use super::agent::{Agent, AgentConfig, AgentCounters, Event};
use super::answer::Answer;
use super::dtls::SrtpProfile;
use super::identity::Identity;
use super::offer::Offer;
use super::wire::{Inbox, Transport, Wire};
use crate::http::{Session, Signaling, SignalingError};
use rtc_rtcp::Packet as RtcpPacket;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// Events an owner may leave unread before they are dropped and counted.
const EVENTS_MAX: usize = 16_384;
/// Longest sleep when nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// An event and when its datagram came in.
#[derive(Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// How a light client behaves, apart from its offer.
#[derive(Debug, Clone)]
pub struct LightOptions {
    /// Its certificate; each peer makes one where this is absent.
    pub identity: Option<Identity>,
    /// SRTP profiles in the order of preference.
    pub profiles: Vec<SrtpProfile>,
    /// Sends to this address instead of the server's candidate: a relay in between.
    pub via: Option<SocketAddr>,
    /// Over what.
    pub transport: Transport,
}

impl Default for LightOptions {
    fn default() -> Self {
        Self {
            identity: None,
            profiles: vec![SrtpProfile::Gcm, SrtpProfile::Cm80],
            via: None,
            transport: Transport::Udp,
        }
    }
}

/// Why a light client did not get as far as sending its first check.
#[derive(Debug, thiserror::Error)]
pub enum LightError {
    /// The server refused the offer.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// The answer is of no use.
    #[error(transparent)]
    Answer(#[from] super::answer::AnswerError),
    /// The answer names no candidate of the kind that is wanted.
    #[error("the answer has no candidate for {0:?}")]
    NoCandidate(Transport),
    /// The local socket failed.
    #[error("socket: {0}")]
    Socket(#[from] std::io::Error),
    /// Certificate or DTLS configuration.
    #[error("set-up: {0}")]
    Setup(#[from] anyhow::Error),
}

struct Shared {
    agent: Mutex<Agent>,
    wire: Wire,
    /// Nothing is read for the time being.
    deaf: AtomicBool,
    wake: Notify,
    dropped_events: AtomicU64,
}

impl Shared {
    fn agent(&self) -> MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the agent has queued. A full socket buffer is a lost packet, as on any network.
    fn flush(&self, agent: &mut Agent) {
        while let Some(datagram) = agent.poll_transmit() {
            self.wire.send(&datagram);
        }
    }

    /// Lets the task send what the connection has not taken.
    fn sent(&self) {
        if self.wire.waits() {
            self.wake.notify_one();
        }
    }
}

/// Sends on a peer's behalf; cheap to clone, usable from any task.
#[derive(Clone)]
pub struct LightSender(Arc<Shared>);

impl LightSender {
    /// Encrypts and sends a media packet.
    ///
    /// # Errors
    ///
    /// Before DTLS is done.
    pub fn rtp(&self, packet: &rtp::Packet) -> anyhow::Result<()> {
        let sealed = self.0.agent().protect_rtp(packet)?;
        self.datagram(&sealed);
        Ok(())
    }

    /// Encrypts media packets and sends them back to back.
    ///
    /// # Errors
    ///
    /// Before DTLS is done.
    pub fn rtp_burst(&self, packets: &[rtp::Packet]) -> anyhow::Result<()> {
        let sealed: Vec<_> = {
            let mut agent = self.0.agent();
            packets.iter().map(|packet| agent.protect_rtp(packet)).collect::<Result<_, _>>()?
        };
        self.0.wire.send_all(&sealed);
        self.0.sent();
        Ok(())
    }

    /// Encrypts and sends RTCP.
    ///
    /// # Errors
    ///
    /// Before DTLS is done.
    pub fn rtcp(&self, packets: &[Box<dyn RtcpPacket>]) -> anyhow::Result<()> {
        let sealed = self.0.agent().protect_rtcp(packets)?;
        self.datagram(&sealed);
        Ok(())
    }

    /// Gives the agent to the caller: for datagrams to be sealed and then mutilated.
    pub fn with_agent<T>(&self, action: impl FnOnce(&mut Agent) -> T) -> T {
        let mut agent = self.0.agent();
        let result = action(&mut agent);
        self.0.flush(&mut agent);
        drop(agent);
        self.0.wake.notify_one();
        result
    }

    /// Sends bytes as they are, from this peer's address.
    pub fn datagram(&self, bytes: &[u8]) {
        self.0.wire.send(bytes);
        self.0.sent();
    }

    /// Reads nothing that comes in until it is told otherwise: a reader too slow for its stream.
    pub fn set_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::Relaxed);
        self.0.wake.notify_one();
    }

    /// The address of its socket.
    ///
    /// # Errors
    ///
    /// What the kernel says, which for a bound socket is nothing.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.0.wire.local_address()
    }

    /// Whether media can be sent.
    pub fn is_connected(&self) -> bool {
        self.0.agent().is_connected()
    }

    /// What the agent counted.
    pub fn counters(&self) -> AgentCounters {
        self.0.agent().counters()
    }
}

/// A client with a WHIP or WHEP session. Dropping it falls silent; [`LightPeer::end`] says so.
pub struct LightPeer {
    shared: Arc<Shared>,
    events: mpsc::Receiver<Arrival>,
    task: JoinHandle<()>,
    /// The HTTP session.
    pub session: Session,
    /// The server's answer.
    pub answer: Answer,
    /// Our certificate.
    pub identity: Identity,
}

impl LightPeer {
    /// Posts the offer and starts ICE. The fingerprint is filled in unless the offer has one.
    ///
    /// # Errors
    ///
    /// [`LightError`].
    pub async fn start(
        signaling: &Signaling,
        url: &str,
        mut offer: Offer,
        options: LightOptions,
    ) -> Result<Self, LightError> {
        let identity = match &options.identity {
            Some(identity) => identity.clone(),
            None => Identity::generate()?,
        };
        offer.fingerprint.get_or_insert_with(|| identity.fingerprint());
        let session = signaling.offer(url, &offer.to_string()).await?;
        Self::join(offer, identity, session, options).await
    }

    /// Starts ICE with an answer that came some way or other.
    async fn join(
        offer: Offer,
        identity: Identity,
        session: Session,
        options: LightOptions,
    ) -> Result<Self, LightError> {
        let answer = Answer::parse(&session.answer)?;
        let transport = options.transport;
        let candidates = match transport {
            Transport::Udp => &answer.candidates,
            Transport::Tcp { .. } => &answer.tcp_candidates,
        };
        let candidate = candidates.first().copied();
        let server = options.via.or(candidate).ok_or(LightError::NoCandidate(transport))?;
        let config = AgentConfig {
            identity: identity.clone(),
            role: answer.role,
            profiles: options.profiles,
            local: (offer.ufrag, offer.password),
            remote: (answer.ufrag.clone(), answer.password.clone()),
            remote_fingerprint: Some(answer.fingerprint.clone()),
            server,
        };
        let shared = Arc::new(Shared {
            agent: Mutex::new(Agent::new(config, Instant::now())?),
            wire: Wire::open(server, transport).await?,
            deaf: AtomicBool::new(false),
            wake: Notify::new(),
            dropped_events: AtomicU64::new(0),
        });
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let task = tokio::spawn(drive(shared.clone(), sender));
        Ok(Self { shared, events, task, session, answer, identity })
    }

    /// Sends on this peer's behalf.
    pub fn sender(&self) -> LightSender {
        LightSender(self.shared.clone())
    }

    /// The next event; `None` once nothing can come any more.
    pub async fn next(&mut self) -> Option<Arrival> {
        self.events.recv().await
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Arrival> {
        self.events.try_recv().ok()
    }

    /// Waits for DTLS; events before it are dropped.
    ///
    /// # Errors
    ///
    /// When the association closes, or the deadline passes first.
    pub async fn connected(&mut self, within: Duration) -> anyhow::Result<SrtpProfile> {
        let wait = async {
            while let Some(arrival) = self.next().await {
                match arrival.event {
                    Event::Connected(profile) => return Ok(profile),
                    Event::Closed(reason) => anyhow::bail!("closed: {reason}"),
                    _ => {}
                }
            }
            anyhow::bail!("the peer's task ended")
        };
        tokio::time::timeout(within, wait)
            .await
            .map_err(|_| anyhow::anyhow!("not connected within {within:?}"))?
    }

    /// Events nobody read in time.
    pub fn dropped_events(&self) -> u64 {
        self.shared.dropped_events.load(Ordering::Relaxed)
    }

    /// Deletes the HTTP session and says goodbye by DTLS.
    ///
    /// # Errors
    ///
    /// When the server refuses the DELETE.
    pub async fn end(self, signaling: &Signaling) -> Result<(), SignalingError> {
        let deleted = signaling.delete(&self.session.url).await;
        self.sender().with_agent(|agent| agent.close(Instant::now()));
        deleted
    }
}

impl Drop for LightPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Receives, keeps time, and hands events on.
async fn drive(shared: Arc<Shared>, events: mpsc::Sender<Arrival>) {
    let mut inbox = Inbox::default();
    loop {
        let deadline = {
            let mut agent = shared.agent();
            let now = Instant::now();
            agent.handle_timeout(now);
            shared.flush(&mut agent);
            while let Some(event) = agent.poll_event() {
                if events.try_send(Arrival { at: now, event }).is_err() {
                    shared.dropped_events.fetch_add(1, Ordering::Relaxed);
                }
            }
            agent.deadline().unwrap_or(now + IDLE)
        };
        tokio::select! {
            open = shared.wire.receive(&mut inbox, |datagram| {
                shared.agent().handle(datagram, Instant::now());
            }), if !shared.deaf.load(Ordering::Relaxed) => {
                if !open {
                    let event = Event::Closed("the server closed the TCP connection".to_owned());
                    let _ = events.try_send(Arrival { at: Instant::now(), event });
                    return;
                }
            }
            () = shared.wire.room(), if shared.wire.waits() => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = shared.wake.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::interop::Answerer;
    use crate::source::{VideoSettings, VideoSource};

    #[tokio::test]
    async fn the_webrtc_crate_takes_what_a_light_peer_sends() -> anyhow::Result<()> {
        let identity = Identity::generate()?;
        let mut offer = Offer::new(crate::light::Direction::SendOnly)
            .section(crate::light::publish_video(Codec::H264));
        offer.fingerprint = Some(identity.fingerprint());
        let (answerer, answer) =
            Box::pin(Answerer::answer(&offer.to_string(), Codec::H264)).await?;
        let session = Session { url: String::new(), etag: None, layer_url: None, answer };
        let mut peer = LightPeer::join(offer, identity, session, LightOptions::default()).await?;
        peer.connected(Duration::from_secs(10)).await?;
        let payload_type = peer.answer.payload_type(Codec::H264).expect("H.264 was agreed");
        let ssrc = crate::light::PUBLISHED_SSRCS[1];
        let mut source = VideoSource::new(VideoSettings::default(), payload_type, ssrc);
        let mut ticks = tokio::time::interval(source.interval());
        let mut sent = Vec::new();
        while answerer.log().read(|log| log.received.len() < 30) {
            anyhow::ensure!(sent.len() < 2_000, "nothing arrives");
            ticks.tick().await;
            for packet in source.next_frame().packets {
                peer.sender().rtp(&packet)?;
                sent.push(packet.payload);
            }
        }
        // The stack drops what comes before it has made the track; then nothing is missing.
        let received: Vec<_> = answerer
            .log()
            .read(|log| log.received.iter().map(|packet| packet.payload.clone()).collect());
        let start = sent.iter().position(|payload| *payload == received[0]).expect("it was sent");
        assert_eq!(received[..], sent[start..start + received.len()]);
        Ok(())
    }
}
