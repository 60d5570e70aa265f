//! The real worker: sound goes in as ffmpeg encodes it, and comes out at the same time.
//!
//! - `clicks`: sound whose moments are known, encoded and decoded by ffmpeg

mod clicks;

use crate::harness::{SOON, Server};
use anyhow::Context as _;
use clicks::{CLICKS_MS, Encoded, RATE, decoded, encoded, found, recorded};
use loadtest::whip::PublishOptions;
use millrace::clock::Clock;
use millrace::config::Config;
use millrace::config::transcode::WorkerProgram;
use millrace::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use millrace::media::id::StreamName;
use millrace::transcode::{AudioWorker, Transcoder};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The time line of the tests begins here, so that what is taken for a start from zero shows.
const START: i64 = 12_345_678;
/// Hearing with a picture notices 20 ms; this is what is measured, and some room.
const OFF_MAX_MS: f64 = 5.0;

/// Workers with a folder of their own.
struct Workers {
    transcoder: Transcoder,
    folder: PathBuf,
}

impl Drop for Workers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Workers {
    fn new(clock: Clock) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("transcode-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
        std::fs::create_dir_all(&folder)?;
        let program = Path::new(env!("CARGO_BIN_EXE_millrace")).with_file_name(PROGRAM);
        anyhow::ensure!(program.exists(), "first: cargo build --package {PROGRAM}");
        let mut config = Config::default();
        config.transcode.worker = WorkerProgram::At(program);
        config.server.state_directory.clone_from(&folder);
        Ok(Self { transcoder: Transcoder::new(&config, clock), folder })
    }

    fn start(
        &self,
        from: &AudioCoding,
        to: AudioCoding,
    ) -> anyhow::Result<(AudioWorker, UnboundedReceiver<Frame>)> {
        let (out, frames) = unbounded_channel();
        let sink = move |frame| drop(out.send(frame));
        let worker = self.transcoder.audio(&StreamName::parse("a")?, from.clone(), to, sink)?;
        Ok((worker, frames))
    }

    /// The number of the running worker, which is a child of this process.
    fn process(&self) -> Option<i32> {
        let is_ours = |pid: &i32| {
            let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let (name, environment) = (read("comm"), read("environ"));
            let folder = self.folder.to_str().unwrap_or_default();
            let names_folder = String::from_utf8_lossy(&environment).contains(folder);
            name.starts_with(b"millrace-transc") && names_folder
        };
        let entries = std::fs::read_dir("/proc").ok()?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter().find(is_ours)
    }
}

const PROGRAM: &str = "millrace-transcode";

fn ms_of(ticks: i64) -> f64 {
    ticks as f64 * 1000.0 / f64::from(CLOCK_RATE)
}

fn ticks_of(ms: i64) -> i64 {
    ms * i64::from(CLOCK_RATE) / 1000
}

/// Frames of the worker until one is heard at `end` or later.
async fn until(frames: &mut UnboundedReceiver<Frame>, end: i64) -> anyhow::Result<Vec<Frame>> {
    let mut seen: Vec<Frame> = Vec::new();
    while seen.last().is_none_or(|last| last.present_ticks < end) {
        let next = tokio::time::timeout(SOON, frames.recv()).await;
        let next = next.with_context(|| format!("after {:?}", seen.last()))?;
        seen.push(next.context("the worker's sink was dropped")?);
    }
    Ok(seen)
}

/// Encodes clicks, transcodes them, decodes them, and says where they are, in milliseconds.
async fn through(sound: &Encoded, to: AudioCoding) -> anyhow::Result<Vec<f64>> {
    // A clock that stands: nothing is too old, however slow the machine is.
    let hands = millrace::clock::HandClock::starting_at(Clock::system().wall());
    let workers = Workers::new(hands.clock())?;
    let (mut worker, mut frames) = workers.start(&sound.coding, to)?;
    for frame in sound.frames(START, &hands.clock()) {
        worker.write(frame);
    }
    let last = CLICKS_MS.last().copied().unwrap_or_default() + 100;
    let made = until(&mut frames, START + ticks_of(last)).await?;
    let rising = made.windows(2).all(|two| {
        let step = two[1].present_ticks - two[0].present_ticks;
        (1_700..2_000).contains(&step)
    });
    anyhow::ensure!(rising, "there are seams");
    let samples = decoded(&made)?;
    found(&made, &samples, START)
}

