//! Certificates that change while they are served with.

use super::sockets::{PATIENCE, Running, root, tls, tls_config};
use super::*;
use signaling::serve::Listeners;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn a_changed_certificate_is_taken_without_a_restart() {
    let (made, directory) = tls_config("reload");
    let pair = |name: &str| {
        let folder = directory.join(name);
        let certificate = CertificateSource::SelfSigned { directory: folder, names: vec![] };
        signaling::tls::Certificates::load(certificate).expect("it is made");
        ["crt", "key"].map(|kind| directory.join(name).join(format!("self-signed.{kind}")))
    };
    let (one, two) = (pair("one"), pair("two"));
    let config = Config {
        certificate: CertificateSource::Files { certificate: one[0].clone(), key: one[1].clone() },
        limits: Limits {
            certificate_interval: Duration::from_millis(5),
            handshake_timeout: Duration::from_secs(2),
            ..Limits::default()
        },
        ..made
    };
    let running = Running::start(&config).await;
    let address = running.addresses.https.expect("HTTPS is served");
    let (old, new) = (root(&one[0]), root(&two[0]));
    tls(address, old.clone(), b"http/1.1").await.expect("the first is served");
    assert!(tls(address, new.clone(), b"http/1.1").await.is_err(), "the second is not yet");
    std::fs::rename(&two[1], &one[1]).expect("the key is replaced");
    std::fs::rename(&two[0], &one[0]).expect("the certificate is replaced");
    let taken = async { while tls(address, new.clone(), b"http/1.1").await.is_err() {} };
    timeout(PATIENCE, taken).await.expect("the second is taken");
    assert!(tls(address, old, b"http/1.1").await.is_err(), "the first is served no more");
    running.stop().await;
}

#[tokio::test]
async fn a_certificate_that_others_serve_with_is_looked_after_without_https() {
    let (made, directory) = tls_config("shared");
    let files = |name: &str| ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
    let (source, in_use) = (files("self-signed"), files("in-use"));
    let make = || {
        let _ = std::fs::remove_file(&source[0]);
        signaling::tls::Certificates::load(made.certificate.clone()).expect("it is made");
        for (from, to) in source.iter().zip(&in_use).rev() {
            std::fs::copy(from, to).expect("it is taken into use");
        }
        root(&in_use[0])
    };
    let first = make();
    let [certificate, key] = in_use.clone();
    let config = Config {
        https: None,
        certificate: CertificateSource::Files { certificate, key },
        certificate_is_shared: true,
        limits: Limits { certificate_interval: Duration::from_millis(5), ..Limits::default() },
        ..made.clone()
    };
    let listeners = Listeners::bind(&config).await.expect("port 0 is free");
    let shared = Arc::clone(listeners.certificates().expect("it is wanted"));
    let acceptor = TlsAcceptor::from(Arc::new(shared.plain_server_config().expect("it serves")));
    let served = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = served.local_addr().expect("it is bound");
    let others = tokio::spawn(async move {
        while let Ok((stream, _)) = served.accept().await {
            // A client that trusts another certificate hangs up.
            let _ = acceptor.accept(stream).await;
        }
    });
    let running = Running::on(listeners, &config);
    tls(address, first, b"rtmp").await.expect("the first is served");
    let second = make();
    let taken = async { while tls(address, second.clone(), b"rtmp").await.is_err() {} };
    timeout(PATIENCE, taken).await.expect("the second is taken");
    others.abort();
    running.stop().await;
}
