//! `network.domain`: the real server gets its certificate from an authority, and serves it.

use crate::authority::Ca;
use crate::harness::{Server, until};
use anyhow::Context as _;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The name that is to be certified.
const DOMAIN: &str = "live.example.org";

#[tokio::test]
async fn a_server_with_a_name_has_a_certificate_that_browsers_trust() -> anyhow::Result<()> {
    let ca = Ca::start().await;
    let root_file = format!("{}/acme-root-{}.pem", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::write(&root_file, ca.root_pem())?;
    let server = Server::with(&[
        ("network.https_listen", "127.0.0.1:0"),
        ("network.domain", DOMAIN),
        ("network.acme_directory_url", &ca.directory_url()),
        ("network.acme_root_file", &root_file),
    ])
    .await?;
    let listening = server.said(&["listening", "https=Some("]).await?;
    let https: SocketAddr = listening
        .split_once("https=Some(")
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(address, _)| address)
        .context("an address")?
        .parse()?;
    assert!(ca.browser(DOMAIN, https).await.is_err(), "its own certificate is nobody's");
    ca.name_leads_to(https);
    let browser = async || ca.browser(DOMAIN, https).await.ok();
    let mut browser = until("a certificate of the authority", browser).await?;
    browser.write_all(b"GET /healthz HTTP/1.0\r\nHost: live.example.org\r\n\r\n").await?;
    let mut answer = String::new();
    browser.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{answer}");
    assert_eq!(ca.orders(), 1);
    std::fs::remove_file(root_file)?;
    Ok(())
}
