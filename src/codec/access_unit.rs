//! What decoders must have, before each start: whoever begins there needs nothing else.
//!
//! Publishers send parameter sets before each keyframe, or once, or only in their offer. Pure
//! functions of the frames so far, laid out as [`crate::media::frame::Coding`] says. Fuzz target:
//! `depacketizer`.

use super::av1::{SEQUENCE_HEADER, TEMPORAL_DELIMITER};
use super::keyframe_size;
use super::packetizer::av1::{self, PADDING, TILE_LIST, obus};
use super::packetizer::nal::{self, NalCodec, Unit};
use super::packetizer::{h264::H264, h265::H265, nal_units, write_nal_unit};
use super::parameter_sets::{ParameterSets, SetId};
use crate::media::codec::Codec;
use bytes::Bytes;

/// The frames of one video track.
#[derive(Debug)]
pub struct AccessUnits {
    codec: Codec,
    sets: ParameterSets,
    /// The newest sequence header of AV1, with its size field.
    sequence: Vec<u8>,
}

impl AccessUnits {
    /// Encoders write sequence headers of a few dozen bytes.
    const SEQUENCE_MAX: usize = 1_024;
    /// Encoders change one set or two at a time.
    const CHANGED_MAX: usize = 16;

    /// Of this codec.
    pub fn new(codec: Codec) -> Self {
        Self { codec, sets: ParameterSets::default(), sequence: Vec::new() }
    }

    /// The codec.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Remembers a parameter set that comes apart from frames: a NAL unit.
    pub fn put(&mut self, nal: &[u8]) {
        let unit = if self.codec == Codec::H265 { H265::unit(nal) } else { H264::unit(nal) };
        if let Unit::Set(id) = unit {
            self.sets.put(id, nal);
        }
    }

    /// A frame with all parameter sets before it where it is a start, and none where not; without
    /// delimiters and filler. With it, whether it is a start: [`keyframe_size`] reads it then.
    /// `None` where it has no picture.
    pub fn complete(&mut self, frame: &[u8]) -> Option<(Bytes, bool)> {
        let (frame, may_start) = match self.codec {
            Codec::H264 => self.complete_nal::<H264>(frame)?,
            Codec::H265 => self.complete_nal::<H265>(frame)?,
            Codec::Av1 => self.complete_av1(frame)?,
            // They have all that a decoder needs in each keyframe.
            Codec::Vp8 | Codec::Vp9 => (frame.to_vec(), true),
            Codec::Opus => return None,
        };
        let starts = may_start && keyframe_size(self.codec, &frame).is_some();
        Some((frame.into(), starts))
    }

    fn complete_nal<C: NalCodec>(&mut self, frame: &[u8]) -> Option<(Vec<u8>, bool)> {
        let mut changed = Vec::new();
        for nal in nal_units(frame) {
            if let Unit::Set(id) = C::unit(nal)
                && self.sets.put(id, nal)
                && changed.len() < Self::CHANGED_MAX
            {
                changed.push(nal);
            }
        }
        if nal::look::<C>(frame)? {
            return Some((nal::with_sets::<C>(&self.sets, frame), true));
        }
        let mut complete = Vec::with_capacity(frame.len());
        for nal in nal_units(frame) {
            match C::unit(nal) {
                // Those of pictures may change between keyframes.
                Unit::Set(SetId::Picture(_)) if changed.contains(&nal) => {
                    write_nal_unit(nal, &mut complete);
                }
                Unit::Slice(_) | Unit::Supplement(_) => write_nal_unit(nal, &mut complete),
                Unit::Set(_) | Unit::Useless => {}
            }
        }
        Some((complete, false))
    }

    fn complete_av1(&mut self, frame: &[u8]) -> Option<(Vec<u8>, bool)> {
        let header = obus(frame).find(|obu| obu.kind() == SEQUENCE_HEADER);
        if let Some(header) = header.filter(|it| it.body.len() <= Self::SEQUENCE_MAX) {
            self.sequence.clear();
            header.write(&mut self.sequence);
        }
        let starts = av1::first_is_key(frame)?;
        let mut complete = Vec::with_capacity(frame.len() + self.sequence.len());
        if starts && header.is_none() {
            complete.extend_from_slice(&self.sequence);
        }
        for obu in obus(frame) {
            if !matches!(obu.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
                obu.write(&mut complete);
            }
        }
        Some((complete, starts))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    const SPS: &str = "6764001eacd940a42fe224c044000003000400000300f03c58b658";
    const PPS: &str = "68ebe3cb22c0";

    fn nals(units: &[&str]) -> Vec<u8> {
        let sized = |digits: &&str| {
            let unit = hex(digits);
            [&(unit.len() as u32).to_be_bytes()[..], &unit].concat()
        };
        units.iter().flat_map(sized).collect()
    }

    #[test]
    fn sets_that_came_once_stand_before_each_start_and_nowhere_else() {
        let mut units = AccessUnits::new(Codec::H264);
        let whole = nals(&[SPS, PPS, "658884"]);
        assert_eq!(units.complete(&nals(&["658884"])), Some((nals(&["658884"]).into(), false)));
        let with_delimiter = nals(&["0910", SPS, PPS, "658884"]);
        assert_eq!(units.complete(&with_delimiter), Some((whole.clone().into(), true)));
        let delta = nals(&["419a22"]);
        assert_eq!(units.complete(&nals(&[SPS, PPS, "419a22"])), Some((delta.into(), false)));
        assert_eq!(units.complete(&nals(&["658884"])), Some((whole.into(), true)));
        let changed = nals(&["68ce0fc8", "419a22"]);
        assert_eq!(units.complete(&changed), Some((changed.clone().into(), false)));
        assert_eq!(units.complete(&nals(&[SPS])), None, "no picture");
    }

    #[test]
    fn sets_of_the_offer_will_do() {
        let mut units = AccessUnits::new(Codec::H264);
        units.put(&hex(SPS));
        units.put(&hex(PPS));
        units.put(&hex("419a22"));
        let whole = nals(&[SPS, PPS, "658884"]);
        assert_eq!(units.complete(&nals(&["658884"])), Some((whole.into(), true)));
    }

    #[test]
    fn av1_has_its_sequence_header_before_each_start() {
        let mut units = AccessUnits::new(Codec::Av1);
        let (header, key, delta) = ("0a0b0000000cc5036936be4010", "320210aa", "320230aa");
        let whole = hex(&[header, key].concat());
        assert_eq!(units.complete(&hex(key)), Some((hex(key).into(), false)));
        let with_delimiter = hex(&["1200", header, key].concat());
        assert_eq!(units.complete(&with_delimiter), Some((whole.clone().into(), true)));
        assert_eq!(units.complete(&hex(delta)), Some((hex(delta).into(), false)));
        assert_eq!(units.complete(&hex(key)), Some((whole.into(), true)));
    }
}
