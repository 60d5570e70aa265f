//! NAL units: after their lengths, as the server hands them over, and after start codes, as
//! elements want them (H.264 annex B, H.265 annex B). Pure.

use crate::ipc::picture::Codec;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// NAL unit types of H.264 (table 7-1).
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const FILLER: u8 = 12;
/// Parameter sets of H.265 (table 7-1): VPS, SPS, PPS.
const H265_PARAMETERS: std::ops::RangeInclusive<u8> = 32..=34;

/// Puts a start code in the place of each length; false where the lengths are no lengths.
pub(crate) fn to_start_codes(data: &mut [u8]) -> bool {
    let mut rest = data;
    while !rest.is_empty() {
        let Some((head, after)) = rest.split_first_chunk_mut::<4>() else { return false };
        let length = u32::from_be_bytes(*head) as usize;
        *head = START_CODE;
        match after.split_at_mut_checked(length) {
            Some((_, next)) if length > 0 => rest = next,
            _ => return false,
        }
    }
    true
}

/// The NAL units of a frame with lengths; ends where they make no sense.
fn units(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let (unit, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        data = rest;
        Some(unit)
    })
}

/// Whether nothing is lost but this frame where it is not decoded. Only H.264 says so in a place
/// that is easily read: no slice is a reference (§7.4.1).
pub(crate) fn is_disposable(codec: Codec, data: &[u8]) -> bool {
    let mut slices =
        units(data).filter_map(|unit| unit.first()).filter(|head| matches!(*head & 0x1f, 1..=5));
    codec == Codec::H264
        && slices.next().is_some_and(|head| head & 0x60 == 0)
        && slices.all(|head| head & 0x60 == 0)
}

/// Whether the frame is shown: VP8 has frames that are only referred to (RFC 6386 §9.1).
pub(crate) fn is_shown(codec: Codec, data: &[u8]) -> bool {
    codec != Codec::Vp8 || data.first().is_some_and(|head| head & 0x10 != 0)
}

/// The parameter sets of a frame, with their lengths; empty where it has none.
pub(crate) fn parameters(codec: Codec, data: &[u8]) -> Vec<u8> {
    let is_parameters = |unit: &&[u8]| match (codec, unit.first()) {
        (Codec::H264, Some(head)) => matches!(head & 0x1f, SPS | PPS),
        (Codec::H265, Some(head)) => H265_PARAMETERS.contains(&(head >> 1 & 0x3f)),
        _ => false,
    };
    let mut found = Vec::new();
    for unit in units(data).filter(is_parameters) {
        push(unit, &mut found);
    }
    found
}

fn push(unit: &[u8], out: &mut Vec<u8>) {
    // Units are pieces of messages and of encoders' frames, both far below 4 GiB.
    out.extend((unit.len() as u32).to_be_bytes());
    out.extend_from_slice(unit);
}

/// What an encoder makes, laid out as the server wants it: lengths, parameter sets before each IDR,
/// and nothing that tells a decoder nothing.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// The newest parameter sets, with their lengths.
    parameters: Vec<u8>,
}

impl Layout {
    /// Takes an access unit with start codes; also whether it is an IDR picture. Empty where it has
    /// no picture.
    pub(crate) fn lay_out(&mut self, data: &[u8]) -> (Vec<u8>, bool) {
        let (mut slices, mut sets) = (Vec::with_capacity(data.len() + 64), Vec::new());
        let mut is_idr = false;
        for unit in after_start_codes(data) {
            match unit.first().map(|head| head & 0x1f) {
                Some(SPS | PPS) => push(unit, &mut sets),
                None | Some(SEI | DELIMITER | FILLER) => {}
                Some(kind) => {
                    is_idr |= kind == IDR;
                    push(unit, &mut slices);
                }
            }
        }
        if !sets.is_empty() {
            self.parameters = sets;
        }
        if is_idr {
            slices.splice(0..0, self.parameters.iter().copied());
        }
        (slices, is_idr)
    }
}

