//! One RTP stream that a viewer receives: its sequence, its stamps, its first keyframe.

use super::keystream::{Keystream, Nonce};
use super::picture;
use super::sequence::{Place, SequenceWindow};
use crate::codec::{Codec, Kind};
use crate::layers::{Glimpse, LayerWatch};
use crate::source::{STAMP_BYTES, Stamp};

/// The fixed part of an RTP header (RFC 3550 §5.1).
const HEADER: usize = 12;
/// Packets without a stamp that a publisher who stamps may begin with: parameter sets.
const UNSTAMPED: u32 = 3;

/// What is read of a packet's header, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    sequence: u16,
    timestamp: u32,
    padding: bool,
    /// The last packet of a frame.
    marker: bool,
    /// What says which form the extensions have, and the extensions.
    extensions: ([u8; 2], &'a [u8]),
    /// Encrypted, with its tag.
    sealed: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads a header with its sources and extensions.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = packet.split_first_chunk::<HEADER>()?;
        let [first, second, s1, s0, t3, t2, t1, t0, i3, i2, i1, i0] = *fixed;
        rest = rest.get(usize::from(first & 0x0F) * 4..)?;
        let mut extensions = ([0; 2], &rest[..0]);
        if first & 0x10 != 0 {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            let (words, after) = after.split_at_checked(length)?;
            (extensions, rest) = (([head[0], head[1]], words), after);
        }
        Some(Self {
            payload_type: second & 0x7F,
            ssrc: u32::from_be_bytes([i3, i2, i1, i0]),
            sequence: u16::from_be_bytes([s1, s0]),
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            padding: first & 0x20 != 0,
            marker: second & 0x80 != 0,
            extensions,
            sealed: rest,
        })
    }

    /// An extension of one-byte form (RFC 8285 §4.2), the only one that the server writes.
    pub(super) fn extension(&self, wanted: u8) -> Option<&'a [u8]> {
        let ([0xBE, 0xDE], mut rest) = self.extensions else { return None };
        while let [head, after @ ..] = rest {
            if *head == 0 {
                rest = after;
                continue;
            }
            let (value, after) = after.split_at_checked(usize::from(head & 0x0F) + 1)?;
            if head >> 4 == wanted {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    fn nonce(&self, extended: u64) -> Nonce {
        let rollovers = SequenceWindow::rollovers(extended);
        Nonce { ssrc: self.ssrc, rollovers, sequence: self.sequence }
    }
}

/// A packet as the publisher knows it, and the RTP time it came here with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) stamp: Stamp,
    pub(super) timestamp: u32,
}

/// What a packet turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// How much of it came; a duplicate says nothing new.
    pub(super) place: Place,
    /// Its stamp, if it has one.
    pub(super) sample: Option<Sample>,
    /// Whether a decoder can start here; only looked at while asked for.
    pub(super) keyframe: bool,
    /// Whether it is the last of its frame.
    pub(super) marker: bool,
    /// Whether it is the last of the first keyframe, and nothing is missing so far.
    pub(super) first_frame: bool,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Media of this codec.
    Media(Codec),
    /// Retransmissions (RFC 4588) of the media with this payload type.
    Repair(u8),
}

impl Format {
    pub(super) fn is_video(self) -> bool {
        matches!(self, Self::Media(codec) if codec.kind() == Kind::Video)
    }
}

/// One RTP stream.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) format: Format,
    pub(super) window: SequenceWindow,
    /// The packet sent last of all that came.
    pub(super) newest: Option<Sample>,
    /// Of video: which layers it is made of.
    pub(super) layers: LayerWatch,
    /// Packets without a stamp before the first with one, and the size that they told.
    unstamped: u32,
    size: Option<[u16; 2]>,
    /// The RTP time of the first keyframe, until the whole of it is there.
    starting: Option<u32>,
}

impl Track {
    pub(super) fn new(ssrc: u32, payload_type: u8, format: Format) -> Self {
        Self {
            ssrc,
            payload_type,
            format,
            window: SequenceWindow::default(),
            newest: None,
            layers: LayerWatch::default(),
            unstamped: 0,
            size: None,
            starting: None,
        }
    }

    /// Takes a retransmission, and returns the number that its packet had at first, which stands
    /// before the payload (RFC 4588 §4), and its stamp.
    pub(super) fn take_repair(
        &mut self,
        header: &Header<'_>,
        keys: &Keystream,
    ) -> Option<(u16, Option<Stamp>)> {
        let (extended, place) = self.window.take(header.sequence);
        if matches!(place, Place::Duplicate | Place::Stale) {
            return None;
        }
        let nonce = header.nonce(extended);
        let payload = payload(header, keys, nonce)?;
        let number = u16::from_be_bytes(keys.open(nonce, payload, 0)?);
        Some((number, stamp(payload, keys, nonce)))
    }

