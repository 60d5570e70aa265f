//! Bits per second as a type, so that no number travels without its unit.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A rate in bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(u64);

impl Bitrate {
    /// A rate of so many bits per second.
    pub const fn bps(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    /// A rate of so many kilobits (1000 bits) per second.
    pub const fn kbps(kilobits_per_second: u64) -> Self {
        Self(kilobits_per_second.saturating_mul(1000))
    }

    /// The rate at which `bytes` arrived within `span`; zero for an empty span.
    pub fn of(bytes: u64, span: Duration) -> Self {
        let micros = span.as_micros() as u64;
        if micros == 0 {
            return Self(0);
        }
        Self((u128::from(bytes) * 8_000_000 / u128::from(micros)) as u64)
    }

    /// Bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// This rate times a factor, for example a safety margin.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }
}

impl Add for Bitrate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} kb/s", self.0 / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bytes_over_time() {
        assert_eq!(Bitrate::of(1_250, Duration::from_secs(1)), Bitrate::kbps(10));
        assert_eq!(Bitrate::of(1_250, Duration::ZERO), Bitrate::bps(0));
    }
}
