//! One publisher's stay: its picture and its sound on one time line.

use super::cmaf::Description;
use super::ladder::Rung;
use super::pictures::Pictures;
use super::playlists::Playlists;
use super::sound::{SILENCE_MAX, Sound, coding_of};
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

/// Silence that stands for sound that has stopped follows the picture by that.
const SILENCE_BEHIND: i64 = SECOND * 3 / 10;
/// What is so far from all else is on another time line.
const ELSEWHERE: i64 = 10 * SECOND;
/// Whatever their times are, no more frames of sound wait.
const QUEUE_MAX: usize = 512;
/// A frame of AAC has 6144 bits for each of up to 8 channels (ISO/IEC 14496-3 §4.5.3.1); three
/// packets of Opus have less.
const SOUND_BYTES_MAX: usize = 8 << 10;

/// One publisher's stay.
#[derive(Debug)]
pub(super) struct Run {
    /// What times of decoding are counted from, in ticks of the publisher.
    base: Option<i64>,
    /// The latest time of decoding.
    newest: i64,
    pictures: Pictures,
    sounds: [Sound; 2],
}

/// The rendition of each of [`Run::sounds`].
const SOUNDS: [Rendition; 2] = Rendition::SOUNDS;

/// A frame of sound whose place is known.
struct Heard {
    data: Bytes,
    samples: i64,
    /// When it is heard, as the publisher says, in ticks since the base.
    ticks: i64,
    wall: WallTime,
}

impl Run {
    /// Nothing yet. `sounds`: what there was before, which players may wait for.
    pub(super) fn new(keyframes_apart: Option<i64>, sounds: [Option<AudioCoding>; 2]) -> Self {
        let sounds = sounds.map(Sound::new);
        Self { base: None, newest: 0, pictures: Pictures::new(keyframes_apart), sounds }
    }

    /// What sound there is, or was.
    pub(super) fn codings(&self) -> [Option<AudioCoding>; 2] {
        self.sounds.each_ref().map(|sound| sound.coding.clone())
    }

    /// Whether that is on another time line: the publisher's clock has jumped.
    pub(super) const fn is_elsewhere(&self, sample: &Sample) -> bool {
        let away = sample.decode_ticks.saturating_sub(self.newest);
        self.base.is_some() && away.saturating_abs() > ELSEWHERE
    }

    /// Whether what that is part of says where segments begin.
    pub(super) fn is_leader(&self, sample: &Sample) -> bool {
        matches!(sample.coding, Coding::Video(_)) || !self.pictures.were_seen()
    }

    /// Takes a sample; a picture goes to these rungs.
    pub(super) fn push(
        &mut self,
        sample: Sample,
        rungs: impl Iterator<Item = Rung>,
        out: &mut Playlists,
    ) {
        let base = *self.base.get_or_insert(sample.decode_ticks.saturating_sub(BEFORE_FIRST));
        let ahead = sample.present_ticks.saturating_sub(sample.decode_ticks).saturating_abs();
        if sample.decode_ticks < base || ahead > ELSEWHERE {
            return;
        }
        match sample.coding {
            Coding::Video(Codec::H264 | Codec::H265 | Codec::Av1) => {
                if sample.data.len() > out.sample_bytes_max() {
                    return;
                }
                self.newest = self.newest.max(sample.decode_ticks);
                let told = (sample.present_ticks, sample.wall);
                for rung in rungs {
                    self.pictures.push(rung, sample.clone(), base, out);
                }
                for index in 0..SOUNDS.len() {
                    self.keep_up(index, told, base, out);
                }
            }
            Coding::Audio(AudioCoding::Aac(_)) => self.wait(0, sample),
            Coding::Audio(AudioCoding::Opus) => self.wait(1, sample),
            _ => return,
        }
        for index in 0..SOUNDS.len() {
            while self.may_flow(index) {
                self.flow(index, base, out);
            }
        }
    }

    fn wait(&mut self, index: usize, sample: Sample) {
        if sample.data.len() <= SOUND_BYTES_MAX {
            self.newest = self.newest.max(sample.decode_ticks);
            self.sounds[index].queue.push_back(sample);
        }
    }

    /// Puts silence where sound has stopped, or is there no longer since the publisher before.
    /// `told`: when a picture is presented, and which moment that is.
    fn keep_up(&mut self, index: usize, told: (i64, WallTime), base: i64, out: &mut Playlists) {
        let Some(reached) = self.pictures.reached() else { return };
        let sound = &self.sounds[index];
        if !sound.queue.is_empty() || sound.coding.is_none() {
            return;
        }
        let first = out.boundaries.after(None).next().map_or(reached, |boundary| boundary.at);
        let at = base + sound.next(first - base);
        let patience = if sound.is_silent { 2 * SILENCE_BEHIND } else { sound.patience };
        if reached - at < patience {
            return;
        }
        if sound.configuration.is_none() && !self.describe_again(index, out) {
            return;
        }
        let sound = &mut self.sounds[index];
        sound.is_silent = true;
        if sound.segment.is_none() {
            sound.begin_at(first - base);
        }
        let ticks = reached - SILENCE_BEHIND - base;
        let missing = sound.of_ticks(ticks) - sound.of_ticks(sound.next(ticks));
        let micros = micros_of_ticks(ticks + base - told.0, CLOCK_RATE);
        if sound.silence().is_some() && missing > 0 {
            self.fill(index, missing, (ticks, told.1.offset_micros(micros)), base, out);
        }
    }

