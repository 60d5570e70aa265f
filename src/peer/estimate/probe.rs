//! When to send more than the media for a moment, and what that said of the path.
//!
//! A cluster is a few packets of the past, sent once more beside the media so that both together
//! have the rate that is asked about. Where the path does not carry it there is a queue for some
//! ten milliseconds, and nothing else: a viewer has these packets, or had lost them.

use super::Acked;
use super::history::Departed;
use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// How long a cluster takes; less time tells too little, as some links carry packets in lots.
const TAKES: Duration = Duration::from_millis(20);
/// So many bytes it has at least: eight packets.
const BYTES_MIN: f64 = 9_600.0;
/// The first of them say nothing: they pass at any rate where a token bucket has filled, as those
/// of shapers do (`tc`, loadtest's relay).
const BYTES_FIRST: usize = 4_800;
/// It departs in steps of this.
const STEP: Duration = Duration::from_millis(5);
/// One that takes longer is given up: nobody had time to send it.
const TAKES_MAX: Duration = Duration::from_millis(400);
/// Word of it comes within this, or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// No more than so much beyond the estimate is asked about at a time.
const FACTOR_MAX: f64 = 2.0;
/// Less than that is not asked about: it would take too long until it has all departed.
const RATE_MIN: f64 = 300_000.0;
/// More than what is wanted: a few packets do not depart at quite the rate that is asked about.
const BEYOND: f64 = 1.25;
/// The path carried it if it came at this part of the rate at which it had departed.
const CARRIED: f64 = 0.97;
/// It is a probe of that rate if it departed at this part of it: senders are late, too.
const DEPARTED: f64 = 0.85;
/// More of it must have come than this part.
const CAME_MIN: f64 = 0.8;
/// The rests after clusters that were too much, one after the other. The last one is what a viewer
/// waits at most when its path has recovered.
const RESTS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// After the estimate fell the queue drains first.
const REST_AFTER_FALL: Duration = Duration::from_millis(1_500);
/// Where there is a queue, or nothing to send, it is tried again after this.
const RETRY: Duration = Duration::from_millis(200);
/// Probes cost this part of the estimate at most, over time; and so many bytes at once: a way up
/// from the lowest layer to the highest.
const SHARE: f64 = 0.03;
const CREDIT_MAX: f64 = 48_000.0;

/// What a cluster said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The path carries this.
    Carried(Bitrate),
    /// It does not carry what was asked: it came at this rate.
    Saturated(Bitrate),
    /// Too little of it came.
    Lost,
}

/// Packets that were sent for what they say, and the media between them.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    /// Bits per second.
    rate: f64,
    began: Instant,
    /// The number of the first packet, and the bytes sent before it.
    first: u64,
    bytes_before: u64,
    /// The number after the last, once all have departed.
    end: Option<u64>,
    answer_until: Instant,
    next_step: Instant,
    /// What is known of its packets.
    came: u32,
    lost: u32,
    bytes: usize,
    /// Of these the first.
    bytes_first: usize,
    /// When the last of the first bytes came, and the last of all.
    arrivals: Option<(i64, i64)>,
    /// When those had departed.
    departures: Option<(Instant, Instant)>,
    newest: u64,
}

/// Decides on probes.
#[derive(Debug)]
pub(super) struct Prober {
    can_probe: bool,
    want: f64,
    cluster: Option<Cluster>,
    next: Option<Instant>,
    /// Clusters in a row that were too much.
    failures: usize,
    credit: f64,
    earned_at: Option<Instant>,
}

impl Prober {
    pub(super) fn new(can_probe: bool) -> Self {
        Self {
            can_probe,
            want: 0.0,
            cluster: None,
            next: None,
            failures: 0,
            credit: CREDIT_MAX,
            earned_at: None,
        }
    }

    /// What would be sent if the path carried it; zero for no more than there is.
    pub(super) fn want(&mut self, rate: Bitrate, now: Instant) {
        self.want = rate.as_bps() as f64;
        self.next.get_or_insert(now);
    }

    fn wants_more_than(&self, target: Bitrate) -> bool {
        self.can_probe && self.want > target.as_bps() as f64
    }

    /// When there may be something to send.
    pub(super) fn deadline(&self, target: Bitrate) -> Option<Instant> {
        match &self.cluster {
            Some(cluster) if cluster.end.is_none() => Some(cluster.next_step),
            Some(cluster) => Some(cluster.answer_until),
            None => self.next.filter(|_| self.wants_more_than(target)),
        }
    }

    /// How many bytes are to depart now; `sent` is the number of the next packet and the bytes of
    /// all before it.
    pub(super) fn due(
        &mut self,
        now: Instant,
        target: Bitrate,
        is_calm: bool,
        sent: (u64, u64),
    ) -> usize {
        self.earn(now, target);
        let (number, bytes) = sent;
        if self.cluster.is_none() {
            self.begin(now, target, is_calm, sent);
        }
        let Some(cluster) = &mut self.cluster else { return 0 };
        if cluster.end.is_some() {
            if now >= cluster.answer_until {
                self.failed(now);
            }
            return 0;
        }
        if now < cluster.next_step {
            return 0;
        }
        let elapsed = now.saturating_duration_since(cluster.began);
        let departed = bytes.saturating_sub(cluster.bytes_before) as f64;
        let total = (cluster.rate * TAKES.as_secs_f64() / 8.0).max(BYTES_MIN);
        if departed >= total {
            cluster.end = Some(number);
            cluster.answer_until = now + ANSWER_MAX;
            return 0;
        }
        if elapsed > TAKES_MAX {
            self.cluster = None;
            self.next = Some(now + RETRY);
            return 0;
        }
        let step = STEP.max(Duration::from_secs_f64(1_200.0 * 8.0 / cluster.rate.max(1e5)));
        cluster.next_step = now + step;
        let due = cluster.rate * (elapsed + step).as_secs_f64() / 8.0;
        (due.min(total) - departed).max(0.0) as usize
    }

