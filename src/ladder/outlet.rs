//! Frames of one made layer into packets of its stream.

use crate::bus::making::MakingWriter;
use crate::engine::command::Written;
use crate::engine::message::SenderReport;
use crate::ingest::track::{Place, VideoTrack};
use crate::media::codec::Codec;
use crate::media::every::Every;
use crate::media::frame::CLOCK_RATE;
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::PacketPool;
use crate::media::time::{WallTime, micros_of_ticks};
use crate::transcode::picture::MadeFrame;
use std::time::Duration;

/// Which moment a time of the source stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// In ticks of 90 kHz.
    pub(super) ticks: i64,
    /// The moment, on the server's clock.
    pub(super) wall: WallTime,
}

/// One made layer on its way into its stream.
#[derive(Debug)]
pub(super) struct Outlet {
    layer: LayerId,
    track: VideoTrack,
    pool: PacketPool,
    reports: Every,
    /// When the last frame is shown.
    last: Option<i64>,
    /// One was lost on its way: those until the next keyframe are of no use.
    is_broken: bool,
}

impl Outlet {
    /// Viewers' clocks are set so often.
    const REPORTS: Duration = Duration::from_secs(1);

    pub(super) fn new(layer: LayerId, payload_max: usize) -> Self {
        Self {
            layer,
            track: VideoTrack::of_layer(layer, Codec::H264, payload_max),
            pool: PacketPool::default(),
            reports: Every::new(Self::REPORTS),
            last: None,
            is_broken: true,
        }
    }

    /// Something was lost: it goes on with a keyframe.
    pub(super) const fn lose(&mut self) {
        self.is_broken = true;
    }

    /// What is written of a frame; none where it is of no use.
    pub(super) fn packets(&mut self, frame: &MadeFrame, known: Option<Known>) -> Option<Written> {
        // What is made by the next worker may be of the same pictures as the last that came.
        if self.last.is_some_and(|last| frame.ticks <= last) {
            self.is_broken |= frame.is_keyframe;
            return None;
        }
        if self.is_broken && !frame.is_keyframe {
            return None;
        }
        let ticks = u64::try_from(frame.ticks).ok()?;
        self.last = Some(frame.ticks);
        let place = Place { ticks, arrival: frame.arrival };
        let mut packets = Vec::new();
        let Self { track, pool, .. } = self;
        let format = track.write(Codec::H264, &frame.data, place, pool, &mut packets);
        if packets.is_empty() {
            return None;
        }
        self.is_broken = false;
        let report = known.filter(|_| self.reports.is_due(frame.arrival)).map(|known| {
            let micros = micros_of_ticks(frame.ticks - known.ticks, CLOCK_RATE);
            SenderReport {
                lane: Lane::Video(self.layer),
                ntp: known.wall.offset_micros(micros),
                timestamp: ticks,
                arrival: frame.arrival,
            }
        });
        Some(Written { format, report, packets, ..Written::default() })
    }

    /// Writes a frame. False: a keyframe is needed to go on.
    pub(super) fn write(
        &mut self,
        frame: &MadeFrame,
        known: Option<Known>,
        writer: &MakingWriter,
    ) -> bool {
        if let Some(written) = self.packets(frame, known) {
            self.is_broken = !writer.write(written);
        }
        !self.is_broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    /// Of 642x362.
    const SPS: [u8; 25] = [
        0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x90, 0xbf, 0x88, 0x93, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc8, 0xf1, 0x62, 0xea,
    ];

    /// An IDR with its parameter sets, or another picture, of H.264.
    fn frame(ticks: i64, is_keyframe: bool) -> MadeFrame {
        let idr: [&[u8]; 3] = [&SPS, &[0x68, 0xce, 0x0f, 0xc8], &[0x65, 0x88, 0x80]];
        let other: [&[u8]; 1] = [&[0x41, 0x9a, 0x00]];
        let nals = if is_keyframe { &idr[..] } else { &other[..] };
        let mut data = Vec::new();
        for nal in nals {
            data.extend((nal.len() as u32).to_be_bytes());
            data.extend(*nal);
        }
        MadeFrame { layer: 1, ticks, is_keyframe, arrival: Clock::system().now(), data }
    }

    fn outlet() -> Outlet {
        Outlet::new(LayerId::at(2).expect("below the most"), 1_200)
    }

    #[test]
    fn frames_become_packets_of_their_layer_at_the_times_of_the_source() {
        let mut outlet = outlet();
        assert!(outlet.packets(&frame(3_000, false), None).is_none(), "nobody can begin there");
        let wall = WallTime::since_unix_epoch(Duration::from_secs(100));
        let known = Some(Known { ticks: 96_000, wall });
        let first = outlet.packets(&frame(6_000, true), known).expect("it begins");
        assert!(first.packets.iter().all(|it| it.layer.index() == 2 && it.timestamp == 6_000));
        let report = first.report.expect("the first one tells");
        assert_eq!((report.lane, report.timestamp), (Lane::Video(outlet.layer), 6_000));
        assert_eq!(report.ntp, WallTime::since_unix_epoch(Duration::from_secs(99)));
        let second = outlet.packets(&frame(9_000, false), known).expect("it goes on");
        let after = second.packets[0].sequence;
        assert_eq!(first.packets.last().map(|it| it.sequence + 1), Some(after));
        assert!(second.report.is_none());
    }

    #[test]
    fn what_was_lost_is_followed_by_a_keyframe() {
        let mut outlet = outlet();
        assert!(outlet.packets(&frame(3_000, true), None).is_some());
        outlet.lose();
        assert!(outlet.packets(&frame(6_000, false), None).is_none());
        assert!(outlet.packets(&frame(9_000, true), None).is_some());
        assert!(outlet.packets(&frame(12_000, false), None).is_some());
    }

    #[test]
    fn a_picture_that_was_there_does_not_come_again() {
        let mut outlet = outlet();
        assert!(outlet.packets(&frame(3_000, true), None).is_some());
        assert!(outlet.packets(&frame(3_000, true), None).is_none());
        assert!(outlet.packets(&frame(6_000, false), None).is_none(), "it needs the other one");
        assert!(outlet.packets(&frame(9_000, true), None).is_some());
    }
}
