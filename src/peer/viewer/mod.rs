//! The send side of a viewer's session: its tracks, and what its path carries.
//!
//! - `asked`: what its RTCP asks for and says
//! - `reports`: what it is told of its tracks
//! - `sending`: one track as it is sent on
//! - `tests`: what its packets carry

mod asked;
mod reports;
mod sending;
#[cfg(test)]
mod tests;

pub use self::asked::Asked;
pub use self::sending::Sending;

use self::asked::Attention;
use super::agreement::SentMedia;
use super::estimate::{Estimate, Estimator};
use super::outgoing::Outgoing;
use super::reference_time::ReferenceTime;
use crate::media::bitrate::Bitrate;
use crate::media::codec::Kind;
use std::time::{Duration, Instant};

/// One viewer's send side.
#[derive(Debug)]
pub struct Viewer {
    outgoing: [Option<Outgoing>; 2],
    cname: String,
    next_report: Instant,
    round_trip: Option<Duration>,
    /// What the viewer's clock showed, until that has been said back.
    reference_time: Option<ReferenceTime>,
    attention: Attention,
    /// What the path carries, from when that was first asked for.
    estimator: Option<Box<Estimator>>,
    /// Packets carry transport-wide numbers.
    is_measured: bool,
}

impl Viewer {
    /// The send side of what was agreed. `random` seeds sequence numbers, one per track.
    pub fn new(
        media: Vec<SentMedia>,
        cname: String,
        rtx_share: f64,
        random: [u16; 2],
        now: Instant,
    ) -> Self {
        let mut outgoing = [None, None];
        for section in media {
            let index = section.kind.index();
            outgoing[index] = Some(Outgoing::new(section, rtx_share, random[index]));
        }
        let attention = Attention::new(now);
        let next_report = now + Self::FIRST_REPORT;
        let (round_trip, reference_time) = (None, None);
        let (estimator, is_measured) = (None, false);
        Self {
            outgoing,
            cname,
            next_report,
            round_trip,
            reference_time,
            attention,
            estimator,
            is_measured,
        }
    }

    /// Whether packets carry what tells the path: feedback costs both sides a packet for some tens
    /// of ours, so that it is asked for only while there is something to choose.
    pub fn measure(&mut self, is_measured: bool, now: Instant) {
        self.is_measured = is_measured;
        if is_measured && self.estimator.is_none() {
            let can_probe = self.tracks().any(Outgoing::takes_probes);
            self.estimator = Some(Box::new(Estimator::new(can_probe, now)));
        }
    }

    /// What the path carries. `None` while it is not measured, or nothing is known yet.
    pub fn estimate(&self, now: Instant) -> Option<Estimate> {
        self.estimator.as_ref().filter(|_| self.is_measured)?.estimate(now)
    }

    /// What would be sent if the path carried it, in all: the next layer up with what goes with it.
    /// Zero where there is none. More than the estimate is probed for.
    pub fn want(&mut self, rate: Bitrate, now: Instant) {
        if let Some(estimator) = &mut self.estimator {
            estimator.want(rate, now);
        }
    }

    /// How many bytes of the past are to be sent once more now, by [`Sending::probe`].
    pub fn probe(&mut self, now: Instant) -> usize {
        match &mut self.estimator {
            Some(estimator) if self.is_measured => estimator.probe(now),
            _ => 0,
        }
    }

    /// There was nothing that could be sent as a probe.
    pub fn give_up_probe(&mut self, now: Instant) {
        if let Some(estimator) = &mut self.estimator {
            estimator.probed(0, now);
        }
    }

    /// How many packets of transport-wide feedback were read.
    pub fn feedback_packets(&self) -> u64 {
        self.estimator.as_ref().map_or(0, |estimator| estimator.feedback_packets())
    }

    /// One track as it is sent on at this moment, if the viewer takes that kind.
    pub fn sending(&mut self, kind: Kind, now: Instant) -> Option<Sending<'_>> {
        let track = self.outgoing[kind.index()].as_mut()?;
        let estimator = self.estimator.as_deref_mut().filter(|_| self.is_measured);
        Some(Sending { track, estimator, now })
    }

    /// The send side of one track, if the viewer takes that kind.
    pub fn track(&mut self, kind: Kind) -> Option<&mut Outgoing> {
        self.outgoing[kind.index()].as_mut()
    }

    /// The tracks the viewer takes.
    pub fn tracks(&self) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.iter().flatten()
    }

    /// The round-trip time from the viewer's reports.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// When the next sender reports are due, or a part of a probe.
    pub fn deadline(&self) -> Instant {
        let estimator = self.estimator.as_ref().filter(|_| self.is_measured);
        let probe = estimator.and_then(|estimator| estimator.deadline());
        probe.map_or(self.next_report, |probe| probe.min(self.next_report))
    }
}
