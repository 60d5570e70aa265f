//! What others may ask of an engine, and what it tells them.

use super::Engine;
use super::made::Wishes;
use super::message::{SenderReport, Term};
use super::report::StreamState;
use super::tap::{TapId, TapSink};
use crate::media::arena::SendArena;
use crate::media::bitrate::Bitrate;
use crate::media::codec::Format;
use crate::media::id::{SessionId, StreamName};
use crate::media::layer::{LayerId, LayerState, MadeLayer, SelectedLayer};
use crate::media::packet::Packet;
use crate::media::protocol::Protocol;
use crate::media::time::WallTime;
use crate::peer::agreement::{
    Credentials, PublisherAgreement, TransportAgreement, ViewerAgreement,
};
use crate::peer::srtp::SrtpProfile;
use crate::peer::transport::EndReason as TransportEnd;
pub use crate::router::choice::{Ceiling, LayerChoice};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A session that was answered over HTTP and waits for its client's first check.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Its id.
    pub session: SessionId,
    /// The stream it sends or takes.
    pub stream: StreamName,
    /// What was agreed.
    pub agreement: Agreement,
    /// Random bytes, for sequence numbers and SSRCs: the engine makes none of its own.
    pub random: [u8; 16],
    /// When it was made.
    pub created: Instant,
    /// What it wishes to see, if it takes the stream.
    pub choice: LayerChoice,
}

/// A stream that somebody writes who does not come by WebRTC.
pub struct Opening {
    /// The session.
    pub session: SessionId,
    /// The stream it writes.
    pub stream: StreamName,
    /// How it comes in.
    pub protocol: Protocol,
    /// When it was made.
    pub created: Instant,
    /// Called once, when it is over, in the engine's thread: it must not wait.
    pub ended: Box<dyn FnOnce(EndReason) + Send>,
}

/// What is written of a stream at a time: one frame, as a rule. Nothing: the publisher lives, and
/// what it sends is of no use here.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// What the packets are, where that is new; with every keyframe again, since an engine lets
    /// nobody change it too often.
    pub format: Option<Format>,
    /// Their timestamps on the server's clock, now and then.
    pub report: Option<SenderReport>,
    /// The packets, in order.
    pub packets: Vec<Arc<Packet>>,
    /// Counts it as long as it waits; none where nobody counts.
    pub waiting: Option<Arc<Waiting>>,
    /// It is not the publisher's own, but made here of that.
    pub is_made: bool,
    /// Nothing more comes of this layer, behind the packets; of one that is made here until
    /// somebody wants it again.
    pub ended: Option<LayerId>,
}

/// Layers that can be made of what a publisher sends.
pub struct Make {
    /// Its stream.
    pub stream: StreamName,
    /// Which publisher.
    pub term: Term,
    /// All of them; no more than [`MadeLayer::MAX`].
    pub layers: Arc<[MadeLayer]>,
    /// Told which of them are wanted; none: as before.
    pub wishes: Option<Arc<dyn Wishes>>,
}

/// A part of what one publisher may have waiting; dropping it gives it back.
#[derive(Debug)]
pub struct Waiting {
    count: Arc<AtomicUsize>,
    own: usize,
}

