//! The sealer: header and shared payload become a protected packet in the send arena.
//!
//! The nonce rule: the same (SSRC, rollover counter, sequence number) is never sealed twice with
//! different bytes, or AES-GCM loses its secrecy (RFC 7714 §8.4). The sealer cannot know what it
//! sealed before; its callers number their packets so that it never happens.

use super::header::RtpHeader;
use super::srtp::{
    CM_TAG_LEN, CmKey, GCM_TAG_LEN, GcmKey, Kind, MasterKey, SrtpProfile, rtp_nonce,
};
use crate::codec::dependency::NUMBERS_LEN;
use ring::aead::{Aad, LessSafeKey, NONCE_LEN};

/// One RTP packet to be sealed, in parts that are joined in the arena.
#[derive(Debug, Clone, Copy, Default)]
pub struct RtpFields<'a> {
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// The marker bit.
    pub marker: bool,
    /// Extended sequence number: bits 16 to 47 are the rollover counter, which is 0 for the first
    /// packets of an SSRC, because the receiver assumes so (RFC 3711 §3.3.1).
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// The whole encoded extension block with its header (RFC 8285), or empty.
    pub extensions: Extensions<'a>,
    /// Written before the payload: the original sequence number of RFC 4588 §4, or empty.
    pub prefix: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// What is written over its beginning: no longer than it.
    pub head: &'a [u8],
    /// Bytes of RTP padding to add (RFC 3550 §5.1); 0 for none.
    pub padding: u8,
}

/// An encoded extension block (RFC 8285), its last element in parts: that may be long, and begins
/// with other bytes for each viewer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extensions<'a> {
    /// The header and all elements; of the last one no more than its header where `last` has the
    /// value.
    pub block: &'a [u8],
    /// The value of the last element, or empty. Padding to whole words follows.
    pub last: &'a [u8],
    /// What is written over its beginning, as far as it goes.
    pub head: [u8; NUMBERS_LEN],
}

impl Extensions<'_> {
    /// Its length, which is a multiple of four bytes where there is a last element in parts.
    pub(super) const fn len(&self) -> usize {
        let whole = self.block.len() + self.last.len();
        if self.last.is_empty() { whole } else { whole.next_multiple_of(4) }
    }

    const fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Writes it into memory of exactly its length.
    fn write(&self, out: &mut [u8]) {
        let (block, rest) = out.split_at_mut(self.block.len());
        block.copy_from_slice(self.block);
        if self.last.is_empty() {
            return;
        }
        let (value, padding) = rest.split_at_mut(self.last.len());
        value.copy_from_slice(self.last);
        let head = value.len().min(NUMBERS_LEN);
        value[..head].copy_from_slice(&self.head[..head]);
        padding.fill(0);
    }
}

impl RtpFields<'_> {
    /// Bytes of all parts: what [`Sealer::OVERHEAD_MAX`] comes on top of.
    pub(super) fn unsealed_len(&self) -> usize {
        self.extensions.len() + self.prefix.len() + self.payload.len() + usize::from(self.padding)
    }

    /// Bytes of the packet before it is protected.
    fn plain_len(&self) -> usize {
        RtpHeader::FIXED + self.unsealed_len()
    }

    /// Writes the packet into memory of exactly its length and returns the header's length.
    fn write(&self, out: &mut [u8]) -> usize {
        let has = |set: bool, bit: u8| if set { bit } else { 0 };
        out[0] = 0x80 | has(self.padding > 0, 0x20) | has(!self.extensions.is_empty(), 0x10);
        out[1] = has(self.marker, 0x80) | (self.payload_type & 0x7f);
        out[2..4].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        let (extensions, rest) = out[RtpHeader::FIXED..].split_at_mut(self.extensions.len());
        self.extensions.write(extensions);
        let (prefix, rest) = rest.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix);
        let (payload, padding) = rest.split_at_mut(self.payload.len());
        payload.copy_from_slice(self.payload);
        if let Some(head) = payload.get_mut(..self.head.len()) {
            head.copy_from_slice(self.head);
        }
        if let Some((count, zeros)) = padding.split_last_mut() {
            zeros.fill(0);
            *count = self.padding;
        }
        RtpHeader::FIXED + self.extensions.len()
    }
}

