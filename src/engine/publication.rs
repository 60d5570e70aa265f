//! Publishers whose media comes as packets made here, out of frames that did not come by WebRTC.
//!
//! Such a publisher has no peer: nothing can be asked of it, and what it sends is written by
//! whoever reads its protocol.

use super::Engine;
use super::command::{EndReason, Event, Opening, Role, Written};
use super::message::{Message, SenderReport, Term};
use super::report::{SessionState, TrackState};
use crate::media::arena::SendArena;
use crate::media::codec::{Format, Kind};
use crate::media::id::SessionId;
use crate::media::meter::Meter;
use crate::media::packet::Packet;
use crate::media::protocol::Protocol;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tracing::{error, info};

/// The session that writes a stream.
pub(super) struct Publication {
    session: SessionId,
    protocol: Protocol,
    created: Instant,
    /// When it wrote last, be it nothing but a sign of life.
    last_sign: Instant,
    tracks: [Track; 2],
    ended: Box<dyn FnOnce(EndReason) + Send>,
}

/// What has come of one kind.
struct Track {
    meter: Meter,
    packets: u64,
    keyframes: u64,
    /// Its timestamp.
    newest_keyframe: Option<u64>,
}

impl Publication {
    fn new(opening: Opening, now: Instant) -> Self {
        let Opening { session, protocol, created, ended, .. } = opening;
        let meter = || Meter::new(Duration::from_secs(1), now);
        let tracks = Kind::ALL.map(|_| Track {
            meter: meter(),
            packets: 0,
            keyframes: 0,
            newest_keyframe: None,
        });
        Self { session, protocol, created, last_sign: now, tracks, ended }
    }

    /// Which publisher of its stream it is.
    pub(super) const fn term(&self) -> Term {
        Term { since: self.created, session: self.session }
    }

    /// When it has sent nothing for too long, if it sends nothing more.
    fn silent_at(&self, silence_max: Duration) -> Instant {
        self.last_sign + silence_max
    }

    fn count(&mut self, packet: &Packet, now: Instant) {
        let track = &mut self.tracks[packet.codec.kind().index()];
        track.meter.add(packet.payload.len(), now);
        track.packets += 1;
        // Several packets of one may say that it is one.
        if packet.keyframe && packet.codec.kind() == Kind::Video {
            let is_new = track.newest_keyframe.replace(packet.timestamp) != Some(packet.timestamp);
            track.keyframes += u64::from(is_new);
        }
    }

    pub(super) fn report(&self, now: Instant) -> SessionState {
        SessionState {
            session: self.session,
            protocol: self.protocol,
            age: now.saturating_duration_since(self.created),
            profile: None,
            round_trip: None,
        }
    }

    pub(super) fn track(&self, kind: Kind, format: Format, now: Instant) -> TrackState {
        let track = &self.tracks[kind.index()];
        TrackState {
            layers: Vec::new(),
            kind,
            format,
            bitrate: track.meter.rate(now),
            packets: track.packets,
            lost: 0,
            keyframes: track.keyframes,
        }
    }
}

impl Engine {
    /// Somebody writes a stream from now on: it is its own.
    pub(super) fn begin_publication(
        &mut self,
        opening: Opening,
        now: Instant,
        arena: &mut SendArena,
    ) {
        let name = opening.stream.clone();
        let publication = Publication::new(opening, now);
        let (session, protocol, term) =
            (publication.session, publication.protocol, publication.term());
        let index = self.stream_named(&name, now);
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.members += 1;
        let is_late = stream.has_publisher() && stream.term > Some(term);
        if is_late || self.is_published_later(&name, term) {
            self.publication_over(index, publication, EndReason::Replaced);
            return self.leave(index);
        }
        self.end_publisher(index, EndReason::Replaced, now, arena);
        info!(?session, stream = %name, role = %Role::Publisher, %protocol, "connected");
        let role = Role::Publisher;
        self.events.push_back(Event::Connected {
            session,
            role,
            stream: name,
            protocol,
            profile: None,
        });
        self.publish(index, term);
        self.begin_term(index);
        self.publications.insert(session, index);
        if let Some(stream) = self.streams.get_mut(index) {
            stream.publication = Some(Box::new(publication));
        }
    }

