//! A stream being written by an adapter that does not speak WebRTC, and what is known of it beside
//! its media.

use super::directory::DirectoryError;
use super::tap::Readers;
use super::{Bus, ShardLink};
use crate::engine::command::{Command, EndReason, Opening, Waiting, Written};
use crate::engine::message::Term;
use crate::media::id::{SessionId, StreamName};
use crate::media::protocol::Protocol;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::warn;

/// What is known of a publisher that does not come by WebRTC, for operators and for its page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// Tracks that come in and are not used: "video 2: H264 1280x720".
    pub unused_tracks: Vec<String>,
    /// What does not work, and what to do about it, in whole sentences.
    pub notices: Vec<String>,
    /// Viewers can have what is made of its picture.
    pub has_made: bool,
    /// Frames that came in, and of those the ones that were left out on purpose or came damaged.
    pub frames: FrameCounts,
    /// How its link fares, where the protocol tells.
    pub link: Option<LinkReport>,
}

/// Frames of a publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// That came in.
    pub taken: u64,
    /// Left out since the publisher was too far behind.
    pub late: u64,
    /// Left out as B-frames.
    pub b_frames: u64,
    /// Left out since their times cannot be.
    pub misplaced: u64,
    /// Left out since something of them was lost on its way, or made no sense.
    pub damaged: u64,
    /// Left out since a media thread had no room.
    pub overrun: u64,
}

/// What a protocol measures of its link (SRT), since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinkReport {
    /// Round-trip time.
    pub round_trip: Duration,
    /// The agreed latency: so long packets wait for those that were lost.
    pub latency: Duration,
    /// Packets received, those sent again included.
    pub packets: u64,
    /// Packets missing when others came after them.
    pub lost_packets: u64,
    /// Packets that came again.
    pub retransmitted_packets: u64,
    /// Packets that came too late, or never, and were given up.
    pub dropped_packets: u64,
    /// Packets that could not be decrypted.
    pub undecrypted_packets: u64,
    /// Gaps in the transport stream that the packets carry.
    pub continuity_errors: u64,
    /// Pictures and pieces of sound that were left out since something of them was missing.
    pub damaged_units: u64,
}

/// The details of all such publishers.
pub(super) type AllDetails = DashMap<SessionId, Details>;

/// Who wants to write which stream.
#[derive(Debug, Clone)]
pub struct Publish {
    /// An id of its own.
    pub session: SessionId,
    /// The stream.
    pub stream: StreamName,
    /// How it comes in.
    pub protocol: Protocol,
    /// Names the token: whoever has the same one takes the stream over.
    pub token: u64,
    /// When it began.
    pub created: Instant,
}

/// Why it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The stream is taken, or there are too many.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A media thread takes nothing more at the moment.
    #[error("the server is too busy")]
    Busy,
}

/// A stream that is being written. Dropping it ends the session.
pub struct Publication {
    writer: Writer,
    stream: StreamName,
    created: Instant,
    bus: Arc<Bus>,
    ended: watch::Receiver<Option<EndReason>>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Publication").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Writes one stream, from several places if need be.
#[derive(Clone)]
pub struct Writer {
    session: SessionId,
    shard: ShardLink,
    /// What of it waits for the shard, in packets.
    waiting: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Writer {
    /// Packets of one publisher that may wait for its shard: 20 MB. All publishers of a shard wait
    /// in one line, of which none gets more than its share.
    const WAITING_MAX: usize = 16_384;
    /// As many packets a frame counts for at least: so 256 of the smallest wait, which is seconds.
    const FRAME_COUNTS_FOR: usize = 64;

    /// Of a session at this shard.
    pub(super) fn new(session: SessionId, shard: ShardLink) -> Self {
        Self { session, shard, waiting: Arc::default() }
    }

    /// Writes a frame. False: there was no room for it, and what depends on it is of no use.
    pub fn write(&self, mut written: Written) -> bool {
        let own = written.packets.len().max(Self::FRAME_COUNTS_FOR);
        let Some(waiting) = Waiting::add(&self.waiting, own, Self::WAITING_MAX) else {
            return false;
        };
        written.waiting = Some(Arc::new(waiting));
        self.shard.write(self.session, written)
    }
}

impl Publication {
    /// Its session.
    pub const fn session(&self) -> SessionId {
        self.writer.session
    }

