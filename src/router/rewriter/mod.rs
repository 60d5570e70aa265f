//! What one viewer is sent of a lane, from a keyframe on, and the numbers that it sees: frames of
//! layers above its target are left out, and nothing tells that they ever were.
//!
//! - `filter`: which frames are left out, and what that does to numbers
//! - `numbers`: the numbers of frames in payload descriptors
//! - `ring`: the last few of something
//! - `tests`: any order of losses, changes and stays, against a decoder that knows what it needs
//!
//! A stay is a viewer's time with one lane; each has a rewriter, which goes on where the one before
//! has ended. While nothing is left out a stay's numbers are those of the publisher moved by
//! constants. From the first frame that is left out on a `Filter` knows where that happened.
//!
//! A packet that is missing may belong to a frame that is left out: its number is kept free all the
//! same, since nobody knows. Where it comes after all it goes out as padding, under its number. The
//! gap is closed only where what is missing lies between two packets of a frame that is left out.

mod filter;
mod numbers;
mod ring;
#[cfg(test)]
mod tests;

pub use self::numbers::Numbers;

use self::filter::Filter;
use self::numbers::Moved;
use crate::codec::descriptor::Descriptor;
use crate::media::codec::Codec;
use crate::media::layer::{LayerState, SelectedLayer};
use crate::media::packet::Packet;
use crate::media::patch::Patch;

/// The highest layers that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Spatial (SVC).
    pub spatial: u8,
    /// Temporal.
    pub temporal: u8,
}

impl Limits {
    /// All pass.
    pub const ALL: Self = Self { spatial: u8::MAX, temporal: u8::MAX };

    /// Those of a layer that a viewer is to get: all where its highest are meant, so that what has
    /// not been measured yet passes too.
    pub fn of(target: SelectedLayer, layers: &[LayerState]) -> Self {
        let Some(state) = layers.iter().find(|state| state.layer == target.layer) else {
            return Self::ALL;
        };
        let limit = |layer, highest| if layer < highest { layer } else { u8::MAX };
        Self {
            spatial: limit(target.spatial, state.spatial_max()),
            temporal: limit(target.temporal, state.temporal_max()),
        }
    }

    const fn pass(self, packet: &Packet) -> bool {
        packet.scale.spatial <= self.spatial && packet.scale.temporal <= self.temporal
    }

    fn min(self, other: Self) -> Self {
        Self {
            spatial: self.spatial.min(other.spatial),
            temporal: self.temporal.min(other.temporal),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            spatial: self.spatial.max(other.spatial),
            temporal: self.temporal.max(other.temporal),
        }
    }
}

/// What a stay goes on from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct After {
    /// The extended sequence number that comes next.
    pub out: u64,
    /// The highest numbers of frames that the viewer has seen.
    pub numbers: Numbers,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out under this extended sequence number; or nothing but padding does, where
    /// [`Patch::is_blank`] says so: it was late, and its number had been kept free.
    Send(u64, Patch),
    /// It does not.
    Drop,
}

/// A viewer's stay with one lane.
#[derive(Debug)]
pub struct Rewriter {
    /// The publisher's sequence number of the first packet, and the viewer's.
    first: u64,
    first_out: u64,
    /// After the highest that is given away.
    next_out: u64,
    /// The publisher's timestamp of that.
    newest: u64,
    /// What frames' numbers are moved by, and the highest of those sent as the publisher counts.
    moved: Moved,
    seen: Numbers,
    target: Limits,
    /// The highest spatial layer that the viewer can make use of.
    spatial_max: u8,
    /// Another stay has taken over: there are no more numbers.
    is_over: bool,
    filter: Option<Box<Filter>>,
}

impl Rewriter {
    /// A stay that begins with this packet of a keyframe, after what the viewer was sent before. It
    /// can make use of spatial layers up to this one.
    pub fn begin(packet: &Packet, after: After, spatial_max: u8) -> Self {
        Self {
            first: packet.sequence,
            first_out: after.out,
            next_out: after.out,
            newest: packet.timestamp,
            moved: Moved::between(packet, after.numbers),
            seen: Numbers::default(),
            target: Limits { spatial: spatial_max, ..Limits::ALL },
            spatial_max,
            is_over: false,
            filter: None,
        }
    }

    /// What the next stay goes on from.
    pub fn after(&self) -> After {
        let mut numbers = self.moved.applied(self.seen);
        let counted = self.filter.as_ref().and_then(|filter| filter.newest_picture());
        numbers.picture = counted.or(numbers.picture);
        After { out: self.next_out, numbers }
    }

    /// The highest layers that the viewer is to have: down from the next picture on, up where that
    /// is possible.
    pub fn set_target(&mut self, target: Limits) {
        self.target = Limits { spatial: target.spatial.min(self.spatial_max), ..target };
    }

