//! Sound whose moments are known: clicks in silence, encoded and decoded by ffmpeg.

use anyhow::Context as _;
use bytes::{Buf as _, Bytes};
use millrace::clock::Clock;
use millrace::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// When the clicks are heard.
pub(super) const CLICKS_MS: [i64; 4] = [300, 650, 1_200, 1_900];
/// How long the sound lasts.
const LENGTH_MS: i64 = 2_200;
/// What Opus has, and AAC too where nothing else is said.
pub(super) const RATE: u32 = 48_000;

/// Encoded sound.
pub(super) struct Encoded {
    pub(super) coding: AudioCoding,
    /// The time of each packet in seconds, and its bytes.
    packets: Vec<(f64, Bytes)>,
}

impl Encoded {
    /// Its packets as a way in would hand them on, the sound's beginning at `start`.
    pub(super) fn frames(&self, start: i64, clock: &Clock) -> Vec<Frame> {
        let frame = |(time, data): &(f64, Bytes)| {
            let ticks = start + (time * f64::from(CLOCK_RATE)).round() as i64;
            Frame {
                coding: Coding::Audio(self.coding.clone()),
                decode_ticks: ticks,
                present_ticks: ticks,
                arrival: clock.now(),
                data: data.clone(),
            }
        };
        self.packets.iter().map(frame).collect()
    }
}

/// Runs ffmpeg with some bytes as its input; what it gave.
fn ffmpeg(arguments: &str, input: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("ffmpeg")?;
    let mut stdin = child.stdin.take().context("its input")?;
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    // It may have had enough before the end.
    drop(writer.join());
    anyhow::ensure!(output.status.success(), "ffmpeg {arguments}");
    Ok(output.stdout)
}

/// Clicks in silence.
fn clicks(rate: u32, channels: usize) -> Vec<u8> {
    let at = |ms: i64| ms as usize * rate as usize / 1000;
    let mut samples = vec![0_i16; at(LENGTH_MS) * channels];
    for click in CLICKS_MS {
        // Half a millisecond, its middle at the time.
        let half = rate as usize / 4000;
        for sample in at(click) - half..=at(click) + half {
            samples[sample * channels..(sample + 1) * channels].fill(20_000);
        }
    }
    samples.into_iter().flat_map(i16::to_le_bytes).collect()
}

/// The clicks, encoded.
pub(super) fn encoded(codec: &str, rate: u32, channels: usize) -> anyhow::Result<Encoded> {
    let run = |muxer| {
        let arguments = format!(
            "-f s16le -ar {rate} -ac {channels} -i pipe:0 -map 0:a -c:a {codec} -flags +bitexact \
             -b:a 128k -f {muxer} pipe:1"
        );
        ffmpeg(&arguments, clicks(rate, channels))
    };
    // One muxer writes the packets, the other one line for each: stream, DTS, PTS, duration, size.
    let all = Bytes::from(run("data")?);
    let lines = String::from_utf8(run("framecrc")?)?;
    let unit = lines.lines().find_map(|line| line.strip_prefix("#tb 0: 1/")).context("a unit")?;
    let unit: f64 = unit.parse()?;
    let mut packets = Vec::new();
    let mut rest = all;
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [_, _, pts, _, size, ..] = fields[..] else { anyhow::bail!("{line}") };
        let size: usize = size.parse()?;
        anyhow::ensure!(size <= rest.len(), "the two muxers differ");
        packets.push((pts.parse::<f64>()? / unit, rest.split_to(size)));
    }
    anyhow::ensure!(rest.is_empty() && packets.len() > 10, "the two muxers differ");
    let coding = match codec {
        "aac" => AudioCoding::Aac(aac_config(rate, channels).into()),
        "ac3" => AudioCoding::Ac3,
        "libopus" => AudioCoding::Opus,
        _ => AudioCoding::Mpeg,
    };
    Ok(Encoded { coding, packets })
}

/// The same clicks in HE-AAC at 48 kHz, which ffmpeg does not encode: made by libfdk-aac 2.0 (the
/// crate fdk-aac), 48 kb/s (v1) and 32 kb/s (v2). Each file holds the config and the frames, each
/// after its length in two bytes; `delay` is what the encoder said, in samples.
pub(super) fn recorded(name: &str, delay: i32) -> anyhow::Result<Encoded> {
    const FRAME: i32 = 2_048;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/aac").join(name);
    let mut rest = Bytes::from(std::fs::read(path)?);
    let mut next = move || {
        let length = (rest.len() >= 2).then(|| rest.get_u16())?;
        Some(rest.split_to(usize::from(length)))
    };
    let config = next().context("its config")?;
    let frames = (0..).zip(std::iter::from_fn(next));
    let time = |number: i32| f64::from(number * FRAME - delay) / f64::from(RATE);
    let packets = frames.map(|(number, data)| (time(number), data)).collect();
    Ok(Encoded { coding: AudioCoding::Aac(config.as_ref().into()), packets })
}