    /// Whether this session writes a stream here, or one that comes by WebRTC is known.
    pub fn is_written(&self, session: SessionId) -> bool {
        self.publications.contains_key(&session) || self.demux.by_session(session).is_some()
    }

    /// What such a publisher has sent; a panic in it ends that publisher only.
    pub(super) fn take_written(&mut self, session: SessionId, written: Written, now: Instant) {
        if catch_unwind(AssertUnwindSafe(|| self.written(session, written, now))).is_err() {
            let index = self.publications.get(&session);
            let stream = index.and_then(|&index| self.streams.get(index)).map(|it| &it.name);
            error!(?session, ?stream, "a fault in code ended this publisher; please report it");
            self.counters.faults += 1;
            self.end_publication(session, EndReason::Fault, now);
        }
    }

    fn written(&mut self, session: SessionId, written: Written, now: Instant) {
        let Some(&index) = self.publications.get(&session) else { return };
        let publication = self.streams.get_mut(index).and_then(|it| it.publication.as_mut());
        if let Some(publication) = publication {
            publication.last_sign = now;
        }
        if let Some(format) = written.format {
            self.format_written(index, format, now);
        }
        for packet in &written.packets {
            let Some(stream) = self.streams.get_mut(index) else { return };
            let Some(publication) = &mut stream.publication else { return };
            publication.count(packet, now);
            let known = stream.formats[packet.codec.kind().index()].as_ref();
            if known.is_some_and(|format| format.codec == packet.codec) {
                self.forward(index, packet);
            } else {
                self.counters.packets_dropped += 1;
            }
        }
        if let Some(stream) = self.streams.get_mut(index) {
            stream.tell_made_layers(now);
        }
        // It says something of a track once there has been a packet of it.
        if let Some(report) = written.report
            && let Some(stream) = self.streams.get_mut(index)
        {
            let SenderReport { lane, ntp, timestamp, arrival } = report;
            stream.router.sender_report(lane, ntp, timestamp, arrival);
            self.tell_followers(index, |name| Message::SenderReport(name, report));
        }
        if let Some(layer) = written.ended {
            self.layer_ended(index, layer, now);
        }
    }

    fn format_written(&mut self, index: usize, format: Format, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let kind = format.codec.kind();
        if stream.formats[kind.index()].as_ref() == Some(&format) || !stream.may_change(kind, now) {
            return;
        }
        let Some(term) = stream.publication.as_ref().map(|publication| publication.term()) else {
            return;
        };
        self.begin_format(index, term, format);
    }

    /// Ends the session with this id, if it writes a stream.
    pub(super) fn end_publication(&mut self, session: SessionId, reason: EndReason, now: Instant) {
        let Some(index) = self.publications.remove(&session) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(publication) = stream.publication.take() else { return };
        let (term, is_replaced) = (publication.term(), reason == EndReason::Replaced);
        self.publication_over(index, *publication, reason);
        self.publisher_left(index, term, is_replaced, now);
        self.leave(index);
    }

    /// Tells all who must know that it has ended.
    fn publication_over(&mut self, index: usize, publication: Publication, reason: EndReason) {
        let Some(stream) = self.streams.get(index) else { return };
        let (session, role, stream) = (publication.session, Role::Publisher, stream.name.clone());
        info!(?session, %stream, %role, %reason, "session ended");
        (publication.ended)(reason.clone());
        self.events.push_back(Event::Ended { session, role, stream, reason });
    }

    /// Ends it where it has written nothing for too long.
    pub(super) fn end_silent_publication(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get(index) else { return };
        let Some(publication) = &stream.publication else { return };
        if publication.silent_at(self.settings.publisher_silence) <= now {
            self.end_publication(publication.session, EndReason::Silent, now);
        }
    }

    /// When the first of them must be looked at for its silence.
    pub(super) fn publication_deadline(&self) -> Option<Instant> {
        let silence_max = self.settings.publisher_silence;
        let publications = self
            .publications
            .values()
            .filter_map(|&index| self.streams.get(index)?.publication.as_ref());
        publications.map(|publication| publication.silent_at(silence_max)).min()
    }
}
