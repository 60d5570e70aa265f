//! Whether one more viewer can be served, by what serving those who are there costs.
//!
//! A decision is a function of readings and time. Publishers are never refused by load: a stream
//! costs little beside its viewers, and without it there is nothing to watch.

use crate::config::limits::Limits;
use crate::shard::gauges::Reading;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Up to where new viewers are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Marks {
    /// Share of a shard's time, 0 to 1.
    load: f64,
    /// How late batches may be.
    lateness: Duration,
    /// Resident memory of the process.
    memory_bytes: u64,
}

/// What there is too little of, with what was measured and the limit.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(super) enum Shortage {
    #[error(
        "a media thread would be {percent} % busy with one more viewer, and \
         limits.load_max_percent is {limit}"
    )]
    Load { percent: u32, limit: u32 },
    #[error("media leaves {milliseconds} ms late, and limits.lateness_max_ms is {limit}")]
    Lateness { milliseconds: u64, limit: u64 },
    #[error("the send buffer of the media port overflows; see network.udp_send_buffer_bytes")]
    Socket,
    #[error(
        "the process holds {mebibytes} MiB of memory, and limits.memory_max_bytes allows {limit} \
         MiB"
    )]
    Memory { mebibytes: u64, limit: u64 },
}

impl Shortage {
    /// As a metric's label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Lateness { .. } => "lateness",
            Self::Socket => "socket",
            Self::Memory { .. } => "memory",
        }
    }
}

impl Marks {
    /// What the configuration allows; `memory_bytes` is the limit that it leaves to the machine.
    pub(super) fn new(limits: &Limits, memory_bytes: u64) -> Self {
        let memory_bytes = match limits.memory_max_bytes {
            0 => memory_bytes,
            bytes => bytes,
        };
        let load = f64::from(limits.load_max_percent) / 100.0;
        Self { load, lateness: limits.lateness_max, memory_bytes }
    }

    /// Below these it opens again. Memory that was freed is not given back to the system at once.
    fn lower(self) -> Self {
        Self {
            load: self.load * 0.9,
            lateness: self.lateness.mul_f64(0.75),
            memory_bytes: self.memory_bytes / 100 * 97,
        }
    }

    /// What one more viewer would find too little of.
    fn shortage(&self, shards: &[Reading], connecting: usize, memory: u64) -> Option<Shortage> {
        const MEBIBYTE: u64 = 1 << 20;
        let newcomers = (connecting + 1).div_ceil(shards.len().max(1));
        let load = shards.iter().map(|shard| projected(shard, newcomers)).fold(0.0, f64::max);
        let lateness = shards.iter().map(|shard| shard.lateness).max().unwrap_or_default();
        // What was freed is not given back at once: without viewers it is no reason.
        let is_watched = shards.iter().any(|shard| shard.viewers > 0);
        if memory > self.memory_bytes && is_watched {
            let (mebibytes, limit) = (memory / MEBIBYTE, self.memory_bytes / MEBIBYTE);
            Some(Shortage::Memory { mebibytes, limit })
        } else if load > self.load {
            // Rounded so that what is above the limit reads so.
            let (percent, limit) = ((load * 100.0).ceil(), (self.load * 100.0).round());
            Some(Shortage::Load { percent: percent as u32, limit: limit as u32 })
        } else if lateness > self.lateness {
            let milliseconds = |span: Duration| span.as_millis() as u64;
            let (late, limit) = (milliseconds(lateness), milliseconds(self.lateness));
            Some(Shortage::Lateness { milliseconds: late, limit })
        } else if shards.iter().any(|shard| shard.dropped > 0) {
            Some(Shortage::Socket)
        } else {
            None
        }
    }
}

/// What the load of a shard comes to when those who are being connected are there.
///
/// Joins come faster than load is measured: so what was measured is divided by those who caused
/// it. A few viewers are too few to measure by: reading the publisher costs as much.
fn projected(shard: &Reading, newcomers: usize) -> f64 {
    const VIEWERS_MIN: f64 = 100.0;
    let (load, measured) = (f64::from(shard.load), f64::from(shard.viewers_measured));
    if measured < VIEWERS_MIN {
        return load;
    }
    load * (shard.viewers + newcomers) as f64 / measured
}

/// Open or closed to new viewers. It closes at once, and opens when it has been well for a while.
#[derive(Debug)]
struct Gate {
    marks: Marks,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Closed { shortage: Shortage, short_until: Instant },
}

