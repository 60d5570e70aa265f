//! What a crowd counts.

use crate::swarm::{Histogram, Usage};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What has been counted since it began to be.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Responses to requests for playlists, and for media.
    pub playlists: u64,
    /// Files of media.
    pub files: u64,
    /// Bytes that came, heads included.
    pub bytes: u64,
    /// Responses other than 200, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Requests that ended otherwise, by how.
    pub broken: BTreeMap<String, u64>,
    /// Playlists that were waited for longer than two parts last.
    pub late: u64,
    /// Times that a player had nothing to play.
    pub stalls: u64,
    /// How long that lasted in all.
    pub stalled: Duration,
    /// From the end of what a part shows until it is there, in microseconds.
    pub edge: Histogram,
    /// From what happens until it is played, in microseconds.
    pub played: Histogram,
}

/// A span of time, and what it took.
#[derive(Debug, Clone)]
pub struct Span {
    /// What was counted.
    pub tally: Tally,
    /// When it began and ended.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The server's use at both times, where it is known.
    pub server: Option<(Usage, Usage)>,
    /// The generator's CPU time.
    pub generator_cpu: Duration,
}

/// How it goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Status {
    /// Players that play.
    pub playing: usize,
    /// Players that have been started.
    pub started: usize,
    /// Responses.
    pub responses: u64,
    /// Times that a player had nothing to play.
    pub stalls: u64,
    /// Responses other than 200, and requests that broke.
    pub failures: u64,
}

/// All that a crowd saw.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Players that were started.
    pub clients: usize,
    /// Those that played at the end.
    pub playing: usize,
    /// Those that stalled while it was measured.
    pub stalled_clients: usize,
    /// Renditions that each follows.
    pub renditions: usize,
    /// Connections that were open at the end.
    pub connections: usize,
    /// Texts of playlists that were read: all others had been read before.
    pub texts: u64,
    /// Why playlists could not be read.
    pub faults: Vec<String>,
    /// While players came.
    pub joining: Span,
    /// Once all were there.
    pub steady: Span,
    /// From a player's first request until it plays, in microseconds.
    pub startup: Histogram,
}
