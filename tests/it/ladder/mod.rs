//! Layers that the real worker makes of what ffmpeg publishes, and workers that fail.
//!
//! - `codecs`: what not everybody plays
//! - `faults`: workers that die, hang, crash, or are too many; what they may take of the machine
//! - `slow`: a worker that is too slow

pub(crate) mod codecs;
pub(crate) mod faults;
mod slow;

use crate::harness::{PUBLISH_TOKEN, SOON, Server, until};
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::whep::{ViewOptions, WhepClient};
use millrace::codec::sizes;
use millrace::media::codec::Codec as Named;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Frames by which a viewer has settled.
const FRAMES: u64 = 20;
/// What is published, and what is made of it.
const SOURCE: [u16; 2] = [1280, 720];
const LARGER: [u16; 2] = [854, 480];
const SMALLER: [u16; 2] = [640, 360];

/// A server that makes layers.
async fn server(options: &[(&str, &str)]) -> anyhow::Result<Server> {
    let ours = [("transcode.worker", "auto"), ("transcode.ladder", "480p:800k 360p:400k")];
    Server::with(&[&ours[..], options].concat()).await
}

/// ffmpeg with a moving picture by RTMP, in real time, until it is dropped.
async fn ffmpeg(server: &Server, stream: &str) -> anyhow::Result<Child> {
    rtmp(server, stream, "-preset ultrafast -tune zerolatency -g 30").await
}

