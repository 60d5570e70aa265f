//! Which layer of the picture each viewer gets.

use super::Engine;
use super::command::LayerChoice;
use super::peer::Side;
use crate::media::id::SessionId;
use std::time::Instant;

/// What one viewer wishes to see.
#[derive(Debug)]
pub(super) struct Selecting {
    choice: LayerChoice,
}

impl Selecting {
    /// For a viewer with this wish.
    pub(super) const fn new(choice: LayerChoice) -> Self {
        Self { choice }
    }
}

impl Engine {
    /// A viewer wishes to see this from now on.
    pub(super) fn choose(&mut self, session: SessionId, choice: LayerChoice, _now: Instant) {
        let Some(key) = self.demux.by_session(session) else { return };
        let Some(Side::Viewer(viewing)) = self.peers.get_mut(key).map(|peer| &mut peer.side) else {
            return;
        };
        viewing.selecting.choice = choice;
    }
}
