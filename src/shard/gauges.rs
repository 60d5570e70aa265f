//! What a shard says of itself ten times a second, for others to read at any time.
//!
//! The numbers are single words that are written one by one: a reader may see some of one moment
//! and some of the next, which is fine for what is decided by them.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How a shard fares: what it measured during the last second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// The share of wall time that serving those who are there took: 0 to 1.
    pub load: f32,
    /// How many viewers it served meanwhile, on average.
    pub viewers_measured: f32,
    /// Viewers that are connected now.
    pub viewers: usize,
    /// Publishers that are connected now.
    pub publishers: usize,
    /// How long after its oldest packet came a batch was completely served: what lasts, without
    /// single keyframes.
    pub lateness: Duration,
    /// Datagrams for which the socket's send buffer had no room.
    pub dropped: u64,
}

/// A shard's last [`Reading`].
#[derive(Debug, Default)]
pub struct Gauges {
    load: AtomicU32,
    viewers_measured: AtomicU32,
    viewers: AtomicUsize,
    publishers: AtomicUsize,
    lateness_micros: AtomicU64,
    dropped: AtomicU64,
}

impl Gauges {
    /// Sets what is read from now on.
    pub fn set(&self, reading: Reading) {
        let Reading { load, viewers_measured, viewers, publishers, lateness, dropped } = reading;
        let micros = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.load.store(load.to_bits(), Ordering::Relaxed);
        self.viewers_measured.store(viewers_measured.to_bits(), Ordering::Relaxed);
        self.viewers.store(viewers, Ordering::Relaxed);
        self.publishers.store(publishers, Ordering::Relaxed);
        self.lateness_micros.store(micros, Ordering::Relaxed);
        self.dropped.store(dropped, Ordering::Relaxed);
    }

    /// What the shard said last.
    pub fn read(&self) -> Reading {
        Reading {
            load: f32::from_bits(self.load.load(Ordering::Relaxed)),
            viewers_measured: f32::from_bits(self.viewers_measured.load(Ordering::Relaxed)),
            viewers: self.viewers.load(Ordering::Relaxed),
            publishers: self.publishers.load(Ordering::Relaxed),
            lateness: Duration::from_micros(self.lateness_micros.load(Ordering::Relaxed)),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_read() {
        let gauges = Gauges::default();
        assert_eq!(gauges.read(), Reading::default());
        let reading = Reading {
            load: 0.25,
            viewers_measured: 7.5,
            viewers: 8,
            publishers: 1,
            lateness: Duration::from_millis(3),
            dropped: 9,
        };
        gauges.set(reading);
        assert_eq!(gauges.read(), reading);
    }
}
