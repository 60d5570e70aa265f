//! How busy a shard is: the share of wall time that it does not spend waiting, and how late what
//! it sends is.
//!
//! Serving those who are there counts apart from letting newcomers in: a burst of joins passes,
//! and says nothing of how many viewers can be served once they are in.

use super::gauges::Reading;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Measures in windows; what one says holds during the next.
#[derive(Debug)]
pub(super) struct Load {
    under_way: Window,
    began: Instant,
    work_began: Instant,
    /// The windows of the last [`Load::SPAN`], oldest first.
    past: VecDeque<Window>,
    /// Of the last window.
    share: f32,
}

/// What was measured between two moments.
#[derive(Debug, Clone, Copy)]
struct Window {
    ended: Instant,
    span: Duration,
    worked: Duration,
    joining: Duration,
    lateness: Duration,
    audience: Audience,
}

/// Whom a shard has, and what it could not send or take in so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Audience {
    /// Viewers that are connected.
    pub(super) viewers: usize,
    /// Publishers that are connected.
    pub(super) publishers: usize,
    /// Datagrams for which the socket's send buffer had no room, since it was made.
    pub(super) dropped: u64,
}

impl Window {
    fn beginning(now: Instant, audience: Audience) -> Self {
        let none = Duration::ZERO;
        Self { ended: now, span: none, worked: none, joining: none, lateness: none, audience }
    }
}

