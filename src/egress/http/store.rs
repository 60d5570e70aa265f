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
    /// How far each rendition has got.
    edges: [watch::Sender<Option<Position>>; Rendition::COUNT],
}

struct Inside<R> {
    presentation: Presentation,
    /// Each of a playlist as it is.
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
            edges: [const { None }; Rendition::COUNT].map(watch::Sender::new),
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
        let mut moved = [false; Rendition::COUNT];
        let mut positions = [None; Rendition::COUNT];
        for rendition in Rendition::all() {
            let position = inside.presentation.position(rendition);
            positions[rendition.index()] = position;
            moved[rendition.index()] = *self.edges[rendition.index()].borrow() != position;
        }
        let is_ready = self.is_opening() && inside.presentation.is_ready();
        if is_ready || moved.contains(&true) {
            // A playlist that is no further stays as it was, reports of the others included: under
            // one URL a cache finds one playlist.
            inside.renderings.retain(|rendering, _| match rendering.target {
                Target::Multivariant => false,
                Target::Media(rendition) => !is_ready && !moved[rendition.index()],
            });
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
            let is_ready = self.lock().presentation.is_ready();
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

    /// Whether there is nothing to give yet.
    pub(super) fn is_opening(&self) -> bool {
        *self.phase.borrow() == Phase::Opening
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

    /// How many wait for more of the picture, or of the sound if these are more: about as many play
    /// it, each one layer of the picture and one kind of sound.
    pub(super) fn waiting(&self) -> usize {
        let of = |is_video: bool| -> usize {
            let renditions = Rendition::all().filter(|it| it.is_video() == is_video);
            renditions.map(|it| self.edges[it.index()].receiver_count()).sum()
        };
        of(true).max(of(false))
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
            Phase::Closed => Err(Refused::Closed),
            Phase::Opening | Phase::Ready => Ok(()),
        }
    }

    /// Waits until it is over.
    pub(super) async fn closed(&self) {
        // The sender is as old as this is.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Closed).await;
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
