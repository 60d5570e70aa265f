//! One direction of a network, by seed: delay, jitter, loss, reordering, duplication and rate.

use millrace::media::bitrate::Bitrate;
use millrace::peer::stun::{DatagramKind, classify};
use std::time::{Duration, Instant};

/// Random numbers by seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one purpose in a world with this seed.
    pub(crate) fn seeded(seed: u64, purpose: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ purpose.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Whether something happens that happens that often.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// A span below this one.
    pub(crate) fn below(&mut self, span: Duration) -> Duration {
        let nanos = span.as_nanos() as u64;
        Duration::from_nanos(if nanos == 0 { 0 } else { self.next() % nanos })
    }
}

/// Says which datagrams are lost.
pub(crate) type Lose = Box<dyn FnMut(&[u8]) -> bool>;

/// What a link does to datagrams; by default it carries them in ten milliseconds, and that is all.
pub(crate) struct Link {
    /// How long a datagram takes at least.
    pub(crate) delay: Duration,
    /// How much longer it takes at most; the order stays.
    pub(crate) jitter: Duration,
    /// The share that is lost.
    pub(crate) loss: f64,
    /// The share that is overtaken by what is sent within the next [`Link::OVERTAKEN`].
    pub(crate) reordering: f64,
    /// The share that arrives twice.
    pub(crate) duplication: f64,
    /// How much it carries; what would wait longer than its queue is long is lost.
    pub(crate) rate: Option<Bitrate>,
    /// The longest that something waits in front of it, where it has a rate.
    pub(crate) queue: Duration,
    /// So many bytes pass at once where it has rested, as through a token bucket.
    pub(crate) bucket: usize,
    /// Who else sends through it, where it has a rate.
    pub(crate) competing: Option<Competing>,
    /// When something was to leave, and how long it had to wait, where it has a rate.
    pub(crate) waits: Vec<(Instant, Duration)>,
    /// With which share a burst of losses begins, and how many it takes.
    pub(crate) bursts: (f64, u32),
    /// So often, on average, it stands still, and for how long at most: as radio links do.
    pub(crate) stalls: Option<(Duration, Duration)>,
    /// Nothing gets through meanwhile.
    pub(crate) outages: Vec<(Instant, Instant)>,
    /// Loses what this says, whatever chance says.
    pub(crate) lose: Option<Lose>,
    random: Random,
    /// Of its own, so that bursts do not change all else.
    burst_random: Random,
    /// How many more the burst takes.
    bursting: u32,
    stalls_at: Option<Instant>,
    busy_until: Option<Instant>,
    last_arrival: Option<Instant>,
}

impl Link {
    /// How late a datagram is that is overtaken, at most.
    const OVERTAKEN: Duration = Duration::from_millis(30);
    /// How long a queue is by itself.
    const QUEUE: Duration = Duration::from_millis(100);
    /// So finely others' traffic is mixed in.
    const MIX: Duration = Duration::from_millis(5);

