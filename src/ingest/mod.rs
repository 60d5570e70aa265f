//! Ways in that do not speak WebRTC: each reads frames and writes them into a stream.
//!
//! A protocol is a folder here, which needs an [`Entrance`] and nothing else of the server. Its
//! bytes become frames in pure code; its listener is the only I/O.
//!
//! - `entrance`: who may publish what
//! - `feed`: a publisher's frames on their way into its stream
//! - `b_frames`: pictures that are not sent in the order in which they are shown
//! - `rtmp`: RTMP and RTMPS
//! - `places`: who may be connected without having said what for
//! - `sound`: a publisher's sound, made Opus where it is not
//! - `srt`: SRT with MPEG-TS
//! - `tapping`: its frames as they came, for those who read its stream
//! - `timing`: one time line for both tracks; `pace`: how fast frames come, at their best
//! - `track`: frames into packets
//! - `tests`: from the entrance to what a shard is handed

pub mod b_frames;
mod entrance;
mod feed;
mod pace;
pub mod places;
pub mod rtmp;
mod sound;
pub mod srt;
mod tapping;
#[cfg(test)]
mod tests;
pub mod timing;
pub mod track;

pub use crate::bus::publication::LinkReport;
pub use entrance::{Entrance, Gate, Refusal, Request};
pub use feed::{Feed, FeedTools};

use crate::config::Config;
use std::io;
use std::net::SocketAddr;
use tokio::task::JoinHandle;

/// A way in that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub ports: Vec<Port>,
    /// Ends when it is told to stop and has told its publishers so.
    pub task: JoinHandle<()>,
}

/// A port of a way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// What it speaks: "RTMP".
    pub purpose: &'static str,
    /// The option that sets it.
    pub option: &'static str,
    /// Whether it is a UDP port; else it is a TCP one.
    pub is_udp: bool,
    /// Where.
    pub address: SocketAddr,
}

/// The ports of all ways in that the configuration wants. A new one is a row here.
pub fn ports(config: &Config) -> Vec<Port> {
    rtmp::ports(&config.rtmp).into_iter().chain(srt::port(&config.srt)).collect()
}

/// Why a way in cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for {purpose} on {address}: {error}; stop the program that has this port, \
     choose another in {option}, or do without by {option} = \"off\""
)]
pub struct ListenError {
    /// See [`Port::purpose`].
    pub purpose: &'static str,
    /// See [`Port::option`].
    pub option: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}
