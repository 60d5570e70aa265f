//! The picture of one stream: decoded once, and made into layers, each in a thread of its own.
//!
//! - `decoder`: frames of the source -> pictures
//! - `element`: one of GStreamer's elements, driven by its pads
//! - `encoder`: pictures -> frames of a layer
//! - `flight`: which frames come out of the decoder, and which do not
//! - `input`: frames that wait for the decoder
//! - `lane`: one layer that is made
//! - `load`: how all of it keeps up
//! - `nal`: NAL units after lengths and after start codes
//! - `scaler`: pictures of another size and format
//! - `spread`: from each picture to all layers
//! - `stamp`: ticks that go through elements untouched
//! - `table`: which elements do it, and how they are set up
//!
//! Threads: this one reads what the server says, and waits for nobody; one decodes and scales; one
//! for each layer encodes. Between them few pictures wait, and the oldest go where they are too
//! many: what comes out is never late, there is only less of it.

pub(crate) mod decoder;
pub(crate) mod element;
pub(crate) mod encoder;
mod flight;
pub(crate) mod input;
pub(crate) mod lane;
mod load;
pub(crate) mod nal;
pub(crate) mod scaler;
mod spread;
mod stamp;
pub(crate) mod table;

use crate::ipc::picture::{Codec, Order, Report};
use crate::ipc::{Incoming, Wire as _};
use crate::picture::decoder::Decoder;
use crate::picture::element::lock;
use crate::picture::input::{Frame, Input};
use crate::picture::lane::Lane;
use crate::picture::load::Meter;
use crate::picture::spread::Spread;
use anyhow::Context as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where reports to the server go.
pub(crate) type Tell = Arc<dyn Fn(&Report) -> anyhow::Result<()> + Send + Sync>;

/// Read at once.
const READ_BYTES: usize = 64 * 1024;

/// Nanoseconds on a clock that only goes forward.
pub(crate) fn now_ns() -> u64 {
    gstreamer::get_timestamp().nseconds()
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    asked: Mutex<Asked>,
    arrived: Condvar,
    meter: Mutex<Meter>,
}

/// What the server has asked for, and the decoder's thread has not seen to.
#[derive(Debug, Default)]
struct Asked {
    input: Input,
    lanes: Vec<Arc<Lane>>,
    wants_keyframe: bool,
}

/// Serves the server at the other end of the socket, until that closes.
pub(crate) fn work(mut socket: UnixStream) -> anyhow::Result<()> {
    let tell = tell(socket.try_clone()?);
    gstreamer::init().context("GStreamer does not start")?;
    tell(&Report::Ready)?;
    let shared: Arc<Shared> = Arc::default();
    let (inside, told) = (Arc::clone(&shared), Arc::clone(&tell));
    std::thread::Builder::new().name("decoder".to_owned()).spawn(move || {
        table::load();
        if let Err(error) = decode(&inside, &told) {
            fail(&told, &format!("{error:#}"));
        }
    })?;
    let mut worker = Worker { shared, tell, codec: None, frames: 0, threads: Vec::new() };
    let ended = worker.serve(&mut socket);
    if let Err(error) = &ended {
        fail(&worker.tell, &format!("{error:#}"));
    }
    // Elements that hang would keep an orderly end waiting; nothing is left to be saved.
    std::process::exit(0);
}

/// What the thread has that reads.
struct Worker {
    shared: Arc<Shared>,
    tell: Tell,
    codec: Option<Codec>,
    /// Frames that came.
    frames: u64,
    threads: Vec<(Arc<Lane>, JoinHandle<()>)>,
}

