//! H.265's part in packets of NAL units (RFC 7798), without decoding order numbers.

use super::nal::{NalCodec, Start, Unit};
use crate::codec::h265::{self, AGGREGATION, FRAGMENTATION, PPS, RANDOM_ACCESS, SPS, VPS};
use crate::codec::parameter_sets::SetId;

/// The codec.
#[derive(Debug)]
pub(in crate::codec) struct H265;

/// Prefix and suffix SEI (H.265 table 7-1).
const SEI: std::ops::RangeInclusive<u8> = 39..=40;

impl NalCodec for H265 {
    const HEADER: usize = 2;

    fn unit(nal: &[u8]) -> Unit {
        let Some(([high, low], [_, ..])) = nal.split_first_chunk() else { return Unit::Useless };
        let [is_forbidden, layer, temporal] = [high & 0x80, (high & 1) << 5 | low >> 3, low & 7];
        // Layers above the base are enhancements of views and sizes that browsers do not decode.
        if is_forbidden != 0 || layer != 0 || temporal == 0 {
            return Unit::Useless;
        }
        let set = |id: Option<SetId>| id.map_or(Unit::Useless, Unit::Set);
        match high >> 1 {
            0..=9 => Unit::Slice(Start::No),
            kind if RANDOM_ACCESS.contains(&kind) => Unit::Slice(Start::Yes),
            VPS => set(h265::vps_id(nal).map(SetId::Video)),
            SPS => set(h265::sps_id(nal).map(SetId::Sequence)),
            PPS => set(h265::pps_id(nal).map(SetId::Picture)),
            kind if SEI.contains(&kind) => Unit::Supplement(Start::No),
            _ => Unit::Useless,
        }
    }

    /// The lowest temporal layer of those in it (RFC 7798 §4.4.2); all are of the base layer.
    fn aggregate(header: &mut [u8], nal: &[u8], first: bool) {
        let temporal = |header: &[u8]| header.get(1).map_or(1, |low| low & 7);
        let before = if first { 7 } else { temporal(header) };
        header.copy_from_slice(&[AGGREGATION << 1, temporal(nal).min(before)]);
    }

    fn fragment(nal: &[u8]) -> ([u8; 3], usize) {
        let [high, low] = nal.first_chunk().copied().unwrap_or_default();
        ([FRAGMENTATION << 1, low, high >> 1 & 0x3f], 3)
    }

    /// RFC 7798 §7.1, in the words and the order of browsers.
    fn parameters(set: &[u8]) -> Option<String> {
        let h265::Capability { profile, tier, level } = h265::capability(set)?;
        Some(format!("level-id={level};profile-id={profile};tier-flag={tier};tx-mode=SRST"))
    }
}
