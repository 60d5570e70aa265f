//! Viewers who listen to what is told of their stream and session, besides the media.
//!
//! It is written in the shards' threads, when a stream or session comes or goes; only the newest
//! event of each listener is kept.

use crate::media::id::{SessionId, StreamName};
use dashmap::DashMap;
use signaling::media_server::ViewerEvent;
use tokio::sync::watch;

/// What a session is told; nothing yet at first.
type Told = Option<ViewerEvent>;

struct Listener {
    stream: StreamName,
    told: watch::Sender<Told>,
}

/// All who listen.
pub(super) struct Audience {
    listening_max: usize,
    sessions: DashMap<SessionId, Listener>,
}

impl Audience {
    /// Streams of events of one session: a page that comes back has two for a moment.
    const PER_SESSION_MAX: usize = 2;

    /// At most so many sessions listen at a time.
    pub(super) fn new(listening_max: usize) -> Self {
        Self { listening_max, sessions: DashMap::new() }
    }

    /// A viewer of that stream listens from now on; `None` where too many do.
    pub(super) fn add(
        &self,
        session: SessionId,
        stream: &StreamName,
    ) -> Option<watch::Receiver<Told>> {
        if self.sessions.len() >= self.listening_max {
            self.sessions.retain(|_, listener| listener.told.receiver_count() > 0);
            if self.sessions.len() >= self.listening_max {
                return None;
            }
        }
        let new = || Listener { stream: stream.clone(), told: watch::Sender::new(None) };
        let listener = self.sessions.entry(session).or_insert_with(new);
        if listener.told.receiver_count() >= Self::PER_SESSION_MAX {
            return None;
        }
        let mut events = listener.told.subscribe();
        // What there is to tell already is told first.
        events.mark_changed();
        Some(events)
    }

    /// Tells all who watch a stream.
    pub(super) fn tell_stream(&self, stream: &StreamName, event: ViewerEvent) {
        for listener in self.sessions.iter().filter(|listener| listener.stream == *stream) {
            listener.told.send_if_modified(|told| told.replace(event) != Some(event));
        }
    }

    /// Tells a session how its stream is, unless it has been told already.
    pub(super) fn greet(&self, session: SessionId, event: ViewerEvent) {
        if let Some(listener) = self.sessions.get(&session) {
            listener.told.send_if_modified(|told| {
                let is_first = told.is_none();
                told.get_or_insert(event);
                is_first
            });
        }
    }

    /// The server stops: all streams of events end, those of sessions that never came as well.
    pub(super) fn close(&self) {
        self.sessions.clear();
    }

    /// A session is over, which its streams of events end with, after this last event.
    pub(super) fn remove(&self, session: SessionId, last: Told) {
        if let Some((_, listener)) = self.sessions.remove(&session)
            && last.is_some()
        {
            listener.told.send_replace(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a stream name")
    }

    /// What a stream of events would carry, up to its end.
    async fn all(mut events: watch::Receiver<Told>) -> Vec<ViewerEvent> {
        let mut all = Vec::new();
        while events.changed().await.is_ok() {
            all.extend(*events.borrow_and_update());
        }
        all
    }

    #[tokio::test]
    async fn a_listener_hears_of_its_own_stream_and_session_until_that_ends() {
        use ViewerEvent::{Active, Inactive, Reconnect};
        let audience = Audience::new(8);
        let [ana, ben] = [1, 2].map(|number| audience.add(session(number), &name("a")));
        let (ana, ben) = (ana.expect("room"), ben.expect("room"));
        let cat = audience.add(session(3), &name("b")).expect("room");
        let heard = tokio::spawn(all(ana));
        audience.greet(session(1), Active);
        tokio::task::yield_now().await;
        audience.greet(session(1), Inactive);
        audience.tell_stream(&name("a"), Inactive);
        tokio::task::yield_now().await;
        audience.remove(session(1), Some(Reconnect));
        assert_eq!(heard.await.expect("it ends"), [Active, Inactive, Reconnect]);
        audience.remove(session(2), None);
        assert_eq!(all(ben).await, [Inactive], "the newest counts");
        audience.remove(session(3), None);
        assert_eq!(all(cat).await, []);
        audience.remove(session(3), None);
        let dan = audience.add(session(4), &name("b")).expect("room");
        audience.close();
        assert_eq!(all(dan).await, [], "the server stops");
    }

    #[test]
    fn there_are_no_more_listeners_than_allowed_and_who_has_gone_makes_room() {
        let audience = Audience::new(2);
        let first = audience.add(session(1), &name("a")).expect("room");
        let again = audience.add(session(1), &name("a")).expect("a second of the same");
        assert!(audience.add(session(1), &name("a")).is_none(), "a third");
        let other = audience.add(session(2), &name("a")).expect("room");
        assert!(audience.add(session(3), &name("a")).is_none());
        drop((first, again));
        assert!(audience.add(session(3), &name("a")).is_some());
        drop(other);
    }
}
