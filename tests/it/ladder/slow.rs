//! A worker that is too slow: it leaves out pictures, a layer is given up, and who watches the
//! source notices nothing. Which one is given up first, and who counts, has tests of its own.

use super::faults::{assert_whole, worker};
use super::{FRAMES, LARGER, SMALLER, SOURCE, choose, ffmpeg, layer, layers_become, notice};
use super::{seen, sees, server, view};
use crate::harness::{Server, until};
use nix::sys::signal::{Signal, kill};
use std::convert::Infallible;
use std::time::Duration;

/// The smallest of the three layers.
const SMALLEST: [u16; 2] = [426, 240];
/// So much of the time a worker on a slow machine runs: a fifth of what its layers take.
const RUNS: Duration = Duration::from_millis(10);
const STANDS: Duration = Duration::from_millis(290);

/// Slows the worker down for as long as this is waited for, whichever process it is.
async fn slow_down(server: &Server) -> Infallible {
    let signal = |signal| {
        // One that has ended hears nothing, and is followed by another one.
        let _ = worker(server).map(|worker| kill(worker, signal));
    };
    loop {
        signal(Signal::SIGCONT);
        tokio::time::sleep(RUNS).await;
        signal(Signal::SIGSTOP);
        tokio::time::sleep(STANDS).await;
    }
}

/// Waits until a layer is given up, and is told of. Which one depends on who has left those that
/// hardly come.
async fn gives_up(server: &Server) -> anyhow::Result<()> {
    let told = || server.said(&["too slow", "this one is not made"]);
    let mut line = told().await;
    // It takes three bad seconds in a row, and a worker that is stopped and started has good ones.
    for _ in 0..3 {
        if line.is_err() {
            line = told().await;
        }
    }
    let line = line?;
    assert!(!line.contains("240p"), "others run that are larger: {line}");
    notice(server, "cam", "made for now. Fewer layers (transcode.ladder)").await?;
    let skips = async || {
        let skipped = server.metric("millrace_ladder_pictures_skipped_total").await.ok()?;
        (skipped > 0.0).then_some(())
    };
    until("pictures are left out", skips).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_too_slow_gives_up_layers_and_the_source_loses_nothing()
-> anyhow::Result<()> {
    let server = server(&[("transcode.ladder", "480p:800k 360p:400k 240p:200k")]).await?;
    let _encoder = ffmpeg(&server, "cam").await?;
    let all = [("source", SOURCE), ("480p", LARGER), ("360p", SMALLER), ("240p", SMALLEST)];
    layers_become(&server, "cam", "all can be had", |layers| {
        let can = |rid| layer(layers, rid).is_some_and(|it| it["active"] == true);
        all.iter().all(|(rid, _)| can(rid))
    })
    .await?;
    let mut viewers = Vec::new();
    for (rid, size) in all {
        let viewer = view(&server, "cam").await?;
        choose(&viewer, rid).await?;
        sees(&viewer, size, FRAMES).await?;
        viewers.push(viewer);
    }
    for name in ["speed_ratio", "waiting_frames", "frames_dropped_total", "decode_seconds"] {
        let told = server.samples(&format!("millrace_ladder_{name}")).await?;
        assert_eq!(told.len(), 1, "{name}");
    }
    let each = async || {
        let told = server.samples("millrace_ladder_encode_seconds").await.ok()?;
        (told.len() == all.len() - 1).then_some(())
    };
    until("it is told what each layer takes", each).await?;
    // Viewers leave layers that hardly come; whoever watches by LL-HLS wants all of them.
    let hls = server.client(None).request(reqwest::Method::GET, &server.url("/hls/cam/index.m3u8"));
    assert!(hls.send().await?.status().is_success());
    let of_source = &viewers[0];
    let stays = seen(of_source).len();
    tokio::select! {
        done = gives_up(&server) => done?,
        never = slow_down(&server) => match never {},
    }
    sees(of_source, SOURCE, FRAMES).await?;
    assert_eq!(seen(of_source).len(), stays, "it has had the source all the time");
    assert_whole(of_source)?;
    server.assert_sound();
    Ok(())
}
