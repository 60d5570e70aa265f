//! The opener: protected packets of one client become plain ones, in place (RFC 3711 §3.3).
//!
//! Nothing is remembered of a packet that is not authentic: garbage costs no memory, however many
//! SSRCs it names. Not here: what the packets mean.
//! Fuzz target: `srtp`.

use super::header::RtpHeader;
use super::seal::{ENCRYPTED, RTCP_CLEAR_LEN, RTCP_INDEX_LEN, rtcp_aad, rtcp_ssrc};
use super::srtp::{
    CM_TAG_LEN, CmKey, GCM_TAG_LEN, GcmKey, Kind, MasterKey, SrtpProfile, rtp_nonce,
};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN};
use rtc_crypto::constant_time_eq;

/// Opens what one client sends.
pub struct Opener {
    cipher: Cipher,
    /// SSRCs heard of, media and RTX.
    rtp: Vec<Stream>,
    /// SSRCs that sent RTCP.
    rtcp: Vec<Stream>,
}

enum Cipher {
    Gcm { rtp: Box<LessSafeKey>, salt: [u8; NONCE_LEN], rtcp: GcmKey },
    Cm { rtp: Box<CmKey>, rtcp: Box<CmKey> },
}

impl Opener {
    /// SSRCs of one client that are remembered; packets of further ones are dropped. Three layers
    /// with RTX and audio are eight, and a client may replace them a few times.
    pub const SSRCS_MAX: usize = 64;

    /// An opener with the client's keys of a session.
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
        Self { cipher, rtp: Vec::new(), rtcp: Vec::new() }
    }

    /// Opens an RTP packet in place: its header, and the datagram without the tag. `None` if it
    /// is not authentic, was received before, is too old to tell, or comes from one SSRC too many.
    pub fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Option<(RtpHeader, &'d [u8])> {
        let header = RtpHeader::read(datagram)?;
        let stream = self.rtp.iter().position(|stream| stream.ssrc == header.ssrc);
        let index = match stream {
            Some(at) => self.rtp[at].index_of(header.sequence)?,
            None if self.rtp.len() < Self::SSRCS_MAX => u64::from(header.sequence),
            None => return None,
        };
        let plain = self.open_payload(&header, index, datagram)?;
        remember(&mut self.rtp, stream, header.ssrc, index);
        Some((header, plain))
    }

    fn open_payload<'d>(
        &mut self,
        header: &RtpHeader,
        index: u64,
        datagram: &'d mut [u8],
    ) -> Option<&'d [u8]> {
        match &mut self.cipher {
            Cipher::Gcm { rtp, salt, .. } => {
                let end = datagram.len().checked_sub(GCM_TAG_LEN)?;
                let (clear, sealed) = datagram.split_at_mut_checked(header.len)?;
                let nonce = rtp_nonce(salt, header.ssrc, index);
                rtp.open_in_place(nonce, Aad::from(&*clear), sealed).ok()?;
                datagram.get(..end)
            }
            Cipher::Cm { rtp, .. } => {
                let end = datagram.len().checked_sub(CM_TAG_LEN)?;
                let (body, tag) = datagram.split_at_mut_checked(end)?;
                let rollover = (index >> 16) as u32;
                if !constant_time_eq(tag, &rtp.tag(body, &rollover.to_be_bytes())) {
                    return None;
                }
                rtp.apply(header.ssrc, index, body.get_mut(header.len..)?);
                Some(body)
            }
        }
    }

    /// Opens a compound RTCP packet in place. `None` if it is not authentic or was received
    /// before. Unencrypted SRTCP is refused: nobody who negotiated keys by DTLS sends it.
    pub fn open_rtcp<'d>(&mut self, datagram: &'d mut [u8]) -> Option<&'d [u8]> {
        let ssrc = rtcp_ssrc(datagram)?;
        let word_at = match &self.cipher {
            Cipher::Gcm { .. } => datagram.len().checked_sub(RTCP_INDEX_LEN)?,
            Cipher::Cm { .. } => datagram.len().checked_sub(RTCP_INDEX_LEN + CM_TAG_LEN)?,
        };
        let (&word, _) = datagram.get(word_at..)?.split_first_chunk::<RTCP_INDEX_LEN>()?;
        let index = u32::from_be_bytes(word);
        if index & ENCRYPTED == 0 {
            return None;
        }
        let index = index & !ENCRYPTED;
        let stream = self.rtcp.iter().position(|stream| stream.ssrc == ssrc);
        match stream {
            Some(at) => self.rtcp[at].is_new(u64::from(index)).then_some(())?,
            None => (self.rtcp.len() < Self::SSRCS_MAX).then_some(())?,
        }
        let plain = self.open_report(ssrc, index, word, word_at, datagram)?;
        remember(&mut self.rtcp, stream, ssrc, u64::from(index));
        Some(plain)
    }

    fn open_report<'d>(
        &mut self,
        ssrc: u32,
        index: u32,
        word: [u8; RTCP_INDEX_LEN],
        word_at: usize,
        datagram: &'d mut [u8],
    ) -> Option<&'d [u8]> {
        match &mut self.cipher {
            Cipher::Gcm { rtcp, .. } => {
                let end = word_at.checked_sub(GCM_TAG_LEN)?;
                let (clear, rest) = datagram.split_at_mut_checked(RTCP_CLEAR_LEN)?;
                let sealed = rest.get_mut(..word_at.checked_sub(RTCP_CLEAR_LEN)?)?;
                let nonce = rtcp.rtcp_nonce(ssrc, index);
                let aad = rtcp_aad(clear, word);
                rtcp.expand().open_in_place(nonce, Aad::from(aad), sealed).ok()?;
                datagram.get(..end)
            }
            Cipher::Cm { rtcp, .. } => {
                let (signed, tag) = datagram.split_at_mut_checked(word_at + RTCP_INDEX_LEN)?;
                if !constant_time_eq(tag, &rtcp.tag(signed, &[])) {
                    return None;
                }
                let secret = signed.get_mut(RTCP_CLEAR_LEN..word_at)?;
                rtcp.apply(ssrc, u64::from(index), secret);
                signed.get(..word_at)
            }
        }
    }
}