impl Waiting {
    /// So much more, unless that would be beyond `max`. Where nothing waits anything may.
    pub fn add(count: &Arc<AtomicUsize>, own: usize, max: usize) -> Option<Self> {
        let before = count.fetch_add(own, Ordering::Relaxed);
        let added = Self { count: Arc::clone(count), own };
        (before == 0 || before + own <= max).then_some(added)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// What a session agreed on, by role.
#[derive(Debug, Clone)]
pub enum Agreement {
    /// It sends the stream in.
    Publisher(PublisherAgreement),
    /// It takes the stream out.
    Viewer(ViewerAgreement),
}

impl Agreement {
    /// The part on ICE and DTLS.
    pub const fn transport(&self) -> &TransportAgreement {
        match self {
            Self::Publisher(agreement) => &agreement.transport,
            Self::Viewer(agreement) => &agreement.transport,
        }
    }

    /// The side of the stream that it is for.
    pub const fn role(&self) -> Role {
        match self {
            Self::Publisher(_) => Role::Publisher,
            Self::Viewer(_) => Role::Viewer,
        }
    }
}

/// Where prepared sessions wait until a shard claims them.
pub trait Claims: Send {
    /// Takes the session with this local ICE user name fragment, if `authentic` says that the
    /// check which names it is its client's.
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared>;

    /// The shard and session that this local ICE user name fragment belongs to since a shard has
    /// claimed it, if `authentic` says that the check which names it is its client's. Only asked
    /// where there are several shards.
    fn owner(
        &self,
        _ufrag: &str,
        _authentic: &mut dyn FnMut(&Credentials) -> bool,
    ) -> Option<(usize, SessionId)> {
        None
    }

    /// Whether there still is such a session.
    fn is_session(&self, _session: SessionId) -> bool {
        true
    }
}

/// What a shard is told.
pub enum Command {
    /// End a session.
    End(SessionId, EndReason),
    /// New ICE credentials of ours (RFC 8445 §9); the client's matter to a full agent only.
    Restart(SessionId, Credentials),
    /// Somebody writes a stream from now on.
    Publish(Box<Opening>),
    /// These layers can be made of what a publisher sends, from now on.
    Make(Box<Make>),
    /// They cannot any more.
    Unmake(StreamName, Term),
    /// Whether a viewer's client listens to what the timestamps that it sees stand for.
    Listen(SessionId, bool),
    /// What a viewer wishes to see from now on.
    Choose(SessionId, LayerChoice),
    /// Somebody reads a stream from now on, be it published yet or not.
    Tap(StreamName, TapId, Arc<dyn TapSink>),
    /// Nobody reads it there any more.
    Untap(StreamName, TapId),
    /// Somebody who reads a stream cannot go on without a keyframe.
    WantKeyframe(StreamName),
    /// Tell what is live.
    Report(Box<dyn FnOnce(Vec<StreamState>) + Send>),
    /// End every session: the server stops.
    Stop,
}

impl fmt::Debug for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End(session, reason) => write!(out, "End({session:?}, {reason})"),
            Self::Restart(session, ..) => write!(out, "Restart({session:?})"),
            Self::Publish(opening) => write!(out, "Publish({:?})", opening.session),
            Self::Make(make) => write!(out, "Make({}, {:?})", make.stream, make.layers),
            Self::Unmake(stream, term) => write!(out, "Unmake({stream}, {term:?})"),
            Self::Listen(session, listens) => write!(out, "Listen({session:?}, {listens})"),
            Self::Choose(session, choice) => write!(out, "Choose({session:?}, {choice:?})"),
            Self::Tap(stream, id, _) => write!(out, "Tap({stream}, {id:?})"),
            Self::Untap(stream, id) => write!(out, "Untap({stream}, {id:?})"),
            Self::WantKeyframe(stream) => write!(out, "WantKeyframe({stream})"),
            Self::Report(_) => out.write_str("Report"),
            Self::Stop => out.write_str("Stop"),
        }
    }
}

/// Which side of a stream a session is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sends the stream in.
    Publisher,
    /// It takes the stream out.
    Viewer,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
        })
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// ICE, DTLS or SRTP ended it.
    Transport(TransportEnd),
    /// Its client said so (DELETE).
    Deleted,
    /// The client never sent a valid check.
    NeverConnected,
    /// The same token published the stream anew.
    Replaced,
    /// The stream it watched ended.
    StreamEnded,
    /// The publisher changed to a codec that this viewer has not agreed to.
    CodecNotAgreed,
    /// The publisher is there and sends nothing.
    Silent,
    /// Its video cannot be played by WebRTC, whatever the viewer agrees to.
    NotPlayable,
    /// The server stops.
    Stopping,
    /// A fault inside the server's own or third-party code.
    Fault,
}

impl EndReason {
    /// The reason as a metric's label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Transport(TransportEnd::ConsentLost) => "consent_lost",
            Self::Transport(TransportEnd::HandshakeTimeout) => "handshake_timeout",
            Self::Transport(TransportEnd::HandshakeFailed(_)) => "handshake_failed",
            Self::Transport(TransportEnd::FingerprintMismatch) => "fingerprint_mismatch",
            Self::Transport(TransportEnd::ClosedByClient) => "closed_by_client",
            Self::Transport(TransportEnd::ClosedByServer) => "closed_by_server",
            Self::Deleted => "deleted",
            Self::NeverConnected => "never_connected",
            Self::Replaced => "replaced",
            Self::StreamEnded => "stream_ended",
            Self::CodecNotAgreed => "codec_not_agreed",
            Self::Silent => "silent",
            Self::NotPlayable => "not_playable",
            Self::Stopping => "stopping",
            Self::Fault => "fault",
        }
    }

    /// Whether the client is still there to be told goodbye.
    pub const fn is_worth_telling(&self) -> bool {
        !matches!(self, Self::Transport(_) | Self::NeverConnected)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Transport(reason) => return write!(out, "{reason}"),
            Self::Deleted => "the client ended it",
            Self::NeverConnected => "the client never connected",
            Self::Replaced => "the same token publishes anew",
            Self::StreamEnded => "the stream ended",
            Self::CodecNotAgreed => "the stream changed to a codec the viewer did not agree to",
            Self::Silent => "the publisher sends nothing",
            Self::NotPlayable => "WebRTC cannot play what the publisher sends",
            Self::Stopping => "the server stops",
            Self::Fault => "a fault inside the server",
        })
    }
}

