//! What sealer and opener share: the SRTP profiles, session keys and nonces (RFC 3711, RFC 7714).
//!
//! AES-GCM is `ring`. AES in counter mode, which `ring` does not offer, and HMAC-SHA1, which it
//! computes three times slower, are `rtc-crypto`.

use super::agreement::DtlsRole;
use ring::aead::{AES_128_GCM, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rtc_crypto::providers::RingProvider;
use rtc_crypto::{HmacAlgorithm, Mac, RTCCryptoProvider, StreamCipher, StreamCipherAlgorithm};
use std::fmt;

/// How media is protected; named after the registry of RFC 5764 §4.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 §14.2).
    AeadAes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2).
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// The number in `use_srtp`.
    pub const fn id(self) -> u16 {
        match self {
            Self::Aes128CmHmacSha1_80 => 0x0001,
            Self::AeadAes128Gcm => 0x0007,
        }
    }

    const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmHmacSha1_80 => 14,
            Self::AeadAes128Gcm => 12,
        }
    }

    /// Bytes of keying material that both directions need (RFC 5764 §4.2).
    pub(super) const fn material_len(self) -> usize {
        2 * (KEY_LEN + self.salt_len())
    }
}

impl fmt::Display for SrtpProfile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes128CmHmacSha1_80 => "AES128_CM_HMAC_SHA1_80",
        })
    }
}

/// Bytes of an AES-128 key.
const KEY_LEN: usize = 16;
/// Bytes of an AES-GCM tag.
pub(super) const GCM_TAG_LEN: usize = 16;
/// Bytes of a whole HMAC-SHA1.
pub(super) const SHA1_LEN: usize = 20;
/// Bytes of an HMAC-SHA1-80 tag.
pub(super) const CM_TAG_LEN: usize = 10;

/// The master key and salt of one direction.
#[derive(Clone)]
pub struct MasterKey {
    profile: SrtpProfile,
    key: [u8; KEY_LEN],
    /// A salt of 96 bits is followed by 16 zero bits (RFC 7714 §11).
    salt: [u8; 14],
}

impl MasterKey {
    /// Splits exported keying material into our key and the client's (RFC 5764 §4.2); `None` if
    /// it has the wrong length.
    pub fn split(profile: SrtpProfile, role: DtlsRole, material: &[u8]) -> Option<(Self, Self)> {
        if material.len() != profile.material_len() {
            return None;
        }
        let (keys, salts) = material.split_at(2 * KEY_LEN);
        let (client_key, server_key) = keys.split_at(KEY_LEN);
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = Self::new(profile, client_key, client_salt)?;
        let server = Self::new(profile, server_key, server_salt)?;
        Some(match role {
            DtlsRole::Client => (client, server),
            DtlsRole::Server => (server, client),
        })
    }

    /// A master key; `None` if the lengths do not fit the profile.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        if salt.len() != profile.salt_len() {
            return None;
        }
        let mut padded = [0; 14];
        padded[..salt.len()].copy_from_slice(salt);
        Some(Self { profile, key: key.try_into().ok()?, salt: padded })
    }

    /// What it is for.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Derives a session key or salt (RFC 3711 §4.3.1 with a key derivation rate of zero).
    fn derive<const N: usize>(&self, label: u8) -> [u8; N] {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        counter[7] ^= label;
        let mut derived = [0; N];
        keystream(&mut *new_cipher(&self.key), &counter, &mut derived);
        derived
    }
}

/// Which of SRTP's two packet kinds a session key protects: the labels of RFC 3711 §4.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rtp,
    Rtcp,
}

impl Kind {
    const fn label(self, label: u8) -> u8 {
        match self {
            Self::Rtp => label,
            Self::Rtcp => label + 3,
        }
    }
}

/// The session key and salt of AES-GCM.
pub(super) struct GcmKey {
    key: [u8; KEY_LEN],
    salt: [u8; NONCE_LEN],
}

impl GcmKey {
    pub(super) fn derive(master: &MasterKey, kind: Kind) -> Self {
        Self { key: master.derive(kind.label(0)), salt: master.derive(kind.label(2)) }
    }

    /// A session key as test vectors give it, without a master key.
    #[cfg(test)]
    pub(super) const fn from_session(key: [u8; KEY_LEN], salt: [u8; NONCE_LEN]) -> Self {
        Self { key, salt }
    }

