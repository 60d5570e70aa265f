//! How far picture and sound are apart for a viewer: of a stream that flashes and beeps at the
//! same moments, what came is decoded by ffmpeg, and the moments compared by RTP timestamps and
//! sender reports (RFC 3550 §6.4.1), as browsers do it.
//!
//! - `annexb`: RTP payloads -> a file of H.264
//! - `ogg`: RTP payloads -> a file of Opus

mod annexb;
mod ogg;

use crate::codec::Codec;
use crate::light::Answer;
use crate::whep::{Received, ViewLog};
use anyhow::Context;
use rtc_rtcp::sender_report::SenderReport;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The lavfi source of ffmpeg that a stream to be measured is made of: once a second a corner of
/// the picture is white for a tenth, and there is a tone meanwhile.
pub const SOURCE: &str = "testsrc2=size=640x360:rate=30,\
    drawbox=x=0:y=0:w=96:h=96:t=fill:color=black,\
    drawbox=x=0:y=0:w=96:h=96:t=fill:color=white:enable='lt(mod(t,1),0.1)'[out0];\
    aevalsrc='if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0)':s=48000:c=mono[out1]";

/// A newcomer's first pictures have times that are pressed together; they are not looked at.
const CATCH_UP: Duration = Duration::from_secs(4);
/// Moments further apart do not belong together.
const APART_MAX: f64 = 0.5;
/// Where dark ends, of 255; and silence, of 32,767.
const BRIGHT: u8 = 128;
const LOUD: u16 = 4_000;
/// Samples of silence before a tone begins.
const SILENCE: usize = 9_600;
const VIDEO_RATE: f64 = 90_000.0;
const AUDIO_RATE: f64 = 48_000.0;

/// How far sound comes after its picture; before it where it is negative.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LipSync {
    /// Flashes that had their beep.
    pub pairs: usize,
    /// The middle one of all, in milliseconds.
    pub median_ms: f64,
    /// The least.
    pub min_ms: f64,
    /// The most.
    pub max_ms: f64,
}

impl fmt::Display for LipSync {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pairs, median_ms, min_ms, max_ms } = self;
        write!(
            out,
            "sound {median_ms:+.1} ms after its picture ({min_ms:+.1} to {max_ms:+.1}, \
             {pairs} pairs)"
        )
    }
}

/// Compares what a viewer kept.
///
/// # Errors
///
/// When there is too little of something, or ffmpeg does not decode it.
pub async fn measure(log: &ViewLog, answer: &Answer) -> anyhow::Result<LipSync> {
    let track = |codec| Track::of(log, answer, codec).with_context(|| format!("no {codec}"));
    let (video, audio) = (track(Codec::H264)?, track(Codec::Opus)?);
    let (flashes, beeps) = (flashes(&video).await?, beeps(&audio).await?);
    compare(&flashes, &beeps).with_context(|| {
        format!("no pair among {} flashes and {} beeps", flashes.len(), beeps.len())
    })
}

/// One RTP stream, in order, from where the viewer had caught up.
#[derive(Debug)]
struct Track {
    packets: Vec<rtp::Packet>,
    /// A moment by the sender's clock, in seconds, and the same in RTP time.
    reference: (f64, u32),
}

impl Track {
    fn of(log: &ViewLog, answer: &Answer, codec: Codec) -> Option<Self> {
        let number = answer.payload_type(codec)?;
        let first = log.received.front()?.at;
        let settled = |it: &&Received| it.at.duration_since(first) >= CATCH_UP;
        let mut packets: Vec<rtp::Packet> =
            log.of_payload_type(number).filter(settled).map(|it| it.packet.clone()).collect();
        let start = packets.first()?.header.sequence_number;
        let place = |it: &rtp::Packet| it.header.sequence_number.wrapping_sub(start).cast_signed();
        packets.sort_by_key(|it| i64::from(place(it)));
        packets.dedup_by_key(|it| it.header.sequence_number);
        let ssrc = packets.first()?.header.ssrc;
        let report = log.rtcp_of::<SenderReport>().filter(|it| it.ssrc == ssrc).last()?;
        // Seconds and fractions of 2^-32 (RFC 5905 §6).
        let seconds = report.ntp_time as f64 / f64::from(1_u32 << 16) / f64::from(1_u32 << 16);
        Some(Self { packets, reference: (seconds, report.rtp_time) })
    }