    /// A link without faults.
    pub(crate) fn new(random: Random) -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0.0,
            reordering: 0.0,
            duplication: 0.0,
            rate: None,
            queue: Self::QUEUE,
            bucket: 0,
            competing: None,
            waits: Vec::new(),
            bursts: (0.0, 0),
            stalls: None,
            outages: Vec::new(),
            lose: None,
            burst_random: Random(!random.0),
            random,
            bursting: 0,
            stalls_at: None,
            busy_until: None,
            last_arrival: None,
        }
    }

    /// Whether nothing is lost.
    pub(crate) fn is_clean(&self) -> bool {
        let chance = self.loss + self.bursts.0;
        chance == 0.0 && self.outages.is_empty() && self.rate.is_none() && self.lose.is_none()
    }

    /// When a datagram arrives: never, once or twice.
    pub(crate) fn carry(&mut self, datagram: &[u8], now: Instant) -> [Option<Instant>; 2] {
        if self.lose.as_mut().is_some_and(|lose| lose(datagram)) {
            return [None; 2];
        }
        // Drawn for each datagram, so that one fault more does not change all others.
        let lost = self.random.happens(self.loss);
        let overtaken = self.random.happens(self.reordering);
        let twice = self.random.happens(self.duplication);
        let (late, later) = (self.random.below(Self::OVERTAKEN), self.random.below(self.jitter));
        let lost = lost | self.bursts_now() | self.is_out(now);
        // Signatures in a handshake differ in length by chance; a world must not.
        let bytes = if classify(datagram) == DatagramKind::Dtls { 1_200 } else { datagram.len() };
        let Some(sent) = self.transmit(bytes, now).filter(|_| !lost) else {
            return [None; 2];
        };
        let mut arrival = sent + self.delay + later;
        if overtaken {
            arrival += late;
        } else {
            arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
            self.last_arrival = Some(arrival);
        }
        [Some(arrival), twice.then_some(arrival + late)]
    }

    fn bursts_now(&mut self) -> bool {
        let (share, takes) = self.bursts;
        if share > 0.0 && self.bursting == 0 && self.burst_random.happens(share) {
            self.bursting = takes;
        }
        let is_lost = self.bursting > 0;
        self.bursting = self.bursting.saturating_sub(1);
        is_lost
    }

    fn is_out(&self, now: Instant) -> bool {
        self.outages.iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    /// When its last bit has left.
    fn transmit(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.rate else { return Some(now) };
        self.mix_in(rate, now);
        self.stall(now);
        let rested = now.checked_sub(takes(self.bucket as f64, rate)).unwrap_or(now);
        let begins = self.busy_until.map_or(rested, |busy| busy.max(rested));
        let waits = begins.saturating_duration_since(now);
        self.waits.push((now, waits));
        if waits > self.queue {
            return None;
        }
        let ends = begins + takes(bytes as f64, rate);
        self.busy_until = Some(ends);
        Some(ends.max(now))
    }

    /// Stands still, if that is due.
    fn stall(&mut self, now: Instant) {
        let Some((apart, most)) = self.stalls else { return };
        if self.stalls_at.is_some_and(|at| at <= now) {
            let busy = self.busy_until.map_or(now, |busy| busy.max(now));
            self.busy_until = Some(busy + self.burst_random.below(most));
            self.stalls_at = None;
        }
        let next = || now + self.burst_random.below(apart * 2);
        self.stalls_at.get_or_insert_with(next);
    }

    /// Lets others send what they have sent until now.
    fn mix_in(&mut self, rate: Bitrate, now: Instant) {
        let Some(competing) = &mut self.competing else { return };
        while competing.until + Self::MIX <= now {
            let at = competing.until;
            competing.until += Self::MIX;
            let begins = self.busy_until.map_or(at, |busy| busy.max(at));
            let is_full = begins - at > self.queue;
            let bytes = competing.sends(is_full, Self::MIX, at);
            if !is_full {
                self.busy_until = Some(begins + takes(bytes, rate));
            }
        }
    }

    /// How long what comes now would wait, where it has a rate.
    pub(crate) fn standing(&self, now: Instant) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |busy| busy.saturating_duration_since(now))
    }

    /// From now on it carries so much; what waits then waits longer, or shorter.
    pub(crate) fn set_rate(&mut self, rate: Bitrate, now: Instant) {
        if let (Some(before), Some(busy)) = (self.rate, self.busy_until)
            && busy > now
        {
            let times = before.as_bps() as f64 / rate.as_bps() as f64;
            self.busy_until = Some(now + (busy - now).mul_f64(times));
        }
        self.rate = Some(rate);
    }

    /// Shorter than that something may wait while a burst leaves.
    const BURST: Duration = Duration::from_millis(100);

    /// The longest queue in this while that did not leave with a burst: of each [`Link::BURST`] the
    /// shortest wait counts.
    pub(crate) fn stood(&self, from: Instant, to: Instant) -> Duration {
        let within: Vec<_> =
            self.waits.iter().filter(|(at, _)| (from..to).contains(at)).copied().collect();
        let mut longest = Duration::ZERO;
        for (place, (at, wait)) in within.iter().enumerate() {
            let rest = within[place..].iter().take_while(|(next, _)| *next < *at + Self::BURST);
            let shortest = rest.map(|(_, wait)| *wait).min().unwrap_or(*wait);
            longest = longest.max(shortest);
        }
        longest
    }
}

fn takes(bytes: f64, rate: Bitrate) -> Duration {
    Duration::from_secs_f64(bytes * 8.0 / rate.as_bps() as f64)
}

/// Somebody else's traffic through a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Competing {
    sort: Sort,
    began: Instant,
    /// Up to when it has sent.
    until: Instant,
    /// Bits per second.
    rate: f64,
}

/// How somebody else sends.
#[derive(Debug, Clone, Copy)]
enum Sort {
    /// For so long at its rate, then for as long nothing.
    OnOff(Duration),
    /// More and more until something is lost, then half as much, as TCP does.
    Greedy,
}

impl Competing {
    /// What a greedy one adds per second, in bits per second: a segment in each round trip of a
    /// tenth of a second.
    const GROWTH: f64 = 960_000.0;

    pub(crate) fn on_off(rate: Bitrate, each: Duration, now: Instant) -> Self {
        let rate = rate.as_bps() as f64;
        Self { sort: Sort::OnOff(each), began: now, until: now, rate }
    }

    pub(crate) fn greedy(now: Instant) -> Self {
        Self { sort: Sort::Greedy, began: now, until: now, rate: 100_000.0 }
    }

    /// How many bytes it sends in a span.
    fn sends(&mut self, is_full: bool, span: Duration, at: Instant) -> f64 {
        match self.sort {
            Sort::Greedy if is_full => self.rate = (self.rate / 2.0).max(50_000.0),
            Sort::Greedy => self.rate += Self::GROWTH * span.as_secs_f64(),
            Sort::OnOff(each) => {
                let turn = (at - self.began).as_nanos() / each.as_nanos();
                if turn % 2 == 1 {
                    return 0.0;
                }
            }
        }
        self.rate * span.as_secs_f64() / 8.0
    }
}
