//! What comes in over SRT is watched by WHEP, with sound, whatever its codecs.

use super::{encoder, goes_on, publisher, publishing, recording, server};
use crate::harness::{PUBLISH_TOKEN, Server, received};
use anyhow::Context as _;
use bytes::Bytes;
use loadtest::codec::Codec;
use loadtest::srt::SrtCaller;
use loadtest::whep::ViewOptions;
use std::net::SocketAddr;
use tokio::process::Child;

/// Servers of the tests have no worker unless they are to have one.
const TRANSCODES: (&str, &str) = ("transcode.worker", "auto");
const PICTURE: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 30";
const PICTURE_H265: &str = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params \
    bframes=0:keyint=30:log-level=none";

fn publish(remote: SocketAddr, stream: &str, codecs: &str) -> anyhow::Result<Child> {
    let url = format!("srt://{remote}?streamid=publish:{stream}:{PUBLISH_TOKEN}");
    Ok(encoder(true, codecs).args(["-f", "mpegts", &url]).spawn()?)
}

async fn is_seen_and_heard(server: &Server, stream: &str, video: Codec) -> anyhow::Result<()> {
    let viewer = server.view(stream, ViewOptions::default()).await.context(video.to_string())?;
    received(&viewer, video, 60).await?;
    received(&viewer, Codec::Opus, 60).await
}

#[tokio::test]
async fn every_picture_and_every_sound_of_ffmpeg_is_seen_and_heard() -> anyhow::Result<()> {
    let (server, remote) = server(&[TRANSCODES]).await?;
    for (stream, video, codecs) in [
        ("aac", Codec::H264, format!("{PICTURE} -c:a aac")),
        ("latm", Codec::H265, format!("{PICTURE_H265} -c:a aac -mpegts_flags latm")),
        ("opus", Codec::H264, format!("{PICTURE} -c:a libopus")),
        ("mp2", Codec::H264, format!("{PICTURE} -c:a mp2")),
        ("ac3", Codec::H264, format!("{PICTURE} -c:a ac3")),
    ] {
        let _encoder = publish(remote, stream, &codecs)?;
        is_seen_and_heard(&server, stream, video).await.context(stream)?;
    }
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn viewers_stay_while_their_encoder_is_away() -> anyhow::Result<()> {
    let (server, remote) = server(&[]).await?;
    let codecs = format!("{PICTURE} -an");
    let encoder = publish(remote, "a", &codecs)?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 30).await?;
    // It is killed, and says no goodbye.
    drop(encoder);
    server.said(&["session ended", "publisher"]).await?;
    let before = viewer.summary_of(Codec::H264).context("a picture")?.received;
    let _encoder = publish(remote, "a", &codecs)?;
    received(&viewer, Codec::H264, before + 30).await?;
    let summary = viewer.summary_of(Codec::H264).context("a picture")?;
    assert_eq!(summary.lost, 0, "one numbering without a gap: {summary:?}");
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn pictures_with_holes_are_counted_and_not_sent() -> anyhow::Result<()> {
    let (server, remote) = server(&[]).await?;
    let whole = recording().await?;
    // Every two hundredth packet is missing.
    let packets = whole.chunks(188).enumerate().filter(|(at, _)| at % 200 != 199);
    let holed = Bytes::from(packets.flat_map(|(_, packet)| packet.to_vec()).collect::<Vec<u8>>());
    let mut caller = SrtCaller::call(remote, &publishing("a")).await?;
    let sending = tokio::spawn(async move { caller.send_stream(&holed).await });
    goes_on(&server, "a", 60).await?;
    let damaged = async || {
        let publisher = publisher(&server, "a").await.ok()??;
        publisher["frames"]["damaged"].as_u64().filter(|&damaged| damaged > 0)
    };
    crate::harness::until("damaged pictures are counted", damaged).await?;
    goes_on(&server, "a", 60).await?;
    sending.abort();
    server.assert_sound();
    Ok(())
}
