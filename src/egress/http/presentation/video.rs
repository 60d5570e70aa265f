//! The picture of a publisher: when segments begin, and what is in them.

use super::Rendition;
use super::cmaf::Description;
use super::filler::Filler;
use super::pace::Pace;
use super::playlists::Playlists;
use crate::codec::configuration::{VideoConfiguration, strip_parameter_sets};
use crate::media::codec::Codec;
use crate::media::frame::CLOCK_RATE;
use crate::media::sample::Sample;
use bytes::Bytes;

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
/// A keyframe that was asked for and does not come is asked for again after this.
const ASK_AGAIN: i64 = SECOND / 2;

/// How far it is.
#[derive(Debug)]
enum Stage {
    /// It learns how far pictures are apart.
    Measuring(Vec<Sample>),
    /// It packages them.
    Running(Filler),
}

/// The picture of one publisher.
#[derive(Debug)]
pub(super) struct Video {
    stage: Stage,
    /// What is packaged; `None` before the first keyframe.
    configuration: Option<VideoConfiguration>,
    /// The longest time between keyframes that was said.
    keyframes_apart: Option<i64>,
    /// The segment it is in.
    segment: Option<u64>,
    /// When the first picture of that is decoded, as the publisher says, and as it is packaged.
    began: (i64, i64),
    /// When the newest picture that is packaged is decoded.
    newest: Option<i64>,
    /// Whether any came.
    pub(super) was_seen: bool,
    /// When a keyframe was asked for in this segment.
    asked: Option<i64>,
    /// Whether that is to be passed on.
    wants_keyframe: bool,
}

impl Video {
    /// Nothing yet.
    pub(super) const fn new(keyframes_apart: Option<i64>) -> Self {
        Self {
            stage: Stage::Measuring(Vec::new()),
            configuration: None,
            keyframes_apart,
            segment: None,
            began: (0, 0),
            newest: None,
            was_seen: false,
            asked: None,
            wants_keyframe: false,
        }
    }

    /// Up to when segments are known: a boundary that comes is later.
    pub(super) const fn reached(&self) -> Option<i64> {
        self.newest
    }

    /// Whether a keyframe is to be asked for; once for each.
    pub(super) const fn take_wish(&mut self) -> bool {
        std::mem::replace(&mut self.wants_keyframe, false)
    }

    /// The media that it holds back.
    pub(super) fn bytes(&self) -> usize {
        match &self.stage {
            Stage::Measuring(samples) => samples.iter().map(|sample| sample.data.len()).sum(),
            Stage::Running(filler) => filler.bytes(),
        }
    }

    /// Takes a picture. `base`: where the time line of the run begins.
    pub(super) fn push(&mut self, codec: Codec, sample: Sample, base: i64, out: &mut Playlists) {
        self.was_seen = true;
        let Stage::Measuring(samples) = &mut self.stage else {
            self.picture(codec, &sample, base, out);
            return;
        };
        if samples.is_empty() && !sample.starts {
            let since = self.asked.map(|asked| sample.decode_ticks - asked);
            if since.is_none_or(|since| since.abs() > ASK_AGAIN) {
                (self.asked, self.wants_keyframe) = (Some(sample.decode_ticks), true);
            }
            return;
        }
        samples.push(sample);
        let span = match samples.as_slice() {
            [first, .., last] => last.decode_ticks - first.decode_ticks,
            _ => return,
        };
        let bytes: usize = samples.iter().map(|sample| sample.data.len()).sum();
        if span >= MEASURED || samples.len() >= MEASURED_MAX || bytes > out.part_bytes_max() {
            self.run(base, out);
        }
    }

    /// Enough is known.
    fn run(&mut self, base: i64, out: &mut Playlists) {
        let Stage::Measuring(samples) = &mut self.stage else { return };
        let samples = std::mem::take(samples);
        let alone = Pace { shortest: 3_000, usual: 3_000, longest: 3_000 };
        let times = samples.iter().map(|sample| sample.decode_ticks);
        let pace = Pace::measure(times).unwrap_or(alone);
        let wanted = out.settings.part.as_millis() as i64 * SECOND / 1_000;
        let playlist = out.playlist(Rendition::Video);
        let target = *playlist.part_target.get_or_insert_with(|| pace.part_target(wanted));
        out.frame_rate = Some(CLOCK_RATE as f64 / pace.usual as f64);
        self.stage = Stage::Running(Filler::new(pace, target * SECOND / 1_000));
        self.asked = None;
        for sample in samples {
            if let crate::media::frame::Coding::Video(codec) = sample.coding {
                self.picture(codec, &sample, base, out);
            }
        }
    }

