//! `millrace-loadtest floor`: the bare cost of sending on this machine.

use super::print;
use clap::Args;
use loadtest::floor::{FloorOptions, run as measure};
use loadtest::swarm::allow_descriptors;
use std::time::Duration;

/// What `floor` takes.
#[derive(Debug, Args)]
pub(crate) struct Floor {
    /// Sockets to send to.
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Seconds to run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The core that sends.
    #[arg(long, requires = "receive_core")]
    send_core: Option<usize>,
    /// The core that receives.
    #[arg(long, requires = "send_core")]
    receive_core: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Floor) -> anyhow::Result<()> {
    allow_descriptors(arguments.viewers)?;
    let report = measure(FloorOptions {
        viewers: arguments.viewers,
        duration: Duration::from_secs(arguments.seconds),
        cores: arguments.send_core.zip(arguments.receive_core),
    })?;
    print(arguments.json, &report)
}
