//! The picture of one stream, on its way through a worker that makes layers of it.
//!
//! - `past`: frames that wait for it, and those with which another one begins
//! - `places`: how many processes there may be
//! - `still`: one picture of it, by a worker of its own
//! - `supervisor`: keeps it running
//! - `tests`: short shell scripts in its place
//! - `watchdog`: whether it hangs

mod past;
mod places;
mod still;
mod supervisor;
mod watchdog;

pub use super::ipc::picture::{Layer, Load};
pub use past::SourceFrame;
pub(super) use places::Places;
pub(super) use still::still;
pub(super) use supervisor::Supervisor;

use super::Unavailable;
use past::Past;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// What comes of a worker. A sink that takes it must not wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A frame of a layer.
    Frame(MadeFrame),
    /// The frames of this layer that follow are made by this encoder, and begin with a keyframe.
    Encoder {
        /// The layer's number.
        layer: u8,
        /// The encoder's element.
        name: String,
    },
    /// This layer is not made: no encoder of this machine can.
    Refused {
        /// The layer's number.
        layer: u8,
        /// Why.
        reason: String,
    },
    /// How the worker keeps up, once a second.
    Load(Load),
    /// The worker has ended.
    Failed {
        /// Why.
        fault: String,
        /// The next one is started only after a while, since several have failed in a row.
        is_given_up: bool,
    },
    /// The first one after that which works.
    Well,
    /// As many run as may, for this reason: nothing is made until another one ends.
    Full(Unavailable),
    /// There is room for it now, or it is not needed any more.
    Room,
    /// None runs, as none is needed.
    Rests,
}

/// Whether a worker runs that has no layer to make: the next one would have to decode first what
/// has come since the last keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standby {
    /// It ends, after a while.
    #[default]
    No,
    /// As long as no other stream needs its place.
    IfThereIsRoom,
    /// Always.
    Yes,
}

/// A frame of a made layer: H.264, NAL units after their lengths in 4 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFrame {
    /// The layer's number.
    pub layer: u8,
    /// When it is shown: as the frame of the source that it was made of.
    pub ticks: i64,
    /// Whether a decoder can start with it.
    pub is_keyframe: bool,
    /// When it was made.
    pub arrival: Instant,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Where the picture of one stream goes in; what becomes of it goes to the sink that
/// [`super::Transcoder::picture`] got. Dropping it ends the process.
#[derive(Debug)]
pub struct PictureWorker {
    orders: Arc<Orders>,
}

/// What the worker of a stream is to do, whichever process that is at the time.
#[derive(Debug, Default)]
struct Orders {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    past: Past,
    /// The layers that are to be made, by their numbers.
    layers: BTreeMap<u8, Layer>,
    /// All of them are to give a keyframe.
    wants_keyframe: bool,
    standby: Standby,
    is_closed: bool,
}

impl State {
    /// Whether a process must run, whoever has to give way to it.
    fn must_run(&self) -> bool {
        !self.layers.is_empty() || self.standby == Standby::Yes
    }
}

impl Orders {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_one();
    }

    /// Whether nobody needs it any more: the end is at once, whatever waits.
    fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

impl PictureWorker {
    const fn new(orders: Arc<Orders>) -> Self {
        Self { orders }
    }

    /// Hands in a frame, in the order of decoding; never waits.
    pub fn write(&self, frame: SourceFrame) {
        self.orders.change(|state| state.past.push(frame));
    }

    /// Makes this layer from now on; one of the same number that differs in its bit rate only goes
    /// on with another.
    pub fn start(&self, layer: Layer) {
        self.orders.change(|state| drop(state.layers.insert(layer.number, layer)));
    }

    /// Makes a layer no longer.
    pub fn stop(&self, number: u8) {
        self.orders.change(|state| drop(state.layers.remove(&number)));
    }

    /// Whether it runs while it has no layer to make, from now on.
    pub fn stand_by(&self, standby: Standby) {
        self.orders.change(|state| state.standby = standby);
    }

    /// All layers that are made give a keyframe, of the same picture.
    pub fn want_keyframe(&self) {
        self.orders.change(|state| state.wants_keyframe = true);
    }
}

impl Drop for PictureWorker {
    fn drop(&mut self) {
        self.orders.change(|state| state.is_closed = true);
    }
}

#[cfg(test)]
mod tests;
