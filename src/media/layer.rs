//! The layers of a track: which there are, what a packet is within its own, and the lanes in which
//! packets are numbered.
//!
//! A publisher that sends one encoding has one layer, [`LayerId::ONLY`]. The number of a layer says
//! nothing of its size: rids are names, and publishers list them in any order.

use super::bitrate::Bitrate;
use super::codec::{Codec, Kind};

/// The most layers of one track that are taken: simulcast has three, rarely four.
pub const LAYERS_MAX: usize = 8;

/// The most spatial layers of one layer: VP9 numbers them with 3 bits (RFC 9628 §4.2), AV1 with 2.
pub const SPATIAL_MAX: usize = 8;

/// One encoding of a video track, by its place among those that the publisher has offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(u8);

impl LayerId {
    /// The layer of a track that has no others.
    pub const ONLY: Self = Self(0);

    /// The layer at a place below [`LAYERS_MAX`]; beyond it there is none.
    pub const fn at(index: usize) -> Option<Self> {
        if index < LAYERS_MAX { Some(Self(index as u8)) } else { None }
    }

    /// Its place among the others.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What has a numbering and a clock of its own: the sound, or one layer of the picture (an RTP
/// stream, RFC 7656 §2.1.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The sound.
    Audio,
    /// A layer of the picture.
    Video(LayerId),
}

impl Lane {
    /// The lanes of a stream whose video has one layer.
    pub const SINGLE: [Self; 2] = [Self::Audio, Self::Video(LayerId::ONLY)];

    /// Of a kind, in a layer that means nothing for sound.
    pub const fn of(kind: Kind, layer: LayerId) -> Self {
        match kind {
            Kind::Audio => Self::Audio,
            Kind::Video => Self::Video(layer),
        }
    }

    /// Audio or video.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Audio => Kind::Audio,
            Self::Video(_) => Kind::Video,
        }
    }
}

/// What a packet's frame is within its layer: by that it can be left out without harm to others.
///
/// A frame refers to none of a higher temporal layer, nor of a higher spatial one (SVC). All zero
/// where the codec does not say: then nothing can be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scale {
    /// The spatial layer, from 0 (RFC 9628 `SID`, AV1 `spatial_id`); of simulcast always 0.
    pub spatial: u8,
    /// The temporal layer, from 0 (RFC 7741 `TID`, RFC 9628 `TID`, AV1 `temporal_id`).
    pub temporal: u8,
    /// Whoever has had all lower temporal layers can go up to this one here (RFC 7741 `Y`, RFC 9628
    /// `U`, AV1 `S` or a decode target's switch).
    pub is_switch: bool,
    /// Whether this packet is the last of its frame, which has others of higher spatial layers
    /// behind it, or the marker.
    pub ends: bool,
}

/// Width and height of each spatial layer's picture, lowest first, as a keyframe tells them: one
/// where there are no more, none where it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    sizes: [(u16, u16); SPATIAL_MAX],
    len: u8,
}

impl Sizes {
    /// With that of the next higher spatial layer; beyond [`SPATIAL_MAX`] there is none.
    #[must_use]
    pub const fn with(mut self, size: (u16, u16)) -> Self {
        if self.len() < SPATIAL_MAX {
            self.sizes[self.len()] = size;
            self.len += 1;
        }
        self
    }

    /// How many spatial layers it is said of.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is said.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// That of a spatial layer.
    pub fn get(&self, spatial: usize) -> Option<(u16, u16)> {
        self.sizes[..self.len()].get(spatial).copied()
    }

    /// The largest: that of the whole.
    pub fn largest(&self) -> Option<(u16, u16)> {
        self.sizes[..self.len()].iter().copied().max()
    }
}

impl From<Option<(u16, u16)>> for Sizes {
    fn from(size: Option<(u16, u16)>) -> Self {
        size.map_or_else(Self::default, |size| Self::default().with(size))
    }
}

/// A layer that is made here of what the publisher sends, where that is one layer only: as long as
/// nobody gets it, nothing is made.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeLayer {
    /// Its name, as a rid: `720p`.
    pub rid: String,
    /// How it is encoded, whatever the publisher sends.
    pub codec: Codec,
    /// Its picture's width and height.
    pub dimensions: (u16, u16),
    /// Pictures per second.
    pub frame_rate: f64,
    /// What it carries at most.
    pub bitrate: Bitrate,
    /// Whether it can be had: false where there is not enough of the machine for it.
    pub is_available: bool,
}

impl MadeLayer {
    /// The most of one track, beside the publisher's own.
    pub const MAX: usize = LAYERS_MAX - 1;

