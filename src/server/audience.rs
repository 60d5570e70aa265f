//! Viewers who listen to what is told of their stream and session, besides the media.
//!
//! It is written in the shards' threads, when a stream or session comes or goes, and once a second
//! for those who listen; of each sort only the newest is kept.

use crate::bus::Bus;
use crate::bus::directory::Directory;
use crate::engine::command::TrackClock;
use crate::media::id::{SessionId, StreamName};
use dashmap::DashMap;
use signaling::media_server::layers::{LayerChoice, LayersNews};
use signaling::media_server::{self, ViewerEvent, ViewerNews};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

struct Listener {
    stream: StreamName,
    told: watch::Sender<ViewerNews>,
}

/// All who listen.
pub(super) struct Audience {
    listening_max: usize,
    sessions: DashMap<SessionId, Listener>,
    /// The way to the shards, which say what timestamps stand for.
    bus: OnceLock<Arc<Bus>>,
}

impl Audience {
    /// Streams of events of one session: a page that comes back has two for a moment.
    const PER_SESSION_MAX: usize = 2;

    /// At most so many sessions listen at a time.
    pub(super) fn new(listening_max: usize) -> Self {
        Self { listening_max, sessions: DashMap::new(), bus: OnceLock::new() }
    }

    /// From now on shards are told who listens.
    pub(super) fn attach(&self, bus: Arc<Bus>) {
        // There is one bus, and it is attached once.
        let _ = self.bus.set(bus);
    }

    /// A viewer of that stream listens from now on; `None` where too many do.
    pub(super) fn add(
        &self,
        session: SessionId,
        stream: &StreamName,
    ) -> Option<watch::Receiver<ViewerNews>> {
        if self.sessions.len() >= self.listening_max {
            self.sessions.retain(|_, listener| listener.told.receiver_count() > 0);
            if self.sessions.len() >= self.listening_max {
                return None;
            }
        }
        let new =
            || Listener { stream: stream.clone(), told: watch::Sender::new(ViewerNews::default()) };
        let listener = self.sessions.entry(session).or_insert_with(new);
        if listener.told.receiver_count() >= Self::PER_SESSION_MAX {
            return None;
        }
        let events = listener.told.subscribe();
        drop(listener);
        self.listen(session, true);
        Some(events)
    }

    /// Tells a session's shard whether somebody listens.
    fn listen(&self, session: SessionId, listens: bool) {
        if let Some(bus) = self.bus.get() {
            bus.listen(session, listens);
        }
    }

    fn is_listening(&self, session: SessionId) -> bool {
        let listener = self.sessions.get(&session);
        listener.is_some_and(|listener| listener.told.receiver_count() > 0)
    }

    /// A session is connected: from now on its shard can be told that somebody listens.
    pub(super) fn connected(&self, session: SessionId) {
        if self.is_listening(session) {
            self.listen(session, true);
        }
    }

    /// What the timestamps stand for that a viewer sees.
    pub(super) fn tell_clocks(&self, session: SessionId, clocks: [Option<TrackClock>; 2]) {
        if let Some(listener) = self.sessions.get(&session) {
            listener.told.send_modify(|told| {
                for (told, clock) in told.clocks.iter_mut().zip(clocks) {
                    *told = clock.map(clock_report).or(*told);
                }
            });
        }
        if !self.is_listening(session) {
            self.listen(session, false);
            // Who has come in between has been told of before that.
            self.connected(session);
        }
    }

    /// Which layers of its picture there are for a viewer, and which one it gets.
    pub(super) fn tell_layers(&self, session: SessionId, news: LayersNews) {
        if let Some(listener) = self.sessions.get(&session) {
            listener.told.send_modify(|told| told.layers = Some(Arc::new(news)));
        }
    }

    /// What a viewer wishes to see from now on, who has been told of its layers.
    pub(super) fn tell_choice(&self, session: SessionId, choice: &LayerChoice) {
        let Some(listener) = self.sessions.get(&session) else { return };
        listener.told.send_if_modified(|told| {
            let known = told.layers.as_mut().filter(|layers| layers.choice != *choice);
            known.map(|layers| Arc::make_mut(layers).choice.clone_from(choice)).is_some()
        });
    }

    /// Tells all who listen how many watch their streams.
    pub(super) fn tell_counts(&self, directory: &Directory) {
        let streams: Vec<StreamName> =
            self.sessions.iter().map(|listener| listener.stream.clone()).collect();
        let counts = directory.count_viewers(streams.iter());
        for listener in &self.sessions {
            let count = counts.get(&listener.stream).copied();
            listener.told.send_if_modified(|told| {
                let is_new = count.is_some() && told.viewers != count;
                told.viewers = count.or(told.viewers);
                is_new
            });
        }
    }

