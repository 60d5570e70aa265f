//! How a viewer learns the round trip (RFC 3611 §4.4, §4.5): it says what its clock shows, and our
//! next sender reports say it back, with how long it has lain here.
//!
//! Who only receives has no other way to know, and libwebrtc then takes 100 ms for granted: what is
//! lost twice at 40 ms stands on the screen for 60 ms more, which is seen, and its buffer does not
//! grow by what a repair takes.
//!
//! Fuzz target: `viewer_rtcp`.

use crate::media::time::WallTime;
use rtc_rtcp::extended_report::{DLRRReport, DLRRReportBlock, ExtendedReport};

/// The clock of a viewer, as it said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReferenceTime {
    viewer: u32,
    /// The middle half of its NTP timestamp.
    said: u32,
    arrived: WallTime,
}

impl ReferenceTime {
    /// `V=2`, the type of an extended report (RFC 3611 §2).
    const TYPE: u8 = 207;
    /// The block with a receiver's reference time (§4.4).
    const BLOCK_TYPE: u8 = 4;

    /// What a whole RTCP packet says of it, if it is an extended report that does.
    pub(super) fn read(packet: &[u8], arrived: WallTime) -> Option<Self> {
        let (&[_, Self::TYPE, _, _], rest) = packet.split_first_chunk()? else { return None };
        let (viewer, mut blocks) = rest.split_first_chunk()?;
        while let Some((&[block_type, _, high, low], rest)) = blocks.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes([high, low])) * 4;
            let (block, others) = rest.split_at_checked(len)?;
            if block_type == Self::BLOCK_TYPE
                && let Ok(ntp) = block.try_into().map(u64::from_be_bytes)
            {
                let said = (ntp >> 16) as u32;
                return Some(Self { viewer: u32::from_be_bytes(*viewer), said, arrived });
            }
            blocks = others;
        }
        None
    }

    /// The report that says it back, as it departs now.
    pub(super) fn answer(self, ssrc: u32, now: WallTime) -> ExtendedReport {
        let middle = |time: WallTime| (time.to_ntp() >> 16) as u32;
        let report = DLRRReport {
            ssrc: self.viewer,
            last_rr: self.said,
            dlrr: middle(now).wrapping_sub(middle(self.arrived)),
        };
        let block = DLRRReportBlock { reports: vec![report] };
        ExtendedReport { sender_ssrc: ssrc, reports: vec![Box::new(block)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::extended_report::ReceiverReferenceTimeReportBlock;
    use rtc_rtcp::packet::Packet;
    use rtc_shared::marshal::Marshal;
    use std::time::Duration;

    fn at(milliseconds: u64) -> WallTime {
        WallTime::since_unix_epoch(Duration::from_millis(1_700_000_000_000 + milliseconds))
    }

    #[test]
    fn what_a_viewer_says_is_said_back_with_the_time_it_lay_here() {
        let clock = ReceiverReferenceTimeReportBlock { ntp_timestamp: 0x0102_0304_0506_0708 };
        let before = DLRRReportBlock { reports: vec![DLRRReport::default()] };
        let blocks: Vec<Box<dyn Packet>> = vec![Box::new(before), Box::new(clock)];
        let packet = ExtendedReport { sender_ssrc: 9, reports: blocks }.marshal().expect("RTCP");
        let heard = ReferenceTime::read(&packet, at(0)).expect("a reference time");
        let answer = heard.answer(7, at(250));
        let wanted = DLRRReport { ssrc: 9, last_rr: 0x0304_0506, dlrr: 65_536 / 4 };
        let block = DLRRReportBlock { reports: vec![wanted] };
        assert_eq!(answer, ExtendedReport { sender_ssrc: 7, reports: vec![Box::new(block)] });
    }

    #[test]
    fn what_is_cut_short_or_something_else_says_nothing() {
        let packet = [0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        assert!(ReferenceTime::read(&packet, at(0)).is_some());
        for end in 0..packet.len() {
            assert_eq!(ReferenceTime::read(&packet[..end], at(0)), None, "{end} bytes");
        }
        for (position, value) in [(1, 201), (8, 5), (11, 1)] {
            let mut other = packet;
            other[position] = value;
            assert_eq!(ReferenceTime::read(&other, at(0)), None, "byte {position}");
        }
    }
}
