//! What a packet's frame is within its layer, by what the codec says in each packet, and where a
//! viewer of fewer temporal layers can go up.
//!
//! VP8 says it of a frame itself. VP9 and the dependency descriptor say of a frame that those of
//! higher layers that follow need nothing of theirs from before: of each such layer the first one
//! is where to go up, if nothing is missing in between that might have been it.
//!
//! Fuzz target: `publisher`.

use super::layer::Arrival;
use crate::codec::dependency::{Dependency, Structure};
use crate::codec::descriptor::Descriptor;
use crate::media::layer::{Scale, Sizes};

/// Temporal layers have 3 bits at most.
const TEMPORAL_LAYERS: usize = 8;

/// The frames of one layer as they come.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// Of the newest keyframe that brought one, and the packet that did.
    structure: Option<Box<Structure>>,
    structure_at: u64,
    newest: Option<u64>,
    /// The newest frame's timestamp, and whether somebody can go up to its layer there.
    frame: Option<(u64, bool)>,
    /// The next frame of these temporal layers needs none of the same from before.
    is_open: [bool; TEMPORAL_LAYERS],
}

/// A packet in the layer's own numbering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) sequence: u64,
    pub(super) timestamp: u64,
    pub(super) keyframe: bool,
    pub(super) arrival: &'a Arrival<'a>,
}

/// What a packet says of its frame.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    spatial: u8,
    temporal: u8,
    ends: bool,
    /// The frame itself is where to go up.
    is_sync: bool,
    /// Up to this temporal layer the next frames need none of the same from before.
    opens: Option<u8>,
}

impl Scaling {
    /// The sizes of several spatial layers, where this packet has brought a structure that says
    /// them beside the payload.
    pub(super) fn sizes(&self, sequence: u64) -> Option<Sizes> {
        let structure = self.structure.as_ref().filter(|_| self.structure_at == sequence)?;
        Some(structure.sizes()).filter(|sizes| sizes.len() > 1)
    }

    /// What the packet's frame is; nothing where nothing is said.
    pub(super) fn scale(&mut self, piece: &Piece<'_>) -> Scale {
        let mut said = self.read(piece);
        if piece.keyframe {
            said.opens = Some(u8::MAX);
        }
        let is_switch = self.note(piece, said);
        Scale { spatial: said.spatial, temporal: said.temporal, is_switch, ends: said.ends }
    }

    fn read(&mut self, piece: &Piece<'_>) -> Said {
        let &Arrival { codec, payload, marker: ends, dependency, .. } = piece.arrival;
        let own = Descriptor::read(codec, payload);
        if let Some(own) = own.filter(|own| own.has_layers) {
            return Said {
                spatial: own.spatial,
                temporal: own.temporal,
                ends: own.ends || ends,
                is_sync: own.is_sync && own.temporal > 0,
                opens: own.is_up_point.then_some(u8::MAX),
            };
        }
        // Browsers leave out of the payload what the extension says.
        let dependency = dependency.and_then(|value| self.read_dependency(value, piece));
        dependency.map_or(Said { ends, ..Said::default() }, |read| Said {
            spatial: read.spatial,
            temporal: read.temporal,
            ends: read.ends || ends,
            is_sync: false,
            opens: read.opens,
        })
    }

    /// A structure that comes late takes no newer one's place.
    fn read_dependency(&mut self, value: &[u8], piece: &Piece<'_>) -> Option<Dependency> {
        if piece.sequence < self.structure_at {
            return Dependency::read(value, &mut self.structure.clone());
        }
        let read = Dependency::read(value, &mut self.structure);
        if read.is_some_and(|read| read.has_structure) {
            self.structure_at = piece.sequence;
        }
        read
    }

    /// Whether the packet's frame is where to go up to its temporal layer.
    fn note(&mut self, piece: &Piece<'_>, said: Said) -> bool {
        let is_next = self.newest.is_none_or(|newest| piece.sequence == newest + 1);
        let newest = self.newest.map_or(piece.sequence, |newest| newest.max(piece.sequence));
        if !is_next && newest == piece.sequence {
            self.is_open = [false; TEMPORAL_LAYERS];
        }
        self.newest = Some(newest);
        match self.frame {
            Some((timestamp, is_switch)) if timestamp == piece.timestamp => return is_switch,
            Some((timestamp, _)) if timestamp > piece.timestamp && !piece.keyframe => {
                return said.is_sync;
            }
            _ => {}
        }
        let temporal = usize::from(said.temporal) % TEMPORAL_LAYERS;
        let was_open = std::mem::take(&mut self.is_open[temporal]);
        let is_switch = said.is_sync || (said.temporal > 0 && was_open);
        if let Some(opens) = said.opens.filter(|_| said.spatial == 0) {
            let up_to = usize::from(opens).min(TEMPORAL_LAYERS - 1);
            self.is_open[(temporal + 1).min(up_to + 1)..=up_to].fill(true);
        }
        self.frame = Some((piece.timestamp, is_switch));
        is_switch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use std::time::Instant;

    /// What is said of a packet without picture id, of these frames one each.
    fn scale(scaling: &mut Scaling, sequence: u64, codec: Codec, payload: &[u8]) -> Scale {
        let arrival = Arrival {
            codec,
            sequence: sequence as u16,
            timestamp: 0,
            marker: true,
            repair: false,
            payload,
            dependency: None,
            now: Instant::now(),
        };
        let timestamp = match codec {
            Codec::Vp8 => 6_000,
            _ => sequence * 3_000,
        };
        scaling.scale(&Piece { sequence, timestamp, keyframe: false, arrival: &arrival })
    }

    /// Packets of VP9, one per frame: temporal layer and whether it is an up point. Where viewers
    /// can go up.
    fn switches(frames: &[(u64, u8, bool)]) -> Vec<u64> {
        let mut scaling = Scaling::default();
        let mut found = Vec::new();
        for &(sequence, temporal, is_up_point) in frames {
            let payload = [0x3c, temporal << 5 | u8::from(is_up_point) << 4, 0];
            let scale = scale(&mut scaling, sequence, Codec::Vp9, &payload);
            assert_eq!(scale.temporal, temporal);
            if scale.is_switch {
                found.push(sequence);
            }
        }
        found
    }

    #[test]
    fn the_first_of_each_higher_layer_after_an_up_point_is_where_to_go_up() {
        let frames = [(0, 0, true), (1, 2, false), (2, 1, true), (3, 2, false), (4, 2, false)];
        assert_eq!(switches(&frames), [1, 2, 3]);
        assert!(switches(&[(0, 0, false), (1, 2, false), (2, 1, false)]).is_empty());
        let own = switches(&[(0, 1, true), (1, 0, false), (2, 1, false)]);
        assert!(own.is_empty(), "an up point says nothing of its own layer");
    }

    #[test]
    fn what_is_missing_may_have_been_the_first() {
        assert_eq!(switches(&[(0, 0, true), (2, 1, false), (3, 0, true), (4, 1, false)]), [4]);
        // One that comes late says nothing of what is newer.
        assert_eq!(switches(&[(5, 0, true), (4, 1, false), (6, 1, false)]), [6]);
    }

    #[test]
    fn a_frame_of_vp8_says_it_of_itself_in_all_its_packets() {
        let mut scaling = Scaling::default();
        let first = scale(&mut scaling, 2, Codec::Vp8, &[0x90, 0x20, 0x60, 0]);
        let second = scale(&mut scaling, 3, Codec::Vp8, &[0x80, 0x20, 0x60, 0]);
        assert_eq!(first, Scale { spatial: 0, temporal: 1, is_switch: true, ends: true });
        assert_eq!(second, first);
    }
}
