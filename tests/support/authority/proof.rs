//! The authority's look at the server that asks for a certificate, by TLS-ALPN-01 (RFC 8737).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The extension that carries the proof (RFC 8737 §3), as DER.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// What is wrong with the proof that is shown for a name, if anything is.
pub(super) async fn proof(
    address: SocketAddr,
    domain: &str,
    expected: &[u8],
) -> Result<(), String> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = domain.to_owned().try_into().map_err(|_| "no name".to_owned())?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("the protocol is not acme-tls/1".to_owned());
    }
    let der = session.peer_certificates().and_then(|chain| chain.first());
    let der = der.ok_or("no certificate is shown")?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let names = certificate.subject_alternative_name().ok().flatten().ok_or("it has no name")?;
    if names.value.general_names != [GeneralName::DNSName(domain)] {
        return Err("the certificate is not for this name alone".to_owned());
    }
    let mut extensions = certificate.extensions().iter();
    let carrier = extensions.find(|it| it.oid.to_id_string() == ACME_IDENTIFIER);
    let carrier = carrier.ok_or("the certificate carries no proof")?;
    // An OCTET STRING of 32 bytes within the extension's own.
    let carries = carrier.value.strip_prefix(&[0x04, 0x20]) == Some(expected);
    if carrier.critical && carries { Ok(()) } else { Err("the proof is wrong".to_owned()) }
}

/// Takes whoever is there: the proof is a certificate that nobody has signed.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
