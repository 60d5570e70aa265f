//! The rate at which packets came, on the viewer's clock.

use super::Acked;
use crate::media::bitrate::Bitrate;
use std::time::Duration;

/// The rate is that of the last half second, in slots.
const SLOTS: i64 = 10;
const SLOT_MICROS: i64 = 50_000;
/// Over a shorter span there is no rate.
const SPAN_MIN_MICROS: i64 = 150_000;
/// A packet that waited so long came when the path was ready for it.
const WAITED_MIN: Duration = Duration::from_millis(10);
/// What is older weighs less, by a factor of e for each of these.
const FADES_MICROS: f64 = 300_000.0;
/// Over a shorter time of waiting the path's rate is not known.
const BUSY_MIN_MICROS: f64 = 60_000.0;

/// Measures what came.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: [u32; SLOTS as usize],
    /// When the first packet came, and the newest.
    span: Option<(i64, i64)>,
    /// Bytes that waited, and how long it took until they came.
    busy_bytes: f64,
    busy_micros: f64,
}

impl Received {
    /// A packet came that had waited so long.
    pub(super) fn acked(&mut self, acked: &Acked, waited: Duration) {
        let arrived = acked.arrived;
        let (first, newest) = self.span.unwrap_or((arrived, arrived));
        let slot = |micros: i64| micros.div_euclid(SLOT_MICROS);
        if slot(arrived) + SLOTS <= slot(newest) || arrived < first {
            return;
        }
        for passed in (slot(newest) + 1..=slot(arrived)).take(SLOTS as usize) {
            self.bytes[passed.rem_euclid(SLOTS) as usize] = 0;
        }
        let in_slot = &mut self.bytes[slot(arrived).rem_euclid(SLOTS) as usize];
        *in_slot = in_slot.saturating_add(acked.size as u32);
        let gap = (arrived - newest).max(0) as f64;
        let fades = FADES_MICROS / (FADES_MICROS + gap);
        self.busy_bytes *= fades;
        self.busy_micros *= fades;
        if waited >= WAITED_MIN {
            self.busy_bytes += acked.size as f64;
            self.busy_micros += gap;
        }
        self.span = Some((first, newest.max(arrived)));
    }

    /// The rate of the last half second.
    pub(super) fn rate(&self) -> Option<Bitrate> {
        let (first, newest) = self.span?;
        let oldest = (newest.div_euclid(SLOT_MICROS) - SLOTS + 1) * SLOT_MICROS;
        let micros = newest - oldest.max(first);
        if micros < SPAN_MIN_MICROS {
            return None;
        }
        let bytes = self.bytes.iter().copied().map(u64::from).sum();
        Some(Bitrate::of(bytes, Duration::from_micros(micros.cast_unsigned())))
    }

    /// The rate at which the path let pass what waited for it: what it carries, or our part of that
    /// where others use it too.
    pub(super) fn bottleneck(&self) -> Option<Bitrate> {
        let is_known = self.busy_micros >= BUSY_MIN_MICROS;
        is_known.then(|| Bitrate::bps((self.busy_bytes * 8e6 / self.busy_micros) as u64))
    }
}
