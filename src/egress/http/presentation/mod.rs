//! The renditions of one stream as playlists and files, out of its samples. Pure.
//!
//! After draft-pantos-hls-rfc8216bis-22 (HTTP Live Streaming 2nd Edition, of May 2026).
//!
//! - `run`: one publisher's stay: its picture and its sound on one time line
//! - `video`: one layer of it: where its segments begin
//! - `ladder`: which layer of the picture each of its playlists shows
//! - `pictures`: the picture of a publisher: which layer says where segments begin
//! - `filler`: fills parts with pictures
//! - `pace`: how far pictures are apart, and how long parts are
//! - `sound`: fills parts with sound
//! - `cmaf`: boxes
//! - `boundaries`: where segments begin, the same for all renditions
//! - `playlists`: all playlists, and what they have in common
//! - `media_playlist`: what one playlist lists
//! - `names`: of files and playlists
//! - `text`: of playlists

mod boundaries;
mod cmaf;
mod filler;
mod ladder;
mod media_playlist;
pub mod names;
mod pace;
mod pictures;
mod playlists;
mod run;
mod sound;
#[cfg(test)]
mod tests;
mod text;
mod video;

use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding};
use crate::media::layer::LayerState;
use crate::media::sample::Sample;
use bytes::Bytes;
use ladder::Ladder;
pub use ladder::Rung;
use playlists::{Made, Playlists};
use run::Run;
use std::sync::Arc;
use std::time::Duration;

/// How a stream is packaged; the reasons stand beside the options of the same names.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a part is, about.
    pub part: Duration,
    /// How long a segment is, about.
    pub segment: Duration,
    /// How far back playlists reach.
    pub window: Duration,
    /// What it may hold.
    pub bytes_max: usize,
    /// The first media sequence number.
    pub first_msn: u64,
}

/// One media playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rendition {
    /// A rung of the picture's ladder: `video.m3u8`, `video-1.m3u8` and so on.
    Video(Rung),
    /// Sound as AAC: `aac.m3u8`.
    Aac,
    /// Sound as Opus: `opus.m3u8`.
    Opus,
}

impl Rendition {
    /// How many there can be.
    pub const COUNT: usize = Rung::COUNT + 2;
    /// The first rung, and the only one of a picture that has one layer.
    pub const VIDEO: Self = Self::Video(Rung::FIRST);
    /// The kinds of sound.
    pub const SOUNDS: [Self; 2] = [Self::Aac, Self::Opus];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        Rung::all().map(Self::Video).chain(Self::SOUNDS)
    }

    /// Its place in tables of all.
    pub const fn index(self) -> usize {
        match self {
            Self::Video(rung) => rung.index(),
            Self::Aac => Rung::COUNT,
            Self::Opus => Rung::COUNT + 1,
        }
    }

    /// Whether it is of the picture.
    pub const fn is_video(self) -> bool {
        matches!(self, Self::Video(_))
    }
}

/// How far a playlist has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The media sequence number of its newest segment, be it complete or not.
    pub msn: u64,
    /// How many parts of that there are; one at least.
    pub parts: u64,
    /// Whether that segment is complete.
    pub is_complete: bool,
    /// Whether nothing more comes.
    pub is_over: bool,
}

/// What there is under a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// All of it; it never changes.
    Whole(Bytes),
    /// A segment that is being made: so many of its parts are there.
    Growing(Vec<Bytes>),
    /// It is hinted at, and comes next.
    Hinted,
    /// There is none of that name, or none any more.
    Unknown,
}

/// A stream being packaged.
#[derive(Debug)]
pub struct Presentation {
    playlists: Playlists,
    ladder: Ladder,
    run: Option<Run>,
    /// The longest time between two keyframes of the publisher that was said.
    keyframes_apart: Option<i64>,
    /// What sound there was of the publisher before.
    sounds: [Option<AudioCoding>; 2],
    /// The sound that comes, or will soon.
    expected: Vec<Rendition>,
    /// Layers are made of the picture, of which nothing was told yet.
    expects_made: bool,
    /// Whether there is something to play.
    is_ready: bool,
}

impl Presentation {
    /// Nothing yet.
    pub fn new(settings: Settings) -> Self {
        let playlists = Playlists::new(settings);
        Self {
            playlists,
            ladder: Ladder::default(),
            run: None,
            keyframes_apart: None,
            sounds: [None, None],
            expected: Vec::new(),
            expects_made: false,
            is_ready: false,
        }
    }

    /// A publisher begins: its files have this in their names, which nobody has had before.
    /// `keyframes_apart`: the longest time between two of its keyframes, as far as that is known.
    pub fn begin(&mut self, run: &str, keyframes_apart: Option<Duration>) {
        self.finish();
        let seconds = keyframes_apart.map(|apart| apart.as_secs_f64());
        self.playlists.begin(&Arc::from(run), seconds);
        self.ladder.begin();
        self.keyframes_apart = seconds.map(|it| (it * f64::from(CLOCK_RATE)) as i64);
        self.run = Some(Run::new(self.keyframes_apart, self.sounds.clone()));
    }

    /// The publisher's clock has jumped: another time line begins, with a discontinuity.
    fn jump(&mut self) {
        self.finish();
        self.playlists.jump();
        self.ladder.jump();
        self.run = Some(Run::new(self.keyframes_apart, self.sounds.clone()));
    }

