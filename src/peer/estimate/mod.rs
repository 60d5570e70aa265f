//! How much the path to a viewer carries, as seen from the sending side.
//!
//! What a viewer says of each packet (transport-wide feedback) tells delays, losses and the rate at
//! which packets came; without it there is the loss of its reports, and REMB. What flows is a
//! layer, often far below what the path carries: how much more that is, only probes tell.
//!
//! - `control`: the target rate: down by delay and loss, up by what came and by probes
//! - `delay`: the queue on the way, and whether it grows
//! - `feedback`: reads transport-wide feedback
//! - `history`: what was sent, and when
//! - `loss`: how much is lost, and whether that has to do with the rate
//! - `probe`: when to send more than the media, and what it said
//! - `received`: the rate at which packets came
//! - `remb`: reads a receiver's own estimate
//! - `tests`: whether it follows a link

mod control;
mod delay;
pub mod feedback;
pub mod history;
mod loss;
mod probe;
mod received;
pub mod remb;
#[cfg(test)]
mod tests;

use crate::media::bitrate::Bitrate;
use crate::media::time::Unwrapper;
use control::{Control, Signals};
use delay::DelayMeter;
use feedback::{Feedback, TICKS_PER_MILLISECOND};
use history::{Departed, SendHistory};
use loss::{LossMeter, Verdict};
use probe::Prober;
use received::Received;
use std::time::{Duration, Instant};

/// What the path to a viewer carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// As much as may be sent: sound, picture and what is sent again, with their headers.
    pub bitrate: Bitrate,
    /// How long packets waited on the way lately, beyond the least that they need.
    pub queue: Duration,
    /// The part of the packets that was lost lately, 0 to 1.
    pub loss: f64,
    /// Where it is known from.
    pub basis: Basis,
}

impl Estimate {
    /// What is taken for granted until a viewer has said something: the middle one of a browser's
    /// three layers. The first feedback comes a round trip and 100 ms later, and the beginning of
    /// the stream, sent faster than it plays, then has told what the path carries.
    pub const START: Bitrate = Bitrate::kbps(1_000);
    /// Below that there is no picture worth sending; it keeps room for the sound.
    pub const FLOOR: Bitrate = Bitrate::kbps(30);
    /// Beyond that nothing is sent.
    pub const CEILING: Bitrate = Bitrate::kbps(100_000);
}

/// What an estimate is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Transport-wide feedback.
    Feedback,
    /// The receiver's own estimate (REMB).
    Remb,
    /// The loss in receiver reports.
    Reports,
}

/// One packet that came.
#[derive(Debug, Clone, Copy)]
struct Acked {
    sent: Instant,
    /// When it came, in microseconds on the viewer's clock.
    arrived: i64,
    size: usize,
}

/// Estimates what the path to one viewer carries.
#[derive(Debug)]
pub struct Estimator {
    history: SendHistory,
    ticks: Unwrapper,
    delay: DelayMeter,
    received: Received,
    loss: LossMeter,
    control: Control,
    prober: Prober,
    /// From the newest feedback: from departure to word of it.
    round_trip: Option<Duration>,
    heard: Option<Instant>,
    feedback_packets: u64,
    remb: Option<(Bitrate, Instant)>,
    reported: Option<Report>,
    /// When reports last told of losses that the rate had made.
    lost_at: Option<Instant>,
}

/// Of the last receiver report.
#[derive(Debug, Clone, Copy)]
struct Report {
    at: Instant,
    /// Bytes sent until then.
    bytes: u64,
    /// At which rate, between the last two.
    rate: Option<Bitrate>,
}

impl Estimator {
    /// So long what was said per packet is better than what reports say.
    const FEEDBACK_LASTS: Duration = Duration::from_secs(3);
    /// Receivers repeat theirs each second.
    const REMB_LASTS: Duration = Duration::from_secs(5);
    /// So long losses in reports are a limit. Without any they say of none: whoever is sent little
    /// would be sent little for ever, since nothing else tells what its path carries.
    const LOSSES_LAST: Duration = Duration::from_secs(30);
    /// Reports closer to each other are taken together.
    const REPORTS_APART: Duration = Duration::from_millis(200);

    /// An estimator that knows nothing; `can_probe` tells whether packets can be sent once more.
    pub fn new(can_probe: bool, now: Instant) -> Self {
        Self {
            history: SendHistory::new(now),
            ticks: Unwrapper::default(),
            delay: DelayMeter::new(now),
            received: Received::new(now),
            loss: LossMeter::default(),
            control: Control::new(can_probe),
            prober: Prober::new(can_probe),
            round_trip: None,
            heard: None,
            feedback_packets: 0,
            remb: None,
            reported: None,
            lost_at: None,
        }
    }

    /// Where packets are noted that carry a number.
    pub const fn history(&mut self) -> &mut SendHistory {
        &mut self.history
    }

    /// The estimate, once there is something to make it of.
    pub fn estimate(&self, now: Instant) -> Option<Estimate> {
        let basis = self.basis(now)?;
        let mut bitrate = self.control.target();
        if let (Basis::Remb, Some((remb, _))) = (basis, self.remb) {
            bitrate = self.capped(remb, bitrate);
        }
        let is_limited = self.lost_at.is_some_and(|at| now < at + Self::LOSSES_LAST);
        if basis == Basis::Reports && !is_limited {
            bitrate = Estimate::CEILING;
        }
        Some(Estimate { bitrate, queue: self.delay.queue(), loss: self.loss.fraction(), basis })
    }

