//! The target rate: down by delay and loss, up by what came and by probes.
//!
//! The controllers of `rtc-interceptor` do not fit a sender of layers (figures: `tests/library`): its
//! rate grows without bound while little is sent, by 8 % a second whatever is known, and where
//! losses begin its loss controller starts from where that growth has led.

use super::Estimate;
use super::loss::Verdict;
use super::probe::Outcome;
use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// A queue drains if so much less than the path carries is sent (draft-ietf-rmcat-gcc-02 §5.5).
const DECREASE: f64 = 0.85;
/// By so much the target grows in a second where no limit is near.
const GROWTH: f64 = 1.08;
/// One packet each response time is added where the limit is near.
const PACKET_BITS: f64 = 1_200.0 * 8.0;
/// The target grows by itself to what has come and no further: a layer's rate wavers by as much.
const BEYOND: f64 = 1.1;
/// Without probes the target grows as if what is wanted were sent; after each time that this was
/// too much it waits twice as long, between these.
const TRIAL_REST: Duration = Duration::from_secs(4);
const TRIAL_REST_MAX: Duration = Duration::from_secs(64);
/// A loss takes a while to end after the rate has fallen.
const LOSS_REST: Duration = Duration::from_millis(300);

/// What is known when feedback has been read.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) now: Instant,
    /// A queue grows.
    pub(super) is_overused: bool,
    /// There is a queue.
    pub(super) is_queueing: bool,
    /// The rate at which packets came.
    pub(super) received: Option<Bitrate>,
    /// The rate at which those came that had waited.
    pub(super) bottleneck: Option<Bitrate>,
    pub(super) loss: Verdict,
    pub(super) round_trip: Duration,
}

/// Decides on the target.
#[derive(Debug)]
pub(super) struct Control {
    /// Bits per second.
    target: f64,
    want: f64,
    can_probe: bool,
    /// What the path carried when it was last too little.
    limit: Option<f64>,
    updated: Option<Instant>,
    fell_by_loss: Option<Instant>,
    /// Without probes: when the target may grow towards what is wanted, and how long it waits the
    /// next time.
    trial_from: Option<Instant>,
    trial_rest: Duration,
}

impl Control {
    pub(super) fn new(can_probe: bool) -> Self {
        Self {
            target: bits(Estimate::START),
            want: 0.0,
            can_probe,
            limit: None,
            updated: None,
            fell_by_loss: None,
            trial_from: None,
            trial_rest: TRIAL_REST,
        }
    }

    /// The target.
    pub(super) fn target(&self) -> Bitrate {
        Bitrate::bps(self.target as u64)
    }

    /// What would be sent if the path carried it.
    pub(super) fn want(&mut self, rate: Bitrate) {
        self.want = bits(rate);
    }

    /// Takes in what is known; tells whether the target has fallen.
    pub(super) fn update(&mut self, signals: &Signals) -> bool {
        let now = signals.now;
        let passed = now.saturating_duration_since(self.updated.replace(now).unwrap_or(now));
        let before = self.target;
        if signals.is_overused
            && let Some(rate) = signals.bottleneck.or(signals.received)
        {
            self.limit = Some(bits(rate));
            self.fall_to(bits(rate) * DECREASE);
        } else if let Verdict::TooHigh(loss) = signals.loss {
            self.lose(loss, signals);
        } else if signals.loss == Verdict::Grow && !signals.is_queueing {
            self.grow(passed.min(Duration::from_secs(1)), signals);
        }
        let fell = self.target < before;
        if fell {
            self.trial_from = Some(now + self.trial_rest);
            self.trial_rest = (self.trial_rest * 2).min(TRIAL_REST_MAX);
        }
        fell
    }

    fn fall_to(&mut self, rate: f64) {
        self.target = self.target.min(rate.max(bits(Estimate::FLOOR)));
    }

    /// What is lost is so much of what was sent, however far above that the target is.
    fn lose(&mut self, loss: f64, signals: &Signals) {
        let rest = LOSS_REST + signals.round_trip;
        if self.fell_by_loss.is_some_and(|at| signals.now < at + rest) {
            return;
        }
        self.fell_by_loss = Some(signals.now);
        let sent = signals.received.map_or(self.target, |it| bits(it) / (1.0 - loss).max(0.1));
        self.fall_to(self.target.min(sent) * (1.0 - loss / 2.0));
    }

    fn grow(&mut self, passed: Duration, signals: &Signals) {
        let mut to = signals.received.map_or(0.0, |rate| bits(rate) * BEYOND);
        let rested = self.trial_from.is_none_or(|from| from <= signals.now);
        if !self.can_probe && rested {
            to = to.max(self.want);
        }
        let near =
            self.limit.is_some_and(|limit| (limit * 0.8..limit * 1.2).contains(&self.target));
        let seconds = passed.as_secs_f64();
        let grown = if near {
            let response = signals.round_trip + Duration::from_millis(100);
            self.target + PACKET_BITS * seconds / response.as_secs_f64()
        } else {
            self.target * GROWTH.powf(seconds)
        };
        self.target = self.target.max(grown.min(to)).min(bits(Estimate::CEILING));
    }

    /// A probe has come back.
    pub(super) fn probed(&mut self, outcome: Outcome) {
        let rate = match outcome {
            Outcome::Carried(rate) => bits(rate),
            // It filled the path; the queue that it left must drain.
            Outcome::Saturated(rate) => bits(rate) * DECREASE,
            Outcome::Lost => return,
        };
        if self.limit.is_some_and(|limit| rate > limit * 1.2) {
            self.limit = None;
        }
        self.target = self.target.max(rate).min(bits(Estimate::CEILING));
    }
}

fn bits(rate: Bitrate) -> f64 {
    rate.as_bps() as f64
}