    /// The sender's clock at an RTP time.
    fn clock(&self, timestamp: u32, rate: f64) -> f64 {
        let (seconds, reference) = self.reference;
        seconds + f64::from(timestamp.wrapping_sub(reference).cast_signed()) / rate
    }
}

/// When the picture became bright.
async fn flashes(video: &Track) -> anyhow::Result<Vec<f64>> {
    let (stream, times) = annexb::write(&video.packets)?;
    let arguments = "-f h264 -i pipe:0 -vf crop=64:64:16:16,scale=1:1:flags=area \
        -pix_fmt gray -fps_mode passthrough -f rawvideo pipe:1";
    let pictures = decode(arguments, stream).await?;
    anyhow::ensure!(
        pictures.len() == times.len(),
        "{} pictures came out of {}",
        pictures.len(),
        times.len()
    );
    let is_bright =
        |pair: &[u8]| matches!(*pair, [dark, bright] if dark < BRIGHT && bright >= BRIGHT);
    let steps = pictures.windows(2).zip(times.iter().skip(1));
    Ok(steps
        .filter(|(pair, _)| is_bright(pair))
        .map(|(_, time)| video.clock(*time, VIDEO_RATE))
        .collect())
}

/// When a tone began.
async fn beeps(audio: &Track) -> anyhow::Result<Vec<f64>> {
    let (stream, start) = ogg::write(&audio.packets)?;
    let bytes = decode("-f ogg -i pipe:0 -ac 1 -ar 48000 -f s16le pipe:1", stream).await?;
    let samples = bytes.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair));
    let (mut onsets, mut quiet) = (Vec::new(), 0);
    for (at, sample) in samples.enumerate() {
        if sample.unsigned_abs() < LOUD {
            quiet += 1;
            continue;
        }
        if quiet >= SILENCE {
            let time = start.wrapping_add(at as u32);
            onsets.push(audio.clock(time, AUDIO_RATE));
        }
        quiet = 0;
    }
    Ok(onsets)
}

/// Each flash with the beep next to it.
fn compare(flashes: &[f64], beeps: &[f64]) -> Option<LipSync> {
    let nearest = |flash: &f64| {
        let apart = beeps.iter().map(|beep| beep - flash);
        apart.min_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|it| it.abs() <= APART_MAX)
    };
    let mut apart: Vec<f64> = flashes.iter().filter_map(nearest).map(|it| it * 1e3).collect();
    apart.sort_by(f64::total_cmp);
    Some(LipSync {
        pairs: apart.len(),
        median_ms: *apart.get(apart.len() / 2)?,
        min_ms: *apart.first()?,
        max_ms: *apart.last()?,
    })
}

/// What ffmpeg makes of a stream.
async fn decode(arguments: &str, stream: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("ffmpeg is needed")?;
    let mut input = ffmpeg.stdin.take().context("a pipe")?;
    let mut output = ffmpeg.stdout.take().context("a pipe")?;
    let mut decoded = Vec::new();
    let write = async move {
        input.write_all(&stream).await?;
        input.shutdown().await
    };
    let (written, read) = tokio::join!(write, output.read_to_end(&mut decoded));
    written.and(read)?;
    anyhow::ensure!(ffmpeg.wait().await?.success(), "ffmpeg could not decode what came");
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flash_is_compared_with_the_beep_next_to_it() {
        let found = compare(&[10.0, 11.0, 12.0, 13.0], &[9.2, 10.01, 10.98, 12.03]);
        let found = found.expect("there are pairs");
        assert_eq!(found.pairs, 3);
        assert!((found.median_ms - 10.0).abs() < 0.001, "{found}");
        assert!((found.min_ms + 20.0).abs() < 0.001 && (found.max_ms - 30.0).abs() < 0.001);
        assert_eq!(compare(&[1.0], &[]), None);
    }

    #[test]
    fn a_sender_report_says_when_an_rtp_time_was_over_the_wrap() {
        let track = Track { packets: Vec::new(), reference: (100.0, u32::MAX - 44_999) };
        assert!((track.clock(45_000, VIDEO_RATE) - 101.0).abs() < 1e-6);
        assert!((track.clock(u32::MAX - 89_999, VIDEO_RATE) - 99.5).abs() < 1e-6);
    }
}
