//! What one way of a path does to datagrams: loses, delays, queues. Time comes in as an argument.
//!
//! The bottleneck is a token bucket with a queue before it whose tail is dropped; behind it come
//! delay and jitter. Datagrams keep their order, as they nearly always do on a real path.

use std::time::{Duration, Instant};

/// Bytes that a link lets through at once after a rest: a few packets, as a router does.
const BURST_BYTES: u64 = 4_500;

/// A link's properties. The default is a perfect one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinkSettings {
    /// Datagrams that are lost, of a hundred.
    pub loss_percent: f64,
    /// How long a datagram is under way.
    pub delay: Duration,
    /// How much longer it may be, evenly spread.
    pub jitter: Duration,
    /// Bits per second; without end where there is none.
    pub rate_bps: Option<u64>,
    /// The most a datagram may wait for those before it.
    pub queue: Option<Duration>,
    /// The most bytes that may wait.
    pub queue_bytes: Option<u64>,
}

/// One way of a path.
#[derive(Debug, Clone)]
pub struct Link {
    settings: LinkSettings,
    dice: u64,
    /// When the line has sent all that it has taken.
    free_at: Option<Instant>,
    last_out: Option<Instant>,
}

impl Link {
    /// A link whose losses and jitter follow from a seed.
    pub fn new(settings: LinkSettings, seed: u64) -> Self {
        Self { settings, dice: seed, free_at: None, last_out: None }
    }

    /// Changes its properties; what is under way arrives as it would have.
    pub fn set(&mut self, settings: LinkSettings) {
        self.settings = settings;
    }

    /// Takes a datagram, and returns when it comes out, unless it is lost.
    pub fn pass(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let LinkSettings { loss_percent, delay, jitter, .. } = self.settings;
        if self.chance() * 100.0 < loss_percent {
            return None;
        }
        let sent = self.queue(bytes as u64, now)?;
        let out = sent + delay + jitter.mul_f64(self.chance());
        let out = self.last_out.map_or(out, |last| out.max(last));
        self.last_out = Some(out);
        Some(out)
    }

    /// How long a datagram that comes now waits for those before it.
    pub fn backlog(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// When the line has sent it, if there is room for it in the queue.
    fn queue(&mut self, bytes: u64, now: Instant) -> Option<Instant> {
        let Some(rate) = self.settings.rate_bps.filter(|rate| *rate > 0) else {
            self.free_at = None;
            return Some(now);
        };
        let time = |bytes: u64| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        // A full bucket is a line that has been free for the time of a burst.
        let rested = now.checked_sub(time(BURST_BYTES)).unwrap_or(now);
        let start = self.free_at.map_or(rested, |at| at.max(rested));
        let wait = start.saturating_duration_since(now);
        let waiting_bytes = wait.as_secs_f64() * rate as f64 / 8.0;
        let too_long = self.settings.queue.is_some_and(|limit| wait > limit);
        let too_much = self
            .settings
            .queue_bytes
            .is_some_and(|limit| waiting_bytes + bytes as f64 > limit as f64);
        if too_long || (wait > Duration::ZERO && too_much) {
            return None;
        }
        let end = start + time(bytes);
        self.free_at = Some(end);
        Some(end.max(now))
    }

    /// From 0 up to 1 (Knuth's MMIX generator).
    fn chance(&mut self) -> f64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 40) as f64 / (1_u64 << 24) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packets of a size at an interval; returns how long each was under way.
    fn sent(
        link: &mut Link,
        count: u32,
        bytes: usize,
        interval: Duration,
    ) -> Vec<Option<Duration>> {
        let start = Instant::now();
        let times = (0..count).map(|number| start + interval * number);
        times.map(|at| Some(link.pass(bytes, at)?.duration_since(at))).collect()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_perfect_link_passes_everything_at_once() {
        let mut link = Link::new(LinkSettings::default(), 1);
        assert!(sent(&mut link, 100, 1_200, MS).iter().all(|it| *it == Some(Duration::ZERO)));
    }

    #[test]
    fn losses_are_as_many_as_set_and_the_same_for_a_seed() {
        let settings = LinkSettings { loss_percent: 10.0, ..LinkSettings::default() };
        let lost = |seed| {
            let passed = sent(&mut Link::new(settings, seed), 10_000, 100, MS);
            passed.iter().filter(|it| it.is_none()).count()
        };
        assert!((850..1_150).contains(&lost(3)), "{}", lost(3));
        assert_eq!(lost(3), lost(3));
        let all = LinkSettings { loss_percent: 100.0, ..settings };
        assert!(sent(&mut Link::new(all, 1), 100, 1, MS).iter().all(Option::is_none));
    }

    #[test]
    fn delay_and_jitter_add_up_and_keep_the_order() {
        let settings = LinkSettings { delay: 20 * MS, jitter: 10 * MS, ..LinkSettings::default() };
        let mut link = Link::new(settings, 5);
        let start = Instant::now();
        let mut last = start;
        for number in 0..1_000 {
            let at = start + MS * number;
            let out = link.pass(100, at).expect("nothing is lost");
            assert!((20 * MS..=30 * MS).contains(&out.duration_since(at)));
            assert!(out >= last);
            last = out;
        }
    }

    #[test]
    fn a_rate_lets_a_burst_through_and_then_its_own_pace() {
        let settings = LinkSettings { rate_bps: Some(1_000_000), ..LinkSettings::default() };
        let mut link = Link::new(settings, 1);
        let waits = sent(&mut link, 40, 1_250, Duration::ZERO);
        assert_eq!(waits[..3], [Some(Duration::ZERO); 3]);
        // 1250 bytes take 10 ms at 1 Mb/s; the bucket held 3.6 of them.
        assert_eq!(waits[9].map(|it| it.as_millis()), Some(64));
        assert_eq!(waits[39].map(|it| it.as_millis()), Some(364));
    }

    #[test]
    fn a_full_queue_drops_its_tail() {
        for limit in [
            LinkSettings { queue: Some(50 * MS), ..LinkSettings::default() },
            LinkSettings { queue_bytes: Some(6_250), ..LinkSettings::default() },
        ] {
            let settings = LinkSettings { rate_bps: Some(1_000_000), ..limit };
            let mut link = Link::new(settings, 1);
            let waits = sent(&mut link, 100, 1_250, Duration::ZERO);
            let passed = waits.iter().flatten().count();
            assert!((8..=9).contains(&passed), "{limit:?}: {passed}");
            assert!(waits.iter().flatten().all(|wait| *wait <= 64 * MS), "{waits:?}");
            // What is offered at the rate passes again once the queue has drained a little.
            let later = Instant::now() + Duration::from_secs(1);
            assert!(link.pass(1_250, later).is_some());
        }
    }
}
