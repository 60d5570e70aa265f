//! RTP timestamps of sound and every layer on the server's clock, for sender reports with kept lip
//! sync.
//!
//! The publisher's sender reports tie each lane's timestamps to one clock, its own. One common
//! offset moves that clock onto the server's, so the lanes keep their distance to each other
//! whatever the network does. Where no sender report comes, arrival times must do.

use crate::media::layer::Lane;
use crate::media::time::{Epoch, WallTime, micros_of_ticks, ticks_of_micros};
use std::time::{Duration, Instant};

/// The time line of one stream.
#[derive(Debug, Clone)]
pub struct TimeLine {
    epoch: Epoch,
    clocks: Vec<(Lane, Clock)>,
    offset: Offset,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    rate: u32,
    began: Instant,
    /// The newest sender report: wall time and RTP timestamp.
    report: Option<(WallTime, u64)>,
    /// It is by the server's clock, as of what is made here.
    is_ours: bool,
    /// The packet that came with the least delay: its arrival and RTP timestamp.
    earliest: (WallTime, u64),
}

/// Server clock minus publisher clock: the least of the last samples, since delay only adds.
#[derive(Debug, Clone, Default)]
struct Offset {
    samples: [Option<i64>; Offset::SAMPLES],
    next: usize,
}

impl Offset {
    /// Sixteen reports are eight seconds of two tracks: long enough to find a quick one, short
    /// enough to follow clocks that drift.
    const SAMPLES: usize = 32;

    fn add(&mut self, micros: i64) {
        self.samples[self.next] = Some(micros);
        self.next = (self.next + 1) % Self::SAMPLES;
    }

    fn least(&self) -> Option<i64> {
        self.samples.iter().flatten().copied().min()
    }
}

impl TimeLine {
    /// How long a lane waits for its first sender report before arrival times are used.
    const REPORT_WAIT: Duration = Duration::from_secs(5);

