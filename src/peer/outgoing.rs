//! One track on its way to one viewer: payload types, sealing, retransmission, its reports.

use super::agreement::SentMedia;
use super::estimate::history::SendHistory;
use super::extension_block::{Described, Element, ExtensionBlock, Telling};
use super::playout_delay::PlayoutDelay;
use super::seal::{RtpFields, Sealer};
use crate::media::arena::{Path, SendArena};
use crate::media::codec::{Codec, Format, Kind};
use crate::media::packet::Packet;
use crate::media::patch::Patch;
use crate::media::time::WallTime;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use std::time::{Duration, Instant};

/// What became of a packet for a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It lies in the arena.
    Yes,
    /// It does not: over budget, or not for sending.
    No,
    /// The viewer did not agree to this codec.
    NotAgreed,
}

/// A packet as one viewer is to get it: the same each time that it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Numbered<'p> {
    /// The packet.
    pub packet: &'p Packet,
    /// The RTP padding it departs or has departed with.
    pub padding: u8,
    /// Its extended sequence number for this viewer.
    pub sequence: u64,
    /// Its extended RTP timestamp for this viewer.
    pub timestamp: u64,
    /// How it differs for this viewer from what it is.
    pub patch: Patch,
}

impl Numbered<'_> {
    /// What is left of its payload.
    fn payload(&self) -> &[u8] {
        if self.patch.is_blank { &[] } else { &self.packet.payload }
    }

    /// The padding it departs with: of nothing else there is at least one byte.
    const fn padding(&self) -> u8 {
        if self.patch.is_blank && self.padding == 0 { 1 } else { self.padding }
    }
}

/// What a viewer was sent of one track, and what it said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SendCounters {
    /// Media packets, without retransmissions.
    pub packets: u64,
    /// Bytes of datagrams, retransmissions included.
    pub bytes: u64,
    /// Bytes of media payload, as sender reports count them.
    pub payload_bytes: u64,
    /// Retransmissions.
    pub retransmitted: u64,
    /// Packets sent once more for what that says of the path.
    pub probes: u64,
    /// Retransmissions asked for and not sent: unknown, too old or over budget.
    pub refused: u64,
    /// Share of packets lost in the viewer's last report, 0 to 1.
    pub loss: f64,
}

/// Where a viewer's packets are sealed, and where they go.
pub struct Wire<'a> {
    /// Seals them.
    pub sealer: &'a mut Sealer,
    /// Where the viewer is.
    pub path: Path,
    /// What takes them until they are sent.
    pub arena: &'a mut SendArena,
}

impl Wire<'_> {
    /// Seals into the arena; tells the bytes written, zero for none.
    fn seal(&mut self, fields: &RtpFields<'_>) -> usize {
        let size = Sealer::OVERHEAD_MAX + fields.unsealed_len();
        let mut written = 0;
        self.arena.push_with(self.path, size, |memory| {
            written = self.sealer.seal(fields, memory)?;
            Some(written)
        });
        written
    }
}

/// Where packets that tell of their path are noted, and the time of this moment.
#[derive(Debug)]
pub struct Noting<'h> {
    history: &'h mut SendHistory,
    now: Instant,
}

impl<'h> Noting<'h> {
    /// What departs now is noted there.
    pub const fn new(history: &'h mut SendHistory, now: Instant) -> Self {
        Self { history, now }
    }

    fn element(&self, telling: Telling) -> Element {
        telling.element(self.history, self.now)
    }

