//! Decoded sound cut into pieces of 5 ms, each with the time at which it is heard. Pure.
//!
//! Timestamps of encoders are rounded (to milliseconds in RTMP), jump, and drift against the
//! samples that they belong to. Receivers want sound without seams. So the samples are counted from
//! a first timestamp on, and the count is compared with each later one: a small difference that
//! lasts is taken back by single samples, a large one is a new beginning.

/// Nanoseconds per second.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// An encoder gives a packet when the piece after it has come: they are short.
pub(crate) const PIECE: i64 = 5_000_000;
/// So many make an Opus packet.
const PIECES_OF_A_PACKET: i64 = 4;
/// Both ears.
pub(crate) const CHANNELS: usize = 2;

/// A timestamp as far from the count as this has jumped: sound is missing, or began anew.
const JUMP: i64 = 40_000_000;
/// Where timestamps are off by so much for a while, they have jumped a little.
const OFF_MAX: i64 = 15_000_000;
/// From here on single samples are doubled or left out ...
const OFF_LATE: i64 = 3_000_000;
/// ... until it is no more than this.
const OFF_DONE: i64 = 500_000;
/// The difference is smoothed over so many buffers: two thirds of a second of AAC.
const SMOOTHING: i64 = 32;

/// 5 ms of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// When its first sample is heard, in nanoseconds on the clock of what came in.
    pub(crate) time: i64,
    /// Left and right in turn.
    pub(crate) samples: Vec<i16>,
}

/// See the top of the file. One for each sample rate.
#[derive(Debug)]
pub(crate) struct Timeline {
    rate: i64,
    /// The time of the first sample since the last jump; `None` before anything came.
    anchor: Option<i64>,
    /// Samples since then, those of `waiting` included.
    counted: i64,
    /// Pieces since then.
    pieces: i64,
    /// Samples that make no whole piece yet.
    waiting: Vec<i16>,
    /// By how much the timestamps are later than the count, smoothed.
    off: i64,
    /// Whether it is being taken back.
    is_nudging: bool,
}

impl Timeline {
    /// For samples of this rate, in hertz.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate: i64::from(rate.max(1)),
            anchor: None,
            counted: 0,
            pieces: 0,
            waiting: Vec::new(),
            off: 0,
            is_nudging: false,
        }
    }

    /// Takes decoded samples, left and right in turn, of which the first is heard at `time`; hands
    /// out every whole piece.
    pub(crate) fn push(&mut self, time: i64, samples: &[i16], mut out: impl FnMut(Piece)) {
        let expected = self.anchor.map(|anchor| anchor.saturating_add(self.span(self.counted)));
        let difference = expected.map(|expected| time.saturating_sub(expected));
        match difference {
            Some(difference) if difference.saturating_abs() < JUMP => {
                self.off += (difference - self.off) / SMOOTHING;
                if self.off.abs() > OFF_MAX {
                    self.begin(time, &mut out);
                }
            }
            _ => self.begin(time, &mut out),
        }
        self.take(samples);
        self.cut(&mut out);
    }

    /// Begins anew at `time`. What waits is made a whole packet with silence: the next one must
    /// begin with the new time.
    fn begin(&mut self, time: i64, out: &mut impl FnMut(Piece)) {
        if self.anchor.is_some() {
            let pieces = self.pieces + i64::from(!self.waiting.is_empty());
            let packets = (pieces + PIECES_OF_A_PACKET - 1) / PIECES_OF_A_PACKET;
            let end = self.end_of(packets * PIECES_OF_A_PACKET);
            let wanted = end - self.end_of(self.pieces);
            self.waiting.resize(wanted as usize * CHANNELS, 0);
            self.counted = end;
            self.cut(out);
        }
        self.anchor = Some(time);
        (self.counted, self.pieces, self.off, self.is_nudging) = (0, 0, 0, false);
    }

    /// Takes samples, one more or less where the count is to meet the timestamps. Nobody hears one
    /// sample in a thousand.
    fn take(&mut self, samples: &[i16]) {
        self.is_nudging = match self.off.abs() {
            off if off > OFF_LATE => true,
            off if off < OFF_DONE => false,
            _ => self.is_nudging,
        };
        let one = SECOND / self.rate;
        let whole = samples.len() / CHANNELS * CHANNELS;
        let samples = samples.get(..whole).unwrap_or_default();
        let Some((body, last)) = samples.split_last_chunk::<CHANNELS>() else { return };
        self.waiting.extend(body);
        if !self.is_nudging {
            self.waiting.extend(last);
        } else if self.off > 0 {
            self.waiting.extend(last);
            self.waiting.extend(last);
            self.counted += 1;
            self.off -= one;
        } else {
            self.counted -= 1;
            self.off += one;
        }
        self.counted += count(samples);
    }

    /// Hands out every whole piece.
    fn cut(&mut self, out: &mut impl FnMut(Piece)) {
        let Some(anchor) = self.anchor else { return };
        loop {
            let (start, end) = (self.end_of(self.pieces), self.end_of(self.pieces + 1));
            if self.counted < end {
                return;
            }
            let rest = self.waiting.split_off(((end - start) as usize) * CHANNELS);
            let samples = std::mem::replace(&mut self.waiting, rest);
            out(Piece { time: anchor.saturating_add(self.span(start)), samples });
            self.pieces += 1;
        }
    }

    /// The sample with which so many pieces end: where a rate has no whole number of samples in
    /// 5 ms, their lengths differ by one.
    const fn end_of(&self, pieces: i64) -> i64 {
        pieces * self.rate / (SECOND / PIECE)
    }

    /// How long so many samples last.
    const fn span(&self, samples: i64) -> i64 {
        (samples as i128 * SECOND as i128 / self.rate as i128) as i64
    }
}

