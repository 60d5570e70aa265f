//! One line for all lanes of a publisher that comes by WebRTC, and what its times stand for.
//!
//! Each lane keeps the distances that its timestamps say: the line moves them and never stretches
//! them. How far the lanes are from each other is known by their clocks: one layer of the picture
//! stands still, and the others and the sound are moved to it.

use crate::media::frame::CLOCK_RATE;
use crate::media::layer::Lane;
use crate::media::time::{Epoch, WallTime, micros_of_ticks, ticks_of_micros};
use std::collections::BTreeMap;
use std::time::Instant;

const SECOND: i64 = CLOCK_RATE as i64;

/// The line of one publisher.
#[derive(Debug)]
pub(super) struct Line {
    epoch: Epoch,
    tracks: BTreeMap<Lane, Track>,
    /// The layer of the picture that the others are moved to.
    anchor: Option<Lane>,
    /// Timestamps are on the line already.
    is_given: bool,
}

/// When a frame came, as its publisher counts and on the server's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// The extended RTP timestamp.
    pub(super) timestamp: u64,
    /// Ticks of it per second.
    pub(super) clock_rate: u32,
    pub(super) arrival: Instant,
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// In ticks of [`CLOCK_RATE`].
    pub(super) ticks: i64,
    pub(super) wall: WallTime,
}

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    /// The newest clock: ticks as the publisher counts, at 90 kHz, and what they stand for.
    clock: Option<(i64, WallTime)>,
    /// From the publisher's ticks to the line.
    offset: Option<i64>,
    /// The newest frame on the line, and when it came.
    last: Option<(i64, Instant)>,
}

impl Line {
    /// Where the first frame is: the other track may begin earlier.
    const BEGIN: i64 = 10 * SECOND;
    /// Lips and words that are no further apart are together (ITU-R BT.1359: it is noticed from 45
    /// ms on).
    const APART_MAX: i64 = SECOND / 25;
    /// Layers of a picture that are no further apart show the same: less than half a frame.
    const LAYERS_APART_MAX: i64 = SECOND / 100;
    /// A layer of which nothing came for so long holds the others no longer.
    const ANCHOR_LOST: i64 = 2 * SECOND;
    /// Timestamps that are further from their arrival have jumped.
    const JUMP: i64 = 10 * SECOND;

    pub(super) const fn new(epoch: Epoch) -> Self {
        Self { epoch, tracks: BTreeMap::new(), anchor: None, is_given: false }
    }

    /// A line that others have laid: timestamps are on it as they are.
    pub(super) const fn given(epoch: Epoch) -> Self {
        let mut line = Self::new(epoch);
        line.is_given = true;
        line
    }

    fn track(&self, lane: Lane) -> Track {
        self.tracks.get(&lane).copied().unwrap_or_default()
    }

    /// Whether it is known what timestamps of this lane stand for.
    pub(super) fn has_clock(&self, lane: Lane) -> bool {
        self.track(lane).clock.is_some()
    }

    /// A timestamp stands for this moment. What is found to be too far from the picture moves.
    pub(super) fn set_clock(
        &mut self,
        lane: Lane,
        timestamp: u64,
        clock_rate: u32,
        wall: WallTime,
    ) {
        let clock = Some((to_line(timestamp, clock_rate), wall));
        self.tracks.entry(lane).or_default().clock = clock;
        let Some(anchor) = self.anchor else { return };
        let picture = self.track(anchor);
        for (lane, track) in self.tracks.iter_mut().filter(|(lane, _)| **lane != anchor) {
            let (Some((ticks, wall)), Some(offset)) = (track.clock, track.offset) else { continue };
            let Some(together) = picture.position(wall) else { return };
            let apart = together - (ticks + offset);
            let least = if *lane == Lane::Audio { Self::APART_MAX } else { Self::LAYERS_APART_MAX };
            if (least..Self::JUMP).contains(&apart.abs()) {
                track.offset = Some(offset + apart);
            }
        }
    }

    /// Arrival stands in for a clock that is not told: of these frames the one that came with the
    /// least delay.
    pub(super) fn estimate_clock(&mut self, lane: Lane, stamps: impl Iterator<Item = Stamp>) {
        let clocks = stamps.map(|it| (it.ticks(), self.epoch.wall_of(it.arrival)));
        let least = clocks.min_by_key(|(ticks, wall)| {
            let micros = wall.micros_since(self.epoch.wall);
            ticks_of_micros(micros, CLOCK_RATE) - ticks
        });
        if let Some(clock) = least {
            self.tracks.entry(lane).or_default().clock.get_or_insert(clock);
        }
    }

