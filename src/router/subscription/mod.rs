//! One viewer's hold on one track: waits for a decodable start, then renumbers packet by packet,
//! whichever layer they come from.
//!
//! - `tests`: where it begins, what it numbers, and that nothing is sent twice

use super::rewriter::{After, Limits, Numbers, Rewriter, Verdict};
use crate::media::codec::{Codec, Kind};
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::Packet;
use crate::media::patch::Patch;

/// A viewer's time with one layer, from a keyframe on, with timestamps moved by `shift`. What is of
/// the past goes out compressed.
#[derive(Debug)]
pub struct Stay {
    /// Of which layer; of sound [`LayerId::ONLY`].
    pub layer: LayerId,
    /// What its timestamps are moved by.
    pub shift: u64,
    past: Past,
    rewriter: Rewriter,
}

impl Stay {
    /// The RTP timestamp with which a packet of this one goes to the viewer: of the present it is
    /// the same but for the shift, of the past nearer to the present. It depends on nothing else,
    /// so that a packet that is sent again is the same packet.
    pub const fn timestamp(&self, timestamp: u64) -> u64 {
        self.past.compress(timestamp.wrapping_add(self.shift))
    }

    /// How a packet went to the viewer, if that is known.
    pub fn again(&self, packet: &Packet) -> Option<Place> {
        self.place(packet, self.rewriter.again(packet))
    }

    fn place(&self, packet: &Packet, verdict: Verdict) -> Option<Place> {
        let Verdict::Send(sequence, patch) = verdict else { return None };
        Some(Place { sequence, timestamp: self.timestamp(packet.timestamp), patch })
    }
}

/// How a packet goes to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its extended sequence number.
    pub sequence: u64,
    /// Its extended RTP timestamp.
    pub timestamp: u64,
    /// How it differs from what the publisher sent.
    pub patch: Patch,
}

/// What was there before a viewer came goes out with compressed RTP timestamps.
///
/// It is sent in less time than it took, and its timestamps say so: they begin with the present,
/// run as the time does in which it is sent, and meet those of the publisher where both are at the
/// same moment. So a receiver learns the one clock that it needs from then on. (With timestamps
/// that ended where the past did, Chromium took the burst's clock for the stream's: its picture
/// stood for 0.6 s after the burst, and it smoothed no jitter for the next half minute.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Past {
    /// The first RTP timestamp of it.
    begins: u64,
    /// From this RTP timestamp on nothing is changed.
    ends: u64,
    /// The time before that runs so much faster.
    compression: u64,
}

impl Past {
    /// There is none.
    const NONE: Self = Self { begins: 0, ends: 0, compression: 1 };
    /// Pictures 33 ms apart go out 1 ms apart: faster than decoders are it need not be.
    const COMPRESSION_MAX: u64 = 32;
    /// Below that it would take as long as the past itself.
    const COMPRESSION_MIN: u64 = 2;

    /// The past from the timestamp `first` to that of the `present`, which takes `least` ticks to
    /// send, or more.
    fn between(first: u64, present: u64, least: u64) -> Self {
        let span = present.saturating_sub(first);
        let takes = least.max(span / (Self::COMPRESSION_MAX - 1)).max(1);
        let compression = (span + takes) / takes;
        let compression = compression.clamp(Self::COMPRESSION_MIN, Self::COMPRESSION_MAX);
        // While the past is sent the present goes on.
        let ends = present.saturating_add(span / (compression - 1));
        Self { begins: first, ends, compression }
    }

    /// Whether a timestamp is of it. A clock that was set back is not.
    const fn covers(&self, timestamp: u64) -> bool {
        timestamp < self.ends && timestamp.saturating_add(Subscription::BACK_MAX) >= self.begins
    }

    const fn compress(&self, timestamp: u64) -> u64 {
        if self.covers(timestamp) {
            self.ends - (self.ends - timestamp) / self.compression
        } else {
            timestamp
        }
    }
}

