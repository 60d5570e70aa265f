//! Which frames a viewer is not sent, and where that leaves no gap in its sequence numbers.
//!
//! What becomes of a packet follows from its timestamp and its layers alone, once a later one has
//! come: so it is the same each time that it is asked for.

use super::Limits;
use super::numbers::{Numbers, Pictures};
use super::ring::Ring;
use crate::codec::descriptor::Descriptor;
use crate::media::packet::Packet;

/// Packets in a row that have numbers, whether they came or not.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The publisher's sequence number of the first, and the viewer's.
    source: u64,
    out: u64,
    len: u64,
}

/// From a timestamp on.
#[derive(Debug, Clone, Copy)]
struct Since {
    timestamp: u64,
    limits: Limits,
}

/// The newest packets that came.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    /// The highest timestamp.
    timestamp: u64,
    /// Of that picture something was left out already, or sent as its end: for it nothing changes
    /// any more.
    is_settled: bool,
    /// Timestamp and spatial layer of the packet with the highest sequence number.
    frame: (u64, u8),
}

/// Where a packet lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) out: u64,
    /// Whether its frame is sent.
    pub(super) passes: bool,
    /// Whether the picture ends with it, as the rest is left out.
    pub(super) ends_picture: bool,
}

/// What is left out of one stay.
#[derive(Debug)]
pub(super) struct Filter {
    /// All before this sequence number passes, or has.
    starts: u64,
    /// What was before this one is not known any more.
    floor: u64,
    /// More than two seconds of pictures 16 ms apart, each with something left out.
    runs: Ring<Run, 128>,
    limits: Ring<Since, 16>,
    newest: Newest,
    /// Of VP8.
    pictures: Option<Pictures>,
}

impl Filter {
    /// Two seconds of video: a keyframe that is further back begins a new clock.
    const BACK_MAX: u64 = 180_000;

    /// Of a stay that begins with these sequence numbers, and of which all packets have passed, so
    /// many; the last of them had this timestamp.
    pub(super) const fn new(first: u64, first_out: u64, sent: u64, timestamp: u64) -> Self {
        let starts = first + sent;
        let newest = Newest {
            sequence: starts.saturating_sub(1),
            timestamp,
            is_settled: false,
            frame: (timestamp, 0),
        };
        Self {
            starts,
            floor: first,
            runs: Ring::starting_with(Run { source: first, out: first_out, len: sent }),
            limits: Ring::starting_with(Since { timestamp: 0, limits: Limits::ALL }),
            newest,
            pictures: None,
        }
    }

    /// VP8: picture ids are to have no gaps either. The highest numbers of frames so far, and by
    /// what picture ids were moved.
    pub(super) fn number_pictures(&mut self, seen: Numbers, moved: u16) {
        let timestamp = self.newest.timestamp;
        let base = seen.base.unwrap_or(0);
        self.pictures = seen.picture.map(|id| Pictures::new(timestamp, id, base, moved));
    }

    /// What passes of the newest picture.
    pub(super) const fn current(&self) -> Limits {
        self.limits.last().limits
    }

    pub(super) const fn next_out(&self) -> u64 {
        let last = self.runs.last();
        last.out + last.len
    }

    /// The viewer's highest picture id, where it is counted here.
    pub(super) fn newest_picture(&self) -> Option<u16> {
        self.pictures.as_ref().map(Pictures::newest_out)
    }

    /// Whether a packet lies behind all that came.
    pub(super) const fn is_newest(&self, packet: &Packet) -> bool {
        packet.sequence > self.newest.sequence
    }

    /// Takes in a packet that has not come before.
    pub(super) fn take(&mut self, packet: &Packet, own: Option<&Descriptor>, target: Limits) {
        if self.is_newest(packet) {
            self.decide(packet, own, target);
            self.count(packet);
        }
        // What was said of a timestamp is never taken back.
        self.newest.timestamp = self.newest.timestamp.max(packet.timestamp);
        if let Some(placed) = self.place(packet)
            && packet.timestamp == self.newest.timestamp
        {
            self.newest.is_settled |= placed.ends_picture || !placed.passes;
        }
    }

