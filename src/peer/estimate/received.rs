//! The rate at which packets came, on the viewer's clock.

use super::Acked;
use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// The last second, in slots.
const SLOTS: i64 = 20;
const SLOT_MICROS: i64 = 50_000;
/// Of these half are lately.
const LATELY: i64 = 10;
/// Over a shorter part of a span there is no rate.
const SPAN_MIN_PART: i64 = 3;
/// A packet that waited so long came when the path was ready for it.
const WAITED_MIN: Duration = Duration::from_millis(10);
/// What is older weighs less, by a factor of e for each of these.
const FADES_MICROS: f64 = 200_000.0;
/// Over a shorter time of waiting the path's rate is not known.
const BUSY_MIN_MICROS: f64 = 60_000.0;

/// Bytes of the last second.
#[derive(Debug, Default)]
struct Window {
    bytes: [u32; SLOTS as usize],
    /// The times of the first packet and of the newest.
    span: Option<(i64, i64)>,
}

impl Window {
    fn add(&mut self, at: i64, size: usize) {
        let (first, newest) = self.span.unwrap_or((at, at));
        let slot = |micros: i64| micros.div_euclid(SLOT_MICROS);
        if slot(at) + SLOTS <= slot(newest) || at < first {
            return;
        }
        for passed in (slot(newest) + 1..=slot(at)).take(SLOTS as usize) {
            self.bytes[passed.rem_euclid(SLOTS) as usize] = 0;
        }
        let in_slot = &mut self.bytes[slot(at).rem_euclid(SLOTS) as usize];
        *in_slot = in_slot.saturating_add(size as u32);
        self.span = Some((first, newest.max(at)));
    }

    /// The rate of the newest slots.
    fn rate(&self, slots: i64) -> Option<Bitrate> {
        let (first, newest) = self.span?;
        let last = newest.div_euclid(SLOT_MICROS);
        let oldest = last - slots + 1;
        let micros = newest - (oldest * SLOT_MICROS).max(first);
        if micros < slots * SLOT_MICROS / SPAN_MIN_PART {
            return None;
        }
        let in_slot = |slot: i64| u64::from(self.bytes[slot.rem_euclid(SLOTS) as usize]);
        let bytes = (oldest..=last).map(in_slot).sum();
        Some(Bitrate::of(bytes, Duration::from_micros(micros.cast_unsigned())))
    }
}

/// Bytes that waited, and how long it took until they came.
#[derive(Debug, Clone, Copy, Default)]
struct Busy {
    bytes: f64,
    micros: f64,
}

impl Busy {
    /// A packet came so long after the one before; where it had to wait, its bytes.
    fn add(&mut self, gap: f64, waited: Option<usize>) {
        let fades = FADES_MICROS / (FADES_MICROS + gap);
        self.bytes *= fades;
        self.micros *= fades;
        if let Some(size) = waited {
            self.bytes += size as f64;
            self.micros += gap;
        }
    }

    fn rate(&self) -> Option<Bitrate> {
        let is_known = self.micros >= BUSY_MIN_MICROS;
        is_known.then(|| Bitrate::bps((self.bytes * 8e6 / self.micros) as u64))
    }
}

/// Measures what came.
#[derive(Debug)]
pub(super) struct Received {
    epoch: Instant,
    came: Window,
    departed: Window,
    newest: Option<i64>,
    busy: Busy,
    /// The same since the first packet that had to wait, for as long as all behind it have to.
    run: Option<Busy>,
}

impl Received {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            came: Window::default(),
            departed: Window::default(),
            newest: None,
            busy: Busy::default(),
            run: None,
        }
    }

    /// A packet came that had waited so long.
    pub(super) fn acked(&mut self, acked: &Acked, waited: Duration) {
        let Acked { sent, arrived, size } = *acked;
        let sent = sent.saturating_duration_since(self.epoch).as_micros() as i64;
        self.came.add(arrived, size);
        self.departed.add(sent, size);
        let newest = self.newest.unwrap_or(arrived);
        let gap = (arrived - newest).max(0) as f64;
        let had_to_wait = waited >= WAITED_MIN;
        self.busy.add(gap, had_to_wait.then_some(size));
        match &mut self.run {
            Some(run) if had_to_wait => run.add(gap, Some(size)),
            // What the first waited for was no service: a path may just have stood still.
            run => *run = had_to_wait.then(Busy::default),
        }
        self.newest = Some(newest.max(arrived));
    }

    /// The rate at which packets came in the last half second.
    pub(super) fn rate(&self) -> Option<Bitrate> {
        self.came.rate(LATELY)
    }

    /// The rate at which those packets had departed, in half a second and in a whole one.
    pub(super) fn departed(&self) -> Option<(Bitrate, Bitrate)> {
        Some((self.departed.rate(LATELY)?, self.departed.rate(SLOTS)?))
    }

    /// The rate at which the path let pass what waited for it: what it carries, or our part of that
    /// where others use it too. Bursts tell.
    pub(super) fn bottleneck(&self) -> Option<Bitrate> {
        self.busy.rate()
    }

    /// The same of the queue that there is now: known sooner where a path has become another.
    pub(super) fn served(&self) -> Option<Bitrate> {
        self.run?.rate()
    }
}
