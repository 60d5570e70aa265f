//! millrace-transcode: decodes and encodes the sound or the picture of one stream, in a process of
//! its own.
//!
//! - `decoder`: frames of whatever comes in -> samples
//! - `elements`: which of GStreamer's elements do it here
//! - `encoder`: samples -> packets
//! - `ipc`: what server and worker tell each other; the server's own file
//! - `packets`: what of a container's packet is one frame
//! - `picture`: the picture, where the server wants that; the others are the sound
//! - `pipeline`: one chain of elements
//! - `probe`: what can be decoded and encoded here
//! - `still`: one picture as a JPEG, where the server wants only that
//! - `sync_frame`: headers of MPEG audio and AC-3; the server's own file
//! - `timeline`: samples -> pieces of 20 ms, without seams where there are none
//!
//! A fault in a codec must not end anybody's session: it ends this process, and the server starts
//! another. Its standard input is a socket pair whose other end the server holds; where that
//! closes, it ends at once.

mod decoder;
mod elements;
mod encoder;
#[path = "../ipc/mod.rs"]
#[expect(unreachable_pub, reason = "it is public in the server, for its fuzz target")]
mod ipc;
mod packets;
mod picture;
mod pipeline;
mod probe;
mod still;
#[path = "../../codec/sync_frame.rs"]
#[expect(unreachable_pub, reason = "it is public in the server, for its way in")]
mod sync_frame;
mod timeline;

use crate::decoder::{Decoder, Listen};
use crate::encoder::{Encoder, Tell};
use crate::ipc::{Incoming, Message, Sound, Wire as _};
use crate::pipeline::Fault;
use crate::timeline::Timeline;
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Behind the server, whose packets must leave in time, and before what has no hurry.
const NICE: i32 = 5;
/// Twenty times what sound was seen to take, of memory that is its own (`RLIMIT_DATA`) ...
const MEMORY_MAX: u64 = 1 << 30;
/// ... and what pictures of 4K need.
const PICTURE_MEMORY_MAX: u64 = 2 << 30;
/// Read at once.
const READ_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let done = match wanted.as_deref() {
        None => socket(MEMORY_MAX).and_then(work),
        Some(ipc::picture::ARGUMENT) => socket(PICTURE_MEMORY_MAX).and_then(picture::work),
        Some(ipc::picture::STILL_ARGUMENT) => socket(PICTURE_MEMORY_MAX).and_then(still::work),
        Some("--probe") => probe::print(),
        Some(other) => Err(anyhow::anyhow!("{other}? Only --probe is understood")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(std::io::stderr(), "millrace-transcode: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The socket to the server, which is standard input, in a process that is bounded.
fn socket(memory_max: u64) -> anyhow::Result<UnixStream> {
    // None of this is worth stopping for.
    let _ = rustix::process::nice(NICE);
    if let Ok(list) = std::env::var(ipc::CORES) {
        let _ = sched_setaffinity(None, &cores(&list));
    }
    // Its closed end of the socket ends this process as well; this does it where it hangs.
    let kill = Some(rustix::process::Signal::KILL);
    let _ = rustix::process::set_parent_process_death_signal(kill);
    // A fault in a codec that takes ever more costs this process, and not the machine.
    let limit = Rlimit { current: Some(memory_max), maximum: Some(memory_max) };
    let _ = setrlimit(Resource::Data, limit);
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    let socket = UnixStream::from(input);
    socket.peer_addr().context("standard input is no socket: the server starts this program")?;
    Ok(socket)
}

/// The cores of a list such as `2,3`.
fn cores(list: &str) -> CpuSet {
    let numbers = list.split(',').filter_map(|number| number.parse().ok());
    let mut cores = CpuSet::new();
    numbers.filter(|number| *number < CpuSet::MAX_CPU).for_each(|number| cores.set(number));
    cores
}

/// Serves the server at the other end of the socket, until that closes.
fn work(mut socket: UnixStream) -> anyhow::Result<()> {
    let tell = tell(socket.try_clone()?);
    let told = Arc::clone(&tell);
    let fault: Fault = Arc::new(move |text| fail(&told, &text));
    gstreamer::init().context("GStreamer does not start")?;
    tell(&Message::Ready)?;

    let mut incoming = Incoming::default();
    let mut decoder: Option<Decoder<Box<dyn Listen>>> = None;
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let count = socket.read(&mut bytes).context("the server's end")?;
        if count == 0 {
            // Elements that hang would keep an orderly end waiting; nothing is left to be saved.
            std::process::exit(0);
        }
        incoming.feed(bytes.get(..count).unwrap_or_default());
        while let Some(message) = incoming.take_next()? {
            let taken = match message {
                Message::Configure { from, to, bitrate_bps } => {
                    let listener = listener(to, bitrate_bps, &tell, &fault);
                    decoder = Some(Decoder::new(from, listener, Arc::clone(&fault)));
                    Ok(())
                }
                Message::Frame { ticks, data } => match &mut decoder {
                    Some(decoder) => decoder.push(ticks, data),
                    None => Err(anyhow::anyhow!("a frame before its configuration")),
                },
                Message::Ready | Message::Format(_) | Message::Failed(_) => Ok(()),
            };
            if let Err(error) = taken {
                fail(&tell, &format!("{error:#}"));
            }
        }
    }
}

/// What the decoder's samples are made of: pieces, and packets of them.
fn listener(to: Sound, bitrate_bps: u32, tell: &Tell, fault: &Fault) -> Box<dyn Listen> {
    let (tell, fault) = (Arc::clone(tell), Arc::clone(fault));
    let mut chain: Option<(u32, Timeline, Encoder)> = None;
    Box::new(move |time, rate, samples: Vec<i16>| {
        if !matches!(&chain, Some((made_for, ..)) if *made_for == rate) {
            // HE-AAC may tell its rate only once it was decoded.
            if let Some((_, _, encoder)) = chain.take() {
                encoder.finish();
            }
            let encoder = Encoder::start(&to, rate, bitrate_bps, Arc::clone(&tell), &fault)?;
            chain = Some((rate, Timeline::new(rate), encoder));
        }
        let (_, timeline, encoder) = chain.as_mut().context("a chain that was just made")?;
        let mut pushed = Ok(());
        timeline.push(time, &samples, |piece| {
            if pushed.is_ok() {
                pushed = encoder.push(&piece);
            }
        });
        pushed
    })
}

/// Writes messages to the server, from any thread, one after the other.
fn tell(socket: UnixStream) -> Tell {
    let socket = Mutex::new((socket, Vec::new()));
    Arc::new(move |message| {
        let mut guard = socket.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, bytes) = &mut *guard;
        bytes.clear();
        anyhow::ensure!(message.write_to(bytes), "a packet longer than any real one");
        socket.write_all(bytes).context("the server's end")
    })
}

/// Says what went wrong, and ends: the server knows better than a broken pipeline what comes next.
fn fail(tell: &Tell, text: &str) {
    // Where the server is gone, nobody needs to know.
    let _ = tell(&Message::Failed(text.to_owned()));
    std::process::exit(1);
}
