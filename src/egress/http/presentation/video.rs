//! One rung of a publisher's picture: when segments begin, and what is in them.

use super::Rendition;
use super::boundaries::Boundary;
use super::cmaf::Description;
use super::filler::Filler;
use super::ladder::Rung;
use super::pace::Pace;
use super::playlists::Playlists;
use crate::codec::configuration::{VideoConfiguration, strip_parameter_sets};
use crate::media::frame::{CLOCK_RATE, Coding};
use crate::media::sample::Sample;
use bytes::Bytes;
use std::collections::VecDeque;

const SECOND: i64 = CLOCK_RATE as i64;
/// For so long pictures are held back at the beginning to learn their pace. What is packaged begins
/// mostly with what the server has kept since the newest keyframe, so that this takes no time.
const MEASURED: i64 = SECOND / 2;
/// That many pictures tell it, however short they are.
const MEASURED_MAX: usize = 64;
/// No part has more pictures, whatever their times are.
const PICTURES_MAX: usize = 512;
/// A segment may be longer than the Target Duration as far as it is rounded to it (§4.4.3.1).
const OVER_TARGET: i64 = SECOND * 4 / 10;
/// And one of a layer that follows another, so that this says where it ends.
const FOLLOWS_BY: i64 = SECOND * 5 / 100;
/// A keyframe that was asked for and does not come is asked for again after this.
const ASK_AGAIN: i64 = SECOND / 2;
/// A keyframe is meant for a boundary that is no later than this: how far layers are apart on the
/// line is known only when their clocks are told.
const EARLY_MAX: i64 = SECOND * 15 / 100;
/// Who has none by then is asked for one.
const LATE_MAX: i64 = SECOND / 5;

/// Who says where segments begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// This one.
    Leads,
    /// Another, up to here.
    Follows {
        /// When the newest picture that it has packaged is decoded.
        reached: i64,
    },
}

/// A segment is to begin that others have begun.
#[derive(Debug, Clone, Copy)]
struct Pending {
    boundary: Boundary,
    /// Whether the next one should have begun, too.
    is_behind: bool,
}

/// One rung of the picture of one publisher.
#[derive(Debug)]
pub(super) struct Video {
    rung: Rung,
    /// Packages pictures; `None` while it learns how far they are apart.
    filler: Option<Filler>,
    /// What is not packaged yet.
    queue: VecDeque<Sample>,
    queued_bytes: usize,
    /// What is packaged; `None` before the first keyframe.
    configuration: Option<VideoConfiguration>,
    /// The longest time between keyframes that was said.
    keyframes_apart: Option<i64>,
    /// When the first picture was presented.
    seen: i64,
    /// The segment it is in.
    segment: Option<u64>,
    /// When the first picture of that is decoded, as the publisher says, and as it is packaged.
    began: (i64, i64),
    /// When the newest picture that came is decoded.
    received: i64,
    /// When the newest picture that is packaged is decoded.
    newest: Option<i64>,
    /// When a keyframe was asked for in this segment.
    asked: Option<i64>,
    /// Whether that is to be passed on.
    wants_keyframe: bool,
}

impl Video {
    /// Nothing yet.
    pub(super) const fn new(rung: Rung, keyframes_apart: Option<i64>) -> Self {
        Self {
            rung,
            filler: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            configuration: None,
            keyframes_apart,
            seen: i64::MAX,
            segment: None,
            began: (0, 0),
            received: i64::MIN,
            newest: None,
            asked: None,
            wants_keyframe: false,
        }
    }

    const fn rendition(&self) -> Rendition {
        Rendition::Video(self.rung)
    }

    /// Up to when its segments are known.
    pub(super) const fn reached(&self) -> Option<i64> {
        self.newest
    }

    /// When the newest picture that came is decoded, once it can be packaged.
    pub(super) fn received(&self) -> Option<i64> {
        self.filler.is_some().then_some(self.received)
    }

    /// Whether a keyframe is to be asked for; once for each.
    pub(super) const fn take_wish(&mut self) -> bool {
        std::mem::replace(&mut self.wants_keyframe, false)
    }

    /// The media that it holds back.
    pub(super) fn bytes(&self) -> usize {
        self.queued_bytes + self.filler.as_ref().map_or(0, Filler::bytes)
    }

    /// Takes a picture.
    pub(super) fn push(&mut self, sample: Sample, out: &mut Playlists) {
        if self.filler.is_none() && self.queue.is_empty() && !sample.starts {
            return self.ask_for_keyframe(sample.decode_ticks);
        }
        self.seen = self.seen.min(sample.present_ticks);
        self.received = self.received.max(sample.decode_ticks);
        self.queued_bytes += sample.data.len();
        self.queue.push_back(sample);
        if self.filler.is_some() {
            return;
        }
        let first = self.queue.front().map_or(self.received, |it| it.decode_ticks);
        let has_many = self.queue.len() >= MEASURED_MAX || self.is_queue_full(out);
        if self.queue.len() > 1 && (self.received - first >= MEASURED || has_many) {
            self.run(out);
        }
    }

