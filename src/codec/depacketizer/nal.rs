//! NAL units out of single packets, aggregates and fragments: RFC 6184 in its modes 0 and 1, RFC
//! 7798 without decoding order numbers. Fuzz target: `depacketizer`.

use super::Frame;
use crate::codec::{h264, h265};

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    H264,
    H265,
}

/// What a payload is.
enum Payload<'a> {
    /// A NAL unit.
    Single,
    /// Several, each after its length in two bytes.
    Aggregate(&'a [u8]),
    /// A part of one: its header, first and last bit, bytes.
    Fragment { header: [u8; 2], is_first: bool, is_last: bool, bytes: &'a [u8] },
}

impl Rules {
    /// A NAL unit's header.
    const fn header_len(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    fn read(self, payload: &[u8]) -> Option<Payload<'_>> {
        match self {
            // RFC 6184 §5.2.
            Self::H264 => match payload.first()? & 0x1f {
                1..=23 => Some(Payload::Single),
                h264::STAP_A => Some(Payload::Aggregate(payload.get(1..)?)),
                h264::FU_A => {
                    let (&[indicator, head], bytes) = payload.split_first_chunk()?;
                    let header = [indicator & 0xe0 | head & 0x1f, 0];
                    Some(fragment(header, head, bytes))
                }
                _ => None,
            },
            // RFC 7798 §4.4.
            Self::H265 => match payload.first()? >> 1 & 0x3f {
                0..=47 => Some(Payload::Single),
                h265::AGGREGATION => Some(Payload::Aggregate(payload.get(2..)?)),
                h265::FRAGMENTATION => {
                    let (&[high, low, head], bytes) = payload.split_first_chunk()?;
                    Some(fragment([high & 0x81 | (head & 0x3f) << 1, low], head, bytes))
                }
                _ => None,
            },
        }
    }
}

/// The bits of a fragment's header (RFC 6184 §5.8, RFC 7798 §4.4.3).
const fn fragment(header: [u8; 2], head: u8, bytes: &[u8]) -> Payload<'_> {
    let (is_first, is_last) = (head & 0x80 != 0, head & 0x40 != 0);
    Payload::Fragment { header, is_first, is_last, bytes }
}

pub(super) fn put_together<'a>(
    rules: Rules,
    payloads: impl Iterator<Item = &'a [u8]>,
    frame: &mut Frame,
) -> Option<()> {
    // Where the fragmented unit begins in the frame.
    let mut open = None;
    for payload in payloads {
        match rules.read(payload)? {
            Payload::Fragment { header, is_first, is_last, bytes } => {
                if is_first {
                    if open.replace(frame.bytes.len()).is_some() {
                        return None;
                    }
                    frame.push(&[0; 4])?;
                    frame.push(&header[..rules.header_len()])?;
                }
                let begin = open?;
                frame.push(bytes)?;
                if is_last {
                    let len = (frame.bytes.len() - begin - 4) as u32;
                    frame.bytes[begin..begin + 4].copy_from_slice(&len.to_be_bytes());
                    open = None;
                }
            }
            // Nothing comes between the fragments of a unit.
            _ if open.is_some() => return None,
            Payload::Single => push_unit(rules, payload, frame)?,
            Payload::Aggregate(units) => push_units(rules, units, frame)?,
        }
    }
    open.is_none().then_some(())
}

fn push_units(rules: Rules, units: &[u8], frame: &mut Frame) -> Option<()> {
    let mut read = 0;
    for unit in crate::codec::sized_units(units) {
        read += 2 + unit.len();
        push_unit(rules, unit, frame)?;
    }
    (read == units.len()).then_some(())
}

fn push_unit(rules: Rules, unit: &[u8], frame: &mut Frame) -> Option<()> {
    if unit.len() < rules.header_len() {
        return None;
    }
    frame.push(&(unit.len() as u32).to_be_bytes())?;
    frame.push(unit)
}