/// What the timestamps of one track stand for, as a viewer sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackClock {
    /// The SSRC of its packets to this viewer.
    pub ssrc: u32,
    /// An RTP timestamp of theirs.
    pub timestamp: u32,
    /// The moment on the server's clock that it stands for.
    pub wall: WallTime,
}

/// Which layers of its picture a viewer may choose from, and what it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// All that have come from the publisher, best first.
    pub layers: Arc<[LayerState]>,
    /// What flows to it.
    pub current: Option<SelectedLayer>,
    /// What is to flow to it.
    pub target: Option<SelectedLayer>,
    /// What its link carries, as far as that is known.
    pub estimate: Option<Bitrate>,
}

/// What an engine tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session is ready for media.
    Connected {
        /// Which.
        session: SessionId,
        /// Its side.
        role: Role,
        /// Its stream.
        stream: StreamName,
        /// How its media comes or goes.
        protocol: Protocol,
        /// How it is protected, by WebRTC.
        profile: Option<SrtpProfile>,
    },
    /// Media flows, or its formats changed.
    Live {
        /// Which stream.
        stream: StreamName,
        /// Whose media.
        term: Term,
        /// What flows now, audio and video.
        formats: [Option<Format>; 2],
    },
    /// The publisher of a stream has left; its viewers wait until then for another.
    Vacant {
        /// Which stream.
        stream: StreamName,
        /// Which publisher.
        term: Term,
        /// How long they wait.
        until: Instant,
    },
    /// What the timestamps stand for that a viewer sees who listens to that.
    Clock {
        /// Which viewer.
        session: SessionId,
        /// Audio and video, where it may be said.
        clocks: [Option<TrackClock>; 2],
    },
    /// Which layers there are for a viewer who listens, or which one it gets, has changed.
    Layers {
        /// Which viewer.
        session: SessionId,
        /// What there is and what it gets.
        selection: Selection,
    },
    /// A session is over.
    Ended {
        /// Which.
        session: SessionId,
        /// Its side.
        role: Role,
        /// Its stream.
        stream: StreamName,
        /// Why.
        reason: EndReason,
    },
}

impl Engine {
    /// Does as it is told.
    pub(super) fn command(&mut self, command: Command, now: Instant, arena: &mut SendArena) {
        match command {
            Command::End(session, reason) => {
                if let Some(key) = self.demux.by_session(session) {
                    self.end(key, reason, now, arena);
                } else {
                    self.end_publication(session, reason, now);
                }
            }
            Command::Restart(session, local) => {
                let Some(key) = self.demux.by_session(session) else { return };
                let Some(peer) = self.peers.get_mut(key) else { return };
                let stale = peer.restart_ice(local);
                self.demux.rename(&peer.ufrag, stale.as_deref(), key);
            }
            Command::Publish(opening) => self.begin_publication(*opening, now, arena),
            Command::Make(make) => self.make(*make, now),
            Command::Unmake(stream, term) => self.unmake(&stream, term, now),
            Command::Listen(session, listens) => self.listen(session, listens, now, arena),
            Command::Choose(session, choice) => self.wish(session, choice, now, arena),
            Command::Tap(stream, id, sink) => self.tap(&stream, id, &sink, now),
            Command::Untap(stream, id) => self.untap(&stream, id),
            Command::WantKeyframe(stream) => self.keyframe_wanted(&stream, None, now),
            Command::Report(reply) => reply(self.report(now)),
            Command::Stop => {
                let keys: Vec<usize> = self.peers.iter().map(|(key, _)| key).collect();
                for key in keys {
                    self.end(key, EndReason::Stopping, now, arena);
                }
                for session in self.publications.keys().copied().collect::<Vec<_>>() {
                    self.end_publication(session, EndReason::Stopping, now);
                }
            }
        }
    }
}
