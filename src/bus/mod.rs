//! How everything else reaches the shards: bounded queues, nothing clever.
//!
//! - `directory`: which sessions and streams there are, and which shard owns a session
//! - `making`: layers that are made of a stream
//! - `publication`: a stream that is written by an adapter
//! - `tap`: a stream that is read by an adapter

pub mod directory;
pub mod making;
pub mod publication;
pub mod tap;

use crate::engine::command::{Command, EndReason, LayerChoice, Written};
use crate::engine::report::StreamState;
use crate::media::id::SessionId;
use crate::peer::agreement::Credentials;
use directory::{Directory, SessionEntry};
use publication::AllDetails;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tap::Taps;
use tokio::sync::{oneshot, watch};

/// The way to one shard.
pub trait ShardWay: Send + Sync {
    /// Hands it a command; false where its queue is full or it has ended.
    fn command(&self, command: Command) -> bool;

    /// Hands it what a publisher has sent that does not come by WebRTC; false alike.
    fn write(&self, session: SessionId, written: Written) -> bool;

    /// How busy it is, from 0 to 1.
    fn load(&self) -> f32;
}

/// A shared way to one shard.
pub type ShardLink = Arc<dyn ShardWay>;

/// All shards, and the directory of who is where.
pub struct Bus {
    directory: Arc<Directory>,
    shards: Vec<ShardLink>,
    details: AllDetails,
    /// Counts the streams that were written.
    turn: AtomicUsize,
    taps: Taps,
    /// Tells taps that nothing more comes.
    stopping: watch::Sender<bool>,
}

impl Bus {
    /// How long a shard may take to report before it is left out.
    const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

    /// A bus to these shards.
    pub fn new(directory: Arc<Directory>, shards: Vec<ShardLink>) -> Self {
        Self {
            directory,
            shards,
            details: AllDetails::default(),
            turn: AtomicUsize::new(0),
            taps: Taps::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Ends a session, claimed or not; tells what it was.
    pub fn end(&self, session: SessionId, reason: EndReason) -> Option<SessionEntry> {
        let entry = self.directory.remove(session)?;
        if let Some(shard) = entry.shard.and_then(|index| self.shards.get(index)) {
            shard.command(Command::End(session, reason));
        }
        Some(entry)
    }

    /// Gives a claimed session new ICE credentials.
    pub fn restart(&self, session: SessionId, local: Credentials) -> bool {
        let shard = self.directory.shard_of(session).and_then(|index| self.shards.get(index));
        shard.is_some_and(|shard| shard.command(Command::Restart(session, local)))
    }

    /// A viewer's client listens to what the timestamps that it sees stand for, or no more. A
    /// session that no shard has claimed yet is told of it when it is connected.
    pub fn listen(&self, session: SessionId, listens: bool) {
        let shard = self.directory.shard_of(session).and_then(|index| self.shards.get(index));
        if let Some(shard) = shard {
            shard.command(Command::Listen(session, listens));
        }
    }

    /// A viewer's wish for a layer, claimed or not. False: its shard takes no more commands, and
    /// nothing has changed. `None`: there is no such session.
    pub fn choose(&self, session: SessionId, choice: LayerChoice) -> Option<bool> {
        self.directory.choose(session, choice, |shard, choice| {
            let shard = self.shards.get(shard);
            shard.is_some_and(|shard| shard.command(Command::Choose(session, choice)))
        })
    }

    /// What is live on all shards.
    pub async fn report(&self) -> Vec<StreamState> {
        let mut answers = Vec::new();
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            // Nobody listens any more when the request was cut off: that is fine.
            shard.command(Command::Report(Box::new(move |states| drop(reply.send(states)))));
            answers.push(answer);
        }
        let mut states = Vec::new();
        for answer in answers {
            if let Ok(Ok(state)) = tokio::time::timeout(Self::REPORT_TIMEOUT, answer).await {
                states.extend(state);
            }
        }
        merge(states)
    }

    /// Ends every session: the server stops.
    pub fn stop(&self) {
        for shard in &self.shards {
            shard.command(Command::Stop);
        }
        self.stopping.send_replace(true);
    }
}

/// One state per stream, sorted by name: its publisher is on one shard, its viewers on several.
fn merge(mut states: Vec<StreamState>) -> Vec<StreamState> {
    states.sort_by(|a, b| {
        a.name.cmp(&b.name).then(b.publisher.is_some().cmp(&a.publisher.is_some()))
    });
    let mut merged: Vec<StreamState> = Vec::with_capacity(states.len());
    for state in states {
        match merged.last_mut().filter(|stream| stream.name == state.name) {
            Some(stream) => stream.viewers.extend(state.viewers),
            None => merged.push(state),
        }
    }
    merged
}
