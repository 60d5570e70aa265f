//! One session: its transport, and what it is to its stream.

use super::EngineSettings;
use super::catch_up::CatchUp;
use super::command::{Agreement, Prepared, Role};
use super::message::Term;
use super::report::{SessionState, ViewerState};
use super::selection::Selecting;
use crate::media::arena::{Path, SendArena, TransportAddress};
use crate::media::codec::{Format, Kind};
use crate::media::id::SessionId;
use crate::media::layer::{Lane, LayerId, LayerState};
use crate::media::packet::{Packet, PacketPool};
use crate::media::protocol::Protocol;
use crate::media::time::WallTime;
use crate::peer::agreement::Credentials;
use crate::peer::header::RtpHeader;
use crate::peer::identity::Identity;
use crate::peer::outgoing::Outgoing;
use crate::peer::publisher::Receiver;
use crate::peer::seal::Sealer;
use crate::peer::transport::Transport;
use crate::peer::viewer::Viewer;
use crate::router::Router;
use crate::router::subscription::Subscription;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One session.
pub(super) struct Peer {
    pub(super) session: SessionId,
    /// Index of its stream.
    pub(super) stream: usize,
    pub(super) transport: Transport,
    pub(super) side: Side,
    /// Our present ICE user name fragment.
    pub(super) ufrag: String,
    /// The one before the restart of ICE, which the client may still use.
    pub(super) former_ufrag: Option<String>,
    /// Where authentic checks came from.
    pub(super) addresses: Vec<TransportAddress>,
    created: Instant,
}

/// What a session is to its stream.
pub(super) enum Side {
    Publisher(Box<Publishing>),
    Viewer(Box<Viewing>),
}

/// The receive side of a publisher, with the memory of its packets.
pub(super) struct Publishing {
    pub(super) receiver: Receiver,
    pool: PacketPool,
    connected: Option<Instant>,
    /// How long it may send nothing.
    silence_max: Duration,
}

/// The send side of a viewer, with its places in the tracks.
pub(super) struct Viewing {
    pub(super) viewer: Viewer,
    pub(super) subscriptions: [Option<Subscription>; 2],
    /// Its walk through the past.
    pub(super) catching_up: Option<Box<CatchUp>>,
    /// It takes video from the batches with higher numbers.
    pub(super) live_after: u64,
    /// When it began in the past last, if it ever did.
    pub(super) began: Option<Instant>,
    /// The backlog of its connection is long: nothing begins.
    pub(super) held: bool,
    /// Its client listens to what timestamps stand for, and to which layers there are.
    pub(super) listens: bool,
    /// Which layer it gets.
    pub(super) selecting: Selecting,
}

impl Publishing {
    pub(super) fn receive(
        &mut self,
        header: &RtpHeader,
        datagram: &[u8],
        now: Instant,
    ) -> Option<Arc<Packet>> {
        self.receiver.handle_rtp(header, datagram, now, &mut self.pool)
    }
}

impl Publishing {
    /// How many packets its pool remembers.
    pub(super) fn pooled(&self) -> usize {
        self.pool.len()
    }

    /// It may send from now on.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connected = Some(now);
    }

    /// When it has sent nothing for too long, if it sends nothing more.
    fn silent_at(&self) -> Option<Instant> {
        let since = self.connected?;
        let last = self.receiver.last_media().map_or(since, |last| last.max(since));
        Some(last + self.silence_max)
    }

    fn deadline(&self) -> Option<Instant> {
        self.receiver.deadline().into_iter().chain(self.silent_at()).min()
    }
}

impl Viewing {
    pub(super) fn subscription(&self, kind: Kind) -> Option<&Subscription> {
        self.subscriptions[kind.index()].as_ref()
    }

    /// The layer with which its picture goes on; none where none is to flow.
    pub(super) fn target(&self) -> Option<LayerId> {
        self.subscription(Kind::Video)?.target()
    }

    /// Whether it takes what the batch of this number has of a kind: one who catches up has it
    /// ahead, one who has just caught up behind.
    pub(super) fn takes(&self, kind: Kind, batch: u64) -> bool {
        match kind {
            Kind::Audio => true,
            Kind::Video => {
                let begins_not = self.held && self.waits_for_video();
                self.catching_up.is_none() && batch > self.live_after && !begins_not
            }
        }
    }