    /// Where another picture begins: whether it is the first of more layers, or of less.
    fn decide(&mut self, packet: &Packet, own: Option<&Descriptor>, target: Limits) {
        let (timestamp, newest) = (packet.timestamp, self.newest.timestamp);
        if packet.keyframe && timestamp.saturating_add(Self::BACK_MAX) < newest {
            self.begin_anew(packet);
        }
        let newest = self.newest.timestamp;
        let before = self.current();
        let mut limits = before;
        if timestamp > newest {
            self.newest.is_settled = false;
            limits = limits.min(target);
        } else if timestamp < newest || self.newest.is_settled {
            return;
        }
        let next = limits.temporal.saturating_add(1);
        if packet.keyframe {
            limits = limits.max(target);
        } else if packet.scale.is_switch && packet.scale.temporal == next {
            limits.temporal = next.min(target.temporal.max(limits.temporal));
        }
        if limits != before {
            self.limits.push(Since { timestamp, limits });
        }
        let (Some(pictures), Some(own)) = (&mut self.pictures, own) else { return };
        if timestamp > newest {
            pictures.note(timestamp, own, limits.pass(packet), before.temporal == 0);
        }
    }

    /// The publisher's clock was set back: of what was before this keyframe nothing is said any
    /// more, as the same timestamps come again.
    fn begin_anew(&mut self, packet: &Packet) {
        let limits = self.current();
        self.floor = packet.sequence;
        self.starts = packet.sequence;
        self.limits = Ring::starting_with(Since { timestamp: 0, limits });
        self.newest.timestamp = packet.timestamp.saturating_sub(1);
        self.newest.is_settled = false;
        if let Some(pictures) = &mut self.pictures {
            pictures.begin_anew(self.newest.timestamp);
        }
    }

    /// Gives numbers to a packet behind all others, and to what is missing before it.
    fn count(&mut self, packet: &Packet) {
        let passes = self.limits_at(packet.timestamp).is_some_and(|limits| limits.pass(packet));
        let frame = (packet.timestamp, packet.scale.spatial);
        let is_sure = !passes && frame == self.newest.frame;
        let missing = self.newest.sequence + 1;
        let end = packet.sequence + u64::from(passes);
        if end > missing && !is_sure {
            let out = self.next_out();
            let last = self.runs.last_mut();
            if last.source + last.len == missing {
                last.len = end - last.source;
            } else {
                self.runs.push(Run { source: missing, out, len: end - missing });
            }
        }
        self.newest.is_settled |= !passes && packet.timestamp >= self.newest.timestamp;
        self.newest.sequence = packet.sequence;
        self.newest.frame = frame;
    }

    fn limits_at(&self, timestamp: u64) -> Option<Limits> {
        let since = self.limits.iter().find(|since| since.timestamp <= timestamp)?;
        Some(since.limits)
    }

    /// Where a packet lies that was taken in.
    pub(super) fn place(&self, packet: &Packet) -> Option<Placed> {
        let sequence = packet.sequence;
        if sequence < self.floor {
            return None;
        }
        let run = self.runs.iter().find(|run| run.source <= sequence)?;
        let distance = sequence - run.source;
        if distance >= run.len {
            return None;
        }
        let out = run.out + distance;
        if sequence < self.starts {
            return Some(Placed { out, passes: true, ends_picture: false });
        }
        let limits = self.limits_at(packet.timestamp)?;
        let passes = limits.pass(packet);
        let scale = packet.scale;
        let is_end = passes && scale.ends && scale.spatial == limits.spatial;
        Some(Placed { out, passes, ends_picture: is_end && !packet.marker })
    }

    /// What picture ids of a frame that passes are moved by: by `otherwise` where they are not
    /// counted here; `None` where that is not known any more.
    pub(super) fn picture_moved(
        &self,
        packet: &Packet,
        own: &Descriptor,
        otherwise: u16,
    ) -> Option<u16> {
        match &self.pictures {
            Some(pictures) if packet.sequence >= self.starts => {
                pictures.moved(packet.timestamp, own)
            }
            _ => Some(otherwise),
        }
    }

    /// The publisher's sequence number of what went out under this one.
    pub(super) fn source_of(&self, out: u64) -> Option<u64> {
        let run = self.runs.iter().find(|run| run.out <= out)?;
        let distance = out - run.out;
        (distance < run.len).then(|| run.source + distance)
    }
}
