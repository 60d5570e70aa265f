//! RTCP as the receive side of a publisher speaks it: a reader for what comes, writers for what
//! goes (RFC 3550 §6, RFC 4585 §6, RFC 5104 §4.3.1). Fuzz target: `rtcp`.
//!
//! Compounds are always complete (RFC 3550 §6.1): every client takes those, and not every client
//! offers the reduced size of RFC 5506.

/// The largest compound: fits a path of 1280 bytes with SRTCP, UDP and IPv6 around it.
pub const COMPOUND_MAX: usize = 1200;

/// Packet types.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpPacket<'a> {
    /// The packet type.
    pub packet_type: u8,
    /// The five bits before it: a count or a feedback format.
    pub count: u8,
    /// What follows the four bytes of header, without padding.
    pub body: &'a [u8],
}

/// The packets of a compound, up to the first that is malformed.
pub fn packets(compound: &[u8]) -> impl Iterator<Item = RtcpPacket<'_>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let (&[first, packet_type, high, low], tail) = rest.split_first_chunk()?;
        if first >> 6 != 2 {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([high, low])) * 4;
        let (mut body, tail) = tail.split_at_checked(len)?;
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        rest = tail;
        Some(RtcpPacket { packet_type, count: first & 0x1f, body })
    })
}

/// What a sender report says of time (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Who sends it.
    pub ssrc: u32,
    /// Its wall clock.
    pub ntp: u64,
    /// The same moment on its RTP clock.
    pub rtp_timestamp: u32,
}

/// Reads a packet as a sender report.
pub fn sender_info(packet: &RtcpPacket<'_>) -> Option<SenderInfo> {
    if packet.packet_type != SENDER_REPORT || packet.body.len() < 24 {
        return None;
    }
    let (ssrc, rest) = packet.body.split_first_chunk()?;
    let (ntp, rest) = rest.split_first_chunk()?;
    Some(SenderInfo {
        ssrc: u32::from_be_bytes(*ssrc),
        ntp: u64::from_be_bytes(*ntp),
        rtp_timestamp: u32::from_be_bytes(*rest.first_chunk()?),
    })
}

/// One reception report (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReportBlock {
    pub(super) ssrc: u32,
    pub(super) fraction_lost: u8,
    pub(super) cumulative_lost: i32,
    pub(super) highest_sequence: u32,
    pub(super) jitter: u32,
    pub(super) last_sender_report: u32,
    pub(super) delay: u32,
}

/// The most reception reports in one receiver report.
pub(super) const REPORT_BLOCKS_MAX: usize = 31;

/// Bytes in memory of fixed size; what does not fit is left out as a whole.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: [u8; COMPOUND_MAX],
    used: usize,
}

impl Buffer {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; COMPOUND_MAX], used: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(memory) = self.bytes.get_mut(self.used..self.used + bytes.len()) else {
            return false;
        };
        memory.copy_from_slice(bytes);
        self.used += bytes.len();
        true
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// Opens an RTCP packet; [`Buffer::close`] fills in its length.
    pub(super) fn open(packet_type: u8, count: u8) -> Self {
        let mut packet = Self::new();
        packet.push(&[0x80 | count & 0x1f, packet_type, 0, 0]);
        packet
    }

    /// Opens a feedback packet (RFC 4585 §6.1).
    pub(super) fn feedback(packet_type: u8, format: u8, sender: u32, media: u32) -> Self {
        let mut packet = Self::open(packet_type, format);
        packet.push(&sender.to_be_bytes());
        packet.push(&media.to_be_bytes());
        packet
    }

    /// Pads the packet to whole words and writes its length.
    pub(super) fn close(&mut self) {
        let padding = self.used.next_multiple_of(4) - self.used;
        if padding > 0 {
            let last = [0, 0, padding as u8];
            self.push(&last[3 - padding..]);
            self.bytes[0] |= 0x20;
        }
        let words = (self.used / 4 - 1) as u16;
        self.bytes[2..4].copy_from_slice(&words.to_be_bytes());
    }
}

/// Gathers packets into compounds and sends each as soon as it is full.
pub(super) struct CompoundWriter<'s> {
    compound: Buffer,
    sender: u32,
    send: &'s mut dyn FnMut(&[u8]),
}

