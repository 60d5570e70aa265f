//! Viewers by the thousand in one thread, at about a microsecond of CPU for each packet.
//!
//! Each has a socket and an association of its own, as browsers have. Of the media only the
//! header is read, and of the payload only the blocks that hold the stamp are opened: losses,
//! duplicates and latencies of every packet of every viewer are known, its content is not checked.
//!
//! - `event_loop`: the thread: epoll, batches, timers
//! - `histogram`: percentiles of any number of values
//! - `inbox`: batches of datagrams with the kernel's time stamps
//! - `joining`: the HTTP side: offers, refusals, ends
//! - `keystream`: a few bytes of a sealed packet
//! - `lag`: how far newcomers are behind
//! - `picture`: how large the picture of a keyframe is
//! - `process`: CPU time, memory, descriptors
//! - `sequence`: losses, duplicates, reordering
//! - `stats`: what is counted
//! - `track`: one RTP stream of a viewer
//! - `viewer`: one viewer

mod event_loop;
mod histogram;
mod inbox;
mod joining;
mod keystream;
mod lag;
mod picture;
mod process;
mod sequence;
mod stats;
mod track;
mod viewer;

pub use histogram::Histogram;
pub(crate) use inbox::{Inbox, prepare};
pub use joining::{JoinOptions, Joined, Joins};
pub use keystream::{Keystream, Nonce};
pub use process::{Usage, allow_descriptors, thread_cpu};
pub use sequence::{Place, SequenceWindow};
pub use stats::{Counts, Flow, Lag, Mark, Phase, Status, ViewerOutcome};

use crate::light::{Feedback, Identity};
use anyhow::Context;
use event_loop::{Command, EventLoop};
use nix::sys::eventfd::EventFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use viewer::Invitation;

/// What a swarm is like.
#[derive(Debug, Clone)]
pub struct SwarmOptions {
    /// The certificate of all its viewers: making keys is not what is measured.
    pub identity: Identity,
    /// Groups of viewers that are reported apart.
    pub groups: usize,
    /// Whether holes are asked for again (RFC 4585 §6.2.1).
    pub nack: bool,
    /// What is told of how packets arrive; nothing else is offered.
    pub feedback: Feedback,
    /// The server's process, where it runs on this machine.
    pub server_process: Option<u32>,
}

/// What a swarm saw.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Every viewer that had an answer.
    pub viewers: Vec<ViewerOutcome>,
    /// The phases, in order; the first is called "joining".
    pub phases: Vec<Phase>,
}

/// A running swarm. Dropping it ends its thread.
#[derive(Debug)]
pub struct Swarm {
    identity: Identity,
    feedback: Feedback,
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    status: Arc<Mutex<Status>>,
    thread: Option<JoinHandle<std::io::Result<Outcome>>>,
}

impl Swarm {
    /// A swarm that nobody has joined yet.
    ///
    /// # Errors
    ///
    /// When the system has no more descriptors or threads.
    pub fn start(options: SwarmOptions) -> anyhow::Result<Self> {
        let (commands, receiver) = channel();
        let wake = Arc::new(EventFd::new()?);
        let status = Arc::new(Mutex::new(Status::default()));
        let (identity, feedback) = (options.identity.clone(), options.feedback);
        let shared = (wake.clone(), status.clone());
        let run = move || EventLoop::new(options, receiver, shared.0, shared.1)?.run();
        let thread = std::thread::Builder::new().name("swarm".to_owned()).spawn(run)?;
        Ok(Self { identity, feedback, commands, wake, status, thread: Some(thread) })
    }

    /// How it goes, as of a tenth of a second ago.
    pub fn status(&self) -> Status {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a phase; what comes from now on counts for it.
    pub fn phase(&self, name: &'static str) {
        self.tell(Command::Phase(name));
    }

    /// Ends the last phase: what comes from now on, while sessions are ended, does not count.
    pub async fn finish(&self) {
        let (done, is_done) = oneshot::channel();
        self.tell(Command::Finish(done));
        // A thread that is gone has finished, too.
        let _ = is_done.await;
    }

    fn join(&self, invitation: Invitation) {
        self.tell(Command::Join(Box::new(invitation)));
    }

    fn tell(&self, command: Command) {
        // A thread that is gone says why when it is ended.
        let _ = self.commands.send(command);
        let _ = self.wake.write(1);
    }

    /// Says goodbye for all viewers.
    ///
    /// # Errors
    ///
    /// When the thread ended before, for the reason it gives.
    pub fn end(mut self) -> anyhow::Result<Outcome> {
        self.tell(Command::End);
        let thread = self.thread.take().context("a swarm has a thread")?;
        Ok(thread.join().map_err(|_| anyhow::anyhow!("the swarm's thread panicked"))??)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.tell(Command::End);
    }
}