/// Protects what one session is sent.
pub struct Sealer {
    cipher: Cipher,
    /// Of the last SRTCP packet: one counter for all SSRCs, since the SSRC is in the nonce.
    rtcp_index: u32,
}

enum Cipher {
    Gcm { rtp: Box<LessSafeKey>, salt: [u8; NONCE_LEN], rtcp: GcmKey },
    Cm { rtp: Box<CmKey>, rtcp: Box<CmKey> },
}

impl Sealer {
    /// Bytes that a packet needs besides its extensions, prefix, payload and padding.
    pub const OVERHEAD_MAX: usize = RtpHeader::FIXED + GCM_TAG_LEN;
    /// Bytes that a compound RTCP packet needs besides its own: tag and index.
    pub const RTCP_OVERHEAD_MAX: usize = GCM_TAG_LEN + RTCP_INDEX_LEN;

    /// A sealer with our keys of a session.
    pub fn new(master: &MasterKey) -> Self {
        let cipher = match master.profile() {
            SrtpProfile::AeadAes128Gcm => {
                let rtp = GcmKey::derive(master, Kind::Rtp);
                Cipher::Gcm {
                    salt: rtp.salt(),
                    rtp: Box::new(rtp.expand()),
                    rtcp: GcmKey::derive(master, Kind::Rtcp),
                }
            }
            SrtpProfile::Aes128CmHmacSha1_80 => Cipher::Cm {
                rtp: Box::new(CmKey::derive(master, Kind::Rtp)),
                rtcp: Box::new(CmKey::derive(master, Kind::Rtcp)),
            },
        };
        Self { cipher, rtcp_index: 0 }
    }

    /// Writes the protected packet and returns its length; `None` if it does not fit `out`, or if
    /// the extension block is no multiple of four bytes.
    pub fn seal(&mut self, packet: &RtpFields<'_>, out: &mut [u8]) -> Option<usize> {
        if !packet.extensions.len().is_multiple_of(4) {
            return None;
        }
        let plain = packet.plain_len();
        match &mut self.cipher {
            Cipher::Gcm { rtp, salt, .. } => {
                let out = out.get_mut(..plain + GCM_TAG_LEN)?;
                let (body, tag) = out.split_at_mut(plain);
                let header = packet.write(body);
                let (header, payload) = body.split_at_mut(header);
                let nonce = rtp_nonce(salt, packet.ssrc, packet.sequence);
                let made =
                    rtp.seal_in_place_separate_tag(nonce, Aad::from(header), payload).ok()?;
                tag.copy_from_slice(made.as_ref());
                Some(plain + GCM_TAG_LEN)
            }
            Cipher::Cm { rtp, .. } => {
                let out = out.get_mut(..plain + CM_TAG_LEN)?;
                let (body, tag) = out.split_at_mut(plain);
                let header = packet.write(body);
                rtp.apply(packet.ssrc, packet.sequence, &mut body[header..]);
                let rollover = (packet.sequence >> 16) as u32;
                tag.copy_from_slice(&rtp.tag(body, &rollover.to_be_bytes()));
                Some(plain + CM_TAG_LEN)
            }
        }
    }

