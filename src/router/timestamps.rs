//! What a stream's timestamps stand for, and what they are moved by for a viewer, so that they go
//! on from layer to layer and from publisher to publisher.

use super::Router;
use crate::media::codec::Kind;
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::Packet;
use crate::media::time::WallTime;
use std::time::Instant;

impl Router {
    /// A packet says something of its lane's clock.
    pub(super) fn place(&mut self, packet: &Packet) {
        let (lane, clock_rate) = (packet.lane(), packet.codec.clock_rate());
        self.time_line.packet(lane, packet.timestamp, clock_rate, packet.arrival);
        self.shifts.packet(lane, packet.timestamp, clock_rate, packet.arrival);
    }

    /// Takes the publisher's sender report in: the timestamp is extended as its packets' are.
    pub fn sender_report(&mut self, lane: Lane, ntp: WallTime, timestamp: u64, now: Instant) {
        match lane {
            Lane::Video(layer) if self.is_made(layer) => self.time_line.made(lane, ntp, timestamp),
            _ => self.time_line.sender_report(lane, ntp, timestamp, now),
        }
    }

    /// The RTP timestamp of this moment as the publisher counts, as far as anything is known of it.
    pub fn estimate_at(&self, lane: Lane, now: Instant) -> Option<(WallTime, u64)> {
        self.time_line.estimate_at(lane, now)
    }

    /// What the timestamps of a lane are moved by for a viewer who begins with it now, so that what
    /// it is sent goes on: after a layer whose timestamps were moved so for it, if there was one.
    pub fn shift(&self, lane: Lane, after: Option<(LayerId, u64)>, now: Instant) -> u64 {
        let kind = lane.kind();
        let first = || self.shifts.lane(kind).map(|lane| (lane, self.shifts.by(kind)));
        let known = after.map(|(layer, by)| (Lane::Video(layer), by)).or_else(first);
        let Some((known, by)) = known else { return self.shifts.by(kind) };
        let at = |lane| self.time_line.estimate_at(lane, now).map(|(_, timestamp)| timestamp);
        match (at(known), at(lane)) {
            (Some(known), Some(own)) if own != known => by.wrapping_add(known.wrapping_sub(own)),
            _ => by,
        }
    }

    /// The RTP timestamp of this moment on a lane, moved by so much, for a sender report; `None`
    /// while it is not known.
    pub fn timestamp_at(&self, lane: Lane, by: u64, now: Instant) -> Option<(WallTime, u64)> {
        let (wall, timestamp) = self.time_line.timestamp_at(lane, now)?;
        Some((wall, timestamp.wrapping_add(by)))
    }

    /// The same for a viewer that nothing of this kind has begun to flow to, as it would begin.
    pub fn timestamp_to_begin_at(&self, kind: Kind, now: Instant) -> Option<(WallTime, u64)> {
        self.timestamp_at(self.shifts.lane(kind)?, self.shifts.by(kind), now)
    }
}
