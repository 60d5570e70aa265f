//! What is refused, and how: every refusal has a status, a problem body, and a time to come back.

use crate::harness::{Server, received};
use anyhow::Context;
use loadtest::codec::{Codec, Kind};
use loadtest::http::{Signaling, SignalingError};
use loadtest::light::{Direction, Identity, Offer, Section, publish_audio};
use loadtest::whep::ViewOptions;
use loadtest::whip::PublishOptions;
use reqwest::Method;

/// A refusal: status, whether it says when to come back, and the body.
async fn refusal(
    client: &Signaling,
    url: &str,
    offer: &str,
) -> anyhow::Result<(u16, bool, String)> {
    match client.offer(url, offer).await {
        Err(SignalingError::Refused { status, retry_after, body }) => {
            Ok((status, retry_after.is_some(), body))
        }
        Err(error) => Err(error.into()),
        Ok(session) => anyhow::bail!("it was accepted: {}", session.url),
    }
}

/// An offer that is good in every respect.
fn good(offer: Offer) -> anyhow::Result<String> {
    let fingerprint = Some(Identity::generate()?.fingerprint());
    Ok(Offer { fingerprint, ..offer }.to_string())
}

#[tokio::test]
async fn a_full_server_says_so_and_when_to_come_back() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.sessions_max", "2")]).await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    let offer = good(Offer::view())?;
    let (status, retry, body) = refusal(&server.client(None), &server.whep("a"), &offer).await?;
    assert_eq!((status, retry), (503, true), "{body}");
    // Whoever leaves makes room.
    viewer.end().await?;
    let viewer =
        crate::harness::until("room", async || server.view("a", ViewOptions::default()).await.ok())
            .await?;
    received(&viewer, Codec::H264, 10).await?;
    publisher.end().await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_has_a_limit_of_viewers() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.viewers_per_stream_max", "1")]).await?;
    let _a = server.publish("a", PublishOptions::default()).await?;
    let _b = server.publish("b", PublishOptions::default()).await?;
    let _viewer = server.view("a", ViewOptions::default()).await?;
    let offer = good(Offer::view())?;
    let (status, retry, body) = refusal(&server.client(None), &server.whep("a"), &offer).await?;
    assert_eq!((status, retry), (503, true), "{body}");
    let _elsewhere = server.view("b", ViewOptions::default()).await?;
    Ok(())
}

#[tokio::test]
async fn there_is_a_limit_of_streams() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.streams_max", "1")]).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let _viewer = server.view("a", ViewOptions::default()).await?;
    let offer = good(Offer::publish(Codec::H264))?;
    let (status, retry, body) = refusal(&server.publisher(), &server.whip("b"), &offer).await?;
    assert_eq!((status, retry), (503, true), "{body}");
    Ok(())
}

#[tokio::test]
async fn sessions_that_never_connect_are_limited_and_forgotten() -> anyhow::Result<()> {
    let options = [("limits.pending_sessions_max", "2"), ("limits.handshake_timeout_s", "1")];
    let server = Server::with(&options).await?;
    let client = server.publisher();
    for stream in ["a", "b"] {
        client.offer(&server.whip(stream), &good(Offer::publish(Codec::H264))?).await?;
    }
    let offer = good(Offer::publish(Codec::H264))?;
    let (status, retry, body) = refusal(&client, &server.whip("c"), &offer).await?;
    assert_eq!((status, retry), (503, true), "{body}");
    let room = async || client.offer(&server.whip("c"), &offer).await.ok();
    crate::harness::until("those that did not connect are forgotten", room).await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_not_live_is_a_conflict_with_a_time_to_come_back() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let offer = good(Offer::view())?;
    let (status, retry, body) = refusal(&server.client(None), &server.whep("no"), &offer).await?;
    assert_eq!((status, retry), (409, true), "{body}");
    assert!(body.contains("\"type\""), "a problem body: {body}");
    Ok(())
}

#[tokio::test]
async fn an_offer_without_a_common_codec_is_told_both_sides_codecs() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut video = Section::new(Kind::Video).codec(Codec::H264, 96).ssrc(7);
    video.payloads[0].rtpmap = "H263/90000".to_owned();
    let offer = good(Offer::new(Direction::SendOnly).section(video))?;
    let (status, _, body) = refusal(&server.publisher(), &server.whip("a"), &offer).await?;
    assert_eq!(status, 406, "{body}");
    assert!(body.contains("H263") && body.contains("H264"), "{body}");
    Ok(())
}

#[tokio::test]
async fn offers_that_cannot_be_served_are_told_why() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (client, url) = (server.publisher(), server.whip("a"));
    let whole = good(Offer::publish(Codec::H264))?;
    let without = |line: &str| {
        whole
            .lines()
            .filter(|it| !it.starts_with(line))
            .fold(String::new(), |all, it| all + it + "\r\n")
    };
    let cases = [
        (without("a=fingerprint"), 422),
        (without("a=ice-pwd"), 422),
        (without("m="), 422),
        ("this is no SDP at all".to_owned(), 400),
        ("{\"sdp\": \"v=0\"}".to_owned(), 400),
    ];
    for (offer, expected) in cases {
        let (status, _, body) = refusal(&client, &url, &offer).await?;
        assert!(status == expected || status == 400, "{status} {body} for\n{offer}");
        assert!(body.contains("\"title\"") && body.contains("\"detail\""), "{body}");
    }
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_too_long_or_of_another_kind_are_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (client, url) = (server.publisher(), server.whip("a"));
    let post = |kind: &str, body: String| {
        client.request(Method::POST, &url).header("content-type", kind).body(body).send()
    };
    let long = post("application/sdp", "x".repeat(200_000)).await?;
    assert_eq!(long.status(), 413, "it is heard although the body was on its way");
    let offer = good(Offer::publish(Codec::H264))?;
    assert_eq!(post("text/plain", offer.clone()).await?.status().as_u16(), 415);
    assert_eq!(post("application/sdp", String::new()).await?.status().as_u16(), 400);
    assert_eq!(client.request(Method::PUT, &url).send().await?.status().as_u16(), 405);
    let accepted = post("application/sdp", offer).await?;
    assert_eq!(accepted.status().as_u16(), 201);
    let length = accepted.headers().get("content-length").context("Content-Length")?;
    assert!(length.to_str()?.parse::<usize>()? > 100);
    Ok(())
}

#[tokio::test]
async fn names_that_are_none_are_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let offer = good(Offer::new(Direction::SendOnly).section(publish_audio()))?;
    let long = "x".repeat(600);
    for name in ["%00", "a%2F..%2Fb", "%FF", "a%20b%0A", long.as_str()] {
        let (status, _, body) = refusal(&server.publisher(), &server.whip(name), &offer).await?;
        assert!((400..500).contains(&status), "{name}: {status} {body}");
    }
    server.assert_sound();
    Ok(())
}
