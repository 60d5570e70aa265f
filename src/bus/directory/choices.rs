//! What viewers wish to see: kept here as long as no shard has claimed them, and to be said back.

use super::Directory;
use crate::engine::command::LayerChoice;
use crate::media::id::SessionId;

impl Directory {
    /// A viewer's wish, in place of the one before. `tell` is to tell its shard, if there is one,
    /// and says whether it could: else nothing has changed. Of two wishes at a time the one that
    /// stays is the one that the shard is told last. `None`: there is no such session.
    pub fn choose(
        &self,
        session: SessionId,
        choice: LayerChoice,
        tell: impl FnOnce(usize, LayerChoice) -> bool,
    ) -> Option<bool> {
        let mut entry = self.sessions.get_mut(&session)?;
        let is_told = entry.shard.is_none_or(|shard| tell(shard, choice.clone()));
        if is_told {
            entry.choice = choice;
        }
        Some(is_told)
    }
}
