//! What several commands take.

use anyhow::Context;
use clap::Args;
use loadtest::codec::{Codec, Kind};
use loadtest::light::{LightOptions, Transport};
use loadtest::push::PushOptions;
use loadtest::source::{AnnexB, Recording, Rhythm, VideoSettings};
use loadtest::whip::{Pacing, PublishOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where to, and how long.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The endpoint, for example `http://127.0.0.1:8080/whip/test`.
    pub(crate) url: String,
    /// The bearer token.
    #[arg(long, env = "MILLRACE_LOADTEST_TOKEN")]
    pub(crate) token: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is published.
#[derive(Debug, Args)]
pub(crate) struct Media {
    /// h264, h265, vp8, vp9, av1, or none for audio only.
    #[arg(long, default_value = "h264")]
    video: String,
    /// Video bitrate in kb/s.
    #[arg(long, default_value_t = 2_500)]
    kbps: u64,
    /// Frames per second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// How frames follow each other: even, ntsc (at 1000/1001 of the rate), or uneven, as of a
    /// browser's camera.
    #[arg(long, default_value = "even")]
    rhythm: Rhythm,
    /// By RTMP: send silence as AAC instead of Opus.
    #[arg(long)]
    aac: bool,
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
    /// Milliseconds over which the packets of a frame are spread; 0 sends them at once.
    #[arg(long, default_value_t = 0)]
    pace_ms: u64,
    /// Send H.264 with the sizes and times of this file, again and again, without regard to the
    /// options above but `--no-audio`. It is CSV as in tests/data/rtp: after lines that start with
    /// `#` and a line of names, `time_us,kind,payload_bytes,marker,timestamp,keyframe`.
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Send no keyframe but those that are due, whoever asks, as OBS does.
    #[arg(long)]
    ignore_pli: bool,
    /// Send over TCP.
    #[arg(long)]
    tcp: bool,
}

impl Media {
    /// What the publisher is told.
    pub(crate) fn publish_options(&self) -> anyhow::Result<PublishOptions> {
        let video = match self.video.as_str() {
            "none" => None,
            name => Some(video_codec(name)?),
        };
        let pacing = match self.pace_ms {
            0 => Pacing::Burst,
            spread => Pacing::Over(Duration::from_millis(spread)),
        };
        let transport =
            if self.tcp { Transport::Tcp { receive_buffer: None } } else { Transport::Udp };
        let file = self.annexb.as_deref().map(AnnexB::read).transpose()?;
        let recorded = self.recorded.as_deref().map(read_recording).transpose()?;
        anyhow::ensure!(
            recorded.is_none() || video == Some(Codec::H264),
            "a recording is sent as H.264"
        );
        Ok(PublishOptions {
            file: file.map(Arc::new),
            recorded,
            video: video.map(|codec| self.settings(codec)),
            audio: !self.no_audio,
            pacing,
            answer_keyframe_requests: !self.ignore_pli,
            light: LightOptions { transport, ..LightOptions::default() },
            ..PublishOptions::default()
        })
    }

    /// What a publisher is told whose protocol is not WHIP. It hears of no keyframe request, so
    /// `--ignore-pli` goes without saying.
    pub(crate) fn push_options(&self) -> anyhow::Result<PushOptions> {
        anyhow::ensure!(
            self.video == "h264" && self.annexb.is_none() && self.recorded.is_none(),
            "by RTMP and SRT goes H.264 that is made up, and no file"
        );
        anyhow::ensure!(!self.tcp && self.pace_ms == 0, "--tcp and --pace-ms are of WHIP");
        let video = self.settings(Codec::H264);
        Ok(PushOptions { video, audio: !self.no_audio, aac: self.aac })
    }

    fn settings(&self, codec: Codec) -> VideoSettings {
        VideoSettings {
            codec,
            bitrate_bps: self.kbps * 1_000,
            frame_rate: self.fps,
            keyframe_interval_frames: self.gop,
            rhythm: self.rhythm,
            ..VideoSettings::default()
        }
    }

    /// Seconds from one keyframe to the next.
    pub(crate) fn keyframe_seconds(&self) -> f64 {
        f64::from(self.gop) / f64::from(self.fps.max(1))
    }
}

fn read_recording(path: &Path) -> anyhow::Result<Recording> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(name)?;
    Recording::parse(&text).with_context(name)
}

fn video_codec(name: &str) -> anyhow::Result<Codec> {
    let codec: Codec = name.parse()?;
    anyhow::ensure!(codec.kind() == Kind::Video, "{codec} is no video codec");
    Ok(codec)
}
