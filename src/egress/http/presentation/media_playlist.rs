//! What one media playlist lists: segments, their parts, and what is kept of those it lists no
//! longer.

use super::boundaries::{Boundaries, Boundary};
use super::cmaf::{self, Description};
use super::filler::Closed;
use super::names::{self, Name, What};
use super::{File, Position, Rendition};
use crate::media::frame::CLOCK_RATE;
use crate::media::time::{WallTime, micros_of_ticks};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// A publisher that comes back after so many segments that a playlist lacks finds it empty.
const GAPS_MAX: u64 = 16;
/// However short they are, no more are held: ten minutes of one a second are 600, and so many again
/// that are listed no longer.
const SEGMENTS_MAX: usize = 1_500;
/// So much a segment takes besides its media: names, times, and its part of the lists.
const SEGMENT_COUNTS_FOR: usize = 512;
/// A publisher's clock is measured anew all the time, within some milliseconds. A date that is no
/// further, in microseconds, from the end of the segment before is that end: of the difference
/// players that place media by dates (Shaka) make a hole or an overlap.
const UNSTEADY_MAX: i64 = 10_000;
/// One that is further off, but not so far, is that end moved a little towards it.
const OFF_MAX: i64 = 50_000;
/// So much forward, and back so much less that over a window it stays below [`SOUND_EARLY`].
///
/// [`SOUND_EARLY`]: super::text::SOUND_EARLY
const FORWARD_MAX: i64 = 1_000;
const BACK_MAX: i64 = 100;

/// A media initialization section.
#[derive(Debug)]
pub(super) struct Init {
    /// Its number in the run.
    number: u64,
    /// Its file name.
    pub(super) name: String,
    /// What it describes.
    pub(super) description: Description,
    bytes: Bytes,
}

/// A part of a segment.
#[derive(Debug)]
pub(super) struct Part {
    /// The bytes.
    pub(super) bytes: Bytes,
    /// In seconds.
    pub(super) duration: f64,
    /// Whether a decoder can start in it.
    pub(super) is_independent: bool,
}

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its media sequence number.
    pub(super) msn: u64,
    /// Its discontinuity sequence number.
    pub(super) discontinuity: u64,
    /// Whether that is another than the one before in this playlist had.
    pub(super) is_discontinuous: bool,
    /// The publish session.
    run: Arc<str>,
    /// What is needed before it; `None`: there is no media in it.
    pub(super) init: Option<Arc<Init>>,
    /// When its first sample is presented, in ticks of the publisher.
    at: i64,
    /// The same on the server's clock.
    pub(super) begins: Option<WallTime>,
    /// Its parts so far.
    pub(super) parts: Vec<Part>,
    /// The number of the first of them in the run.
    first_part: u64,
    /// All of it, once it is complete; the parts are slices of it.
    whole: Option<Bytes>,
    /// How long the parts are together, or what is missing.
    pub(super) duration: f64,
    /// Whether it is complete.
    pub(super) is_complete: bool,
}

impl Segment {
    /// The file name of one of its parts.
    pub(super) fn part_name(&self, rendition: Rendition, index: usize) -> String {
        let what = What::Part(self.first_part + index as u64);
        names::write(Name { run: &self.run, rendition, what })
    }

    /// Its file name.
    pub(super) fn name(&self, rendition: Rendition) -> String {
        names::write(Name { run: &self.run, rendition, what: What::Segment(self.msn) })
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    fn is_listed(&self) -> bool {
        self.is_complete || !self.parts.is_empty()
    }
}

/// When a segment begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Date {
    /// In ticks of the publisher.
    pub(super) at: i64,
    /// On the server's clock.
    pub(super) begins: WallTime,
    /// Whether that is known, not measured.
    pub(super) is_exact: bool,
}