    /// Takes what a retransmission brought; returns whether it was missing.
    pub(super) fn take_repaired(
        &mut self,
        header: &Header<'_>,
        (number, stamp): (u16, Option<Stamp>),
        at_micros: u64,
    ) -> bool {
        let (sequence, place) = self.window.take(number);
        if let Some(stamp) = stamp
            && matches!(place, Place::New | Place::Late)
        {
            let timestamp = header.timestamp;
            self.layers.take(Glimpse { sequence, timestamp, stamp, at_micros });
        }
        place == Place::Late
    }

    /// Takes a packet of this stream; nothing of it is copied or kept.
    pub(super) fn take(
        &mut self,
        header: &Header<'_>,
        keys: &Keystream,
        look_for_keyframe: bool,
        at_micros: u64,
    ) -> Seen {
        let (extended, place) = self.window.take(header.sequence);
        let marker = header.marker;
        let mut seen = Seen { place, sample: None, keyframe: false, marker, first_frame: false };
        if matches!(place, Place::Duplicate | Place::Stale) {
            return seen;
        }
        let nonce = header.nonce(extended);
        let Some(payload) = payload(header, keys, nonce) else { return seen };
        let stamp = stamp(payload, keys, nonce);
        if let Some(stamp) = stamp
            && self.format.is_video()
        {
            let timestamp = header.timestamp;
            self.layers.take(Glimpse { sequence: extended, timestamp, stamp, at_micros });
        } else if let Format::Media(codec) = self.format
            && self.newest.is_none()
            && codec.kind() == Kind::Video
        {
            let start = keys.open_start::<{ picture::LOOKED_AT }>(nonce, payload);
            self.size = start.and_then(|start| picture::size(codec, &start)).or(self.size);
            self.unstamped += 1;
            if self.unstamped > UNSTAMPED {
                self.layers.take_unstamped(header.timestamp, self.size.take(), at_micros);
            }
        }
        seen.sample = stamp.map(|stamp| Sample { stamp, timestamp: header.timestamp });
        if let Some(sample) = seen.sample
            && self.newest.is_none_or(|newest| sent(newest) < sent(sample))
        {
            self.newest = seen.sample;
        }
        if look_for_keyframe && self.format == Format::Media(Codec::H264) {
            let start = keys.open::<4>(nonce, payload, 0);
            seen.keyframe = start.is_some_and(starts_keyframe);
        }
        if seen.keyframe {
            self.starting = Some(header.timestamp);
        }
        if marker && self.starting == Some(header.timestamp) && self.window.lost() == 0 {
            self.starting = None;
            seen.first_frame = true;
        }
        seen
    }
}

fn stamp(payload: &[u8], keys: &Keystream, nonce: Nonce) -> Option<Stamp> {
    let at = payload.len().checked_sub(STAMP_BYTES)?;
    Stamp::read(&keys.open::<STAMP_BYTES>(nonce, payload, at)?)
}

/// Packets of different layers are told apart by when they were sent only.
fn sent(Sample { stamp, .. }: Sample) -> (u64, u64) {
    (stamp.sent_micros, stamp.counter)
}

/// The encrypted payload without tag and padding.
fn payload<'a>(header: &Header<'a>, keys: &Keystream, nonce: Nonce) -> Option<&'a [u8]> {
    let length = header.sealed.len().checked_sub(keys.tag_length())?;
    let payload = header.sealed.get(..length)?;
    if !header.padding {
        return Some(payload);
    }
    // RFC 3550 §5.1: the last byte counts the padding, itself included.
    let [padding] = keys.open::<1>(nonce, payload, length.checked_sub(1)?)?;
    payload.get(..length.checked_sub(usize::from(padding))?)
}

