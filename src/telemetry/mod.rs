//! What operators see.
//!
//! - `metrics`: one table of all metrics: name, unit, help

pub mod metrics;

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Objects for machines.
    Json,
}

/// Starts the log on standard error: this program's lines from `level` on, other crates' from
/// warnings on. A second call changes nothing, so that tests may start several servers.
///
/// A panic is logged as an error, with where it happened; what it ends is decided elsewhere.
pub fn start_log(level: &str, format: LogFormat) {
    let directives = format!("warn,millrace={level},signaling={level}");
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => {
            log.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => log.json().try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let trace = std::backtrace::Backtrace::force_capture();
            tracing::error!(%panic, %trace, "panic");
        }));
    }
}
