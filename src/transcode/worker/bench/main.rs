//! What a ladder costs, and how much later its layers are: 1080p30 into 720p, 480p and 360p.
//!
//! `cargo bench -p millrace-transcode`. First the processor time per frame, against ffmpeg that
//! makes the same of the same; then frames at the rate at which they come, and how long each layer
//! takes.

#![allow(clippy::print_stdout)]

#[path = "../../ipc/mod.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is public in the server; sound is in it too")]
mod ipc;
#[path = "../tests/picture/source.rs"]
#[expect(dead_code, reason = "tests look closer")]
mod source;
#[path = "../tests/picture/talk.rs"]
#[expect(dead_code, reason = "tests look closer")]
mod talk;

use gstreamer::get_timestamp;
use ipc::Wire as _;
use ipc::picture::{Codec, Order, Report};
use source::{Frame, frames};
use std::collections::HashMap;
use std::io::Write as _;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;
use talk::{Talk, layer};

/// Ten seconds.
const FRAMES: usize = 300;
/// Between two of them.
const STEP: Duration = Duration::from_micros(33_333);
const LAYERS: [((u16, u16), u32); 3] =
    [((1280, 720), 2_500_000), ((854, 480), 1_000_000), ((640, 360), 500_000)];
const NUMBERS: [u8; 3] = [0, 1, 2];
/// The source: what a streaming program sends.
const X264: &str =
    "x264enc tune=zerolatency speed-preset=veryfast bitrate=5000 key-int-max=60 threads=1";

fn main() {
    println!("{FRAMES} frames of 1080p30 at 5 Mb/s; layers 720p 2.5, 480p 1, 360p 0.5 Mb/s");
    let source = frames(Codec::H264, X264, FRAMES, (1920, 1080));
    let file = std::env::temp_dir().join(format!("millrace-ladder-{}.h264", std::process::id()));
    std::fs::write(&file, with_start_codes(&source)).expect("room for a file");
    // Both in turn, since the machine is not the same at all times.
    for round in 1..=3 {
        let ours = worker_time(&source);
        let theirs = ffmpeg_time(&file.to_string_lossy());
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "round {round}: worker {:.2} ms a frame, ffmpeg {:.2}, ratio {ratio:.2}",
            per_frame(ours),
            per_frame(theirs)
        );
    }
    // Whoever cannot remove it leaves it to the system.
    let _ = std::fs::remove_file(file);
    latencies(&source);
}

fn per_frame(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0 / FRAMES as f64
}

fn started() -> Talk {
    let mut talk = Talk::start(Codec::H264);
    for (number, (size, bitrate_bps)) in NUMBERS.into_iter().zip(LAYERS) {
        talk.say(&Order::Start(layer(number, size, bitrate_bps)));
    }
    talk
}

/// Processor time of a worker that makes all layers of all frames, its start included.
fn worker_time(source: &[Frame]) -> Duration {
    let mut talk = started();
    let made = talk.feed(source, &NUMBERS);
    assert!(made[..3].iter().all(|made| made.len() == source.len()), "all frames are made");
    processor_time(talk.child.id())
}

/// User and system time so far (proc(5): fields 14 and 15, in ticks of 10 ms).
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it lives");
    let fields = stat.rsplit(')').next().expect("a name in brackets").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processor time of ffmpeg that makes the same layers, each scaled from the next larger one.
fn ffmpeg_time(file: &str) -> Duration {
    let graph = "[0:v]scale=1280:720:flags=bilinear,split[a][x];\
                 [x]scale=854:480:flags=bilinear,split[b][y];[y]scale=640:360:flags=bilinear[c]";
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-benchmark", "-threads", "1", "-i", file]);
    command.args(["-filter_complex_threads", "1", "-filter_complex", graph]);
    for (name, kbps) in [("[a]", 2500), ("[b]", 1000), ("[c]", 500)] {
        let (rate, buffer) = (format!("{kbps}k"), format!("{}k", kbps * 4 / 10));
        command.args(["-map", name, "-c:v", "libx264", "-preset", "superfast"]);
        command.args(["-tune", "zerolatency", "-profile:v", "baseline", "-threads", "1"]);
        command.args(["-g", "60", "-sc_threshold", "0", "-b:v", &rate, "-maxrate", &rate]);
        command.args(["-bufsize", &buffer, "-f", "null", "-"]);
    }
    let output = command.output().expect("ffmpeg is there; see scripts/setup");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // bench: utime=8.120s stime=0.210s rtime=8.400s
    let line = said.lines().rev().find(|line| line.starts_with("bench: utime")).expect("times");
    let seconds = |name: &str| -> f64 {
        let value = line.split_whitespace().find_map(|it| it.strip_prefix(name));
        value.and_then(|it| it.trim_end_matches('s').parse().ok()).expect("a time")
    };
    Duration::from_secs_f64(seconds("utime=") + seconds("stime="))
}

/// How long each layer takes for a frame, where frames come as they do live.
fn latencies(source: &[Frame]) {
    let mut talk = started();
    let mut socket = talk.socket.try_clone().expect("a descriptor");
    let (sender, receiver) = channel();
    let frames = source.to_vec();
    let feeder = std::thread::spawn(move || {
        for frame in &frames {
            // Whoever measures lives until all is sent.
            let _ = sender.send((frame.ticks, get_timestamp()));
            let Frame { ticks, is_keyframe, data } = frame.clone();
            let mut bytes = Vec::new();
            assert!(Order::Frame { ticks, is_keyframe, data }.write_to(&mut bytes));
            socket.write_all(&bytes).expect("it lives");
            std::thread::sleep(STEP);
        }
    });
    let mut sent = HashMap::new();
    let mut taken: [Vec<f64>; 3] = Default::default();
    let mut behind = 0;
    let last = source.last().expect("frames").ticks;
    let mut ended = 0;
    while ended < 3 {
        match talk.next().expect("it lives") {
            Report::Frame { layer, ticks, .. } => {
                let now = get_timestamp();
                sent.extend(receiver.try_iter());
                let began = sent[&ticks];
                let late = now.nseconds().saturating_sub(began.nseconds());
                taken[usize::from(layer)].push(late as f64 / 1e6);
                ended += u8::from(ticks == last);
            }
            Report::Load(load) => behind += u32::from(load.is_behind),
            _ => {}
        }
    }
    feeder.join().expect("it only sends");
    for (taken, (size, _)) in taken.iter_mut().zip(LAYERS) {
        taken.sort_by(f64::total_cmp);
        let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
        println!(
            "{}p: {} of {FRAMES} frames, p50 {:.1} ms, p95 {:.1}, most {:.1}",
            size.1,
            taken.len(),
            at(0.5),
            at(0.95),
            at(1.0)
        );
    }
    println!("seconds in which the worker said that it was behind: {behind}");
}

fn with_start_codes(source: &[Frame]) -> Vec<u8> {
    let mut all = Vec::new();
    for frame in source {
        let mut rest = &frame.data[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (unit, next) = after.split_at(u32::from_be_bytes(*length) as usize);
            all.extend([0, 0, 0, 1]);
            all.extend(unit);
            rest = next;
        }
    }
    all
}