    /// Whose packets it takes of the batch of this number.
    pub(super) fn lanes(&self, batch: u64) -> impl Iterator<Item = Lane> {
        let of_kind = move |kind| {
            let subscription = self.subscription(kind).filter(|_| self.takes(kind, batch));
            let (first, second) = subscription.map(Subscription::lanes).unwrap_or_default();
            [first, second]
        };
        Kind::ALL.into_iter().flat_map(of_kind).flatten()
    }

    /// The timestamp of this moment as this viewer sees it, with its wall time. While the past
    /// flows, its timestamps say nothing of the time.
    pub(super) fn timestamp_at(
        &self,
        kind: Kind,
        router: &Router,
        now: Instant,
    ) -> Option<(WallTime, u64)> {
        let is_past = self.catching_up.is_some() && kind == Kind::Video;
        let moved = self.subscription(kind).and_then(Subscription::moved);
        let told = match moved {
            Some((layer, by)) => router.timestamp_at(Lane::of(kind, layer), by, now),
            None => router.timestamp_to_begin_at(kind, now),
        };
        told.filter(|_| !is_past)
    }

    /// Another publisher goes on after the batch of this number.
    pub(super) fn begin_term(&mut self, batch: u64) {
        for subscription in self.subscriptions.iter_mut().flatten() {
            subscription.forget();
        }
        self.lose_picture();
        self.selecting.begin_term();
        self.live_after = batch;
        self.began = None;
    }

    /// This format flows from now on.
    pub(super) fn set_format(&mut self, format: &Format) {
        let kind = format.codec.kind();
        let next_out = self.subscription(kind).map_or(0, Subscription::next_out);
        if let Some(track) = self.viewer.track(kind) {
            track.set_format(format, next_out);
        }
        if let Some(video) = self.subscription(Kind::Video).filter(|_| kind == Kind::Video) {
            self.selecting.spatial_max = video.spatial_max(format.codec);
        }
    }
}

impl Peer {
    /// How long a silent client keeps its address: publishers send all the time, viewers report
    /// about once a second.
    pub(super) const ADDRESS_KEPT: Duration = Duration::from_secs(2);

    pub(super) fn new(
        prepared: Prepared,
        stream: usize,
        settings: &EngineSettings,
        identity: &Arc<Identity>,
        now: Instant,
    ) -> Self {
        let Prepared { session, agreement, random, created, choice, .. } = prepared;
        // One random number of 16 bits for each purpose.
        let number = |at: usize| u16::from_be_bytes([random[2 * at], random[2 * at + 1]]);
        let (transport, side) = match agreement {
            Agreement::Publisher(agreement) => {
                let ssrc = (u32::from(number(0)) << 16 | u32::from(number(1))).max(1);
                let receiver = Receiver::new(&agreement.media, ssrc, now);
                let pool = PacketPool::default();
                let silence_max = settings.publisher_silence;
                let publishing = Publishing { receiver, pool, connected: None, silence_max };
                (agreement.transport, Side::Publisher(Box::new(publishing)))
            }
            Agreement::Viewer(agreement) => {
                let (starts, rtx_starts) = ([number(0), number(1)], [number(2), number(3)]);
                let mut subscriptions = [None, None];
                for section in &agreement.media {
                    let index = section.kind.index();
                    let takes_dependencies = section.extensions.dependency_descriptor.is_some();
                    let subscription = Subscription::new(section.kind, starts[index]);
                    subscriptions[index] = Some(subscription.with_dependencies(takes_dependencies));
                }
                let cname = session.to_string();
                let share = settings.rtx_share;
                let viewer = Viewer::new(agreement.media, cname, share, rtx_starts, now);
                let viewing = Viewing {
                    viewer,
                    subscriptions,
                    catching_up: None,
                    live_after: 0,
                    began: None,
                    held: false,
                    listens: false,
                    selecting: Selecting::new(choice),
                };
                (agreement.transport, Side::Viewer(Box::new(viewing)))
            }
        };
        let ufrag = transport.local.ufrag.clone();
        let identity = Arc::clone(identity);
        let transport = Transport::new(transport, identity, settings.timeouts, now);
        Self {
            session,
            stream,
            transport,
            side,
            ufrag,
            former_ufrag: None,
            addresses: Vec::new(),
            created,
        }
    }

    pub(super) const fn role(&self) -> Role {
        match self.side {
            Side::Publisher(_) => Role::Publisher,
            Side::Viewer(_) => Role::Viewer,
        }
    }

    pub(super) const fn protocol(&self) -> Protocol {
        match self.side {
            Side::Publisher(_) => Protocol::Whip,
            Side::Viewer(_) => Protocol::Whep,
        }
    }

