//! Encodings of which frames can be left out: what each frame is, what it refers to, and how its
//! packets say so, in their descriptor or in a header extension.

use crate::picture::{Bits, Place};
use millrace::media::codec::Codec;

/// Which layers an encoding has within it, by the names of W3C's "Scalable Video Coding (SVC)
/// Extension for WebRTC".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    L1T1,
    /// Three temporal layers.
    L1T3,
    /// These, in each of three spatial layers, of which the higher ones refer to the lower ones in
    /// keyframes only.
    L3T3KEY,
}

/// So many layers there are of each sort.
const LAYERS: usize = 3;
/// Templates of a dependency descriptor for each spatial layer.
const TEMPLATES: u32 = 6;
/// Pictures of a period, by their temporal layers.
const PERIOD: [u8; 4] = [0, 2, 1, 2];

/// A frame: of each spatial layer a picture has one.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    /// Which picture, counted from the first.
    pub(crate) picture: u64,
    /// The frames that it refers to, by their numbers.
    pub(crate) refers: Vec<usize>,
    pub(crate) says: Says,
}

/// What its packets say of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Says {
    codec: Codec,
    mode: Mode,
    is_key: bool,
    spatial: u8,
    temporal: u8,
    /// Frames of higher temporal layers refer to none of theirs from before this one, nor does this
    /// one itself to others than those of the lowest.
    is_sync: bool,
    picture: u16,
    base: u8,
}

/// An encoder's state.
#[derive(Debug, Clone)]
pub(crate) struct Scaler {
    codec: Codec,
    mode: Mode,
    pictures: u64,
    /// Since the keyframe.
    position: usize,
    base: u8,
    /// The newest frame of each spatial and temporal layer.
    newest: [[Option<usize>; LAYERS]; LAYERS],
}

impl Mode {
    /// How many frames a picture has.
    pub(crate) const fn spatial(self) -> u8 {
        match self {
            Self::L1T1 | Self::L1T3 => 1,
            Self::L3T3KEY => LAYERS as u8,
        }
    }

    /// Whether frames can be left out.
    pub(crate) fn is_scalable(self) -> bool {
        self != Self::L1T1
    }

    /// How many packets the frame of a spatial layer has, of so many of the whole picture.
    pub(crate) fn packets(self, spatial: u8, all: usize) -> usize {
        match (self, spatial) {
            (Self::L1T1 | Self::L1T3, _) => all,
            (Self::L3T3KEY, 0) => (all / 8).max(1),
            (Self::L3T3KEY, 1) => (all / 4).max(1),
            (Self::L3T3KEY, _) => (all - all / 8 - all / 4).max(1),
        }
    }
}

impl Scaler {
    /// The count of pictures begins shortly before a turn.
    const FIRST_PICTURE: u64 = 0x7fe0;

    pub(crate) fn new(codec: Codec, mode: Mode) -> Self {
        let (pictures, base) = (Self::FIRST_PICTURE, 250);
        Self { codec, mode, pictures, position: 0, base, newest: Default::default() }
    }

    /// The frames of the next picture, the lowest first, whose number is `first`.
    pub(crate) fn picture(&mut self, keyframe: bool, first: usize) -> Vec<Frame> {
        if keyframe {
            (self.position, self.newest) = (0, Default::default());
        }
        let place = self.position % PERIOD.len();
        let temporal = PERIOD[place];
        // In every other period nothing refers to what was before it.
        let is_anew = (self.position / PERIOD.len()).is_multiple_of(2);
        self.base = self.base.wrapping_add(u8::from(temporal == 0));
        let mut frames = Vec::new();
        for spatial in 0..self.mode.spatial() {
            let of = |temporal: usize| self.newest[usize::from(spatial)][temporal];
            let again = |temporal: usize| of(temporal).filter(|_| !is_anew);
            let refers = match (place, keyframe) {
                (_, true) => [usize::from(spatial).checked_sub(1).map(|below| first + below), None],
                (0, false) => [of(0), None],
                (1, false) => [of(0), again(2)],
                (2, false) => [of(0), again(1)],
                (_, false) => [of(1), of(2)],
            };
            let number = first + usize::from(spatial);
            self.newest[usize::from(spatial)][usize::from(temporal)] = Some(number);
            let says = Says {
                codec: self.codec,
                mode: self.mode,
                is_key: keyframe,
                spatial,
                temporal,
                is_sync: is_anew && place < 3,
                picture: self.pictures as u16 & 0x7fff,
                base: self.base,
            };
            let refers = refers.into_iter().flatten().collect();
            frames.push(Frame { spatial, temporal, picture: self.pictures, refers, says });
        }
        self.pictures += 1;
        self.position += 1;
        frames
    }
}