    /// The viewer goes on elsewhere: what has a number may still come, and nothing else.
    pub const fn finish(&mut self) {
        self.is_over = true;
    }

    /// What passes at present.
    pub fn current(&self) -> Limits {
        self.filter.as_ref().map_or(Limits::ALL, |filter| filter.current())
    }

    /// Whether nothing but a keyframe brings what the viewer is to have.
    pub fn needs_keyframe(&self) -> bool {
        self.target.spatial > self.current().spatial
    }

    /// The extended sequence number of its first packet.
    pub const fn first_out(&self) -> u64 {
        self.first_out
    }

    /// The extended sequence number after the highest that is given away.
    pub const fn next_out(&self) -> u64 {
        self.next_out
    }

    /// Whether a packet is not from before the stay.
    pub const fn reaches(&self, packet: &Packet) -> bool {
        packet.sequence >= self.first
    }

    /// Whether the publisher numbers its frames anew from this keyframe on: receivers would take it
    /// and all that follows for late. A stay that begins with it goes on where this one ends.
    pub fn is_numbered_anew(&self, packet: &Packet) -> bool {
        let is_next = match &self.filter {
            Some(filter) => filter.is_newest(packet),
            None => packet.sequence.checked_sub(self.first) >= Some(self.next_out - self.first_out),
        };
        packet.keyframe && is_next && self.seen.is_behind(packet)
    }

    /// A packet of the lane: each comes once, in any order.
    pub fn take(&mut self, packet: &Packet) -> Verdict {
        if !self.reaches(packet) {
            return Verdict::Drop;
        }
        let leaves_out = self.filter.is_some() || !self.target.pass(packet);
        if !leaves_out {
            let out = packet.sequence - self.first + self.first_out;
            if out >= self.next_out {
                if self.is_over {
                    return Verdict::Drop;
                }
                (self.next_out, self.newest) = (out + 1, packet.timestamp);
            }
            let own = Descriptor::read(packet.codec, &packet.payload);
            self.seen.note(packet, own.as_ref());
            return Verdict::Send(out, self.moved.patch(packet, own.as_ref()));
        }
        self.take_filtered(packet)
    }

    fn take_filtered(&mut self, packet: &Packet) -> Verdict {
        let filter = self.filter.get_or_insert_with(|| {
            let sent = self.next_out - self.first_out;
            let mut filter = Filter::new(self.first, self.first_out, sent, self.newest);
            if packet.codec == Codec::Vp8 {
                filter.number_pictures(self.seen, self.moved.picture);
            }
            Box::new(filter)
        });
        if self.is_over && filter.is_newest(packet) {
            return Verdict::Drop;
        }
        let own = Descriptor::read(packet.codec, &packet.payload);
        filter.take(packet, own.as_ref(), self.target);
        self.next_out = filter.next_out();
        let verdict = self.verdict(packet, own.as_ref());
        if let Verdict::Send(_, patch) = verdict
            && !patch.is_blank
        {
            self.seen.note(packet, own.as_ref());
        }
        verdict
    }

    /// The same as [`Rewriter::take`] has said of a packet, or that it is not known any more.
    pub fn again(&self, packet: &Packet) -> Verdict {
        let own = Descriptor::read(packet.codec, &packet.payload);
        self.verdict(packet, own.as_ref())
    }

    fn verdict(&self, packet: &Packet, own: Option<&Descriptor>) -> Verdict {
        let Some(filter) = &self.filter else {
            let distance = packet.sequence.checked_sub(self.first);
            let out = distance.map(|distance| distance + self.first_out);
            let Some(out) = out.filter(|out| *out < self.next_out) else { return Verdict::Drop };
            return Verdict::Send(out, self.moved.patch(packet, own));
        };
        let Some(placed) = filter.place(packet) else { return Verdict::Drop };
        if !placed.passes {
            return Verdict::Send(placed.out, Patch::BLANK);
        }
        let mut moved = self.moved;
        if let Some(own) = own {
            let Some(picture) = filter.picture_moved(packet, own, moved.picture) else {
                return Verdict::Drop;
            };
            moved.picture = picture;
        }
        let mut patch = moved.patch(packet, own);
        patch.marker = placed.ends_picture;
        Verdict::Send(placed.out, patch)
    }

    /// The publisher's sequence number of what went out under this extended one.
    pub fn source_of(&self, out: u64) -> Option<u64> {
        if out >= self.next_out {
            return None;
        }
        match &self.filter {
            Some(filter) => filter.source_of(out),
            None => Some(out.checked_sub(self.first_out)? + self.first),
        }
    }
}
