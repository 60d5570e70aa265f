//! NAL units into single packets, aggregates and fragments, as RFC 6184 and RFC 7798 have them.

use super::payloads::Payloads;
use crate::codec::parameter_sets::{ParameterSets, SetId};
use std::marker::PhantomData;

/// What a NAL unit is to a packetizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::codec) enum Unit {
    /// A parameter set, with its place.
    Set(SetId),
    /// A slice, with what it says of its picture.
    Slice(Start),
    /// What goes along with a picture.
    Supplement(Start),
    /// Delimiters, filler, what no browser decodes, what breaks the standard: left out.
    Useless,
}

/// Whether a decoder can start with a picture, as far as one unit of it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::codec) enum Start {
    /// It cannot.
    No,
    /// It could: it does where parameter sets stand before it.
    WithSets,
    /// It can.
    Yes,
}

/// Where the two codecs differ.
pub(in crate::codec) trait NalCodec {
    /// A NAL unit's header.
    const HEADER: usize;
    fn unit(nal: &[u8]) -> Unit;
    /// Writes the header of an aggregate with this unit in it over what is at the beginning, where
    /// `first` is false the header of those before.
    fn aggregate(header: &mut [u8], nal: &[u8], first: bool);
    /// The headers of a fragment of this unit, to be completed by [`FIRST`] and [`LAST`] in the
    /// last byte.
    fn fragment(nal: &[u8]) -> ([u8; 3], usize);
    /// What `a=fmtp` says of a sequence parameter set.
    fn parameters(set: &[u8]) -> Option<String>;
}

/// The bits of a fragment's header (RFC 6184 §5.8, RFC 7798 §4.4.3).
const FIRST: u8 = 0x80;
const LAST: u8 = 0x40;
/// The length before each unit of an aggregate.
const LENGTH: usize = 2;

/// Splits access units; remembers parameter sets.
#[derive(Debug)]
pub(super) struct Units<C> {
    sets: ParameterSets,
    /// How many units the payload being written has, as an aggregate; 0 where it is none.
    aggregated: usize,
    codec: PhantomData<C>,
}

impl<C> Default for Units<C> {
    fn default() -> Self {
        Self { sets: ParameterSets::default(), aggregated: 0, codec: PhantomData }
    }
}

impl<C: NalCodec> Units<C> {
    pub(super) fn packetize(&mut self, frame: &[u8], payloads: &mut Payloads<'_>) {
        self.aggregated = 0;
        self.skip(frame);
        let Some(starts) = look::<C>(frame) else { return };
        if starts {
            let sets = std::mem::take(&mut self.sets);
            for set in sets.iter() {
                self.write(set, payloads);
            }
            self.sets = sets;
        }
        for nal in units(frame) {
            match C::unit(nal) {
                // They stand before the picture already. Before one that is no start only those
                // of pictures may change; the others would make it look like one.
                Unit::Set(SetId::Picture(_)) if !starts => self.write(nal, payloads),
                Unit::Slice(_) | Unit::Supplement(_) => self.write(nal, payloads),
                Unit::Set(_) | Unit::Useless => {}
            }
        }
        self.close(payloads);
    }

    /// Remembers the parameter sets.
    pub(super) fn skip(&mut self, frame: &[u8]) {
        for nal in units(frame) {
            if let Unit::Set(id) = C::unit(nal) {
                self.sets.put(id, nal);
            }
        }
    }

    /// The frame with all parameter sets in front, where they do not stand in it already. What no
    /// decoder needs is left out.
    pub(super) fn with_sets(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let own_sets = units(frame).filter(|nal| matches!(C::unit(nal), Unit::Set(_)));
        if own_sets.eq(self.sets.iter()) {
            return None;
        }
        Some(with_sets::<C>(&self.sets, frame))
    }

    fn write(&mut self, nal: &[u8], payloads: &mut Payloads<'_>) {
        if self.aggregated > 0 && payloads.room() >= LENGTH + nal.len() {
            self.aggregate(nal, payloads);
            return;
        }
        self.close(payloads);
        payloads.begin();
        if C::HEADER + LENGTH + nal.len() <= payloads.max() {
            payloads.push(&[0; 2][..C::HEADER]);
            self.aggregate(nal, payloads);
        } else if nal.len() <= payloads.max() {
            payloads.push(nal);
        } else {
            Self::fragment(nal, payloads);
        }
    }

    fn aggregate(&mut self, nal: &[u8], payloads: &mut Payloads<'_>) {
        C::aggregate(&mut payloads.written()[..C::HEADER], nal, self.aggregated == 0);
        payloads.push(&(nal.len() as u16).to_be_bytes());
        payloads.push(nal);
        self.aggregated += 1;
    }

    /// An aggregate of one is that unit.
    fn close(&mut self, payloads: &mut Payloads<'_>) {
        if self.aggregated == 1 {
            payloads.written().drain(..C::HEADER + LENGTH);
        }
        self.aggregated = 0;
    }

    fn fragment(nal: &[u8], payloads: &mut Payloads<'_>) {
        let (header, len) = C::fragment(nal);
        let rest = nal.get(C::HEADER..).unwrap_or_default();
        let pieces = rest.chunks(payloads.max() - len);
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.enumerate() {
            let mut header = header;
            header[len - 1] |= if index == 0 { FIRST } else { 0 };
            header[len - 1] |= if index == last { LAST } else { 0 };
            payloads.begin();
            payloads.push(&header[..len]);
            payloads.push(piece);
        }
    }

    /// What `a=fmtp` says.
    pub(super) fn parameters(&self) -> Option<String> {
        C::parameters(self.sets.sequence()?)
    }
}

/// A frame with all these parameter sets in front, and of its own units only those of its picture.
pub(in crate::codec) fn with_sets<C: NalCodec>(sets: &ParameterSets, frame: &[u8]) -> Vec<u8> {
    let is_picture = |nal: &&[u8]| matches!(C::unit(nal), Unit::Slice(_) | Unit::Supplement(_));
    let mut whole = Vec::with_capacity(frame.len() + sets.len());
    for nal in sets.iter().chain(units(frame).filter(is_picture)) {
        write_unit(nal, &mut whole);
    }
    whole
}

/// Writes a NAL unit after its length in four bytes, as [`units`] reads it.
pub fn write_unit(nal: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(nal.len() as u32).to_be_bytes());
    bytes.extend_from_slice(nal);
}

/// Whether a decoder can start with the picture of a frame.
pub(in crate::codec) fn starts<C: NalCodec>(frame: &[u8]) -> bool {
    look::<C>(frame) == Some(true)
}

/// Whether a decoder can start with the picture of a frame; `None` where it has none.
pub(in crate::codec) fn look<C: NalCodec>(frame: &[u8]) -> Option<bool> {
    let (mut slices, mut supplements) = (None, Start::No);
    let mut has_sets = false;
    for nal in units(frame) {
        match C::unit(nal) {
            Unit::Set(id) => has_sets |= matches!(id, SetId::Sequence(_)),
            Unit::Slice(start) => slices = Some(slices.map_or(start, |it: Start| it.min(start))),
            Unit::Supplement(start) => supplements = supplements.max(start),
            Unit::Useless => {}
        }
    }
    let start = slices?.max(supplements);
    Some(start == Start::Yes || (start == Start::WithSets && has_sets))
}

/// The NAL units of a frame of H.264 or H.265, each after its length in four bytes. A length that
/// lies ends it.
pub fn units(mut frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = frame.split_first_chunk::<4>()?;
        let (unit, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        frame = rest;
        Some(unit)
    })
}
