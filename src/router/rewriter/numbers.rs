//! The numbers of frames in payload descriptors, as a viewer sees them: VP8's and VP9's picture ids
//! and counts of base layer frames (RFC 7741 §4.2, RFC 9628 §4.2); and those of frames and
//! templates in dependency descriptors (AOM "RTP Payload Format For AV1" 1.0, Appendix A).
//!
//! From stay to stay they go on by one. Within a stay they keep their differences: VP9's frames
//! refer to each other by those, and by where they stand in their group of pictures. Only of VP8,
//! whose receivers wait for each picture id that is missing, are those moved that follow a frame
//! that is left out.

use super::ring::Ring;
use crate::codec::dependency;
use crate::codec::descriptor::{Descriptor, PictureId};
use crate::media::packet::Packet;
use crate::media::patch::{DependencyMoved, Patch};

/// The highest numbers of frames; `None` where there were none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The picture id: 15 bits, or 7.
    pub picture: Option<u16>,
    /// The count of base layer frames (`TL0PICIDX`).
    pub base: Option<u8>,
    /// The number in the dependency descriptor.
    pub frame: Option<u16>,
    /// The number after that of the last template there.
    pub template: Option<u8>,
}

impl Numbers {
    /// There were none.
    pub const NONE: Self = Self { picture: None, base: None, frame: None, template: None };

    /// These, and of what there were none those from before.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self {
            picture: self.picture.or(before.picture),
            base: self.base.or(before.base),
            frame: self.frame.or(before.frame),
            template: self.template.or(before.template),
        }
    }

    /// A packet that was sent, and the descriptor of its payload.
    pub(super) fn note(&mut self, packet: &Packet, own: Option<&Descriptor>) {
        if let Some(own) = own {
            self.note_payload(own);
        }
        if !packet.dependency.is_empty() {
            self.note_dependency(&packet.dependency);
        }
    }

    /// Whether a packet's frame has a number in its dependency descriptor that is not behind these.
    pub(super) fn is_behind(&self, packet: &Packet) -> bool {
        let Some((newest, read)) = self.frame.zip(dependency::Numbers::read(&packet.dependency))
        else {
            return false;
        };
        let ahead = read.frame.wrapping_sub(newest);
        ahead == 0 || ahead >= 1 << 15
    }

    fn note_dependency(&mut self, value: &[u8]) {
        let Some(read) = dependency::Numbers::read(value) else { return };
        if self.frame.is_none_or(|newest| read.frame.wrapping_sub(newest) < 1 << 15) {
            self.frame = Some(read.frame);
            self.template = read.templates.map(|(_, end)| end).or(self.template);
        }
    }

    fn note_payload(&mut self, own: &Descriptor) {
        if let Some(id) = own.picture_id
            && self.picture.is_none_or(|newest| is_after(id, newest))
        {
            self.picture = Some(id.value);
        }
        if let Some(index) = own.base_index
            && self.base.is_none_or(|newest| index.value.wrapping_sub(newest) < 0x80)
        {
            self.base = Some(index.value);
        }
    }
}

/// Whether a picture id comes after another, of which it is not further than half a turn away.
const fn is_after(id: PictureId, other: u16) -> bool {
    let ahead = id.value.wrapping_sub(other) & id.mask();
    ahead != 0 && ahead <= id.mask() / 2
}

/// By how much a stay's numbers are moved, wrapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) picture: u16,
    pub(super) base: u8,
    dependency: DependencyMoved,
}

/// Picture ids have so many bits at most.
const PICTURE_MASK: u16 = 0x7fff;

impl Moved {
    /// What makes these numbers come next.
    ///
    /// Of templates too: whoever misses the packet that brings the new ones must not take the old
    /// ones for them.
    pub(super) fn between(packet: &Packet, before: Numbers) -> Self {
        let own = Descriptor::read(packet.codec, &packet.payload).unwrap_or_default();
        let picture = before.picture.zip(own.picture_id);
        let base = before.base.zip(own.base_index);
        let described = dependency::Numbers::read(&packet.dependency);
        let frame = before.frame.zip(described.map(|it| it.frame));
        let template = before.template.zip(described.and_then(|it| it.templates));
        let dependency = DependencyMoved {
            frame: frame.map_or(0, |(before, own)| before.wrapping_add(1).wrapping_sub(own)),
            template: template.map_or(0, |(before, (own, _))| before.wrapping_sub(own)),
        };
        Self {
            dependency,
            picture: picture.map_or(0, |(before, own)| {
                before.wrapping_add(1).wrapping_sub(own.value) & PICTURE_MASK
            }),
            base: base.map_or(0, |(before, own)| before.wrapping_add(1).wrapping_sub(own.value)),
        }
    }

