//! Who may publish by RTMP, and what they are told: by ffmpeg, and by an encoder of our own.

use super::encoder::{Encoder, command, connect, opening, picture, setup};
use super::rtmp_address;
use crate::harness::{PUBLISH_TOKEN, SOON, Server, until};
use anyhow::{Context as _, ensure};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// ffmpeg with a test picture and a tone, in real time, until it is dropped.
pub(super) fn ffmpeg(url: &str) -> anyhow::Result<Child> {
    let arguments = "-hide_banner -loglevel error -re -f lavfi -i testsrc2=size=160x90:rate=25 \
        -re -f lavfi -i sine=sample_rate=48000 -c:v libx264 -preset ultrafast -bf 0 -g 25 \
        -pix_fmt yuv420p -c:a aac -f flv";
    let mut command = Command::new("ffmpeg");
    command.args(arguments.split_whitespace()).arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn();
    child.context("ffmpeg, which `make test` needs")
}

/// What ffmpeg says when it gives up.
async fn complaint(child: Child) -> anyhow::Result<String> {
    let output = tokio::time::timeout(SOON * 2, child.wait_with_output()).await??;
    ensure!(!output.status.success(), "it publishes");
    Ok(String::from_utf8(output.stderr)?)
}

/// Where to publish that key.
pub(super) fn url(address: std::net::SocketAddr, key: &str) -> String {
    format!("rtmp://{address}/live/{key}")
}

/// Waits until frames of a stream come, by this protocol; the session they are of.
async fn comes(server: &Server, stream: &str, protocol: &str) -> anyhow::Result<String> {
    let live = async || {
        let stream = server.stream(stream).await.ok()??;
        let publisher = &stream["publisher"];
        let comes =
            publisher["protocol"] == protocol && publisher["frames"]["taken"].as_u64()? > 50;
        comes.then(|| publisher["session"].as_str().map(str::to_owned))?
    };
    until("frames of a stream", live).await
}

#[tokio::test]
async fn ffmpeg_publishes_by_rtmp_and_by_rtmps() -> anyhow::Result<()> {
    let server = Server::with(&[("rtmp.tls_listen", "127.0.0.1:0")]).await?;
    let address = rtmp_address(&server).await?;
    let plain = ffmpeg(&url(address, &format!("plain?token={PUBLISH_TOKEN}")))?;
    comes(&server, "plain", "rtmp").await?;
    drop(plain);
    let address = server.listens("\"RTMPS\"").await?;
    let sealed = ffmpeg(&format!("rtmps://{address}/live/sealed?token={PUBLISH_TOKEN}"))?;
    comes(&server, "sealed", "rtmps").await?;
    drop(sealed);
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_told_in_words_that_ffmpeg_shows() -> anyhow::Result<()> {
    let server = Server::with(&[("auth.publish_tokens", "live-*=another-token")]).await?;
    let address = rtmp_address(&server).await?;
    let live = format!("live-1?token={PUBLISH_TOKEN}");
    let _holder = Encoder::publish(address, &live).await?;
    for (key, words) in [
        ("lot", "publishing needs a token: write it behind the stream key"),
        ("lot?token=wrong", "this token does not publish stream lot"),
        ("lot?token=another-token", "this token does not publish stream lot"),
        ("live-1?token=another-token", "stream live-1 is being published with another token"),
        ("a//..?token=publish-token-of-the-tests", "a stream name has no empty part"),
    ] {
        let said = complaint(ffmpeg(&url(address, key))?).await.context(key)?;
        ensure!(said.contains("Server error: ") && said.contains(words), "{key}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn refusals_have_the_codes_that_encoders_know() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.streams_max", "1")]).await?;
    let address = rtmp_address(&server).await?;
    let _first = Encoder::publish(address, &format!("first?token={PUBLISH_TOKEN}")).await?;
    for (key, codes) in [
        ("lot".to_owned(), &["NetStream.Publish.Denied"][..]),
        (
            format!("a//..?token={PUBLISH_TOKEN}"),
            &["NetStream.Publish.BadName", "NetStream.Publish.Rejected"],
        ),
        (
            format!("lot?token={PUBLISH_TOKEN}"),
            &["NetStream.Publish.BadName", "limits.streams_max"],
        ),
    ] {
        let mut encoder = Encoder::connect(address).await?;
        encoder.say(&opening(&key)).await?;
        let said = encoder.hears_out().await?;
        ensure!(codes.iter().all(|code| said.contains(code)), "{key}: {said}");
    }
    let mut viewer = Encoder::connect(address).await?;
    let play = [&[5, 2, 0, 5][..], b"first"].concat();
    viewer
        .say(&[connect(), command("createStream", &[5]), command("play", &play)].concat())
        .await?;
    let said = viewer.hears_out().await?;
    ensure!(said.contains("NetStream.Play.Failed") && said.contains("/whep/"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_same_token_takes_over_and_the_old_encoder_is_told() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = rtmp_address(&server).await?;
    let key = format!("lot?token={PUBLISH_TOKEN}");
    let mut old = Encoder::publish(address, &key).await?;
    old.say(&[setup(), picture(0, 0)].concat()).await?;
    let new = ffmpeg(&url(address, &key))?;
    let said = old.hears_out().await?;
    ensure!(said.contains("another encoder publishes this stream with the same token"), "{said}");
    comes(&server, "lot", "rtmp").await?;
    drop(new);
    Ok(())
}

#[tokio::test]
async fn one_connection_may_publish_again_after_its_stream() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = rtmp_address(&server).await?;
    let mut encoder = Encoder::publish(address, &format!("one?token={PUBLISH_TOKEN}")).await?;
    encoder.say(&command("deleteStream", &[5, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0])).await?;
    encoder.hears("NetStream.Unpublish.Success").await?;
    let opening = opening(&format!("two?token={PUBLISH_TOKEN}"));
    encoder.say(&opening[connect().len()..]).await?;
    encoder.hears("publishing two").await
}

#[tokio::test]
async fn a_stopping_server_tells_its_publishers_and_ends_in_time() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let address = rtmp_address(&server).await?;
    let mut encoder = Encoder::publish(address, &format!("lot?token={PUBLISH_TOKEN}")).await?;
    encoder.say(&[setup(), picture(0, 0)].concat()).await?;
    // Who does not publish is not waited for.
    let mut idle = Encoder::connect(address).await?;
    server.terminate()?;
    let said = encoder.hears_out().await?;
    ensure!(said.contains("the server is stopping"), "{said}");
    idle.hears_out().await?;
    ensure!(server.exited(SOON).await?.success(), "it ends well");
    Ok(())
}
