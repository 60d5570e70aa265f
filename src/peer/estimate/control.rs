//! The target rate: down by delay and loss, up by what came and by probes.
//!
//! The controller of `rtc-interceptor` 0.21.1 does not fit a sender of layers. In the world of
//! `tests` its target reaches 100 Mb/s after a minute in which 0.19 Mb/s were sent; a link that
//! falls from 3 to 1.5 Mb/s is followed after 5.4 s, with the queue full (0.5 s); on steady links
//! there are 18 switches a minute. Its delays of last packets waver with the sizes of frames, its
//! threshold lets a queue grow by a third of the time, and its loss controller starts from where
//! growth has led. Of its parts the overuse detector is used here, with measurements of our own:
//! 0.3 s, 0.2 s, and no switch.

use super::Estimate;
use super::loss::Verdict;
use super::probe::Outcome;
use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// A queue drains if less than the path carries is sent: so much less where that is only guessed by
/// what came (draft-ietf-rmcat-gcc-02 §5.5), and where it was measured.
const DECREASE: f64 = 0.85;
const DECREASE_MEASURED: f64 = 0.9;
/// Whoever sends less than this part of what the path carries makes no queue, whatever delays say.
const FILLS: f64 = 0.95;
/// What a probe that filled the path came at is what it carries, but for what is not certain.
const SATURATED: f64 = 0.97;
/// Whoever sends that much more makes one, before delays say so.
const OVERFILLS: f64 = 1.2;
/// Within such a time it falls no further than to this part: a machine that stood still for a
/// moment, here or there, looks like a path that carries nothing.
const STEP_DOWN: f64 = 0.5;
const STEP: Duration = Duration::from_millis(200);
/// By so much the target grows in a second where no limit is near.
const GROWTH: f64 = 1.08;
/// One packet each response time is added where the limit is near.
const PACKET_BITS: f64 = 1_200.0 * 8.0;
/// The target grows by itself to what has come and no further: a layer's rate wavers by as much.
const BEYOND: f64 = 1.1;
/// What was too much is not tried again for a while: this long, then twice as long each time that
/// it is too much again soon after. A probe that came at so much more has found another path.
const CEILING_REST: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(15);
const CEILING_REST_MAX: Duration = Duration::from_secs(32);
const BELOW_CEILING: f64 = 0.95;
const FAR_ABOVE_CEILING: f64 = 1.4;
/// Falls closer to each other are one.
const FALLING: Duration = Duration::from_secs(1);
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
    /// The newest packet had to wait.
    pub(super) has_waited: bool,
    /// The rate at which a queue is served that gets longer and longer.
    pub(super) filling: Option<Bitrate>,
    /// The rate at which packets came.
    pub(super) received: Option<Bitrate>,
    /// The rate at which those had departed, in half a second and in a whole one.
    pub(super) departed: Option<(Bitrate, Bitrate)>,
    /// The rate at which those came that had waited.
    pub(super) bottleneck: Option<Bitrate>,
    pub(super) loss: Verdict,
    pub(super) round_trip: Duration,
}

impl Signals {
    /// Where more is sent than the path carries: what that is, and what may be sent.
    fn carried(&self, overfills: bool) -> Option<(f64, f64)> {
        let Some(carried) = self.bottleneck.map(bits) else {
            let received = self.received.filter(|_| self.is_overused).map(bits)?;
            return Some((received, received * DECREASE));
        };
        // A keyframe alone may fill half a second, and what it leaves drains.
        let (lately, longer) = self.departed?;
        let departed = f64::midpoint(bits(lately), bits(longer));
        let is_too_much = self.is_overused && departed >= carried * FILLS;
        (is_too_much || overfills).then_some((carried, carried * DECREASE_MEASURED))
    }

    /// Whether so much more is sent than the path carries that there will be a queue.
    fn overfills(&self) -> bool {
        let (Some(carried), Some((lately, longer))) = (self.bottleneck, self.departed) else {
            return false;
        };
        self.has_waited && lately.min(longer) >= carried.scaled(OVERFILLS)
    }

    /// Where there is one by that already, and no doubt: what the path carries.
    fn filled(&self) -> Option<f64> {
        let (carried, (lately, longer)) = (self.filling?, self.departed?);
        (lately.min(longer) >= carried.scaled(OVERFILLS)).then_some(bits(carried))
    }
}