    fn begin(&mut self, now: Instant, target: Bitrate, is_calm: bool, sent: (u64, u64)) {
        if !self.wants_more_than(target) || self.next.is_none_or(|next| now < next) {
            return;
        }
        let target = target.as_bps() as f64;
        let rate = (self.want * BEYOND).min((target * FACTOR_MAX).max(RATE_MIN));
        let cost = (rate * TAKES.as_secs_f64() / 8.0).max(BYTES_MIN);
        if !is_calm || self.credit < cost {
            self.next = Some(now + RETRY);
            return;
        }
        let (first, bytes_before) = sent;
        self.cluster = Some(Cluster {
            rate,
            began: now,
            first,
            bytes_before,
            end: None,
            answer_until: now,
            next_step: now,
            came: 0,
            lost: 0,
            bytes: 0,
            bytes_first: 0,
            arrivals: None,
            departures: None,
            newest: 0,
        });
    }

    fn earn(&mut self, now: Instant, target: Bitrate) {
        let since = self.earned_at.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let earned = target.as_bps() as f64 / 8.0 * SHARE * passed;
        self.credit = (self.credit + earned).min(CREDIT_MAX);
    }

    /// So many bytes have departed that are no media; none: there is nothing to send.
    pub(super) fn departed(&mut self, bytes: usize, now: Instant) {
        self.credit -= bytes as f64;
        if bytes == 0 {
            self.cluster = None;
            self.next = Some(now + RETRY);
        }
    }

    /// A packet came.
    pub(super) fn came(&mut self, departed: &Departed, acked: &Acked) {
        let Some(cluster) = self.cluster.as_mut().filter(|it| it.has(departed.number)) else {
            return;
        };
        let (at, sent) = (acked.arrived, acked.sent);
        cluster.came += 1;
        cluster.bytes += acked.size;
        if cluster.bytes_first < BYTES_FIRST {
            cluster.bytes_first = cluster.bytes;
            (cluster.arrivals, cluster.departures) = (Some((at, at)), Some((sent, sent)));
        }
        cluster.arrivals = cluster.arrivals.map(|(first, last)| (first, last.max(at)));
        cluster.departures = cluster.departures.map(|(first, last)| (first, last.max(sent)));
        cluster.newest = cluster.newest.max(departed.number);
        if departed.was_missing {
            cluster.lost = cluster.lost.saturating_sub(1);
        }
    }

    /// A packet did not come.
    pub(super) fn lost(&mut self, departed: &Departed) {
        if let Some(cluster) = self.cluster.as_mut().filter(|it| it.has(departed.number)) {
            cluster.lost += 1;
            cluster.newest = cluster.newest.max(departed.number);
        }
    }

    /// The estimate has fallen: a cluster under way would be read wrongly.
    pub(super) fn dropped(&mut self, now: Instant) {
        self.cluster = None;
        self.failures = self.failures.min(1);
        self.next = Some(now + REST_AFTER_FALL);
    }

    /// What a cluster said, once something was said of all its packets.
    pub(super) fn poll_result(&mut self, now: Instant) -> Option<Outcome> {
        let cluster = self.cluster.filter(|it| it.end.is_some_and(|end| it.newest + 1 >= end))?;
        let Some(outcome) = cluster.outcome() else {
            self.cluster = None;
            self.next = Some(now + RETRY);
            return None;
        };
        if matches!(outcome, Outcome::Carried(_)) {
            self.cluster = None;
            self.failures = 0;
            // What comes back is fresh: the next step up, if more is wanted, can follow at once.
            self.next = Some(now);
        } else {
            self.failed(now);
        }
        Some(outcome)
    }

    fn failed(&mut self, now: Instant) {
        self.cluster = None;
        self.next = Some(now + RESTS[self.failures.min(RESTS.len() - 1)]);
        self.failures += 1;
    }
}

impl Cluster {
    fn has(&self, number: u64) -> bool {
        number >= self.first && self.end.is_none_or(|end| number < end)
    }

    /// None where it departed so slowly that it says nothing.
    fn outcome(&self) -> Option<Outcome> {
        let total = self.came + self.lost;
        let Some(((first, last), (began, ended))) = self.arrivals.zip(self.departures) else {
            return Some(Outcome::Lost);
        };
        if f64::from(self.came) < f64::from(total) * CAME_MIN || self.came < 3 {
            return Some(Outcome::Lost);
        }
        let bits = (self.bytes - self.bytes_first) as f64 * 8.0;
        let came = bits / ((last - first).max(1_000) as f64 / 1e6);
        let took = ended.saturating_duration_since(began).as_secs_f64();
        let departed = (bits / took.max(0.001)).min(self.rate);
        let rate = |bits: f64| Bitrate::bps(bits as u64);
        if came < departed * CARRIED {
            return Some(Outcome::Saturated(rate(came)));
        }
        let is_said = departed >= self.rate * DEPARTED;
        is_said.then(|| Outcome::Carried(rate(came.min(departed))))
    }
}