/// Marks a packet as received, which makes its SSRC known.
fn remember(streams: &mut Vec<Stream>, known: Option<usize>, ssrc: u32, index: u64) {
    match known {
        Some(at) => streams[at].accept(index),
        None => streams.push(Stream::starting_with(ssrc, index)),
    }
}

/// Which packets of an SSRC were received (RFC 3711 §3.3.2).
struct Stream {
    ssrc: u32,
    /// The highest index so far.
    newest: u64,
    /// One bit per index, in a ring: those in `newest - WINDOW + 1 ..= newest` are valid.
    received: [u64; (WINDOW / 64) as usize],
}

/// Packets back from the newest that can still be told from replays: two seconds of resends on
/// the same SSRC at 1,000 packets a second.
const WINDOW: u64 = 2048;

impl Stream {
    fn starting_with(ssrc: u32, index: u64) -> Self {
        let mut stream = Self { ssrc, newest: index, received: [0; (WINDOW / 64) as usize] };
        stream.set(index);
        stream
    }

    /// The extended index of a sequence number (RFC 3711 §3.3.1 and appendix A): the nearest to
    /// the newest. `None` for what was received, is too old, or lies before the first rollover.
    fn index_of(&self, sequence: u16) -> Option<u64> {
        let ahead = sequence.wrapping_sub(self.newest as u16).cast_signed();
        let index = self.newest.checked_add_signed(i64::from(ahead))?;
        self.is_new(index).then_some(index)
    }

    fn is_new(&self, index: u64) -> bool {
        if index > self.newest {
            return true;
        }
        let (word, bit) = Self::place(index);
        self.newest - index < WINDOW && self.received[word] & bit == 0
    }

    fn accept(&mut self, index: u64) {
        if index > self.newest {
            let skipped = (index - self.newest).min(WINDOW);
            for forgotten in index + 1 - skipped..=index {
                let (word, bit) = Self::place(forgotten);
                self.received[word] &= !bit;
            }
            self.newest = index;
        }
        self.set(index);
    }

    fn set(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        self.received[word] |= bit;
    }

