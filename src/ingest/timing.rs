//! One unbroken time line for both tracks of a publisher, whatever its clock does. Pure.
//!
//! A publisher's times start anywhere, jump, and run at a pace of their own. What viewers get runs
//! on: a jump is no longer a gap than it took to arrive, and both tracks move by the same, so that
//! they stay together. Who has fallen behind is not played from tape: what is late is left out up
//! to a keyframe that is nearly on time. Fuzz target: `timing`.
//!
//! All times here are in ticks of 90 kHz. The clock is the server's, from the first frame's arrival
//! on; the line is what viewers get, and begins with the clock.

use super::pace::Pace;
use crate::media::codec::Kind;
use crate::media::frame::{CLOCK_RATE, Frame};
use crate::media::time::{micros_of_ticks, ticks_of};
use std::time::{Duration, Instant};
use tracing::debug;

const SECOND: i64 = CLOCK_RATE as i64;
/// Where the line begins in what viewers get: nothing that is placed before it underflows, not as
/// 48 kHz either.
const LINE_START: i64 = 1 << 34;

/// The time line of one publisher.
#[derive(Debug)]
pub struct Timing {
    late_max: i64,
    /// When the clock began.
    epoch: Option<Instant>,
    tracks: [Track; 2],
    /// When the newest video frames are presented; none is at the same time.
    presented: [i64; Timing::PRESENTED],
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Onto the line.
    At(Placed),
    /// Nowhere: its publisher is too far behind, and this is not where to go on.
    Late,
    /// Nowhere: its times cannot be, or it would sound at the same time as another one.
    Misplaced,
}

/// A place on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// When it is presented, in ticks of 90 kHz.
    pub ticks: u64,
    /// When it is decoded, in the same ticks; these rise from frame to frame of a track.
    pub decode_ticks: i64,
    /// The moment on the server's clock that these ticks stand for: when it would have arrived with
    /// the least delay. The same for both tracks, so that sender reports made of it keep them
    /// together.
    pub moment: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    /// From the publisher's times to the line.
    offset: i64,
    /// The newest frame, placed or not.
    last: Option<Last>,
    /// The newest frame on the line.
    placed: Option<OnLine>,
    pace: Pace,
    /// It is too far behind.
    behind: Option<Behind>,
}

/// A frame's times, as its publisher counts, and when it came.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    decode: i64,
    arrival: i64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    stamp: Stamp,
    /// From the frame before to this one.
    interval: i64,
}

#[derive(Debug, Clone, Copy)]
struct OnLine {
    decode: i64,
    present: i64,
    arrival: i64,
}

/// A publisher that is too far behind: does it catch up, or stay so?
#[derive(Debug, Clone, Copy)]
struct Behind {
    since: i64,
    /// From where on its pace is measured.
    mark: Stamp,
    /// It sends no faster than it would live: there is nothing that it catches up with.
    is_steady: bool,
}

impl Timing {
    /// A jump is a step of the publisher's clock that differs by more from that of ours.
    const JUMP: i64 = SECOND;
    /// The tracks of a publisher have one clock if they begin no further apart.
    const APART_MAX: i64 = 10 * SECOND;
    /// No encoder presents a picture so long after or before it is decoded.
    const REORDER_MAX: i64 = 10 * SECOND;
    /// Beyond that, times could overflow.
    const TICKS_MAX: u64 = 1 << 60;
    /// Sound that overlaps by less was rounded.
    const OVERLAP_MAX: i64 = SECOND / 50;
    /// Two ticks are more than a sample of 48 kHz.
    const NEXT: i64 = 2;
    /// No stream reorders more pictures (H.264 §A.3.1).
    const PRESENTED: usize = 16;
    /// Who still catches up after that is taken as he is.
    const CATCH_UP_MAX: i64 = 10 * SECOND;
    /// So long a keyframe is waited for; decoders go on without one then.
    const KEYFRAME_WAIT: i64 = 15 * SECOND;
    /// A track that is silent for longer does not hold up the other.
    const SILENCE: i64 = 3 * SECOND;

