//! Workers that are watched: short shell scripts in the place of the real one, whose standard input
//! is the socket pair.

use super::*;
use crate::clock::HandClock;
use crate::media::frame::Coding;
use crate::media::time::WallTime;
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

/// How long anything may take that should take no time.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// Ready; Opus follows; a frame of one byte at 90,000 ticks.
const ONE_FRAME: &str = r"printf '\0\0\0\001R\0\0\0\002TO\0\0\0\012F\0\0\0\0\0\001\137\220x' >&0";

/// A folder with a worker in it; gone with the test.
pub(super) struct Fake(pub(super) PathBuf);

impl Fake {
    /// A worker that runs this script; asked what it can do, it can all that is usual.
    pub(super) fn new(script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("millrace-fake-{}-{number}", std::process::id());
        let fake = Self(std::env::temp_dir().join(folder));
        fs::create_dir_all(&fake.0).expect("a folder");
        let probe = "printf 'decode aac a\\ndecode opus b\\nencode opus c\\ndecode h264 d\\n'";
        let text =
            format!("#!/bin/sh\nif [ \"$1\" = --probe ]; then {probe}; exit; fi\n{script}\n");
        // Written under another name: what another test's fork holds open cannot be run.
        fs::write(fake.0.join("new"), text).expect("a file");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fake.0.join("new"), mode).expect("it is ours");
        fs::rename(fake.0.join("new"), fake.program()).expect("the same folder");
        fake
    }

    fn program(&self) -> PathBuf {
        self.0.join(PROGRAM)
    }

    pub(super) fn transcoder(&self, clock: Clock) -> Transcoder {
        let mut config = Config::default();
        config.transcode.worker = WorkerProgram::At(self.program());
        config.transcode.workers_max = 2;
        config.transcode.pictures_max = 2;
        config.server.state_directory.clone_from(&self.0);
        Transcoder::new(&config, clock)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn stream() -> StreamName {
    StreamName::parse("live").expect("a name")
}

fn aac() -> AudioCoding {
    AudioCoding::Aac([0x12, 0x10].into())
}

fn frame(ticks: i64, clock: &Clock) -> Frame {
    Frame {
        coding: Coding::Audio(aac()),
        decode_ticks: ticks,
        present_ticks: ticks,
        arrival: clock.now(),
        data: Bytes::from_static(&[0x21; 300]),
    }
}

/// Starts a worker, and where its frames come out.
fn start(transcoder: &Transcoder) -> (AudioWorker, Receiver<Frame>) {
    let (out, frames) = channel(100);
    let sink = move |frame| drop(out.try_send(frame));
    let worker = transcoder.audio(&stream(), aac(), AudioCoding::Opus, sink);
    (worker.expect("it can be made"), frames)
}

/// Looks again and again until it is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let seen = tokio::time::timeout(SOON, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "{what}");
}

async fn next(frames: &mut Receiver<Frame>) -> Frame {
    tokio::time::timeout(SOON, frames.recv()).await.expect("soon").expect("the sink is there")
}

#[tokio::test]
async fn what_a_worker_makes_comes_out_as_frames() {
    let fake = Fake::new(&format!("{ONE_FRAME}; exec cat >/dev/null"));
    let clock = Clock::system();
    let transcoder = fake.transcoder(clock.clone());
    let able = transcoder.probed().await.expect("it answers");
    assert_eq!(able.to_string(), "decode opus, decode aac, encode opus, decode h264");
    let (mut worker, mut frames) = start(&transcoder);
    worker.write(frame(90_000, &clock));
    let made = next(&mut frames).await;
    assert_eq!(made.coding, Coding::Audio(AudioCoding::Opus));
    assert_eq!((made.present_ticks, &made.data[..]), (90_000, &b"x"[..]));
    assert_eq!(worker.fault(), None);
}

#[tokio::test]
async fn what_a_worker_makes_arrives_when_it_is_made() {
    // It is ready, and gives its frame once it has got one.
    let waits = ONE_FRAME.replacen('R', "R' >&0; head -c 300 >/dev/null; printf '", 1);
    let fake = Fake::new(&format!("{waits}; exec cat >/dev/null"));
    let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::from_secs(1)));
    let clock = hands.clock();
    let (mut worker, mut frames) = start(&fake.transcoder(clock.clone()));
    let early = frame(90_000, &clock);
    hands.advance(Duration::from_millis(240));
    worker.write(early);
    assert_eq!(
        next(&mut frames).await.arrival,
        clock.now(),
        "the worker's time is not the server's"
    );
}

#[tokio::test]
async fn a_worker_that_dies_is_followed_by_another_one() {
    let fake = Fake::new(&format!("{ONE_FRAME}; echo it hurts >&2; exit 3"));
    let transcoder = fake.transcoder(Clock::system());
    let (worker, mut frames) = start(&transcoder);
    for _ in 0..3 {
        assert_eq!(next(&mut frames).await.present_ticks, 90_000);
    }
    assert!(transcoder.counts().restarts >= 2);
    until("its last words are known", || worker.fault().as_deref() == Some("it hurts")).await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_killed_and_followed_by_another_one() {
    let ready = "printf '\\0\\0\\0\\001R' >&0; head -c 900 >/dev/null";
    let fake = Fake::new(&format!("{ready}; : >\"$GST_REGISTRY\"; exec sleep 1000"));
    let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::from_secs(1)));
    let clock = hands.clock();
    let transcoder = fake.transcoder(clock.clone());
    let (mut worker, _frames) = start(&transcoder);
    for ticks in 0..3 {
        worker.write(frame(ticks * 90_000, &clock));
    }
    // The clock stands until the frames have been handed over, and nothing is overdue.
    let taken = fake.0.join(REGISTRY);
    until("the frames are taken", || taken.exists()).await;
    until("the second worker runs", || {
        // Time passes, for the supervisor as for everybody.
        hands.advance(Duration::from_millis(100));
        worker.write(frame(4 * 90_000, &clock));
        transcoder.counts().restarts > 0
    })
    .await;
    let fault = worker.fault().expect("no worker has given anything yet");
    assert!(fault.contains("gives none"), "{fault}");
}

