//! The SRTP keystream, block by block: to read a few bytes of a packet without opening all of it.
//!
//! Both profiles encrypt by AES in counter mode, so any sixteen bytes of a payload are one block
//! away. No tag is checked: this is for measuring a server that other tests hold to its promises.

use crate::light::SrtpProfile;
use aes::Aes128Enc;
use aes::cipher::{BlockEncrypt, KeyInit};
use std::fmt;

/// Bytes of a block.
const BLOCK: usize = 16;
/// The most bytes one call opens, and the blocks that they can touch.
const OPEN_MAX: usize = 32;
const BLOCKS_MAX: usize = OPEN_MAX / BLOCK + 1;

/// What a packet was sealed under, beside the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// The SSRC.
    pub ssrc: u32,
    /// How often the sequence number wrapped (RFC 3711 §3.3.1).
    pub rollovers: u32,
    /// The sequence number.
    pub sequence: u16,
}

/// The keys of one direction of an association.
#[derive(Clone)]
pub struct Keystream {
    profile: SrtpProfile,
    cipher: Aes128Enc,
    salt: [u8; BLOCK],
}

impl fmt::Debug for Keystream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Keystream").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Keystream {
    /// Derives the session key and salt (RFC 3711 §4.3, RFC 7714 §11) from the master ones.
    ///
    /// Returns none where the key or the salt is not as long as the profile's.
    pub fn new(profile: SrtpProfile, master_key: &[u8], master_salt: &[u8]) -> Option<Self> {
        let salt_length = match profile {
            SrtpProfile::Gcm => 12,
            SrtpProfile::Cm80 => 14,
        };
        if master_salt.len() != salt_length {
            return None;
        }
        let prf = Aes128Enc::new_from_slice(master_key).ok()?;
        let derive = |label: u8| {
            let mut block = [0; BLOCK];
            block[..salt_length].copy_from_slice(master_salt);
            block[7] ^= label;
            prf.encrypt_block((&mut block).into());
            block
        };
        let cipher = Aes128Enc::new(&derive(0).into());
        let mut salt = derive(2);
        salt[salt_length..].fill(0);
        Some(Self { profile, cipher, salt })
    }

    /// Bytes after the payload that authenticate it.
    pub const fn tag_length(&self) -> usize {
        match self.profile {
            SrtpProfile::Gcm => 16,
            SrtpProfile::Cm80 => 10,
        }
    }

    /// Opens `N` bytes of a payload, which stand at `offset`; 32 at most.
    pub fn open<const N: usize>(
        &self,
        nonce: Nonce,
        payload: &[u8],
        offset: usize,
    ) -> Option<[u8; N]> {
        const { assert!(N <= OPEN_MAX, "more than the blocks below can hold") };
        let mut bytes: [u8; N] = *payload.get(offset..)?.first_chunk()?;
        let first = offset / BLOCK;
        let within = offset % BLOCK;
        let count = (within + N).div_ceil(BLOCK);
        let mut blocks = [[0_u8; BLOCK].into(); BLOCKS_MAX];
        let start = self.counter_block(nonce);
        for (number, block) in (first..).zip(blocks.iter_mut()).take(count) {
            *block = self.numbered(start, number).into();
        }
        self.cipher.encrypt_blocks(blocks.get_mut(..count)?);
        let stream: [[u8; BLOCK]; BLOCKS_MAX] = blocks.map(Into::into);
        let stream = stream.as_flattened().get(within..)?;
        for (byte, key) in bytes.iter_mut().zip(stream) {
            *byte ^= key;
        }
        Some(bytes)
    }

    /// Opens the first `N` bytes of a payload, or all of one that is shorter: zeros follow.
    pub fn open_start<const N: usize>(&self, nonce: Nonce, payload: &[u8]) -> Option<[u8; N]> {
        let length = payload.len().min(N);
        let mut sealed = [0; N];
        sealed[..length].copy_from_slice(&payload[..length]);
        let mut start = self.open(nonce, &sealed, 0)?;
        start[length..].fill(0);
        Some(start)
    }

    /// The block before numbering.
    fn counter_block(&self, nonce: Nonce) -> [u8; BLOCK] {
        let mut block = self.salt;
        let mut mix = |at: usize, bytes: &[u8]| {
            for (place, byte) in block.iter_mut().skip(at).zip(bytes) {
                *place ^= byte;
            }
        };
        // RFC 7714 §8.1: two zero bytes, SSRC, ROC, SEQ. RFC 3711 §4.1.1: SSRC from bit 64, the
        // 48 bits of ROC and SEQ from bit 16 on.
        let at = match self.profile {
            SrtpProfile::Gcm => 2,
            SrtpProfile::Cm80 => 4,
        };
        mix(at, &nonce.ssrc.to_be_bytes());
        mix(at + 4, &nonce.rollovers.to_be_bytes());
        mix(at + 8, &nonce.sequence.to_be_bytes());
        block
    }

    fn numbered(&self, mut block: [u8; BLOCK], number: usize) -> [u8; BLOCK] {
        match self.profile {
            // RFC 7714 §8: GCM spends counter 1 on the tag, the payload begins with 2.
            SrtpProfile::Gcm => {
                block[12..].copy_from_slice(&(number as u32 + 2).to_be_bytes());
            }
            SrtpProfile::Cm80 => {
                block[14..].copy_from_slice(&(number as u16).to_be_bytes());
            }
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::light::crypto_provider;
    use bytes::Bytes;
    use rtc_shared::marshal::Marshal;
    use rtc_srtp::context::Context;

    /// Seals packets over the wrap of the sequence number and reads them back at every offset.
    fn compare(profile: SrtpProfile, salt_length: usize) {
        let (key, salt) = ([0x5A; 16], [0xC3; 14]);
        let salt = &salt[..salt_length];
        let provider = crypto_provider();
        let mut sealer = Context::new(&key, salt, profile.srtp(), None, None, provider.crypto())
            .expect("a context");
        let keystream = Keystream::new(profile, &key, salt).expect("the lengths fit");
        let plain: Vec<u8> = (0..=255).collect();
        for (sequence, rollovers) in [(65_534_u16, 0), (65_535, 0), (0, 1), (1, 1)] {
            let header = rtp::Header {
                version: 2,
                payload_type: 96,
                sequence_number: sequence,
                ssrc: 0x0102_0304,
                ..Default::default()
            };
            let packet = rtp::Packet { header, payload: Bytes::from(plain.clone()) };
            let marshalled = packet.marshal().expect("it fits");
            let sealed = sealer
                .encrypt_rtp_with_header(&marshalled, &packet.header)
                .expect("it is sealed")
                .freeze();
            let payload = &sealed[12..sealed.len() - keystream.tag_length()];
            assert_eq!(payload.len(), plain.len());
            let nonce = Nonce { ssrc: 0x0102_0304, rollovers, sequence };
            for offset in 0..=plain.len() - 22 {
                let opened: [u8; 22] =
                    keystream.open(nonce, payload, offset).expect("it is inside");
                assert_eq!(opened, plain[offset..offset + 22], "{profile:?} {offset}");
            }
            assert_eq!(keystream.open::<22>(nonce, payload, plain.len() - 21), None);
        }
    }

    #[test]
    fn a_gcm_packet_is_read_at_every_offset() {
        compare(SrtpProfile::Gcm, 12);
    }

    #[test]
    fn a_counter_mode_packet_is_read_at_every_offset() {
        compare(SrtpProfile::Cm80, 14);
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        assert!(Keystream::new(SrtpProfile::Gcm, &[0; 16], &[0; 14]).is_none());
        assert!(Keystream::new(SrtpProfile::Gcm, &[0; 15], &[0; 12]).is_none());
    }
}
