//! All playlists of a stream, and what they have in common.

use super::boundaries::{Boundaries, Boundary};
use super::filler::Closed;
use super::media_playlist::{Date, MediaPlaylist};
use super::{Rendition, Settings};
use crate::media::frame::CLOCK_RATE;
use crate::media::time::WallTime;
use std::sync::Arc;

/// No part holds more than this share of all that may be held: so one that is absurd costs parts
/// that are listed, and not the bound.
const PART_SHARE: usize = 16;
/// The same for a segment.
const SEGMENT_SHARE: usize = 4;

/// The first segment has at least so many parts: players begin so far behind its end.
const FIRST_PARTS: f64 = 3.0;

/// And a sample, where there are few rungs.
const SAMPLE_SHARE: usize = 8;

/// How layers get a first segment that begin in the middle of one: it is cut where they begin, and
/// again as soon as that is long enough to play. Keyframes of the publisher may be far apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Nobody waits for them.
    #[default]
    Unasked,
    /// They have not begun.
    Awaited,
    /// They begin with this time, in ticks of the publisher.
    Begins(i64),
    /// They have begun with this segment.
    First(u64),
    /// They have one.
    Served,
}

/// All playlists of a stream.
#[derive(Debug)]
pub(super) struct Playlists {
    /// How it is packaged.
    pub(super) settings: Settings,
    /// Where segments begin.
    pub(super) boundaries: Boundaries,
    /// The Target Duration in seconds; it never changes.
    pub(super) target_duration: i64,
    /// Sound is coded in another way: the next segment is to be discontinuous.
    pub(super) wants_discontinuity: bool,
    /// Somebody waits for the first segment.
    pub(super) hurries: bool,
    /// Layers that are made for whoever asks are to have one soon.
    pub(super) made: Made,
    /// How many rungs the picture has.
    rungs: usize,
    all: Vec<MediaPlaylist>,
}