const fn bit(set: bool, place: u8) -> u8 {
    (set as u8) << place
}

impl Says {
    /// Whether it is of the spatial layer that decoders begin with.
    pub(crate) const fn is_lowest(self) -> bool {
        self.spatial == 0
    }

    /// The descriptor at the start of a payload, where the codec has one.
    pub(crate) fn descriptor(self, place: Place, size: (u16, u16)) -> Vec<u8> {
        let [high, low] = (0x8000 | self.picture).to_be_bytes();
        match self.codec {
            // X; then I, L and T (RFC 7741 §4.2). Of the base layer nothing is said by Y.
            Codec::Vp8 => {
                let sync = bit(self.is_sync && self.temporal > 0, 5);
                vec![
                    0x80 | bit(place.first, 4),
                    0xe0,
                    high,
                    low,
                    self.base,
                    self.temporal << 6 | sync,
                ]
            }
            // I, P, L, B, E and V (RFC 9628 §4.2); then T, U, S and D.
            Codec::Vp9 => {
                let structure = self.is_key && place.first && self.is_lowest();
                let flags = 0xa0 | bit(!self.is_key, 6) | bit(place.first, 3) | bit(place.last, 2);
                let up = bit(self.is_sync && self.temporal == 0, 4);
                let below = bit(self.is_key && !self.is_lowest(), 0);
                let layer = self.temporal << 5 | up | self.spatial << 1 | below;
                let mut all = vec![flags | bit(structure, 1), high, low, layer, self.base];
                if structure {
                    all.extend(self.structure(size));
                }
                all
            }
            _ => Vec::new(),
        }
    }

    /// The sizes of the spatial layers (RFC 9628 §4.2.1), each half of the next.
    fn structure(self, (width, height): (u16, u16)) -> Vec<u8> {
        let highest = self.mode.spatial() - 1;
        let sides = (0..=highest).flat_map(|spatial| {
            [width, height].map(|side| (side >> (highest - spatial)).to_be_bytes())
        });
        let mut all = vec![highest << 5 | 0x10];
        all.extend(sides.flatten());
        all
    }

    /// The dependency descriptor (AOM "RTP Payload Format For AV1" 1.0, Appendix A), where the
    /// payload says nothing. Keyframes bring a structure, which tells how large a picture of this
    /// size is in each of several spatial layers.
    pub(crate) fn dependency(
        self,
        place: Place,
        number: u16,
        size: (u16, u16),
        joined: bool,
    ) -> Option<Vec<u8>> {
        if matches!(self.codec, Codec::Vp8 | Codec::Vp9) || !self.mode.is_scalable() {
            return None;
        }
        let template = match (self.is_key, self.temporal, self.is_sync) {
            (true, ..) => 0,
            (_, 0, true) => 1,
            (_, 0, false) => 2,
            (_, 1, true) => 3,
            (_, 1, false) => 4,
            (_, _, _) => 5,
        };
        let template = u32::from(self.spatial) * TEMPLATES + template;
        let bits = Bits::default().put(place.first.into(), 1).put(place.last.into(), 1);
        let bits = bits.put(template, 6).put(number.into(), 16);
        // Of a keyframe the first packet brings it, of the lowest spatial layer.
        if !self.is_key || !self.is_lowest() || !place.first {
            return Some(bits.bytes());
        }
        // And nothing of its own.
        Some(self.templates(bits.put(0b1_0000, 5), size, joined).bytes())
    }