/// The `AudioSpecificConfig` of AAC-LC (ISO/IEC 14496-3 §1.6.2.1).
fn aac_config(rate: u32, channels: usize) -> [u8; 2] {
    let index: u16 = match rate {
        48_000 => 3,
        44_100 => 4,
        _ => 7,
    };
    (2 << 11 | index << 7 | (channels as u16) << 3).to_be_bytes()
}

/// What the worker made, as samples of one channel.
pub(super) fn decoded(frames: &[Frame]) -> anyhow::Result<Vec<i16>> {
    let mut arguments = String::new();
    let first = frames.first().context("it made something")?;
    let input = match &first.coding {
        Coding::Audio(AudioCoding::Opus) => {
            write!(arguments, "-f ogg")?;
            ogg(frames)
        }
        Coding::Audio(AudioCoding::Aac(config)) => {
            write!(arguments, "-f aac")?;
            adts(frames, config)?
        }
        other => anyhow::bail!("{other} was not asked for"),
    };
    write!(arguments, " -i pipe:0 -f s16le -ac 1 -ar {RATE} pipe:1")?;
    let bytes = ffmpeg(&arguments, input)?;
    let samples = bytes.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]]));
    Ok(samples.collect())
}

/// AAC with the headers that players find it by (ISO/IEC 13818-7 §6.2).
fn adts(frames: &[Frame], config: &Arc<[u8]>) -> anyhow::Result<Vec<u8>> {
    let [a, b, ..] = config[..] else { anyhow::bail!("a config of {config:?}") };
    let config = u16::from_be_bytes([a, b]);
    let (object, index, channels) = (config >> 11, config >> 7 & 15, config >> 3 & 15);
    anyhow::ensure!((object, index, channels) == (2, 3, 2), "AAC-LC, 48 kHz, stereo: {config:x}");
    let mut bytes = Vec::new();
    for frame in frames {
        let length = frame.data.len() as u64 + 7;
        let fixed: u64 = 0xfff1 << 40 | 1 << 38 | 3 << 34 | 2 << 30;
        let header = fixed | length << 13 | 0x7ff << 2;
        bytes.extend(&header.to_be_bytes()[1..]);
        bytes.extend(&frame.data);
    }
    Ok(bytes)
}

/// Opus in Ogg (RFC 3533, RFC 7845), a packet per page, nothing to be skipped.
fn ogg(frames: &[Frame]) -> Vec<u8> {
    let head = [&b"OpusHead\x01\x02\x00\x00"[..], &RATE.to_le_bytes(), &[0, 0, 0]].concat();
    let tags = b"OpusTags\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let headers = [(head, 0), (tags, 0)].into_iter();
    let packets = (1..).zip(frames).map(|(number, it)| (it.data.to_vec(), number * 960_u64));
    let mut file = Vec::new();
    for (number, (packet, position)) in (0_u32..).zip(headers.chain(packets)) {
        let mut page = b"OggS\x00".to_vec();
        page.push(if number == 0 { 2 } else { 0 });
        page.extend(position.to_le_bytes());
        page.extend(7_u32.to_le_bytes());
        page.extend(number.to_le_bytes());
        page.extend([0; 4]);
        page.push((packet.len() / 255 + 1) as u8);
        page.extend(std::iter::repeat_n(255, packet.len() / 255));
        page.push((packet.len() % 255) as u8);
        page.extend(&packet);
        let checksum = page.iter().fold(0_u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
                sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
            })
        });
        page[22..26].copy_from_slice(&checksum.to_le_bytes());
        file.extend(page);
    }
    file
}

/// When the clicks are heard, in milliseconds since `start`, by the time of the packet in which
/// each of them is.
pub(super) fn found(frames: &[Frame], samples: &[i16], start: i64) -> anyhow::Result<Vec<f64>> {
    let packet = match first_coding(frames)? {
        AudioCoding::Opus => 960,
        _ => 1024,
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = samples[at..].iter().position(|sample| sample.abs() > 5_000) {
        let begin = at + begin;
        at = samples.len().min(begin + RATE as usize / 10);
        // Its middle is the middle of what is loud.
        let loud = (begin..at).filter(|&sample| samples[sample].abs() > 5_000);
        let (sum, count) = loud.fold((0, 0), |(sum, count), it| (sum + it, count + 1));
        let middle = sum as f64 / f64::from(count);
        let number = middle as usize / packet;
        let ticks = frames.get(number).context("a packet for each sample")?.present_ticks - start;
        let inside = (middle - (number * packet) as f64) / f64::from(RATE);
        found.push(1000.0 * (ticks as f64 / f64::from(CLOCK_RATE) + inside));
    }
    Ok(found)
}

fn first_coding(frames: &[Frame]) -> anyhow::Result<&AudioCoding> {
    match &frames.first().context("frames")?.coding {
        Coding::Audio(coding) => Ok(coding),
        Coding::Video(codec) => anyhow::bail!("{codec} is no sound"),
    }
}
