//! The task that packages one stream: what its tap gives, into its presentation.

use super::Tools;
use super::opening::{Opened, Opening};
use super::presentation::{Presentation, Rendition};
use super::sound::Sound;
use super::store::Store;
use crate::bus::tap::Tap;
use crate::config::egress::HlsMode;
use crate::egress::source::{Found, Source};
use crate::media::codec::Kind;
use crate::media::frame::{AudioCoding, Coding};
use crate::media::id::StreamName;
use crate::media::layer::LayerState;
use crate::media::sample::Sample;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info};

/// Packages one stream.
pub(super) struct Packager<R> {
    stream: StreamName,
    store: Arc<Store<R>>,
    tools: Tools,
    tap: Tap,
    source: Source,
    sound: Sound,
    opening: Opening,
    /// Whether the publisher that is there can be asked for keyframes.
    takes_requests: bool,
    /// How far apart its own are.
    keyframes_apart: Option<Duration>,
    /// What its layers carry.
    layers: Vec<LayerState>,
    /// When there was a part for the first time.
    begun: Option<Instant>,
    /// The sound that is known to come.
    expected: Vec<Rendition>,
    /// Until when its publisher may come back, while there is none; what it had is over then.
    vacant_until: Option<Instant>,
    is_over: bool,
}

impl<R: Clone + Send + Sync + 'static> Packager<R> {
    /// A segment that is complete is waited for so long from the first part on.
    const FIRST_SEGMENT_MAX: Duration = Duration::from_millis(1_200);
    /// The same of layers that are made for this: their first segments end with the publisher's.
    const FIRST_MADE_MAX: Duration = Duration::from_millis(2_600);
    /// How often it is looked whether something has waited for long enough.
    const LOOK_INTERVAL: Duration = Duration::from_millis(100);
    /// A publisher that is there is told of at once: without one by then it has just left.
    const BEGIN_MAX: Duration = Duration::from_secs(5);

    pub(super) fn new(stream: StreamName, store: Arc<Store<R>>, tools: Tools) -> Self {
        let (tap, source) = (tools.bus.tap_all(&stream), Source::new(tools.epoch));
        let sound = Sound::new(stream.clone(), tools.transcoder.clone());
        let vacant_until = Some(tools.clock.now() + tools.grace.max(Self::BEGIN_MAX));
        Self {
            stream,
            store,
            tools,
            tap,
            source,
            sound,
            opening: Opening::Open,
            takes_requests: false,
            keyframes_apart: None,
            layers: Vec::new(),
            begun: None,
            expected: Vec::new(),
            vacant_until,
            is_over: false,
        }
    }

    /// Packages until nobody asks any more, or the stream is over and another begins.
    pub(super) async fn run(mut self) {
        info!(stream = %self.stream, "packaged for HLS");
        let mut looks = interval(Self::LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut found = Vec::new();
            let overdue = self.source.deadline();
            tokio::select! {
                tapped = self.tap.next() => {
                    let Some(tapped) = tapped else { break };
                    let now = self.tools.clock.now();
                    self.source.take(tapped, now, &mut |it| found.push(it));
                }
                () = at(overdue) => {
                    let now = self.tools.clock.now();
                    self.source.handle_timeout(now, &mut |it| found.push(it));
                }
                sample = self.sound.made() => self.package(sample),
                _ = looks.tick() => {
                    if self.look() {
                        break;
                    }
                }
            }
            for it in found {
                if self.take(it) {
                    return;
                }
            }
        }
        info!(stream = %self.stream, "no longer packaged for HLS");
    }

    /// Takes in what has come. True: this package is of no use any more, as another stream begins.
    fn take(&mut self, found: Found) -> bool {
        let now = self.tools.clock.now();
        match found {
            Found::Began { .. } if self.is_over => return true,
            Found::Began { takes_requests, keyframes_apart, .. } => {
                self.vacant_until = None;
                self.store.accept();
                (self.takes_requests, self.keyframes_apart) = (takes_requests, keyframes_apart);
                self.sound.begin();
                self.expected.clear();
                self.layers.clear();
                self.opening = if takes_requests {
                    self.tap.want_keyframe();
                    Opening::asked(now)
                } else {
                    self.begin(keyframes_apart);
                    Opening::Open
                };
            }
            Found::Sample(sample) => {
                if sample.coding.kind() == Kind::Video {
                    self.store.accept();
                }
                let opened = self.opening.take(sample, now);
                self.go_on(opened, now);
            }
            Found::Gap(_) => {
                debug!(stream = %self.stream, "a picture is missing");
                self.tap.want_keyframe();
            }
            Found::Layers(layers) => {
                self.layers = layers;
                self.tell_layers();
            }
            // What is made of it can be packaged, and comes soon.
            Found::NotPlayable(_) if self.tools.bus.directory().is_made(&self.stream) => {}
            Found::NeedsMade(_) => {}
            Found::NotPlayable(reason) => self.store.refuse(reason),
            Found::Left => self.vacant_until = Some(now + self.tools.grace),
        }
        false
    }

    /// Whether it has come to an end.
    fn look(&mut self) -> bool {
        let now = self.tools.clock.now();
        let opened = self.opening.look(now);
        self.go_on(opened, now);
        self.hurry(now);
        self.tools.bus.directory().set_other_viewers(&self.stream, self.store.waiting());
        if self.vacant_until.is_some_and(|until| now >= until) && !self.is_over {
            self.is_over = true;
            self.store.change(Presentation::end);
        }
        let settings = &self.tools.settings;
        let is_kept = settings.mode == HlsMode::Always && !self.is_over;
        !is_kept && now >= self.store.asked() + settings.idle_timeout
    }

    /// Who asked first is not to wait for a whole segment: players want one that is complete, but
    /// it may be short. Where a keyframe comes soon by itself it is left to that, so that all
    /// segments begin with one.
    fn hurry(&mut self, now: Instant) {
        if !self.store.is_opening() {
            return;
        }
        let segment = self.tools.settings.segment;
        let ends_soon = !self.takes_requests
            && self.keyframes_apart.is_none_or(|apart| apart <= segment + segment / 5);
        let (has_begun, awaits_made) = self.store.change(|presentation| {
            let begun = |it: &Rendition| presentation.position(*it).is_some();
            let has_begun = Rendition::all().any(|it| begun(&it));
            let has_picture = Rendition::all().filter(|it| it.is_video()).any(|it| begun(&it));
            if has_begun && !(has_picture && ends_soon) {
                presentation.hurry();
            }
            (has_begun, presentation.awaits_made())
        });
        let limit = if awaits_made { Self::FIRST_MADE_MAX } else { Self::FIRST_SEGMENT_MAX };
        if has_begun && now >= *self.begun.get_or_insert(now) + limit {
            self.store.change(Presentation::make_do);
        }
    }

    /// What is to be packaged now, once it is known where to begin.
    fn go_on(&mut self, opened: Option<Opened>, now: Instant) {
        let Some(Opened { samples, begins, has_answered }) = opened else { return };
        if begins {
            self.begin(if has_answered { None } else { self.keyframes_apart });
        }
        for sample in samples {
            match &sample.coding {
                Coding::Video(_) | Coding::Audio(AudioCoding::Aac(_)) => {}
                Coding::Audio(AudioCoding::Opus) => {
                    let is_made = self.sound.write(&sample, now);
                    let expected = [Rendition::Opus, Rendition::Aac];
                    self.expect_sound(&expected[..=usize::from(is_made)]);
                }
                Coding::Audio(AudioCoding::Mpeg | AudioCoding::Ac3) => {
                    if self.sound.write(&sample, now) {
                        self.expect_sound(&[Rendition::Aac]);
                    }
                    continue;
                }
            }
            self.package(sample);
        }
    }

    fn begin(&self, keyframes_apart: Option<Duration>) {
        let mut random = [0; 8];
        // Without random numbers names are still unlike those of any other publisher.
        if getrandom::fill(&mut random).is_err() {
            random = self.tools.clock.wall().to_ntp().to_be_bytes();
        }
        let run = format!("{:016x}", u64::from_be_bytes(random));
        self.store.begin(&run, keyframes_apart);
        if self.tools.bus.directory().is_made(&self.stream) {
            self.store.change(Presentation::expect_made);
        }
        // They were told of when it came.
        self.tell_layers();
    }

    fn tell_layers(&self) {
        self.store.change(|presentation| presentation.set_layers(&self.layers));
    }

    fn expect_sound(&mut self, renditions: &[Rendition]) {
        if self.expected != renditions {
            self.expected = renditions.to_vec();
            self.store.change(|presentation| presentation.expect_sound(renditions));
        }
    }

    fn package(&self, sample: Sample) {
        let wants_keyframe = self.store.change(|presentation| {
            presentation.push(sample);
            presentation.wants_keyframe()
        });
        if wants_keyframe {
            self.tap.want_keyframe();
        }
    }
}

/// Done at that time; never where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl<R> Drop for Packager<R> {
    fn drop(&mut self) {
        self.tools.bus.directory().set_other_viewers(&self.stream, 0);
    }
}
