//! What a player would show: it plays what it has, at the pace of the clock, and stands still where
//! it has nothing. Pure. Times of media are those of `EXT-X-PROGRAM-DATE-TIME`, in microseconds.

use std::time::{Duration, Instant};

/// A virtual player of one or more renditions.
#[derive(Debug, Clone)]
pub(super) struct Playback {
    state: State,
    /// Where it is, as of `at`.
    position: i64,
    at: Instant,
    /// How far each rendition is loaded.
    loaded: Vec<Option<i64>>,
    /// What must be loaded before it begins.
    wanted: Vec<i64>,
    /// What it wants to have before it goes on.
    resume_us: i64,
    pub(super) stalls: u64,
    pub(super) stalled: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Playing,
    Stalled(Instant),
    Ended,
}

impl Playback {
    pub(super) fn new(renditions: usize, now: Instant) -> Self {
        Self {
            state: State::Starting,
            position: i64::MAX,
            at: now,
            loaded: vec![None; renditions],
            wanted: vec![i64::MAX; renditions],
            resume_us: 0,
            stalls: 0,
            stalled: Duration::ZERO,
        }
    }

    /// A rendition's first playlist: where it ends, how far behind that to play, and how long a
    /// part is.
    pub(super) fn open(&mut self, rendition: usize, end: i64, hold_back_us: i64, part_us: i64) {
        self.position = self.position.min(end - hold_back_us);
        self.resume_us = self.resume_us.max(part_us);
        if let Some(wanted) = self.wanted.get_mut(rendition) {
            *wanted = end;
        }
    }

    /// A part of a rendition has come: where it begins, if it is the first, and how long it is.
    pub(super) fn load(&mut self, rendition: usize, begins: i64, lasts_us: i64, now: Instant) {
        self.advance(now);
        if let Some(loaded) = self.loaded.get_mut(rendition) {
            *loaded = Some(loaded.unwrap_or(begins) + lasts_us);
        }
        match self.state {
            State::Starting => {
                let all = self.loaded.iter().zip(&self.wanted);
                // What dates say of the last part and what its lengths add up to may differ.
                let ready = |(loaded, wanted): (&Option<i64>, &i64)| {
                    loaded.is_some_and(|it| it + self.resume_us / 2 >= *wanted)
                };
                if all.into_iter().all(ready) {
                    (self.state, self.at) = (State::Playing, now);
                }
            }
            State::Stalled(since) if self.end() >= self.position + self.resume_us => {
                self.stalled += now.saturating_duration_since(since);
                (self.state, self.at) = (State::Playing, now);
            }
            State::Stalled(_) | State::Playing | State::Ended => {}
        }
    }

    /// Moves on to this moment.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.state != State::Playing {
            return;
        }
        let passed = now.saturating_duration_since(self.at);
        self.position += micros(passed);
        self.at = now;
        let short = self.position - self.end();
        if short > 0 {
            self.position -= short;
            self.stalls += 1;
            let since = now.checked_sub(Duration::from_micros(short.unsigned_abs())).unwrap_or(now);
            self.state = State::Stalled(since);
        }
    }

    /// Nothing more comes: standing still at the end is no stall.
    pub(super) fn end_of_stream(&mut self, now: Instant) {
        self.advance(now);
        self.state = State::Ended;
    }

    /// It is over: a stall that lasts counts until now.
    pub(super) fn finish(&mut self, now: Instant) {
        self.advance(now);
        if let State::Stalled(since) = self.state {
            self.stalled += now.saturating_duration_since(since);
        }
        self.state = State::Ended;
    }

    /// What is played now; none while nothing is.
    pub(super) fn position(&self) -> Option<i64> {
        (self.state == State::Playing).then_some(self.position)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.state != State::Starting
    }

    /// How far all renditions are loaded.
    fn end(&self) -> i64 {
        self.loaded.iter().map(|it| it.unwrap_or(i64::MIN / 2)).min().unwrap_or(i64::MIN / 2)
    }
}

/// A duration as microseconds of media.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: i64 = 200_000;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    /// Begins three parts behind an end at 1 s, with a second loaded.
    fn begun(start: Instant) -> Playback {
        let mut playback = Playback::new(1, start);
        playback.open(0, 1_000_000, 3 * PART, PART);
        for part in 0..5 {
            assert!(!playback.has_begun());
            playback.load(0, part * PART, PART, start);
        }
        assert_eq!(playback.position(), Some(400_000));
        playback
    }

    #[test]
    fn parts_that_come_in_time_are_played_without_a_stall() {
        let start = Instant::now();
        let mut playback = begun(start);
        for part in 5..50_u32 {
            let now = after(start, u64::from(part - 5) * 200 + 500);
            playback.load(0, 0, PART, now);
        }
        playback.finish(after(start, 9_500));
        assert_eq!((playback.stalls, playback.stalled), (0, Duration::ZERO));
    }

    #[test]
    fn an_empty_buffer_is_a_stall_until_a_part_is_there_again() {
        let start = Instant::now();
        let mut playback = begun(start);
        playback.load(0, 0, PART, after(start, 1_000));
        assert_eq!((playback.stalls, playback.stalled.as_millis()), (1, 400));
        assert_eq!(playback.position(), Some(1_000_000));
        playback.finish(after(start, 1_300));
        assert_eq!((playback.stalls, playback.stalled.as_millis()), (2, 500));
    }

    #[test]
    fn the_rendition_that_is_least_loaded_decides() {
        let start = Instant::now();
        let mut playback = Playback::new(2, start);
        playback.open(0, 1_000_000, 3 * PART, PART);
        playback.open(1, 1_020_000, 3 * PART, PART);
        playback.load(0, 0, 1_000_000, start);
        assert!(!playback.has_begun());
        playback.load(1, 0, 1_000_000, start);
        playback.load(0, 0, 1_000_000, after(start, 100));
        playback.advance(after(start, 601));
        assert_eq!(playback.stalls, 1);
    }

    #[test]
    fn the_end_of_a_stream_is_no_stall() {
        let start = Instant::now();
        let mut playback = begun(start);
        playback.end_of_stream(after(start, 100));
        playback.finish(after(start, 10_000));
        assert_eq!(playback.stalls, 0);
    }
}