impl Worker {
    /// Does what it is told, and tells its load in between.
    fn serve(&mut self, socket: &mut UnixStream) -> anyhow::Result<()> {
        let mut incoming = Incoming::<Order>::default();
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let wait_ns = lock(&self.shared.meter).due_in(now_ns());
            if wait_ns == 0 {
                self.tell_load()?;
                continue;
            }
            socket.set_read_timeout(Some(Duration::from_nanos(wait_ns)))?;
            let count = match socket.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if is_idle(error.kind()) => continue,
                Err(error) => return Err(error).context("the server's end"),
            };
            incoming.feed(bytes.get(..count).unwrap_or_default());
            while let Some(order) = incoming.take_next()? {
                self.obey(order)?;
            }
        }
    }

    fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Source(codec) => self.codec = Some(codec),
            Order::Start(layer) => {
                self.stop(layer.number);
                let (lane, thread) = Lane::start(layer, self.frames, Arc::clone(&self.tell))?;
                self.threads.push((lane, thread));
                self.publish_lanes();
            }
            Order::Stop(layer) => self.stop(layer),
            Order::Bitrate { layer, bitrate_bps } => {
                let mut lanes = self.threads.iter().map(|(lane, _)| lane);
                if let Some(lane) = lanes.find(|lane| lane.layer.number == layer) {
                    lane.set_bitrate(bitrate_bps);
                }
            }
            Order::Keyframe => lock(&self.shared.asked).wants_keyframe = true,
            // That is for a worker of its own.
            Order::Still(_) => {}
            Order::Frame { ticks, is_keyframe, data } => {
                let codec = self.codec.context("a frame before its codec")?;
                let number = self.frames;
                self.frames += 1;
                let frame = Frame { number, codec, ticks, is_keyframe, data };
                lock(&self.shared.asked).input.push(frame);
                self.shared.arrived.notify_one();
            }
        }
        Ok(())
    }

    /// Ends a layer, if it is made, and waits for its thread.
    fn stop(&mut self, layer: u8) {
        let is_it = |lane: &Lane| lane.layer.number == layer;
        let Some(at) = self.threads.iter().position(|(lane, _)| is_it(lane)) else { return };
        let (lane, thread) = self.threads.swap_remove(at);
        lane.close();
        self.publish_lanes();
        // One that panicked has said so.
        let _ = thread.join();
    }

    /// Shows the decoder's thread which layers there are.
    fn publish_lanes(&self) {
        let lanes = self.threads.iter().map(|(lane, _)| Arc::clone(lane)).collect();
        lock(&self.shared.asked).lanes = lanes;
    }

    fn tell_load(&self) -> anyhow::Result<()> {
        let mut asked = lock(&self.shared.asked);
        let (taken, dropped) = asked.input.take_counts();
        let waiting = asked.input.waiting();
        drop(asked);
        let open = self.threads.iter().filter(|(lane, _)| lane.is_open());
        let layers = open.map(|(lane, _)| lane.take_load()).collect();
        let mut load = lock(&self.shared.meter).take_load(now_ns(), layers);
        (load.taken, load.dropped, load.waiting) = (taken, dropped, waiting);
        load.is_behind |= dropped > 0 && load.decoded > 0;
        (self.tell)(&Report::Load(load))
    }
}

const fn is_idle(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The decoder's thread.
fn decode(shared: &Arc<Shared>, tell: &Tell) -> anyhow::Result<()> {
    let mut decoder = Decoder::default();
    let mut spread = Spread::default();
    loop {
        let (frame, is_late) = next_frame(shared);
        let began = now_ns();
        let pictures = decoder.decode(frame, is_late, |name| tell(&Report::Decoder(name)))?;
        let spent_ns = now_ns().saturating_sub(began);
        let newest = pictures.last().map(|picture| picture.entry.ticks);
        let count = pictures.len() as u32;
        let broken = decoder.take_broken();
        lock(&shared.meter).note(spent_ns, count, newest, broken, is_late);
        for picture in pictures {
            let mut asked = lock(&shared.asked);
            let lanes = asked.lanes.clone();
            let mut wants_keyframe = std::mem::take(&mut asked.wants_keyframe);
            drop(asked);
            spread.take(&picture, &lanes, &mut wants_keyframe)?;
            // Where it was not fulfilled, or another one came meanwhile, the next picture is it.
            lock(&shared.asked).wants_keyframe |= wants_keyframe;
        }
    }
}

/// Waits for a frame; also says whether it is late.
fn next_frame(shared: &Shared) -> (Frame, bool) {
    let mut asked = lock(&shared.asked);
    loop {
        if let Some(next) = asked.input.pop() {
            return next;
        }
        asked = shared.arrived.wait(asked).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Writes reports to the server, from any thread, one after the other.
pub(crate) fn tell(socket: UnixStream) -> Tell {
    let socket = Mutex::new((socket, Vec::new()));
    Arc::new(move |report| {
        let mut guard = lock(&socket);
        let (socket, bytes) = &mut *guard;
        bytes.clear();
        anyhow::ensure!(report.write_to(bytes), "a frame longer than any real one");
        socket.write_all(bytes).context("the server's end")
    })
}

/// Says what went wrong, and ends: the server knows better what comes next.
fn fail(tell: &Tell, text: &str) {
    // Where the server is gone, nobody needs to know.
    let _ = tell(&Report::Failed(text.to_owned()));
    std::process::exit(1);
}