    /// The expanded key: 0.5 KiB. Kept for media; made anew for the few packets of RTCP.
    pub(super) fn expand(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_128_GCM, &self.key);
        LessSafeKey::new(key.expect("the key has the length of an AES-128 key"))
    }

    pub(super) const fn salt(&self) -> [u8; NONCE_LEN] {
        self.salt
    }

    /// The nonce of an SRTCP packet (RFC 7714 §9.1).
    pub(super) fn rtcp_nonce(&self, ssrc: u32, index: u32) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[8..].copy_from_slice(&index.to_be_bytes());
        salted(nonce, &self.salt)
    }
}

/// The nonce of an SRTP packet (RFC 7714 §8.1); `index` is rollover counter and sequence number.
pub(super) fn rtp_nonce(salt: &[u8; NONCE_LEN], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    salted(nonce, salt)
}

fn salted(mut nonce: [u8; NONCE_LEN], salt: &[u8; NONCE_LEN]) -> Nonce {
    nonce.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    Nonce::assume_unique_for_key(nonce)
}

/// The session keys of AES-CM and HMAC-SHA1, ready for use.
pub(super) struct CmKey {
    cipher: Box<dyn StreamCipher>,
    salt: [u8; 14],
    auth: Box<dyn Mac>,
}

impl CmKey {
    pub(super) fn derive(master: &MasterKey, kind: Kind) -> Self {
        let auth: [u8; 20] = master.derive(kind.label(1));
        Self {
            cipher: new_cipher(&master.derive(kind.label(0))),
            salt: master.derive(kind.label(2)),
            auth: hmac_sha1(&auth),
        }
    }

    /// Encrypts or decrypts in place (RFC 3711 §4.1.1).
    pub(super) fn apply(&mut self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let mut counter = [0; 16];
        counter[4..8].copy_from_slice(&ssrc.to_be_bytes());
        counter[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        counter.iter_mut().zip(&self.salt).for_each(|(byte, salt)| *byte ^= salt);
        keystream(&mut *self.cipher, &counter, bytes);
    }

    /// The tag over both parts (RFC 3711 §4.2.1).
    pub(super) fn tag(&mut self, packet: &[u8], rollover: &[u8]) -> [u8; CM_TAG_LEN] {
        let whole = sign(&mut *self.auth, &[packet, rollover]);
        let mut tag = [0; CM_TAG_LEN];
        tag.copy_from_slice(&whole[..CM_TAG_LEN]);
        tag
    }
}

fn new_cipher(key: &[u8; KEY_LEN]) -> Box<dyn StreamCipher> {
    RingProvider::new()
        .crypto()
        .new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, key)
        .expect("the provider has AES-128 in counter mode and the key its length")
}

/// HMAC-SHA1 with a key, to be used with [`sign`].
pub(super) fn hmac_sha1(key: &[u8]) -> Box<dyn Mac> {
    let mac = RingProvider::new().crypto().new_hmac(HmacAlgorithm::Sha1, key);
    mac.expect("the provider has HMAC-SHA1 and takes keys of any length")
}

/// The whole HMAC-SHA1 over the parts, one after the other.
pub(super) fn sign(mac: &mut dyn Mac, parts: &[&[u8]]) -> [u8; SHA1_LEN] {
    let mut tag = [0; SHA1_LEN];
    mac.sign(parts, &mut tag).expect("the tag has the length of a SHA-1");
    tag
}

fn keystream(cipher: &mut dyn StreamCipher, counter: &[u8; 16], bytes: &mut [u8]) {
    cipher.apply_keystream(counter, bytes).expect("the counter has the length of a block");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_appendix_b3() {
        let master = MasterKey::new(
            SrtpProfile::Aes128CmHmacSha1_80,
            &bytes("e1f97a0d3e018be0d64fa32c06de4139"),
            &bytes("0ec675ad498afeebb6960b3aabe6"),
        )
        .expect("the lengths fit");
        assert_eq!(master.derive::<16>(0).to_vec(), bytes("c61e7a93744f39ee10734afe3ff7a087"));
        assert_eq!(master.derive::<14>(2).to_vec(), bytes("30cbbc08863d8c85d49db34a9ae1"));
        let auth = bytes("cebe321f6ff7716b6fd4ab49af256a156d38baa4");
        assert_eq!(master.derive::<20>(1).to_vec(), auth);
    }

    #[test]
    fn the_client_writes_with_the_first_key_and_reads_with_the_second() {
        let material: Vec<u8> = (0..56).collect();
        let profile = SrtpProfile::AeadAes128Gcm;
        let (ours, theirs) =
            MasterKey::split(profile, DtlsRole::Client, &material).expect("the right length");
        assert_eq!((ours.key[0], theirs.key[0]), (0, 16));
        assert_eq!((ours.salt[0], theirs.salt[0]), (32, 44));
        assert!(MasterKey::split(profile, DtlsRole::Client, &material[1..]).is_none());
    }
}
