//! What several commands take.

use anyhow::Context;
use clap::Args;
use loadtest::codec::{Codec, Kind};
use loadtest::light::{LightOptions, Transport};
use loadtest::push::PushOptions;
use loadtest::source::{AnnexB, Recording, Rhythm, VideoSettings};
use loadtest::whip::{Like, Pacing, PublishOptions, Simulcast};
use std::path::{Path, PathBuf};
use std::str::FromStr;
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
    /// Frames from one keyframe to the next, or seconds, as in `2s`; 0 means only when asked.
    #[arg(long, default_value = "60")]
    gop: Gop,
    /// By WHIP: send several layers with these sizes and rates in kb/s, the largest first, instead
    /// of `--kbps`; for example `1280x720@2500,640x360@700,320x180@200`.
    #[arg(long, value_name = "LAYERS")]
    layers: Option<String>,
    /// Whose offer of layers: chromium, or obs (REMB only, no RTX, rids 0, 1, 2).
    #[arg(long, default_value = "chromium")]
    like: Like,
    /// Stops a layer, by its place from 0, for a time in seconds from the start: `0@10..20`, or for
    /// good: `0@10..`. May be given several times.
    #[arg(long = "drop-layer", value_name = "PLACE@FROM..TO")]
    breaks: Vec<Break>,
    /// Send the H.264 pictures of this file (Annex B, no B-frames) at `--fps`, again and again.
    /// Keyframes come where it has them, whoever asks. With `--layers` it is given once for each of
    /// them, in their order.
    #[arg(long)]
    annexb: Vec<PathBuf>,
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
    #[arg(long, visible_alias = "deaf")]
    ignore_pli: bool,
    /// Send over TCP.
    #[arg(long)]
    tcp: bool,
}

/// From one keyframe to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gop {
    Frames(u32),
    Seconds(f64),
}

impl FromStr for Gop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let gop = match text.strip_suffix('s') {
            Some(seconds) => {
                let seconds = seconds.parse().ok().filter(|it| (0.0..=600.0).contains(it));
                seconds.map(Self::Seconds)
            }
            None => text.parse().ok().map(Self::Frames),
        };
        gop.ok_or_else(|| format!("{text} is neither frames nor seconds"))
    }
}

/// A time in which a layer stands still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Break {
    /// Which layer.
    pub(crate) place: u8,
    /// From when to when, after the start.
    pub(crate) from: Duration,
    /// For good, where it does not end.
    pub(crate) to: Option<Duration>,
}

impl FromStr for Break {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (place, times) = text.split_once('@')?;
            let (from, to) = times.split_once("..")?;
            let time = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
            let to = if to.is_empty() { None } else { Some(time(to)?) };
            let from = time(from)?;
            let place = place.parse().ok().filter(|place| *place < 64)?;
            to.is_none_or(|to| from < to).then_some(Self { place, from, to })
        };
        read().ok_or_else(|| format!("{text} is no break such as 0@10..20"))
    }
}

impl Media {
    /// When layers stand still.
    pub(crate) fn breaks(&self) -> &[Break] {
        &self.breaks
    }

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
        let files = self.annexb.iter().map(|path| Ok(Arc::new(AnnexB::read(path)?)));
        let files: Vec<Arc<AnnexB>> = files.collect::<anyhow::Result<_>>()?;
        let recorded = self.recorded.as_deref().map(read_recording).transpose()?;
        anyhow::ensure!(
            recorded.is_none() || video == Some(Codec::H264),
            "a recording is sent as H.264"
        );
        let layers = self.layers.as_deref().map(|text| Simulcast::parse(text, self.like));
        let simulcast = layers.transpose().map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            simulcast.is_none() || video.is_some() && recorded.is_none(),
            "a recording has one layer"
        );
        let layers_len = simulcast.as_ref().map_or(1, |simulcast| simulcast.layers.len());
        anyhow::ensure!(
            files.is_empty() || files.len() == layers_len,
            "--annexb is needed once for each layer, that is {layers_len} times"
        );
        anyhow::ensure!(
            files.is_empty() || video == Some(Codec::H264),
            "what is read by --annexb is H.264"
        );
        anyhow::ensure!(
            simulcast.is_some() || self.breaks.is_empty(),
            "without --layers there is none to drop"
        );
        Ok(PublishOptions {
            simulcast,
            files,
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
            self.video == "h264" && self.annexb.is_empty() && self.recorded.is_none(),
            "by RTMP and SRT goes H.264 that is made up, and no file"
        );
        anyhow::ensure!(self.layers.is_none(), "layers go by WHIP");
        anyhow::ensure!(!self.tcp && self.pace_ms == 0, "--tcp and --pace-ms are of WHIP");
        let video = self.settings(Codec::H264);
        Ok(PushOptions { video, audio: !self.no_audio, aac: self.aac })
    }

    fn settings(&self, codec: Codec) -> VideoSettings {
        VideoSettings {
            codec,
            bitrate_bps: self.kbps * 1_000,
            frame_rate: self.fps,
            keyframe_interval_frames: self.keyframe_frames(),
            rhythm: self.rhythm,
            ..VideoSettings::default()
        }
    }

    /// Seconds from one keyframe to the next.
    pub(crate) fn keyframe_seconds(&self) -> f64 {
        f64::from(self.keyframe_frames()) / f64::from(self.fps.max(1))
    }

    fn keyframe_frames(&self) -> u32 {
        match self.gop {
            Gop::Frames(frames) => frames,
            Gop::Seconds(seconds) => (seconds * f64::from(self.fps)).round() as u32,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_frames_or_seconds_apart() {
        assert_eq!("60".parse(), Ok(Gop::Frames(60)));
        assert_eq!("2.5s".parse(), Ok(Gop::Seconds(2.5)));
        for text in ["", "s", "-1s", "2m", "1.5"] {
            assert!(text.parse::<Gop>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_layer_is_dropped_for_a_time_or_for_good() {
        let seconds = Duration::from_secs;
        let (from, to) = (seconds(10), Some(seconds(20)));
        assert_eq!("0@10..20".parse(), Ok(Break { place: 0, from, to }));
        assert_eq!("2@10..".parse(), Ok(Break { place: 2, from, to: None }));
        for text in ["", "0", "0@", "0@3", "0@3..2", "64@1..2", "0@-1..2", "0@1..x"] {
            assert!(text.parse::<Break>().is_err(), "{text}");
        }
    }
}