impl Gate {
    /// How long it must be well.
    const WELL_FOR: Duration = Duration::from_secs(1);

    /// Takes readings in.
    fn look(&mut self, shards: &[Reading], connecting: usize, memory: u64, now: Instant) {
        let shortage = |marks: Marks| marks.shortage(shards, connecting, memory);
        self.state = match self.state {
            State::Open => match shortage(self.marks) {
                Some(shortage) => State::Closed { shortage, short_until: now },
                None => State::Open,
            },
            State::Closed { shortage: known, short_until } => {
                if shortage(self.marks.lower()).is_some() {
                    let shortage = shortage(self.marks).unwrap_or(known);
                    State::Closed { shortage, short_until: now }
                } else if now.saturating_duration_since(short_until) >= Self::WELL_FOR {
                    State::Open
                } else {
                    self.state
                }
            }
        };
    }

    const fn shortage(&self) -> Option<Shortage> {
        match self.state {
            State::Open => None,
            State::Closed { shortage, .. } => Some(shortage),
        }
    }
}

/// The gate as all requests share it; its changes are logged.
#[derive(Debug)]
pub(super) struct Admission {
    gate: Mutex<Gate>,
}

impl Admission {
    /// Joins that come at 300 a second have no more than this on their way. Anybody can make
    /// sessions that never connect: they shall not keep others out.
    const CONNECTING_COUNTED_MAX: usize = 300;

    pub(super) const fn new(marks: Marks) -> Self {
        Self { gate: Mutex::new(Gate { marks, state: State::Open }) }
    }

