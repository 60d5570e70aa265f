//! A worker, and what is said with it.

use crate::ipc::picture::{ARGUMENT, Codec, Layer, Load, Order, Report};
use crate::ipc::{Incoming, Wire as _};
use crate::source::Frame;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing that a test waits for takes so long, unless it never comes.
const NEVER: Duration = Duration::from_mins(1);

/// A running worker for pictures.
pub(crate) struct Talk {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
    incoming: Incoming<Report>,
    /// Loads that came while something else was waited for.
    pub(crate) loads: Vec<Load>,
}

impl Talk {
    /// Starts one that is ready, for a source of this codec.
    pub(crate) fn start(codec: Codec) -> Self {
        Self::start_with(ARGUMENT, codec)
    }

    /// The same of one that is started with this argument.
    pub(crate) fn start_with(argument: &str, codec: Codec) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(NEVER)).expect("a timeout");
        let child = Command::new(env!("CARGO_BIN_EXE_millrace-transcode"))
            .arg(argument)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .expect("it was built");
        let incoming = Incoming::default();
        let mut talk = Self { child, socket: ours, incoming, loads: Vec::new() };
        assert_eq!(talk.next(), Some(Report::Ready));
        talk.say(&Order::Source(codec));
        talk
    }

    pub(crate) fn say(&mut self, order: &Order) {
        let mut bytes = Vec::new();
        assert!(order.write_to(&mut bytes));
        self.socket.write_all(&bytes).expect("it lives");
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        let Frame { ticks, is_keyframe, data } = frame.clone();
        self.say(&Order::Frame { ticks, is_keyframe, data });
    }

    /// What it says next; `None` at its end.
    pub(crate) fn next(&mut self) -> Option<Report> {
        let mut bytes = [0; 8192];
        loop {
            if let Some(report) = self.incoming.take_next().expect("sense") {
                return Some(report);
            }
            match self.socket.read(&mut bytes).expect("it says something") {
                0 => return None,
                count => self.incoming.feed(&bytes[..count]),
            }
        }
    }

    /// Reads until something comes of which `pick` makes something. Loads are kept.
    pub(crate) fn wait<T>(&mut self, mut pick: impl FnMut(&Report) -> Option<T>) -> T {
        // It tells its load once a second, whatever happens.
        let loads_max = self.loads.len() + NEVER.as_secs() as usize;
        while self.loads.len() < loads_max {
            let report = self.next().expect("it lives");
            if let Some(picked) = pick(&report) {
                return picked;
            }
            match report {
                Report::Load(load) => self.loads.push(load),
                Report::Failed(fault) => assert_eq!(fault, "", "it has failed"),
                _ => {}
            }
        }
        unreachable!("it never comes: {:?}", self.loads.last());
    }

    /// Waits until it tells its load once more.
    pub(crate) fn wait_for_load(&mut self) {
        let load = self.wait(|report| match report {
            Report::Load(load) => Some(load.clone()),
            _ => None,
        });
        self.loads.push(load);
    }

    /// Waits until its loads are as they should be.
    pub(crate) fn wait_for_loads(&mut self, mut are_right: impl FnMut(&[Load]) -> bool) {
        let loads_max = self.loads.len() + NEVER.as_secs() as usize;
        while !are_right(&self.loads) {
            assert!(self.loads.len() < loads_max, "it stays as it is: {:?}", self.loads);
            self.wait_for_load();
        }
    }

    /// The next frame of any layer, with its number.
    pub(crate) fn frame(&mut self) -> (u8, Frame) {
        self.wait(|report| match report {
            Report::Frame { layer, ticks, is_keyframe, data } => {
                let (ticks, is_keyframe) = (*ticks, *is_keyframe);
                Some((*layer, Frame { ticks, is_keyframe, data: data.clone() }))
            }
            other => {
                assert!(!matches!(other, Report::Refused { .. }), "{other:?}");
                None
            }
        })
    }

    /// Hands in frames one after the other, at once.
    pub(crate) fn send_all(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.send(frame);
        }
    }

    /// Hands in frames one after the other, each when `layers` have made the one before: nothing is
    /// left out for lack of time. Gives what each layer made.
    pub(crate) fn feed(&mut self, frames: &[Frame], layers: &[u8]) -> Vec<Vec<Frame>> {
        let mut made: Vec<Vec<Frame>> = vec![Vec::new(); 8];
        for frame in frames {
            self.send(frame);
            let mut missing = layers.to_vec();
            while !missing.is_empty() {
                let (layer, frame) = self.frame();
                missing.retain(|&other| other != layer);
                made[usize::from(layer)].push(frame);
            }
        }
        made
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A layer of this number, size, and bit rate.
pub(crate) fn layer(number: u8, (width, height): (u16, u16), bitrate_bps: u32) -> Layer {
    let encoder = String::new();
    Layer { number, width, height, frame_rate_mhz: 30_000, bitrate_bps, encoder }
}