    /// Its stream.
    pub const fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// What writes it.
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Those who read its stream.
    pub fn readers(&self) -> Readers {
        let term = Term { since: self.created, session: self.session() };
        Readers::new(Arc::clone(&self.bus), self.stream.clone(), term)
    }

    /// Why it is over, once it is.
    pub fn ended(&self) -> Option<EndReason> {
        self.ended.borrow().clone()
    }

    /// Waits until it is over; may be given up and called again.
    pub async fn wait_ended(&mut self) -> EndReason {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(EndReason::Stopping),
            // The shard has ended without a word.
            Err(_) => EndReason::Stopping,
        }
    }

    /// Changes what is known of it.
    pub fn describe(&self, change: impl FnOnce(&mut Details)) {
        self.bus.describe(self.session(), change);
    }

    /// What is known of it.
    pub fn details(&self) -> Details {
        self.bus.details(self.session()).unwrap_or_default()
    }

    /// WebRTC cannot play what comes from now on, for this reason: whoever watches is let go.
    /// `None`: it can again.
    pub fn set_obstacle(&self, obstacle: Option<&'static str>) {
        let directory = &self.bus.directory;
        if directory.set_obstacle(&self.stream, self.session(), obstacle) && obstacle.is_some() {
            for viewer in directory.viewers(&self.stream) {
                self.bus.end(viewer, EndReason::NotPlayable);
            }
        }
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let session = self.session();
        self.bus.details.remove(&session);
        if self.ended().is_some() {
            return;
        }
        if !self.writer.shard.command(Command::End(session, EndReason::Deleted)) {
            // The engine ends it when it has been silent for long enough.
            let stream = &self.stream;
            warn!(?session, %stream, "its shard is too busy to be told that a publisher has left");
        }
    }
}

impl Bus {
    /// Begins to write a stream, at the shard that is least busy.
    ///
    /// # Errors
    ///
    /// [`PublishError`]: nothing was begun.
    pub fn publish(self: &Arc<Self>, publish: Publish) -> Result<Publication, PublishError> {
        let Publish { session, stream, protocol, token, created } = publish;
        // Of several that are idle each has its turn.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.shards.len().max(1);
        let (before, after) = self.shards.split_at_checked(turn).unwrap_or_default();
        let shards = after.iter().zip(turn..).chain(before.iter().zip(0..));
        let quietest = shards.min_by(|(a, _), (b, _)| a.load().total_cmp(&b.load()));
        let (shard, index) = quietest.ok_or(PublishError::Busy)?;
        self.directory.begin(session, &stream, token, index)?;
        self.details.insert(session, Details::default());
        let (tell, ended) = watch::channel(None);
        let opening = Opening {
            session,
            stream: stream.clone(),
            protocol,
            created,
            // Nobody listens any more where the publication was dropped before.
            ended: Box::new(move |reason| drop(tell.send(Some(reason)))),
        };
        if !shard.command(Command::Publish(Box::new(opening))) {
            self.details.remove(&session);
            self.directory.remove(session);
            return Err(PublishError::Busy);
        }
        Ok(Publication {
            writer: Writer::new(session, Arc::clone(shard)),
            stream,
            created,
            bus: Arc::clone(self),
            ended,
        })
    }

    /// What is known of all publishers that do not come by WebRTC, with their streams.
    pub fn all_details(&self) -> Vec<(StreamName, Details)> {
        let named = self.details.iter().filter_map(|entry| {
            let stream = self.directory.session(*entry.key())?.stream;
            Some((stream, entry.value().clone()))
        });
        named.collect()
    }

    /// Changes what is known of a publisher that does not come by WebRTC.
    pub fn describe(&self, session: SessionId, change: impl FnOnce(&mut Details)) {
        if let Some(mut details) = self.details.get_mut(&session) {
            change(&mut details);
        }
    }

    /// What is known of a publisher that does not come by WebRTC.
    pub fn details(&self, session: SessionId) -> Option<Details> {
        self.details.get(&session).map(|details| details.clone())
    }
}
