//! RTP ticks, extended sequence numbers and wall time; the only conversions between them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Extends wrapping counters: RTP sequence numbers (16 bits) and timestamps (32 bits) to 64 bits.
///
/// Starts at one full turn, so that a packet from before the first one has room below it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwrapper {
    newest: Option<u64>,
}

impl Unwrapper {
    /// The extended value nearest to the newest one seen, which it moves forward.
    pub fn extend(&mut self, value: u32, bits: u32) -> u64 {
        let extended = self.peek(value, bits);
        self.newest = Some(self.newest.map_or(extended, |newest| newest.max(extended)));
        extended
    }

    /// The extended value nearest to the newest one seen, without moving.
    pub fn peek(&self, value: u32, bits: u32) -> u64 {
        let turn = 1_u64 << bits;
        let value = u64::from(value) & (turn - 1);
        let Some(newest) = self.newest else {
            return turn + value;
        };
        let distance = value.wrapping_sub(newest) & (turn - 1);
        if distance < turn / 2 {
            newest + distance
        } else {
            (newest + distance).saturating_sub(turn)
        }
    }

    /// The highest extended value so far.
    pub const fn newest(&self) -> Option<u64> {
        self.newest
    }
}

/// A point on the server's time line: the system clock, as time since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(Duration);

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_TO_UNIX: u64 = 2_208_988_800;

impl WallTime {
    /// Reads what the system clock gave.
    pub fn from_system(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// From a duration since the Unix epoch.
    pub const fn since_unix_epoch(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The 64-bit NTP timestamp of RTCP sender reports (RFC 3550 §4).
    pub fn to_ntp(self) -> u64 {
        let seconds = self.0.as_secs().wrapping_add(NTP_TO_UNIX) & 0xffff_ffff;
        let fraction = (u64::from(self.0.subsec_nanos()) << 32) / 1_000_000_000;
        seconds << 32 | fraction
    }

    /// Reads a 64-bit NTP timestamp of era 0; what lies before 1970 becomes the epoch.
    pub fn from_ntp(ntp: u64) -> Self {
        let nanos = ((ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
        let seconds = (ntp >> 32).saturating_sub(NTP_TO_UNIX);
        Self(Duration::new(seconds, nanos as u32))
    }

    /// Time since the Unix epoch.
    pub const fn as_unix(self) -> Duration {
        self.0
    }

    /// Signed microseconds from `other` to `self`.
    pub fn micros_since(self, other: Self) -> i64 {
        self.0.as_micros() as i64 - other.0.as_micros() as i64
    }

    /// This time moved by signed microseconds.
    #[must_use]
    pub fn offset_micros(self, micros: i64) -> Self {
        let moved = (self.0.as_micros() as i64).saturating_add(micros).max(0);
        Self(Duration::from_micros(moved as u64))
    }
}

/// Ties the monotonic clock to the wall clock at one moment, so that pure code can tell the wall
/// time of any `Instant` it is given without reading a clock.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// The moment on the monotonic clock.
    pub instant: Instant,
    /// The same moment on the wall clock.
    pub wall: WallTime,
}

impl Epoch {
    /// The wall time of `now`.
    pub fn wall_of(&self, now: Instant) -> WallTime {
        match now.checked_duration_since(self.instant) {
            Some(later) => WallTime(self.wall.0.saturating_add(later)),
            None => WallTime(self.wall.0.saturating_sub(self.instant - now)),
        }
    }
}

/// A span as RTP ticks of a clock.
pub fn ticks_of(span: Duration, clock_rate: u32) -> u64 {
    (span.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u64
}

/// Signed RTP ticks of a clock as microseconds.
pub fn micros_of_ticks(ticks: i64, clock_rate: u32) -> i64 {
    (i128::from(ticks) * 1_000_000 / i128::from(clock_rate.max(1))) as i64
}

/// Signed microseconds as RTP ticks of a clock.
pub fn ticks_of_micros(micros: i64, clock_rate: u32) -> i64 {
    (i128::from(micros) * i128::from(clock_rate) / 1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_both_ways() {
        let mut unwrapper = Unwrapper::default();
        let first = unwrapper.extend(65_534, 16);
        assert_eq!(unwrapper.extend(1, 16), first + 3);
        assert_eq!(unwrapper.extend(65_535, 16), first + 1);
        assert_eq!(unwrapper.newest(), Some(first + 3));
        assert_eq!(unwrapper.peek(2, 16), first + 4);
    }

    #[test]
    fn ntp_is_read_back_within_a_microsecond() {
        let wall = WallTime::since_unix_epoch(Duration::from_micros(1_764_000_000_123_456));
        let back = WallTime::from_ntp(wall.to_ntp());
        assert!(wall.micros_since(back).abs() <= 1);
    }

    #[test]
    fn ticks_and_micros_agree() {
        assert_eq!(ticks_of(Duration::from_millis(20), 48_000), 960);
        assert_eq!(micros_of_ticks(-3_000, 90_000), -33_333);
        assert_eq!(ticks_of_micros(20_000, 48_000), 960);
    }
}