/// The NAL units between start codes, without the zeros that may follow them (annex B.1).
fn after_start_codes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = next_start(data).map(|(_, rest)| rest);
    std::iter::from_fn(move || {
        let (unit, after) = match next_start(rest?) {
            Some((unit, after)) => (unit, Some(after)),
            None => (rest?, None),
        };
        rest = after;
        let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        unit.get(..end)
    })
}

/// What stands before the next start code, and what after it.
fn next_start(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        // A start code ends with the only byte of it that is not zero.
        let one = at + data.get(at..)?.iter().position(|&byte| byte == 1)?;
        if let Some(before) = data.get(..one).and_then(|it| it.strip_suffix(&[0, 0])) {
            return Some((before, data.get(one + 1..).unwrap_or_default()));
        }
        at = one + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_lengths(units: &[&[u8]]) -> Vec<u8> {
        let mut data = Vec::new();
        for unit in units {
            push(unit, &mut data);
        }
        data
    }

    #[test]
    fn lengths_become_start_codes_or_the_frame_is_none() {
        let mut data = with_lengths(&[&[0x67, 1], &[0x65, 2, 3]]);
        assert!(to_start_codes(&mut data));
        assert_eq!(data, [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 2, 3]);
        for mut bad in [vec![0, 0, 0], vec![0, 0, 0, 2, 9], vec![0, 0, 0, 0], vec![255; 9]] {
            assert!(!to_start_codes(&mut bad), "{bad:?}");
        }
        assert!(to_start_codes(&mut []));
    }

    #[test]
    fn a_frame_is_disposable_when_none_of_its_slices_is_a_reference() {
        let is = |units: &[&[u8]]| is_disposable(Codec::H264, &with_lengths(units));
        assert!(is(&[&[0x06, 5], &[0x01, 1], &[0x01, 2]]));
        assert!(!is(&[&[0x01, 1], &[0x21, 2]]));
        assert!(!is(&[&[0x65, 1]]));
        assert!(!is(&[&[0x06, 5]]), "no slice at all");
        assert!(!is_disposable(Codec::H265, &with_lengths(&[&[0x01, 1]])));
    }

    #[test]
    fn parameter_sets_are_found() {
        let data = with_lengths(&[&[0x67, 1], &[0x68, 2], &[0x65, 3]]);
        assert_eq!(parameters(Codec::H264, &data), with_lengths(&[&[0x67, 1], &[0x68, 2]]));
        let data = with_lengths(&[&[0x40, 1], &[0x42, 1], &[0x44, 1], &[0x26, 1]]);
        assert_eq!(parameters(Codec::H265, &data).len(), 18);
        assert!(parameters(Codec::Vp8, &data).is_empty());
    }

    #[test]
    fn what_encoders_make_gets_lengths_and_parameter_sets_before_each_idr() {
        let mut layout = Layout::default();
        // A delimiter, sets, SEI, a slice; start codes of 3 and 4 bytes, zeros behind a unit.
        let first = [
            [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2].as_slice(),
            &[0, 0, 0, 1, 6, 5, 0, 0, 1, 0x65, 0, 0, 3, 1, 7, 0, 0, 0],
        ]
        .concat();
        let expected = with_lengths(&[&[0x67, 1], &[0x68, 2], &[0x65, 0, 0, 3, 1, 7]]);
        assert_eq!(layout.lay_out(&first), (expected, true));
        let next = [0, 0, 0, 1, 0x41, 4];
        assert_eq!(layout.lay_out(&next), (with_lengths(&[&[0x41, 4]]), false));
        // An IDR without its own sets gets the newest.
        let expected = with_lengths(&[&[0x67, 1], &[0x68, 2], &[0x65, 8]]);
        assert_eq!(layout.lay_out(&[0, 0, 1, 0x65, 8]), (expected, true));
        for none in [&[][..], &[0, 0, 1], &[0, 0], &[1, 1, 1], &[0, 0, 1, 9, 0xf0]] {
            assert_eq!(layout.lay_out(none), (vec![], false), "{none:?}");
        }
    }
}
