//! What encoders publish is watched by WHEP, with sound.

use super::encoder::Encoder;
use super::publishers::{ffmpeg, url};
use super::rtmp_address;
use crate::harness::{PUBLISH_TOKEN, Server, received};
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::whep::ViewOptions;
use std::path::Path;

/// Servers of the tests have no worker unless they are to have one.
const TRANSCODES: (&str, &str) = ("transcode.worker", "auto");

#[tokio::test]
async fn what_ffmpeg_publishes_is_seen_and_heard() -> anyhow::Result<()> {
    let server = Server::with(&[TRANSCODES]).await?;
    let key = format!("lot?token={PUBLISH_TOKEN}");
    let _encoder = ffmpeg(&url(rtmp_address(&server).await?, &key))?;
    let viewer = server.view("lot", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 50).await?;
    received(&viewer, Codec::Opus, 50).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn viewers_stay_while_their_encoder_is_away() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let url = url(rtmp_address(&server).await?, &format!("lot?token={PUBLISH_TOKEN}"));
    let encoder = ffmpeg(&url)?;
    let viewer = server.view("lot", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 30).await?;
    // It is killed, and says no goodbye.
    drop(encoder);
    server.said(&["session ended", "lot", "publisher"]).await?;
    let before = viewer.summary_of(Codec::H264).context("a picture")?.received;
    let _encoder = ffmpeg(&url)?;
    received(&viewer, Codec::H264, before + 30).await?;
    let summary = viewer.summary_of(Codec::H264).context("a picture")?;
    assert_eq!(summary.lost, 0, "one numbering without a gap: {summary:?}");
    server.assert_sound();
    Ok(())
}

/// Publishes what a real encoder once sent, half of it before somebody comes to watch.
async fn replayed(recording: &str, video: Codec) -> anyhow::Result<()> {
    let server = Server::with(&[TRANSCODES, ("auth.publish_tokens", "lot=pub")]).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rtmp");
    let bytes = std::fs::read(folder.join(recording))?;
    let goodbye = b"FCUnpublish";
    let end = bytes.windows(goodbye.len()).position(|part| part == goodbye);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).context("bytes")?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut encoder = Encoder::connect(rtmp_address(&server).await?).await?;
    encoder.say(first).await?;
    let viewer = server.view("lot", ViewOptions::default()).await?;
    received(&viewer, video, 1).await?;
    encoder.say(second).await?;
    received(&viewer, video, 5).await?;
    received(&viewer, Codec::Opus, 5).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn h265_and_opus_of_enhanced_rtmp_are_passed_on() -> anyhow::Result<()> {
    replayed("ffmpeg9-hevc-opus", Codec::H265).await
}

#[tokio::test]
async fn av1_and_opus_of_enhanced_rtmp_are_passed_on() -> anyhow::Result<()> {
    replayed("ffmpeg9-av1-opus", Codec::Av1).await
}

#[tokio::test]
async fn vp9_of_enhanced_rtmp_is_passed_on_with_sound_made_of_aac() -> anyhow::Result<()> {
    replayed("ffmpeg9-vp9-aac", Codec::Vp9).await
}

#[tokio::test]
async fn gstreamers_stream_is_passed_on_with_sound_made_of_aac() -> anyhow::Result<()> {
    replayed("gstreamer122-rtmp2sink", Codec::H264).await
}