    /// The place of the made layer at `index` among all layers: behind the publisher's own.
    pub const fn id(index: usize) -> Option<LayerId> {
        LayerId::at(index + 1)
    }

    /// At which place among the made ones a layer is, if it is not the publisher's own.
    pub const fn index(layer: LayerId) -> Option<usize> {
        layer.index().checked_sub(1)
    }

    /// What it is to carry, where nothing of it has been measured.
    pub fn state(&self, layer: LayerId) -> LayerState {
        let Self { ref rid, codec, dimensions, frame_rate, bitrate, is_available } = *self;
        let dimensions = Some(dimensions);
        LayerState {
            layer,
            rid: rid.clone(),
            codec: Some(codec),
            bitrate,
            dimensions,
            frame_rate,
            is_active: true,
            is_made: true,
            is_idle: true,
            is_withdrawn: !is_available,
            spatial: vec![SpatialState { dimensions, temporal: vec![bitrate] }],
        }
    }
}

/// A layer with what of it is sent to somebody, or is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectedLayer {
    /// Which.
    pub layer: LayerId,
    /// The highest spatial layer of it.
    pub spatial: u8,
    /// The highest temporal layer of it.
    pub temporal: u8,
}

/// What one layer carries, as measured here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerState {
    /// Which.
    pub layer: LayerId,
    /// Its name in the publisher's offer (RFC 8851); empty where there is only one.
    pub rid: String,
    /// How it is encoded.
    pub codec: Option<Codec>,
    /// What came of it over the last two seconds or so.
    pub bitrate: Bitrate,
    /// Its picture's width and height, once a keyframe has told them.
    pub dimensions: Option<(u16, u16)>,
    /// Pictures per second over the last two seconds or so.
    pub frame_rate: f64,
    /// Whether it flows: nothing has come of a layer that does not for some time, while others
    /// went on. One that is made here also where it could.
    pub is_active: bool,
    /// Whether it is made here.
    pub is_made: bool,
    /// Whether it is made only once somebody wants it: nothing of it flows.
    pub is_idle: bool,
    /// Whether nobody is to get it any more, as it will not be made for long.
    pub is_withdrawn: bool,
    /// What is within it, by spatial layer (SVC), lowest first; one where there are no more.
    pub spatial: Vec<SpatialState>,
}

/// What one spatial layer carries, as measured here, those below it included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpatialState {
    /// Its picture's width and height, where a keyframe has told them.
    pub dimensions: Option<(u16, u16)>,
    /// The rate up to and including each temporal layer, lowest first; one where there are no
    /// more.
    pub temporal: Vec<Bitrate>,
}

impl LayerState {
    /// The highest spatial layer in it (SVC); 0 without.
    pub fn spatial_max(&self) -> u8 {
        self.spatial.len().saturating_sub(1) as u8
    }

    /// The highest temporal layer in it; 0 without.
    pub fn temporal_max(&self) -> u8 {
        self.spatial.last().map_or(0, |highest| highest.temporal.len().saturating_sub(1) as u8)
    }

    /// What so much of it carries.
    pub fn rate(&self, SelectedLayer { spatial, temporal, .. }: SelectedLayer) -> Bitrate {
        let within = self.spatial.get(usize::from(spatial));
        let rate = within.and_then(|within| within.temporal.get(usize::from(temporal)));
        rate.copied().unwrap_or(self.bitrate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_layers_as_are_taken() {
        assert_eq!(LayerId::at(0), Some(LayerId::ONLY));
        assert_eq!(LayerId::at(LAYERS_MAX - 1).map(LayerId::index), Some(LAYERS_MAX - 1));
        assert_eq!(LayerId::at(LAYERS_MAX), None);
    }

    #[test]
    fn sizes_are_those_that_were_told_and_no_more_than_there_can_be() {
        let of = |sides: std::ops::Range<u16>| {
            sides.fold(Sizes::default(), |sizes, side| sizes.with((side, side)))
        };
        assert!(of(0..0).is_empty() && Sizes::from(None).largest().is_none());
        let three = of(7..10);
        assert_eq!((three.get(0), three.get(2), three.get(3)), (Some((7, 7)), Some((9, 9)), None));
        assert_eq!(three.largest(), Some((9, 9)));
        assert_eq!(of(1..100).len(), SPATIAL_MAX);
    }

    #[test]
    fn sound_has_one_lane() {
        let second = LayerId::at(1).expect("below the most");
        assert_eq!(Lane::of(Kind::Audio, second), Lane::Audio);
        assert_eq!(Lane::of(Kind::Video, second), Lane::Video(second));
        assert_eq!(Lane::SINGLE.map(Lane::kind), Kind::ALL);
    }
}