/// A viewer's place in a track, and the sequence numbers it sees.
///
/// While it stays with a layer its numbers are those of the publisher moved by a constant, or,
/// where frames are left out, by what the [`Rewriter`] knows: a packet lost on the way in is a gap
/// that a late retransmission still fills, and a NACK finds its packet. It leaves a layer where a
/// keyframe of the one it aims at begins, and what it has not got by then of the one before still
/// comes.
#[derive(Debug)]
pub struct Subscription {
    kind: Kind,
    /// The layer with whose next keyframe it goes on; none: nothing is to flow.
    target: Option<LayerId>,
    /// Where it is; none: the target's next keyframe begins (video), or the next packet (audio).
    stay: Option<Stay>,
    /// Where it was before, latest first: what was lost of that is still found.
    former: [Option<Box<Stay>>; 2],
    /// The highest layers within a layer that it takes.
    limits: Limits,
    /// Its viewer is sent dependency descriptors.
    takes_dependencies: bool,
    /// The highest numbers of frames sent before the present stay.
    numbers: Numbers,
    /// The extended sequence number after the highest sent; the first one before that.
    next_out: u64,
    /// The highest RTP timestamp sent; zero before that.
    newest: u64,
}

impl Subscription {
    /// Two seconds of video: where the publisher's timestamps go back further, they begin anew.
    const BACK_MAX: u64 = 180_000;
    /// Fifteen seconds of video, more than is kept: beyond it the timestamps have jumped.
    const PAST_MAX: u64 = 1_350_000;

    /// A subscription whose first packet will have this sequence number.
    ///
    /// Half the range is left before the first wrap, as RFC 3711 §3.3.1 advises: the rollover
    /// counter starts at zero on both sides.
    pub const fn new(kind: Kind, random: u16) -> Self {
        let (next_out, target) = ((random & 0x7fff) as u64, Some(LayerId::ONLY));
        Self {
            kind,
            target,
            stay: None,
            former: [None, None],
            limits: Limits::ALL,
            takes_dependencies: false,
            numbers: Numbers::NONE,
            next_out,
            newest: 0,
        }
    }

    /// Its viewer is sent dependency descriptors, or none.
    #[must_use]
    pub fn with_dependencies(self, takes_dependencies: bool) -> Self {
        Self { takes_dependencies, ..self }
    }

    /// The highest spatial layer of this codec that its viewer can make use of.
    pub const fn spatial_max(&self, codec: Codec) -> u8 {
        let is_described = self.takes_dependencies || !codec.needs_dependencies();
        if codec.has_spatial_layers() && is_described { u8::MAX } else { 0 }
    }

    /// It goes on with this layer from its next keyframe on.
    pub const fn aim(&mut self, layer: LayerId) {
        self.target = Some(layer);
    }