    /// A line on which nobody is later than `late_max`.
    pub fn new(late_max: Duration) -> Self {
        let late_max = ticks_of(late_max, CLOCK_RATE).min(Self::TICKS_MAX).cast_signed();
        let presented = [i64::MIN; Self::PRESENTED];
        Self { late_max, epoch: None, tracks: [Track::default(); 2], presented }
    }

    /// Places a frame; `starts`: a decoder can start with it.
    pub fn place(&mut self, frame: &Frame, starts: bool) -> Placement {
        let Some((stamp, reorder)) = self.read(frame) else { return Placement::Misplaced };
        let kind = frame.coding.kind();
        self.follow(kind, stamp);
        if self.is_behind(kind, starts, stamp) {
            return Placement::Late;
        }
        let track = &mut self.tracks[kind.index()];
        track.pace.observe(track.delay(stamp), stamp.arrival);
        // What sounded while nothing was seen is left out as well.
        if kind == Kind::Audio && self.is_video_behind(stamp.arrival) {
            return Placement::Late;
        }
        self.put(kind, stamp, reorder)
    }

    /// A frame's times on the clock, and how much later it is presented than decoded; `None` where
    /// they cannot be.
    fn read(&mut self, frame: &Frame) -> Option<(Stamp, i64)> {
        let epoch = *self.epoch.get_or_insert(frame.arrival);
        let since = frame.arrival.saturating_duration_since(epoch);
        let arrival = ticks_of(since, CLOCK_RATE).min(Self::TICKS_MAX).cast_signed();
        let decode = frame.decode_ticks;
        let reorder = frame.present_ticks.checked_sub(decode)?;
        let possible = decode.unsigned_abs() <= Self::TICKS_MAX
            && reorder.unsigned_abs() <= Self::REORDER_MAX.unsigned_abs();
        possible.then_some((Stamp { decode, arrival }, reorder))
    }

    /// Follows the publisher's clock: finds where its times are on the line, now that it may have
    /// jumped there.
    fn follow(&mut self, kind: Kind, stamp: Stamp) {
        let other = self.tracks[1 - kind.index()];
        let track = &mut self.tracks[kind.index()];
        let mut interval = 0;
        if let Some(Last { stamp: last, .. }) = track.last {
            let (step, passed) = (stamp.decode - last.decode, stamp.arrival - last.arrival);
            interval = step.clamp(0, SECOND / 10);
            track.pace.note_stall(passed - step);
            let is_early = track.delay(stamp) < track.pace.best() - Self::JUMP;
            if step < -Self::JUMP || (step - passed > Self::JUMP && is_early) {
                interval = track.last.map_or(0, |last| last.interval);
                let before = track.offset;
                track.offset = track.rejoin(&other, stamp, interval);
                debug!(%kind, moved = track.offset - before, "the publisher's clock jumped");
            }
        } else {
            let shared = Track { offset: other.offset, ..*track };
            let apart = shared.delay(stamp) - other.pace.best();
            let is_shared = other.last.is_some() && apart.abs() <= Self::APART_MAX;
            track.offset = if is_shared { other.offset } else { stamp.arrival - stamp.decode };
            track.pace = Pace::new(track.delay(stamp), stamp.arrival);
        }
        track.last = Some(Last { stamp, interval });
    }

    /// Whether a frame is left out since its track is too far behind. Where that is over, or will
    /// stay so, the track goes on with a start.
    fn is_behind(&mut self, kind: Kind, starts: bool, stamp: Stamp) -> bool {
        let decides = kind == Kind::Video || !self.has_video(stamp.arrival);
        let late_max = self.late_max;
        let track = &mut self.tracks[kind.index()];
        let late = track.delay(stamp) - track.pace.best();
        if track.behind.is_none() && late <= late_max {
            return false;
        }
        let behind = track.behind.get_or_insert(Behind::new(stamp));
        behind.watch(stamp);
        let (is_steady, waited) = (behind.is_steady, stamp.arrival - behind.since);
        if !starts && kind == Kind::Video && waited <= Self::KEYFRAME_WAIT {
            return true;
        }
        if late > late_max / 2 {
            if !is_steady && waited <= Self::CATCH_UP_MAX {
                return true;
            }
            debug!(%kind, late, "the publisher stays behind: this is live now");
            if decides {
                self.move_line(late);
            } else {
                track.pace.accept(late);
            }
        }
        self.tracks[kind.index()].behind = None;
        false
    }

