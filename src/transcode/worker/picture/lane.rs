//! One layer that is made, in a thread of its own: few pictures wait for it, and it encodes them.

use crate::ipc::picture::{Layer, LayerLoad, Report};
use crate::picture::element::lock;
use crate::picture::encoder::{Encoded, Encoder};
use crate::picture::{Tell, now_ns, stamp, table};
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer_video::{VideoFormat, VideoInfo};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Pictures that wait for the encoder. Where it is too slow, the oldest goes.
const WAITING_MAX: usize = 2;
/// Layers behind the decoder, which serves all of them.
const NICE: i32 = 3;

/// A picture to encode, of the layer's size.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) buffer: gst::Buffer,
    pub(crate) info: VideoInfo,
    /// Whether it has to become an IDR.
    pub(crate) is_keyframe: bool,
}

impl Work {
    /// A picture for a layer that shows nothing in particular.
    pub(crate) fn blank(layer: &Layer) -> anyhow::Result<Self> {
        let (width, height) = (u32::from(layer.width), u32::from(layer.height));
        let info = VideoInfo::builder(VideoFormat::I420, width, height).build()?;
        let mut buffer = gst::Buffer::from_mut_slice(vec![0x80; info.size()]);
        stamp::stamp(buffer.get_mut().context("a new buffer that has two owners")?, 0);
        Ok(Self { buffer, info, is_keyframe: true })
    }
}

/// What the decoder's thread and the layer's share.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) layer: Layer,
    /// The frame that it begins with: those before came before it was asked for.
    pub(crate) first: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Work>,
    bitrate_bps: u32,
    is_closed: bool,
    /// Until its encoder runs, pictures that come too fast are not missed.
    is_running: bool,
    frames: u32,
    skipped: u32,
    /// Nanoseconds of work, and the pictures that it was for.
    busy_ns: u64,
    pictures: u32,
}

impl Lane {
    /// Begins to make a layer, with the frame of that number.
    pub(crate) fn start(
        layer: Layer,
        first: u64,
        tell: Tell,
    ) -> anyhow::Result<(Arc<Self>, JoinHandle<()>)> {
        let state = State {
            waiting: VecDeque::new(),
            bitrate_bps: layer.bitrate_bps,
            is_closed: false,
            is_running: false,
            frames: 0,
            skipped: 0,
            busy_ns: 0,
            pictures: 0,
        };
        let lane =
            Arc::new(Self { layer, first, state: Mutex::new(state), changed: Condvar::default() });
        let inside = Arc::clone(&lane);
        let name = format!("layer {}", lane.layer.number);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Not worth stopping for.
            let _ = rustix::process::nice(NICE);
            if let Err(error) = inside.run(&tell) {
                inside.close();
                let (layer, reason) = (inside.layer.number, format!("{error:#}"));
                // Where the server is gone, the process ends.
                let _ = tell(&Report::Refused { layer, reason });
            }
        });
        Ok((lane, thread.context("no thread for a layer")?))
    }

    /// Hands in a picture. `spent_ns` is what it took to scale it.
    pub(crate) fn push(&self, mut work: Work, spent_ns: u64) {
        let mut state = lock(&self.state);
        if state.is_closed {
            return;
        }
        state.busy_ns += spent_ns;
        if state.waiting.len() >= WAITING_MAX {
            // The IDRs of all layers are to be of the same picture: the other one goes first.
            let other = state.waiting.iter().position(|work| !work.is_keyframe);
            let oldest = state.waiting.remove(other.unwrap_or(0));
            work.is_keyframe |= oldest.is_some_and(|oldest| oldest.is_keyframe);
            state.skipped += u32::from(state.is_running);
        }
        state.waiting.push_back(work);
        drop(state);
        self.changed.notify_one();
    }

    /// Notes a picture that is left out.
    pub(crate) fn skip(&self) {
        let mut state = lock(&self.state);
        state.skipped += u32::from(state.is_running);
    }

    /// Changes the bit rate from the next picture on.
    pub(crate) fn set_bitrate(&self, bitrate_bps: u32) {
        lock(&self.state).bitrate_bps = bitrate_bps;
    }

    /// Ends it, after the picture that is being encoded.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_one();
    }

    /// Whether it is being made.
    pub(crate) fn is_open(&self) -> bool {
        !lock(&self.state).is_closed
    }

    /// How it keeps up, since this was asked last.
    pub(crate) fn take_load(&self) -> LayerLoad {
        let mut state = lock(&self.state);
        let pictures = u64::from(state.pictures.max(1));
        let load = LayerLoad {
            layer: self.layer.number,
            frames: state.frames,
            skipped: state.skipped,
            encode_us: (state.busy_ns / pictures / 1000) as u32,
        };
        (state.frames, state.skipped, state.busy_ns, state.pictures) = (0, 0, 0, 0);
        load
    }

    /// The next picture, and the bit rate; `None` at the end.
    fn next(&self) -> Option<(Work, u32)> {
        let mut state = lock(&self.state);
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(work) = state.waiting.pop_front() {
                return Some((work, state.bitrate_bps));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Encodes what comes, with the first encoder that does; where one fails, with the next.
    fn run(self: &Arc<Self>, tell: &Tell) -> anyhow::Result<()> {
        let rows = table::encoders(&self.layer.encoder)?;
        let mut next = self.next();
        let mut reason = String::new();
        for row in rows {
            let Some(element) = row.make() else {
                let (name, package) = (row.name, row.package);
                reason = format!("GStreamer has no {name} that works here ({package} has it)");
                continue;
            };
            let Some((first, _)) = &next else { return Ok(()) };
            let out = self.teller(row.name, Arc::clone(tell));
            let mut encoder = match Encoder::start(row, element, &self.layer, &first.info, out) {
                Ok(encoder) => encoder,
                Err(error) => {
                    reason = format!("{}: {error:#}", row.name);
                    continue;
                }
            };
            while let Some((work, bitrate_bps)) = &next {
                let began = now_ns();
                if let Err(error) = encoder.encode(work, *bitrate_bps) {
                    reason = format!("{}: {error:#}", row.name);
                    break;
                }
                let mut state = lock(&self.state);
                state.busy_ns += now_ns().saturating_sub(began);
                state.pictures += 1;
                state.is_running = true;
                drop(state);
                next = self.next();
            }
            if next.is_none() {
                return Ok(());
            }
        }
        anyhow::bail!(reason)
    }

    /// Tells the server what an encoder makes, and before that its name.
    fn teller(
        self: &Arc<Self>,
        name: &'static str,
        tell: Tell,
    ) -> impl FnMut(Encoded) -> anyhow::Result<()> + Send + 'static {
        let lane = Arc::clone(self);
        let mut is_told = false;
        move |encoded| {
            let layer = lane.layer.number;
            if !lane.is_open() {
                return Ok(());
            }
            if !is_told {
                is_told = true;
                tell(&Report::Encoder { layer, name: name.to_owned() })?;
            }
            let Encoded { ticks, is_keyframe, data } = encoded;
            tell(&Report::Frame { layer, ticks, is_keyframe, data })?;
            lock(&lane.state).frames += 1;
            Ok(())
        }
    }
}