    /// It takes no more than these layers within the layer that it is aimed at: what is above goes
    /// at once, and comes back where that is possible.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        if !self.is_moving()
            && let Some(stay) = &mut self.stay
        {
            stay.rewriter.set_target(limits);
        }
    }

    /// Whether it lacks layers within the layer that flows, which nothing but a keyframe brings.
    pub fn needs_keyframe(&self) -> bool {
        self.stay.as_ref().is_some_and(|stay| stay.rewriter.needs_keyframe())
    }

    /// Nothing flows until it is aimed again.
    pub fn stop(&mut self) {
        self.wait();
        self.target = None;
    }

    /// The layer that it goes on with; none where nothing is to flow.
    pub const fn target(&self) -> Option<LayerId> {
        self.target
    }

    /// The layer that flows.
    pub fn current(&self) -> Option<LayerId> {
        self.stay.as_ref().map(|stay| stay.layer)
    }

    /// Whether it waits for a keyframe of another layer than the one that flows, if one does.
    pub fn is_moving(&self) -> bool {
        self.current() != self.target
    }

    /// Whose packets it takes: first those among which may be the one that it moves with.
    pub fn lanes(&self) -> (Option<Lane>, Option<Lane>) {
        let current = self.current().filter(|&layer| Some(layer) != self.target);
        let lane = |layer| Lane::of(self.kind, layer);
        (self.target.map(lane), current.map(lane))
    }

    /// How a packet goes to the viewer, or `None` if it does not: nothing before a keyframe,
    /// nothing from before the start. With this packet may begin what flows; its timestamps are
    /// then moved by `shift`, which is told the layer before and by what that one's were.
    pub fn select(
        &mut self,
        packet: &Packet,
        shift: impl FnOnce(Option<(LayerId, u64)>) -> u64,
    ) -> Option<Place> {
        let mut current = self.stay.iter().filter(|stay| stay.layer == packet.layer);
        let is_current = current.next().is_some_and(|it| !it.rewriter.is_numbered_anew(packet));
        if Some(packet.layer) == self.target && !is_current {
            let begins = self.kind == Kind::Audio || packet.keyframe;
            if begins {
                self.begin_at(packet, shift(self.moved()), packet.timestamp, 0);
            }
        }
        let former = self.former.iter_mut().flatten().map(|stay| &mut **stay);
        let mut stays = self.stay.iter_mut().chain(former);
        let can_be = |stay: &&mut Stay| stay.layer == packet.layer && stay.rewriter.reaches(packet);
        let stay = stays.find(can_be)?;
        let verdict = stay.rewriter.take(packet);
        // What is left out may leave a number behind for what is missing before it.
        self.next_out = self.next_out.max(stay.rewriter.next_out());
        let place = stay.place(packet, verdict)?;
        self.newest = self.newest.max(place.timestamp);
        Some(place)
    }

    /// Its stays, latest first.
    fn stays(&self) -> impl Iterator<Item = &Stay> {
        self.stay.iter().chain(self.former.iter().flatten().map(|stay| &**stay))
    }

    /// The layer whose timestamps the viewer has seen last, and what they are moved by.
    pub fn moved(&self) -> Option<(LayerId, u64)> {
        self.stays().next().map(|stay| (stay.layer, stay.shift))
    }

    /// From here on flows what begins with this packet, its timestamps moved by `shift`; what is
    /// older than the timestamp of the `present` takes `least` ticks to send, or more. Tells the
    /// timestamp with which it begins: the present's, or a little later, as it must come after all
    /// that was sent. There is no gap to what flowed before.
    pub fn begin_at(&mut self, packet: &Packet, shift: u64, present: u64, least: u64) -> u64 {
        self.wait();
        let (begins, present) = (packet.timestamp.wrapping_add(shift), present.wrapping_add(shift));
        let next = self.newest.saturating_add(1);
        let follows = next <= present.saturating_add(Self::BACK_MAX);
        let present = if follows { present.max(next) } else { present };
        let past = if present.saturating_sub(begins) <= Self::PAST_MAX {
            Past::between(begins, present, least)
        } else {
            Past::NONE
        };
        self.target = Some(packet.layer);
        let after = After { out: self.next_out, numbers: self.numbers };
        let mut rewriter = Rewriter::begin(packet, after, self.spatial_max(packet.codec));
        rewriter.set_target(self.limits);
        self.stay = Some(Stay { layer: packet.layer, shift, past, rewriter });
        present
    }

    /// Whether a packet with this RTP timestamp is of the past, and goes out compressed.
    pub fn is_past(&self, timestamp: u64) -> bool {
        let stay = self.stay.as_ref();
        stay.is_some_and(|stay| stay.past.covers(timestamp.wrapping_add(stay.shift)))
    }

    /// Nothing new flows until the next start.
    pub fn wait(&mut self) {
        let Some(mut stay) = self.stay.take() else { return };
        self.numbers = stay.rewriter.after().numbers.or(self.numbers);
        stay.rewriter.finish();
        // Of what was sent nothing there is nothing to find.
        if self.next_out > stay.rewriter.first_out() {
            self.former.swap(0, 1);
            self.former[0] = Some(Box::new(stay));
        }
    }

    /// The same, and what flowed before is forgotten: its numbers say nothing any more.
    pub fn forget(&mut self) {
        self.wait();
        self.former = [None, None];
    }

    /// The RTP timestamp with which a packet of this one goes to the viewer, from the layer that
    /// flows.
    pub fn timestamp(&self, timestamp: u64) -> u64 {
        self.stay.as_ref().map_or(timestamp, |stay| stay.timestamp(timestamp))
    }

    /// The extended sequence number after the highest sent; the first one before that.
    pub const fn next_out(&self) -> u64 {
        self.next_out
    }

    /// Audio or video.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it still waits for its start.
    pub const fn is_waiting(&self) -> bool {
        self.stay.is_none()
    }

    /// Whether a packet that went to the viewer is of a layer that is left, or is to be: the
    /// picture goes on without it.
    pub fn leaves(&self, packet: &Packet) -> bool {
        self.target != Some(packet.layer)
    }

    /// The stay in which a packet went to the viewer under this sequence number, the publisher's
    /// own of it, and this one's extended form.
    pub fn source_of(&self, sequence: u16) -> Option<(&Stay, u64, u64)> {
        let newest = self.next_out.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(sequence));
        let out = newest.checked_sub(back)?;
        let stay = self.stays().find(|stay| stay.rewriter.first_out() <= out)?;
        Some((stay, stay.rewriter.source_of(out)?, out))
    }
}

#[cfg(test)]
mod tests;
