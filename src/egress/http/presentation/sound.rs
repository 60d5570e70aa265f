//! Fills parts with sound.
//!
//! Times of decoding are counted in samples, without holes: what is missing is filled with silence,
//! what comes twice is left out, and as long as the publisher's times differ by less than
//! [`TOLERANCE`], they are not followed.

use super::cmaf::Entry;
use super::filler::Closed;
use crate::codec::configuration::AudioConfiguration;
use crate::codec::opus;
use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding};
use crate::media::sample::Sample;
use bytes::Bytes;
use std::collections::VecDeque;

/// How far the samples' count may be off from the publisher's times, in ticks: 40 ms. Lips and
/// voice are that far apart without being noticed (ITU-R BT.1359 §2: 45 ms at most).
const TOLERANCE: i64 = (CLOCK_RATE / 25) as i64;
/// Sound that is later has stopped.
const PATIENCE: i64 = CLOCK_RATE as i64 * 3 / 2;
/// No longer silence is filled in: ten seconds.
pub(super) const SILENCE_MAX: i64 = 10 * CLOCK_RATE as i64;

/// Sound of one kind.
#[derive(Debug)]
pub(super) struct Sound {
    /// What it is coded as; `None` before the first frame.
    pub(super) coding: Option<AudioCoding>,
    /// What is known of that.
    pub(super) configuration: Option<AudioConfiguration>,
    /// Frames that wait for the picture.
    pub(super) queue: VecDeque<Sample>,
    /// Whether silence stands for it.
    pub(super) is_silent: bool,
    /// How late it may be before that, in ticks.
    pub(super) patience: i64,
    /// The segment it is in.
    pub(super) segment: Option<u64>,
    /// The Part Target Duration in samples.
    target: i64,
    /// Where the next frame begins, in samples since the base of the run.
    line: Option<i64>,
    entries: Vec<Entry>,
    /// How long these are.
    filled: i64,
    bytes: usize,
}

impl Sound {
    /// Nothing yet; `coding`: what there was before.
    pub(super) const fn new(coding: Option<AudioCoding>) -> Self {
        Self {
            coding,
            is_silent: false,
            patience: PATIENCE,
            configuration: None,
            queue: VecDeque::new(),
            segment: None,
            target: 0,
            line: None,
            entries: Vec::new(),
            filled: 0,
            bytes: 0,
        }
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.queue.iter().map(|sample| sample.data.len()).sum::<usize>()
    }

    fn rate(&self) -> i64 {
        self.configuration.as_ref().map_or(48_000, |it| i64::from(it.sample_rate.max(1)))
    }

    /// How many samples a frame has.
    pub(super) fn samples(&self, data: &[u8]) -> Option<i64> {
        match self.configuration.as_ref()?.frame_samples {
            Some(samples) => Some(samples.into()),
            None => opus::duration(data).map(i64::from),
        }
    }

    /// Samples as ticks.
    pub(super) fn ticks(&self, samples: i64) -> i64 {
        samples * i64::from(CLOCK_RATE) / self.rate()
    }

    /// Ticks as samples, rounded.
    pub(super) fn of_ticks(&self, ticks: i64) -> i64 {
        let rate = i64::from(CLOCK_RATE);
        (ticks * self.rate() + rate / 2).div_euclid(rate)
    }

    /// Where the next frame begins, in ticks since the base, if it is wanted at `ticks`.
    pub(super) fn next(&self, ticks: i64) -> i64 {
        self.line.map_or(ticks, |line| self.ticks(line))
    }

    /// A frame is heard at `ticks` since the base: how many samples are missing before it; `None`
    /// if its time is past.
    pub(super) fn missing(&mut self, ticks: i64) -> Option<i64> {
        let wanted = self.of_ticks(ticks);
        let line = *self.line.get_or_insert(wanted);
        let gap = self.ticks(wanted - line);
        match gap {
            _ if gap < -TOLERANCE => None,
            _ if gap > TOLERANCE => Some(wanted - line),
            _ => Some(0),
        }
    }

    /// How much of the part is filled, in samples.
    pub(super) const fn filled(&self) -> i64 {
        self.filled
    }

    /// The next frame begins where it is wanted.
    pub(super) const fn restart_line(&mut self) {
        self.line = None;
    }

    /// The next frame begins there, in ticks since the base.
    pub(super) fn begin_at(&mut self, ticks: i64) {
        self.line = Some(self.of_ticks(ticks));
    }

    /// What comes is coded in another way; the Part Target Duration is so many milliseconds.
    pub(super) fn restart(&mut self, target_millis: i64) {
        self.line = None;
        self.target = target_millis * self.rate() / 1_000;
    }

    /// Leaves a hole.
    pub(super) fn skip(&mut self, samples: i64) -> Option<Closed> {
        let closed = self.close();
        self.line = self.line.map(|line| line + samples);
        closed
    }

    /// Puts a frame in; closes the part if it is full with it, or without it.
    pub(super) fn add(&mut self, data: Bytes, samples: i64) -> [Option<Closed>; 2] {
        let before = if self.filled + samples > self.target { self.close() } else { None };
        self.bytes += data.len();
        let duration = u32::try_from(samples).unwrap_or_default();
        self.entries.push(Entry { duration, offset: 0, starts: true, data });
        self.filled += samples;
        self.line = self.line.map(|line| line + samples);
        let after = if self.filled + samples > self.target { self.close() } else { None };
        [before, after]
    }

    /// The part ends here.
    pub(super) fn close(&mut self) -> Option<Closed> {
        let duration = std::mem::take(&mut self.filled);
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        let decode_time = self.line? - duration;
        (!entries.is_empty()).then_some(Closed {
            decode_time,
            duration,
            is_independent: true,
            entries,
        })
    }

    /// The Part Target Duration in milliseconds, of the number of frames nearest to what is wanted.
    pub(super) fn part_target(&self, samples: i64, wanted_millis: i64) -> i64 {
        let samples = samples.max(1);
        let wanted = wanted_millis * self.rate() / 1_000;
        let frames = ((wanted + samples / 2) / samples).max(1);
        (frames * samples * 1_000 + self.rate() - 1) / self.rate()
    }

    /// A frame without a sound; `None` where none is known for what is sent.
    pub(super) fn silence(&self) -> Option<Bytes> {
        let configuration = self.configuration.as_ref()?;
        Some(Bytes::from_static(match (&self.coding, configuration.channels) {
            // 20 ms of CELT at full band, with a pulse less than there can be (RFC 6716 §3.1).
            (Some(AudioCoding::Opus), _) => &[0xf8, 0xff, 0xfe],
            // One channel, or a pair, whose spectra are empty (ISO/IEC 14496-3 §4.4.2.1).
            (Some(AudioCoding::Aac(_)), 1) if is_low_complexity(configuration) => {
                &[0x00, 0xc8, 0x00, 0x80, 0x23, 0x80]
            }
            (Some(AudioCoding::Aac(_)), 2) if is_low_complexity(configuration) => {
                &[0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80]
            }
            _ => return None,
        }))
    }
}

fn is_low_complexity(configuration: &AudioConfiguration) -> bool {
    configuration.codec_string == "mp4a.40.2" && configuration.frame_samples == Some(1_024)
}

/// Whose sound it is, if it is any that is packaged.
pub(super) fn coding_of(sample: &Sample) -> Option<&AudioCoding> {
    match &sample.coding {
        Coding::Audio(coding @ (AudioCoding::Aac(_) | AudioCoding::Opus)) => Some(coding),
        _ => None,
    }
}