    /// Writes a protected compound RTCP packet (RFC 3711 §3.4, RFC 7714 §9) and returns its
    /// length; `None` if it does not fit `out`, is no RTCP, or the index is used up.
    pub fn seal_rtcp(&mut self, compound: &[u8], out: &mut [u8]) -> Option<usize> {
        let ssrc = rtcp_ssrc(compound)?;
        let plain = compound.len();
        let tag_len = match &self.cipher {
            Cipher::Gcm { .. } => GCM_TAG_LEN,
            Cipher::Cm { .. } => CM_TAG_LEN,
        };
        let sealed = plain + RTCP_INDEX_LEN + tag_len;
        let out = out.get_mut(..sealed)?;
        let index = self.rtcp_index.checked_add(1).filter(|index| index & ENCRYPTED == 0)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        self.rtcp_index = index;
        out[..plain].copy_from_slice(compound);
        match &mut self.cipher {
            Cipher::Gcm { rtcp, .. } => {
                let (clear, secret) = out[..plain].split_at_mut(RTCP_CLEAR_LEN);
                let nonce = rtcp.rtcp_nonce(ssrc, index);
                let aad = rtcp_aad(clear, word);
                let tag = rtcp.expand().seal_in_place_separate_tag(nonce, Aad::from(aad), secret);
                out[plain..plain + GCM_TAG_LEN].copy_from_slice(tag.ok()?.as_ref());
                out[plain + GCM_TAG_LEN..].copy_from_slice(&word);
            }
            Cipher::Cm { rtcp, .. } => {
                rtcp.apply(ssrc, u64::from(index), &mut out[RTCP_CLEAR_LEN..plain]);
                let (signed, tag) = out.split_at_mut(plain + RTCP_INDEX_LEN);
                signed[plain..].copy_from_slice(&word);
                tag.copy_from_slice(&rtcp.tag(signed, &[]));
            }
        }
        Some(sealed)
    }
}

/// The E flag of an SRTCP packet (RFC 3711 §3.4).
pub(super) const ENCRYPTED: u32 = 1 << 31;
/// Bytes of the E flag and index.
pub(super) const RTCP_INDEX_LEN: usize = 4;
/// Bytes of an SRTCP packet that stay readable: the first header and its SSRC.
pub(super) const RTCP_CLEAR_LEN: usize = 8;

/// The sender of a compound RTCP packet; `None` if it is no RTCP version 2.
pub(super) fn rtcp_ssrc(compound: &[u8]) -> Option<u32> {
    let (clear, _) = compound.split_first_chunk::<RTCP_CLEAR_LEN>()?;
    (clear[0] >> 6 == 2).then(|| u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]]))
}

