//! Where the certificate for HTTPS comes from: the operator's files, an authority, or ourselves.

use crate::config::Config;
use signaling::config::{Acme, CertificateSource};
use std::net::SocketAddr;

/// The source that the configuration asks for; one of our own is for the announced addresses.
pub(super) fn source(config: &Config, announced: &[SocketAddr]) -> CertificateSource {
    let network = &config.network;
    let directory = config.server.state_directory.clone();
    let names = announced.iter().map(|address| address.ip().to_string()).collect();
    match (&network.tls, &network.domain) {
        (Some(tls), _) => CertificateSource::Files {
            certificate: tls.certificate_file.clone(),
            key: tls.key_file.clone(),
        },
        (None, Some(domain)) => CertificateSource::Acme(Acme {
            domain: domain.clone(),
            email: network.acme.email.clone(),
            directory_url: network.acme.directory_url.clone(),
            root_file: network.acme.root_file.clone(),
            directory,
            names,
            retry: Acme::RETRY,
        }),
        (None, None) => CertificateSource::SelfSigned { directory, names },
    }
}
