//! The units that a frame consists of, laid out as [`crate::media::frame::Coding`] wants them:
//! NAL units behind 4 bytes of length, OBUs with their sizes. Fuzz target: `rtmp_flv`.
//!
//! What is laid out so already is passed on as it is, without a copy.

use crate::codec::av1::write_leb128;
use crate::codec::packetizer::write_nal_unit;
use bytes::Bytes;

/// How many bytes stand before each NAL unit.
pub(super) const LENGTH_BYTES: usize = 4;

/// Appends a NAL unit behind its length. One without a byte is no unit.
pub(super) fn push_unit(out: &mut Vec<u8>, unit: &[u8]) {
    if !unit.is_empty() {
        write_nal_unit(unit, out);
    }
}

/// The NAL units of a frame with that many bytes of length before each. One that is cut short
/// ends the frame, and none without a byte is passed on.
pub(super) fn with_lengths(frame: &Bytes, length_bytes: usize) -> Bytes {
    let whole = whole_units(frame, length_bytes);
    if length_bytes == LENGTH_BYTES && nal_units(&whole, LENGTH_BYTES).all(|it| !it.is_empty()) {
        return whole;
    }
    let mut out = Vec::with_capacity(frame.len() + frame.len() / 16);
    nal_units(&whole, length_bytes).for_each(|unit| push_unit(&mut out, unit));
    out.into()
}

/// What of a frame is whole units.
fn whole_units(frame: &Bytes, length_bytes: usize) -> Bytes {
    let len = |unit: &[u8]| length_bytes + unit.len();
    frame.slice(..nal_units(frame, length_bytes).map(len).sum::<usize>())
}

/// The NAL units of a frame, as far as they are whole.
pub(super) fn nal_units(mut frame: &[u8], length_bytes: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = frame.split_at_checked(length_bytes)?;
        let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        let (unit, rest) = rest.split_at_checked(len)?;
        frame = rest;
        (length_bytes > 0).then_some(unit)
    })
}

/// One OBU (AV1 §5.3): all of it, and what its header says.
struct Obu<'a> {
    header: u8,
    /// The second byte of the header, where it has one.
    extension: Option<u8>,
    has_size: bool,
    payload: &'a [u8],
    len: usize,
}

/// `OBU_TEMPORAL_DELIMITER` (AV1 §6.2.2).
const TEMPORAL_DELIMITER: u8 = 2;

/// The OBUs of a temporal unit, each with its size and none a temporal delimiter. One that is cut
/// short ends it.
pub(super) fn with_sizes(frame: &Bytes) -> Bytes {
    let mut rest: &[u8] = frame;
    // Where only delimiters at the start are too much, a part of the frame is all that is wanted.
    let (mut start, mut len, mut is_plain) = (0, 0, true);
    let mut obus = Vec::new();
    while let Some(obu) = obu(rest) {
        rest = rest.get(obu.len..).unwrap_or_default();
        if obu.kind() == TEMPORAL_DELIMITER {
            is_plain &= obus.is_empty();
            if obus.is_empty() {
                start += obu.len;
            }
            continue;
        }
        is_plain &= obu.has_size;
        len += obu.len;
        obus.push(obu);
    }
    if is_plain {
        return frame.slice(start..start + len);
    }
    let mut out = Vec::with_capacity(frame.len() + 8);
    for obu in obus {
        out.push(obu.header | 2);
        out.extend(obu.extension);
        write_leb128(obu.payload.len(), &mut out);
        out.extend_from_slice(obu.payload);
    }
    out.into()
}

impl Obu<'_> {
    const fn kind(&self) -> u8 {
        self.header >> 3 & 15
    }
}

fn obu(bytes: &[u8]) -> Option<Obu<'_>> {
    let (&header, mut rest) = bytes.split_first()?;
    let mut extension = None;
    if header & 4 != 0 {
        let (&second, after) = rest.split_first()?;
        (extension, rest) = (Some(second), after);
    }
    let has_size = header & 2 != 0;
    let payload = if has_size {
        let (len, after) = leb128(rest)?;
        rest = after;
        rest.get(..len)?
    } else {
        rest
    };
    let len = bytes.len() - rest.len() + payload.len();
    Some(Obu { header, extension, has_size, payload, len })
}

/// AV1 §4.10.5, of at most 5 bytes: more would say more than a frame has.
fn leb128(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_four_bytes_and_stay_where_they_are() {
        for (frame, length_bytes, expected) in [
            (&[2, 0x65, 7, 1, 0x06][..], 1, &[0, 0, 0, 2, 0x65, 7, 0, 0, 0, 1, 0x06][..]),
            (&[0, 2, 0x65, 7], 2, &[0, 0, 0, 2, 0x65, 7]),
            (&[0, 0, 1, 0x65], 3, &[0, 0, 0, 1, 0x65]),
            (&[0, 0, 0, 1, 0x65], 4, &[0, 0, 0, 1, 0x65]),
            (&[0, 0, 0, 0, 0, 0, 0, 1, 0x65], 4, &[0, 0, 0, 1, 0x65]),
            (&[0, 0, 0, 1, 0x65, 0, 0, 0, 9, 1], 4, &[0, 0, 0, 1, 0x65]),
            (&[0xff, 0xff, 0xff, 0xff, 1], 4, &[]),
            (&[], 4, &[]),
        ] {
            let frame = Bytes::copy_from_slice(frame);
            assert_eq!(with_lengths(&frame, length_bytes), expected, "{frame:?}");
        }
        let frame = Bytes::from(vec![0, 0, 0, 1, 0x65]);
        assert_eq!(with_lengths(&frame, 4).as_ptr(), frame.as_ptr(), "nothing is copied");
    }

    #[test]
    fn obus_get_sizes_and_lose_their_delimiter() {
        let (delimiter, sequence) = ([0x12, 0], [0x0a, 1, 7]);
        let sized = [&delimiter[..], &sequence, &[0x32, 2, 8, 9]].concat();
        let open = [&sequence[..], &[0x30, 8, 9]].concat();
        let scaled = [&sequence[..], &[0x36, 0x08, 2, 8, 9]].concat();
        let late = [&sequence[..], &delimiter, &[0x32, 2, 8, 9]].concat();
        let expected = [&sequence[..], &[0x32, 2, 8, 9]].concat();
        for (frame, expected) in
            [(&sized, &expected), (&open, &expected), (&late, &expected), (&scaled, &scaled)]
        {
            assert_eq!(with_sizes(&Bytes::copy_from_slice(frame)), expected[..], "{frame:?}");
        }
        let frame = Bytes::from(sized);
        assert_eq!(with_sizes(&frame).as_ptr(), frame[2..].as_ptr(), "nothing is copied");
        let short = Bytes::from_static(&[0x0a, 1, 7, 0x32, 200, 1, 8]);
        assert_eq!(with_sizes(&short), [0x0a, 1, 7][..], "one that is cut short ends it");
    }

    #[test]
    fn sizes_of_every_length_are_written_as_they_are_read() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 4 << 20] {
            let mut bytes = Vec::new();
            write_leb128(value, &mut bytes);
            assert_eq!(leb128(&bytes), Some((value, &[][..])));
        }
        assert_eq!(leb128(&[0x80; 9]), None);
    }
}
