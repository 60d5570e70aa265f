//! The load generator's publishers by RTMP and SRT: what they send is what viewers see.

use crate::harness::{PUBLISH_TOKEN, SOON, Server};
use crate::swarm::watch;
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::push::{PushClient, PushOptions};
use loadtest::source::{Stamp, VideoSettings};
use loadtest::swarm::Status;
use loadtest::whep::{ViewLog, ViewOptions};

/// Pictures that are looked at.
const PICTURES: usize = 60;
/// Viewers that join in the middle of a group of pictures.
const NEWCOMERS: usize = 6;

/// An encoder with a keyframe every ten seconds, which is of 50 packets, and sound.
fn encoder() -> PushOptions {
    let video = VideoSettings {
        bitrate_bps: 2_500_000,
        keyframe_interval_frames: 300,
        ..VideoSettings::default()
    };
    PushOptions { video, audio: true, aac: false }
}

async fn rtmp(server: &Server) -> anyhow::Result<PushClient> {
    let address = server.listens("\"RTMP\"").await?;
    let url = format!("rtmp://{address}/live/pushed?token={PUBLISH_TOKEN}");
    PushClient::publish(&url, encoder()).await
}

/// A server that also takes SRT, with next to no latency.
async fn srt() -> anyhow::Result<(Server, PushClient)> {
    let options = [("srt.listen", "127.0.0.1:0"), ("srt.latency_ms", "20")];
    let server = Server::with(&options).await?;
    let address = server.listens("\"SRT\"").await?;
    let url = format!("srt://{address}?streamid=publish:pushed:{PUBLISH_TOKEN}&latency=20");
    let publisher = PushClient::publish(&url, encoder()).await?;
    Ok((server, publisher))
}

/// The numbers of the packets of one codec that end in a stamp.
fn numbers(log: &ViewLog, payload_type: u8) -> Vec<u64> {
    let payloads = log.of_payload_type(payload_type).map(|it| &it.packet.payload);
    payloads.filter_map(|payload| Some(Stamp::read(payload)?.counter)).collect()
}

/// A viewer sees every picture, and hears every packet of sound, in the order they were sent in.
async fn all_comes_in_order(server: &Server, publisher: PushClient) -> anyhow::Result<()> {
    let options = ViewOptions { keep: 20_000, ..ViewOptions::default() };
    let viewer = server.view("pushed", options).await?;
    for codec in [Codec::H264, Codec::Opus] {
        let payload_type = viewer.answer.payload_type(codec).context("it was agreed")?;
        let enough = |log: &ViewLog| {
            let numbers = numbers(log, payload_type);
            (numbers.len() >= PICTURES).then_some(numbers)
        };
        let numbers = viewer.log().wait(SOON * 2, "enough of it", enough).await?;
        let is_next = |pair: &[u64]| pair[1] == pair[0] + 1;
        assert!(numbers.windows(2).all(is_next), "{codec}: {numbers:?}");
    }
    let video = viewer.summary_of(Codec::H264).context("a picture")?;
    assert_eq!((video.lost, video.duplicates), (0, 0));
    viewer.end().await?;
    assert_eq!(publisher.log().read(|log| log.closed.clone()), None);
    publisher.end().await;
    Ok(())
}

/// Whoever joins gets a whole keyframe at once: there is only the one at the start.
async fn newcomers_see_a_keyframe(server: &Server, publisher: PushClient) -> anyhow::Result<()> {
    let sent = |log: &loadtest::push::PushLog| (log.pictures > 30).then_some(log.keyframes);
    assert_eq!(publisher.log().wait(SOON, "pictures", sent).await?, 1);
    let enough = |status: Status| status.served == NEWCOMERS && status.packets > 500;
    let (outcome, joins) = watch(server.whep("pushed"), NEWCOMERS, false, enough).await?;
    assert_eq!((joins.answered, joins.failed), (NEWCOMERS, 0));
    for viewer in &outcome.viewers {
        assert!(viewer.post_to_frame_us.is_some(), "{viewer:?}");
        assert_eq!((viewer.counts.lost, viewer.counts.duplicates), (0, 0), "{viewer:?}");
    }
    // Pictures and sound have stamps, and pictures are counted apart.
    let flow = &outcome.phases[0].flows[0];
    let (pictures, all) = (flow.frame_latency.total(), flow.latency.total());
    assert!(pictures > 0 && pictures < all, "{pictures} of {all}");
    assert_eq!(publisher.log().read(|log| log.keyframes), 1, "nothing else was there to see");
    publisher.end().await;
    Ok(())
}

#[tokio::test]
async fn every_picture_and_sound_that_is_pushed_by_rtmp_is_seen_in_order() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = rtmp(&server).await?;
    all_comes_in_order(&server, publisher).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn who_joins_in_the_middle_of_ten_seconds_by_rtmp_sees_a_keyframe() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = rtmp(&server).await?;
    newcomers_see_a_keyframe(&server, publisher).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn every_picture_and_sound_that_is_pushed_by_srt_is_seen_in_order() -> anyhow::Result<()> {
    let (server, publisher) = srt().await?;
    all_comes_in_order(&server, publisher).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn who_joins_in_the_middle_of_ten_seconds_by_srt_sees_a_keyframe() -> anyhow::Result<()> {
    let (server, publisher) = srt().await?;
    newcomers_see_a_keyframe(&server, publisher).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_is_told_by_rtmp() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = server.listens("\"RTMP\"").await?;
    let url = format!("rtmp://{address}/live/pushed?token=wrong");
    let error = PushClient::publish(&url, encoder()).await.expect_err("the token is wrong");
    assert!(error.to_string().contains("NetStream.Publish.Denied"), "{error:#}");
    Ok(())
}
