//! `[server]`: threads, state, stopping.

use super::reader::Reader;
use std::path::PathBuf;
use std::time::Duration;

/// How the process itself runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Media threads, each pinned to a core with a socket of its own on the shared UDP port.
    pub shards: usize,
    /// What must outlive a restart: the tokens and the certificate that the first start makes.
    pub state_directory: PathBuf,
    /// How long a stop may take: viewers are told, sessions end, then the process does.
    pub shutdown_timeout: Duration,
}

impl Server {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let shards = reader.number("server.shards", 1, 1..=64);
        if shards > 1 {
            // Packets do not go from shard to shard yet: half the viewers would see nothing.
            reader.conflict(&format!(
                "server.shards is {shards}; this version serves with one media thread: set it to 1"
            ));
        }
        Self {
            shards,
            state_directory: reader.state_directory("server.state_directory"),
            shutdown_timeout: reader.seconds("server.shutdown_timeout_s", 10, 0..=300),
        }
    }
}