    /// The limit of memory that is in force.
    pub(super) fn memory_max_bytes(&self) -> u64 {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).marks.memory_bytes
    }

    /// Why no new viewer can be served now, as of the last look.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).shortage()
    }

    /// Looks at how the shards fare. Of all sessions there are, `pending` ones have an answer and
    /// have not shown themselves yet.
    pub(super) fn look(
        &self,
        shards: &[Reading],
        (pending, sessions): (usize, usize),
        memory: u64,
        now: Instant,
    ) -> Option<Shortage> {
        let connected: usize = shards.iter().map(|it| it.viewers + it.publishers).sum();
        let shown = sessions.saturating_sub(pending).saturating_sub(connected);
        let connecting = (shown + pending).min(Self::CONNECTING_COUNTED_MAX);
        let (before, after) = {
            let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            let before = gate.shortage();
            gate.look(shards, connecting, memory, now);
            (before, gate.shortage())
        };
        let viewers: usize = shards.iter().map(|shard| shard.viewers).sum();
        match (before, after) {
            (None, Some(reason)) => {
                let load: Vec<f32> = shards.iter().map(|shard| shard.load).collect();
                let late: Vec<Duration> = shards.iter().map(|shard| shard.lateness).collect();
                warn!(
                    %reason, viewers, connecting, memory, ?load, ?late, "new viewers are refused"
                );
            }
            (Some(_), None) => info!(viewers, "new viewers are taken again"),
            _ => {}
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARKS: Marks =
        Marks { load: 0.85, lateness: Duration::from_millis(120), memory_bytes: 1 << 30 };

    fn shard(load: f32, viewers: usize) -> Reading {
        Reading { load, viewers, viewers_measured: viewers as f32, ..Reading::default() }
    }

    fn gate() -> Gate {
        Gate { marks: MARKS, state: State::Open }
    }

    #[test]
    fn each_shortage_is_named_with_its_figures_and_its_option() {
        let late = Reading { lateness: Duration::from_millis(200), ..shard(0.5, 100) };
        let dropped = Reading { dropped: 1, ..shard(0.5, 100) };
        let (busy, idle) = (shard(0.9, 100), shard(0.2, 9));
        let cases: [(&[Reading], u64, &str); 4] = [
            (&[idle, busy], 0, "91 % busy with one more viewer, and limits.load_max_percent is 85"),
            (&[late], 0, "200 ms late, and limits.lateness_max_ms is 120"),
            (&[dropped], 0, "network.udp_send_buffer_bytes"),
            (&[idle], 2 << 30, "2048 MiB of memory, and limits.memory_max_bytes allows 1024 MiB"),
        ];
        for (shards, memory, expected) in cases {
            let shortage = MARKS.shortage(shards, 0, memory).expect(expected).to_string();
            assert!(shortage.contains(expected), "{shortage}");
        }
        assert_eq!(MARKS.shortage(&[shard(0.8, 100)], 0, 1 << 20), None);
    }

    #[test]
    fn those_who_are_being_connected_count_before_they_cost() {
        let shards = [shard(0.5, 1_000)];
        assert_eq!(MARKS.shortage(&shards, 600, 0), None);
        assert!(MARKS.shortage(&shards, 800, 0).is_some());
        // Half of them will come to the other shard.
        assert_eq!(MARKS.shortage(&[shard(0.5, 1_000), shard(0.4, 1_000)], 800, 0), None);
    }

    #[test]
    fn viewers_that_came_since_the_load_was_measured_count() {
        let grown = Reading { viewers: 2_000, viewers_measured: 1_000.0, ..shard(0.5, 0) };
        assert!(MARKS.shortage(&[grown], 0, 0).is_some());
        let few = Reading { viewers: 40, viewers_measured: 10.0, ..shard(0.5, 0) };
        assert_eq!(MARKS.shortage(&[few], 0, 0), None, "too few to measure by");
    }

    #[test]
    fn it_closes_at_once_and_opens_when_all_has_been_well_for_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gate = gate();
        let mut look = |load, ms| {
            gate.look(&[shard(load, 1_000)], 0, 0, at(ms));
            gate.shortage().is_none()
        };
        for (load, ms, open) in [
            (0.80, 0, true),
            (0.90, 100, false),
            (0.80, 300, false), // below the limit, and above the lower mark
            (0.70, 900, false),
            (0.70, 1_200, false),
            (0.80, 1_250, false), // the second begins anew
            (0.70, 1_300, false),
            (0.70, 2_200, false),
            (0.70, 2_300, true),
        ] {
            assert_eq!(look(load, ms), open, "at {ms} ms");
        }
    }

    /// A server whose load is in truth proportional to its viewers, and joins that come fast:
    /// what its load comes to, and how many are refused.
    fn flood(per_viewer: f64, joins_per_second: usize) -> (f64, usize) {
        /// Windows of a tenth of a second that connecting takes.
        const CONNECTING: usize = 2;
        let start = Instant::now();
        let mut gate = gate();
        let (mut sessions, mut refused) = (0, 0);
        // At the ends of windows; the last second is measured.
        let mut connected = vec![0; 10 + CONNECTING];
        for window in 0..100 {
            let measured = connected[window..].iter().take(10).sum::<usize>() as f32 / 10.0;
            let viewers = connected[window + 9];
            let load = (f64::from(measured) * per_viewer).min(1.0) as f32;
            let viewers_measured = measured;
            let reading = Reading { load, viewers_measured, viewers, ..Reading::default() };
            let now = start + Duration::from_millis(100) * window as u32;
            for _ in 0..joins_per_second / 10 {
                gate.look(&[reading], sessions - viewers, 0, now);
                match gate.shortage() {
                    None => sessions += 1,
                    Some(_) => refused += 1,
                }
            }
            connected.push(sessions);
        }
        (sessions as f64 * per_viewer, refused)
    }

    proptest! {
        /// Whatever a viewer costs and however fast they come: the limit is met, not passed.
        #[test]
        fn a_flood_of_joins_ends_at_the_limit(
            viewers_max in 600..3_000_usize,
            joins_per_second in 100..300_usize,
        ) {
            let (load, refused) = flood(1.0 / viewers_max as f64, joins_per_second);
            prop_assert!(load < 0.86, "{load}");
            prop_assert!(refused == 0 || load > 0.7, "{load}");
        }

        /// Less of everything never turns a place that was there into a refusal.
        #[test]
        fn what_is_taken_under_load_is_taken_without(
            (load, viewers, late, connecting, memory) in
                (0.0..1.0_f32, 0..3_000_usize, 0..300_u64, 0..500_usize, 0..2_u64 << 30),
            part in 0.0..1.0_f32,
        ) {
            let lateness = Duration::from_millis(late);
            let more = Reading { lateness, ..shard(load, viewers) };
            let less = Reading { load: load * part, lateness: lateness.mul_f32(part), ..more };
            if MARKS.shortage(&[more], connecting, memory).is_none() {
                prop_assert_eq!(MARKS.shortage(&[less], connecting, memory), None);
            }
        }
    }
}
