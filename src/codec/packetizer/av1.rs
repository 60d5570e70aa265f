//! OBUs into packets (AOM "RTP Payload Format For AV1" 1.0, §4).

use super::payloads::Payloads;
use crate::codec::av1::{self, FRAME, FRAME_HEADER, SEQUENCE_HEADER, TEMPORAL_DELIMITER};

/// What the format leaves out (§5), and what is only there to be left out.
pub(in crate::codec) const TILE_LIST: u8 = 8;
pub(in crate::codec) const PADDING: u8 = 15;
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// The aggregation header (§4.4).
const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;
const COUNT_SHIFT: u32 = 4;
const NEW_SEQUENCE: u8 = 0x08;
/// More elements than that are not counted, and all have their length.
const COUNT_MAX: usize = 3;
/// The length of an element takes up to so many bytes here.
const LENGTH_MAX: usize = 3;

/// Splits temporal units; remembers the sequence header.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The newest one, as it stands in a packet.
    header: Vec<u8>,
    packet: Packet,
}

/// The packet being written.
#[derive(Debug, Default)]
struct Packet {
    elements: usize,
    /// Where the length of its last element is: position and bytes.
    length: (usize, usize),
}

/// One OBU, its size field apart.
#[derive(Debug, Clone, Copy)]
pub(in crate::codec) struct Obu<'a> {
    header: [u8; 2],
    header_len: usize,
    pub(in crate::codec) body: &'a [u8],
}

impl Sequence {
    /// Encoders write a few dozen bytes.
    const HEADER_MAX: usize = 1_024;

    pub(super) fn packetize(&mut self, frame: &[u8], payloads: &mut Payloads<'_>) {
        let has_header = self.skip(frame);
        let Some(is_key) = first_is_key(frame) else { return };
        let starts = is_key && !self.header.is_empty();
        self.packet.begin(if starts { NEW_SEQUENCE } else { 0 }, payloads);
        if starts && !has_header {
            self.packet.write(&self.header, &[], payloads);
        }
        for obu in obus(frame) {
            if !matches!(obu.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
                self.packet.write(&obu.header[..obu.header_len], obu.body, payloads);
            }
        }
        self.packet.close(payloads);
    }

    /// Remembers the sequence header, if there is one.
    pub(super) fn skip(&mut self, frame: &[u8]) -> bool {
        let is_header =
            |obu: &Obu<'_>| obu.kind() == SEQUENCE_HEADER && obu.body.len() <= Self::HEADER_MAX;
        let Some(obu) = obus(frame).find(is_header) else { return false };
        self.header.clear();
        self.header.extend_from_slice(&obu.header[..obu.header_len]);
        self.header.extend_from_slice(obu.body);
        true
    }

    /// The temporal unit with the sequence header in front, where it has none.
    pub(super) fn with_header(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let header = obus(&self.header).next()?;
        if obus(frame).any(|obu| obu.kind() == SEQUENCE_HEADER) {
            return None;
        }
        let mut whole = Vec::with_capacity(self.header.len() + frame.len());
        header.write(&mut whole);
        whole.extend_from_slice(frame);
        Some(whole)
    }

    /// What `a=fmtp` says (§7.2.1), in the order of browsers.
    pub(super) fn parameters(&self) -> Option<String> {
        let extended = self.header.first()? & HAS_EXTENSION != 0;
        let av1::Capability { profile, level, tier } =
            av1::capability(self.header.get(if extended { 2 } else { 1 }..)?)?;
        Some(format!("level-idx={level};profile={profile};tier={tier}"))
    }
}

impl Packet {
    fn begin(&mut self, head: u8, payloads: &mut Payloads<'_>) {
        payloads.begin();
        payloads.push(&[head]);
        *self = Self::default();
    }

    /// Writes one OBU, over as many packets as it takes.
    fn write(&mut self, mut header: &[u8], mut body: &[u8], payloads: &mut Payloads<'_>) {
        // A fragment of fewer bytes than its headers have is not worth the trouble.
        if payloads.room() <= 2 * LENGTH_MAX {
            self.close(payloads);
            self.begin(0, payloads);
        }
        loop {
            let len = header.len() + body.len();
            let room = payloads.room().saturating_sub(length_len(payloads.room()));
            let part = len.min(room);
            self.element(part, payloads);
            let (now, later) = header.split_at(part.min(header.len()));
            payloads.push(now);
            header = later;
            let (now, later) = body.split_at(part - now.len());
            payloads.push(now);
            body = later;
            if part == len {
                return;
            }
            if let Some(head) = payloads.written().first_mut() {
                *head |= CONTINUED;
            }
            self.close(payloads);
            self.begin(CONTINUES, payloads);
        }
    }

    fn element(&mut self, len: usize, payloads: &mut Payloads<'_>) {
        let at = payloads.written().len();
        av1::write_leb128(len, payloads.written());
        self.length = (at, payloads.written().len() - at);
        self.elements += 1;
    }

    /// Where the elements are counted, the last has no length.
    fn close(&mut self, payloads: &mut Payloads<'_>) {
        let Self { elements, length: (at, len) } = *self;
        if (1..=COUNT_MAX).contains(&elements) {
            payloads.written().drain(at..at + len);
            if let Some(head) = payloads.written().first_mut() {
                *head |= (elements as u8) << COUNT_SHIFT;
            }
        }
    }
}

impl Obu<'_> {
    pub(in crate::codec) const fn kind(&self) -> u8 {
        self.header[0] >> 3 & 0x0f
    }

    /// Writes it with its size field.
    pub(in crate::codec) fn write(&self, bytes: &mut Vec<u8>) {
        let [first, extension] = self.header;
        bytes.push(first | HAS_SIZE);
        bytes.extend(&[extension][..self.header_len - 1]);
        av1::write_leb128(self.body.len(), bytes);
        bytes.extend_from_slice(self.body);
    }
}

/// The OBUs of a temporal unit (AV1 specification §5.3). A size that lies ends it.
pub(in crate::codec) fn obus(mut frame: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    std::iter::from_fn(move || {
        let (&first, mut rest) = frame.split_first()?;
        let (mut header, mut header_len) = ([first & !HAS_SIZE, 0], 1);
        if first & 0x80 != 0 {
            return None; // forbidden
        }
        if first & HAS_EXTENSION != 0 {
            let (&extension, tail) = rest.split_first()?;
            (header[1], header_len, rest) = (extension, 2, tail);
        }
        let mut size = rest.len();
        if first & HAS_SIZE != 0 {
            (size, rest) = av1::read_leb128(rest)?;
        }
        let (body, tail) = rest.split_at_checked(size)?;
        frame = tail;
        Some(Obu { header, header_len, body })
    })
}

/// Whether a decoder can start with a temporal unit.
pub(super) fn starts(frame: &[u8]) -> bool {
    first_is_key(frame) == Some(true)
}

/// Whether the first frame of a temporal unit is a keyframe; `None` where there is none.
pub(in crate::codec) fn first_is_key(frame: &[u8]) -> Option<bool> {
    obus(frame).find(|obu| matches!(obu.kind(), FRAME | FRAME_HEADER)).map(|obu| is_key(obu.body))
}

/// Whether a frame header is that of a keyframe that is shown (AV1 specification §5.9.2): not an
/// existing frame, of type 0, shown.
fn is_key(body: &[u8]) -> bool {
    body.first().is_some_and(|first| first & 0xf0 == 0x10)
}

/// How many bytes the length of what fits into so many takes.
const fn length_len(room: usize) -> usize {
    if room < 1 << 7 {
        1
    } else if room < 1 << 14 {
        2
    } else {
        LENGTH_MAX
    }
}