    fn picture(&mut self, codec: Codec, sample: &Sample, base: i64, out: &mut Playlists) {
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
        let Stage::Running(filler) = &mut self.stage else { return };
        let decode = sample.decode_ticks;
        let limit = out.target_duration * SECOND + OVER_TARGET;
        let length = decode - self.began.0;
        let is_hurried = out.ends_first(self.segment, length);
        let cuts = self.segment.is_none()
            || is_hurried
            || changed.is_some()
            || sample.starts && is_time(length, self.asked, self.keyframes_apart, limit, out)
            || length + filler.usual() > limit
            || out.is_segment_full(Rendition::Video);
        let end_max = if self.segment.is_some() { self.began.1 + limit } else { i64::MAX };
        let closed = filler.before(decode, cuts, end_max);
        out.add(Rendition::Video, closed.as_ref(), base);
        if cuts {
            self.began = (decode, filler.start(decode));
            self.asked = None;
            if is_hurried && !sample.starts {
                // The one that begins here is to end soon: nobody can begin in it.
                (self.asked, self.wants_keyframe) = (Some(decode), true);
            }
            self.begin_segment(changed, sample, out);
        }
        let data: Bytes = strip_parameter_sets(codec, &sample.data);
        let Stage::Running(filler) = &mut self.stage else { return };
        let closed = filler.add(decode, sample.present_ticks, sample.starts, data);
        out.add(Rendition::Video, closed.as_ref(), base);
        if filler.bytes() > out.part_bytes_max() || filler.len() > PICTURES_MAX {
            let closed = filler.finish();
            out.add(Rendition::Video, closed.as_ref(), base);
        }
        self.newest = Some(decode);
        self.ask(decode, out);
    }

    /// A segment begins with this picture.
    fn begin_segment(
        &mut self,
        changed: Option<VideoConfiguration>,
        sample: &Sample,
        out: &mut Playlists,
    ) {
        let is_other = changed.is_some() && self.configuration.is_some();
        let is_change = is_other || std::mem::take(&mut out.wants_discontinuity);
        if let Some(changed) = changed {
            out.playlist(Rendition::Video).describe(Description::Video(changed.clone()));
            self.configuration = Some(changed);
        }
        let tolerance = SECOND / 20;
        let at = sample.present_ticks;
        let passed = out.boundaries.after(self.segment).filter(|it| it.at <= at + tolerance).last();
        let boundary = match passed.or_else(|| out.boundaries.after(self.segment).next()) {
            // Sound has gone ahead without the picture: it takes part in what that has begun.
            Some(boundary) if self.segment.is_some() && !is_change => boundary,
            _ => out.boundaries.add(at, is_change),
        };
        self.segment = Some(boundary.msn);
        out.open(Rendition::Video, boundary, at, sample.wall);
    }

    /// Asks for a keyframe when the segment is nearly as long as it should be.
    fn ask(&mut self, decode: i64, out: &Playlists) {
        let length = decode - self.began.0;
        // Where keyframes are as far apart as segments are long, the next is not far.
        let is_usual =
            |apart: i64| apart <= out.segment() * 11 / 10 && length < apart + SECOND / 10;
        let comes_unasked = self.keyframes_apart.is_some_and(is_usual);
        let is_time = length >= out.segment() * 9 / 10 && !comes_unasked;
        let is_asked = self.asked.is_some_and(|asked| decode - asked < ASK_AGAIN);
        if is_time && !is_asked {
            (self.asked, self.wants_keyframe) = (Some(decode), true);
        }
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, base: i64, out: &mut Playlists) {
        self.run(base, out);
        if let Stage::Running(filler) = &mut self.stage {
            let closed = filler.finish();
            out.add(Rendition::Video, closed.as_ref(), base);
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