    const fn place(index: u64) -> (usize, u64) {
        let slot = index % WINDOW;
        ((slot / 64) as usize, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::seal::{RtpFields, Sealer};
    use proptest::prelude::*;

    const PROFILES: [SrtpProfile; 2] =
        [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

    fn pair(profile: SrtpProfile) -> (Sealer, Opener) {
        let salt: &[u8] = if profile == SrtpProfile::AeadAes128Gcm { &[3; 12] } else { &[3; 14] };
        let master = MasterKey::new(profile, &[2; 16], salt).expect("the lengths fit");
        (Sealer::new(&master), Opener::new(&master))
    }

    fn sealed(sealer: &mut Sealer, ssrc: u32, sequence: u64) -> Vec<u8> {
        let packet = RtpFields { sequence, ssrc, payload: b"media", ..RtpFields::default() };
        let mut out = vec![0; 100];
        let len = sealer.seal(&packet, &mut out).expect("it fits");
        out.truncate(len);
        out
    }

    fn report(sealer: &mut Sealer, ssrc: u32) -> Vec<u8> {
        let mut compound = [0x80, 201, 0, 1, 0, 0, 0, 0];
        compound[4..].copy_from_slice(&ssrc.to_be_bytes());
        let mut out = vec![0; 100];
        let len = sealer.seal_rtcp(&compound, &mut out).expect("it fits");
        out.truncate(len);
        out
    }

    #[test]
    fn a_packet_is_opened_once() {
        for profile in PROFILES {
            let (mut sealer, mut opener) = pair(profile);
            let packet = sealed(&mut sealer, 1, 10);
            let mut first = packet.clone();
            let (header, plain) = opener.open(&mut first).expect("authentic");
            assert_eq!(header.payload(plain), Some(b"media".as_slice()));
            assert!(opener.open(&mut packet.clone()).is_none());
            let report = report(&mut sealer, 1);
            assert_eq!(opener.open_rtcp(&mut report.clone()).map(<[u8]>::len), Some(8));
            assert!(opener.open_rtcp(&mut report.clone()).is_none());
        }
    }

    #[test]
    fn late_packets_open_within_the_window_and_not_beyond() {
        let (mut sealer, mut opener) = pair(SrtpProfile::AeadAes128Gcm);
        for sequence in [0, 5_000] {
            assert!(opener.open(&mut sealed(&mut sealer, 1, sequence)).is_some());
        }
        assert!(opener.open(&mut sealed(&mut sealer, 1, 5_001 - WINDOW)).is_some());
        assert!(opener.open(&mut sealed(&mut sealer, 1, 5_000 - WINDOW)).is_none());
        assert!(opener.open(&mut sealed(&mut sealer, 1, 0)).is_none());
    }

    /// Which is why clients begin in the lower half, or wait for the server's end of the handshake.
    #[test]
    fn of_a_numbering_that_came_around_unheard_nothing_opens() {
        for profile in PROFILES {
            let (mut sealer, mut opener) = pair(profile);
            assert!(opener.open(&mut sealed(&mut sealer, 1, 0x1_0010)).is_none());
            assert!(opener.open(&mut sealed(&mut sealer, 2, 0xffff)).is_some());
            assert!(opener.open(&mut sealed(&mut sealer, 2, 0x1_0010)).is_some());
        }
    }

    #[test]
    fn garbage_makes_no_state_and_the_number_of_ssrcs_is_bounded() {
        for profile in PROFILES {
            let (mut sealer, mut opener) = pair(profile);
            for ssrc in 0..200 {
                let mut forged = sealed(&mut sealer, ssrc, 1);
                *forged.last_mut().expect("a tag") ^= 1;
                assert!(opener.open(&mut forged).is_none());
                let mut forged = report(&mut sealer, ssrc);
                forged[9] ^= 1;
                assert!(opener.open_rtcp(&mut forged).is_none());
            }
            assert_eq!((opener.rtp.len(), opener.rtcp.len()), (0, 0));
            for ssrc in 0..200 {
                let opened = opener.open(&mut sealed(&mut sealer, ssrc, 2)).is_some();
                assert_eq!(opened, (ssrc as usize) < Opener::SSRCS_MAX);
                let opened = opener.open_rtcp(&mut report(&mut sealer, ssrc)).is_some();
                assert_eq!(opened, (ssrc as usize) < Opener::SSRCS_MAX);
            }
        }
    }

    #[test]
    fn a_report_that_claims_to_be_unencrypted_is_refused() {
        let (_, mut opener) = pair(SrtpProfile::Aes128CmHmacSha1_80);
        let mut forged = [0x80, 201, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(opener.open_rtcp(&mut forged).is_none());
    }

    proptest! {
        #[test]
        fn every_order_within_the_window_opens_every_packet_once(
            start in 0_u64..200_000,
            order in Just((0..300_u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            // The first packet of an SSRC has a rollover counter of 0.
            let (mut sealer, mut opener) = pair(SrtpProfile::AeadAes128Gcm);
            for walk in (0..=start + 300).step_by(1_000) {
                opener.open(&mut sealed(&mut sealer, 1, walk));
            }
            let mut opened = 0;
            for offset in order.iter().chain(&order) {
                let sequence = start + 301 + offset;
                opened += usize::from(opener.open(&mut sealed(&mut sealer, 1, sequence)).is_some());
            }
            prop_assert_eq!(opened, 300);
        }

        #[test]
        fn hostile_bytes_do_no_harm(mut datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            for profile in PROFILES {
                let (mut sealer, mut opener) = pair(profile);
                prop_assert!(opener.open(&mut datagram).is_none());
                prop_assert!(opener.open_rtcp(&mut datagram).is_none());
                prop_assert!(opener.open(&mut sealed(&mut sealer, 1, 1)).is_some());
            }
        }
    }
}
