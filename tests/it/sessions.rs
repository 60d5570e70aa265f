//! How sessions end, and what becomes of their resources; trickle and ICE restart.

use crate::harness::{SOON, Server, received, until};
use loadtest::codec::Codec;
use loadtest::light::{LightOptions, LightPeer, Offer};
use loadtest::whep::{ViewLog, ViewOptions};
use loadtest::whip::PublishOptions;
use rtc_rtcp::goodbye::Goodbye;
use std::time::Duration;

/// How many viewers the API shows.
async fn viewers(server: &Server, stream: &str) -> Option<usize> {
    let report = server.stream(stream).await.ok()??;
    Some(report["viewers"].as_array()?.len())
}

/// A viewer was told: by DTLS, or by RTCP BYE.
fn told(log: &ViewLog) -> Option<()> {
    (log.closed.is_some() || log.rtcp_of::<Goodbye>().next().is_some()).then_some(())
}

#[tokio::test]
async fn a_viewer_that_deletes_its_session_is_gone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 20).await?;
    until("one viewer", async || (viewers(&server, "a").await == Some(1)).then_some(())).await?;
    let url = viewer.session_url().to_owned();
    viewer.end().await?;
    until("no viewer", async || (viewers(&server, "a").await == Some(0)).then_some(())).await?;
    let again = server.client(None).delete(&url).await;
    assert_eq!(again.err().and_then(|error| error.status()), Some(404));
    Ok(())
}

#[tokio::test]
async fn when_the_publisher_leaves_for_good_its_viewers_are_told_and_the_stream_is_gone()
-> anyhow::Result<()> {
    let server = Server::with(&[("whip.grace_time_s", "1")]).await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 20).await?;
    publisher.end().await?;
    let gone = async || server.stream("a").await.ok()?.is_none().then_some(());
    until("the stream is gone", gone).await?;
    viewer.log().wait(SOON, "the viewer is told", told).await
}

#[tokio::test]
async fn a_viewer_that_goes_silent_is_ended_for_lost_consent() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.consent_timeout_s", "5")]).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let honest = server.view("a", ViewOptions::default()).await?;
    let silent = ViewOptions { reports: false, nack: false, ..ViewOptions::default() };
    let viewer = server.view("a", silent).await?;
    viewer.sender().with_agent(loadtest::light::Agent::stop_checks);
    server.said(&["viewer", "not been heard of"]).await?;
    until("one viewer is left", async || (viewers(&server, "a").await == Some(1)).then_some(()))
        .await?;
    let before = honest.summary_of(Codec::H264).map_or(0, |stream| stream.received);
    received(&honest, Codec::H264, before + 30).await
}

#[tokio::test]
async fn a_publisher_that_says_goodbye_by_dtls_ends_its_stream() -> anyhow::Result<()> {
    let server = Server::with(&[("whip.grace_time_s", "0")]).await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 20).await?;
    publisher.sender().with_agent(|agent| agent.close(std::time::Instant::now()));
    let gone = async || server.stream("a").await.ok()?.is_none().then_some(());
    until("the stream is gone", gone).await
}

#[tokio::test]
async fn a_client_that_never_completes_dtls_is_ended_in_time() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.handshake_timeout_s", "2")]).await?;
    let offer = Offer::publish(Codec::H264).setup(loadtest::light::Setup::Passive);
    // Every DTLS datagram of the server's is lost, so that only ICE works.
    let address = server_address(&server).await?;
    let relay = crate::relay::Relay::start(address, |_, datagram| {
        matches!(datagram.first(), Some(20..=63))
    })
    .await?;
    let options = LightOptions { via: Some(relay.address), ..LightOptions::default() };
    let mut peer =
        LightPeer::start(&server.publisher(), &server.whip("half"), offer, options).await?;
    assert!(peer.connected(Duration::from_secs(1)).await.is_err());
    let url = peer.session.url.clone();
    let gone = async || {
        let session = loadtest::http::Session {
            url: url.clone(),
            etag: None,
            layer_url: None,
            answer: String::new(),
        };
        let fragment = "a=ice-ufrag:none\r\na=ice-pwd:nonenonenonenonenonenone\r\n";
        let answer = server.publisher().request(reqwest::Method::PATCH, &session.url);
        let answer = answer
            .header("content-type", "application/trickle-ice-sdpfrag")
            .header("if-match", "\"none\"")
            .body(fragment)
            .send()
            .await
            .ok()?;
        (answer.status().as_u16() == 404).then_some(())
    };
    until("the session is forgotten", gone).await
}

async fn server_address(server: &Server) -> anyhow::Result<std::net::SocketAddr> {
    let identity = loadtest::light::Identity::generate()?;
    let offer = Offer { fingerprint: Some(identity.fingerprint()), ..Offer::publish(Codec::Vp8) };
    let client = server.publisher();
    let session = client.offer(&server.whip("address"), &offer.to_string()).await?;
    client.delete(&session.url).await?;
    let answer = loadtest::light::Answer::parse(&session.answer)?;
    answer.candidates.first().copied().ok_or_else(|| anyhow::anyhow!("no candidate"))
}

#[tokio::test]
async fn trickled_candidates_are_taken_for_the_right_ice_session_only() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.publisher();
    let offer = Offer::publish(Codec::H264);
    let (ufrag, password) = (offer.ufrag.clone(), offer.password.clone());
    let options = LightOptions::default();
    let mut peer = LightPeer::start(&client, &server.whip("a"), offer, options).await?;
    peer.connected(SOON).await?;
    let fragment = format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\na=end-of-candidates\r\n"
    );
    let answer = client.patch(&peer.session, &fragment).await?;
    assert_eq!(answer.status().as_u16(), 204, "{}", answer.text().await?);
    let mut other = peer.session.clone();
    other.etag = Some("\"another\"".to_owned());
    assert_eq!(client.patch(&other, &fragment).await?.status().as_u16(), 412);
    Ok(())
}

#[tokio::test]
async fn sessions_come_and_go_without_leaving_anything_behind() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let round = async || -> anyhow::Result<()> {
        for _ in 0..10 {
            let viewer = server.view("a", ViewOptions::default()).await?;
            received(&viewer, Codec::H264, 1).await?;
            viewer.end().await?;
        }
        let none = async || (viewers(&server, "a").await == Some(0)).then_some(());
        until("no viewer", none).await
    };
    round().await?;
    round().await?;
    let before = server.resident_bytes()?;
    round().await?;
    round().await?;
    let grown = server.resident_bytes()?.saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more after twenty viewers");
    Ok(())
}
