//! A publisher of three layers, as OBS and Chromium offer them, and viewers on links of their own.

use crate::harness::{SOON, Server, until};
use anyhow::Context;
use loadtest::codec::Kind;
use loadtest::impair::{LinkSettings, Relay, RelayOptions};
use loadtest::layers::LayerReport;
use loadtest::light::{Feedback, LightOptions};
use loadtest::source::VideoSettings;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{Like, PublishOptions, Simulcast, WhipClient};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Frames on end of a layer after which a viewer has settled.
const FRAMES: u64 = 150;
/// What a link lets wait before it drops.
const QUEUE: Duration = Duration::from_millis(300);

/// How late sound may not be against the picture (ITU-R BT.1359): what a layer's clock may be off
/// by, and how unevenly a busy machine publishes.
const LIP_SYNC_MS: f64 = 45.0;

/// 720p at 2.5 Mb/s, and a half and a quarter of it; keyframes every two seconds, asked for or not.
fn three(like: Like) -> PublishOptions {
    PublishOptions {
        simulcast: Some(Simulcast::three(like)),
        video: Some(VideoSettings::default()),
        // OBS answers nobody.
        answer_keyframe_requests: like == Like::Chromium,
        ..PublishOptions::default()
    }
}

/// The layers of the picture as the API has them, best first.
async fn layers(server: &Server, stream: &str) -> anyhow::Result<Vec<Value>> {
    let report = server.stream(stream).await?.context("the stream is live")?;
    let tracks = report["tracks"].as_array().context("tracks")?;
    let video = tracks.iter().find(|track| track["kind"] == "video").context("video")?;
    Ok(video["layers"].as_array().cloned().unwrap_or_default())
}

