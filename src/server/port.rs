//! The media server as HTTP sees it: `signaling`'s port, in `signaling`'s words.

use super::admission::{Admission, Shortage};
use super::audience::Audience;
use super::hls::{self, Packaged};
use super::ladders;
use super::layers;
use super::ledger::Ledger;
use super::memory;
use super::readings::{Beside, readings};
use super::thumbnails;
use crate::bus::directory::DirectoryError;
use crate::bus::publication::{self, Details, FrameCounts};
use crate::egress::thumbnail::Thumbnails;
use crate::engine::command::{EndReason, Role as SessionRole};
use crate::engine::report::{SessionState, StreamState, TrackState, ViewerState};
use crate::ladder::Ladders;
use crate::media::codec::Kind;
use crate::media::layer::LayerState;
use crate::media::time::Epoch;
use crate::peer::offer::AnswerError;
use crate::sessions::{self, Made, Sessions};
use crate::shard::Handle;
use crate::shard::gauges::Reading;
use crate::transcode::Transcoder;
use futures_util::future::BoxFuture;
use signaling::media_server::hls::{HlsAnswer, HlsError, HlsRequest};
use signaling::media_server::layers::LayerChoice;
use signaling::media_server::thumbnail::{Thumbnail, ThumbnailError};
use signaling::media_server::{
    Created, FramesReport, LinkReport, MediaServer, Metric, NotReady, OfferError, OfferRequest,
    PublisherReport, Role, SessionError, StreamReport, TrackReport, Trickle, Trickled, ViewerEvent,
    ViewerNews, ViewerReport,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// All that HTTP may ask for.
pub(super) struct Port {
    sessions: Sessions,
    shards: Arc<Vec<Handle>>,
    ledger: Arc<Ledger>,
    audience: Arc<Audience>,
    admission: Admission,
    transcoder: Transcoder,
    ladders: Ladders,
    packaged: Packaged,
    thumbnails: Thumbnails,
    /// Resident memory, as of the last second.
    memory_bytes: AtomicU64,
    epoch: Epoch,
    stopping: AtomicBool,
}

/// What it is made of.
pub(super) struct Parts {
    pub(super) sessions: Sessions,
    pub(super) shards: Arc<Vec<Handle>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) audience: Arc<Audience>,
    pub(super) admission: Admission,
    pub(super) transcoder: Transcoder,
    pub(super) ladders: Ladders,
    pub(super) packaged: Packaged,
    pub(super) thumbnails: Thumbnails,
    pub(super) epoch: Epoch,
}

impl Port {
    /// A client that finds no place is to come back after this, in seconds, or a little more.
    const RETRY_AFTER_MIN_S: u64 = 3;
    /// So much more at most: a thousand that were refused at once do not come again at once.
    const RETRY_AFTER_MORE_S: u64 = 6;
    /// A player of HLS comes back after this, to the server that is started next.
    const HLS_RETRY_AFTER: Duration = Duration::from_secs(2);

    pub(super) fn new(parts: Parts) -> Self {
        let Parts { sessions, shards, ledger, audience, admission, .. } = parts;
        let Parts { transcoder, ladders, packaged, thumbnails, epoch, .. } = parts;
        Self {
            sessions,
            shards,
            ledger,
            audience,
            admission,
            transcoder,
            ladders,
            packaged,
            thumbnails,
            memory_bytes: AtomicU64::new(memory::resident_bytes()),
            epoch,
            stopping: AtomicBool::new(false),
        }
    }

    /// Looks at the process' memory anew.
    pub(super) fn look_at_memory(&self) {
        self.memory_bytes.store(memory::resident_bytes(), Ordering::Relaxed);
    }

    /// Packages what always is, and forgets what nobody gets any more.
    pub(super) fn look_at_streams(&self) {
        self.packaged.look();
        self.thumbnails.look();
    }

    /// Looks at how all fare; why no viewer can be taken now, if none can.
    pub(super) fn look(&self) -> Option<Shortage> {
        let readings: Vec<Reading> = self.shards.iter().map(Handle::gauges).collect();
        let sessions = self.sessions.bus.directory().counts();
        let memory = self.memory_bytes.load(Ordering::Relaxed);
        self.admission.look(&readings, sessions, memory, self.sessions.clock.now())
    }

