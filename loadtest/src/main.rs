//! `millrace-loadtest`: publishes synthetic streams by WHIP and watches streams by WHEP.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use loadtest::codec::{Codec, Kind};
use loadtest::http::Signaling;
use loadtest::report::{PublishReport, ViewReport};
use loadtest::source::{AnnexB, VideoSettings};
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{Pacing, PublishOptions, WhipClient};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Publishes to and watches any WHIP and WHEP server, and measures what arrives.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publishes a synthetic stream.
    Publish(Publish),
    /// Watches a stream and reports latency, loss, gaps and duplicates.
    View(View),
}

#[derive(Args)]
struct Common {
    /// The endpoint, for example `http://127.0.0.1:8080/whip/test`.
    url: String,
    /// The bearer token.
    #[arg(long, env = "MILLRACE_LOADTEST_TOKEN")]
    token: Option<String>,
    /// Seconds to run; 0 means until Ctrl-C.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Publish {
    #[command(flatten)]
    common: Common,
    /// h264, h265, vp8, vp9, av1, or none for audio only.
    #[arg(long, default_value = "h264")]
    video: String,
    /// Video bitrate in kb/s.
    #[arg(long, default_value_t = 2_500)]
    kbps: u64,
    /// Frames per second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Frames from one keyframe to the next; 0 means only when asked.
    #[arg(long, default_value_t = 60)]
    gop: u32,
    /// Send the H.264 pictures of this file (Annex B, no B-frames) at `--fps`, again and again.
    /// Keyframes come where it has them, whoever asks.
    #[arg(long)]
    annexb: Option<PathBuf>,
    /// Send no audio.
    #[arg(long)]
    no_audio: bool,
    /// Spread each frame over half the frame interval instead of sending it at once.
    #[arg(long)]
    paced: bool,
}

#[derive(Args)]
struct View {
    #[command(flatten)]
    common: Common,
    /// How many viewers, one after the other as fast as they connect.
    #[arg(long, default_value_t = 1)]
    viewers: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Publish(arguments) => publish(arguments).await,
        Command::View(arguments) => view(arguments).await,
    }
}

async fn publish(arguments: Publish) -> anyhow::Result<()> {
    let video = match arguments.video.as_str() {
        "none" => None,
        name => Some(video_codec(name)?),
    };
    let file = arguments.annexb.as_deref().map(AnnexB::read).transpose()?;
    let options = PublishOptions {
        file: file.map(Arc::new),
        video: video.map(|codec| VideoSettings {
            codec,
            bitrate_bps: arguments.kbps * 1_000,
            frame_rate: arguments.fps,
            keyframe_interval_frames: arguments.gop,
            ..VideoSettings::default()
        }),
        audio: !arguments.no_audio,
        pacing: if arguments.paced { Pacing::Paced } else { Pacing::Burst },
        ..PublishOptions::default()
    };
    let common = &arguments.common;
    let signaling = Signaling::new(common.token.as_deref())?;
    let client = WhipClient::publish(&signaling, &common.url, options).await?;
    wait(common.seconds).await;
    let report = client.log().read(|log| PublishReport {
        packets: log.packets,
        keyframes: log.keyframes,
        keyframe_requests: log.keyframe_requests.len(),
        nacked: log.nacks.len(),
        resent: log.resent,
    });
    client.end().await.context("the session did not end cleanly")?;
    print(common.json, &report)
}

async fn view(arguments: View) -> anyhow::Result<()> {
    let common = &arguments.common;
    let signaling = Signaling::new(common.token.as_deref())?;
    let mut report = ViewReport::default();
    let mut clients = Vec::new();
    for _ in 0..arguments.viewers {
        let start = Instant::now();
        match WhepClient::view(&signaling, &common.url, ViewOptions::default()).await {
            Ok(client) => clients.push((start.elapsed(), client)),
            Err(error) => report.failed.push(format!("{error:#}")),
        }
    }
    wait(common.seconds).await;
    for (connected_after, client) in clients {
        let milliseconds = u64::try_from(connected_after.as_millis()).unwrap_or(u64::MAX);
        report.add(milliseconds, client.summary());
        if let Err(error) = client.end().await {
            report.failed.push(format!("ending: {error:#}"));
        }
    }
    print(common.json, &report)?;
    anyhow::ensure!(report.is_good(), "not every viewer was served");
    Ok(())
}

fn video_codec(name: &str) -> anyhow::Result<Codec> {
    let codec: Codec = name.parse()?;
    anyhow::ensure!(codec.kind() == Kind::Video, "{codec} is no video codec");
    Ok(codec)
}

/// Until the time is up, or Ctrl-C.
async fn wait(seconds: u64) {
    let interrupted = tokio::signal::ctrl_c();
    if seconds == 0 {
        let _ = interrupted.await;
    } else {
        let _ = tokio::time::timeout(Duration::from_secs(seconds), interrupted).await;
    }
}

fn print<T: std::fmt::Display + serde::Serialize>(json: bool, report: &T) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(report)? } else { report.to_string() };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}