    /// The structure: templates from 0 on, and a decode target for each layer. As viewers get it
    /// spatial layers are joined: each frame says that it needs the one below.
    fn templates(self, bits: Bits, size: (u16, u16), joined: bool) -> Bits {
        let spatial = u32::from(self.mode.spatial());
        let targets = spatial * LAYERS as u32;
        let mut bits = bits.put(0, 6).put(targets - 1, 5);
        // From template to template the same temporal layer or the next; then the next spatial one.
        for layer in 0..spatial {
            let last = if layer + 1 == spatial { 0b11 } else { 0b10 };
            bits = bits.put(0b00_00_01_00_01, 10).put(last, 2);
        }
        // What each is to the targets of its spatial layer, by temporal layer: required, switched
        // to, or not in it (table A.1). To higher ones keyframes are switched to, and others not in
        // it.
        let own = [[2, 2, 2], [2, 2, 2], [2, 3, 3], [0, 2, 3], [0, 3, 3], [0, 0, 3]];
        for layer in 0..spatial {
            for (kind, own) in own.iter().enumerate() {
                for target in 0..spatial {
                    let above = u32::from(target > layer && kind == 0) * 2;
                    let all = if target == layer { *own } else { [above; LAYERS] };
                    bits = all.into_iter().fold(bits, |bits, indication| bits.put(indication, 2));
                }
            }
        }
        // Differences of frame numbers, each behind a one: of pictures as a rule.
        let differences: [&[u32]; 6] = [&[], &[4], &[4], &[2], &[2, 4], &[1]];
        for layer in 0..spatial {
            for (kind, pictures) in differences.iter().enumerate() {
                let needs = layer > 0 && (kind == 0 || joined);
                let below: &[u32] = if needs { &[1] } else { &[] };
                let all = pictures.iter().map(|by| by * spatial).chain(below.iter().copied());
                bits = all.fold(bits, |bits, by| bits.put(1, 1).put(by - 1, 4)).put(0, 1);
            }
        }
        // No chains: a number below one more than there are targets.
        bits = bits.put(0, if targets == 3 { 2 } else { 3 });
        if spatial == 1 {
            return bits.put(0, 1);
        }
        let side = |side: u16, layer: u32| u32::from(side >> (spatial - 1 - layer)) - 1;
        (0..spatial).fold(bits.put(1, 1), |bits, layer| {
            bits.put(side(size.0, layer), 16).put(side(size.1, layer), 16)
        })
    }

    /// How many templates there are.
    pub(crate) const fn template_count(self) -> u8 {
        self.mode.spatial() * TEMPLATES as u8
    }
}

/// A payload without the numbers of its descriptor, which viewers see others of.
pub(crate) fn unnumbered(codec: Codec, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let numbers: &[usize] = match codec {
        Codec::Vp8 => &[2, 3, 4],
        Codec::Vp9 => &[1, 2, 4],
        _ => &[],
    };
    for &at in numbers {
        payload.get_mut(at).into_iter().for_each(|byte| *byte = 0);
    }
    // Nor whether the frame needs the one of the spatial layer below, which they are told it does.
    if codec == Codec::Vp9
        && let Some(layer) = payload.get_mut(3)
    {
        *layer &= !0x01;
    }
    payload
}

/// The picture id and the count of base layer frames of a payload that has both.
pub(crate) fn numbers(codec: Codec, payload: &[u8]) -> Option<(u16, u8)> {
    let (picture, base) = match codec {
        Codec::Vp8 => ([*payload.get(2)?, *payload.get(3)?], *payload.get(4)?),
        Codec::Vp9 => ([*payload.get(1)?, *payload.get(2)?], *payload.get(4)?),
        _ => return None,
    };
    Some((u16::from_be_bytes(picture) & 0x7fff, base))
}
