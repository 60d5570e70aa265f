//! How much is lost, and whether that has to do with the rate.
//!
//! As in GCC (draft-ietf-rmcat-gcc-02 §6): above 10 % the rate is too high, below 2 % it may grow.
//! A path that goes on losing as much at a lower rate loses by itself (a bad radio link): to go
//! further down gives up the picture and saves no packet.

use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// Above that the rate is too high.
const HIGH: f64 = 0.10;
/// Below that it may grow.
const LOW: f64 = 0.02;
/// Packets are counted for so long at least, and so many.
const SPAN: Duration = Duration::from_millis(400);
const PACKETS_MIN: u32 = 30;
/// A rate is lower if it is below this part of the one before.
const LOWER: f64 = 0.75;

/// What losses say of the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// It may grow.
    Grow,
    /// It stays.
    Stay,
    /// It is too high: so much is lost by it.
    TooHigh(f64),
}

/// Counts losses.
#[derive(Debug, Default)]
pub(super) struct LossMeter {
    came: u32,
    lost: u32,
    since: Option<Instant>,
    /// Of the last spans, the newest half.
    fraction: f64,
    /// What is lost whatever the rate.
    own: f64,
    /// At this loss and this rate it was too high first.
    tried: Option<(f64, Bitrate)>,
    may_grow: bool,
}

impl LossMeter {
    /// A packet came; it may have been thought lost.
    pub(super) const fn came(&mut self, was_missing: bool) {
        self.came += 1;
        if was_missing {
            self.lost = self.lost.saturating_sub(1);
        }
    }

    /// A packet did not come.
    pub(super) const fn lost(&mut self) {
        self.lost += 1;
    }

    /// The part that was lost lately.
    pub(super) const fn fraction(&self) -> f64 {
        self.fraction
    }

    /// What is to be made of what was counted, at the rate at which packets came.
    pub(super) fn poll(&mut self, now: Instant, received: Option<Bitrate>) -> Verdict {
        let since = *self.since.get_or_insert(now);
        let total = self.came + self.lost;
        let is_due = now.saturating_duration_since(since) >= SPAN && total >= PACKETS_MIN;
        if !is_due {
            return if self.may_grow { Verdict::Grow } else { Verdict::Stay };
        }
        let sample = f64::from(self.lost) / f64::from(total);
        (self.came, self.lost, self.since) = (0, 0, Some(now));
        self.judge(sample, received.unwrap_or_default())
    }

    /// The same of what a receiver reports.
    pub(super) fn reported(&mut self, sample: f64, received: Bitrate) -> Verdict {
        self.judge(sample.clamp(0.0, 1.0), received)
    }

    fn judge(&mut self, sample: f64, received: Bitrate) -> Verdict {
        self.fraction = f64::midpoint(self.fraction, sample);
        let fraction = self.fraction;
        self.own = self.own.min(fraction + LOW);
        self.may_grow = fraction < self.own + LOW;
        if fraction.min(sample) <= self.own + HIGH {
            if fraction < HIGH / 2.0 {
                self.tried = None;
            }
            return if self.may_grow { Verdict::Grow } else { Verdict::Stay };
        }
        // More is lost by less where the path has become another.
        self.tried = self.tried.filter(|(before, _)| fraction * LOWER <= *before);
        let (before, at) = *self.tried.get_or_insert((fraction, received));
        if received < at.scaled(LOWER) && fraction >= before * LOWER {
            self.own = fraction;
            self.tried = None;
            return Verdict::Stay;
        }
        Verdict::TooHigh(fraction)
    }
}
