//! The task that has layers made of one stream: what its tap gives, into a worker, publisher after
//! publisher.

use super::measure::Measure;
use super::plan;
use super::report::LadderReport;
use super::run::{Run, no_layers};
use super::wishes::Wished;
use super::{Board, Tools};
use crate::bus::tap::Tap;
use crate::config::transcode::Ladder;
use crate::egress::source::{Found, Source};
use crate::engine::message::Term;
use crate::engine::tap::Tapped;
use crate::media::codec::Codec;
use crate::media::every::Every;
use crate::media::frame::Coding;
use crate::media::id::StreamName;
use crate::media::layer::LayerId;
use crate::media::sample::Sample;
use crate::transcode::Unavailable;
use crate::transcode::picture::Told;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, warn};

/// Has layers made of one stream.
pub(super) struct Keeper {
    stream: StreamName,
    tools: Tools,
    board: Arc<Board>,
    ladder: Ladder,
    /// None where the publisher sends its layers itself: of a stream that is read all of them are
    /// repaired.
    tap: Option<Tap>,
    source: Source,
    publisher: Option<Publisher>,
    /// Until when another publisher may come, while there is none.
    vacant_until: Option<Instant>,
}

/// One publisher's time.
struct Publisher {
    term: Term,
    /// Its picture, once a keyframe has come.
    measure: Option<Measure>,
    /// Viewers can have only what is made of it: it has B-frames.
    needs_made: bool,
    run: Option<Run>,
    /// Why no worker runs.
    unavailable: Option<Unavailable>,
    /// When a worker is looked for, and how often another one is begun with.
    starts: Every,
}

/// What happens next.
enum Next {
    /// Something of the stream.
    Found(Vec<Found>),
    /// The worker has told something.
    Told(Told),
    /// Somebody wishes something, or it is time to do something.
    Act,
    /// It is time to look at everything.
    Look,
    /// The server stops.
    Stop,
}

impl Keeper {
    /// How often it is looked at what changes slowly.
    const LOOK_INTERVAL: Duration = Duration::from_millis(500);
    /// A publisher that is there is told of at once: without one by then it has just left.
    const BEGIN_MAX: Duration = Duration::from_secs(5);
    /// How often a worker is begun with: a picture that changes its size with every keyframe must
    /// not start a process for each.
    const STARTS_APART: Duration = Duration::from_secs(2);

    pub(super) fn new(stream: StreamName, tools: Tools, board: Arc<Board>) -> Self {
        let (tap, source) = (Some(tools.bus.tap(&stream)), Source::of_any_codec(tools.epoch));
        let ladder = tools.settings.ladder_of(stream.as_str()).clone();
        let vacant_until = Some(tools.clock.now() + Self::BEGIN_MAX);
        Self { stream, tools, board, ladder, tap, source, publisher: None, vacant_until }
    }

