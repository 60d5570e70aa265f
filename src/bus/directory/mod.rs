//! Which sessions and streams there are, which wait to be claimed, and which shard owns a session.
//!
//! The control plane writes it; a shard touches it only when a session's first check arrives.
//! No method holds the guards of two maps at a time.
//!
//! - `choices`: what viewers wish to see
//! - `tests`: every behaviour of the whole
//! - `viewers`: who watches a stream, and how many that are

mod choices;
#[cfg(test)]
mod tests;
mod viewers;

use crate::engine::command::{Claims, LayerChoice, Prepared, Role};
use crate::engine::message::Term;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::id::{SessionId, StreamName};
use crate::peer::agreement::Credentials;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many of what there may be; the reasons stand beside the options of the same names.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryLimits {
    /// Publishers and viewers together.
    pub sessions: usize,
    /// Streams.
    pub streams: usize,
    /// Viewers of one stream.
    pub viewers_per_stream: usize,
    /// Sessions that wait to be claimed.
    pub pending: usize,
    /// How long a session may wait to be claimed.
    pub claim_timeout: Duration,
}

/// A session as the control plane knows it.
#[derive(Debug, Clone)]
pub struct SessionEntry {
    /// Its side.
    pub role: Role,
    /// Its stream.
    pub stream: StreamName,
    /// Its ICE session, as an entity tag without quotes.
    pub etag: String,
    /// Our present ICE user name fragment.
    pub ufrag: String,
    /// The one before the last restart of ICE, which the client may still use.
    pub former_ufrag: Option<String>,
    /// The client's present ICE user name fragment.
    pub remote_ufrag: String,
    /// The accepted sections with their `mid`s, for the answer to an ICE restart.
    pub sections: Vec<(Kind, String)>,
    /// What it wishes to see, if it takes the stream.
    pub choice: LayerChoice,
    /// The shard that claimed it.
    pub shard: Option<usize>,
}

#[derive(Debug, Default)]
struct StreamEntry {
    /// Who may take the stream over.
    token: u64,
    publishers: Vec<SessionId>,
    viewers: usize,
    formats: [Option<Format>; 2],
    /// Which publisher's they are.
    term: Option<Term>,
    /// How other layers are encoded that are made of what this publisher sends.
    made: Option<(Term, Codec)>,
    /// Why WebRTC cannot play what its publisher sends, if that is so.
    obstacle: Option<(SessionId, &'static str)>,
    /// Its publisher has left, and its viewers wait until then for another.
    vacant_until: Option<Instant>,
}

impl StreamEntry {
    fn is_published(&self) -> bool {
        !self.publishers.is_empty() && self.has_formats() && self.vacant_until.is_none()
    }

    fn has_formats(&self) -> bool {
        self.formats.iter().any(Option::is_some)
    }

    fn publisher_left(&mut self, session: SessionId) {
        self.publishers.retain(|&publisher| publisher != session);
        self.obstacle.take_if(|(publisher, _)| *publisher == session);
    }

    /// Whether it is a later publisher's by now: two shards' threads tell of two publishers, and
    /// what the one before is said to do comes late.
    fn is_later_than(&self, term: Term) -> bool {
        self.vacant_until.is_none() && self.term.is_some_and(|own| own > term)
    }
}

/// Which shard serves a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The one with this number.
    Shard(usize),
    /// None yet: any may claim it.
    Nobody,
}