impl Load {
    /// Long enough to even out single pictures, short enough that a flood of joins is noticed.
    const WINDOW: Duration = Duration::from_millis(100);
    /// Long enough to even out keyframes.
    const SPAN: Duration = Duration::from_secs(1);
    /// A keyframe, or a machine that stood still for a moment, makes one window late or two.
    const LATE_WINDOWS: usize = 3;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            under_way: Window::beginning(now, Audience::default()),
            began: now,
            work_began: now,
            past: VecDeque::new(),
            share: 0.0,
        }
    }

    /// Waiting is over.
    pub(super) fn work_begins(&mut self, now: Instant) {
        self.work_began = now;
    }

    /// Waiting begins. True: a window ended, and [`Load::reading`] has news.
    pub(super) fn work_ends(&mut self, now: Instant) -> bool {
        let under_way = &mut self.under_way;
        under_way.worked += now.saturating_duration_since(self.work_began);
        self.work_began = now;
        let span = now.saturating_duration_since(self.began);
        if span < Self::WINDOW {
            return false;
        }
        self.share = under_way.worked.as_secs_f32() / span.as_secs_f32();
        (under_way.ended, under_way.span) = (now, span);
        self.past.push_back(*under_way);
        *under_way = Window::beginning(now, under_way.audience);
        self.began = now;
        let old = |window: &Window| now.saturating_duration_since(window.ended) >= Self::SPAN;
        while self.past.front().is_some_and(old) {
            self.past.pop_front();
        }
        true
    }

    /// So much of the work under way was for those who join: handshakes, say, and the burst with
    /// which a newcomer begins.
    pub(super) fn joining(&mut self, spent: Duration) {
        self.under_way.joining += spent;
    }

    /// A batch was completely served so long after its oldest packet had come.
    pub(super) fn served(&mut self, lateness: Duration) {
        self.under_way.lateness = self.under_way.lateness.max(lateness);
    }

    /// How long packets are to wait for others of their picture, of `longest` at most.
    ///
    /// A message with one packet costs the kernel nearly what one with ten costs. An idle shard
    /// buys milliseconds for that, a busy one room for more viewers. What it costs falls as they
    /// wait, so that this comes to rest.
    pub(super) fn patience(&self, longest: Duration) -> Duration {
        longest.mul_f32((self.share * 2.0).min(1.0))
    }

    /// Between 0 (idle) and 1 (never waits), in the last window, joining included.
    pub(super) const fn share(&self) -> f32 {
        self.share
    }

    /// What the windows of the last second say; the last of them ended with this audience.
    pub(super) fn reading(&mut self, audience: Audience) -> Reading {
        let dropped_before = self.past.front().map_or(0, |window| window.audience.dropped);
        self.under_way.audience = audience;
        if let Some(last) = self.past.back_mut() {
            last.audience = audience;
        }
        let (mut span, mut serving, mut viewer_seconds) = (0.0, 0.0, 0.0);
        let mut lateness = [Duration::ZERO; Self::LATE_WINDOWS];
        for window in &self.past {
            let seconds = window.span.as_secs_f64();
            span += seconds;
            serving += window.worked.saturating_sub(window.joining).as_secs_f64();
            viewer_seconds += window.audience.viewers as f64 * seconds;
            if let Some(place) = lateness.iter().position(|&least| window.lateness > least) {
                lateness[place..].rotate_right(1);
                lateness[place] = window.lateness;
            }
        }
        let per_second = |sum: f64| if span > 0.0 { sum / span } else { 0.0 };
        Reading {
            load: per_second(serving) as f32,
            viewers_measured: per_second(viewer_seconds) as f32,
            viewers: audience.viewers,
            publishers: audience.publishers,
            lateness: lateness[Self::LATE_WINDOWS - 1],
            dropped: audience.dropped.saturating_sub(dropped_before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// Works and rests by turns for so long; what the last window says.
    fn live(load: &mut Load, now: &mut Instant, span: Duration, turn: [u64; 3], late: u64) {
        let [work, joining, rest] = turn;
        let until = *now + span;
        while *now < until {
            load.work_begins(*now);
            *now += ms(work + joining);
            load.joining(ms(joining));
            load.served(ms(late));
            load.work_ends(*now);
            *now += ms(rest);
        }
    }

    #[test]
    fn the_share_is_work_over_wall_time_of_the_last_window() {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        for (work, rest, expected) in [(3, 1, 0.75), (1, 3, 0.25), (4, 0, 1.0)] {
            // The first window of each kind may still hold a little of the kind before.
            live(&mut load, &mut now, ms(240), [work, 0, rest], 0);
            assert!((load.share() - expected).abs() < 0.02, "{} for {expected}", load.share());
            let patience = load.patience(ms(8)).as_secs_f32() * 1_000.0;
            assert!((patience - 8.0 * (2.0 * expected).min(1.0)).abs() < 0.4, "{patience} ms");
        }
    }

    #[test]
    fn a_second_of_serving_is_read_without_what_newcomers_cost() {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        live(&mut load, &mut now, ms(3_000), [4, 0, 0], 0);
        live(&mut load, &mut now, ms(1_200), [2, 1, 1], 0);
        let reading = load.reading(Audience::default());
        assert!((reading.load - 0.5).abs() < 0.02, "{reading:?}");
        assert!((load.share() - 0.75).abs() < 0.02, "{}", load.share());
    }

    #[test]
    fn viewers_are_measured_over_the_time_that_the_load_is() {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        let mut reading = load.reading(Audience::default());
        for viewers in [0, 100, 200, 300, 400, 500, 600, 700, 800, 900] {
            live(&mut load, &mut now, ms(100), [4, 0, 0], 0);
            reading = load.reading(Audience { viewers, ..Audience::default() });
        }
        assert_eq!(reading.viewers, 900);
        assert!((reading.viewers_measured - 450.0).abs() < 30.0, "{reading:?}");
    }

    #[test]
    fn lateness_counts_where_it_lasts() {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        for (late_for, expected) in [(100, 5), (600, 200)] {
            live(&mut load, &mut now, ms(1_200), [4, 0, 0], 5);
            live(&mut load, &mut now, ms(late_for), [4, 0, 0], 200);
            assert_eq!(load.reading(Audience::default()).lateness, ms(expected));
        }
    }

    #[test]
    fn what_was_dropped_is_forgotten_after_a_second() {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        let mut dropped_after = |dropped, span| {
            let mut reading = load.reading(Audience::default());
            for _ in 0..span {
                live(&mut load, &mut now, ms(100), [4, 0, 0], 0);
                reading = load.reading(Audience { dropped, ..Audience::default() });
            }
            reading.dropped
        };
        assert_eq!(dropped_after(0, 12), 0);
        assert_eq!(dropped_after(7, 1), 7);
        assert_eq!(dropped_after(7, 5), 7);
        assert_eq!(dropped_after(7, 12), 0);
    }
}