/// What AES-GCM authenticates besides the encrypted part (RFC 7714 §9.2).
pub(super) fn rtcp_aad(clear: &[u8], word: [u8; RTCP_INDEX_LEN]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..RTCP_CLEAR_LEN].copy_from_slice(&clear[..RTCP_CLEAR_LEN]);
    aad[RTCP_CLEAR_LEN..].copy_from_slice(&word);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::open::Opener;
    use rtc_srtp::context::Context;
    use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
    use rtc_srtp::protection_profile::ProtectionProfile;

    const PROFILES: [SrtpProfile; 2] =
        [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    fn block(block: &[u8]) -> Extensions<'_> {
        Extensions { block, ..Extensions::default() }
    }

    fn salt_len(profile: SrtpProfile) -> usize {
        if profile == SrtpProfile::AeadAes128Gcm { 12 } else { 14 }
    }

    fn master(profile: SrtpProfile) -> MasterKey {
        MasterKey::new(profile, &[7; 16], &vec![9; salt_len(profile)]).expect("the lengths fit")
    }

    /// The same keys in `rtc-srtp`, which shares no code with ours but the ciphers.
    fn other_side(profile: SrtpProfile) -> Context {
        let name = match profile {
            SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let provider = rtc_crypto::default_provider().expect("ring is built in");
        let rtp = Some(srtp_replay_protection(1024));
        let rtcp = Some(srtcp_replay_protection(64));
        let salt = vec![9; salt_len(profile)];
        Context::new(&[7; 16], &salt, name, rtp, rtcp, provider.crypto()).expect("a context")
    }

    /// The session keys of RFC 7714 §16 and §17.
    fn rfc_7714() -> Sealer {
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let session = || GcmKey::from_session(key, *b"Quid pro quo");
        let cipher = Cipher::Gcm {
            rtp: Box::new(session().expand()),
            salt: session().salt(),
            rtcp: session(),
        };
        Sealer { cipher, rtcp_index: 0x5d3 }
    }

    #[test]
    fn media_is_sealed_as_in_rfc_7714_section_16_1_1() {
        let packet = RtpFields {
            payload_type: 0x40,
            sequence: 0xf17b,
            timestamp: 0x8041_f8d3,
            ssrc: 0x5501_a0b2,
            payload: b"Gallia est omnis divisa in partes tres",
            ..RtpFields::default()
        };
        let mut out = [0; 200];
        let len = rfc_7714().seal(&packet, &mut out).expect("it fits");
        let expected = bytes(
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
             42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        );
        assert_eq!(out[..len], expected);
    }

    #[test]
    fn reports_are_sealed_as_in_rfc_7714_section_17_1() {
        let report = bytes(
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef
             deadbeef deadbeef deadbeef deadbeef",
        );
        let mut out = [0; 200];
        let len = rfc_7714().seal_rtcp(&report, &mut out).expect("it fits");
        let expected = bytes(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
             730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        );
        assert_eq!(out[..len], expected);
    }

    #[test]
    fn all_parts_of_a_packet_arrive_at_the_other_side_across_the_rollover() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(&master(profile));
            let mut other = other_side(profile);
            for sequence in 65_500..65_600_u64 {
                let packet = RtpFields {
                    payload_type: 96,
                    marker: true,
                    sequence,
                    timestamp: 1_000,
                    ssrc: 5,
                    extensions: block(&[0xbe, 0xde, 0, 1, 0x10, b'0', 0, 0]),
                    prefix: &[1, 2],
                    payload: b"Xxyload",
                    head: b"pa",
                    padding: 3,
                };
                let mut out = [0; 100];
                let len = sealer.seal(&packet, &mut out).expect("it fits");
                let plain = other.decrypt_rtp(&out[..len]).expect("authentic");
                let header = RtpHeader::read(&plain).expect("a header");
                assert_eq!((header.sequence, header.marker), (sequence as u16, true));
                assert_eq!((header.payload_type, header.ssrc), (96, 5));
                assert_eq!(header.extension(&plain, 1), Some(b"0".as_slice()));
                assert_eq!(header.payload(&plain), Some(b"\x01\x02payload".as_slice()));
            }
        }
    }

    #[test]
    fn an_old_packet_is_sealed_with_its_own_rollover_counter() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(&master(profile));
            let mut opener = Opener::new(&master(profile));
            for sequence in [65_535, 65_540, 65_534, 65_536, 65_533] {
                let packet = RtpFields { sequence, ssrc: 5, payload: b"x", ..RtpFields::default() };
                let mut out = [0; 100];
                let len = sealer.seal(&packet, &mut out).expect("it fits");
                assert!(opener.open(&mut out[..len]).is_some(), "{profile} {sequence}");
            }
        }
    }

    #[test]
    fn reports_arrive_at_the_other_side() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(&master(profile));
            let mut other = other_side(profile);
            let report = [0x80, 201, 0, 1, 0, 0, 0, 5];
            for _ in 0..100 {
                let mut out = [0; 100];
                let len = sealer.seal_rtcp(&report, &mut out).expect("it fits");
                let plain = other.decrypt_rtcp(&out[..len]).expect("authentic");
                assert_eq!(plain.as_ref(), report);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(&master(profile));
            let packet = RtpFields { payload: &[1; 100], ..RtpFields::default() };
            assert_eq!(sealer.seal(&packet, &mut [0; 121]), None);
            assert!(sealer.seal(&packet, &mut [0; 100 + Sealer::OVERHEAD_MAX]).is_some());
            let ragged = RtpFields { extensions: block(&[0xbe]), ..packet };
            assert_eq!(sealer.seal(&ragged, &mut [0; 200]), None);
            assert_eq!(sealer.seal_rtcp(&[0x80; 8], &mut [0; 20]), None);
            assert_eq!(sealer.seal_rtcp(&[0x80; 7], &mut [0; 99]), None);
            assert!(
                sealer.seal_rtcp(&[0x80; 8], &mut [0; 8 + Sealer::RTCP_OVERHEAD_MAX]).is_some()
            );
        }
    }

    #[test]
    fn the_index_of_reports_never_repeats() {
        let mut sealer = Sealer::new(&master(SrtpProfile::AeadAes128Gcm));
        sealer.rtcp_index = ENCRYPTED - 1;
        assert_eq!(sealer.seal_rtcp(&[0x80; 8], &mut [0; 99]), None);
    }
}