/// The same, encoded so.
async fn rtmp(server: &Server, stream: &str, encoding: &str) -> anyhow::Result<Child> {
    let arguments = format!(
        "-hide_banner -loglevel error -re -f lavfi -i testsrc2=size=1280x720:rate=15 \
         -c:v libx264 {encoding} -b:v 2500k -pix_fmt yuv420p -f flv"
    );
    let address = server.listens("\"RTMP\"").await?;
    let mut command = Command::new("ffmpeg");
    command.args(arguments.split_whitespace());
    command.arg(format!("rtmp://{address}/live/{stream}?token={PUBLISH_TOKEN}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command.kill_on_drop(true).spawn().context("ffmpeg, which `make test` needs")
}

/// The video's layers as the API has them, as soon as they are what `wanted` accepts.
async fn layers_become(
    server: &Server,
    stream: &str,
    what: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> anyhow::Result<Vec<Value>> {
    let look = async || {
        let report = server.stream(stream).await.ok()??;
        let tracks = report["tracks"].as_array()?;
        let video = tracks.iter().find(|track| track["kind"] == "video")?;
        video["layers"].as_array().filter(|layers| wanted(layers)).cloned()
    };
    until(what, look).await
}

fn layer<'a>(layers: &'a [Value], rid: &str) -> Option<&'a Value> {
    layers.iter().find(|layer| layer["rid"] == rid)
}

/// Waits until both layers can be had.
async fn can_be_had(server: &Server, stream: &str) -> anyhow::Result<Vec<Value>> {
    layers_become(server, stream, "layers can be made", |layers| {
        ["480p", "360p"].iter().all(|rid| layer(layers, rid).is_some_and(|it| it["active"] == true))
    })
    .await
}

/// The notices of a publisher, as soon as one holds these words.
async fn notice(server: &Server, stream: &str, words: &str) -> anyhow::Result<String> {
    let look = async || {
        let report = server.stream(stream).await.ok()??;
        let notices = report["publisher"]["notices"].as_array()?;
        let mut notices = notices.iter().filter_map(Value::as_str);
        notices.find(|it| it.contains(words)).map(str::to_owned)
    };
    until(&format!("a notice with {words:?}"), look).await
}

async fn choose(viewer: &WhepClient, rid: &str) -> anyhow::Result<()> {
    Ok(viewer.choose(&json!({ "encodingId": rid }).to_string()).await?)
}

/// A viewer whose packets are kept, so that it shows what they are of.
async fn view(server: &Server, stream: &str) -> anyhow::Result<WhepClient> {
    /// Half a minute of the source.
    const KEPT: usize = 20_000;
    server.view(stream, ViewOptions { keep: KEPT, ..ViewOptions::default() }).await
}

/// The sizes of the pictures that a viewer has got, one after the other, with their numbers.
fn seen(viewer: &WhepClient) -> Vec<([u16; 2], u64)> {
    let mut seen: Vec<([u16; 2], u64)> = Vec::new();
    let payload_type = viewer.answer.payload_type(Codec::H264).unwrap_or_default();
    viewer.log().read(|log| {
        for packet in log.of_payload_type(payload_type).map(|it| &it.packet) {
            let size = sizes(Named::H264, &packet.payload).largest();
            if let Some((width, height)) = size
                && seen.last().is_none_or(|(last, _)| *last != [width, height])
            {
                seen.push(([width, height], 0));
            }
            if let Some((_, frames)) = seen.last_mut() {
                *frames += u64::from(packet.header.marker);
            }
        }
    });
    seen
}

/// Waits until a viewer has got so many more pictures of this size, and gets them still.
async fn sees(viewer: &WhepClient, size: [u16; 2], frames: u64) -> anyhow::Result<()> {
    let last = || seen(viewer).last().filter(|(last, _)| *last == size).map(|(_, frames)| *frames);
    let before = last().unwrap_or(0);
    let what = || format!("{frames} frames of {size:?} after {before}: {:?}", seen(viewer));
    let waiting = async {
        while last().is_none_or(|now| now < before + frames) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON * 3, waiting).await.with_context(what)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_layers_are_seen_by_whoever_chooses_them() -> anyhow::Result<()> {
    let server = server(&[]).await?;
    let _encoder = ffmpeg(&server, "cam").await?;
    let layers = can_be_had(&server, "cam").await?;
    let made: Vec<_> = layers.iter().map(|it| (&it["made"], &it["height"])).collect();
    let expected = [(false, 720), (true, 480), (true, 360)].map(|(a, b)| (json!(a), json!(b)));
    assert_eq!(made, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>(), "best first");
    let viewer = view(&server, "cam").await?;
    sees(&viewer, SOURCE, FRAMES).await?;
    choose(&viewer, "480p").await?;
    sees(&viewer, LARGER, FRAMES).await?;
    let runs = |rid: &'static str, runs: bool| {
        move |layers: &[Value]| {
            layer(layers, rid).is_some_and(|layer| layer["encoder"].is_string() == runs)
        }
    };
    layers_become(&server, "cam", "480p is encoded", runs("480p", true)).await?;
    layers_become(&server, "cam", "360p is not", runs("360p", false)).await?;
    choose(&viewer, "360p").await?;
    sees(&viewer, SMALLER, FRAMES).await?;
    layers_become(&server, "cam", "480p is no longer encoded", runs("480p", false)).await?;
    viewer.choose("{}").await?;
    sees(&viewer, SOURCE, FRAMES).await?;
    // It may have begun with a smaller one, as long as nothing was known of its link.
    let sizes = seen(&viewer).into_iter().map(|(size, _)| size);
    let sizes: Vec<_> = sizes.skip_while(|size| *size != SOURCE).collect();
    assert_eq!(sizes, [SOURCE, LARGER, SMALLER, SOURCE], "each one at a time");
    viewer.end().await?;
    layers_become(&server, "cam", "nothing is encoded", runs("360p", false)).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_publisher_has_layers_of_its_own() -> anyhow::Result<()> {
    let server = server(&[]).await?;
    let encoder = ffmpeg(&server, "cam").await?;
    can_be_had(&server, "cam").await?;
    let viewer = view(&server, "cam").await?;
    choose(&viewer, "480p").await?;
    sees(&viewer, LARGER, FRAMES).await?;
    drop(encoder);
    let is_gone =
        async || (server.metric("millrace_ladder_workers").await.ok()? == 0.0).then_some(());
    until("the worker is gone", is_gone).await?;
    let _encoder = ffmpeg(&server, "cam").await?;
    can_be_had(&server, "cam").await?;
    sees(&viewer, LARGER, FRAMES).await?;
    server.assert_sound();
    Ok(())
}