    const fn is_queue_full(&self, out: &Playlists) -> bool {
        self.queued_bytes > out.part_bytes_max()
    }

    /// Enough is known.
    pub(super) fn run(&mut self, out: &mut Playlists) {
        if self.filler.is_some() {
            return;
        }
        let alone = Pace { shortest: 3_000, usual: 3_000, longest: 3_000 };
        let times = self.queue.iter().map(|sample| sample.decode_ticks);
        let pace = Pace::measure(times).unwrap_or(alone);
        let wanted = out.settings.part.as_millis() as i64 * SECOND / 1_000;
        let playlist = out.playlist(self.rendition());
        let target = *playlist.part_target.get_or_insert_with(|| pace.part_target(wanted));
        playlist.frame_rate = Some(CLOCK_RATE as f64 / pace.usual as f64);
        self.filler = Some(Filler::new(pace, target * SECOND / 1_000));
        self.asked = None;
    }

    /// Packages what can be.
    pub(super) fn flow(&mut self, role: Role, base: i64, out: &mut Playlists) {
        if self.filler.is_none() {
            return;
        }
        while self.queue.front().is_some_and(|first| self.may_flow(first, role, out)) {
            let Some(sample) = self.queue.pop_front() else { return };
            self.queued_bytes -= sample.data.len();
            self.picture(&sample, role, base, out);
        }
    }

    /// Whether all boundaries before a picture are known, and none will be for which it is meant.
    fn may_flow(&self, sample: &Sample, role: Role, out: &Playlists) -> bool {
        let Role::Follows { reached } = role else { return true };
        let is_known = !sample.starts
            || sample.decode_ticks + EARLY_MAX <= reached
            || self.pending(sample, out).is_some();
        self.is_queue_full(out) || sample.decode_ticks <= reached && is_known
    }

    /// What others have begun before a picture.
    fn pending(&self, sample: &Sample, out: &Playlists) -> Option<Pending> {
        let usual = self.filler.as_ref().map_or(0, Filler::usual);
        let until = sample.present_ticks + if sample.starts { EARLY_MAX } else { usual / 2 };
        let passed = out.boundaries.after(self.segment).filter(move |it| it.at <= until);
        if self.segment.is_none() {
            // Players take the first segment for a whole one.
            let boundary = passed.filter(|it| it.at + EARLY_MAX >= self.seen).last()?;
            return Some(Pending { boundary, is_behind: false });
        }
        let mut passed = passed;
        let boundary = passed.next()?;
        Some(Pending { boundary, is_behind: passed.next().is_some() })
    }

    fn picture(&mut self, sample: &Sample, role: Role, base: i64, out: &mut Playlists) {
        let Coding::Video(codec) = sample.coding else { return };
        let known = self.configuration.as_ref();
        let mut changed = None;
        if sample.starts {
            let read = VideoConfiguration::read(codec, &sample.data);
            changed = read.filter(|read| known != Some(read));
        }
        if changed.is_none() && known.is_none_or(|known| known.codec != codec) {
            // Of a codec that nothing is known of.
            return;
        }
        let pending = self.pending(sample, out);
        let leads = role == Role::Leads;
        if !leads && self.segment.is_none() && !(sample.starts && pending.is_some()) {
            return;
        }
        let (rendition, decode) = (self.rendition(), sample.decode_ticks);
        let limit = out.target_duration * SECOND + OVER_TARGET;
        let limit = if leads { limit } else { limit + FOLLOWS_BY };
        let length = decode - self.began.0;
        let is_hurried = leads
            && (out.ends_first(self.segment, length)
                || out.ends_for_made(self.segment, decode, length));
        let cuts = is_hurried
            || changed.is_some()
            || self.is_segment_over(sample, pending, limit, leads, out);
        let Some(filler) = &mut self.filler else { return };
        let end_max = if self.segment.is_some() { self.began.1 + limit } else { i64::MAX };
        let closed = filler.before(decode, cuts, end_max);
        let start = filler.start(decode);
        out.add(rendition, closed.as_ref(), base);
        if cuts {
            self.began = (decode, start);
            self.asked = None;
            if is_hurried && !sample.starts {
                // The one that begins here is to end soon: nobody can begin in it.
                (self.asked, self.wants_keyframe) = (Some(decode), true);
            }
            self.begin_segment(changed, sample, pending, leads, out);
        }
        let data: Bytes = strip_parameter_sets(codec, &sample.data);
        let Some(filler) = &mut self.filler else { return };
        let closed = filler.add(decode, sample.present_ticks, sample.starts, data);
        out.add(rendition, closed.as_ref(), base);
        if filler.bytes() > out.part_bytes_max() || filler.len() > PICTURES_MAX {
            let closed = filler.finish();
            out.add(rendition, closed.as_ref(), base);
        }
        self.newest = Some(decode);
        if leads {
            self.ask(decode, out);
        }
        let late = self.pending(sample, out).filter(|it| it.boundary.is_start);
        if late.is_some_and(|it| sample.present_ticks - it.boundary.at > LATE_MAX) {
            self.ask_for_keyframe(decode);
        }
    }