/// How far the clicks are from where they were, at most.
fn assert_in_sync(name: &str, heard: &[f64]) {
    assert_eq!(heard.len(), CLICKS_MS.len(), "{name}: {heard:?}");
    let off = heard.iter().zip(CLICKS_MS).map(|(heard, click)| heard - click as f64);
    let off: Vec<f64> = off.collect();
    eprintln!("{name}: off by {off:.2?} ms");
    assert!(off.iter().all(|off| off.abs() < OFF_MAX_MS), "{name}: off by {off:.2?} ms");
}

#[tokio::test]
async fn aac_becomes_opus_in_lip_sync_at_every_rate_and_with_six_channels() -> anyhow::Result<()> {
    for (rate, channels) in [(48_000, 2), (44_100, 2), (48_000, 1), (48_000, 6), (22_050, 1)] {
        let sound = encoded("aac", rate, channels)?;
        let heard = through(&sound, AudioCoding::Opus).await?;
        assert_in_sync(&format!("AAC {rate} Hz, {channels} channels"), &heard);
    }
    Ok(())
}

#[tokio::test]
async fn he_aac_becomes_opus_in_lip_sync() -> anyhow::Result<()> {
    for (name, delay) in [("he_v1", 5_058), ("he_v2", 7_106)] {
        let heard = through(&recorded(name, delay)?, AudioCoding::Opus).await?;
        assert_in_sync(name, &heard);
    }
    Ok(())
}

#[tokio::test]
async fn what_television_sends_becomes_opus_in_lip_sync() -> anyhow::Result<()> {
    for (codec, rate) in
        [("mp2", 48_000), ("libmp3lame", 44_100), ("ac3", 48_000), ("libopus", 48_000)]
    {
        let sound = encoded(codec, rate, 2)?;
        let heard = through(&sound, AudioCoding::Opus).await?;
        assert_in_sync(codec, &heard);
    }
    Ok(())
}

#[tokio::test]
async fn opus_becomes_aac_in_lip_sync() -> anyhow::Result<()> {
    let sound = encoded("libopus", RATE, 2)?;
    let heard = through(&sound, AudioCoding::Aac([].into())).await?;
    assert_in_sync("Opus to AAC", &heard);
    Ok(())
}

