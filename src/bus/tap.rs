//! Reads a stream out: its packets or frames, whichever way it comes in.

use super::Bus;
use crate::engine::tap::Tapped;
use crate::media::id::StreamName;
use std::sync::Arc;

/// Reads one stream out, publisher after publisher. Dropping it ends that.
#[derive(Debug)]
pub struct Tap {}

impl Tap {
    /// What came next; waits for it. `None`: the server stops.
    pub async fn next(&mut self) -> Option<Tapped> {
        std::future::pending().await
    }

    /// Asks the publisher for a keyframe, where it can be asked; not more often than
    /// `whip.keyframe_request_interval_ms` allows.
    pub fn want_keyframe(&self) {}
}

impl Bus {
    /// Reads a stream out from now on, whether or not somebody publishes it yet.
    pub fn tap(self: &Arc<Self>, _stream: &StreamName) -> Tap {
        Tap {}
    }
}
