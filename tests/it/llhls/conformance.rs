//! What the load generator's rules say of streams of several frame rates.

use super::{index, publish, push, video};
use crate::harness::Server;
use loadtest::hls::check::{CheckReport, Evidence, GatherOptions, Verdict, gather};
use loadtest::source::Rhythm;
use loadtest::whip::{Like, PublishOptions, Simulcast};
use std::time::Duration;

/// Segments of a second, and playlists that are long enough for delta updates.
const OPTIONS: [(&str, &str); 2] = [("hls.segment_ms", "1000"), ("hls.window_s", "16")];
/// Until segments have left the playlist.
const WATCH: Duration = Duration::from_secs(24);

/// Watches, and fails when a rule is broken or it did not come to one that it should.
async fn keeps_to_the_rules(server: &Server, stream: &str) -> anyhow::Result<Evidence> {
    let evidence = gather(&GatherOptions { url: index(server, stream), watch: WATCH }).await?;
    let report = CheckReport::new(&evidence);
    let failed: Vec<_> = report.failed().collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for id in ["reload-waits", "hint-waits", "delta", "removed-segments", "decode-times"] {
        assert!(matches!(report.get(id), Some(Verdict::Pass(_))), "{id}: {:?}", report.get(id));
    }
    server.assert_sound();
    Ok(evidence)
}

async fn rtmp(frame_rate: u32, rhythm: Rhythm) -> anyhow::Result<()> {
    let server = Server::with(&OPTIONS).await?;
    let publisher = push(&server, "pushed", video(frame_rate, rhythm)).await?;
    let evidence = keeps_to_the_rules(&server, "pushed").await?;
    assert_eq!(evidence.renditions.len(), 2, "picture and sound");
    publisher.end().await;
    Ok(())
}

async fn whip(frame_rate: u32, rhythm: Rhythm) -> anyhow::Result<()> {
    let server = Server::with(&OPTIONS).await?;
    let publisher = publish(&server, "sent", Some(video(frame_rate, rhythm)), true).await?;
    let evidence = keeps_to_the_rules(&server, "sent").await?;
    assert!(evidence.renditions.iter().any(|rendition| rendition.is_video));
    publisher.end().await?;
    Ok(())
}

#[tokio::test]
async fn rtmp_at_25_frames_a_second_keeps_to_the_rules() -> anyhow::Result<()> {
    rtmp(25, Rhythm::Even).await
}

#[tokio::test]
async fn rtmp_at_29_97_frames_a_second_keeps_to_the_rules() -> anyhow::Result<()> {
    rtmp(30, Rhythm::Ntsc).await
}

#[tokio::test]
async fn rtmp_at_60_frames_a_second_keeps_to_the_rules() -> anyhow::Result<()> {
    rtmp(60, Rhythm::Even).await
}

#[tokio::test]
async fn whip_at_29_97_frames_a_second_keeps_to_the_rules() -> anyhow::Result<()> {
    whip(30, Rhythm::Ntsc).await
}

#[tokio::test]
async fn whip_at_60_frames_a_second_keeps_to_the_rules() -> anyhow::Result<()> {
    whip(60, Rhythm::Even).await
}

#[tokio::test]
async fn whip_with_uneven_frames_keeps_to_the_rules() -> anyhow::Result<()> {
    whip(25, Rhythm::Uneven).await
}

/// Three layers, each a playlist of its own.
async fn layers(like: Like) -> anyhow::Result<()> {
    let server = Server::with(&OPTIONS).await?;
    let simulcast = Some(Simulcast::three(like));
    let video = Some(video(30, Rhythm::Even));
    let options = PublishOptions { video, simulcast, ..PublishOptions::default() };
    let publisher = server.publish("three", options).await?;
    let evidence = keeps_to_the_rules(&server, "three").await?;
    let pictures = evidence.renditions.iter().filter(|rendition| rendition.is_video);
    assert_eq!(pictures.count(), 3);
    let text = evidence.multivariant.text();
    let text = String::from_utf8_lossy(&text);
    let sizes: Vec<&str> = text.split("RESOLUTION=").skip(1).collect();
    let begins = ["1280x720,", "640x360,", "320x180,"];
    assert_eq!(sizes.len(), 3, "{text}");
    assert!(sizes.iter().zip(begins).all(|(size, begin)| size.starts_with(begin)), "{text}");
    publisher.end().await?;
    Ok(())
}

#[tokio::test]
async fn three_layers_of_a_browser_keep_to_the_rules() -> anyhow::Result<()> {
    layers(Like::Chromium).await
}

#[tokio::test]
async fn three_layers_of_obs_keep_to_the_rules() -> anyhow::Result<()> {
    layers(Like::Obs).await
}