/// Why a session cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Another token publishes the stream.
    #[error("the stream is being published with another token")]
    Taken,
    /// Nobody publishes the stream.
    #[error("the stream is not live")]
    NotLive,
    /// WebRTC cannot play what its publisher sends, for this reason.
    #[error("{0}")]
    NotPlayable(&'static str),
    /// A limit is reached; says which option.
    #[error("{0} is reached")]
    Full(&'static str),
}

/// All sessions and streams of this server.
#[derive(Debug)]
pub struct Directory {
    limits: DirectoryLimits,
    sessions: DashMap<SessionId, SessionEntry>,
    pending: DashMap<String, Prepared>,
    /// Claimed sessions by our ICE user name fragment, with what their checks are signed with.
    claimed: DashMap<String, (SessionId, Credentials)>,
    streams: DashMap<StreamName, StreamEntry>,
    /// How many watch a stream without a session.
    others: DashMap<StreamName, usize>,
    /// Sessions there are or are being made.
    places: AtomicUsize,
}

impl Directory {
    /// An empty directory.
    pub fn new(limits: DirectoryLimits) -> Self {
        Self {
            limits,
            sessions: DashMap::new(),
            pending: DashMap::new(),
            claimed: DashMap::new(),
            streams: DashMap::new(),
            others: DashMap::new(),
            places: AtomicUsize::new(0),
        }
    }

    /// What flows on a live stream, or did before its publisher left, if that may come back; and
    /// what is made of it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::NotLive`] where nothing does.
    pub fn formats(
        &self,
        stream: &StreamName,
        now: Instant,
    ) -> Result<Vec<Format>, DirectoryError> {
        let entry = self.streams.get(stream).ok_or(DirectoryError::NotLive)?;
        if let Some((_, obstacle)) = entry.obstacle {
            return Err(DirectoryError::NotPlayable(obstacle));
        }
        if entry.is_published() || entry.vacant_until.is_some_and(|until| now < until) {
            let made = entry.made.filter(|(term, _)| entry.term == Some(*term));
            let made = made.map(|(_, codec)| Format { codec, parameters: String::new() });
            let flows = entry.formats.iter().flatten().cloned();
            let is_else = |made: &Format| flows.clone().all(|it| it.codec != made.codec);
            return Ok(flows.clone().chain(made.filter(is_else)).collect());
        }
        Err(DirectoryError::NotLive)
    }

    /// Whether this token may publish the stream now, without making anything.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Taken`] where another token does.
    pub fn may_publish(&self, stream: &StreamName, token: u64) -> Result<(), DirectoryError> {
        match self.streams.get(stream) {
            Some(entry) if !entry.publishers.is_empty() && entry.token != token => {
                Err(DirectoryError::Taken)
            }
            _ => Ok(()),
        }
    }

    /// Makes a session and lets it wait to be claimed.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: nothing was made.
    pub fn add(
        &self,
        prepared: Prepared,
        entry: SessionEntry,
        token: u64,
    ) -> Result<(), DirectoryError> {
        if self.pending.len() >= self.limits.pending {
            return Err(DirectoryError::Full("limits.pending_sessions_max"));
        }
        let session = prepared.session;
        self.take_place(&entry, session, token)?;
        let ufrag = entry.ufrag.clone();
        self.sessions.insert(session, entry);
        self.pending.insert(ufrag, prepared);
        Ok(())
    }

    /// Makes a session that writes a stream without ICE: this shard owns it at once.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: nothing was made.
    pub fn begin(
        &self,
        session: SessionId,
        stream: &StreamName,
        token: u64,
        shard: usize,
    ) -> Result<(), DirectoryError> {
        let entry = SessionEntry {
            role: Role::Publisher,
            stream: stream.clone(),
            etag: String::new(),
            ufrag: String::new(),
            former_ufrag: None,
            remote_ufrag: String::new(),
            sections: Vec::new(),
            choice: LayerChoice::default(),
            shard: Some(shard),
        };
        self.take_place(&entry, session, token)?;
        self.sessions.insert(session, entry);
        Ok(())
    }

    /// WebRTC cannot play what this publisher of a stream sends, for this reason; `None`: it can.
    /// False: that is known, or another one publishes it by now.
    pub fn set_obstacle(
        &self,
        stream: &StreamName,
        publisher: SessionId,
        obstacle: Option<&'static str>,
    ) -> bool {
        let Some(mut entry) = self.streams.get_mut(stream) else { return false };
        let obstacle = obstacle.map(|obstacle| (publisher, obstacle));
        if entry.publishers.last() != Some(&publisher) || entry.obstacle == obstacle {
            return false;
        }
        entry.obstacle = obstacle;
        true
    }

    /// Of what this publisher of a stream sends, layers of this codec are made; `None`: no more.
    pub fn set_made(&self, stream: &StreamName, term: Term, codec: Option<Codec>) {
        let Some(mut entry) = self.streams.get_mut(stream) else { return };
        match codec {
            Some(codec) => entry.made = Some((term, codec)),
            None => drop(entry.made.take_if(|(of, _)| *of == term)),
        }
    }

    /// Whether layers are made of what flows on a stream.
    pub fn is_made(&self, stream: &StreamName) -> bool {
        let of_present = |entry: &StreamEntry| entry.made.map(|(term, _)| term) == entry.term;
        self.streams.get(stream).is_some_and(|it| it.made.is_some() && of_present(&it))
    }

    /// One more session of a stream, if there is room.
    fn take_place(
        &self,
        entry: &SessionEntry,
        session: SessionId,
        token: u64,
    ) -> Result<(), DirectoryError> {
        if self.places.fetch_add(1, Ordering::Relaxed) >= self.limits.sessions {
            self.places.fetch_sub(1, Ordering::Relaxed);
            return Err(DirectoryError::Full("limits.sessions_max"));
        }
        self.join(entry, session, token).inspect_err(|_| {
            self.places.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Counts a session into its stream.
    fn join(
        &self,
        entry: &SessionEntry,
        session: SessionId,
        token: u64,
    ) -> Result<(), DirectoryError> {
        let streams = self.streams.len();
        let begins = entry.shard.is_some();
        match (self.streams.entry(entry.stream.clone()), entry.role) {
            (MapEntry::Vacant(_), Role::Viewer) => Err(DirectoryError::NotLive),
            (MapEntry::Vacant(_), Role::Publisher) if streams >= self.limits.streams => {
                Err(DirectoryError::Full("limits.streams_max"))
            }
            (MapEntry::Vacant(vacant), Role::Publisher) => {
                let publishers = vec![session];
                vacant.insert(StreamEntry { token, publishers, ..StreamEntry::default() });
                Ok(())
            }
            (MapEntry::Occupied(mut stream), Role::Publisher) => {
                let stream = stream.get_mut();
                if !stream.publishers.is_empty() && stream.token != token {
                    return Err(DirectoryError::Taken);
                }
                stream.token = token;
                // Who comes by WebRTC may never connect; if it does, the one before leaves.
                stream.obstacle.take_if(|_| begins);
                stream.publishers.push(session);
                Ok(())
            }
            (MapEntry::Occupied(mut stream), Role::Viewer) => {
                if stream.get().viewers >= self.limits.viewers_per_stream {
                    return Err(DirectoryError::Full("limits.viewers_per_stream_max"));
                }
                stream.get_mut().viewers += 1;
                Ok(())
            }
        }
    }

    /// A session as it is now.
    pub fn session(&self, session: SessionId) -> Option<SessionEntry> {
        self.sessions.get(&session).map(|entry| entry.clone())
    }

    /// The shard that owns a session.
    pub fn shard_of(&self, session: SessionId) -> Option<usize> {
        self.sessions.get(&session).and_then(|entry| entry.shard)
    }

    /// The session's ICE was restarted.
    pub fn restarted(&self, session: SessionId, etag: &str, local: &Credentials, remote: &str) {
        let Some(mut entry) = self.sessions.get_mut(&session) else { return };
        etag.clone_into(&mut entry.etag);
        remote.clone_into(&mut entry.remote_ufrag);
        let former = std::mem::replace(&mut entry.ufrag, local.ufrag.clone());
        let stale = entry.former_ufrag.replace(former);
        drop(entry);
        self.claimed.insert(local.ufrag.clone(), (session, local.clone()));
        if !self.sessions.contains_key(&session) {
            // It has ended in between: nobody would forget its name.
            self.claimed.remove(&local.ufrag);
        }
        if let Some(stale) = stale {
            self.claimed.remove(&stale);
        }
    }

    /// The shard and session that this user name belongs to, if `authentic` agrees.
    fn owner(
        &self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Credentials) -> bool,
    ) -> Option<(usize, SessionId)> {
        let (session, credentials) = self.session_named(ufrag)?;
        let shard = self.shard_of(session)?;
        authentic(&credentials).then_some((shard, session))
    }

    /// Where a connection belongs whose first check names this session, if `authentic` says that
    /// the check is its client's.
    pub fn owner_of(
        &self,
        ufrag: &str,
        mut authentic: impl FnMut(&Credentials) -> bool,
    ) -> Option<Owner> {
        let (session, credentials) = self.session_named(ufrag)?;
        let shard = self.sessions.get(&session)?.shard;
        authentic(&credentials).then_some(shard.map_or(Owner::Nobody, Owner::Shard))
    }

    /// The session with this ICE user name fragment of ours, claimed or not, and what its checks
    /// are signed with. One that is just being claimed is in one map or the other at any time.
    fn session_named(&self, ufrag: &str) -> Option<(SessionId, Credentials)> {
        let claimed = self.claimed.get(ufrag).map(|claimed| claimed.value().clone());
        claimed.or_else(|| {
            let prepared = self.pending.get(ufrag)?;
            Some((prepared.session, prepared.agreement.transport().local.clone()))
        })
    }

    /// Forgets a session; tells what it was.
    pub fn remove(&self, session: SessionId) -> Option<SessionEntry> {
        let (_, entry) = self.sessions.remove(&session)?;
        self.pending.remove(&entry.ufrag);
        for ufrag in [Some(&entry.ufrag), entry.former_ufrag.as_ref()].into_iter().flatten() {
            self.claimed.remove(ufrag);
        }
        self.places.fetch_sub(1, Ordering::Relaxed);
        if let MapEntry::Occupied(mut occupied) = self.streams.entry(entry.stream.clone()) {
            let stream = occupied.get_mut();
            match entry.role {
                Role::Publisher => stream.publisher_left(session),
                Role::Viewer => stream.viewers = stream.viewers.saturating_sub(1),
            }
            if stream.publishers.is_empty() && stream.viewers == 0 {
                occupied.remove();
            }
        }
        Some(entry)
    }

    /// These formats of this publisher flow on a stream now. False where a later one has come.
    pub fn live(&self, stream: &StreamName, term: Term, formats: [Option<Format>; 2]) -> bool {
        let Some(mut entry) = self.streams.get_mut(stream) else { return false };
        if entry.publishers.is_empty() || entry.is_later_than(term) {
            return false;
        }
        entry.formats = formats;
        entry.term = Some(term);
        entry.vacant_until = None;
        true
    }

    /// This publisher of a stream has left; its viewers wait until then for another. False where a
    /// later one has come, and where nothing has ever flowed.
    pub fn vacant(&self, stream: &StreamName, term: Term, until: Instant) -> bool {
        let Some(mut entry) = self.streams.get_mut(stream) else { return false };
        if !entry.has_formats() || entry.is_later_than(term) {
            return false;
        }
        entry.vacant_until = Some(until);
        true
    }

    /// Whether media flows on a stream, or has flowed and its publisher is there.
    pub fn is_published(&self, stream: &StreamName) -> bool {
        self.streams.get(stream).is_some_and(|entry| entry.is_published())
    }

    /// The publisher of a stream of which media flows.
    pub fn publisher_of(&self, stream: &StreamName) -> Option<Term> {
        self.streams.get(stream).filter(|entry| entry.is_published())?.term
    }

    /// Whether somebody sends a stream, or did and may come back, whether or not WebRTC plays it.
    pub fn is_sent(&self, stream: &StreamName) -> bool {
        let is_sent = |it: &StreamEntry| !it.publishers.is_empty() || it.vacant_until.is_some();
        self.streams.get(stream).is_some_and(|entry| is_sent(&entry))
    }

    /// The names of the streams that are published, sorted.
    pub fn live_streams(&self) -> Vec<StreamName> {
        let published = self.streams.iter().filter(|entry| entry.is_published());
        let mut names: Vec<_> = published.map(|entry| entry.key().clone()).collect();
        names.sort();
        names
    }

    /// Sessions that have waited too long to be claimed.
    pub fn overdue(&self, now: Instant) -> Vec<SessionId> {
        let limit = self.limits.claim_timeout;
        self.pending
            .iter()
            .filter(|prepared| now.saturating_duration_since(prepared.created) >= limit)
            .map(|prepared| prepared.session)
            .collect()
    }

    /// How many sessions wait to be claimed, and how many there are in all.
    pub fn counts(&self) -> (usize, usize) {
        (self.pending.len(), self.sessions.len())
    }

    fn claim(
        &self,
        shard: usize,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        let mut prepared = self.pending.get(ufrag).filter(|prepared| authentic(prepared))?.clone();
        {
            // Whoever sets this owns the session. It may have been deleted: nobody would end it.
            let mut entry = self.sessions.get_mut(&prepared.session)?;
            if entry.shard.is_some() {
                return None;
            }
            entry.shard = Some(shard);
            prepared.choice = entry.choice.clone();
        }
        // In this order: other shards find the owner in one map or the other at any time.
        let local = prepared.agreement.transport().local.clone();
        self.claimed.insert(local.ufrag.clone(), (prepared.session, local));
        self.pending.remove(ufrag);
        if !self.sessions.contains_key(&prepared.session) {
            self.claimed.remove(ufrag);
            return None;
        }
        Some(prepared)
    }
}

/// One shard's way to the sessions that wait.
#[derive(Debug)]
pub struct ShardClaims {
    /// Which shard.
    pub shard: usize,
    /// Where they wait.
    pub directory: Arc<Directory>,
}

impl Claims for ShardClaims {
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        self.directory.claim(self.shard, ufrag, authentic)
    }

    fn owner(
        &self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Credentials) -> bool,
    ) -> Option<(usize, SessionId)> {
        self.directory.owner(ufrag, authentic)
    }

    fn is_session(&self, session: SessionId) -> bool {
        self.directory.sessions.contains_key(&session)
    }
}