/// Waits until the API has what `wanted` accepts, and gives it.
async fn layers_become(
    server: &Server,
    what: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> anyhow::Result<Vec<Value>> {
    let look = async || layers(server, "ladder").await.ok().filter(|it| wanted(it));
    until(what, look).await
}

fn are_active(layers: &[Value], active: [bool; 3]) -> bool {
    layers.len() == 3 && layers.iter().zip(active).all(|(layer, is)| layer["active"] == is)
}

async fn all_layers_flow(like: Like) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("ladder", three(like)).await?;
    let known = |layers: &[Value]| {
        are_active(layers, [true; 3]) && layers.iter().all(|layer| layer["height"].is_u64())
    };
    let layers = layers_become(&server, "three layers flow", known).await?;
    let sizes: Vec<_> =
        layers.iter().map(|it| (it["width"].clone(), it["height"].clone())).collect();
    let size = |width: u16, height: u16| (json!(width), json!(height));
    assert_eq!(sizes, [size(1_280, 720), size(640, 360), size(320, 180)]);
    let rids = match like {
        Like::Obs => ["0", "1", "2"],
        Like::Chromium => ["f", "h", "q"],
    };
    assert_eq!(layers.iter().map(|it| &it["rid"]).collect::<Vec<_>>(), rids);
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn all_layers_of_an_obs_like_publisher_flow() -> anyhow::Result<()> {
    all_layers_flow(Like::Obs).await
}

#[tokio::test]
async fn all_layers_of_a_chromium_like_publisher_flow() -> anyhow::Result<()> {
    all_layers_flow(Like::Chromium).await
}

/// A viewer behind a link of its own.
struct Behind {
    viewer: WhepClient,
    _relay: Relay,
}

impl Behind {
    async fn link(server: &Server, kbps: Option<u64>) -> anyhow::Result<Self> {
        let down = LinkSettings {
            rate_bps: kbps.map(|it| it * 1_000),
            queue: kbps.map(|_| QUEUE),
            delay: Duration::from_millis(10),
            ..LinkSettings::default()
        };
        let relay = Relay::start(RelayOptions {
            listen: "127.0.0.1:0".parse()?,
            server: crate::harness::media_address(server).await?,
            up: LinkSettings { delay: Duration::from_millis(10), ..LinkSettings::default() },
            down,
            steps: Vec::new(),
            seed: 7,
        })
        .await?;
        let light = LightOptions { via: Some(relay.address()), ..LightOptions::default() };
        let feedback = Feedback::TransportCc;
        let options = ViewOptions { light, feedback, ..ViewOptions::default() };
        Ok(Self { viewer: server.view("ladder", options).await?, _relay: relay })
    }

    /// Waits until it has got this layer alone for so many frames.
    async fn settles(&self, layer: u8, frames: u64) -> anyhow::Result<LayerReport> {
        let settled = || {
            let report = self.viewer.layers();
            let stay = report.stays.last()?;
            (stay.layer == layer && stay.frames >= frames).then(|| report.clone())
        };
        let waiting = async {
            loop {
                if let Some(report) = settled() {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let what = || format!("layer {layer} for {frames} frames: {:?}", self.viewer.layers());
        tokio::time::timeout(SOON * 4, waiting).await.with_context(what)
    }
}

/// Frames of the best layer that were sent so far.
fn sent(publisher: &WhipClient) -> u64 {
    let ssrc = Simulcast::ssrcs(0)[0];
    publisher.log().read(|log| log.frames.get(&ssrc).copied().unwrap_or(0))
}

async fn each_link_gets_its_layer(like: Like) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("ladder", three(like)).await?;
    layers_become(&server, "three layers flow", |it| are_active(it, [true; 3])).await?;
    let links = [None, Some(800), Some(250)];
    let mut behind = Vec::new();
    for kbps in links {
        behind.push(Behind::link(&server, kbps).await?);
    }
    let (start, sent_before) = (Instant::now(), sent(&publisher));
    let settling = (0..).zip(&behind).map(|(layer, it)| it.settles(layer, FRAMES));
    let settled = futures_util::future::try_join_all(settling).await?;
    // A busy machine sends fewer than thirty a second.
    let sent = sent(&publisher) - sent_before;
    let frame_rate = sent as f64 / start.elapsed().as_secs_f64();
    for (report, link) in settled.iter().zip(links) {
        let got = report.stays.last().context("it has settled")?.frame_rate();
        assert!(got >= frame_rate * 0.95, "{link:?}: {got} of {frame_rate} a second, {report:?}");
        assert_eq!((report.made_gaps, report.backwards), (0, 0), "{report:?}");
        // The clocks of all layers are those of the publisher.
        assert!(report.clock_step_ms_max < LIP_SYNC_MS, "{report:?}");
    }
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_link_gets_the_layer_of_an_obs_like_publisher_that_it_carries() -> anyhow::Result<()> {
    each_link_gets_its_layer(Like::Obs).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_link_gets_the_layer_of_a_chromium_like_publisher_that_it_carries()
-> anyhow::Result<()> {
    each_link_gets_its_layer(Like::Chromium).await
}

/// A viewer without a bottleneck, which has the best layer.
async fn on_top(server: &Server) -> anyhow::Result<Behind> {
    let it = Behind::link(server, None).await?;
    it.settles(0, 30).await?;
    Ok(it)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_stops_is_left_and_taken_again_when_it_is_back() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("ladder", three(Like::Chromium)).await?;
    layers_become(&server, "three layers flow", |it| are_active(it, [true; 3])).await?;
    let it = on_top(&server).await?;
    publisher.pause_layer(0);
    let stopped = |layers: &[Value]| {
        layers.iter().any(|layer| layer["rid"] == "f" && layer["active"] == false)
    };
    layers_become(&server, "the layer is known to stand still", stopped).await?;
    it.settles(1, 30).await?;
    publisher.resume_layer(0);
    layers_become(&server, "three layers flow again", |it| are_active(it, [true; 3])).await?;
    let report = it.settles(0, 30).await?;
    assert_eq!((report.made_gaps, report.backwards), (0, 0), "{report:?}");
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_moved_up_and_down_by_what_it_chooses() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("ladder", three(Like::Chromium)).await?;
    layers_become(&server, "three layers flow", |it| are_active(it, [true; 3])).await?;
    let it = on_top(&server).await?;
    assert!(it.viewer.answer.section(Kind::Video).is_some());
    for (choice, layer) in [
        (json!({ "encodingId": "q" }), 2),
        (json!({ "encodingId": "f" }), 0),
        (json!({ "maxHeight": 360 }), 1),
        (json!({ "maxBitrate": 200_000 }), 2),
        (json!({}), 0),
    ] {
        it.viewer.choose(&choice.to_string()).await?;
        it.settles(layer, 15).await.with_context(|| choice.to_string())?;
    }
    let report = it.viewer.layers();
    assert_eq!((report.made_gaps, report.backwards), (0, 0), "{report:?}");
    assert!(report.clock_step_ms_max < LIP_SYNC_MS, "{report:?}");
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}
