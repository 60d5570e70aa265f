//! What a tap gives, as samples on one time line: packets are put in order and together.

use crate::engine::tap::Tapped;
use crate::media::sample::Sample;
use crate::media::time::Epoch;
use std::time::{Duration, Instant};

/// What comes of a tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A publisher begins: what comes from now on is on a line of its own.
    Began {
        /// Whether it can be asked for keyframes.
        takes_requests: bool,
        /// The longest time between two of its last keyframes, as far as that is known.
        keyframes_apart: Option<Duration>,
    },
    /// A frame of it.
    Sample(Sample),
    /// Something is missing: what comes next of the picture begins with a keyframe.
    Gap,
    /// It sends a picture that cannot be packaged, for this reason.
    NotPlayable(String),
    /// It has left.
    Left,
}

/// Puts together what a tap gives. Pure: it is told the time.
#[derive(Debug)]
pub struct Source {}

impl Source {
    /// Nothing yet. `epoch` tells the wall time of arrivals, for a publisher whose clock is not
    /// told.
    pub fn new(_epoch: Epoch) -> Self {
        Self {}
    }

    /// Takes in what a tap gave; what comes of it goes to `emit`, in order.
    pub fn take(&mut self, _tapped: Tapped, _now: Instant, _emit: &mut dyn FnMut(Found)) {}

    /// When it wants to be called by [`Self::handle_timeout`]: a missing packet is not waited for
    /// any longer.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Gives up what is overdue.
    pub fn handle_timeout(&mut self, _now: Instant, _emit: &mut dyn FnMut(Found)) {}
}
