//! One publisher's stay: its picture and its sound on one time line.

use super::cmaf::Description;
use super::playlists::Playlists;
use super::sound::{SILENCE_MAX, Sound, coding_of};
use super::video::Video;
use super::{Rendition, boundaries::Boundary};
use crate::codec::configuration::AudioConfiguration;
use crate::media::codec::Codec;
use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding};
use crate::media::sample::Sample;
use crate::media::time::{WallTime, micros_of_ticks};
use bytes::Bytes;

const SECOND: i64 = CLOCK_RATE as i64;
/// Times of decoding begin here, so that what is a little older than the first has its place.
const BEFORE_FIRST: i64 = 10 * SECOND;
/// Sound waits so long for a picture that has stopped: segments begin with pictures.
const PICTURE_LATE: i64 = SECOND / 2;
/// And so long for one that has not begun.
const PICTURE_UNSEEN: i64 = SECOND * 7 / 10;
/// Or comes, without a keyframe yet.
const PICTURE_UNREADY: i64 = SECOND * 3 / 2;

/// One publisher's stay.
#[derive(Debug)]
pub(super) struct Run {
    /// What times of decoding are counted from, in ticks of the publisher.
    base: Option<i64>,
    video: Video,
    sounds: [Sound; 2],
}

/// The rendition of each of [`Run::sounds`].
const SOUNDS: [Rendition; 2] = [Rendition::Aac, Rendition::Opus];

/// A frame of sound whose place is known.
struct Heard {
    data: Bytes,
    samples: i64,
    /// When it is heard, as the publisher says, in ticks since the base.
    ticks: i64,
    wall: WallTime,
}

impl Run {
    /// Nothing yet.
    pub(super) const fn new(keyframes_apart: Option<i64>) -> Self {
        let sounds = [Sound::new(), Sound::new()];
        Self { base: None, video: Video::new(keyframes_apart), sounds }
    }

    /// Takes a sample.
    pub(super) fn push(&mut self, sample: Sample, out: &mut Playlists) {
        let base = *self.base.get_or_insert(sample.decode_ticks.saturating_sub(BEFORE_FIRST));
        // What is far from the rest has no place on the line, and what is absurd none in memory.
        let is_near = (base..base.saturating_add(SECOND << 32)).contains(&sample.decode_ticks);
        if !is_near || sample.data.len() > out.sample_bytes_max() {
            return;
        }
        match sample.coding {
            Coding::Video(codec @ (Codec::H264 | Codec::H265 | Codec::Av1)) => {
                self.video.push(codec, sample, base, out);
            }
            Coding::Audio(AudioCoding::Aac(_)) => self.sounds[0].queue.push_back(sample),
            Coding::Audio(AudioCoding::Opus) => self.sounds[1].queue.push_back(sample),
            _ => return,
        }
        for index in 0..SOUNDS.len() {
            while self.may_flow(index) {
                self.flow(index, base, out);
            }
        }
    }

    /// Whether the oldest frame that waits can have its place: all boundaries before it are known,
    /// or none can be waited for.
    fn may_flow(&self, index: usize) -> bool {
        let queue = &self.sounds[index].queue;
        let (Some(oldest), Some(newest)) = (queue.front(), queue.back()) else { return false };
        let waited = newest.decode_ticks - oldest.decode_ticks;
        match self.video.reached() {
            Some(reached) => oldest.decode_ticks <= reached || waited > PICTURE_LATE,
            None if self.video.was_seen => waited > PICTURE_UNREADY,
            None => waited > PICTURE_UNSEEN || self.sounds[index].segment.is_some(),
        }
    }

    /// Whether the picture says where segments begin.
    fn is_led(&self, at: i64) -> bool {
        self.video.reached().is_some_and(|reached| at <= reached + PICTURE_LATE)
    }

    /// Packages the oldest frame that waits.
    fn flow(&mut self, index: usize, base: i64, out: &mut Playlists) {
        let Some(sample) = self.sounds[index].queue.pop_front() else { return };
        if !self.describe(index, &sample, out) {
            return;
        }
        let sound = &mut self.sounds[index];
        let Some(samples) = sound.samples(&sample.data) else { return };
        let ticks = sample.present_ticks - base;
        let Some(missing) = sound.missing(ticks) else { return };
        if missing > 0 {
            self.fill(index, missing, (ticks, sample.wall), base, out);
        }
        let heard = Heard { data: sample.data, samples, ticks, wall: sample.wall };
        self.heard(index, heard, base, out);
    }

