//! `[whep]`: what viewers get.

use super::reader::Reader;
use std::time::Duration;

/// Settings of WHEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whep {
    /// Retransmissions take at most this share of what a viewer is sent: a link that loses more
    /// is too small, and resending would only make it worse.
    pub rtx_share_percent: u8,
    /// How far back a packet can be asked for again. Two seconds outlast every player's buffer.
    pub history: Duration,
    /// How long a packet may wait for others of its frame to share one system call: so long where a
    /// shard is half busy, less where it has more time.
    pub batch_wait: Duration,
}

impl Whep {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            rtx_share_percent: reader.number("whep.rtx_share_percent", 15, 0..=100),
            history: reader.milliseconds("whep.history_ms", 2000, 100..=10_000),
            batch_wait: reader.milliseconds("whep.batch_wait_ms", 8, 0..=50),
        }
    }
}