/// One media playlist.
#[derive(Debug)]
pub(super) struct MediaPlaylist {
    rendition: Rendition,
    /// The Part Target Duration in milliseconds: it never changes.
    pub(super) part_target: Option<i64>,
    /// Pictures per second.
    pub(super) frame_rate: Option<f64>,
    segments: VecDeque<Segment>,
    /// How many of these are listed no longer.
    unlisted: usize,
    run: Arc<str>,
    init: Option<Arc<Init>>,
    inits: u64,
    /// The number of the next part in the run.
    next_part: u64,
    chunks: u32,
    is_over: bool,
}

impl MediaPlaylist {
    /// Nothing yet.
    pub(super) fn new(rendition: Rendition) -> Self {
        Self {
            rendition,
            part_target: None,
            frame_rate: None,
            segments: VecDeque::new(),
            unlisted: 0,
            run: Arc::from(""),
            init: None,
            inits: 0,
            next_part: 0,
            chunks: 0,
            is_over: false,
        }
    }

    /// A publisher begins.
    pub(super) fn begin(&mut self, run: &Arc<str>) {
        self.complete();
        self.run = Arc::clone(run);
        self.init = None;
        (self.inits, self.next_part, self.chunks) = (0, 0, 0);
        self.is_over = false;
    }

    /// What comes from the next segment on.
    pub(super) fn describe(&mut self, description: Description) {
        let what = What::Init(self.inits);
        self.init = Some(Arc::new(Init {
            number: self.inits,
            name: names::write(Name { run: &self.run, rendition: self.rendition, what }),
            bytes: cmaf::header(&description),
            description,
        }));
        self.inits += 1;
    }

    /// What the newest segments hold.
    pub(super) fn description(&self) -> Option<&Description> {
        let listed = self.segments.iter().rev().find_map(|segment| segment.init.as_ref());
        self.init.as_ref().or(listed).map(|init| &init.description)
    }

