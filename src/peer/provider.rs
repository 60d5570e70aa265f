//! The library's cryptography, and one curve more: signatures on P-224.
//!
//! ffmpeg built with `GnuTLS` (as Debian's and `PyAV`'s are) shows a certificate on that curve,
//! which ring leaves out. It secures nothing but the possession of a key whose fingerprint the
//! offer names; 112 bits are enough for that (NIST SP 800-57 Part 1 §5.6.1).

use p224::ecdsa::signature::hazmat::PrehashVerifier;
use p224::ecdsa::{Signature, VerifyingKey};
use ring::digest;
use rtc_crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac,
    PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};
use std::sync::Arc;

/// Bytes of an uncompressed point on P-224 (SEC 1 §2.3.3).
const P224_POINT: usize = 57;

/// The default provider with P-224.
struct Provider(Arc<dyn RTCCryptoProvider>);

/// The cryptography that handshakes are made with.
///
/// # Errors
///
/// [`CryptoError`] where the library was built without any.
pub(super) fn provider() -> Result<Arc<dyn RTCCryptoProvider>, CryptoError> {
    Ok(Arc::new(Provider(rtc_crypto::default_provider()?)))
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.0.random()
    }
}

impl RTCCrypto for Provider {
    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        // TLS 1.2 names the hash but not the curve (RFC 5246 §7.4.1.4.1): the library says P-256.
        if scheme == SignatureScheme::EcdsaP256Sha256 && key.bytes.len() == P224_POINT {
            return verify_p224(key.bytes, message, signature);
        }
        self.0.crypto().verify_signature(scheme, key, message, signature)
    }

    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.0.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.0.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.0.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.0.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(
        &self,
        algorithm: AeadAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.0.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(
        &self,
        algorithm: CbcAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.0.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.0.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(
        &self,
        scheme: SignatureScheme,
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().import_signing_key(scheme, pkcs8_der)
    }
}

/// ECDSA over a SHA-256, of which the curve takes the first 28 bytes (FIPS 186-5 §6.4.2).
fn verify_p224(point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| CryptoError::InvalidSignature)?;
    let signature = Signature::from_der(signature).map_err(|_| CryptoError::InvalidSignature)?;
    let hash = digest::digest(&digest::SHA256, message);
    key.verify_prehash(hash.as_ref(), &signature).map_err(|_| CryptoError::InvalidSignature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use p224::ecdsa::signature::hazmat::PrehashSigner;
    use rtc_crypto::PublicKeyEncoding;

    #[test]
    fn signatures_on_p224_are_verified_and_forged_ones_are_not() {
        let key = p224::ecdsa::SigningKey::from_slice(&[7; 28]).expect("a number below the order");
        let point = key.verifying_key().to_encoded_point(false);
        let hash = digest::digest(&digest::SHA256, b"what both have said");
        let signature: Signature = key.sign_prehash(hash.as_ref()).expect("a signature");
        let signature = signature.to_der();
        let provider = provider().expect("ring");
        let verify = |point: &[u8], message: &[u8], signature: &[u8]| {
            let encoding = PublicKeyEncoding::EcUncompressedPoint;
            let key = PublicKey { encoding, bytes: point };
            let scheme = SignatureScheme::EcdsaP256Sha256;
            provider.crypto().verify_signature(scheme, key, message, signature).is_ok()
        };
        let (point, signature) = (point.as_bytes(), signature.as_bytes());
        assert!(verify(point, b"what both have said", signature));
        assert!(!verify(point, b"what nobody has said", signature));
        let mut forged = signature.to_vec();
        *forged.last_mut().expect("bytes") ^= 1;
        assert!(!verify(point, b"what both have said", &forged));
        assert!(!verify(&[4; P224_POINT], b"what both have said", signature), "no such point");
        assert!(!verify(point, b"what both have said", &[]));
    }
}
