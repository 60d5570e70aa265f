//! Layers made of a picture that comes in one, for viewers whose links or screens are smaller.
//!
//! A stream with a ladder has a task that reads it, from its publisher's first frame on, and a
//! worker process that decodes it. What viewers want of the made layers is encoded, and written
//! beside the publisher's own. Whatever happens to a worker, that one is not touched.
//!
//! - `demand`: which layers are made, and when they are asked for keyframes; pure
//! - `keeper`: the task of one stream
//! - `measure`: what a source turns out to be; pure
//! - `outlet`: made frames into packets
//! - `plan`: which layers, and at which rates; pure
//! - `report`: how they fare
//! - `run`: the made layers of one publisher
//! - `shedding`: which are given up while the machine is too slow; pure
//! - `wishes`: what viewers want, from the engine

mod demand;
mod keeper;
mod measure;
mod outlet;
mod plan;
mod report;
mod run;
mod shedding;
mod wishes;

pub use report::{LadderReport, MadeReport};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::transcode::Transcode;
use crate::media::codec::Codec;
use crate::media::id::StreamName;
use crate::media::time::Epoch;
use crate::transcode::{Transcoder, Unavailable};
use keeper::Keeper;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// What making layers needs of the server.
#[derive(Clone)]
pub struct Tools {
    /// Where streams are read, and layers written.
    pub bus: Arc<Bus>,
    /// The server's clock.
    pub clock: Clock,
    /// Tells the wall time of a moment.
    pub epoch: Epoch,
    /// Has the workers.
    pub transcoder: Transcoder,
    /// Which layers are wanted.
    pub settings: Transcode,
    /// The longest RTP payload.
    pub payload_max: usize,
    /// How long a stream outlasts its publisher.
    pub grace: Duration,
}

/// All streams of which layers are made. Cheap to clone.
#[derive(Clone)]
pub struct Ladders {
    tools: Tools,
    runtime: Handle,
    boards: Arc<Mutex<HashMap<StreamName, Arc<Board>>>>,
}

/// Where the task of a stream tells how its layers fare.
#[derive(Debug, Default)]
struct Board(Mutex<LadderReport>);

impl Board {
    fn set(&self, report: LadderReport) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    fn get(&self) -> LadderReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ladders {
    /// Nothing is made yet. Within a tokio runtime, where streams are read from then on.
    pub fn new(tools: Tools) -> Self {
        Self { tools, runtime: Handle::current(), boards: Arc::default() }
    }

    /// A stream is live: where it has a ladder, a task looks after that until it is over. May be
    /// called from any thread, and does not wait.
    pub fn live(&self, stream: &StreamName) {
        let has_steps = !self.tools.settings.ladder_of(stream.as_str()).steps().is_empty();
        let is_off = self.tools.transcoder.picture_available(Codec::H264) == Err(Unavailable::Off);
        if !has_steps || is_off {
            return;
        }
        let board = Arc::<Board>::default();
        let mut boards = self.boards();
        if boards.contains_key(stream) {
            return;
        }
        boards.insert(stream.clone(), Arc::clone(&board));
        drop(boards);
        let (ladders, stream) = (self.clone(), stream.clone());
        self.runtime.spawn(async move {
            // Whatever ends the task, even a fault, nobody is to find what it has left behind.
            let entry = Entry { ladders: ladders.clone(), stream: stream.clone() };
            let keeper = Keeper::new(stream.clone(), ladders.tools.clone(), board);
            let goes_on = keeper.run().await;
            drop(entry);
            // Somebody may have begun to publish while the entry still stood for the task.
            if goes_on && ladders.tools.bus.directory().is_published(&stream) {
                ladders.live(&stream);
            }
        });
    }

    /// How the made layers of a stream fare, if it has a ladder.
    pub fn report(&self, stream: &StreamName) -> Option<LadderReport> {
        let board = self.boards().get(stream).cloned();
        board.map(|board| board.get())
    }

    /// The same of all streams.
    pub fn reports(&self) -> Vec<(StreamName, LadderReport)> {
        let boards: Vec<_> =
            self.boards().iter().map(|(a, b)| (a.clone(), Arc::clone(b))).collect();
        boards.into_iter().map(|(stream, board)| (stream, board.get())).collect()
    }

    fn boards(&self) -> MutexGuard<'_, HashMap<StreamName, Arc<Board>>> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream among the others, as long as its task runs.
struct Entry {
    ladders: Ladders,
    stream: StreamName,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ladders.boards().remove(&self.stream);
    }
}