impl<'s> CompoundWriter<'s> {
    /// A writer on behalf of `sender`.
    pub(super) fn new(sender: u32, send: &'s mut dyn FnMut(&[u8])) -> Self {
        Self { compound: Buffer::new(), sender, send }
    }

    /// Opens a compound with its receiver report and description.
    fn open(&mut self, blocks: &[ReportBlock]) {
        let mut report = Buffer::open(RECEIVER_REPORT, blocks.len() as u8);
        report.push(&self.sender.to_be_bytes());
        for block in blocks {
            report.push(&block.ssrc.to_be_bytes());
            let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
            report.push(&(u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
            report.push(&block.highest_sequence.to_be_bytes());
            report.push(&block.jitter.to_be_bytes());
            report.push(&block.last_sender_report.to_be_bytes());
            report.push(&block.delay.to_be_bytes());
        }
        report.close();
        self.compound.push(report.as_slice());
        self.describe();
    }

    /// A description with the canonical name, which RFC 3550 §6.1 wants in every compound.
    fn describe(&mut self) {
        let mut description = Buffer::open(DESCRIPTION, 1);
        description.push(&self.sender.to_be_bytes());
        let mut name = [0; 8];
        for (index, digit) in name.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.sender >> (28 - 4 * index) & 0x0f) as usize];
        }
        description.push(&[1, 8]);
        description.push(&name);
        description.push(&[0, 0]); // ends the list and fills the word
        description.close();
        self.compound.push(description.as_slice());
    }

    /// Starts a compound with these reception reports, at most [`REPORT_BLOCKS_MAX`].
    pub(super) fn report(&mut self, blocks: &[ReportBlock]) {
        self.flush();
        self.open(&blocks[..blocks.len().min(REPORT_BLOCKS_MAX)]);
    }

    /// Adds one closed packet.
    pub(super) fn add(&mut self, packet: &Buffer) {
        if self.compound.used == 0 {
            self.open(&[]);
        }
        if !self.compound.push(packet.as_slice()) {
            self.flush();
            self.open(&[]);
            self.compound.push(packet.as_slice());
        }
    }

    /// Asks for packets (RFC 4585 §6.2.1): each entry a number and 16 bits for those after it.
    pub(super) fn nack(&mut self, media: u32, sequences: &[u16]) {
        // 28 bytes of report and description, 12 of header: the rest is entries of four bytes.
        const ENTRIES_MAX: usize = (COMPOUND_MAX - 40) / 4;
        let mut rest = sequences;
        while !rest.is_empty() {
            let mut packet = Buffer::feedback(TRANSPORT_FEEDBACK, 1, self.sender, media);
            for _ in 0..ENTRIES_MAX {
                let Some((&first, tail)) = rest.split_first() else { break };
                rest = tail;
                let mut bitmap = 0_u16;
                while let Some((&next, tail)) = rest.split_first() {
                    let distance = next.wrapping_sub(first);
                    if !(1..=16).contains(&distance) {
                        break;
                    }
                    bitmap |= 1 << (distance - 1);
                    rest = tail;
                }
                packet.push(&first.to_be_bytes());
                packet.push(&bitmap.to_be_bytes());
            }
            packet.close();
            self.add(&packet);
        }
    }

    /// Asks for a keyframe (RFC 4585 §6.3.1).
    pub(super) fn picture_loss(&mut self, media: u32) {
        let mut packet = Buffer::feedback(PAYLOAD_FEEDBACK, 1, self.sender, media);
        packet.close();
        self.add(&packet);
    }

    /// Asks for a keyframe of those who understand nothing else (RFC 5104 §4.3.1).
    pub(super) fn full_intra(&mut self, media: u32, number: u8) {
        let mut packet = Buffer::feedback(PAYLOAD_FEEDBACK, 4, self.sender, 0);
        packet.push(&media.to_be_bytes());
        packet.push(&[number, 0, 0, 0]);
        packet.close();
        self.add(&packet);
    }

    /// Tells the sender a ceiling (draft-alvestrand-rmcat-remb-03 §2.2).
    pub(super) fn maximum_bitrate(&mut self, bits_per_second: u64, media: &[u32]) {
        let media = &media[..media.len().min(usize::from(u8::MAX))];
        let mut packet = Buffer::feedback(PAYLOAD_FEEDBACK, 15, self.sender, 0);
        let exponent = (u64::BITS - bits_per_second.leading_zeros()).saturating_sub(18);
        let mantissa = (bits_per_second >> exponent) as u32;
        packet.push(b"REMB");
        packet.push(&(((media.len() as u32) << 24) | (exponent << 18) | mantissa).to_be_bytes());
        for ssrc in media {
            packet.push(&ssrc.to_be_bytes());
        }
        packet.close();
        self.add(&packet);
    }

    /// Sends what has been gathered.
    pub(super) fn flush(&mut self) {
        if self.compound.used > 0 {
            (self.send)(self.compound.as_slice());
            self.compound.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compound_is_read_up_to_its_first_fault() {
        let mut bytes = vec![0x81, 201, 0, 1, 0, 0, 0, 7];
        bytes.extend([0xa0, 202, 0, 1, 9, 9, 0, 2]); // two bytes of padding
        bytes.extend([0x80, 203, 0, 9, 0]); // longer than the datagram
        let read: Vec<_> = packets(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].packet_type, read[0].count, read[0].body), (201, 1, &bytes[4..8]));
        assert_eq!(read[1].body, [9, 9]);
    }

    #[test]
    fn a_sender_report_is_read_and_a_short_one_is_not() {
        let mut bytes = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
        bytes.extend(0x0102_0304_0506_0708_u64.to_be_bytes());
        bytes.extend(90_000_u32.to_be_bytes());
        bytes.extend([0; 8]);
        let read = packets(&bytes).next().and_then(|packet| sender_info(&packet));
        let info = SenderInfo { ssrc: 7, ntp: 0x0102_0304_0506_0708, rtp_timestamp: 90_000 };
        assert_eq!(read, Some(info));
        bytes.truncate(24);
        bytes[3] = 5;
        assert_eq!(packets(&bytes).next().and_then(|packet| sender_info(&packet)), None);
    }

    #[test]
    fn a_ceiling_keeps_eighteen_bits() {
        for rate in [0, 1, 0x3_ffff, 0x3_ffff << 5, u64::from(u32::MAX) << 8] {
            let mut words = Vec::new();
            let mut send = |compound: &[u8]| {
                let packet = packets(compound).last();
                words.extend(packet.and_then(|packet| packet.body.get(12..16)?.first_chunk()));
            };
            let mut writer = CompoundWriter::new(1, &mut send);
            writer.maximum_bitrate(rate, &[7]);
            writer.flush();
            let word = words.first().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            assert_eq!(word >> 24, 1, "one SSRC follows");
            let told = u64::from(word & 0x3_ffff) << (word >> 18 & 0x3f);
            assert!(told <= rate && rate - told <= rate >> 17, "{rate} told as {told}");
            assert!(rate > 0x3_ffff << 5 || told == rate, "{rate} told as {told}");
        }
    }

    #[test]
    fn what_does_not_fit_one_compound_goes_into_the_next() {
        let mut sent: Vec<Vec<u8>> = Vec::new();
        let mut send = |compound: &[u8]| sent.push(compound.to_vec());
        let mut writer = CompoundWriter::new(1, &mut send);
        let scattered: Vec<u16> = (0..900).map(|index| index * 20).collect();
        writer.nack(7, &scattered);
        writer.picture_loss(7);
        writer.flush();
        assert!(sent.iter().all(|compound| compound.len() <= COMPOUND_MAX), "bounded");
        let asked: usize = sent
            .iter()
            .flat_map(|compound| packets(compound))
            .filter(|packet| packet.packet_type == TRANSPORT_FEEDBACK)
            .map(|packet| (packet.body.len() - 8) / 4)
            .sum();
        assert_eq!(asked, 900);
        for compound in &sent {
            let kinds: Vec<_> = packets(compound).map(|packet| packet.packet_type).collect();
            assert_eq!(kinds[..2], [RECEIVER_REPORT, DESCRIPTION]);
        }
    }
}
