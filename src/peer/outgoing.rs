//! One track on its way to one viewer: payload types, sealing, retransmission, its reports.

use super::agreement::SentMedia;
use super::estimate::history::SendHistory;
use super::playout_delay::{Block, PlayoutDelay};
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

/// Where packets that carry transport-wide numbers are noted, and the time of this moment.
pub type Noting<'h> = (&'h mut SendHistory, Instant);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PayloadTypes {
    media: u8,
    rtx: Option<u8>,
    /// The id under which packets of it may carry transport-wide numbers.
    number: Option<u8>,
}

/// The extension block of one packet (RFC 8285 §4.2), or nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Extensions {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Extensions {
    /// Both elements with the header before them, in whole words.
    const MAX: usize = 12;

    fn new(playout_delay: Option<Block>, number: Option<(u8, u16)>) -> Self {
        let mut block = Self::default();
        if let Some(of_delay) = playout_delay {
            block.len = of_delay.len();
            block.bytes[..block.len].copy_from_slice(&of_delay);
        }
        if let Some((id, number)) = number {
            let [high, low] = number.to_be_bytes();
            let at = block.len.max(4);
            block.bytes[at..at + 4].copy_from_slice(&[id << 4 | 1, high, low, 0]);
            block.len = at + 4;
            let words = (block.len / 4 - 1) as u8;
            block.bytes[..4].copy_from_slice(&[0xbe, 0xde, 0, words]);
        }
        block
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
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
    /// Bytes of header extensions that a packet may carry.
    pub const EXTENSIONS_MAX: usize = Extensions::MAX;
    /// A keyframe's worth of retransmissions may be owed before any credit is earned.
    const CREDIT_MAX: f64 = 96.0 * 1024.0;

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
            // What may be sent again as it was must not carry a number of its own each time. A
            // client that asks for packets and takes no RTX is better served with those packets
            // than with an estimate; what nobody asks for again can be numbered.
            let is_repeated = rtx.is_none() && self.media.feedback.nack;
            let number = self.media.extensions.transport_cc.filter(|_| !is_repeated);
            PayloadTypes { media: agreed.payload_type, rtx, number }
        });
        let entry = &mut self.payload_types[format.codec as usize];
        if *entry != chosen {
            *entry = chosen;
            self.resend_floor = next_out;
        }
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
        let overhead = Sealer::OVERHEAD_MAX + Self::EXTENSIONS_MAX;
        overhead + packet.payload.len() + usize::from(padding)
    }

    /// Seals a packet into the arena, which has room for it. With `noting` it carries a
    /// transport-wide number, where that was agreed.
    pub fn send(
        &mut self,
        numbered: Numbered<'_>,
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
        noting: Option<Noting<'_>>,
    ) -> Sent {
        let packet = numbered.packet;
        let Some(types) = self.payload_types[packet.codec as usize] else {
            return Sent::NotAgreed;
        };
        let noting = noting.zip(types.number);
        let number = noting.as_ref().map(|((history, _), id)| (*id, history.next_number()));
        let extensions = Extensions::new(self.playout_delay.extension(numbered.sequence), number);
        let fields = self.fields(&numbered, types, &extensions);
        let written = seal_into(sealer, &fields, to);
        if written == 0 {
            return Sent::No;
        }
        if let Some(((history, now), _)) = noting {
            history.departs(written, now);
        }
        self.counters.packets += 1;
        self.counters.bytes += written as u64;
        self.counters.payload_bytes += numbered.payload().len() as u64;
        let earned = self.credit + written as f64 * self.credit_share;
        self.credit = earned.min(Self::CREDIT_MAX);
        Sent::Yes
    }

    /// Sends a packet of the past again: as RTX (RFC 4588) where that was agreed, else the
    /// identical bytes, which is the one repetition the nonce rule allows.
    pub fn resend(
        &mut self,
        numbered: Numbered<'_>,
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
        noting: Option<Noting<'_>>,
    ) -> Sent {
        let Numbered { packet, sequence, .. } = numbered;
        let types = self.payload_types[packet.codec as usize];
        let affordable = self.credit >= packet.payload.len() as f64;
        let Some(types) = types.filter(|_| affordable && sequence >= self.resend_floor) else {
            self.counters.refused += 1;
            return Sent::No;
        };
        let written = if types.rtx.is_some() {
            self.seal_rtx(numbered, types, sealer, to, noting)
        } else if types.number.is_none() && self.playout_delay.knows(sequence) {
            let extensions = Extensions::new(self.playout_delay.extension(sequence), None);
            seal_into(sealer, &self.fields(&numbered, types, &extensions), to)
        } else {
            // It may have gone out with a number, or with another limit.
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
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
        noting: Noting<'_>,
    ) -> usize {
        let types = self.payload_types[numbered.packet.codec as usize];
        let Some(types) = types.filter(|types| types.rtx.is_some() && types.number.is_some())
        else {
            return 0;
        };
        let written = self.seal_rtx(numbered, types, sealer, to, Some(noting));
        if written > 0 {
            self.counters.bytes += written as u64;
            self.counters.probes += 1;
        }
        written
    }

    /// The same where no packet of the past is at hand: nothing but padding, as libwebrtc's own
    /// senders probe (RFC 3550 §5.1). Receivers drop it when they have noted its arrival.
    pub fn probe_empty(
        &mut self,
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
        (history, now): Noting<'_>,
    ) -> usize {
        let can_probe = |types: &&PayloadTypes| types.rtx.is_some() && types.number.is_some();
        let types = self.payload_types.iter().flatten().find(can_probe).copied();
        let Some(PayloadTypes { rtx: Some(payload_type), number: Some(id), .. }) = types else {
            return 0;
        };
        let Some(ssrc) = self.media.rtx_ssrc else { return 0 };
        let extensions = Extensions::new(None, Some((id, history.next_number())));
        let fields = RtpFields {
            payload_type,
            sequence: self.rtx_sequence,
            ssrc,
            extensions: extensions.as_slice(),
            padding: u8::MAX,
            ..RtpFields::default()
        };
        self.rtx_sequence += 1;
        let written = seal_into(sealer, &fields, to);
        if written > 0 {
            history.departs(written, now);
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
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
        noting: Option<Noting<'_>>,
    ) -> usize {
        let (Some(payload_type), Some(ssrc)) = (types.rtx, self.media.rtx_ssrc) else { return 0 };
        let noting = noting.zip(types.number);
        let number = noting.as_ref().map(|((history, _), id)| (*id, history.next_number()));
        let of_delay = self.playout_delay.extension(numbered.sequence);
        let extensions = Extensions::new(of_delay, number);
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
        let written = seal_into(sealer, &fields, to);
        if let Some(((history, now), _)) = noting.filter(|_| written > 0) {
            history.departs(written, now);
        }
        written
    }

    /// Whether the format that flows can be numbered and sent again beside the media.
    pub fn takes_probes(&self) -> bool {
        let types = self.payload_types.iter().flatten();
        types.clone().any(|types| types.rtx.is_some() && types.number.is_some())
    }

    fn fields<'p>(
        &self,
        numbered: &'p Numbered<'p>,
        types: PayloadTypes,
        extensions: &'p Extensions,
    ) -> RtpFields<'p> {
        RtpFields {
            payload_type: types.media,
            marker: (numbered.packet.marker || numbered.patch.marker) && !numbered.patch.is_blank,
            sequence: numbered.sequence,
            timestamp: numbered.timestamp as u32,
            ssrc: self.media.ssrc,
            extensions: extensions.as_slice(),
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

/// Seals into the arena; tells the bytes written, zero for none.
fn seal_into(sealer: &mut Sealer, fields: &RtpFields<'_>, to: (Path, &mut SendArena)) -> usize {
    let (path, arena) = to;
    let size = Sealer::OVERHEAD_MAX + fields.unsealed_len();
    let mut written = 0;
    arena.push_with(path, size, |memory| {
        written = sealer.seal(fields, memory)?;
        Some(written)
    });
    written
}