    pub(super) const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// From now on every offer is refused, and who waits for more of a stream is told.
    pub(super) fn refuse_new(&self) {
        self.stopping.store(true, Ordering::Release);
        self.packaged.stop();
    }

    /// Tells those who listen how many watch their streams.
    pub(super) fn count_viewers(&self) {
        self.audience.tell_counts(self.sessions.bus.directory());
    }

    /// Ends what viewers still listen to.
    pub(super) fn end_events(&self) {
        self.audience.close();
    }

    /// Sessions that are connected or being connected.
    pub(super) fn sessions_left(&self) -> usize {
        let (pending, all) = self.sessions.bus.directory().counts();
        all.saturating_sub(pending)
    }

    /// Ends the sessions whose clients never came.
    pub(super) fn end_overdue(&self) {
        for (session, role) in self.sessions.end_overdue() {
            self.ledger.ended_unclaimed(session, role, &EndReason::NeverConnected);
        }
    }

    fn answer(
        &self,
        stream: &str,
        make: impl FnOnce() -> Result<Made, sessions::OfferError>,
    ) -> Result<Created, OfferError> {
        let made = if self.stopping.load(Ordering::Acquire) {
            let reason = "the server is stopping".to_owned();
            Err(busy(reason))
        } else {
            make().map_err(|error| refusal(error, stream))
        };
        match made {
            Ok(Made { session, answer, etag }) => {
                Ok(Created { session: session.to_string(), answer, etag })
            }
            Err(error) => {
                self.ledger.refused(label(&error));
                Err(error)
            }
        }
    }
}

/// A refusal of what may be taken soon. Without a random number it is the same for all.
fn busy(reason: String) -> OfferError {
    let mut random = [0];
    let more = getrandom::fill(&mut random).map_or(0, |()| u64::from(random[0]));
    let seconds = Port::RETRY_AFTER_MIN_S + more % Port::RETRY_AFTER_MORE_S;
    OfferError::Busy { reason, retry_after: Duration::from_secs(seconds) }
}

/// A refusal in HTTP's words.
fn refusal(error: sessions::OfferError, stream: &str) -> OfferError {
    match error {
        sessions::OfferError::Name(error) => OfferError::BadName(error.to_string()),
        sessions::OfferError::Answer(error) => {
            let text = error.to_string();
            match error {
                AnswerError::Malformed(_) => OfferError::Malformed(text),
                AnswerError::NoCommonCodec { .. } => OfferError::NoCommonCodec(text),
                AnswerError::Unservable(_) => OfferError::Unservable(text),
            }
        }
        sessions::OfferError::Directory(DirectoryError::Taken) => {
            OfferError::Taken(stream.to_owned())
        }
        sessions::OfferError::Directory(DirectoryError::NotPlayable(why)) => {
            OfferError::NotPlayable(why.to_owned())
        }
        sessions::OfferError::Directory(DirectoryError::NotLive) => {
            OfferError::NotLive(stream.to_owned())
        }
        sessions::OfferError::Directory(DirectoryError::Full(limit)) => {
            busy(format!("the server is full: {limit} is reached"))
        }
        sessions::OfferError::Random(error) => busy(error.to_string()),
    }
}

/// A refusal as a metric's label.
const fn label(error: &OfferError) -> &'static str {
    match error {
        OfferError::BadName(_) => "bad_name",
        OfferError::Malformed(_) => "malformed",
        OfferError::NoCommonCodec(_) => "no_common_codec",
        OfferError::Unservable(_) => "unservable",
        OfferError::NotPlayable(_) => "not_playable",
        OfferError::NotLive(_) => "not_live",
        OfferError::Taken(_) => "taken",
        OfferError::Busy { .. } => "busy",
    }
}

const fn session_role(role: Role) -> SessionRole {
    match role {
        Role::Publisher => SessionRole::Publisher,
        Role::Viewer => SessionRole::Viewer,
    }
}

impl MediaServer for Port {
    fn publish(&self, request: OfferRequest<'_>) -> Result<Created, OfferError> {
        let OfferRequest { stream, offer, token } = request;
        self.answer(stream, || self.sessions.publish(stream, offer, token.0))
    }