    /// Places a frame; frames of a lane rise. `None` where it would be before the line begins, or
    /// sound where there is some already.
    pub(super) fn place(&mut self, lane: Lane, stamp: Stamp) -> Option<Placed> {
        let (ticks, wall) = (stamp.ticks(), self.wall_of(lane, stamp));
        if self.is_given {
            return Some(Placed { ticks, wall });
        }
        let other = self.by_others(lane, wall);
        self.find_anchor(lane, stamp.arrival);
        let track = self.tracks.entry(lane).or_default();
        let begin = || other.unwrap_or(Self::BEGIN) - ticks;
        let mut placed = ticks + *track.offset.get_or_insert_with(begin);
        if let Some((last, arrival)) = track.last {
            let passed = ticks_between(arrival, stamp.arrival);
            if (placed - last - passed).abs() > Self::JUMP {
                placed = last + passed.max(1);
                track.offset = Some(placed - ticks);
            }
            if placed <= last {
                // Pictures in another order than they are shown in: WebRTC has none.
                placed = (lane != Lane::Audio).then_some(last + 1)?;
            }
        }
        if placed < 0 {
            return None;
        }
        track.last = Some((placed, stamp.arrival));
        Some(Placed { ticks: placed, wall })
    }

    /// Where a moment is by what there is besides a lane, best by the picture.
    fn by_others(&self, lane: Lane, wall: WallTime) -> Option<i64> {
        let others = self.tracks.iter().filter(|(other, _)| **other != lane);
        let anchor = self.anchor.filter(|anchor| *anchor != lane).map(|it| self.track(it));
        let mut all = anchor.into_iter().chain(others.map(|(_, track)| *track));
        all.find_map(|track| track.position(wall))
    }

    /// The first layer that comes stays where it is, as long as it comes.
    fn find_anchor(&mut self, lane: Lane, arrival: Instant) {
        let last = self.anchor.and_then(|anchor| self.track(anchor).last);
        let is_lost = last.is_none_or(|(_, at)| ticks_between(at, arrival) > Self::ANCHOR_LOST);
        if lane != Lane::Audio && is_lost {
            self.anchor = Some(lane);
        }
    }

    /// What a timestamp stands for; where its clock makes no sense, or there is none, its arrival
    /// must do.
    fn wall_of(&self, lane: Lane, stamp: Stamp) -> WallTime {
        let arrived = self.epoch.wall_of(stamp.arrival);
        let Some((ticks, wall)) = self.track(lane).clock else { return arrived };
        let since = stamp.ticks().saturating_sub(ticks);
        let wall = wall.offset_micros(micros_of_ticks(since, CLOCK_RATE));
        let off = wall.micros_since(arrived).unsigned_abs();
        if off > micros_of_ticks(Self::JUMP, CLOCK_RATE).unsigned_abs() { arrived } else { wall }
    }
}

impl Stamp {
    fn ticks(&self) -> i64 {
        to_line(self.timestamp, self.clock_rate)
    }
}

impl Track {
    /// Where a moment is on the line, by this track.
    fn position(&self, wall: WallTime) -> Option<i64> {
        let (ticks, since) = self.clock?;
        Some(ticks + self.offset? + ticks_of_micros(wall.micros_since(since), CLOCK_RATE))
    }
}

/// A publisher's ticks, at 90 kHz. Counters of 32 bits, extended, are far below what overflows.
fn to_line(timestamp: u64, clock_rate: u32) -> i64 {
    const TICKS_MAX: u64 = 1 << 60;
    let ticks = u128::from(timestamp) * u128::from(CLOCK_RATE) / u128::from(clock_rate.max(1));
    ticks.min(u128::from(TICKS_MAX)) as i64
}

fn ticks_between(from: Instant, to: Instant) -> i64 {
    let micros = match to.checked_duration_since(from) {
        Some(later) => later.as_micros() as i64,
        None => -((from - to).as_micros() as i64),
    };
    ticks_of_micros(micros, CLOCK_RATE)
}