    /// A time line on the server's clock.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, clocks: Vec::new(), offset: Offset::default() }
    }

    fn clock(&self, lane: Lane) -> Option<&Clock> {
        self.clocks.iter().find(|(of, _)| *of == lane).map(|(_, clock)| clock)
    }

    fn clock_mut(&mut self, lane: Lane) -> Option<&mut Clock> {
        self.clocks.iter_mut().find(|(of, _)| *of == lane).map(|(_, clock)| clock)
    }

    /// A packet arrived.
    pub fn packet(&mut self, lane: Lane, timestamp: u64, clock_rate: u32, arrival: Instant) {
        let wall = self.epoch.wall_of(arrival);
        let Some(clock) = self.clock_mut(lane) else {
            let earliest = (wall, timestamp);
            let (rate, began, report, is_ours) = (clock_rate, arrival, None, false);
            self.clocks.push((lane, Clock { rate, began, report, is_ours, earliest }));
            return;
        };
        clock.rate = clock_rate;
        let (least, since) = clock.earliest;
        let ticks = timestamp.wrapping_sub(since).cast_signed();
        let expected = least.offset_micros(micros_of_ticks(ticks, clock_rate));
        if wall < expected {
            clock.earliest = (wall, timestamp);
        }
    }

    /// The publisher reported which RTP timestamp its clock's `ntp` has.
    pub fn sender_report(&mut self, lane: Lane, ntp: WallTime, timestamp: u64, now: Instant) {
        let Some(clock) = self.clock_mut(lane) else { return };
        clock.report = Some((ntp, timestamp));
        clock.is_ours = false;
        self.offset.add(self.epoch.wall_of(now).micros_since(ntp));
    }

    /// A timestamp of what is made here stands for this moment on the server's clock: that says
    /// nothing of the publisher's.
    pub fn made(&mut self, lane: Lane, wall: WallTime, timestamp: u64) {
        if let Some(clock) = self.clock_mut(lane) {
            clock.report = Some((wall, timestamp));
            clock.is_ours = true;
        }
    }

    /// The RTP timestamp of `now` with its wall time; `None` while a sender report may still come.
    pub fn timestamp_at(&self, lane: Lane, now: Instant) -> Option<(WallTime, u64)> {
        let clock = self.clock(lane)?;
        let has_waited = now.duration_since(clock.began) >= Self::REPORT_WAIT;
        self.estimate_at(lane, now).filter(|_| clock.report.is_some() || has_waited)
    }

    /// The same as far as anything is known: while a sender report may still come, as arrival times
    /// have it.
    pub fn estimate_at(&self, lane: Lane, now: Instant) -> Option<(WallTime, u64)> {
        let clock = self.clock(lane)?;
        let wall = self.epoch.wall_of(now);
        let offset = if clock.is_ours { Some(0) } else { self.offset.least() };
        let (known_wall, timestamp) = match (clock.report, offset) {
            (Some((ntp, timestamp)), Some(offset)) => (ntp.offset_micros(offset), timestamp),
            _ => clock.earliest,
        };
        let ticks = ticks_of_micros(wall.micros_since(known_wall), clock.rate);
        Some((wall, timestamp.wrapping_add_signed(ticks)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::layer::LayerId;

    const VIDEO: Lane = Lane::Video(LayerId::ONLY);
    const MINUTE: Duration = Duration::from_mins(1);

    fn epoch() -> Epoch {
        let wall = WallTime::since_unix_epoch(Duration::from_hours(500_000));
        Epoch { instant: Instant::now(), wall }
    }

    /// Microseconds between the moments at which two timestamps are due.
    fn skew(line: &TimeLine, now: Instant, audio: u64, video: u64) -> i64 {
        let (_, a) = line.timestamp_at(Lane::Audio, now).expect("audio is on the time line");
        let (_, v) = line.timestamp_at(VIDEO, now).expect("video is on the time line");
        micros_of_ticks(a.wrapping_sub(audio).cast_signed(), 48_000)
            - micros_of_ticks(v.wrapping_sub(video).cast_signed(), 90_000)
    }

    #[test]
    fn lip_sync_survives_jitter_and_a_publisher_whose_clock_is_off() {
        let epoch = epoch();
        let start = epoch.instant + MINUTE;
        let mut line = TimeLine::new(epoch);
        line.packet(Lane::Audio, 1_000, 48_000, start + Duration::from_millis(80));
        line.packet(VIDEO, 5_000, 90_000, start + Duration::from_millis(3));
        assert_eq!(line.timestamp_at(Lane::Audio, start), None, "a report may still come");
        let first = start + Duration::from_millis(80);
        let estimate = line.estimate_at(Lane::Audio, first);
        assert_eq!(estimate, Some((epoch.wall_of(first), 1_000)), "who cannot wait is told this");
        let clock = WallTime::since_unix_epoch(Duration::from_secs(77));
        line.sender_report(Lane::Audio, clock, 1_000, start + Duration::from_millis(70));
        let later = clock.offset_micros(1_000_000);
        let after = start + Duration::from_millis(1_004);
        line.sender_report(VIDEO, later, 5_000 + 90_000, after);
        assert!(skew(&line, after, 1_000, 5_000).abs() <= 40);
        let (wall, timestamp) = line.timestamp_at(VIDEO, after).expect("known");
        assert_eq!(wall, epoch.wall_of(after));
        let behind = micros_of_ticks(timestamp.wrapping_sub(95_000).cast_signed(), 90_000);
        assert!(behind.abs() <= 40, "the quickest report sets the offset, {behind}");
    }

    #[test]
    fn what_is_made_here_keeps_its_time_whatever_clock_its_publisher_has() {
        let epoch = epoch();
        let made = Lane::Video(LayerId::at(1).expect("below the most"));
        for hours in [0, 499_000, 900_000] {
            let mut line = TimeLine::new(epoch);
            let at = |ms| epoch.instant + MINUTE + Duration::from_millis(ms);
            for ms in (0..5_000).step_by(500) {
                line.packet(VIDEO, 9_000 + ms * 90, 90_000, at(ms));
                line.packet(made, 70_000 + ms * 90, 90_000, at(ms + 15));
                let clock = WallTime::since_unix_epoch(Duration::from_hours(hours));
                let ntp = clock.offset_micros(ms.cast_signed() * 1_000);
                line.sender_report(VIDEO, ntp, 9_000 + ms * 90, at(ms));
                line.made(made, epoch.wall_of(at(ms)), 70_000 + ms * 90);
            }
            let own = line.timestamp_at(VIDEO, at(5_000)).map(|(_, it)| it);
            let of_it = line.timestamp_at(made, at(5_000)).map(|(_, it)| it);
            assert_eq!((own, of_it), (Some(459_000), Some(520_000)), "{hours}");
        }
    }

    #[test]
    fn without_sender_reports_arrival_times_do_after_a_while() {
        let epoch = epoch();
        let mut line = TimeLine::new(epoch);
        line.packet(VIDEO, 0, 90_000, epoch.instant + Duration::from_millis(30));
        line.packet(VIDEO, 9_000, 90_000, epoch.instant + Duration::from_millis(110));
        let now = epoch.instant + Duration::from_secs(10);
        let (_, timestamp) = line.timestamp_at(VIDEO, now).expect("known by now");
        assert_eq!(timestamp, 90_000 * 10 - 900, "10 ms is the least delay seen");
    }

    #[test]
    fn absurd_reports_are_arithmetic_and_nothing_worse() {
        let epoch = epoch();
        let mut line = TimeLine::new(epoch);
        line.packet(VIDEO, u64::MAX, 90_000, epoch.instant);
        for ntp in [0, 1, u64::MAX] {
            line.sender_report(VIDEO, WallTime::from_ntp(ntp), u64::MAX, epoch.instant);
            assert!(line.timestamp_at(VIDEO, epoch.instant + MINUTE).is_some());
        }
    }
}
