//! Too much asked for: who is there loses nothing, newcomers are told when to come again; and
//! viewers that are stuck cost nobody else anything.

use crate::harness::{SOON, Server, received, until};
use anyhow::Context;
use loadtest::codec::Codec;
use loadtest::http::SignalingError;
use loadtest::light::{Identity, LightOptions, LightPeer, Offer};
use loadtest::source::VideoSettings;
use loadtest::whep::{ViewLog, ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, refused_with};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// A refusal of a viewer, if it is one: seconds to wait, and the problem body.
async fn refused(server: &Server) -> anyhow::Result<Option<(u64, String)>> {
    let fingerprint = Some(Identity::generate()?.fingerprint());
    let offer = Offer { fingerprint, ..Offer::view() }.to_string();
    let client = server.client(None);
    match client.offer(&server.whep("live"), &offer).await {
        Ok(session) => {
            client.delete(&session.url).await?;
            Ok(None)
        }
        Err(SignalingError::Refused { status: 503, retry_after, body }) => {
            Ok(Some((retry_after.context("Retry-After")?, body)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether `/readyz` says yes, and what it says.
async fn readiness(server: &Server) -> anyhow::Result<(bool, String)> {
    let answer = server.client(None).request(Method::GET, &server.url("/readyz")).send().await?;
    Ok((answer.status().is_success(), answer.text().await?))
}

/// Waits until a viewer has received so many more packets of video, and nothing is missing.
async fn whole(viewer: &WhepClient, more: u64) -> anyhow::Result<()> {
    let payload_type = viewer.answer.payload_type(Codec::H264).context("H.264")?;
    let video = |log: &ViewLog| {
        let summary = log.probe.summary();
        summary.into_values().find(|stream| stream.payload_type == payload_type)
    };
    let enough = viewer.log().read(video).map_or(0, |video| video.received) + more;
    let nothing_is_missing = |log: &ViewLog| {
        let video = video(log).filter(|video| video.received >= enough)?;
        (video.lost == 0).then_some(())
    };
    viewer.log().wait(SOON * 2, "all packets", nothing_is_missing).await
}

/// Lets viewers in until no more are taken for as long as a gate that opens again would need.
async fn fill(server: &Server) -> anyhow::Result<Vec<WhepClient>> {
    /// Handshakes are load for a second, and what closed opens again after another.
    const CLOSED_FOR: Duration = Duration::from_secs(4);
    let mut viewers = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut last = ticks.tick().await;
    loop {
        let now = ticks.tick().await;
        match server.view("live", ViewOptions::default()).await {
            Ok(viewer) => {
                viewers.push(viewer);
                last = now;
            }
            Err(error) if refused_with(&error) != Some(503) => return Err(error),
            Err(_) if now - last >= CLOSED_FOR => return Ok(viewers),
            Err(_) => {}
        }
        anyhow::ensure!(viewers.len() < 100, "a hundred viewers are no load");
    }
}

#[tokio::test]
async fn newcomers_to_a_busy_server_are_refused_and_those_who_are_there_lose_nothing()
-> anyhow::Result<()> {
    // A debug build needs some percent of a core for a few viewers of such a stream.
    let server = Server::with(&[("limits.load_max_percent", "6")]).await?;
    let video = VideoSettings { bitrate_bps: 4_000_000, ..VideoSettings::default() };
    let heavy = PublishOptions { video: Some(video), ..PublishOptions::default() };
    let _publisher = server.publish("live", heavy).await?;
    let viewers = tokio::time::timeout(SOON * 6, fill(&server)).await??;

    let (seconds, body) = refused(&server).await?.context("it is refused")?;
    assert!((3..=9).contains(&seconds), "{seconds}");
    assert!(body.contains("limits.load_max_percent is 6"), "{body}");
    let (ready, reason) = readiness(&server).await?;
    assert!(!ready && reason.contains("new viewers are refused"), "{reason}");
    server.said(&["warn", "new viewers are refused", "limits.load_max_percent"]).await?;
    assert!(server.metric("millrace_admission_open").await?.abs() < 0.5);
    assert!(server.metric("millrace_shard_load_ratio").await? > 0.05);
    let another = server.publish("another", PublishOptions::default()).await?;
    another.end().await?;
    for viewer in &viewers {
        whole(viewer, 100).await?;
    }
    let stream = server.stream("live").await?.context("the stream is live")?;
    let lost = |track: &Value| track["lost_packets"].as_u64();
    let tracks = stream["tracks"].as_array().context("tracks")?;
    assert!(tracks.iter().all(|track| lost(track) == Some(0)), "{stream}");

    for viewer in viewers {
        viewer.end().await?;
    }
    let open = async || readiness(&server).await.ok().filter(|(ready, _)| *ready);
    until("those who left make room", open).await?;
    server.said(&["new viewers are taken again"]).await?;
    let viewer = server.view("live", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 10).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_process_with_too_much_memory_takes_publishers_and_no_more_viewers() -> anyhow::Result<()>
{
    let server = Server::with(&[("limits.memory_max_bytes", "1048576")]).await?;
    let _publisher = server.publish("live", PublishOptions::default()).await?;
    // What a process holds without viewers is no reason to stay without.
    let viewer = server.view("live", ViewOptions::default()).await?;
    whole(&viewer, 100).await?;
    let refused = until("it is refused", async || refused(&server).await.transpose()).await?;
    let (_, body) = refused?;
    assert!(body.contains("limits.memory_max_bytes allows 1 MiB"), "{body}");
    let (ready, reason) = readiness(&server).await?;
    assert!(!ready && reason.contains("limits.memory_max_bytes"), "{reason}");
    let bytes = server.metric("millrace_memory_bytes").await?;
    assert!(bytes > server.metric("millrace_memory_max_bytes").await?);
    Ok(())
}

#[tokio::test]
async fn viewers_that_are_stuck_cost_the_others_nothing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("live", PublishOptions::default()).await?;
    let early = server.view("live", ViewOptions::default()).await?;
    let connect = async || -> anyhow::Result<LightPeer> {
        let (client, url) = (server.client(None), server.whep("live"));
        let options = LightOptions::default();
        let mut peer = LightPeer::start(&client, &url, Offer::view(), options).await?;
        peer.connected(SOON).await?;
        Ok(peer)
    };
    // The sender keeps the socket, which nobody reads any more: its buffer fills up.
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(connect().await?.sender());
    }
    // Of these not even the port is there: the system answers with ICMP.
    for _ in 0..3 {
        drop(connect().await?);
    }
    let late = server.view("live", ViewOptions::default()).await?;
    for viewer in [&early, &late] {
        whole(viewer, 600).await?;
    }
    let stream = server.stream("live").await?.context("the stream is live")?;
    assert_eq!(stream["viewers"].as_array().map(Vec::len), Some(8), "none has timed out yet");
    drop(unread);
    server.assert_sound();
    Ok(())
}