    fn view(&self, request: OfferRequest<'_>) -> Result<Created, OfferError> {
        let OfferRequest { stream, offer, .. } = request;
        if let Some(shortage) = self.look() {
            self.ledger.refused(shortage.label());
            return Err(busy(format!("no more viewers can be served now: {shortage}")));
        }
        self.answer(stream, || self.sessions.view(stream, offer))
    }

    fn trickle(&self, trickle: Trickle<'_>) -> Result<Trickled, SessionError> {
        let Trickle { role, session, fragment, etag } = trickle;
        let ufrag = fragment.credentials.as_ref().map(|new| new.ufrag.as_str());
        match self.sessions.trickle(session_role(role), session, ufrag, etag) {
            Ok(sessions::Trickled::Accepted) => Ok(Trickled::Accepted),
            Ok(sessions::Trickled::Restarted(fragment, etag)) => {
                Ok(Trickled::Restarted { fragment, etag })
            }
            Err(sessions::TrickleError::Unknown) => Err(SessionError::Unknown),
            Err(sessions::TrickleError::OtherIceSession) => Err(SessionError::OtherIceSession),
            Err(sessions::TrickleError::NoRestart) => Err(SessionError::NoRestart),
        }
    }

    fn end(&self, role: Role, session: &str) -> Result<(), SessionError> {
        match self.sessions.end(session_role(role), session) {
            Some((session, unclaimed)) => {
                if unclaimed {
                    // Claimed ones are counted when their shard has ended them.
                    let role = session_role(role);
                    self.ledger.ended_unclaimed(session, role, &EndReason::Deleted);
                }
                Ok(())
            }
            None => Err(SessionError::Unknown),
        }
    }

    fn events(&self, session: &str) -> Result<watch::Receiver<ViewerNews>, SessionError> {
        let viewer = || self.sessions.find(SessionRole::Viewer, session);
        let (id, entry) = viewer().ok_or(SessionError::Unknown)?;
        let events = self.audience.add(id, &entry.stream).ok_or(SessionError::EventsFull)?;
        if viewer().is_none() {
            // It has ended in between: nobody would forget it.
            self.audience.remove(id, None);
            return Err(SessionError::Unknown);
        }
        let published = self.sessions.bus.directory().is_published(&entry.stream);
        let now = if published { ViewerEvent::Active } else { ViewerEvent::Inactive };
        self.audience.greet(id, now);
        Ok(events)
    }

    fn choose_layer(
        &self,
        session: &str,
        media: Option<&str>,
        choice: LayerChoice,
    ) -> Result<(), SessionError> {
        let found = self.sessions.find(SessionRole::Viewer, session);
        let (id, entry) = found.ok_or(SessionError::Unknown)?;
        if media.is_some_and(|media| layers::video_of(&entry) != Some(media)) {
            return Err(SessionError::UnknownMedia);
        }
        match self.sessions.bus.choose(id, layers::choice(choice.clone())) {
            Some(true) => {
                self.audience.tell_choice(id, &choice);
                Ok(())
            }
            Some(false) => Err(SessionError::Busy),
            None => Err(SessionError::Unknown),
        }
    }

    fn hls<'a>(&'a self, request: HlsRequest<'a>) -> BoxFuture<'a, Result<HlsAnswer, HlsError>> {
        Box::pin(async move {
            if self.stopping.load(Ordering::Acquire) {
                let reason = "the server is stopping".to_owned();
                return Err(HlsError::Busy { reason, retry_after: Self::HLS_RETRY_AFTER });
            }
            hls::answer(&self.packaged, request).await
        })
    }

