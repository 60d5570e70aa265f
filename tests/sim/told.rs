//! What the engines of a world have told of a session.

use crate::sessions::session;
use crate::world::World;
use millrace::engine::command::{EndReason, Event};
use std::time::Instant;

impl World {
    /// Whether a session of this number has been connected.
    pub(crate) fn connected(&self, number: usize) -> bool {
        self.connected_at(number).is_some()
    }

    /// Why the session of this number ended, and when.
    pub(crate) fn ended(&self, number: usize) -> Option<(Instant, &EndReason)> {
        let mut ends = self.events.iter().filter_map(|(at, event)| match event {
            Event::Ended { session: ended, reason, .. } if *ended == session(number) => {
                Some((*at, reason))
            }
            _ => None,
        });
        let end = ends.next();
        assert!(ends.next().is_none(), "a session ends once");
        end
    }
}