/// RFC 6184: an aggregate that begins with parameter sets (§5.7.1), a parameter set, an IDR slice,
/// or a fragment (§5.8) of one.
fn starts_keyframe(start: [u8; 4]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    let kind = |byte: u8| byte & 0x1F;
    match kind(start[0]) {
        IDR | SPS => true,
        24 => matches!(kind(start[3]), IDR | SPS),
        28 => kind(start[1]) == IDR,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::light::{SrtpProfile, crypto_provider};
    use crate::source::{VideoSettings, VideoSource};
    use bytes::Bytes;
    use rtc_shared::marshal::Marshal;
    use rtc_srtp::context::Context;

    struct Bench {
        sealer: Context,
        keys: Keystream,
        track: Track,
    }

    impl Bench {
        fn new(profile: SrtpProfile, salt_length: usize) -> Self {
            let (key, salt) = ([7; 16], vec![9; salt_length]);
            let provider = crypto_provider();
            let context = Context::new(&key, &salt, profile.srtp(), None, None, provider.crypto());
            Self {
                sealer: context.expect("a context"),
                keys: Keystream::new(profile, &key, &salt).expect("the lengths fit"),
                track: Track::new(77, 96, Format::Media(Codec::H264)),
            }
        }

        fn pass(&mut self, packet: &rtp::Packet) -> Seen {
            let plain = packet.marshal().expect("it fits");
            let sealed =
                self.sealer.encrypt_rtp_with_header(&plain, &packet.header).expect("it is sealed");
            let header = Header::read(&sealed).expect("a header");
            assert_eq!((header.ssrc, header.payload_type), (77, 96));
            self.track.take(&header, &self.keys, true, 0)
        }
    }

    #[test]
    fn stamps_and_keyframes_are_read_from_sealed_packets_over_the_wrap() {
        for (profile, salt) in [(SrtpProfile::Gcm, 12), (SrtpProfile::Cm80, 14)] {
            let mut bench = Bench::new(profile, salt);
            let mut source = VideoSource::new(VideoSettings::default(), 96, 77);
            let (mut keyframes, mut whole) = (Vec::new(), Vec::new());
            for number in 0..90 {
                for mut packet in source.next_frame().packets {
                    let id = Bytes::from_static(b"0");
                    packet.header.set_extension(3, id).expect("a short extension");
                    let wanted = Stamp::read(&packet.payload);
                    let seen = bench.pass(&packet);
                    assert_eq!(seen.sample.map(|it| it.stamp), wanted);
                    if seen.keyframe && keyframes.last() != Some(&number) {
                        keyframes.push(number);
                    }
                    assert_eq!(seen.marker, packet.header.marker);
                    whole.extend(seen.first_frame.then_some((number, packet.header.marker)));
                }
            }
            assert_eq!(keyframes, [0, 60]);
            assert_eq!(whole, [(0, true), (60, true)]);
            assert_eq!(bench.track.window.lost(), 0);
        }
    }

    #[test]
    fn a_retransmission_tells_the_number_of_its_packet() {
        let mut bench = Bench::new(SrtpProfile::Gcm, 12);
        let header = rtp::Header { version: 2, ssrc: 77, ..Default::default() };
        let packet = rtp::Packet { header, payload: Bytes::from_static(b"\x12\x34media") };
        let plain = packet.marshal().expect("it fits");
        let sealed = bench.sealer.encrypt_rtp_with_header(&plain, &packet.header);
        let sealed = sealed.expect("it is sealed");
        let header = Header::read(&sealed).expect("a header");
        assert_eq!(bench.track.take_repair(&header, &bench.keys), Some((0x1234, None)));
        assert_eq!(bench.track.take_repair(&header, &bench.keys), None, "it came before");
    }

    #[test]
    fn padding_is_no_part_of_the_payload() {
        let mut bench = Bench::new(SrtpProfile::Gcm, 12);
        let stamp = Stamp { counter: 3, sent_micros: 4, layer: 5 };
        // The writer pads to a multiple of four bytes.
        let mut payload = vec![1; 101];
        stamp.write(&mut payload);
        let header = rtp::Header {
            version: 2,
            padding: true,
            payload_type: 96,
            ssrc: 77,
            ..Default::default()
        };
        let seen = bench.pass(&rtp::Packet { header, payload: payload.into() });
        assert_eq!(seen.sample.map(|it| it.stamp), Some(stamp));
    }

    /// Encoders send parameter sets as packets of their own.
    #[test]
    fn a_packet_that_is_no_longer_than_its_parameter_set_tells_the_size() {
        let mut bench = Bench::new(SrtpProfile::Gcm, 12);
        // What x264 wrote of a picture of 240x136.
        let set = b"\x67\x42\xc0\x0c\xda\x0f\x13\xf9\x70\x11\x00\x00\x03\x00\x01\x00\
            \x00\x03\x00\x3c\x8f\x14\x2a\xa0";
        for sequence_number in 0..=UNSTAMPED as u16 {
            let header = rtp::Header {
                version: 2,
                payload_type: 96,
                ssrc: 77,
                sequence_number,
                timestamp: u32::from(sequence_number) * 3_000,
                ..Default::default()
            };
            let payload = if sequence_number == 0 { &set[..] } else { &b"\x41picture"[..] };
            bench.pass(&rtp::Packet { header, payload: Bytes::copy_from_slice(payload) });
        }
        let report = bench.track.layers.report();
        assert_eq!(report.stays.last().and_then(|stay| stay.size), Some([240, 136]));
    }

    #[test]
    fn a_header_that_is_cut_off_is_none() {
        let mut packet = vec![0x91, 96];
        packet.resize(12 + 4 + 4 + 8, 0);
        packet[19] = 2;
        assert!(Header::read(&packet).is_some_and(|header| header.sealed.is_empty()));
        for length in 0..packet.len() {
            assert_eq!(Header::read(&packet[..length]), None, "{length}");
        }
    }
}