#[tokio::test]
async fn a_worker_that_is_no_longer_needed_ends() {
    let fake = Fake::new("echo $$ >\"$GST_REGISTRY.pid\"; exec sleep 1000");
    let transcoder = fake.transcoder(Clock::system());
    let (worker, _frames) = start(&transcoder);
    let told = fake.0.join(format!("{REGISTRY}.pid"));
    let pid = || fs::read_to_string(&told).ok()?.trim().parse::<u32>().ok();
    until("it runs", || pid().is_some()).await;
    assert_eq!(transcoder.counts().workers, 1);
    drop(worker);
    until("its place is free again", || transcoder.counts().workers == 0).await;
    let process = format!("/proc/{}", pid().unwrap_or_default());
    until("it is gone", || !fs::exists(&process).unwrap_or(true)).await;
}

#[tokio::test]
async fn more_workers_than_may_run_are_refused_with_the_option() {
    let fake = Fake::new("exec cat >/dev/null");
    let transcoder = fake.transcoder(Clock::system());
    let running = [start(&transcoder), start(&transcoder)];
    let refused = transcoder.audio(&stream(), aac(), AudioCoding::Opus, drop);
    let refused = refused.expect_err("two may run").to_string();
    assert!(refused.contains("transcode.workers_max"), "{refused}");
    drop(running);
    until("the places are free again", || transcoder.counts().workers == 0).await;
    assert!(transcoder.audio(&stream(), aac(), AudioCoding::Opus, drop).is_ok());
}

#[tokio::test]
async fn without_a_worker_all_is_refused_with_what_to_do() {
    let fake = Fake::new("exit 1");
    fs::remove_file(fake.program()).expect("it is there");
    let transcoder = fake.transcoder(Clock::system());
    let reason = transcoder.probed().await.expect_err("there is none");
    assert_eq!(reason, Unavailable::NoWorker(fake.program()));
    assert_eq!(transcoder.available(&aac(), &AudioCoding::Opus), Err(reason.clone()));
    assert!(reason.to_string().contains("make run"), "{reason}");
    assert_eq!(transcoder.missing().await, [reason]);
    let mut config = Config::default();
    config.transcode.worker = WorkerProgram::Off;
    let transcoder = Transcoder::new(&config, Clock::system());
    assert_eq!(transcoder.probed().await, Err(Unavailable::Off));
}

#[tokio::test]
async fn a_worker_that_lacks_a_library_is_told_with_what_to_install() {
    let fake = Fake::new("exit 1");
    let script = "#!/bin/sh\necho 'libgstreamer-1.0.so.0: cannot open' >&2; exit 127\n";
    fs::write(fake.0.join("broken"), script).expect("a file");
    fs::set_permissions(fake.0.join("broken"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::rename(fake.0.join("broken"), fake.program()).expect("the same folder");
    let reason = fake.transcoder(Clock::system()).probed().await.expect_err("it fails");
    let text = reason.to_string();
    assert!(text.contains("libgstreamer-1.0.so.0") && text.contains("apt-get install"), "{text}");
}

#[tokio::test]
async fn a_worker_that_may_not_make_code_is_asked_again_without() {
    let fake = Fake::new("exit 1");
    let script = "#!/bin/sh\n[ \"$ORC_CODE\" = backup ] || kill -ABRT $$\necho decode aac a\n";
    fs::write(fake.0.join("picky"), script).expect("a file");
    fs::set_permissions(fake.0.join("picky"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::rename(fake.0.join("picky"), fake.program()).expect("the same folder");
    let able = fake.transcoder(Clock::system()).probed().await.expect("it answers");
    assert_eq!(able.to_string(), "decode aac");
}

#[tokio::test]
async fn what_the_worker_cannot_do_is_refused_and_what_nobody_makes_too() {
    let fake = Fake::new("exit 1");
    let transcoder = fake.transcoder(Clock::system());
    transcoder.probed().await.expect("it answers");
    assert_eq!(transcoder.available(&aac(), &AudioCoding::Opus), Ok(()));
    let lacking = transcoder.available(&AudioCoding::Ac3, &AudioCoding::Opus);
    assert!(matches!(lacking, Err(Unavailable::Lacks { .. })), "{lacking:?}");
    let never = transcoder.available(&aac(), &AudioCoding::Mpeg);
    assert!(matches!(never, Err(Unavailable::NeverMade(_))), "{never:?}");
    assert_eq!(transcoder.missing().await.len(), 3);
}

#[tokio::test]
async fn a_worker_gets_nothing_of_the_servers_secrets() {
    let fake = Fake::new("env >\"$GST_REGISTRY.env\"; mv \"$GST_REGISTRY.env\" \"$GST_REGISTRY\"");
    let transcoder = fake.transcoder(Clock::system());
    let (_worker, _frames) = start(&transcoder);
    let told = fake.0.join(REGISTRY);
    until("it has told", || told.exists()).await;
    let environment = fs::read_to_string(told).expect("it is there");
    let names = environment.lines().filter_map(|line| line.split('=').next());
    let allowed =
        ["PATH", "HOME", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "PWD", "_", "SHLVL", "ORC_CODE"];
    for name in names {
        assert!(allowed.contains(&name) || name.starts_with("GST_"), "{name}");
    }
}
