//! What a publisher did, as text for people and as JSON for programs.

use serde::Serialize;
use std::fmt;

/// What a run of publishing brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PublishReport {
    /// Packets sent.
    pub packets: u64,
    /// Keyframes sent.
    pub keyframes: u64,
    /// Keyframes the server asked for.
    pub keyframe_requests: usize,
    /// The most of these within any second.
    pub keyframe_requests_a_second_max: usize,
    /// Packets the server asked for again.
    pub nacked: usize,
    /// Packets sent again.
    pub resent: u64,
}

impl fmt::Display for PublishReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} packets, {} keyframes ({} asked for, {} within a second at most), {} packets asked \
             for again, {} resent",
            self.packets,
            self.keyframes,
            self.keyframe_requests,
            self.keyframe_requests_a_second_max,
            self.nacked,
            self.resent
        )
    }
}