    pub(super) fn applied(self, numbers: Numbers) -> Numbers {
        let picture = |picture: u16| picture.wrapping_add(self.picture) & PICTURE_MASK;
        let DependencyMoved { frame, template } = self.dependency;
        Numbers {
            picture: numbers.picture.map(picture),
            base: numbers.base.map(|base| base.wrapping_add(self.base)),
            frame: numbers.frame.map(|it| it.wrapping_add(frame)),
            template: numbers.template.map(|it| it.wrapping_add(template)),
        }
    }

    /// What differs in a packet, whose payload has this descriptor.
    pub(super) fn patch(self, packet: &Packet, own: Option<&Descriptor>) -> Patch {
        let mut patch = Patch::NONE;
        patch.dependency = self.dependency;
        let (Some(own), payload) = (own, packet.payload.as_slice()) else { return patch };
        if let Some(id) = own.picture_id.filter(|_| self.picture != 0) {
            let value = id.value.wrapping_add(self.picture) & id.mask();
            let [high, low] = value.to_be_bytes();
            let at = usize::from(id.at);
            if id.is_long {
                patch.set(payload, at, 0x80 | high);
                patch.set(payload, at + 1, low);
            } else {
                patch.set(payload, at, low);
            }
        }
        if let Some(index) = own.base_index.filter(|_| self.base != 0) {
            patch.set(payload, usize::from(index.at), index.value.wrapping_add(self.base));
        }
        patch
    }
}

/// A frame of VP8, and the picture id that it has for the viewer.
#[derive(Debug, Clone, Copy)]
struct Picture {
    timestamp: u64,
    source: u16,
    /// Its own, or the last before it where it was left out.
    out: u16,
    /// How many picture ids are kept free between it and the frame before.
    kept: u16,
    /// They are for base layer frames, which `TL0PICIDX` counts; else for all that never came.
    by_base: bool,
    base: u8,
}

/// The picture ids of VP8 where frames are left out.
#[derive(Debug)]
pub(super) struct Pictures {
    frames: Ring<Picture, 128>,
}

impl Pictures {
    /// After all frames up to this timestamp have passed; their picture ids are moved by a
    /// constant.
    pub(super) const fn new(timestamp: u64, picture: u16, base: u8, moved: u16) -> Self {
        let out = picture.wrapping_add(moved) & PICTURE_MASK;
        let (source, kept, by_base) = (picture, 0, false);
        let newest = Picture { timestamp, source, out, kept, by_base, base };
        Self { frames: Ring::starting_with(newest) }
    }

    /// The viewer's highest.
    pub(super) const fn newest_out(&self) -> u16 {
        self.frames.last().out
    }

    /// A frame that is later than all before it. `only_base`: until it came, nothing but the base
    /// layer passed, and so how many are kept free is known.
    pub(super) fn note(&mut self, timestamp: u64, own: &Descriptor, passes: bool, only_base: bool) {
        let Some(id) = own.picture_id else { return };
        let last = self.frames.last();
        // Where they do not rise they have begun anew, and nothing is missing.
        let ahead = id.value.wrapping_sub(last.source) & id.mask();
        let missing = if is_after(id, last.source) { ahead - 1 } else { 0 };
        let base = own.base_index.map_or(last.base, |index| index.value);
        let by_base = only_base && own.base_index.is_some();
        let base_frames = u16::from(base.wrapping_sub(last.base));
        let of_base = base_frames.saturating_sub(u16::from(own.temporal == 0));
        let kept = if by_base { missing.min(of_base) } else { missing };
        let out = last.out.wrapping_add(kept + u16::from(passes)) & PICTURE_MASK;
        let source = id.value;
        self.frames.push(Picture { timestamp, source, out, kept, by_base, base });
    }

    /// Timestamps begin anew, after this one.
    pub(super) const fn begin_anew(&mut self, timestamp: u64) {
        self.frames = Ring::starting_with(Picture { timestamp, ..self.frames.last() });
    }

    /// What the picture id of a frame that passes is moved by, if that is known.
    pub(super) fn moved(&self, timestamp: u64, own: &Descriptor) -> Option<u16> {
        let Some(id) = own.picture_id else { return Some(0) };
        let moved = |out: u16| Some(out.wrapping_sub(id.value) & PICTURE_MASK);
        let mut later: Option<Picture> = None;
        for frame in self.frames.iter() {
            if frame.timestamp > timestamp {
                later = Some(frame);
                continue;
            }
            if frame.timestamp == timestamp {
                return moved(frame.out);
            }
            // Nothing of it had come when the one behind it did.
            let later = later?;
            let ahead = if later.by_base {
                u16::from(own.base_index?.value.wrapping_sub(frame.base))
            } else {
                id.value.wrapping_sub(frame.source) & id.mask()
            };
            let is_kept = (1..=later.kept).contains(&ahead);
            return is_kept.then(|| frame.out.wrapping_add(ahead)).and_then(moved);
        }
        None
    }
}
