//! What is there of one stream, and who waits for more.
//!
//! The stream's task changes the presentation; requests read it. Who waits is woken by what has
//! changed in the rendition it waits for, and looks at the presentation when that has got so far.

use super::Render;
use super::answers::{Ask, Refused};
use super::presentation::{self, File, Position, Presentation, Rendition};
use crate::config::egress::Hls as Settings;
use crate::media::time::WallTime;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// Which playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// The one that names the others.
    Multivariant,
    /// That of a rendition.
    Media(Rendition),
}

/// Whether there is something to give.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not yet.
    Opening,
    /// Yes.
    Ready,
    /// What is sent cannot be packaged, for this reason.
    NotPlayable(String),
    /// It is over: whoever asks now begins anew.
    Closed,
}

/// What is there of one stream.
pub(super) struct Store<R> {
    render: Render<R>,
    inside: Mutex<Inside<R>>,
    phase: watch::Sender<Phase>,
    edges: [watch::Sender<Option<Position>>; 3],
}

struct Inside<R> {
    presentation: Presentation,
    /// Of the presentation as it is.
    renderings: HashMap<Rendering, R>,
    asked: Instant,
}

/// What a rendering depends on, besides the presentation.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rendering {
    target: Target,
    skip: bool,
    is_blocking: bool,
    query: String,
}

impl<R: Clone> Store<R> {
    /// The same stream is rendered in so many ways at most between two changes: there are few
    /// tokens that are good, and no others come here.
    const RENDERINGS_MAX: usize = 256;
    /// For so long a cache may give away the playlist that names the others: a viewer who comes
    /// a second later finds what has come in between in the others.
    const MULTIVARIANT_AGE: Duration = Duration::from_secs(1);

