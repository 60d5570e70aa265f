//! Clients behind the load generator's bad network, which they enter by its HTTP front.

use crate::harness::{Server, received};
use loadtest::codec::Codec;
use loadtest::http::Signaling;
use loadtest::impair::{Front, LinkSettings, Relay, RelayOptions};
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::PublishOptions;
use std::net::SocketAddr;
use std::time::Duration;

/// A relay and its front before a server, which is asked where its media port is.
pub(crate) async fn before(
    server: &Server,
    stream: &str,
    down: LinkSettings,
) -> anyhow::Result<(Relay, Front)> {
    let direct = server.view(stream, ViewOptions::default()).await?;
    let media = direct.answer.candidates[0];
    direct.end().await?;
    let relay = Relay::start(RelayOptions {
        listen: "127.0.0.1:0".parse()?,
        server: media,
        up: LinkSettings::default(),
        down,
        steps: Vec::new(),
        seed: 7,
    })
    .await?;
    let http: SocketAddr = server.http_address().parse()?;
    let front = Front::start("127.0.0.1:0".parse()?, http, relay.address()).await?;
    Ok((relay, front))
}

#[tokio::test]
async fn a_viewer_behind_a_lossy_relay_changes_only_the_url_and_repairs_by_nack()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("impaired", PublishOptions::default()).await?;
    let down = LinkSettings {
        loss_percent: 5.0,
        delay: Duration::from_millis(5),
        ..LinkSettings::default()
    };
    let (relay, front) = before(&server, "impaired", down).await?;
    let url = format!("http://{}/whep/impaired", front.address());
    let signaling = Signaling::new(None)?;
    let viewer = WhepClient::view(&signaling, &url, ViewOptions::default()).await?;
    assert_eq!(viewer.answer.candidates, [relay.address()]);
    received(&viewer, Codec::H264, 400).await?;
    let lost = relay.counters().lost.load(std::sync::atomic::Ordering::Relaxed);
    assert!(lost > 0, "nothing was lost of what the viewer received");
    let recovered: u64 = viewer.summary().values().map(|stream| stream.recovered).sum();
    assert!(recovered > 0, "nothing was repaired: {:?}", viewer.summary());
    // The session's URL leads through the front as well.
    assert!(viewer.session_url().starts_with(&format!("http://{}/", front.address())));
    viewer.end().await?;
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn what_is_no_sdp_passes_the_front_as_it_is() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("impaired", PublishOptions::default()).await?;
    let (_relay, front) = before(&server, "impaired", LinkSettings::default()).await?;
    let signaling = Signaling::new(None)?;
    let fetch = async |base: String| -> anyhow::Result<(u16, bytes::Bytes)> {
        let request = signaling.request(reqwest::Method::GET, &format!("{base}/readyz"));
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.bytes().await?))
    };
    let through = fetch(format!("http://{}", front.address())).await?;
    assert_eq!(through, fetch(server.url("")).await?);
    let error = signaling
        .offer(&format!("http://{}/whep/nobody", front.address()), "no offer")
        .await
        .expect_err("there is no such stream");
    assert!(error.status().is_some_and(|status| (400..500).contains(&status)), "{error}");
    Ok(())
}
