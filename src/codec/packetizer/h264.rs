//! H.264's part in packets of NAL units (RFC 6184): packetization mode 1.

use super::nal::{NalCodec, Start, Unit};
use crate::codec::bits::BitReader;
use crate::codec::h264::{self, FU_A, IDR_SLICE, PPS, SEI, SPS, STAP_A};
use crate::codec::parameter_sets::SetId;

/// The codec.
#[derive(Debug)]
pub(in crate::codec) struct H264;

/// Supplemental information that a decoder can start here (H.264 §D.1.8).
const RECOVERY_POINT: usize = 6;

impl NalCodec for H264 {
    const HEADER: usize = 1;

    fn unit(nal: &[u8]) -> Unit {
        let Some((&header, body)) = nal.split_first() else { return Unit::Useless };
        if header & 0x80 != 0 || body.is_empty() {
            return Unit::Useless;
        }
        let set = |id: Option<SetId>| id.map_or(Unit::Useless, Unit::Set);
        match header & 0x1f {
            IDR_SLICE => Unit::Slice(Start::Yes),
            1 => Unit::Slice(if is_intra(body) { Start::WithSets } else { Start::No }),
            // Partitions of slices.
            2..=4 => Unit::Slice(Start::No),
            SEI if is_recovery_point(body) => Unit::Supplement(Start::Yes),
            SEI => Unit::Supplement(Start::No),
            SPS => set(h264::sps_id(nal).map(SetId::Sequence)),
            PPS => set(h264::pps_id(nal).map(SetId::Picture)),
            _ => Unit::Useless,
        }
    }

    /// The highest importance of those in it (RFC 6184 §5.7).
    fn aggregate(header: &mut [u8], nal: &[u8], first: bool) {
        let importance = |header: Option<&u8>| header.map_or(0, |it| it & 0x60);
        let before = if first { 0 } else { importance(header.first()) };
        header.fill(STAP_A | importance(nal.first()).max(before));
    }

    fn fragment(nal: &[u8]) -> ([u8; 3], usize) {
        let header = nal.first().copied().unwrap_or_default();
        ([header & 0x60 | FU_A, header & 0x1f, 0], 2)
    }

    /// RFC 6184 §8.1, in the words and the order of browsers.
    fn parameters(set: &[u8]) -> Option<String> {
        let [profile, constraints, level] = set.get(1..)?.first_chunk()?;
        Some(format!(
            "level-asymmetry-allowed=1;packetization-mode=1;\
             profile-level-id={profile:02x}{constraints:02x}{level:02x}"
        ))
    }
}

/// Whether a slice is predicted from nothing else (H.264 §7.4.3): of type I or SI.
fn is_intra(body: &[u8]) -> bool {
    let mut slice = BitReader::escaped(body);
    let kind = slice.unsigned().and_then(|_first_macroblock| slice.unsigned());
    kind.is_some_and(|kind| matches!(kind % 5, 2 | 4))
}

/// Whether one of the messages is a recovery point (H.264 §7.3.2.3.1).
fn is_recovery_point(mut body: &[u8]) -> bool {
    while body.len() > 2 {
        let (Some(kind), Some(size)) = (read_number(&mut body), read_number(&mut body)) else {
            return false;
        };
        if kind == RECOVERY_POINT {
            return true;
        }
        body = body.get(size..).unwrap_or_default();
    }
    false
}

/// A number of as many bytes as are 255, and one more.
fn read_number(body: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    loop {
        let (&byte, rest) = body.split_first()?;
        *body = rest;
        number += usize::from(byte);
        if byte != 0xff {
            return Some(number);
        }
    }
}