    /// Tells all who watch a stream.
    pub(super) fn tell_stream(&self, stream: &StreamName, event: ViewerEvent) {
        for listener in self.sessions.iter().filter(|listener| listener.stream == *stream) {
            listener.told.send_if_modified(|told| told.event.replace(event) != Some(event));
        }
    }

    /// Tells a session how its stream is, unless it has been told already.
    pub(super) fn greet(&self, session: SessionId, event: ViewerEvent) {
        if let Some(listener) = self.sessions.get(&session) {
            listener.told.send_if_modified(|told| {
                let is_first = told.event.is_none();
                told.event.get_or_insert(event);
                is_first
            });
        }
    }

    /// The server stops: all streams of events end, those of sessions that never came as well.
    pub(super) fn close(&self) {
        self.sessions.clear();
    }

    /// A session is over, which its streams of events end with, after this last event.
    pub(super) fn remove(&self, session: SessionId, last: Option<ViewerEvent>) {
        if let Some((_, listener)) = self.sessions.remove(&session)
            && last.is_some()
        {
            listener.told.send_modify(|told| told.event = last);
        }
    }
}

fn clock_report(clock: TrackClock) -> media_server::TrackClock {
    let TrackClock { ssrc, timestamp, wall } = clock;
    let wall_time_ms = wall.as_unix().as_micros() as f64 / 1_000.0;
    media_server::TrackClock { ssrc, rtp_timestamp: timestamp, wall_time_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::directory::DirectoryLimits;
    use crate::bus::{ShardLink, ShardWay};
    use crate::engine::command::{Command, Written};
    use crate::media::time::WallTime;
    use std::sync::Mutex;
    use std::time::Duration;

    fn session(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a stream name")
    }

    /// What a stream of events would carry of its stream and session, up to its end.
    async fn all(mut events: watch::Receiver<ViewerNews>) -> Vec<ViewerEvent> {
        let mut all = Vec::new();
        loop {
            let event = events.borrow_and_update().event;
            if event.is_some() && all.last() != event.as_ref() {
                all.extend(event);
            }
            if events.changed().await.is_err() {
                return all;
            }
        }
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

    /// A shard that notes who listens.
    #[derive(Default)]
    struct Notes(Mutex<Vec<bool>>);

    impl ShardWay for Notes {
        fn command(&self, command: Command) -> bool {
            if let Command::Listen(_, listens) = command {
                self.0.lock().expect("fine").push(listens);
            }
            true
        }

        fn write(&self, _session: SessionId, _written: Written) -> bool {
            true
        }

        fn load(&self) -> f32 {
            0.0
        }
    }

    #[test]
    fn shards_say_what_timestamps_stand_for_as_long_as_somebody_listens() {
        let limits = DirectoryLimits::roomy();
        let (notes, directory) = (Arc::new(Notes::default()), Arc::new(Directory::new(limits)));
        // Whose session it is makes no difference here; this one a shard owns at once.
        directory.begin(session(1), &name("a"), 1, 0).expect("room");
        let shard: ShardLink = notes.clone();
        let audience = Audience::new(2);
        audience.attach(Arc::new(Bus::new(Arc::clone(&directory), vec![shard])));
        let noted = || std::mem::take(&mut *notes.0.lock().expect("fine"));
        audience.connected(session(1));
        assert_eq!(noted(), [false; 0], "nobody listens");
        let mut events = audience.add(session(1), &name("a")).expect("room");
        audience.connected(session(1));
        assert_eq!(noted(), [true; 2]);
        let clock = |ssrc| {
            let wall = WallTime::since_unix_epoch(Duration::from_nanos(1_764_000_000_123_456_789));
            Some(TrackClock { ssrc, timestamp: 90_000, wall })
        };
        audience.greet(session(1), ViewerEvent::Active);
        audience.tell_clocks(session(1), [clock(7), clock(8)]);
        audience.tell_clocks(session(1), [None, clock(9)]);
        audience.tell_counts(&directory);
        let news = events.borrow_and_update().clone();
        assert_eq!(news.event, Some(ViewerEvent::Active));
        assert_eq!(news.clocks.map(|clock| clock.expect("told").ssrc), [7, 9]);
        assert_eq!(news.clocks[0].map(|it| it.wall_time_ms), Some(1_764_000_000_123.456));
        assert_eq!(news.viewers, Some(0));
        directory.set_other_viewers(&name("a"), 5);
        audience.tell_counts(&directory);
        assert_eq!(events.borrow_and_update().viewers, Some(5));
        audience.tell_counts(&directory);
        assert!(!events.has_changed().expect("it goes on"), "nothing has changed");
        assert_eq!(noted(), [false; 0]);
        drop(events);
        audience.tell_clocks(session(1), [clock(7), None]);
        assert_eq!(noted(), [false]);
    }
}
