//! The programs that people publish with.

use super::{PASSPHRASE, ffmpeg_source, goes_on, publisher, server};
use crate::harness::{PUBLISH_TOKEN, until};
use anyhow::Context;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::process::{Child, Command};

fn ffmpeg(remote: SocketAddr, stream: &str, more: &str) -> anyhow::Result<Child> {
    let id = format!("#!::r={stream},m=publish,token={PUBLISH_TOKEN}");
    let url = format!("srt://{remote}?streamid={id}{more}");
    Ok(ffmpeg_source(true).args(["-f", "mpegts", &url]).spawn()?)
}

#[tokio::test]
async fn ffmpeg_publishes_plain_and_with_every_key_length() -> anyhow::Result<()> {
    let (server, remote) = server(&[("srt.passphrases", &format!("e*={PASSPHRASE}"))]).await?;
    let secret = format!("&passphrase={PASSPHRASE}");
    for (stream, more) in [
        ("plain", String::new()),
        ("e-default", secret.clone()),
        ("e-192", format!("{secret}&pbkeylen=24")),
        ("e-256", format!("{secret}&pbkeylen=32")),
    ] {
        let _encoder = ffmpeg(remote, stream, &more)?;
        goes_on(&server, stream, 60).await?;
        let told = async || {
            let publisher = publisher(&server, stream).await.ok()??;
            let link = publisher["link"].clone();
            link["packets"].as_u64().filter(|&packets| packets > 0).map(|_| (publisher, link))
        };
        let (publisher, link) = until("statistics", told).await?;
        assert_eq!(publisher["protocol"], "srt");
        assert_eq!(link["latency_ms"], 120.0);
        assert_eq!(link["dropped_packets"], 0, "{stream}");
        assert_eq!(link["undecrypted_packets"], 0, "{stream}");
    }
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_caller_that_asks_for_more_latency_gets_it() -> anyhow::Result<()> {
    let (server, remote) = server(&[("srt.latency_ms", "80")]).await?;
    for (stream, asked_us, agreed_ms) in [("more", 300_000, 300), ("less", 40_000, 80)] {
        let _encoder = ffmpeg(remote, stream, &format!("&latency={asked_us}"))?;
        let told = async || {
            let link = publisher(&server, stream).await.ok()??["link"].clone();
            link["latency_ms"].as_f64().map(|ms| ms.round() as u64)
        };
        assert_eq!(until("statistics", told).await?, agreed_ms, "{stream}");
    }
    Ok(())
}

#[tokio::test]
async fn gstreamer_publishes() -> anyhow::Result<()> {
    let (server, remote) = server(&[]).await?;
    let pipeline = format!(
        "mpegtsmux name=mux alignment=7 ! srtsink uri=srt://{remote} \
         streamid=publish:a:{PUBLISH_TOKEN} \
         videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! mux. \
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! \
         aacparse ! mux."
    );
    let mut gstreamer = Command::new("gst-launch-1.0");
    gstreamer.arg("-q").args(pipeline.split_whitespace()).kill_on_drop(true);
    let _gstreamer = gstreamer.spawn().context("gst-launch-1.0")?;
    goes_on(&server, "a", 100).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn srt_live_transmit_publishes() -> anyhow::Result<()> {
    let (server, remote) = server(&[]).await?;
    let mut encoder = ffmpeg_source(true)
        .args(["-f", "mpegts", "-flush_packets", "1", "-"])
        .stdout(Stdio::piped())
        .spawn()?;
    let stream: Stdio = encoder.stdout.take().context("a pipe")?.try_into()?;
    let url = format!("srt://{remote}?streamid=publish:a:{PUBLISH_TOKEN}");
    let _transmit = Command::new("srt-live-transmit")
        .args(["-q", "file://con", &url])
        .stdin(stream)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("srt-live-transmit")?;
    goes_on(&server, "a", 100).await?;
    server.assert_sound();
    Ok(())
}