    /// Whether the oldest frame that waits can have its place: all boundaries before it are known,
    /// or none can be waited for.
    fn may_flow(&self, index: usize) -> bool {
        let queue = &self.sounds[index].queue;
        let (Some(oldest), Some(newest)) = (queue.front(), queue.back()) else { return false };
        let waited = newest.decode_ticks - oldest.decode_ticks;
        if queue.len() > QUEUE_MAX {
            return true;
        }
        match self.pictures.reached() {
            Some(reached) => oldest.decode_ticks <= reached || waited > PICTURE_LATE,
            None if self.pictures.were_seen() => waited > PICTURE_UNREADY,
            None => waited > PICTURE_UNSEEN || self.sounds[index].segment.is_some(),
        }
    }

    /// Whether the picture says where segments begin.
    fn is_led(&self, at: i64) -> bool {
        self.pictures.reached().is_some_and(|reached| at <= reached + PICTURE_LATE)
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
        let Some(missing) = sound.missing(ticks) else {
            // It was late, and silence has its place.
            if std::mem::replace(&mut sound.is_silent, false) {
                sound.patience = (2 * sound.patience).min(ELSEWHERE);
            }
            return;
        };
        if missing > 0 {
            self.fill(index, missing, (ticks, sample.wall), base, out);
        }
        self.sounds[index].is_silent = false;
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

    /// Learns how a frame is coded; `false` if it cannot be packaged, or not yet: another coding
    /// begins with a segment that is discontinuous in all renditions.
    fn describe(&mut self, index: usize, sample: &Sample, out: &mut Playlists) -> bool {
        let sound = &self.sounds[index];
        let Some(coding) = coding_of(sample) else { return false };
        if sound.configuration.is_some() && sound.coding.as_ref() == Some(coding) {
            return true;
        }
        if sound.configuration.is_some() && sound.segment.is_some() {
            let at = sample.present_ticks;
            if !self.is_led(at) {
                out.boundaries.add(at, true, true);
            }
            let discontinuity = out.get(SOUNDS[index]).discontinuity();
            let begins = out
                .boundaries
                .after(self.sounds[index].segment)
                .find(|it| Some(it.discontinuity) != discontinuity)
                .map(|it| it.at);
            out.wants_discontinuity |= begins.is_none();
            if begins.is_none_or(|begins| at < begins) {
                return false;
            }
            let closed = self.sounds[index].close();
            out.add(SOUNDS[index], closed.as_ref(), 0);
        }
        self.sounds[index].coding = Some(coding.clone());
        self.sounds[index].configuration = None;
        self.configure(index, &sample.data, out)
    }

    /// As it was with the publisher before.
    fn describe_again(&mut self, index: usize, out: &mut Playlists) -> bool {
        let sound = &mut self.sounds[index];
        sound.configuration = sound.coding.as_ref().and_then(AudioConfiguration::read);
        let silence = sound.silence();
        sound.configuration = None;
        silence.is_some_and(|silence| self.configure(index, &silence, out))
    }

    /// Reads the configuration of a coding that is new, with a frame of it.
    fn configure(&mut self, index: usize, frame: &[u8], out: &mut Playlists) -> bool {
        let sound = &mut self.sounds[index];
        let read = sound.coding.as_ref().and_then(AudioConfiguration::read);
        let Some(configuration) = read else { return false };
        sound.configuration = Some(configuration.clone());
        let Some(samples) = sound.samples(frame) else {
            sound.configuration = None;
            return false;
        };
        let wanted = i64::try_from(out.settings.part.as_millis()).unwrap_or(i64::MAX);
        let playlist = out.playlist(SOUNDS[index]);
        let target =
            *playlist.part_target.get_or_insert_with(|| sound.part_target(samples, wanted));
        playlist.describe(Description::Audio(configuration));
        sound.restart(target);
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
            None if self.is_time(index, half, out) => Some(out.boundaries.add(at, false, true)),
            None => None,
        };
        if let Some(boundary) = boundary {
            // It is heard when the line says, not when the publisher did.
            let moved = micros_of_ticks(begins - heard.ticks, CLOCK_RATE);
            self.begin_segment(index, boundary, (at, heard.wall.offset_micros(moved)), out);
        }
        let sound = &mut self.sounds[index];
        if sound.segment.is_none() {
            // From before the first picture.
            sound.restart_line();
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
        length + half >= out.segment() || out.ends_first(sound.segment, length + half)
    }

    fn begin_segment(
        &mut self,
        index: usize,
        boundary: Boundary,
        (at, begins): (i64, WallTime),
        out: &mut Playlists,
    ) {
        let sound = &mut self.sounds[index];
        let closed = sound.close();
        out.add(SOUNDS[index], closed.as_ref(), 0);
        sound.segment = Some(boundary.msn);
        out.open(SOUNDS[index], boundary, at, begins);
    }

    /// Nothing more comes of this publisher.
    pub(super) fn finish(&mut self, out: &mut Playlists) {
        let Some(base) = self.base else { return };
        self.pictures.finish(base, out);
        for (index, rendition) in SOUNDS.into_iter().enumerate() {
            while !self.sounds[index].queue.is_empty() {
                self.flow(index, base, out);
            }
            let closed = self.sounds[index].close();
            out.add(rendition, closed.as_ref(), 0);
        }
    }

    /// Whether pictures come for a rung.
    pub(super) fn has_picture(&self, rung: Rung) -> bool {
        self.pictures.comes(rung)
    }

    /// Whether a keyframe is to be asked for; once for each.
    pub(super) fn take_wish(&mut self) -> bool {
        self.pictures.take_wish()
    }

    /// The media that it holds back.
    pub(super) fn bytes(&self) -> usize {
        self.pictures.bytes() + self.sounds.iter().map(Sound::bytes).sum::<usize>()
    }
}