    /// Moves what comes from now on ahead, both tracks by the same.
    fn move_line(&mut self, by: i64) {
        for track in &mut self.tracks {
            track.offset += by;
        }
    }

    /// Puts a frame on the line, after all that is there of its track.
    fn put(&mut self, kind: Kind, stamp: Stamp, reorder: i64) -> Placement {
        let track = &mut self.tracks[kind.index()];
        let mut decode = stamp.decode + track.offset;
        if let Some(placed) = track.placed {
            if kind == Kind::Audio && placed.decode - decode > Self::OVERLAP_MAX {
                return Placement::Misplaced;
            }
            decode = decode.max(placed.decode + Self::NEXT);
        }
        let mut present = decode + reorder;
        match (kind, track.placed) {
            (Kind::Audio, Some(placed)) => present = present.max(placed.present + Self::NEXT),
            (Kind::Audio, None) => {}
            (Kind::Video, _) => {
                while self.presented.contains(&present) {
                    present += 1;
                }
                self.presented.rotate_right(1);
                self.presented[0] = present;
            }
        }
        track.placed = Some(OnLine { decode, present, arrival: stamp.arrival });
        let Ok(ticks) = u64::try_from(LINE_START + present) else { return Placement::Misplaced };
        let decode_ticks = LINE_START + decode;
        Placement::At(Placed { ticks, decode_ticks, moment: self.moment(present) })
    }

    /// The moment that a place on the line stands for.
    fn moment(&self, line: i64) -> Instant {
        let known = self.tracks.iter().filter(|track| track.last.is_some());
        let delay = known.map(|track| track.pace.best()).min().unwrap_or(0);
        let micros = micros_of_ticks(line + delay, CLOCK_RATE);
        let since = Duration::from_micros(micros.unsigned_abs());
        let epoch = self.epoch.expect("a frame has been read, and with that the clock began");
        let moment = if micros < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
        moment.unwrap_or(epoch)
    }

    fn has_video(&self, now: i64) -> bool {
        let newest = self.tracks[Kind::Video.index()].last;
        newest.is_some_and(|last| now - last.stamp.arrival <= Self::SILENCE)
    }

    fn is_video_behind(&self, now: i64) -> bool {
        self.tracks[Kind::Video.index()].behind.is_some() && self.has_video(now)
    }
}

impl Track {
    /// How much later than its place on the line a frame comes.
    const fn delay(&self, stamp: Stamp) -> i64 {
        stamp.arrival - (stamp.decode + self.offset)
    }

    /// Where the line goes on after a jump: where the other track has jumped to, if that was the
    /// same jump; else as much later than the last frame as this one came.
    fn rejoin(&self, other: &Self, stamp: Stamp, interval: i64) -> i64 {
        let shared = Self { offset: other.offset, ..*self };
        let apart = shared.delay(stamp) - self.pace.best();
        if other.last.is_some() && other.offset != self.offset && apart.abs() <= Timing::JUMP {
            return other.offset;
        }
        let next = match self.placed {
            Some(placed) => placed.decode + (stamp.arrival - placed.arrival).max(interval),
            None => stamp.arrival - self.pace.best(),
        };
        next - stamp.decode
    }
}

impl Behind {
    /// So long a pace is measured for at least, and for at most.
    const WATCH: i64 = SECOND * 3 / 10;
    const WATCH_MAX: i64 = SECOND;

    const fn new(stamp: Stamp) -> Self {
        Self { since: stamp.arrival, mark: stamp, is_steady: false }
    }

    fn watch(&mut self, stamp: Stamp) {
        let (passed, step) = (stamp.arrival - self.mark.arrival, stamp.decode - self.mark.decode);
        if passed >= Self::WATCH {
            self.is_steady = step <= passed + passed / 5;
        }
        if passed >= Self::WATCH_MAX {
            self.mark = stamp;
        }
    }
}

#[cfg(test)]
mod tests;