/// Samples of each channel.
const fn count(samples: &[i16]) -> i64 {
    (samples.len() / CHANNELS).cast_signed() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: i64 = 1_000_000;

    /// So many samples, all of one value.
    fn sound(count: usize, value: i16) -> Vec<i16> {
        vec![value; count * CHANNELS]
    }

    fn pieces(timeline: &mut Timeline, time: i64, samples: &[i16]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        timeline.push(time, samples, |piece| pieces.push(piece));
        pieces
    }

    /// Feeds AAC frames with the timestamps that `stamp` makes of the true ones.
    fn run(rate: i64, frames: i64, stamp: impl Fn(i64, i64) -> i64) -> Vec<Piece> {
        let mut timeline = Timeline::new(rate as u32);
        let frame = |number| {
            let time = stamp(number, number * 1024 * SECOND / rate);
            pieces(&mut timeline, time, &sound(1024, number as i16))
        };
        (0..frames).flat_map(frame).collect()
    }

    #[test]
    fn sound_without_jumps_becomes_pieces_without_seams_at_every_rate() {
        for rate in [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
            let all = run(rate, 100, |_, time| time);
            assert_eq!(all.len().cast_signed() as i64, 100 * 1024 * 200 / rate, "at {rate}");
            let mut samples = 0;
            for (number, piece) in (0..).zip(&all) {
                assert!((piece.time - number * PIECE).abs() <= SECOND / rate, "at {rate}");
                samples += count(&piece.samples);
            }
            assert_eq!(samples, all.len().cast_signed() as i64 * rate / 200);
        }
    }

    #[test]
    fn timestamps_that_are_rounded_do_not_show() {
        let all = run(44_100, 400, |_, time| time / MILLISECOND * MILLISECOND);
        let seamless = all.windows(2).all(|two| {
            let step = two[1].time - two[0].time;
            (step - PIECE).abs() <= SECOND / 44_100
        });
        assert!(seamless);
    }

    #[test]
    fn a_gap_in_what_comes_in_is_a_gap_in_what_goes_out() {
        let all = run(48_000, 60, |number, time| if number < 30 { time } else { time + SECOND });
        let jumps: Vec<_> =
            all.windows(2).filter(|two| two[1].time - two[0].time != PIECE).collect();
        assert_eq!(jumps.len(), 1, "{jumps:?}");
        // 30 frames are 640 ms, and what came after them is heard when its timestamp says.
        assert_eq!(jumps[0][1].time, 640 * MILLISECOND + SECOND);
        assert!(all.iter().all(|piece| piece.samples.len() == 240 * CHANNELS));
    }

    #[test]
    fn timestamps_that_go_back_are_followed() {
        let all = run(48_000, 60, |number, time| if number < 30 { time } else { time - SECOND });
        let back = all.windows(2).filter(|two| two[1].time < two[0].time).count();
        assert_eq!(back, 1);
    }

    /// By how many nanoseconds frames are heard too late at worst, of those from number `since` on:
    /// each is made of its own number, so that it is found again.
    fn late(all: &[Piece], since: i64, stamp: impl Fn(i64) -> i64) -> i64 {
        let begins = all.iter().filter_map(|piece| {
            let values: Vec<i64> =
                piece.samples.iter().step_by(CHANNELS).map(|&it| i64::from(it)).collect();
            let found = (1..values.len()).find(|&at| values[at] != values[at - 1]);
            found.map(|at| (values[at], piece.time + at.cast_signed() as i64 * SECOND / 48_000))
        });
        let lateness = begins.filter(|(number, _)| *number >= since);
        let worst = lateness.map(|(number, time)| time - stamp(number)).max_by_key(|it| it.abs());
        worst.expect("frames that begin within a piece")
    }

    #[test]
    fn a_clock_that_drifts_is_followed_without_a_seam() {
        // Ten minutes of a clock that is 100 ppm off: 60 ms in the end.
        for sign in [-1, 1] {
            let drift = |time: i64| time + sign * time / 10_000;
            let all = run(48_000, 28_000, |_, time| drift(time));
            assert!(all.windows(2).all(|two| two[1].time - two[0].time == PIECE));
            let late = late(&all, 1, |number| drift(number * 1024 * SECOND / 48_000));
            assert!(late.abs() < 4 * MILLISECOND, "{late} ns");
        }
    }

    #[test]
    fn a_small_step_is_followed_within_a_second() {
        for step in [30 * MILLISECOND, -30 * MILLISECOND] {
            let stamp =
                |number| number * 1024 * SECOND / 48_000 + if number < 50 { 0 } else { step };
            let all = run(48_000, 400, |number, _| stamp(number));
            let late = late(&all, 50 + 47, stamp);
            assert!(late.abs() < 4 * MILLISECOND, "{late} ns");
        }
    }

    #[test]
    fn any_timestamp_is_survived() {
        let mut timeline = Timeline::new(44_100);
        for time in [i64::MAX, i64::MIN, 0, i64::MAX / 2, -1] {
            for _ in 0..3 {
                pieces(&mut timeline, time, &sound(1024, 3));
            }
        }
        pieces(&mut timeline, 0, &[]);
        pieces(&mut timeline, 0, &[1]);
    }
}
