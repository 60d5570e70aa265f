//! The queue on the way to a viewer: how long it is, and whether it grows.
//!
//! The first packet of a burst finds the queue as it is; those behind it wait for each other. A
//! frame departs here as one burst (UDP GSO), so that the delays of last packets, by which
//! `rtc-interceptor` groups them, tell the size of frames more than they tell the queue. Of all
//! packets of a slot the one that waited least counts: what is left of a queue between frames is
//! one that stands.

use super::Acked;
use interceptor::{OveruseDetector, Usage};
use std::time::{Duration, Instant};

/// Packets that depart within such a span give one measurement: longer than the distance of
/// frames, so that each has a moment in which a path that carries them has an empty queue.
const SLOT: Duration = Duration::from_millis(40);
/// As many measurements make a trend.
const SLOTS: usize = 8;
/// The least delay is that of the last one to two of these: clocks drift, and routes change.
const BASE_SPAN: Duration = Duration::from_secs(10);
/// A shorter queue is none: receivers of some links get packets up to such a distance together.
const QUEUE_MIN: i64 = 20_000;
/// A queue of that length, or of so many times what delays waver by, is one that fills.
const FILLS_MIN: i64 = 40_000;
const FILLS_TIMES: i64 = 4;
/// So many slots tell by how much delays waver from one to the next.
const WAVERS_SLOTS: i64 = 32;
/// Brings the slope of the trend (milliseconds per millisecond) to the scale of the detector's
/// threshold, which begins at 12.5: a queue that grows by 5 % of the time is one too much.
const GAIN: f64 = 250.0;

/// One slot: when it began, and the least delay in it, both in microseconds. The distance of the
/// two clocks is in the delay.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    began: i64,
    delay: i64,
}

/// Measures the queue.
#[derive(Debug)]
pub(super) struct DelayMeter {
    epoch: Instant,
    current: Option<Slot>,
    /// The newest last.
    slots: [Slot; SLOTS],
    filled: usize,
    detector: OveruseDetector,
    is_overused: bool,
    /// The least delays of this span and of the one before.
    least: [i64; 2],
    span_began: i64,
    /// How long the newest packet waited.
    waited: i64,
    /// By how much the delays of slots differ from those before, on average.
    wavers: i64,
}

impl DelayMeter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            current: None,
            slots: [Slot::default(); SLOTS],
            filled: 0,
            detector: OveruseDetector::new(),
            is_overused: false,
            least: [i64::MAX; 2],
            span_began: 0,
            waited: 0,
            wavers: 0,
        }
    }

    /// A packet came.
    pub(super) fn acked(&mut self, acked: &Acked) {
        let sent = acked.sent.saturating_duration_since(self.epoch).as_micros() as i64;
        let delay = acked.arrived - sent;
        if sent - self.span_began >= BASE_SPAN.as_micros() as i64 {
            self.least = [i64::MAX, self.least[0]];
            self.span_began = sent;
        }
        self.least[0] = self.least[0].min(delay);
        self.waited = delay - self.base();
        match &mut self.current {
            Some(slot) if sent - slot.began < SLOT.as_micros() as i64 => {
                slot.delay = slot.delay.min(delay);
            }
            current => {
                let closed = current.replace(Slot { began: sent, delay });
                if let Some(closed) = closed {
                    self.close(closed, acked.sent);
                }
            }
        }
    }

    fn base(&self) -> i64 {
        self.least[0].min(self.least[1])
    }

    fn close(&mut self, closed: Slot, now: Instant) {
        let previous = self.slots[SLOTS - 1];
        if self.filled > 0 {
            let change = (closed.delay - previous.delay).abs();
            self.wavers += (change - self.wavers) / WAVERS_SLOTS;
        }
        self.slots.rotate_left(1);
        self.slots[SLOTS - 1] = closed;
        self.filled = (self.filled + 1).min(SLOTS);
        let usage = self.detector.update(now, self.slope() * GAIN);
        // A burst that drains has left a trend behind, but its queue grows no more.
        let grows = self.filled > 1 && closed.delay >= previous.delay;
        self.is_overused = usage == Usage::Over && grows && self.is_queueing();
    }

    /// How fast the delay grows, in time per time: the line of least squares.
    fn slope(&self) -> f64 {
        let slots = &self.slots[SLOTS - self.filled..];
        let origin = slots.first().copied().unwrap_or_default();
        let count = slots.len() as f64;
        let points = slots
            .iter()
            .map(|slot| ((slot.began - origin.began) as f64, (slot.delay - origin.delay) as f64));
        let (x, y) =
            points.clone().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let (x, y) = (x / count, y / count);
        let (over, under) = points.fold((0.0, 0.0), |sum, point| {
            (sum.0 + (point.0 - x) * (point.1 - y), sum.1 + (point.0 - x).powi(2))
        });
        if under > 0.0 { over / under } else { 0.0 }
    }

    /// Whether more comes than the path carries.
    pub(super) const fn is_overused(&self) -> bool {
        self.is_overused
    }

    /// Whether there is a queue.
    pub(super) fn is_queueing(&self) -> bool {
        self.standing() >= QUEUE_MIN
    }

    /// Whether there is a queue that has got longer and longer, and is no chance. A path that stood
    /// still for a moment makes one at once, and then only drains.
    pub(super) fn is_filling(&self) -> bool {
        let Some(current) = self.current.filter(|_| self.filled > 1) else { return false };
        let [before, last] = [SLOTS - 2, SLOTS - 1].map(|place| self.slots[place].delay);
        let least = FILLS_MIN.max(self.wavers * FILLS_TIMES);
        before < last && last < current.delay && current.delay - self.base() >= least
    }

    /// Whether the newest packet had to wait.
    pub(super) const fn has_waited(&self) -> bool {
        self.waited >= QUEUE_MIN
    }

    fn standing(&self) -> i64 {
        if self.filled == 0 { 0 } else { self.slots[SLOTS - 1].delay - self.base() }
    }

    /// How long the queue was that the newest packets found.
    pub(super) fn queue(&self) -> Duration {
        let newest = self.current.map_or(0, |slot| slot.delay - self.base());
        Duration::from_micros(newest.max(0).cast_unsigned())
    }

    /// How long the newest packet waited.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.max(0).cast_unsigned())
    }
}