impl Playlists {
    /// Nothing yet.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            boundaries: Boundaries::new(settings.first_msn),
            target_duration: whole_seconds(settings.segment.as_secs_f64()),
            wants_discontinuity: false,
            hurries: false,
            made: Made::default(),
            rungs: 1,
            all: Rendition::all().map(MediaPlaylist::new).collect(),
        }
    }

    /// One of them.
    pub(super) fn playlist(&mut self, rendition: Rendition) -> &mut MediaPlaylist {
        &mut self.all[rendition.index()]
    }

    /// One of them, to read.
    pub(super) fn get(&self, rendition: Rendition) -> &MediaPlaylist {
        &self.all[rendition.index()]
    }

    /// A publisher begins.
    pub(super) fn begin(&mut self, run: &Arc<str>, keyframes_apart: Option<f64>) {
        if self.boundaries.is_empty() {
            let seconds = self.settings.segment.as_secs_f64().max(keyframes_apart.unwrap_or(0.0));
            self.target_duration = whole_seconds(seconds);
        }
        self.boundaries.restart();
        self.made = Made::default();
        self.all.iter_mut().for_each(|playlist| playlist.begin(run));
    }

    /// Another time line of the same publisher begins.
    pub(super) fn jump(&mut self) {
        self.boundaries.restart();
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.all.iter_mut().for_each(MediaPlaylist::end);
    }

    /// How long a segment should be, in ticks.
    pub(super) fn segment(&self) -> i64 {
        (self.settings.segment.as_secs_f64() * f64::from(CLOCK_RATE)) as i64
    }

    /// Whether a segment of that length ends since somebody waits for the first one.
    pub(super) fn ends_first(&self, segment: Option<u64>, length: i64) -> bool {
        let parts = self.settings.part.as_secs_f64() * FIRST_PARTS * f64::from(CLOCK_RATE);
        self.hurries && segment == Some(self.settings.first_msn) && length >= parts as i64
    }

    /// Whether the segment of the layer that leads ends with this picture for those that are made:
    /// it is of that length.
    pub(super) fn ends_for_made(&mut self, segment: Option<u64>, decode: i64, length: i64) -> bool {
        let parts = self.settings.part.as_secs_f64() * FIRST_PARTS * f64::from(CLOCK_RATE);
        let (made, ends) = match self.made {
            Made::Begins(at) if decode >= at && length > 0 => {
                (segment.map_or(Made::Served, |msn| Made::First(msn + 1)), true)
            }
            Made::First(msn) if segment > Some(msn) => (Made::Served, false),
            Made::First(msn) if segment == Some(msn) && length >= parts as i64 => {
                (Made::Served, true)
            }
            same => (same, false),
        };
        self.made = made;
        ends
    }

    /// A segment begins in one of them, at `at` in ticks of the publisher, which is said to be the
    /// moment `begins`.
    ///
    /// It has its date from the picture beside it, where a layer of that has begun the segment:
    /// hls.js places sound, and another layer, by the dates of both, and two clocks that are
    /// measured each by itself differ by milliseconds that the media does not.
    pub(super) fn open(
        &mut self,
        rendition: Rendition,
        boundary: Boundary,
        at: i64,
        begins: WallTime,
    ) {
        let mut others = Rendition::all().filter(|it| it.is_video() && *it != rendition);
        let beside = others.find_map(|it| self.get(it).date(boundary.msn, at));
        let date = Date { at, begins: beside.unwrap_or(begins), is_exact: beside.is_some() };
        self.all[rendition.index()].open(boundary, &self.boundaries, date);
    }

    /// A part of one of them is full. Lists and holds no more than it should.
    pub(super) fn add(&mut self, rendition: Rendition, closed: Option<&Closed>, base: i64) {
        let Some(closed) = closed else { return };
        self.playlist(rendition).add(closed, base);
        let window = self.settings.window.as_secs_f64();
        // A live playlist holds three target durations at least (§6.2.2), as segments are told.
        let least = 3.0 * self.target_duration as f64 + 0.001;
        self.all.iter_mut().for_each(|playlist| playlist.trim(window, least));
        // What is not a part yet has its room.
        while self.held() > self.settings.bytes_max / 4 * 3 && self.give_up_oldest() {}
    }

    /// Those listed no longer first, then the oldest of all.
    fn give_up_oldest(&mut self) -> bool {
        let oldest = self
            .all
            .iter_mut()
            .filter_map(|playlist| playlist.oldest().map(|(msn, listed)| (listed, msn, playlist)))
            .min_by_key(|(listed, msn, _)| (*listed, *msn));
        let Some((.., playlist)) = oldest else { return false };
        playlist.pop_oldest();
        true
    }

    /// Whether one of them lists something.
    pub(super) fn has_any(&self) -> bool {
        self.all.iter().any(|playlist| playlist.position().is_some())
    }

    /// How much media they hold.
    pub(super) fn held(&self) -> usize {
        self.all.iter().map(MediaPlaylist::held).sum()
    }

    /// The picture has so many rungs, which share what may be held.
    pub(super) fn set_rungs(&mut self, rungs: usize) {
        self.rungs = rungs.max(1);
    }

    /// How much a part may hold, and what waits for its place.
    pub(super) const fn part_bytes_max(&self) -> usize {
        self.settings.bytes_max / PART_SHARE / self.rungs
    }

    /// How much a sample may hold: each rung has one in the segment that is being made, which
    /// cannot be given up, and these are half of all at most.
    pub(super) fn sample_bytes_max(&self) -> usize {
        self.settings.bytes_max / SAMPLE_SHARE.max(2 * self.rungs)
    }

    /// How much of the picture may wait for its place, in all rungs together.
    pub(super) const fn waiting_bytes_max(&self) -> usize {
        self.settings.bytes_max / SAMPLE_SHARE
    }

    /// Whether the segment being made holds as much as it may.
    pub(super) fn is_segment_full(&self, rendition: Rendition) -> bool {
        self.get(rendition).open_bytes() > self.settings.bytes_max / SEGMENT_SHARE / self.rungs
    }
}

/// Rounded up, from 1 to 10 seconds. How far keyframes are apart is measured by when they came:
/// what is a little more than whole seconds is just these, as a segment may be rounded too.
fn whole_seconds(seconds: f64) -> i64 {
    const JITTER: f64 = 0.25;
    ((seconds - JITTER).ceil() as i64).clamp(1, 10)
}
