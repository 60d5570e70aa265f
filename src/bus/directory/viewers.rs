//! Who watches a stream, and how many that are.

use super::{Directory, SessionEntry};
use crate::engine::command::Role;
use crate::media::id::{SessionId, StreamName};
use std::collections::HashMap;

impl Directory {
    /// The sessions that watch a stream.
    pub fn viewers(&self, stream: &StreamName) -> Vec<SessionId> {
        let is_viewer = |it: &SessionEntry| it.role == Role::Viewer && it.stream == *stream;
        let viewers = self.sessions.iter().filter(|entry| is_viewer(entry.value()));
        viewers.map(|entry| *entry.key()).collect()
    }

    /// Whether anybody watches a stream, or is about to.
    pub fn is_watched(&self, stream: &StreamName) -> bool {
        let has_sessions = self.streams.get(stream).is_some_and(|entry| entry.viewers > 0);
        has_sessions || self.others.contains_key(stream)
    }

    /// How many watch each of these streams: those who are connected by WHEP, and the others.
    pub fn count_viewers<'n>(
        &self,
        streams: impl Iterator<Item = &'n StreamName>,
    ) -> HashMap<StreamName, usize> {
        let others = |stream: &StreamName| self.others.get(stream).map_or(0, |others| *others);
        let mut counts: HashMap<_, _> =
            streams.map(|stream| (stream.clone(), others(stream))).collect();
        if counts.is_empty() {
            return counts;
        }
        let is_viewer = |it: &SessionEntry| it.role == Role::Viewer && it.shard.is_some();
        for entry in self.sessions.iter().filter(|entry| is_viewer(entry.value())) {
            if let Some(count) = counts.get_mut(&entry.stream) {
                *count += 1;
            }
        }
        counts
    }

    /// So many watch a stream who have no session.
    pub fn set_other_viewers(&self, stream: &StreamName, count: usize) {
        match count {
            0 => drop(self.others.remove(stream)),
            count => drop(self.others.insert(stream.clone(), count)),
        }
    }
}