    /// Puts silence in where so many samples are missing, as far as that is known and not for ever.
    fn fill(
        &mut self,
        index: usize,
        missing: i64,
        (ticks, wall): (i64, WallTime),
        base: i64,
        out: &mut Playlists,
    ) {
        let sound = &mut self.sounds[index];
        let silence = sound.silence().filter(|_| sound.ticks(missing) <= SILENCE_MAX);
        let frame = silence.and_then(|data| Some((sound.samples(&data)?, data)));
        let Some((samples, data)) = frame.filter(|(samples, _)| *samples > 0) else {
            let closed = sound.skip(missing);
            out.add(SOUNDS[index], closed.as_ref(), 0);
            return;
        };
        for number in 0..missing / samples {
            let back = self.sounds[index].ticks(missing - number * samples);
            let wall = wall.offset_micros(-micros_of_ticks(back, CLOCK_RATE));
            let heard = Heard { data: data.clone(), samples, ticks: ticks - back, wall };
            self.heard(index, heard, base, out);
        }
    }

    /// Learns how a frame is coded; `false` if it cannot be packaged.
    fn describe(&mut self, index: usize, sample: &Sample, out: &mut Playlists) -> bool {
        let sound = &mut self.sounds[index];
        let Some(coding) = coding_of(sample) else { return false };
        if sound.coding.as_ref() == Some(coding) {
            return sound.configuration.is_some();
        }
        if sound.segment.is_some() {
            // What changes in a run is not followed: silence stands for it.
            return false;
        }
        let Some(configuration) = AudioConfiguration::read(coding) else { return false };
        sound.coding = Some(coding.clone());
        sound.configuration = Some(configuration.clone());
        let Some(samples) = sound.samples(&sample.data) else { return false };
        let wanted = out.settings.part.as_millis() as i64;
        let playlist = out.playlist(SOUNDS[index]);
        let target =
            *playlist.part_target.get_or_insert_with(|| sound.part_target(samples, wanted));
        playlist.describe(Description::Audio(configuration));
        sound.set_target(target);
        true
    }

    /// Puts a frame into the segment that it belongs to.
    fn heard(&mut self, index: usize, heard: Heard, base: i64, out: &mut Playlists) {
        let rendition = SOUNDS[index];
        let sound = &self.sounds[index];
        let begins = sound.next(heard.ticks);
        let half = sound.ticks(heard.samples) / 2;
        let at = base + begins;
        let is_led = self.is_led(at);
        let known = out.boundaries.after(sound.segment).filter(|it| it.at <= at + half).last();
        let boundary = match known {
            Some(boundary) => Some(boundary),
            None if is_led => None,
            None if self.is_time(index, half, out) => Some(out.boundaries.add(at, false)),
            None => None,
        };
        if let Some(boundary) = boundary {
            // It is heard when the line says, not when the publisher did.
            let moved = micros_of_ticks(begins - heard.ticks, CLOCK_RATE);
            self.begin_segment(index, boundary, heard.wall.offset_micros(moved), out);
        }
        let sound = &mut self.sounds[index];
        if sound.segment.is_none() {
            // From before the first picture.
            sound.forget();
            return;
        }
        for closed in sound.add(heard.data, heard.samples) {
            out.add(rendition, closed.as_ref(), 0);
        }
        let next = at + 2 * half;
        if out.boundaries.after(sound.segment).any(|it| it.at <= next + half) {
            let closed = sound.close();
            out.add(rendition, closed.as_ref(), 0);
            out.playlist(rendition).complete();
        }
    }

    /// Whether a segment of sound ends for which there is no picture.
    fn is_time(&self, index: usize, half: i64, out: &Playlists) -> bool {
        let rendition = SOUNDS[index];
        let sound = &self.sounds[index];
        if sound.segment.is_none() || out.is_segment_full(rendition) {
            return true;
        }
        let listed = out.get(rendition).open_duration().unwrap_or_default();
        let length = (listed * f64::from(CLOCK_RATE)) as i64 + sound.ticks(sound.filled());
        length + half >= out.segment()
    }

    fn begin_segment(
        &mut self,
        index: usize,
        boundary: Boundary,
        begins: WallTime,
        out: &mut Playlists,
    ) {
        let sound = &mut self.sounds[index];
        let closed = sound.close();
        out.add(SOUNDS[index], closed.as_ref(), 0);
        sound.segment = Some(boundary.msn);
        out.open(SOUNDS[index], boundary, begins);
    }

    /// Nothing more comes of this publisher.
    pub(super) fn finish(&mut self, out: &mut Playlists) {
        let Some(base) = self.base else { return };
        self.video.finish(base, out);
        for (index, rendition) in SOUNDS.into_iter().enumerate() {
            while !self.sounds[index].queue.is_empty() {
                self.flow(index, base, out);
            }
            let closed = self.sounds[index].close();
            out.add(rendition, closed.as_ref(), 0);
        }
    }

    /// Whether pictures come.
    pub(super) const fn has_picture(&self) -> bool {
        self.video.was_seen
    }

    /// Whether a keyframe is to be asked for; once for each.
    pub(super) const fn take_wish(&mut self) -> bool {
        self.video.take_wish()
    }

    /// The media that it holds back.
    pub(super) fn bytes(&self) -> usize {
        self.video.bytes() + self.sounds.iter().map(Sound::bytes).sum::<usize>()
    }
}
