//! What a viewer is told of its tracks: sender reports, what its own clock showed, the farewell.

use super::super::outgoing::Outgoing;
use super::Viewer;
use crate::media::codec::Kind;
use crate::media::time::WallTime;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::packet::{Packet as Rtcp, marshal};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use std::time::{Duration, Instant};

impl Viewer {
    /// Between sender reports; the first comes sooner, so that lip sync starts with the picture.
    const REPORT_INTERVAL: Duration = Duration::from_secs(1);
    pub(super) const FIRST_REPORT: Duration = Duration::from_millis(100);

    /// The sender reports that are due, as one plain compound; `time_of` tells the timestamp of
    /// `now` on a track's time line. A track that was sent nothing yet is not reported; while
    /// one has no time line yet, all are reported more often, so that it does not wait.
    pub fn reports(
        &mut self,
        now: Instant,
        time_of: impl Fn(Kind) -> Option<(WallTime, u64)>,
    ) -> Option<Vec<u8>> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + Self::REPORT_INTERVAL;
        let mut packets: Vec<Box<dyn Rtcp>> = Vec::new();
        let mut chunks = Vec::new();
        let mut answer = None;
        for track in self.outgoing.iter().flatten().filter(|t| t.counters().packets > 0) {
            let Some((wall, timestamp)) = time_of(track.kind()) else {
                self.next_report = now + Self::FIRST_REPORT;
                continue;
            };
            packets.push(Box::new(track.sender_report(wall, timestamp)));
            chunks.push(self.cname_of(track.ssrc()));
            answer = self.reference_time.map(|time| time.answer(track.ssrc(), wall));
        }
        if packets.is_empty() {
            // Nothing flows yet: look again soon.
            self.next_report = now + Self::FIRST_REPORT;
            return None;
        }
        packets.push(Box::new(SourceDescription { chunks }));
        if let Some(answer) = answer {
            packets.push(Box::new(answer));
            self.reference_time = None;
        }
        marshal(&packets).ok().map(|bytes| bytes.to_vec())
    }

    /// What sender reports would say now of the tracks that were sent something: SSRC, RTP
    /// timestamp and the moment that it stands for.
    pub fn clocks(
        &self,
        time_of: impl Fn(Kind) -> Option<(WallTime, u64)>,
    ) -> [Option<(u32, u32, WallTime)>; 2] {
        Kind::ALL.map(|kind| {
            let track = self.outgoing[kind.index()].as_ref()?;
            let (wall, timestamp) = time_of(kind).filter(|_| track.counters().packets > 0)?;
            Some((track.ssrc(), timestamp as u32, wall))
        })
    }

    fn cname_of(&self, source: u32) -> SourceDescriptionChunk {
        let text = self.cname.clone().into();
        let cname = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text };
        SourceDescriptionChunk { source, items: vec![cname] }
    }

    /// The farewell (RFC 3550 §6.6) for all tracks, as a plain compound with its empty report.
    pub fn goodbye(&self) -> Option<Vec<u8>> {
        let sources: Vec<u32> = self.tracks().map(Outgoing::ssrc).collect();
        let report = ReceiverReport { ssrc: *sources.first()?, ..ReceiverReport::default() };
        let chunks = vec![self.cname_of(report.ssrc)];
        let packets: [Box<dyn Rtcp>; 3] = [
            Box::new(report),
            Box::new(SourceDescription { chunks }),
            Box::new(Goodbye { sources, ..Goodbye::default() }),
        ];
        marshal(&packets).ok().map(|bytes| bytes.to_vec())
    }
}