    /// The number of the newest segment, of whichever publisher.
    pub(super) fn newest(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.msn)
    }

    /// The discontinuity sequence number of the newest segment.
    pub(super) fn discontinuity(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.discontinuity)
    }

    /// How long the segment is that is being made.
    pub(super) fn open_duration(&self) -> Option<f64> {
        self.segments.back().filter(|it| !it.is_complete).map(|it| it.duration)
    }

    /// The bytes of the segment that is being made.
    pub(super) fn open_bytes(&self) -> usize {
        self.segments.back().filter(|it| !it.is_complete).map_or(0, Segment::bytes)
    }

    /// A segment begins; those between the last and it that this playlist lacks are gaps.
    pub(super) fn open(&mut self, boundary: Boundary, boundaries: &Boundaries, date: Date) {
        self.complete();
        let Date { at, begins, is_exact } = date;
        let begins = if is_exact { begins } else { self.steadied(boundary, begins) };
        if let Some(last) = self.newest() {
            if boundary.msn - last > GAPS_MAX {
                // As if it had gone on: a playlist may have moved past all that it listed.
                self.unlisted = self.segments.len();
            } else {
                for (gap, ticks) in boundaries.between(last + 1, boundary.msn) {
                    let seconds = ticks.unwrap_or(CLOCK_RATE.into()) as f64 / f64::from(CLOCK_RATE);
                    self.push(gap, None, None, gap.at);
                    self.fill_gap(seconds);
                }
            }
        }
        self.push(boundary, self.init.clone(), Some(begins), at);
    }

    /// The moment at `at`, in ticks of the publisher, by the date of the segment `msn`.
    pub(super) fn date(&self, msn: u64, at: i64) -> Option<WallTime> {
        let segment = self.segments.iter().rev().find(|segment| segment.msn == msn)?;
        Some(segment.begins?.offset_micros(micros_of_ticks(at - segment.at, CLOCK_RATE)))
    }

    /// When a segment begins that is said to begin then.
    fn steadied(&self, boundary: Boundary, begins: WallTime) -> WallTime {
        let follows = |last: &&Segment| {
            last.msn + 1 == boundary.msn && last.discontinuity == boundary.discontinuity
        };
        let end = |last: &Segment| {
            Some(last.begins?.offset_micros((last.duration * 1_000_000.0).round() as i64))
        };
        let Some(end) = self.segments.back().filter(follows).and_then(end) else { return begins };
        let off = begins.micros_since(end);
        match off.abs() {
            0..=UNSTEADY_MAX => end,
            _ if off.abs() < OFF_MAX => end.offset_micros(off.clamp(-BACK_MAX, FORWARD_MAX)),
            _ => begins,
        }
    }

    fn push(
        &mut self,
        boundary: Boundary,
        init: Option<Arc<Init>>,
        begins: Option<WallTime>,
        at: i64,
    ) {
        let before = self.segments.back().map(|segment| segment.discontinuity);
        self.segments.push_back(Segment {
            msn: boundary.msn,
            discontinuity: boundary.discontinuity,
            is_discontinuous: before.is_some_and(|before| before != boundary.discontinuity),
            run: Arc::clone(&self.run),
            init,
            at,
            begins,
            parts: Vec::new(),
            first_part: self.next_part,
            whole: None,
            duration: 0.0,
            is_complete: false,
        });
    }

    fn fill_gap(&mut self, seconds: f64) {
        if let Some(segment) = self.segments.back_mut() {
            segment.duration = seconds;
            segment.is_complete = true;
            segment.init = None;
        }
    }

    /// A part of the segment being made; `base`: what the publisher's ticks begin with.
    pub(super) fn add(&mut self, closed: &Closed, base: i64) {
        let Some(segment) = self.segments.back_mut().filter(|it| !it.is_complete) else { return };
        let Some(init) = &segment.init else { return };
        let scale = f64::from(init.description.timescale());
        let decode_time = u64::try_from(closed.decode_time - base).unwrap_or_default();
        self.chunks = self.chunks.wrapping_add(1);
        let duration = closed.duration as f64 / scale;
        segment.parts.push(Part {
            bytes: cmaf::chunk(self.chunks, decode_time, &closed.entries),
            duration,
            is_independent: closed.is_independent,
        });
        segment.duration += duration;
        self.next_part += 1;
    }

    /// The segment being made is complete. Its bytes move together, and are held once.
    pub(super) fn complete(&mut self) {
        let Some(segment) = self.segments.back_mut().filter(|it| !it.is_complete) else { return };
        if segment.parts.is_empty() {
            self.segments.pop_back();
            return;
        }
        let mut whole = BytesMut::with_capacity(segment.bytes());
        segment.parts.iter().for_each(|part| whole.extend_from_slice(&part.bytes));
        let whole = whole.freeze();
        let mut at = 0;
        for part in &mut segment.parts {
            let end = at + part.bytes.len();
            part.bytes = whole.slice(at..end);
            at = end;
        }
        segment.whole = Some(whole);
        segment.is_complete = true;
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.complete();
        self.is_over = true;
    }

    /// Whether nothing more comes.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// How far it has got.
    pub(super) fn position(&self) -> Option<Position> {
        let segment = self.listed().next_back()?;
        Some(Position {
            msn: segment.msn,
            parts: segment.parts.len().max(1) as u64,
            is_complete: segment.is_complete,
            is_over: self.is_over,
        })
    }

    /// What it lists, oldest first.
    pub(super) fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.iter().skip(self.unlisted).filter(|segment| segment.is_listed())
    }

    /// Whether a segment is complete.
    pub(super) fn has_segment(&self) -> bool {
        self.listed().any(|segment| segment.is_complete)
    }

    /// The file name of the part that comes next; `None` where none does.
    pub(super) fn hint(&self) -> Option<String> {
        let what = What::Part(self.next_part);
        let name = Name { run: &self.run, rendition: self.rendition, what };
        (!self.is_over && !self.run.is_empty()).then(|| names::write(name))
    }

    /// What it holds: media, what is needed before it, and the lists themselves.
    pub(super) fn held(&self) -> usize {
        let mut named: Option<&str> = None;
        let mut held = 0;
        for segment in &self.segments {
            held += SEGMENT_COUNTS_FOR + segment.bytes();
            if let Some(init) = &segment.init
                && named.replace(&init.name) != Some(&init.name)
            {
                held += init.bytes.len();
            }
        }
        held
    }

    /// The oldest segment that can be given up, and whether it is listed still.
    pub(super) fn oldest(&self) -> Option<(u64, bool)> {
        let is_newest = self.segments.len() == 1 && !self.segments.front()?.is_complete;
        (!is_newest).then_some((self.segments.front()?.msn, self.unlisted == 0))
    }

    /// Gives up the oldest segment.
    pub(super) fn pop_oldest(&mut self) {
        self.segments.pop_front();
        self.unlisted = self.unlisted.saturating_sub(1);
    }

    /// Lists no more than `window` seconds, but `least` of them; what it lists no longer is kept as
    /// long as players may ask for it (draft-pantos-hls-rfc8216bis-22 §6.2.2): its own duration
    /// and that of the playlist.
    pub(super) fn trim(&mut self, window: f64, least: f64) {
        let mut seconds: f64 = self.listed().map(|segment| segment.duration).sum();
        while let Some(first) = self.segments.get(self.unlisted) {
            let rest = seconds - first.duration;
            if !first.is_complete || rest < window.max(least) {
                break;
            }
            seconds = rest;
            self.unlisted += 1;
        }
        while self.segments.len() > SEGMENTS_MAX {
            self.pop_oldest();
        }
        let mut kept: f64 = self.segments.iter().take(self.unlisted).map(|it| it.duration).sum();
        while self.unlisted > 0 {
            let first = self.segments.front().map_or(0.0, |it| it.duration);
            kept -= first;
            if kept < seconds + first {
                break;
            }
            self.pop_oldest();
        }
    }

    /// What there is under a name.
    pub(super) fn file(&self, name: Name) -> File {
        let mut of_run = self.segments.iter().filter(|segment| &*segment.run == name.run);
        let is_current = !self.is_over && &*self.run == name.run;
        match name.what {
            What::Init(number) => {
                let kept = self.segments.iter().filter_map(|segment| segment.init.as_ref());
                let named =
                    |init: &&Arc<Init>| init.number == number && init.name == names::write(name);
                kept.chain(&self.init)
                    .find(named)
                    .map_or(File::Unknown, |init| File::Whole(init.bytes.clone()))
            }
            What::Segment(msn) => match of_run.find(|segment| segment.msn == msn) {
                Some(Segment { whole: Some(whole), .. }) => File::Whole(whole.clone()),
                Some(segment) if segment.is_complete => File::Unknown,
                Some(segment) => {
                    File::Growing(segment.parts.iter().map(|part| part.bytes.clone()).collect())
                }
                None if is_current && self.newest().is_some_and(|it| it + 1 == msn) => File::Hinted,
                None => File::Unknown,
            },
            What::Part(number) if is_current && number == self.next_part => File::Hinted,
            What::Part(number) => of_run
                .find_map(|segment| {
                    let index = number.checked_sub(segment.first_part)?;
                    segment.parts.get(index as usize)
                })
                .map_or(File::Unknown, |part| File::Whole(part.bytes.clone())),
        }
    }

    /// Bits per second of the segments: the most, and the mean.
    pub(super) fn bandwidth(&self) -> (f64, f64) {
        // The one that is being made has its keyframe already, and not yet what follows.
        let are_complete = self.has_segment();
        let with_media = self
            .segments
            .iter()
            .filter(|segment| !segment.parts.is_empty() && (segment.is_complete || !are_complete));
        let rate = |bytes: usize, seconds: f64| bytes as f64 * 8.0 / seconds.max(0.1);
        let peak = with_media.clone().map(|it| rate(it.bytes(), it.duration)).fold(0.0, f64::max);
        let (bytes, seconds) = with_media
            .fold((0, 0.0), |(bytes, seconds), it| (bytes + it.bytes(), seconds + it.duration));
        (peak, rate(bytes, seconds))
    }
}
