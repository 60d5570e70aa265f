//! SIGTERM: new sessions are refused, viewers are told, the process ends in time.

use crate::harness::{SOON, Server, received};
use loadtest::codec::Codec;
use loadtest::light::{Identity, Offer};
use loadtest::whep::{ViewLog, ViewOptions};
use loadtest::whip::{PublishLog, PublishOptions};
use rtc_rtcp::goodbye::Goodbye;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_stopping_server_tells_everybody_and_exits_in_time() -> anyhow::Result<()> {
    let mut server = Server::with(&[("server.shutdown_timeout_s", "3")]).await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 20).await?;
    let start = Instant::now();
    server.terminate()?;
    let told = |log: &ViewLog| {
        (log.closed.is_some() || log.rtcp_of::<Goodbye>().next().is_some()).then_some(())
    };
    viewer.log().wait(SOON, "the viewer is told", told).await?;
    let closed = |log: &PublishLog| log.closed.is_some().then_some(());
    publisher.log().wait(SOON, "the publisher is told", closed).await?;
    let status = server.exited(SOON).await?;
    assert!(status.success(), "{status}");
    // Three seconds as configured, and one for a machine under load.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_stopping_server_takes_no_new_sessions() -> anyhow::Result<()> {
    let mut server = Server::with(&[("server.shutdown_timeout_s", "3")]).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let identity = Identity::generate()?;
    let offer = Offer { fingerprint: Some(identity.fingerprint()), ..Offer::publish(Codec::H264) };
    let (client, url, offer) = (server.publisher(), server.whip("b"), offer.to_string());
    server.terminate()?;
    // Accepted at most until the signal was seen; then refused, and never accepted again.
    let mut refused = false;
    while server.is_running() {
        match client.offer(&url, &offer).await {
            Err(error) => {
                assert!(matches!(error.status(), Some(503) | None), "{error}");
                refused = true;
            }
            Ok(session) => assert!(!refused, "accepted while stopping: {}", session.url),
        }
        tokio::task::yield_now().await;
    }
    assert!(refused, "nothing was refused");
    let said = server.exited(SOON).await?;
    assert!(said.success(), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_idle_server_exits_at_once() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let start = Instant::now();
    server.terminate()?;
    assert!(server.exited(SOON).await?.success());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    Ok(())
}
