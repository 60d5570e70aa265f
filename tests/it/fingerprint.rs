//! A certificate other than the offer's fingerprint gets no media: as publisher and as viewer, in
//! both DTLS roles.

use crate::harness::{PUBLISH_TOKEN, Server};
use anyhow::Context;
use loadtest::codec::Codec;
use loadtest::light::{DtlsRole, Event, Identity, LightOptions, LightPeer, Offer, Setup};
use loadtest::source::{VideoSettings, VideoSource};
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, refused_with};
use std::time::Duration;

/// An offer that announces a certificate the client does not have.
fn lying(offer: Offer, setup: Setup) -> anyhow::Result<Offer> {
    let fingerprint = Some(Identity::generate()?.fingerprint());
    Ok(Offer { fingerprint, ..offer.setup(setup) })
}

async fn a_lying_viewer_gets_nothing(setup: Setup, role: DtlsRole) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("lie", PublishOptions::default()).await?;
    // An honest viewer: the stream is live, and stays unharmed.
    let honest = server.view("lie", ViewOptions::default()).await?;
    let offer = lying(Offer::view(), setup)?;
    let options = LightOptions::default();
    let mut liar =
        LightPeer::start(&server.client(None), &server.whep("lie"), offer, options).await?;
    assert_eq!(liar.answer.role, role);
    server.said(&["certificate is not the one"]).await?;
    let before = honest.summary_of(Codec::H264).context("the honest viewer sees video")?.received;
    crate::harness::received(&honest, Codec::H264, before + 60).await?;
    assert_eq!(liar.sender().counters().media_datagrams, 0, "nothing may reach the liar");
    while let Some(arrival) = liar.try_next() {
        assert!(!matches!(arrival.event, Event::Rtp(_) | Event::Rtcp(_)));
    }
    Ok(())
}

#[tokio::test]
async fn a_lying_viewer_that_is_dtls_client_gets_nothing() -> anyhow::Result<()> {
    a_lying_viewer_gets_nothing(Setup::Active, DtlsRole::Client).await
}

#[tokio::test]
async fn a_lying_viewer_that_is_dtls_server_gets_nothing() -> anyhow::Result<()> {
    a_lying_viewer_gets_nothing(Setup::Passive, DtlsRole::Server).await
}

async fn a_lying_publisher_is_not_heard(setup: Setup, role: DtlsRole) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let offer = lying(Offer::publish(Codec::H264), setup)?;
    let publisher = server.client(Some(PUBLISH_TOKEN));
    let options = LightOptions::default();
    let mut liar = LightPeer::start(&publisher, &server.whip("lie"), offer, options).await?;
    assert_eq!(liar.answer.role, role);
    // From the liar's side the handshake may well seem complete; then it sends.
    let payload_type = liar.answer.payload_type(Codec::H264).context("H.264 was agreed")?;
    let mut source = VideoSource::new(VideoSettings::default(), payload_type, 0x0B1D_E001);
    let _ = liar.connected(Duration::from_secs(2)).await;
    for packet in (0..30).flat_map(|_| source.next_frame().packets) {
        let _ = liar.sender().rtp(&packet);
    }
    server.said(&["certificate is not the one"]).await?;
    let received = server.metric("millrace_packets_received_total").await?;
    assert!(received.abs() < 0.5, "media of an unproven publisher was counted: {received}");
    let url = server.whep("lie");
    let refused = WhepClient::view(&server.client(None), &url, ViewOptions::default()).await;
    assert_eq!(refused.err().as_ref().and_then(refused_with), Some(409));
    Ok(())
}

#[tokio::test]
async fn a_lying_publisher_that_is_dtls_client_is_not_heard() -> anyhow::Result<()> {
    a_lying_publisher_is_not_heard(Setup::Active, DtlsRole::Client).await
}

#[tokio::test]
async fn a_lying_publisher_that_is_dtls_server_is_not_heard() -> anyhow::Result<()> {
    a_lying_publisher_is_not_heard(Setup::Passive, DtlsRole::Server).await
}
