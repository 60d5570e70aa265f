//! The server's DTLS certificate and the handshake configurations made of it.
//!
//! Made at start and shared by all sessions: nobody trusts it by name, only by the fingerprint
//! in the answer, which reaches the client by HTTPS (RFC 8122 §5, RFC 8827 §6.5).

use super::agreement::{Fingerprint, HashAlgorithm};
use super::provider::provider;
use super::srtp::SrtpProfile;
use ring::digest;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// The certificate with which the server shows itself to every client.
pub struct Identity {
    fingerprint: Fingerprint,
    provider: Arc<dyn RTCCryptoProvider>,
    server_gcm: Arc<HandshakeConfig>,
    server_cm: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

/// Why the server has no certificate.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate for media encryption cannot be made: {0}")]
pub struct IdentityError(#[from] Error);

/// The suites offered and accepted: every WebRTC client has the first; the RSA ones are for
/// servers with an RSA certificate, to which we are the client.
const SUITES: [CipherSuiteId; 5] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_256_Cbc_Sha,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_256_Cbc_Sha,
];

/// Longer than any handshake may last: the library's own retransmission never fires, because
/// `dtls` does that work.
const NEVER: Duration = Duration::from_hours(1);

impl Identity {
    /// Makes a key pair (ECDSA, P-256) and a self-signed certificate for it.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] if the random source or the crypto library fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let provider = default_provider()?;
        let names = vec!["millrace".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())?;
        Ok(Self::with_certificate(&certificate, provider)?)
    }

    fn with_certificate(
        certificate: &Certificate,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, Error> {
        let first = certificate.certificate.first().ok_or(Error::ErrNoCertificates)?;
        let algorithm = HashAlgorithm::Sha256;
        let fingerprint = Fingerprint { algorithm, digest: hash(algorithm, first) };
        let configuration = |profiles: &[SrtpProtectionProfile], is_client| {
            ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(&provider))
                .with_certificates(vec![certificate.clone()])
                .with_cipher_suites(SUITES.to_vec())
                .with_srtp_protection_profiles(profiles.to_vec())
                .with_extended_master_secret(ExtendedMasterSecretType::Request)
                // Whose certificate it is, the fingerprint tells; no authority signed it.
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_flight_interval(NEVER)
                // WebRTC clients ignore the name; one without dots is no address by mistake.
                .with_server_name("millrace".to_owned())
                .build(is_client, None)
                .map(Arc::new)
        };
        let gcm = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
        let cm = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
        let server_gcm = configuration(&[gcm], false)?;
        let server_cm = configuration(&[cm], false)?;
        let client = configuration(&[gcm, cm], true)?;
        Ok(Self { fingerprint, provider, server_gcm, server_cm, client })
    }

    /// The certificate's SHA-256, for `a=fingerprint`.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The configuration as server. It knows one profile only, since the library otherwise takes
    /// the client's favourite, and browsers put the slower one first.
    pub(super) fn server(&self, profile: SrtpProfile) -> Arc<HandshakeConfig> {
        Arc::clone(match profile {
            SrtpProfile::AeadAes128Gcm => &self.server_gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => &self.server_cm,
        })
    }

    /// The configuration as client: offers AES-GCM, then AES-CM.
    pub(super) fn client(&self) -> Arc<HandshakeConfig> {
        Arc::clone(&self.client)
    }

    pub(super) fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        Arc::clone(&self.provider)
    }
}

/// Whether a certificate is one of those an offer announced.
pub(super) fn is_announced(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    fingerprints.iter().any(|announced| hash(announced.algorithm, certificate) == announced.digest)
}

fn default_provider() -> Result<Arc<dyn RTCCryptoProvider>, Error> {
    provider().map_err(|error| Error::Crypto(error.to_string()))
}

fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        HashAlgorithm::Sha256 => &digest::SHA256,
        HashAlgorithm::Sha384 => &digest::SHA384,
        HashAlgorithm::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_identity_has_a_fingerprint_of_its_own() {
        let first = Identity::generate().expect("a certificate");
        let second = Identity::generate().expect("a certificate");
        assert_eq!(first.fingerprint().digest.len(), 32);
        assert_ne!(first.fingerprint(), second.fingerprint());
    }

    #[test]
    fn a_certificate_is_announced_by_any_of_the_hashes_and_by_no_other() {
        for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
            let right = Fingerprint { algorithm, digest: hash(algorithm, b"certificate") };
            let wrong = Fingerprint { algorithm, digest: hash(algorithm, b"another") };
            let cut = Fingerprint { algorithm, digest: right.digest[..8].to_vec() };
            assert!(is_announced(b"certificate", &[wrong.clone(), right]));
            assert!(!is_announced(b"certificate", &[wrong, cut]));
            assert!(!is_announced(b"certificate", &[]));
        }
    }
}