    /// Whether a segment is to begin with a picture that looks like any other.
    fn is_segment_over(
        &self,
        sample: &Sample,
        pending: Option<Pending>,
        limit: i64,
        leads: bool,
        out: &Playlists,
    ) -> bool {
        let decode = sample.decode_ticks;
        let length = decode - self.began.0;
        let (usual, end) =
            self.filler.as_ref().map_or((0, decode), |it| (it.usual(), it.start(decode)));
        // What is packaged may have begun earlier than the publisher said, and end later.
        let is_long = end.max(decode) + usual > self.began.1.saturating_add(limit);
        let is_due = if let Some(it) = pending {
            sample.starts || !it.boundary.is_start || it.is_behind
        } else {
            let is_time = is_time(length, self.asked, self.keyframes_apart, limit, out);
            leads && sample.starts && is_time
        };
        let is_full = out.is_segment_full(self.rendition());
        self.segment.is_none() || is_due || is_long || is_full
    }

    /// A segment begins with this picture.
    fn begin_segment(
        &mut self,
        changed: Option<VideoConfiguration>,
        sample: &Sample,
        pending: Option<Pending>,
        leads: bool,
        out: &mut Playlists,
    ) {
        let rendition = self.rendition();
        let is_other = changed.is_some() && self.configuration.is_some();
        let is_change = is_other || leads && std::mem::take(&mut out.wants_discontinuity);
        let discontinuity = out.get(rendition).discontinuity();
        let suits = |it: &Boundary| !is_change || Some(it.discontinuity) != discontinuity;
        if let Some(changed) = changed {
            out.playlist(rendition).describe(Description::Video(changed.clone()));
            self.configuration = Some(changed);
        }
        let first = pending.map(|it| it.boundary).filter(|_| self.segment.is_some() || !leads);
        // Others may have gone ahead: it takes part in what they have begun.
        let next = || out.boundaries.after(Some(self.segment?)).find(suits);
        let boundary = match first.filter(suits).or_else(next) {
            Some(boundary) => boundary,
            None => out.boundaries.add(sample.present_ticks, is_change, sample.starts),
        };
        self.segment = Some(boundary.msn);
        out.open(rendition, boundary, sample.present_ticks, sample.wall);
    }

    /// Asks for a keyframe when the segment is nearly as long as it should be.
    fn ask(&mut self, decode: i64, out: &Playlists) {
        let length = decode - self.began.0;
        // Where keyframes are as far apart as segments are long, the next is not far.
        let is_usual =
            |apart: i64| apart <= out.segment() * 11 / 10 && length < apart + SECOND / 10;
        let comes_unasked = self.keyframes_apart.is_some_and(is_usual);
        if length >= out.segment() * 9 / 10 && !comes_unasked {
            self.ask_for_keyframe(decode);
        }
    }

    /// Asks for a keyframe, and again where none comes.
    fn ask_for_keyframe(&mut self, decode: i64) {
        if self.asked.is_none_or(|asked| (decode - asked).abs() >= ASK_AGAIN) {
            (self.asked, self.wants_keyframe) = (Some(decode), true);
        }
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, base: i64, out: &mut Playlists) {
        self.flow(Role::Follows { reached: i64::MAX }, base, out);
        let rendition = self.rendition();
        if let Some(filler) = &mut self.filler {
            let closed = filler.finish();
            out.add(rendition, closed.as_ref(), base);
        }
    }
}

/// Whether a segment of that length ends before a keyframe: it is long enough, the keyframe was
/// asked for, or the next would come too late.
fn is_time(
    length: i64,
    asked: Option<i64>,
    keyframes_apart: Option<i64>,
    limit: i64,
    out: &Playlists,
) -> bool {
    let is_last = keyframes_apart.is_some_and(|apart| length + apart > limit);
    length >= out.segment() * 9 / 10 || asked.is_some() || is_last
}
