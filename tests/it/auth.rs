//! Who may publish, watch and administer.

use crate::harness::{ADMIN_TOKEN, PUBLISH_TOKEN, SOON, Server, received};
use loadtest::codec::Codec;
use loadtest::http::{Signaling, SignalingError};
use loadtest::light::{Identity, Offer};
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, WhipClient, refused_with};

/// The status with which an offer to publish is refused.
async fn publish_status(client: &Signaling, url: &str) -> Option<u16> {
    let refused = WhipClient::publish(client, url, PublishOptions::default()).await;
    refused.err().as_ref().and_then(refused_with)
}

/// The status with which an offer to watch is refused.
async fn view_status(client: &Signaling, url: &str) -> Option<u16> {
    let refused = WhepClient::view(client, url, ViewOptions::default()).await;
    refused.err().as_ref().and_then(refused_with)
}

#[tokio::test]
async fn publishing_takes_the_publish_token() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let url = server.whip("a");
    assert_eq!(publish_status(&server.client(None), &url).await, Some(401));
    for wrong in ["wrong", "", ADMIN_TOKEN, &PUBLISH_TOKEN[1..]] {
        let status = publish_status(&server.client(Some(wrong)), &url).await;
        assert!(matches!(status, Some(401 | 403)), "{wrong}: {status:?}");
    }
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_of_a_pattern_publishes_those_streams_only() -> anyhow::Result<()> {
    let server = Server::with(&[("auth.publish_tokens", "lot-*=token-of-the-auction")]).await?;
    let auctioneer = server.client(Some("token-of-the-auction"));
    let other = publish_status(&auctioneer, &server.whip("stage")).await;
    assert!(matches!(other, Some(401 | 403)), "{other:?}");
    let lot = server.whip("lot-42");
    let _publisher = WhipClient::publish(&auctioneer, &lot, PublishOptions::default()).await?;
    let viewer = server.view("lot-42", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 10).await
}

#[tokio::test]
async fn with_view_tokens_nobody_watches_without_one_that_fits() -> anyhow::Result<()> {
    let options = [("auth.view_tokens", "members-*=token-of-the-members")];
    let server = Server::with(&options).await?;
    let _publisher = server.publish("members-1", PublishOptions::default()).await?;
    let url = server.whep("members-1");
    assert_eq!(view_status(&server.client(None), &url).await, Some(401));
    let wrong = view_status(&server.client(Some("wrong")), &url).await;
    assert!(matches!(wrong, Some(401 | 403)), "{wrong:?}");
    let member = server.client(Some("token-of-the-members"));
    let look = async || {
        let view = WhepClient::view(&member, &url, ViewOptions::default()).await;
        match view {
            Err(error) if refused_with(&error) == Some(409) => None,
            done => Some(done),
        }
    };
    let viewer = crate::harness::until("a member watches", look).await??;
    received(&viewer, Codec::H264, 10).await
}

#[tokio::test]
async fn a_stream_held_by_one_token_is_refused_to_another() -> anyhow::Result<()> {
    let server = Server::with(&[("auth.publish_tokens", "lot-*=token-of-the-auction")]).await?;
    let _publisher = server.publish("lot-1", PublishOptions::default()).await?;
    let other = server.client(Some("token-of-the-auction"));
    let offer = Offer {
        fingerprint: Some(Identity::generate()?.fingerprint()),
        ..Offer::publish(Codec::H264)
    };
    let refused = other.offer(&server.whip("lot-1"), &offer.to_string()).await;
    let Err(SignalingError::Refused { status, retry_after, .. }) = refused else {
        anyhow::bail!("it was not refused")
    };
    assert_eq!(status, 409);
    assert!(retry_after.is_some());
    Ok(())
}

#[tokio::test]
async fn the_same_token_takes_its_stream_over() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let first = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 30).await?;
    // A publisher whose network broke comes back before the server has noticed.
    let second = server.publish("a", PublishOptions::default()).await?;
    let over = |log: &loadtest::whip::PublishLog| log.closed.clone();
    first.log().wait(SOON, "the first is told that it is over", over).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 30).await?;
    assert!(second.log().read(|log| log.closed.is_none()));
    Ok(())
}

#[tokio::test]
async fn api_and_metrics_take_the_admin_token() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for path in ["/api/v1/streams", "/metrics"] {
        for (token, good) in
            [(None, false), (Some(PUBLISH_TOKEN), false), (Some(ADMIN_TOKEN), true)]
        {
            let request = server.client(token).request(reqwest::Method::GET, &server.url(path));
            let status = request.send().await?.status();
            assert_eq!(status.is_success(), good, "{path} with {token:?}: {status}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        let request = server.client(None).request(reqwest::Method::GET, &server.url(path));
        assert!(request.send().await?.status().is_success(), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn tokens_are_not_written_to_the_log() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 10).await?;
    let wrong = server.client(Some("a-wrong-token-that-somebody-mistyped"));
    assert!(publish_status(&wrong, &server.whip("a")).await.is_some());
    server.output().read(|text| {
        let logged = |token: &str| {
            text.lines().any(|line| line.contains(token) && !line.contains("http://"))
        };
        assert!(!logged("a-wrong-token"), "{text}");
        // Given by the operator, the tokens are nobody's business: nothing prints them.
        assert!(!logged(ADMIN_TOKEN), "{text}");
    });
    Ok(())
}