#[tokio::test]
async fn sound_comes_out_when_the_next_frame_is_not_there_yet() -> anyhow::Result<()> {
    let hands = millrace::clock::HandClock::starting_at(Clock::system().wall());
    let workers = Workers::new(hands.clock())?;
    let sound = encoded("aac", RATE, 2)?;
    let (mut worker, mut frames) = workers.start(&sound.coding, AudioCoding::Opus)?;
    let all = sound.frames(START, &hands.clock());
    for count in [20, 21, 22, 23] {
        let from = if count == 20 { 0 } else { count - 1 };
        for frame in all.get(from..count).context("it is long enough")? {
            worker.write(frame.clone());
        }
        // A packet of 20 ms comes with the 5 ms after it, and holds what is heard 6.5 ms earlier.
        let end = all.get(count).context("it is long enough")?.present_ticks;
        until(&mut frames, end - ticks_of(20 + 25) - 585 + 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gap_in_the_sound_stays_one_and_what_follows_is_in_time() -> anyhow::Result<()> {
    let hands = millrace::clock::HandClock::starting_at(Clock::system().wall());
    let workers = Workers::new(hands.clock())?;
    let sound = encoded("aac", 44_100, 2)?;
    let (mut worker, mut frames) = workers.start(&sound.coding, AudioCoding::Opus)?;
    let gap = 700;
    for mut frame in sound.frames(START, &hands.clock()) {
        let ms = ms_of(frame.present_ticks - START);
        if ms > 750.0 {
            frame.present_ticks += ticks_of(gap);
            worker.write(frame);
        } else if ms < 690.0 {
            worker.write(frame);
        }
    }
    let last = CLICKS_MS.last().copied().unwrap_or_default() + 100 + gap;
    let made = until(&mut frames, START + ticks_of(last)).await?;
    let heard = found(&made, &decoded(&made)?, START)?;
    let expected = CLICKS_MS.map(|click| if click > 700 { click + gap } else { click });
    for (heard, expected) in heard.iter().zip(expected) {
        assert!((heard - expected as f64).abs() < OFF_MAX_MS, "{heard} is not {expected}");
    }
    assert_eq!(heard.len(), expected.len());
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_killed_costs_less_than_a_second_of_sound() -> anyhow::Result<()> {
    let clock = Clock::system();
    let workers = Workers::new(clock.clone())?;
    workers.transcoder.probed().await?;
    let sound = encoded("aac", RATE, 2)?;
    let (mut worker, mut frames) = workers.start(&sound.coding, AudioCoding::Opus)?;
    let all = sound.frames(START, &clock);
    let span = ticks_of(1024 * 1000) / i64::from(RATE);
    let mut tick = tokio::time::interval(Duration::from_secs(1) * 1024 / RATE);
    let mut killed = None;
    let mut heard: Vec<Frame> = Vec::new();
    for number in 0_i64.. {
        tick.tick().await;
        let mut frame = all[number as usize % all.len()].clone();
        frame.present_ticks = START + number * span;
        frame.arrival = clock.now();
        worker.write(frame);
        while let Ok(frame) = frames.try_recv() {
            heard.push(frame);
        }
        let is_flowing = heard.len() > 20;
        if killed.is_none() && is_flowing {
            let process = workers.process().context("a running worker")?;
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(process),
                nix::sys::signal::Signal::SIGKILL,
            )?;
            killed = Some(heard.len());
        }
        if killed.is_some_and(|at| heard.len() > at + 50) {
            break;
        }
        anyhow::ensure!(number < 2_000, "it was not repaired: {:?}", worker.fault());
    }
    let gaps: Vec<i64> = heard
        .windows(2)
        .map(|two| two[1].present_ticks - two[0].present_ticks)
        .filter(|step| *step != 1_800)
        .collect();
    eprintln!("gaps of {gaps:?} ticks");
    let lost: i64 = gaps.iter().map(|step| step - 1_800).sum();
    assert!((0..i64::from(CLOCK_RATE)).contains(&lost), "{lost} ticks are lost: {gaps:?}");
    assert_eq!(workers.transcoder.counts().restarts, 1);
    assert_eq!(worker.fault(), None);
    Ok(())
}

#[tokio::test]
async fn sound_that_cannot_be_read_is_told_and_does_not_end_the_server() -> anyhow::Result<()> {
    let clock = Clock::system();
    let workers = Workers::new(clock.clone())?;
    let (mut worker, _frames) = workers.start(&AudioCoding::Aac([].into()), AudioCoding::Opus)?;
    let sound = encoded("aac", RATE, 2)?;
    let told = async {
        loop {
            for mut frame in sound.frames(START, &clock) {
                frame.coding = Coding::Audio(AudioCoding::Aac([].into()));
                worker.write(frame);
                tokio::task::yield_now().await;
                if let Some(fault) = worker.fault() {
                    return fault;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let fault = tokio::time::timeout(SOON, told).await?;
    assert!(fault.contains("AAC without its config"), "{fault}");
    Ok(())
}

#[tokio::test]
async fn without_the_worker_the_server_runs_and_says_what_is_off() -> anyhow::Result<()> {
    let options = [("transcode.worker", "/nowhere/millrace-transcode")];
    let server = Server::with(&options).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let is_told = |text: &String| {
        let note = text.contains("play without sound");
        (note && text.contains("there is no /nowhere/millrace-transcode")).then_some(())
    };
    server.output().wait(SOON, "the note at the start", is_told).await?;
    Ok(())
}

#[test]
fn the_server_itself_has_no_gstreamer_in_it() -> anyhow::Result<()> {
    let libraries = |program: &Path| -> anyhow::Result<String> {
        let output = std::process::Command::new("ldd").arg(program).output()?;
        anyhow::ensure!(output.status.success(), "ldd {program:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let server = Path::new(env!("CARGO_BIN_EXE_millrace"));
    let linked = libraries(server)?;
    assert!(linked.contains("libc.so") && !linked.contains("libgst"), "{linked}");
    assert!(libraries(&server.with_file_name(PROGRAM))?.contains("libgstreamer-1.0"));
    Ok(())
}
