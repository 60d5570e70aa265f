//! What one RTP stream of the publisher's is sent with: SSRCs, payload types, header extensions.

use crate::codec::Kind;
use crate::light::{ABS_SEND_TIME, AgreedSection, MID, REPAIRED_RID, RID, TRANSPORT_CC};
use crate::source::now_micros;
use bytes::Bytes;

/// How many packets of a layer carry its names: libwebrtc stops once a receiver report shows that
/// somebody knows them.
const NAMED: u32 = 100;

/// One RTP stream, once the answer is known.
pub(super) struct Track {
    pub(super) kind: Kind,
    pub(super) ssrc: u32,
    pub(super) rtx: Option<Rtx>,
    pub(super) packets: u32,
    pub(super) octets: u32,
    /// The RTP time of the first packet, and when that is due: the media clock starts there.
    pub(super) origin: (u32, u64),
    mid: Option<(u8, Bytes)>,
    /// The layer's name; without one there is only this stream, and its section's name stays.
    rid: Option<(u8, Bytes)>,
    transport_cc: Option<u8>,
    abs_send_time: Option<u8>,
}

/// What a stream is repaired with.
pub(super) struct Rtx {
    payload_type: u8,
    ssrc: u32,
    sequence_number: u16,
    packets: u32,
    repaired_rid: Option<(u8, Bytes)>,
}

/// The numbers of a stream: its own, and that of its repairs.
#[derive(Clone, Copy)]
pub(super) struct Ssrcs {
    pub(super) media: u32,
    pub(super) repair: Option<u32>,
}

impl Track {
    pub(super) fn new(
        section: &AgreedSection,
        kind: Kind,
        payload_type: u8,
        ssrcs: Ssrcs,
        rid: Option<&str>,
        origin: (u32, u64),
    ) -> Self {
        let name = |uri, text: &str| {
            section.extension(uri).map(|id| (id, Bytes::copy_from_slice(text.as_bytes())))
        };
        let rtx = ssrcs.repair.zip(section.rtx_of(payload_type)).map(|(ssrc, payload_type)| Rtx {
            payload_type,
            ssrc,
            sequence_number: 65_530,
            packets: 0,
            repaired_rid: rid.and_then(|rid| name(REPAIRED_RID, rid)),
        });
        Self {
            kind,
            ssrc: ssrcs.media,
            rtx,
            packets: 0,
            octets: 0,
            origin,
            mid: name(MID, &section.mid),
            rid: rid.and_then(|rid| name(RID, rid)),
            transport_cc: section.extension(TRANSPORT_CC),
            abs_send_time: section.extension(ABS_SEND_TIME),
        }
    }

    /// Counts a packet, and writes its extensions.
    pub(super) fn prepare(&mut self, packet: &mut rtp::Packet, transport_sequence: &mut u16) {
        let header = &mut packet.header;
        // An id beyond the one-byte form cannot be written; the packet goes without.
        if let Some((id, mid)) = &self.mid
            && (self.rid.is_none() || self.packets < NAMED)
        {
            let _ = header.set_extension(*id, mid.clone());
        }
        if let Some((id, rid)) = &self.rid
            && self.packets < NAMED
        {
            let _ = header.set_extension(*id, rid.clone());
        }
        if let Some(id) = self.abs_send_time {
            // 24 bits of seconds, 18 of them fraction.
            let time = (u128::from(now_micros()) << 18) / 1_000_000;
            let bytes = ((time & 0x00FF_FFFF) as u32).to_be_bytes();
            let _ = header.set_extension(id, Bytes::copy_from_slice(&bytes[1..]));
        }
        self.count_transport(header, transport_sequence);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
    }

