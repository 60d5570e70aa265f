//! Counts the gaps in a transport stream (ISO/IEC 13818-1 §2.4.3.3): packets whose continuity
//! counter is not the one after that of their PID's last.

use std::collections::BTreeMap;
use std::fmt;

const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
const NULL_PID: u16 = 0x1FFF;

/// What a stream showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Continuity {
    /// By PID.
    pub pids: BTreeMap<u16, PidContinuity>,
    /// Bytes that belong to no packet.
    pub skipped_bytes: u64,
}

/// What one PID showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PidContinuity {
    /// Packets.
    pub packets: u64,
    /// Gaps before one of them.
    pub errors: u64,
    /// Whether it carries media, not tables.
    pub is_media: bool,
    last: Option<u8>,
}

impl Continuity {
    /// Counts a whole stream.
    pub fn of(mut stream: &[u8]) -> Self {
        let mut counted = Self::default();
        while let Some((packet, rest)) = stream.split_first_chunk::<PACKET_BYTES>() {
            if packet[0] == SYNC {
                counted.take(packet);
                stream = rest;
            } else {
                counted.skipped_bytes += 1;
                stream = stream.get(1..).unwrap_or_default();
            }
        }
        counted.skipped_bytes += stream.len() as u64;
        counted
    }

    fn take(&mut self, packet: &[u8; PACKET_BYTES]) {
        let [_, second, third, fourth, length, flags, ..] = *packet;
        let number = u16::from_be_bytes([second & 0x1F, third]);
        let (has_payload, has_field) = (fourth & 0x10 != 0, fourth & 0x20 != 0);
        // The counter of packets without a payload stands still.
        if number == NULL_PID || !has_payload {
            return;
        }
        let pid = self.pids.entry(number).or_default();
        let field = if has_field { 1 + usize::from(length) } else { 0 };
        let start = packet.get(4 + field..).unwrap_or_default();
        pid.is_media |= second & 0x40 != 0 && start.starts_with(&[0, 0, 1]);
        pid.packets += 1;
        let counter = fourth & 0x0F;
        let may_jump = has_field && length > 0 && flags & 0x80 != 0;
        // A packet may come twice.
        let follows = |last: u8| counter == last || counter == (last + 1) & 0x0F;
        pid.errors += u64::from(!may_jump && !pid.last.is_none_or(follows));
        pid.last = Some(counter);
    }

    /// Gaps in what carries media.
    pub fn media_errors(&self) -> u64 {
        self.pids.values().filter(|pid| pid.is_media).map(|pid| pid.errors).sum()
    }

    /// Packets of it.
    pub fn media_packets(&self) -> u64 {
        self.pids.values().filter(|pid| pid.is_media).map(|pid| pid.packets).sum()
    }
}

impl fmt::Display for Continuity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, PidContinuity { packets, errors, .. }) in &self.pids {
            writeln!(out, "PID {number}: {packets} packets, {errors} gaps")?;
        }
        write!(out, "{} gaps in media, {} bytes skipped", self.media_errors(), self.skipped_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Muxer;
    use crate::source::{PictureSource, VideoSettings};

    fn stream() -> Vec<u8> {
        let mut source = PictureSource::new(VideoSettings::default());
        let mut muxer = Muxer::new(false);
        (0..20).flat_map(|_| muxer.picture(&source.next_picture())).collect()
    }

    #[test]
    fn a_whole_stream_has_no_gap_and_its_tables_are_no_media() {
        let counted = Continuity::of(&stream());
        assert_eq!((counted.media_errors(), counted.skipped_bytes), (0, 0));
        let media: Vec<bool> = counted.pids.values().map(|pid| pid.is_media).collect();
        assert_eq!(media, [false, true, false]);
    }

    #[test]
    fn each_hole_is_one_gap_however_long_it_is() {
        let mut stream = stream();
        stream.drain(100 * PACKET_BYTES..109 * PACKET_BYTES);
        stream.drain(50 * PACKET_BYTES..51 * PACKET_BYTES);
        assert_eq!(Continuity::of(&stream).media_errors(), 2);
    }

    #[test]
    fn what_is_no_packet_is_skipped() {
        let mut stream = stream();
        stream.splice(PACKET_BYTES..PACKET_BYTES, [1, 2, 3]);
        let counted = Continuity::of(&stream);
        assert_eq!((counted.media_errors(), counted.skipped_bytes), (0, 3));
    }
}
