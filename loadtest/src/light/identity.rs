//! A client's certificate with its key, and the fingerprint under which SDP announces it.

use rtc_dtls::crypto::Certificate;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;

/// A self-signed certificate, as every WebRTC endpoint makes one for itself.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) certificate: Certificate,
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn generate() -> anyhow::Result<Self> {
        let provider = crypto_provider();
        let names = vec!["loadtest".to_owned()];
        Ok(Self { certificate: Certificate::generate_self_signed(names, provider.crypto())? })
    }

    /// The value of `a=fingerprint` (RFC 8122 §5).
    pub fn fingerprint(&self) -> String {
        self.certificate.certificate.first().map(|der| fingerprint_of(der)).unwrap_or_default()
    }
}

/// The `sha-256` fingerprint of a DER certificate, as SDP writes it.
pub(crate) fn fingerprint_of(der: &[u8]) -> String {
    let mut text = "sha-256 ".to_owned();
    for (position, byte) in Sha256::digest(der).iter().enumerate() {
        let colon = if position == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

/// The cryptography every part of the light stack uses.
pub(crate) fn crypto_provider() -> Arc<dyn rtc_crypto::RTCCryptoProvider> {
    Arc::new(rtc_crypto::providers::RingProvider::new())
}

/// Random bytes from the system; this client needs no more than their being different each time.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness the bytes stay zero, and the server tells us that we are not unique.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

/// Random letters and digits, for ICE credentials (RFC 8839 §5.4).
pub(crate) fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = random::<64>();
    bytes
        .iter()
        .take(length)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}
