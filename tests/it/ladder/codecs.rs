//! What not everybody plays is made into H.264.

use super::{
    FRAMES, SMALLER, SOURCE, choose, layer, layers_become, notice, rtmp, seen, sees, view,
};
use crate::harness::{PUBLISH_TOKEN, Server};
use anyhow::Context as _;
use loadtest::codec::{Codec, Kind};
use loadtest::light::{Direction, Offer, Section};
use loadtest::whep::ViewOptions;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// ffmpeg with H.265 by SRT, in real time, until it is dropped.
pub(crate) async fn publishes_h265(server: &Server, stream: &str) -> anyhow::Result<Child> {
    let arguments = "-hide_banner -loglevel error -re -f lavfi -i testsrc2=size=1280x720:rate=10 \
        -c:v libx265 -preset ultrafast -tune zerolatency -x265-params log-level=error -g 20 \
        -b:v 1500k -pix_fmt yuv420p -f mpegts";
    let address = server.listens("\"SRT\"").await?;
    let mut command = Command::new("ffmpeg");
    command.args(arguments.split_whitespace());
    command.arg(format!("srt://{address}?streamid=publish:{stream}:{PUBLISH_TOKEN}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command.kill_on_drop(true).spawn().context("ffmpeg, which `make test` needs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h265_is_watched_by_whoever_plays_only_h264() -> anyhow::Result<()> {
    let ladder = ("transcode.ladder", "720p:2000k 360p:400k");
    let worker = ("transcode.worker", "auto");
    let server = Server::with(&[worker, ladder, ("srt.listen", "127.0.0.1:0")]).await?;
    let _encoder = publishes_h265(&server, "cam").await?;
    layers_become(&server, "cam", "its own size is made too", |layers| {
        let is_own = |rid| layer(layers, rid).is_some_and(|it| it["height"] == 720);
        is_own("720p") && is_own("source")
    })
    .await?;
    let video = Section::new(Kind::Video).codec_with_rtx(Codec::H264, 96, 97);
    let offer = Some(Offer::new(Direction::RecvOnly).section(video));
    let options = ViewOptions { offer, keep: 20_000, ..ViewOptions::default() };
    let viewer = server.view("cam", options).await?;
    sees(&viewer, SOURCE, FRAMES).await.context("in its own size")?;
    choose(&viewer, "360p").await?;
    sees(&viewer, SMALLER, FRAMES).await?;
    assert!(seen(&viewer).len() >= 2);
    // Whoever plays it gets what the publisher sends.
    let other = server.view("cam", ViewOptions::default()).await?;
    crate::harness::received(&other, Codec::H265, 30).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_frames_are_watched_as_what_is_made_of_them() -> anyhow::Result<()> {
    let ladder = ("transcode.ladder", "720p:2000k 360p:400k");
    let server = Server::with(&[("transcode.worker", "auto"), ladder]).await?;
    // Each B-frame refers to others that do the same; and the first keyframe is the only one.
    let encoding = "-preset veryfast -g 6000 \
        -x264-params bframes=3:b-pyramid=normal:b-adapt=0:scenecut=0";
    let _encoder = rtmp(&server, "cam", encoding).await?;
    layers_become(&server, "cam", "its own size is made", |layers| {
        layer(layers, "720p").is_some_and(|it| it["height"] == 720)
    })
    .await?;
    let viewer = view(&server, "cam").await?;
    sees(&viewer, SOURCE, FRAMES).await.context("in its own size")?;
    choose(&viewer, "360p").await?;
    sees(&viewer, SMALLER, FRAMES).await?;
    notice(&server, "cam", "B-frames are transcoded").await?;
    server.assert_sound();
    Ok(())
}