    /// Restarts ICE with these credentials (RFC 8445 §9); returns the name that is good no more.
    /// Those before stay good, since the client checks with them until it has our answer: where
    /// that was lost and it asks again, they are those from before the first time.
    pub(super) fn restart_ice(&mut self, local: Credentials) -> Option<String> {
        let replaced = std::mem::replace(&mut self.ufrag, local.ufrag.clone());
        if self.transport.restart_ice(local) {
            self.former_ufrag.replace(replaced)
        } else {
            Some(replaced)
        }
    }

    /// Which publisher of its stream it is, if it is one.
    pub(super) const fn term(&self) -> Term {
        Term { since: self.created, session: self.session }
    }

    /// When it must be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let side = match &self.side {
            Side::Publisher(publishing) => publishing.deadline(),
            Side::Viewer(viewing) => Some(viewing.viewer.deadline()),
        };
        // Before it is connected there is nobody to report to.
        let side = side.filter(|_| self.transport.srtp_profile().is_some());
        self.transport.deadline().into_iter().chain(side).min()
    }

    /// Whether this is where its client is right now: then a check of another session's that names
    /// this address is forged. Who got the address from the network repeats its check.
    pub(super) fn lives_at(&self, path: Path, now: Instant) -> bool {
        let here = self.transport.path().is_some_and(|own| own.client() == path.client());
        here && now < self.transport.last_heard() + Self::ADDRESS_KEPT
    }

    /// Whether it is a publisher that has sent no media for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let Side::Publisher(publishing) = &self.side else { return false };
        publishing.silent_at().is_some_and(|at| at <= now)
    }

    /// Sends the RTCP that is due; tells whether a viewer was sent sender reports.
    pub(super) fn send_reports(
        &mut self,
        router: Option<&Router>,
        now: Instant,
        arena: &mut SendArena,
    ) -> bool {
        let Some(path) = self.transport.path() else { return false };
        let Some(sealer) = self.transport.sealer() else { return false };
        let mut send = |compound: &[u8]| {
            let size = compound.len() + Sealer::RTCP_OVERHEAD_MAX;
            arena.push_with(path, size, |memory| sealer.seal_rtcp(compound, memory));
        };
        match &mut self.side {
            Side::Publisher(publishing) => {
                publishing.receiver.poll_rtcp(now, &mut send);
                false
            }
            Side::Viewer(viewing) => {
                let times = Kind::ALL.map(|kind| viewing.timestamp_at(kind, router?, now));
                let compound = viewing.viewer.reports(now, |kind| times[kind.index()]);
                if let Some(compound) = &compound {
                    send(compound);
                }
                compound.is_some()
            }
        }
    }

    /// Tells the client that it is over.
    pub(super) fn say_goodbye(&mut self, now: Instant, arena: &mut SendArena) {
        let goodbye = match &self.side {
            Side::Viewer(viewing) => viewing.viewer.goodbye(),
            Side::Publisher(_) => None,
        };
        if let (Some(path), Some(sealer), Some(goodbye)) =
            (self.transport.path(), self.transport.sealer(), goodbye)
        {
            let size = goodbye.len() + Sealer::RTCP_OVERHEAD_MAX;
            arena.push_with(path, size, |memory| sealer.seal_rtcp(&goodbye, memory));
        }
        self.transport.close(now, arena);
    }

    pub(super) fn report(&self, now: Instant) -> SessionState {
        let round_trip = match &self.side {
            Side::Publisher(publishing) => publishing.receiver.round_trip(),
            Side::Viewer(viewing) => viewing.viewer.round_trip(),
        };
        SessionState {
            session: self.session,
            protocol: self.protocol(),
            age: now.saturating_duration_since(self.created),
            profile: self.transport.srtp_profile(),
            round_trip,
        }
    }

    pub(super) fn viewer_report(&self, layers: &[LayerState], now: Instant) -> Option<ViewerState> {
        let Side::Viewer(viewing) = &self.side else { return None };
        let counters = || viewing.viewer.tracks().map(Outgoing::counters);
        Some(ViewerState {
            session: self.report(now),
            loss: counters().map(|c| c.loss).fold(0.0, f64::max),
            packets: counters().map(|c| c.packets + c.retransmitted).sum(),
            bytes: counters().map(|c| c.bytes).sum(),
            retransmitted: counters().map(|c| c.retransmitted).sum(),
            layer: viewing.flows(layers),
            estimate: viewing.viewer.estimate(now),
        })
    }
}
