//! LL-HLS out: whatever comes in, by WHIP and RTMP, goes out by the rules of the draft.
//!
//! - `conformance`: the load generator's rules, at several frame rates
//! - `life`: beginnings, ends, and who is refused

mod conformance;
mod life;

use crate::harness::{PUBLISH_TOKEN, Server};
use loadtest::push::{PushClient, PushOptions};
use loadtest::source::{Rhythm, VideoSettings};
use loadtest::whip::{PublishOptions, WhipClient};

/// Pictures at this rate, with a keyframe each second.
fn video(frame_rate: u32, rhythm: Rhythm) -> VideoSettings {
    let keyframe_interval_frames = frame_rate;
    VideoSettings { frame_rate, rhythm, keyframe_interval_frames, ..VideoSettings::default() }
}

/// Pushes pictures and AAC.
async fn push(server: &Server, stream: &str, video: VideoSettings) -> anyhow::Result<PushClient> {
    let address = server.listens("\"RTMP\"").await?;
    let url = format!("rtmp://{address}/live/{stream}?token={PUBLISH_TOKEN}");
    PushClient::publish(&url, PushOptions { video, audio: true, aac: true }).await
}

/// Publishes pictures, Opus, or both.
async fn publish(
    server: &Server,
    stream: &str,
    video: Option<VideoSettings>,
    audio: bool,
) -> anyhow::Result<WhipClient> {
    server.publish(stream, PublishOptions { video, audio, ..PublishOptions::default() }).await
}

/// Where a stream is played.
fn index(server: &Server, stream: &str) -> String {
    server.url(&format!("/hls/{stream}/index.m3u8"))
}