    /// Makes of a packet what is sent when it is asked for again: RTX where that was agreed, else
    /// the same bytes, which is what its numbers have sealed before.
    pub(super) fn repair(
        &mut self,
        packet: rtp::Packet,
        transport_sequence: &mut u16,
    ) -> rtp::Packet {
        let Some(rtx) = &mut self.rtx else { return packet };
        let mut again = rtx.wrap(packet);
        if let Some((id, _)) = &self.rid {
            let _ = again.header.del_extension(*id);
        }
        if let Some((id, rid)) = &rtx.repaired_rid
            && rtx.packets <= NAMED
        {
            let _ = again.header.set_extension(*id, rid.clone());
        }
        self.count_transport(&mut again.header, transport_sequence);
        again
    }

    fn count_transport(&self, header: &mut rtp::Header, sequence: &mut u16) {
        if let Some(id) = self.transport_cc {
            let number = sequence.to_be_bytes();
            *sequence = sequence.wrapping_add(1);
            let _ = header.set_extension(id, Bytes::copy_from_slice(&number));
        }
    }
}

impl Rtx {
    /// RFC 4588 §4: the original sequence number before the original payload.
    fn wrap(&mut self, packet: rtp::Packet) -> rtp::Packet {
        let original = packet.header.sequence_number.to_be_bytes();
        let payload = [&original[..], &packet.payload].concat();
        let header = rtp::Header {
            payload_type: self.payload_type,
            ssrc: self.ssrc,
            sequence_number: self.sequence_number,
            ..packet.header
        };
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        rtp::Packet { header, payload: Bytes::from(payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::light::AgreedPayload;

    fn track(rid: Option<&str>) -> Track {
        let payload = |payload_type, parameters: Option<&str>| AgreedPayload {
            payload_type,
            rtpmap: String::new(),
            parameters: parameters.map(str::to_owned),
            feedback: Vec::new(),
        };
        let section = AgreedSection {
            mid: "v".to_owned(),
            payloads: vec![payload(102, None), payload(103, Some("apt=102"))],
            extensions: [MID, RID, REPAIRED_RID]
                .into_iter()
                .zip(1..)
                .map(|(uri, id)| (id, uri.to_owned()))
                .collect(),
            ..AgreedSection::default()
        };
        let ssrcs = Ssrcs { media: 1, repair: Some(2) };
        Track::new(&section, Kind::Video, 102, ssrcs, rid, (0, 0))
    }

    fn packet() -> rtp::Packet {
        let header = rtp::Header { sequence_number: 0x1234, ssrc: 1, ..Default::default() };
        rtp::Packet { header, payload: Bytes::from_static(b"x") }
    }

    #[test]
    fn a_retransmission_carries_the_original_number() {
        let mut track = track(None);
        let wrapped = track.repair(packet(), &mut 0);
        assert_eq!((wrapped.header.ssrc, wrapped.header.sequence_number), (2, 65_530));
        assert_eq!(&wrapped.payload[..], b"\x12\x34x");
    }

    #[test]
    fn a_layer_is_named_at_first_and_its_repairs_by_whom_they_repair() {
        let mut track = track(Some("q"));
        let names = |packet: &rtp::Packet| [1, 2, 3].map(|id| packet.header.get_extension(id));
        let (mid, rid) = (Bytes::from_static(b"v"), Bytes::from_static(b"q"));
        let mut first = packet();
        track.prepare(&mut first, &mut 0);
        assert_eq!(names(&first), [Some(mid.clone()), Some(rid.clone()), None]);
        assert_eq!(names(&track.repair(first, &mut 0)), [Some(mid), None, Some(rid)]);
        (1..NAMED).for_each(|_| track.prepare(&mut packet(), &mut 0));
        let mut later = packet();
        track.prepare(&mut later, &mut 0);
        assert_eq!(names(&later), [None, None, None]);
    }

    #[test]
    fn the_only_stream_of_a_section_keeps_its_name() {
        let mut track = track(None);
        for _ in 0..2 * NAMED {
            let mut packet = packet();
            track.prepare(&mut packet, &mut 0);
            assert!(packet.header.get_extension(1).is_some());
        }
    }
}