    /// Has layers made until the stream is over. False: the server stops.
    pub(super) async fn run(mut self) -> bool {
        let mut looks = interval(Self::LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                _ = looks.tick() => Next::Look,
            };
            let now = self.tools.clock.now();
            match next {
                Next::Found(found) => found.into_iter().for_each(|it| self.take(it, now)),
                Next::Told(told) => {
                    if let Some(run) = self.running() {
                        run.take(told, now);
                    }
                }
                Next::Act => {}
                Next::Look => {
                    self.look(now);
                    if self.vacant_until.is_some_and(|until| now >= until) {
                        return true;
                    }
                }
                Next::Stop => return false,
            }
            if let Some(run) = self.running() {
                run.act(now);
            }
        }
    }

    fn running(&mut self) -> Option<&mut Run> {
        self.publisher.as_mut()?.run.as_mut()
    }

    /// Waits for what happens next; may be given up.
    async fn next(&mut self) -> Next {
        let Self { tap, source, publisher, tools, .. } = self;
        let run = publisher.as_mut().and_then(|publisher| publisher.run.as_mut());
        let wished = run.as_ref().map(|run| Arc::clone(run.wished()));
        let due = run.as_ref().and_then(|run| run.deadline());
        let mut found = Vec::new();
        let overdue = source.deadline();
        tokio::select! {
            tapped = tapped(tap.as_mut()) => {
                let Some(tapped) = tapped else { return Next::Stop };
                source.take(tapped, tools.clock.now(), &mut |it| found.push(it));
                Next::Found(found)
            }
            () = at(overdue) => {
                source.handle_timeout(tools.clock.now(), &mut |it| found.push(it));
                Next::Found(found)
            }
            told = told(run) => Next::Told(told),
            () = changed(wished) => Next::Act,
            () = at(due) => Next::Act,
        }
    }

    fn take(&mut self, found: Found, now: Instant) {
        match found {
            Found::Began { term, .. } => {
                self.publisher = Some(Publisher::new(term));
                self.vacant_until = None;
            }
            Found::Sample(sample) => self.take_sample(&sample, now),
            Found::Gap(_) => self.tap.iter().for_each(Tap::want_keyframe),
            Found::Layers(layers) => {
                // One that has a name is one of several that were offered.
                let has_layers = layers.iter().any(|layer| !layer.rid.is_empty());
                if has_layers {
                    self.let_go();
                }
            }
            Found::NeedsMade(needs_made) => self.need_made(needs_made),
            Found::NotPlayable(_) => {}
            Found::Left => {
                self.publisher = None;
                self.board.set(LadderReport::default());
                self.vacant_until = Some(now + self.tools.grace.max(Self::BEGIN_MAX));
            }
        }
    }

    /// Its publisher sends layers itself.
    fn let_go(&mut self) {
        self.tap = None;
        if let Some(publisher) = &mut self.publisher {
            (publisher.run, publisher.unavailable) = (None, None);
        }
    }

    /// It is read anew, from what is kept since its keyframe on.
    fn begin_anew(&mut self) {
        let (stream, tools) = (self.stream.clone(), self.tools.clone());
        *self = Self::new(stream, tools, Arc::clone(&self.board));
    }

    /// Viewers can have only what is made of the picture, or more than that.
    fn need_made(&mut self, needs_made: bool) {
        let Some(publisher) = &mut self.publisher else { return };
        let has_changed = std::mem::replace(&mut publisher.needs_made, needs_made) != needs_made;
        if has_changed && publisher.measure.is_some() {
            // Other layers are made.
            self.begin_anew();
        }
    }

    fn take_sample(&mut self, sample: &Sample, now: Instant) {
        let Coding::Video(codec) = sample.coding else { return };
        let Some(publisher) = &mut self.publisher else { return };
        if sample.layer != LayerId::ONLY {
            return self.let_go();
        }
        if sample.starts {
            publisher.begin(codec, sample);
        }
        if let Some(measure) = &mut publisher.measure {
            measure.add(sample);
        }
        self.start_if_due(now);
        let Some(Publisher { run: Some(run), measure, term, .. }) = &mut self.publisher else {
            return;
        };
        run.write(sample);
        if !run.is_declared()
            && let Some(frame_rate) = measure.as_ref().and_then(Measure::frame_rate)
        {
            run.declare(&self.tools, *term, frame_rate);
        }
    }

    /// Starts a worker, where there is something to make and none runs.
    fn start_if_due(&mut self, now: Instant) {
        let Some(publisher) = &mut self.publisher else { return };
        let Some(measure) = publisher.measure.as_ref().filter(|_| publisher.run.is_none()) else {
            return;
        };
        let is_for_all = measure.codec == Codec::H264 && !publisher.needs_made;
        let source = plan::Source { size: measure.size, is_for_all };
        let planned = plan::layers(source, self.ladder.steps());
        if planned.is_empty() || !publisher.starts.is_due(now) {
            return;
        }
        match Run::start(&self.tools, &self.stream, measure.codec, is_for_all, planned) {
            Ok(run) => {
                publisher.unavailable = None;
                run.set_audience(self.tools.bus.directory().is_watched(&self.stream));
                publisher.run = Some(run);
            }
            Err(reason) => {
                if publisher.unavailable.as_ref() != Some(&reason) {
                    warn!(stream = %self.stream, %reason, "no layers are made");
                }
                publisher.unavailable = Some(reason);
            }
        }
    }

    /// Looks at what changes slowly, and tells operators.
    fn look(&mut self, now: Instant) {
        let Some(publisher) = &mut self.publisher else { return };
        let is_there = |term| self.tools.bus.directory().publisher_of(&self.stream) == Some(term);
        if self.tap.is_none() && !is_there(publisher.term) {
            return self.begin_anew();
        }
        let session = publisher.term.session;
        let has_made = publisher.run.as_ref().is_some_and(Run::is_to_be_had);
        self.tools.bus.describe(session, |details| details.has_made = has_made);
        let rate = publisher.measure.as_ref().and_then(|measure| measure.rate(now));
        let report = match (&mut publisher.run, &publisher.unavailable) {
            (Some(run), _) => {
                run.set_audience(self.tools.bus.directory().is_watched(&self.stream));
                run.look(rate, now);
                run.report()
            }
            (None, Some(reason)) => {
                LadderReport { notices: vec![no_layers(reason)], ..LadderReport::default() }
            }
            (None, None) => LadderReport::default(),
        };
        self.board.set(report);
    }
}

impl Publisher {
    const fn new(term: Term) -> Self {
        Self {
            term,
            measure: None,
            needs_made: false,
            run: None,
            unavailable: None,
            starts: Every::new(Keeper::STARTS_APART),
        }
    }

    /// A keyframe has come: what was made of a picture of another size is made no longer.
    fn begin(&mut self, codec: Codec, keyframe: &Sample) {
        let Some(new) = Measure::begin(codec, keyframe) else { return };
        let is_same = |old: &Measure| (old.size, old.codec) == (new.size, new.codec);
        if self.measure.as_ref().is_some_and(is_same) {
            return;
        }
        if self.run.take().is_some() {
            debug!(size = ?new.size, "the picture has another size");
        }
        self.measure = Some(new);
    }
}

/// Waits until then; without a time for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// What comes of the stream next, if it is read.
async fn tapped(tap: Option<&mut Tap>) -> Option<Tapped> {
    match tap {
        Some(tap) => tap.next().await,
        None => std::future::pending().await,
    }
}

/// What a worker tells next; without one it waits for ever.
async fn told(run: Option<&mut Run>) -> Told {
    if let Some(run) = run
        && let Some(told) = run.told().await
    {
        return told;
    }
    // One that tells nothing more has been dropped with its worker.
    std::future::pending().await
}

async fn changed(wished: Option<Arc<Wished>>) {
    match wished {
        Some(wished) => wished.changed().await,
        None => std::future::pending().await,
    }
}