    fn thumbnail<'a>(
        &'a self,
        stream: &'a str,
    ) -> BoxFuture<'a, Result<Thumbnail, ThumbnailError>> {
        Box::pin(async move {
            if self.stopping.load(Ordering::Acquire) {
                return Err(thumbnails::failed("the server is stopping".to_owned()));
            }
            thumbnails::answer(&self.thumbnails, stream).await
        })
    }

    fn unix_ms(&self) -> f64 {
        let now = self.sessions.clock.now();
        self.epoch.wall_of(now).as_unix().as_secs_f64() * 1000.0
    }

    fn streams(&self) -> BoxFuture<'_, Vec<StreamReport>> {
        Box::pin(async {
            let now = self.sessions.clock.now();
            let wall = self.epoch.wall_of(now).as_unix();
            let states = self.sessions.bus.report().await;
            let bus = &self.sessions.bus;
            let details = |state: &StreamState| bus.details(state.publisher.as_ref()?.session);
            let report = |state: StreamState| {
                let made = self.ladders.report(&state.name);
                let mut report = stream_report(details(&state), state, wall);
                ladders::add(made.unwrap_or_default(), &mut report);
                report
            };
            states.into_iter().map(report).collect()
        })
    }

    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>> {
        let transcoding = self.transcoder.counts();
        let (packaging, ladders) = (self.packaged.counts(), self.ladders.reports());
        let thumbnails = self.thumbnails.counts();
        let beside = Beside { transcoding, packaging, ladders, thumbnails };
        Box::pin(readings(&self.sessions, &self.shards, &self.ledger, &self.admission, beside))
    }

    fn ready(&self) -> Result<(), NotReady> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(NotReady::Stopping);
        }
        self.look().map_or(Ok(()), |shortage| Err(NotReady::Busy(shortage.to_string())))
    }
}

fn stream_report(details: Option<Details>, state: StreamState, wall: Duration) -> StreamReport {
    let known = details.clone().unwrap_or_default();
    let publisher = state.publisher.map(|publisher| PublisherReport {
        session: short_id(&publisher),
        protocol: publisher.protocol.to_string(),
        srtp_profile: publisher.profile.map(|profile| profile.to_string()),
        round_trip_ms: milliseconds(publisher.round_trip),
        age_seconds: publisher.age.as_secs_f64(),
        notices: known.notices,
        unused_tracks: known.unused_tracks,
        frames: details.map(|details| frames_report(details.frames)),
        link: known.link.map(link_report),
    });
    let layers = state.tracks.iter().find(|track| track.kind == Kind::Video);
    let layers = layers.map_or(&[][..], |track| &track.layers);
    StreamReport {
        name: state.name.to_string(),
        since_unix_seconds: wall.saturating_sub(state.age).as_secs_f64(),
        publisher,
        tracks: state.tracks.iter().map(track_report).collect(),
        viewers: state.viewers.iter().map(|it| viewer_report(it, layers)).collect(),
    }
}

fn frames_report(frames: FrameCounts) -> FramesReport {
    let FrameCounts { taken, late, b_frames, misplaced, damaged, overrun } = frames;
    FramesReport { taken, late, b_frames, misplaced, damaged, overrun }
}

fn link_report(link: publication::LinkReport) -> LinkReport {
    LinkReport {
        round_trip_ms: link.round_trip.as_secs_f64() * 1000.0,
        latency_ms: link.latency.as_secs_f64() * 1000.0,
        packets: link.packets,
        lost_packets: link.lost_packets,
        retransmitted_packets: link.retransmitted_packets,
        dropped_packets: link.dropped_packets,
        undecrypted_packets: link.undecrypted_packets,
        continuity_errors: link.continuity_errors,
        damaged_units: link.damaged_units,
    }
}

fn track_report(track: &TrackState) -> TrackReport {
    TrackReport {
        kind: track.kind.to_string(),
        codec: track.format.codec.to_string(),
        bitrate_bps: track.bitrate.as_bps(),
        packets: track.packets,
        lost_packets: track.lost,
        keyframes: track.keyframes,
        layers: track.layers.iter().map(layers::report).collect(),
    }
}

fn viewer_report(viewer: &ViewerState, layers: &[LayerState]) -> ViewerReport {
    ViewerReport {
        session: short_id(&viewer.session),
        protocol: viewer.session.protocol.to_string(),
        srtp_profile: viewer.session.profile.map(|profile| profile.to_string()),
        loss: viewer.loss,
        round_trip_ms: milliseconds(viewer.session.round_trip),
        packets: viewer.packets,
        bytes: viewer.bytes,
        retransmitted_packets: viewer.retransmitted,
        layer: viewer.layer.map(|layer| layers::selected(layer, layers)),
        estimate_bps: viewer.estimate.map(|estimate| estimate.bitrate.as_bps()),
        age_seconds: viewer.session.age.as_secs_f64(),
    }
}

/// As the log has it: enough to find the session, too little to end it.
fn short_id(state: &SessionState) -> String {
    format!("{:?}", state.session)
}

fn milliseconds(span: Option<Duration>) -> Option<f64> {
    span.map(|span| span.as_secs_f64() * 1000.0)
}