    /// Nothing yet; now it is `now`, and `wall` on the wall clock.
    ///
    /// Media sequence numbers never decrease (§6.2.1), nor do they where a stream is packaged anew:
    /// players and caches know its playlists by the same URLs. They begin with the seconds since
    /// 1970, of which there are more than segments.
    pub(super) fn new(
        settings: &Settings,
        render: Render<R>,
        now: Instant,
        wall: WallTime,
    ) -> Self {
        let presentation = Presentation::new(presentation::Settings {
            part: settings.part,
            segment: settings.segment,
            window: settings.window,
            bytes_max: settings.stream_bytes_max,
            first_msn: wall.as_unix().as_secs(),
        });
        Self {
            render,
            inside: Mutex::new(Inside { presentation, renderings: HashMap::new(), asked: now }),
            phase: watch::Sender::new(Phase::Opening),
            edges: [const { None }; 3].map(watch::Sender::new),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside<R>> {
        // What a fault has left in pieces ends with the task that had it.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the presentation, and wakes those who wait for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Presentation) -> T) -> T {
        let mut inside = self.lock();
        let changed = change(&mut inside.presentation);
        let mut is_news = false;
        let positions = Rendition::ALL.map(|rendition| inside.presentation.position(rendition));
        for (edge, position) in self.edges.iter().zip(positions) {
            is_news |= *edge.borrow() != position;
        }
        if is_news {
            inside.renderings.clear();
            let is_opening = *self.phase.borrow() == Phase::Opening;
            let is_ready = is_opening && inside.presentation.multivariant("").is_some();
            drop(inside);
            for (edge, position) in self.edges.iter().zip(positions) {
                edge.send_if_modified(|known| std::mem::replace(known, position) != position);
            }
            if is_ready {
                self.enter(Phase::Ready);
            }
        }
        changed
    }

    /// A publisher begins, with the file names that go on with `run`.
    pub(super) fn begin(&self, run: &str, keyframes_apart: Option<Duration>) {
        self.change(|presentation| presentation.begin(run, keyframes_apart));
        // Which file comes next has changed, be it that playlists have got no further.
        self.lock().renderings.clear();
    }

    /// What is sent cannot be packaged.
    pub(super) fn refuse(&self, reason: String) {
        self.enter(Phase::NotPlayable(reason));
    }

    /// What is sent from now on may be packaged, whatever was sent before.
    pub(super) fn accept(&self) {
        let is_refused = matches!(*self.phase.borrow(), Phase::NotPlayable(_));
        if is_refused {
            let is_ready = self.lock().presentation.multivariant("").is_some();
            self.enter(if is_ready { Phase::Ready } else { Phase::Opening });
        }
    }

    /// It is over.
    pub(super) fn close(&self) {
        self.enter(Phase::Closed);
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|present| {
            let is_other = *present != phase;
            *present = phase;
            is_other
        });
    }

    /// Somebody asks now.
    pub(super) fn touch(&self, now: Instant) {
        let mut inside = self.lock();
        inside.asked = inside.asked.max(now);
    }

    /// When somebody asked last.
    pub(super) fn asked(&self) -> Instant {
        self.lock().asked
    }

    /// The media that is held, in bytes.
    pub(super) fn held(&self) -> usize {
        self.lock().presentation.held()
    }

    /// Waits until there is something to give.
    pub(super) async fn wait_ready(&self, limit: Duration) -> Result<(), Refused> {
        let mut phase = self.phase.subscribe();
        let known = timeout(limit, phase.wait_for(|phase| *phase != Phase::Opening)).await;
        let Ok(Ok(phase)) = known else {
            return Err(Refused::NotInTime("a keyframe to begin with"));
        };
        match &*phase {
            Phase::NotPlayable(reason) => Err(Refused::NotPlayable(reason.clone())),
            Phase::Closed => Err(Refused::NotLive),
            Phase::Opening | Phase::Ready => Ok(()),
        }
    }

    /// Done when it is over.
    pub(super) async fn closed(&self) {
        let mut phase = self.phase.subscribe();
        // The sender is here.
        let _ = phase.wait_for(|phase| *phase == Phase::Closed).await;
    }

    /// How far a rendition has got, now and from now on.
    pub(super) fn edge(&self, rendition: Rendition) -> watch::Receiver<Option<Position>> {
        self.edges[rendition.index()].subscribe()
    }

    /// How long somebody waits: three target durations (§6.2.5.2).
    pub(super) fn wait_max(&self) -> Duration {
        self.lock().presentation.target_duration() * 3
    }

    /// What there is under a name.
    pub(super) fn find(&self, name: &str) -> File {
        self.lock().presentation.file(name)
    }

    /// A playlist as it is now; rendered once for all who ask for the same.
    pub(super) fn render(&self, target: Target, ask: &Ask<'_>) -> Option<R> {
        let skip = ask.directives.skip && target != Target::Multivariant;
        let is_blocking = ask.directives.msn.is_some() && target != Target::Multivariant;
        let mut inside = self.lock();
        let rendering = Rendering { target, skip, is_blocking, query: ask.query.to_owned() };
        if let Some(rendered) = inside.renderings.get(&rendering) {
            return Some(rendered.clone());
        }
        let presentation = &inside.presentation;
        let target_duration = presentation.target_duration();
        let (text, max_age) = match target {
            Target::Multivariant => (presentation.multivariant(ask.query)?, Self::MULTIVARIANT_AGE),
            Target::Media(rendition) => {
                let text = presentation.playlist(rendition, skip, ask.query)?;
                // Who asks for the same later, of a cache, goes on from there.
                (text, if is_blocking { target_duration * 6 } else { Duration::ZERO })
            }
        };
        let rendered = (self.render)(text, max_age);
        if inside.renderings.len() < Self::RENDERINGS_MAX {
            inside.renderings.insert(rendering, rendered.clone());
        }
        Some(rendered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::{Answer, Directives};
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::media::frame::{AudioCoding, Coding};
    use crate::media::id::StreamName;
    use crate::media::sample::Sample;
    use std::sync::Arc;

    /// Where the numbers of these segments begin.
    const FIRST: u64 = 1_000;

    fn store() -> Arc<Store<String>> {
        let wall = WallTime::since_unix_epoch(Duration::from_secs(FIRST));
        let settings = Config::default().hls;
        Arc::new(Store::new(&settings, |text, _| text, Clock::system().now(), wall))
    }

    /// Two seconds and a half of sound.
    fn heard(store: &Store<String>) {
        for index in 0..125 {
            let (ticks, wall) = (index * 1_800, WallTime::since_unix_epoch(Duration::ZERO));
            let sample = Sample {
                coding: Coding::Audio(AudioCoding::Opus),
                decode_ticks: ticks,
                present_ticks: ticks,
                wall: wall.offset_micros(index * 20_000),
                starts: true,
                arrival: Clock::system().now(),
                data: vec![0xfc; 160].into(),
            };
            store.change(|presentation| presentation.push(sample));
        }
    }

    async fn get(
        store: &Arc<Store<String>>,
        file: &str,
        msn: Option<u64>,
    ) -> Result<String, Refused> {
        let stream = StreamName::parse("heard").expect("a name");
        let directives = Directives { msn, part: None, skip: false };
        let ask = Ask { stream: &stream, file, directives, query: "" };
        match store.answer(&ask).await? {
            Answer::Playlist(text) => Ok(text),
            Answer::Media(_) | Answer::Growing(_) => Err(Refused::NotFound),
        }
    }

    #[tokio::test]
    async fn who_sends_what_can_be_packaged_is_packaged_whatever_came_before() {
        let store = store();
        store.refuse("VP8".to_owned());
        assert_eq!(get(&store, "index.m3u8", None).await, Err(Refused::NotPlayable("VP8".into())));
        store.accept();
        store.begin("run", None);
        heard(&store);
        assert!(get(&store, "index.m3u8", None).await.is_ok());
        store.refuse("VP9".to_owned());
        store.accept();
        assert!(get(&store, "index.m3u8", None).await.is_ok());
    }

    #[tokio::test]
    async fn numbers_of_segments_go_on_where_a_stream_is_packaged_anew() {
        let store = store();
        store.begin("run", None);
        heard(&store);
        let text = get(&store, "opus.m3u8", Some(7)).await.expect("a playlist");
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:1000\n"), "{text}");
    }

    #[tokio::test]
    async fn what_comes_next_is_hinted_at_as_the_next_publisher_calls_it() {
        let store = store();
        store.begin("one", None);
        heard(&store);
        store.change(Presentation::end);
        let _ = get(&store, "opus.m3u8", None).await.expect("a playlist");
        store.begin("two", None);
        let text = get(&store, "opus.m3u8", None).await.expect("a playlist");
        assert!(text.contains("\"two_opus_part0.m4s\""), "{text}");
    }

    #[tokio::test]
    async fn who_waits_is_told_when_it_is_over() {
        let store = store();
        store.begin("run", None);
        heard(&store);
        let waits = tokio::spawn({
            let store = Arc::clone(&store);
            async move { get(&store, "opus.m3u8", Some(FIRST + 2)).await }
        });
        while store.edges[Rendition::Opus.index()].receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        store.close();
        assert_eq!(waits.await.expect("it ends"), Err(Refused::NotLive));
    }
}
