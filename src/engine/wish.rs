//! What viewers wish to see of a stream's picture.

use super::Engine;
use super::command::LayerChoice;
use super::peer::Side;
use crate::media::id::SessionId;

impl Engine {
    /// A viewer wishes to see this from now on.
    pub(super) fn wish(&mut self, session: SessionId, choice: LayerChoice) {
        let Some(key) = self.demux.by_session(session) else { return };
        if let Some(Side::Viewer(viewing)) = self.peers.get_mut(key).map(|peer| &mut peer.side) {
            viewing.choice = choice;
        }
    }
}