    fn basis(&self, now: Instant) -> Option<Basis> {
        let lasts = |at: Instant, span| now.saturating_duration_since(at) < span;
        if self.heard.is_some_and(|at| lasts(at, Self::FEEDBACK_LASTS)) {
            Some(Basis::Feedback)
        } else if self.remb.is_some_and(|(_, at)| lasts(at, Self::REMB_LASTS)) {
            Some(Basis::Remb)
        } else {
            self.reported.map(|_| Basis::Reports).or(self.heard.map(|_| Basis::Feedback))
        }
    }

    /// A receiver's estimate says nothing beyond one and a half times of what it gets: where it is
    /// about that, it found no limit.
    fn capped(&self, remb: Bitrate, target: Bitrate) -> Bitrate {
        let sent = self.reported.and_then(|report| report.rate);
        let is_limit = sent.is_none_or(|sent| remb < sent.scaled(1.35));
        if is_limit { remb.min(target.max(remb)) } else { target.max(remb) }
    }

    /// How many packets of feedback were read.
    pub const fn feedback_packets(&self) -> u64 {
        self.feedback_packets
    }

    /// From departure to word of it, where that is known.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What would be sent if the path carried it; zero where no more is wanted than there is.
    pub fn want(&mut self, rate: Bitrate, now: Instant) {
        self.control.want(rate);
        self.prober.want(rate, now);
    }

    /// Takes feedback in.
    pub fn on_feedback(&mut self, feedback: &Feedback<'_>, now: Instant) {
        self.feedback_packets += 1;
        self.heard = Some(now);
        let mut newest = None;
        for status in feedback.statuses() {
            let Some(ticks) = status.arrival else {
                if let Some(departed) = self.history.is_missing(status.number, now) {
                    self.loss.lost();
                    self.prober.lost(&departed);
                }
                continue;
            };
            let Some(departed) = self.history.came(status.number, now) else { continue };
            let ticks = self.ticks.extend(ticks, 32);
            let acked = Acked {
                sent: departed.at,
                arrived: (ticks * 1_000 / TICKS_PER_MILLISECOND).cast_signed(),
                size: departed.size,
            };
            self.came(&departed, &acked);
            newest = Some(departed.at);
        }
        if let Some(newest) = newest {
            self.round_trip = Some(now.saturating_duration_since(newest));
        }
        let received = self.received.rate();
        let signals = Signals {
            now,
            is_overused: self.delay.is_overused(),
            is_queueing: self.delay.is_queueing(),
            has_waited: self.delay.has_waited(),
            filling: self.received.served().filter(|_| self.delay.is_filling()),
            received,
            departed: self.received.departed(),
            bottleneck: self.received.bottleneck(),
            loss: self.loss.poll(now, received),
            round_trip: self.round_trip.unwrap_or(Duration::from_millis(100)),
        };
        if self.control.update(&signals) {
            self.prober.dropped(now);
        }
        if let Some(result) = self.prober.poll_result(now) {
            self.control.probed(result, now);
        }
    }

    fn came(&mut self, departed: &Departed, acked: &Acked) {
        self.loss.came(departed.was_missing);
        self.delay.acked(acked);
        self.received.acked(acked, self.delay.waited());
        self.prober.came(departed, acked);
    }

    /// Takes in the loss that a receiver reports, where nothing better is known; `bytes` were sent
    /// until now.
    pub fn on_report(&mut self, loss: f64, bytes: u64, now: Instant) {
        if self.basis(now) == Some(Basis::Feedback) {
            return;
        }
        let Some(last) = self.reported else {
            self.reported = Some(Report { at: now, bytes, rate: None });
            return;
        };
        let span = now.saturating_duration_since(last.at);
        if span < Self::REPORTS_APART {
            return;
        }
        let sent = Bitrate::of(bytes.saturating_sub(last.bytes), span);
        self.reported = Some(Report { at: now, bytes, rate: Some(sent) });
        let received = sent.scaled(1.0 - loss.clamp(0.0, 1.0));
        let verdict = self.loss.reported(loss, received);
        if matches!(verdict, Verdict::TooHigh(_)) {
            self.lost_at = Some(now);
        }
        let signals = Signals {
            now,
            is_overused: false,
            is_queueing: false,
            has_waited: false,
            filling: None,
            received: Some(received),
            departed: None,
            bottleneck: None,
            loss: verdict,
            round_trip: Duration::from_millis(100),
        };
        self.control.update(&signals);
    }

    /// Takes in a receiver's own estimate.
    pub fn on_remb(&mut self, bitrate: Bitrate, now: Instant) {
        let bitrate = bitrate.clamp(Estimate::FLOOR, Estimate::CEILING);
        self.remb = Some((bitrate, now));
    }

    /// How many bytes of a probe are to depart now; what departs is told by [`Self::probed`].
    pub fn probe(&mut self, now: Instant) -> usize {
        let knows = self.basis(now) == Some(Basis::Feedback);
        let is_calm = knows && !self.delay.is_queueing();
        let sent = self.history.position();
        self.prober.due(now, self.control.target(), is_calm, sent)
    }

    /// So many bytes of a probe have departed; zero where none could.
    pub fn probed(&mut self, bytes: usize, now: Instant) {
        self.prober.departed(bytes, now);
    }

    /// When [`Self::probe`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.prober.deadline(self.control.target())
    }
}