/// A rate that was too much.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    /// What was sent.
    rate: f64,
    fell: Instant,
    until: Instant,
    rest: Duration,
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
    /// What the last feedback said of that.
    overfills: bool,
    fell_by_loss: Option<Instant>,
    /// When it began to fall last, and from where.
    step: Option<(Instant, f64)>,
    ceiling: Option<Ceiling>,
}

impl Control {
    pub(super) fn new(can_probe: bool) -> Self {
        Self {
            target: bits(Estimate::START),
            want: 0.0,
            can_probe,
            limit: None,
            updated: None,
            overfills: false,
            fell_by_loss: None,
            step: None,
            ceiling: None,
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
        // Twice in a row, or with a queue: packets that are late by chance look alike.
        let overfilled = std::mem::replace(&mut self.overfills, signals.overfills());
        if let Some(carried) = signals.filled() {
            self.limit = Some(carried);
            self.target = self.target.min(carried * DECREASE_MEASURED);
        } else if let Some((carried, target)) = signals.carried(overfilled && self.overfills) {
            self.limit = Some(carried);
            self.fall_to(target, now);
        } else if let Verdict::TooHigh(loss) = signals.loss {
            self.lose(loss, signals);
        } else if signals.loss == Verdict::Grow && !signals.is_queueing {
            self.grow(passed.min(Duration::from_secs(1)), signals);
        }
        let fell = self.target < before;
        if fell {
            self.note_ceiling(signals);
        }
        fell
    }

    /// What was sent is too much for now.
    fn note_ceiling(&mut self, signals: &Signals) {
        let now = signals.now;
        let sent = signals.departed.map(|(lately, _)| lately).or(signals.received);
        let Some(rate) = sent.map(bits) else { return };
        let rest = match &mut self.ceiling {
            Some(last) if now < last.fell + FALLING => {
                last.fell = now;
                return;
            }
            Some(last) if now < last.until + SOON => (last.rest * 2).min(CEILING_REST_MAX),
            _ => CEILING_REST,
        };
        self.ceiling = Some(Ceiling { rate, fell: now, until: now + rest, rest });
    }

    /// How far the target may rise.
    fn highest(&self, now: Instant) -> f64 {
        let ceiling = self.ceiling.filter(|ceiling| now < ceiling.until);
        ceiling.map_or(bits(Estimate::CEILING), |ceiling| ceiling.rate * BELOW_CEILING)
    }

    fn rise_to(&mut self, rate: f64, now: Instant) {
        self.target = self.target.max(rate.min(self.highest(now)));
    }

    fn fall_to(&mut self, rate: f64, now: Instant) {
        let under_way = self.step.filter(|(began, _)| now < *began + STEP);
        let (began, from) = under_way.unwrap_or((now, self.target));
        self.step = Some((began, from));
        let lowest = (from * STEP_DOWN).max(bits(Estimate::FLOOR));
        self.target = self.target.min(rate.max(lowest));
    }

    /// What is lost is so much of what was sent, however far above that the target is.
    fn lose(&mut self, loss: f64, signals: &Signals) {
        let rest = LOSS_REST + signals.round_trip;
        if self.fell_by_loss.is_some_and(|at| signals.now < at + rest) {
            return;
        }
        self.fell_by_loss = Some(signals.now);
        let sent = signals.received.map_or(self.target, |it| bits(it) / (1.0 - loss).max(0.1));
        self.fall_to(self.target.min(sent) * (1.0 - loss / 2.0), signals.now);
    }

    fn grow(&mut self, passed: Duration, signals: &Signals) {
        let mut to = signals.received.map_or(0.0, |rate| bits(rate) * BEYOND);
        if !self.can_probe {
            to = to.max(self.want);
        } else if let Some(limit) = self.limit {
            // Only probes tell that there is more.
            to = to.min(limit * BELOW_CEILING);
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
        self.rise_to(grown.min(to), signals.now);
    }

    /// A probe has come back.
    pub(super) fn probed(&mut self, outcome: Outcome, now: Instant) {
        let rate = match outcome {
            Outcome::Carried(rate) => bits(rate),
            Outcome::Saturated(rate) => bits(rate) * SATURATED,
            Outcome::Lost => return,
        };
        if self.limit.is_some_and(|limit| rate > limit * 1.2) {
            self.limit = None;
        }
        if self.ceiling.is_some_and(|ceiling| rate > ceiling.rate * FAR_ABOVE_CEILING) {
            self.ceiling = None;
        }
        self.rise_to(rate, now);
    }
}

fn bits(rate: Bitrate) -> f64 {
    rate.as_bps() as f64
}
