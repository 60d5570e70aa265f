//! A path with a bottleneck, and the receiver behind it, in virtual time.

use super::super::Estimator;
use super::super::feedback::Feedback;
use crate::media::bitrate::Bitrate;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
struct Packet {
    /// `None`: somebody else's.
    number: Option<u16>,
    size: usize,
    sent: Instant,
}

/// A queue that is served at a rate, drops what does not fit, and has a delay behind it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) rate: Bitrate,
    pub(super) delay: Duration,
    /// As much may wait as takes this long at the rate.
    pub(super) queue_max: Duration,
    /// The part of the packets that is lost on the way whatever the rate.
    pub(super) loss: f64,
    /// Each packet is late by up to that, without overtaking others.
    pub(super) jitter: Duration,
    queue: VecDeque<Packet>,
    queued: usize,
    served_until: Instant,
    flying: VecDeque<(Instant, Packet)>,
    random: u64,
    /// The longest that a packet of ours waited, since this was last asked.
    pub(super) waited_max: Duration,
    pub(super) dropped: u64,
}

impl Link {
    pub(super) fn new(rate: Bitrate, now: Instant) -> Self {
        Self {
            rate,
            delay: Duration::from_millis(20),
            queue_max: Duration::from_millis(500),
            loss: 0.0,
            jitter: Duration::ZERO,
            queue: VecDeque::new(),
            queued: 0,
            served_until: now,
            flying: VecDeque::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            waited_max: Duration::ZERO,
            dropped: 0,
        }
    }

    pub(super) fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn takes(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate.as_bps() as f64)
    }

    pub(super) fn push(&mut self, number: Option<u16>, size: usize, now: Instant) {
        if self.takes(self.queued + size) > self.queue_max {
            self.dropped += u64::from(number.is_some());
            return;
        }
        self.queued += size;
        self.queue.push_back(Packet { number, size, sent: now });
    }

    /// Serves the queue up to now; tells what of ours has come, and when.
    pub(super) fn serve(&mut self, now: Instant) -> Vec<(u16, Instant)> {
        while let Some(&packet) = self.queue.front() {
            let done = self.served_until.max(packet.sent) + self.takes(packet.size);
            if done > now {
                break;
            }
            self.queue.pop_front();
            self.queued -= packet.size;
            self.served_until = done;
            if packet.number.is_none() {
                continue;
            }
            let waited = done.saturating_duration_since(packet.sent + self.takes(packet.size));
            self.waited_max = self.waited_max.max(waited);
            if self.random() < self.loss {
                continue;
            }
            let late = self.jitter.mul_f64(self.random());
            let last = self.flying.back().map_or(done, |(at, _)| *at);
            self.flying.push_back(((done + self.delay + late).max(last), packet));
        }
        let mut came = Vec::new();
        while let Some(&(at, packet)) = self.flying.front().filter(|(at, _)| *at <= now) {
            self.flying.pop_front();
            came.extend(packet.number.map(|number| (number, at)));
        }
        came
    }
}

/// Writes feedback as browsers do: every so often, about all since the last.
#[derive(Debug)]
pub(super) struct Receiver {
    epoch: Instant,
    pub(super) interval: Duration,
    due: Instant,
    /// What came, by extended number; `next` was not reported yet.
    came: VecDeque<(u64, u64)>,
    next: u64,
    /// On its way to the sender.
    flying: VecDeque<(Instant, Vec<u8>)>,
}

impl Receiver {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            interval: Duration::from_millis(50),
            due: now,
            came: VecDeque::new(),
            next: 0,
            flying: VecDeque::new(),
        }
    }

    pub(super) fn receive(&mut self, number: u16, at: Instant) {
        let back = i64::from(number.wrapping_sub(self.next as u16).cast_signed());
        let number = self.next.saturating_add_signed(back);
        let ticks = (at - self.epoch).as_micros() as u64 / 250 + 4_000_000;
        self.came.push_back((number, ticks));
    }

    /// Lets what is due fly, and hands over what has come to the sender.
    pub(super) fn report(&mut self, delay: Duration, now: Instant, estimator: &mut Estimator) {
        if now >= self.due {
            self.due = now + self.interval;
            self.came.make_contiguous().sort_unstable();
            while let Some(packet) = self.write() {
                self.flying.push_back((now + delay, packet));
            }
        }
        while self.flying.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, packet)) = self.flying.pop_front() else { break };
            let feedback = Feedback::read(&packet).expect("well-formed");
            estimator.on_feedback(&feedback, now);
        }
    }

    /// One packet of two-bit vectors, as far as deltas reach.
    fn write(&mut self) -> Option<Vec<u8>> {
        let &(_, first) = self.came.front()?;
        let reference = first / 256;
        let mut ticks = reference * 256;
        let (base, mut symbols, mut deltas) = (self.next, Vec::new(), Vec::new());
        while let Some(&(number, at)) = self.came.front() {
            let Ok(delta) = i16::try_from(at.cast_signed() - ticks.cast_signed()) else { break };
            if number < self.next {
                self.came.pop_front();
                continue;
            }
            if symbols.len() > 400 {
                break;
            }
            symbols.extend((self.next..number).map(|_| 0_u16));
            symbols.push(2);
            deltas.extend(delta.to_be_bytes());
            (ticks, self.next) = (at, number + 1);
            self.came.pop_front();
        }
        if symbols.is_empty() {
            return self.came.is_empty().then_some(()).and(None);
        }
        let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend((base as u16).to_be_bytes());
        packet.extend((symbols.len() as u16).to_be_bytes());
        packet.extend(((reference as u32) << 8).to_be_bytes());
        for seven in symbols.chunks(7) {
            let place = |bits, (at, symbol): (usize, &u16)| bits | symbol << (12 - 2 * at);
            let chunk: u16 = seven.iter().enumerate().fold(0xc000, place);
            packet.extend(chunk.to_be_bytes());
        }
        packet.extend(deltas);
        Some(packet)
    }
}
