//! `[server]`: threads, state, stopping.

use super::reader::Reader;
use std::path::PathBuf;
use std::time::Duration;

/// How the process itself runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Media threads, each pinned to a core with a socket of its own on the shared UDP port; 0 is
    /// one for each core that the process may use.
    pub shards: usize,
    /// What must outlive a restart: the tokens and the certificate that the first start makes.
    pub state_directory: PathBuf,
    /// How long a stop may take: viewers are told, sessions end, then the process does.
    pub shutdown_timeout: Duration,
}

impl Server {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            shards: reader.number("server.shards", 0, 0..=64),
            state_directory: reader.state_directory("server.state_directory"),
            shutdown_timeout: reader.seconds("server.shutdown_timeout_s", 10, 0..=300),
        }
    }
}