    /// A packet has departed, as a datagram of so many bytes.
    fn departed(self, telling: Telling, bytes: usize) {
        if matches!(telling, Telling::Number(_)) {
            self.history.departs(bytes, self.now);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PayloadTypes {
    media: u8,
    rtx: Option<u8>,
    /// By what packets of it may tell of their path.
    telling: Option<Telling>,
}

impl PayloadTypes {
    /// Whether packets of it can be numbered and sent again beside the media.
    const fn takes_probes(self) -> bool {
        self.rtx.is_some() && matches!(self.telling, Some(Telling::Number(_)))
    }
}

/// The send side of one track.
#[derive(Debug)]
pub struct Outgoing {
    media: SentMedia,
    payload_types: [Option<PayloadTypes>; Codec::ALL.len()],
    rtx_sequence: u64,
    /// Bytes that may still go to retransmissions: earned by media, spent by RTX.
    credit: f64,
    credit_share: f64,
    /// Out sequence numbers below this one went out with other payload types; sending them again
    /// would put different bytes under the same nonce.
    resend_floor: u64,
    playout_delay: PlayoutDelay,
    counters: SendCounters,
}

impl Outgoing {
    /// Bytes of header extensions that a packet without dependency descriptor may carry.
    pub const EXTENSIONS_MAX: usize = ExtensionBlock::MAX;
    /// A keyframe's worth of retransmissions may be owed before any credit is earned.
    const CREDIT_MAX: f64 = 96.0 * 1024.0;
    /// So much of it is for the layer with which a picture goes on: what a link has dropped of one
    /// that was too much for it must not cost the repairs of what came instead.
    const CREDIT_KEPT: f64 = 72.0 * 1024.0;

    /// The send side of an agreed section. `rtx_share` is the part of the media rate that may go
    /// to retransmissions; `random` sets where their sequence numbers begin.
    pub fn new(media: SentMedia, rtx_share: f64, random: u16) -> Self {
        let playout_delay = PlayoutDelay::new(media.extensions.playout_delay);
        let mut outgoing = Self {
            media,
            payload_types: [None; Codec::ALL.len()],
            rtx_sequence: u64::from(random & 0x7fff),
            credit: Self::CREDIT_MAX,
            credit_share: rtx_share,
            resend_floor: 0,
            playout_delay,
            counters: SendCounters::default(),
        };
        for codec in Codec::ALL {
            outgoing.set_format(&Format { codec, parameters: String::new() }, 0);
        }
        outgoing
    }

    /// Chooses the payload type for the format that flows now; `next_out` is the next extended
    /// sequence number.
    pub fn set_format(&mut self, format: &Format, next_out: u64) {
        let chosen = self.media.payload_for(format).map(|agreed| {
            let rtx = agreed.rtx.filter(|_| self.media.rtx_ssrc.is_some());
            // What may be sent again as it was must not carry a number or time of its own each
            // time. A client that asks for packets and takes no RTX is better served with those
            // packets than with an estimate; what nobody asks for again can carry both.
            let is_repeated = rtx.is_none() && self.media.feedback.nack;
            let telling = Telling::of(&self.media).filter(|_| !is_repeated);
            PayloadTypes { media: agreed.payload_type, rtx, telling }
        });
        let entry = &mut self.payload_types[format.codec as usize];
        if *entry != chosen {
            *entry = chosen;
            self.resend_floor = next_out;
        }
    }

    /// Whether the viewer has agreed to this codec.
    pub const fn takes(&self, codec: Codec) -> bool {
        self.payload_types[codec as usize].is_some()
    }

    /// What the viewer is to make of the time between arrival and display.
    pub const fn playout_delay(&mut self) -> &mut PlayoutDelay {
        &mut self.playout_delay
    }

    /// Audio or video.
    pub const fn kind(&self) -> Kind {
        self.media.kind
    }

    /// The SSRC of the media.
    pub const fn ssrc(&self) -> u32 {
        self.media.ssrc
    }

    /// What was sent and reported.
    pub const fn counters(&self) -> &SendCounters {
        &self.counters
    }

    /// Bytes of the arena that sealing a packet with this padding takes at most.
    pub fn room(packet: &Packet, padding: u8) -> usize {
        let extensions = ExtensionBlock::room(packet.dependency.len());
        Sealer::OVERHEAD_MAX + extensions + packet.payload.len() + usize::from(padding)
    }

    /// Seals a packet into the arena, which has room for it. With `noting` it carries a
    /// transport-wide number or its time, where that was agreed.
    pub fn send(
        &mut self,
        numbered: Numbered<'_>,
        wire: &mut Wire<'_>,
        noting: Option<Noting<'_>>,
    ) -> Sent {
        let packet = numbered.packet;
        let Some(types) = self.payload_types[packet.codec as usize] else {
            return Sent::NotAgreed;
        };
        let noting = noting.zip(types.telling);
        let element = noting.as_ref().map(|(noting, telling)| noting.element(*telling));
        let extensions = self.extensions(&numbered, element);
        let written = wire.seal(&self.fields(&numbered, types, &extensions));
        if written == 0 {
            return Sent::No;
        }
        if let Some((noting, telling)) = noting {
            noting.departed(telling, written);
        }
        self.counters.packets += 1;
        self.counters.bytes += written as u64;
        self.counters.payload_bytes += numbered.payload().len() as u64;
        let earned = self.credit + written as f64 * self.credit_share;
        self.credit = earned.min(Self::CREDIT_MAX);
        Sent::Yes
    }

    /// Sends a packet of the past again: as RTX (RFC 4588) where that was agreed, else the
    /// identical bytes, which is the one repetition the nonce rule allows. Where `is_left`, the
    /// picture goes on without it, and it gets what there is to spare.
    pub fn resend(
        &mut self,
        numbered: Numbered<'_>,
        is_left: bool,
        wire: &mut Wire<'_>,
        noting: Option<Noting<'_>>,
    ) -> Sent {
        let Numbered { packet, sequence, .. } = numbered;
        let types = self.payload_types[packet.codec as usize];
        let kept = if is_left { Self::CREDIT_KEPT } else { 0.0 };
        let affordable = self.credit >= packet.payload.len() as f64 + kept;
        let Some(types) = types.filter(|_| affordable && sequence >= self.resend_floor) else {
            self.counters.refused += 1;
            return Sent::No;
        };
        let written = if types.rtx.is_some() {
            self.seal_rtx(numbered, types, wire, noting)
        } else if types.telling.is_none() && self.playout_delay.knows(sequence) {
            let extensions = self.extensions(&numbered, None);
            wire.seal(&self.fields(&numbered, types, &extensions))
        } else {
            // It may have gone out with a number or time, or with another limit.
            self.counters.refused += 1;
            return Sent::No;
        };
        if written == 0 {
            return Sent::No;
        }
        self.credit -= written as f64;
        self.counters.bytes += written as u64;
        self.counters.retransmitted += 1;
        Sent::Yes
    }

    /// Sends a packet of the past once more for what its arrival says of the path: as RTX, where
    /// that was agreed. Tells the bytes of the datagram, zero for none.
    pub fn probe(
        &mut self,
        numbered: Numbered<'_>,
        wire: &mut Wire<'_>,
        noting: Noting<'_>,
    ) -> usize {
        let types = self.payload_types[numbered.packet.codec as usize];
        let Some(types) = types.filter(|types| types.takes_probes()) else { return 0 };
        let written = self.seal_rtx(numbered, types, wire, Some(noting));
        if written > 0 {
            self.counters.bytes += written as u64;
            self.counters.probes += 1;
        }
        written
    }

    /// The same where no packet of the past is at hand: nothing but padding, as libwebrtc's own
    /// senders probe (RFC 3550 §5.1). Receivers drop it when they have noted its arrival.
    pub fn probe_empty(&mut self, wire: &mut Wire<'_>, noting: Noting<'_>) -> usize {
        let types = self.payload_types.iter().flatten().find(|types| types.takes_probes()).copied();
        let Some(PayloadTypes { rtx: Some(payload_type), telling: Some(telling), .. }) = types
        else {
            return 0;
        };
        let Some(ssrc) = self.media.rtx_ssrc else { return 0 };
        let extensions = ExtensionBlock::new(None, Some(noting.element(telling)));
        let fields = RtpFields {
            payload_type,
            sequence: self.rtx_sequence,
            ssrc,
            extensions: extensions.fields(),
            padding: u8::MAX,
            ..RtpFields::default()
        };
        self.rtx_sequence += 1;
        let written = wire.seal(&fields);
        if written > 0 {
            noting.departed(telling, written);
            self.counters.bytes += written as u64;
            self.counters.probes += 1;
        }
        written
    }

    /// Seals a packet of the past under a new number of the RTX SSRC (RFC 4588 §4).
    fn seal_rtx(
        &mut self,
        numbered: Numbered<'_>,
        types: PayloadTypes,
        wire: &mut Wire<'_>,
        noting: Option<Noting<'_>>,
    ) -> usize {
        let (Some(payload_type), Some(ssrc)) = (types.rtx, self.media.rtx_ssrc) else { return 0 };
        let noting = noting.zip(types.telling);
        let element = noting.as_ref().map(|(noting, telling)| noting.element(*telling));
        let extensions = self.extensions(&numbered, element);
        let original = (numbered.sequence as u16).to_be_bytes();
        let fields = RtpFields {
            payload_type,
            ssrc,
            sequence: self.rtx_sequence,
            prefix: &original,
            padding: 0,
            ..self.fields(&numbered, types, &extensions)
        };
        self.rtx_sequence += 1;
        let written = wire.seal(&fields);
        if let Some((noting, telling)) = noting.filter(|_| written > 0) {
            noting.departed(telling, written);
        }
        written
    }

    /// Whether the format that flows can be numbered and sent again beside the media.
    pub fn takes_probes(&self) -> bool {
        self.payload_types.iter().flatten().any(|types| types.takes_probes())
    }

    /// The header extensions of a packet: the same each time that it is sent, but for the telling
    /// element.
    fn extensions<'p>(
        &self,
        numbered: &Numbered<'p>,
        telling: Option<Element>,
    ) -> ExtensionBlock<'p> {
        let of_delay = self.playout_delay.extension(numbered.sequence);
        let dependency = numbered.packet.dependency.as_slice();
        match self.media.extensions.dependency_descriptor {
            Some(id) if !dependency.is_empty() && !numbered.patch.is_blank => {
                let described =
                    Described { id, value: dependency, moved: numbered.patch.dependency };
                ExtensionBlock::described(of_delay, telling, described)
            }
            _ => ExtensionBlock::new(of_delay, telling),
        }
    }

    fn fields<'p>(
        &self,
        numbered: &'p Numbered<'p>,
        types: PayloadTypes,
        extensions: &'p ExtensionBlock<'p>,
    ) -> RtpFields<'p> {
        RtpFields {
            payload_type: types.media,
            marker: (numbered.packet.marker || numbered.patch.marker) && !numbered.patch.is_blank,
            sequence: numbered.sequence,
            timestamp: numbered.timestamp as u32,
            ssrc: self.media.ssrc,
            extensions: extensions.fields(),
            prefix: &[],
            payload: numbered.payload(),
            head: numbered.patch.head(),
            padding: numbered.padding(),
        }
    }

    /// The sender report (RFC 3550 §6.4.1) that ties a timestamp to the server's clock.
    pub fn sender_report(&self, wall: WallTime, timestamp: u64) -> SenderReport {
        SenderReport {
            ssrc: self.media.ssrc,
            ntp_time: wall.to_ntp(),
            rtp_time: timestamp as u32,
            packet_count: self.counters.packets as u32,
            octet_count: self.counters.payload_bytes as u32,
            ..SenderReport::default()
        }
    }

    /// Takes in what the viewer reports of this track; tells the round-trip time if the report
    /// answers one of our sender reports (RFC 3550 §6.4.1, LSR and DLSR).
    pub fn reported(&mut self, report: &ReceptionReport, wall: WallTime) -> Option<Duration> {
        self.counters.loss = f64::from(report.fraction_lost) / 256.0;
        if report.last_sender_report == 0 {
            return None;
        }
        let now = (wall.to_ntp() >> 16) as u32;
        let elapsed = now.wrapping_sub(report.last_sender_report).checked_sub(report.delay)?;
        // Units of 1/65536 s; what is longer than a minute is a lie or another's report.
        (elapsed < 60 << 16).then(|| Duration::from_secs_f64(f64::from(elapsed) / 65_536.0))
    }
}