    /// Takes a sample of the publisher.
    pub fn push(&mut self, sample: Sample) {
        let Some(run) = &self.run else { return };
        if run.is_elsewhere(&sample) {
            if !run.is_leader(&sample) {
                return;
            }
            self.jump();
        }
        let Some(run) = &mut self.run else { return };
        let is_picture = matches!(sample.coding, Coding::Video(_));
        let rungs = is_picture.then(|| self.ladder.take(&sample)).into_iter().flatten();
        self.playlists.set_rungs(self.ladder.len());
        run.push(sample, rungs, &mut self.playlists);
        self.is_ready = self.is_ready || self.has_all();
    }

    /// What the layers of the picture carry.
    pub fn set_layers(&mut self, layers: &[LayerState]) {
        self.ladder.set_layers(layers);
        self.expects_made &= !self.ladder.has_made();
    }

    /// These kinds of sound come, or will soon: the playlist that names the others waits for them
    /// for a while.
    pub fn expect_sound(&mut self, renditions: &[Rendition]) {
        self.expected = renditions.to_vec();
    }

    /// Layers will be made of the picture, which are to be in the first playlist.
    pub const fn expect_made(&mut self) {
        self.expects_made = true;
        self.ladder.wait_for_made(!self.is_ready);
        self.playlists.made = Made::Awaited;
    }

    /// Whether layers that are made of the picture have no segment yet.
    pub fn awaits_made(&self) -> bool {
        let plays = |rung| self.playlists.get(Rendition::Video(rung)).has_segment();
        self.expects_made || Rung::all().any(|rung| self.ladder.awaits(rung) && !plays(rung))
    }

    /// Somebody waits for the first playlist: the first segment ends when it is long enough to
    /// play, be it without a keyframe.
    pub const fn hurry(&mut self) {
        self.playlists.hurries = true;
    }

    /// What there is has to do for the first playlist, whatever else was to come.
    pub fn make_do(&mut self) {
        self.ladder.wait_for_made(false);
        self.is_ready |= self.playlists.has_any();
    }

    /// Whether the publisher is to be asked for a keyframe now, so that the segment can end in
    /// time; true once for each.
    pub fn wants_keyframe(&mut self) -> bool {
        let wishes = self.run.as_mut().is_some_and(Run::take_wish);
        self.ladder.take_wish() || wishes
    }

    /// EXT-X-TARGETDURATION, as it is or will be.
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(self.playlists.target_duration.unsigned_abs())
    }

    /// The media that is held, in bytes.
    pub fn held(&self) -> usize {
        self.playlists.held() + self.run.as_ref().map_or(0, Run::bytes)
    }

    /// Nothing more comes: playlists end.
    pub fn end(&mut self) {
        self.finish();
        self.playlists.end();
    }

    fn finish(&mut self) {
        if let Some(mut run) = self.run.take() {
            run.finish(&mut self.playlists);
            self.sounds = run.codings();
            self.is_ready |= self.playlists.has_any();
        }
    }

    /// Whether all that comes has a segment that is complete: without one, players take a playlist
    /// for empty.
    fn has_all(&self) -> bool {
        let Some(run) = &self.run else { return false };
        let begun = |rendition: Rendition| self.playlists.get(rendition).position().is_some();
        let plays = |rendition: Rendition| self.playlists.get(rendition).has_segment();
        let comes = |rendition: Rendition| match rendition {
            Rendition::Video(rung) => run.has_picture(rung) || self.ladder.awaits(rung),
            _ => self.expected.contains(&rendition),
        };
        let mut all = Rendition::all();
        !self.expects_made
            && all.clone().any(plays)
            && all.all(|it| plays(it) || !(begun(it) || comes(it)))
    }

    /// How far a playlist has got; `None` while it has no part.
    pub fn position(&self, rendition: Rendition) -> Option<Position> {
        self.playlists.get(rendition).position()
    }

    /// Whether all that comes has something to play, or has been waited for for long enough.
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The playlist that names the others; `None` before all of them have something to play.
    /// `query` is put behind every URL.
    pub fn multivariant(&self, query: &str) -> Option<String> {
        let pictures = self.offered();
        self.is_ready.then(|| text::multivariant(query, pictures, &self.playlists)).flatten()
    }

    /// The playlists of the picture that newcomers are told of; all, where each stands in for
    /// another.
    pub fn offered(&self) -> impl Iterator<Item = Rendition> + '_ {
        let is_offered = |rung: &Rung| self.ladder.is_offered(*rung);
        let is_any = Rung::all().any(|rung| is_offered(&rung));
        Rung::all().filter(move |rung| !is_any || is_offered(rung)).map(Rendition::Video)
    }

    /// A media playlist as it is now; `skip`: as a delta update, where that is possible.
    pub fn playlist(&self, rendition: Rendition, skip: bool, query: &str) -> Option<String> {
        text::media(rendition, skip, query, &self.playlists)
    }

    /// What there is under a name.
    pub fn file(&self, name: &str) -> File {
        names::read(name)
            .map_or(File::Unknown, |name| self.playlists.get(name.rendition).file(name))
    }
}
