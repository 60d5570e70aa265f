//! The commands of `millrace-loadtest`: what they take, what they do, what they print.
//!
//! - `continuity`: gaps in a file of MPEG-TS
//! - `floor`: what sending costs at least
//! - `hls`: players of LL-HLS
//! - `hls_check`: whether a stream keeps to the rules of LL-HLS
//! - `impair`: a bad network for real clients
//! - `layers`: which layers viewers got
//! - `lip_sync`: how far picture and sound are apart
//! - `options`: what several commands take
//! - `publish`: sends a stream
//! - `publisher`: the same beside what a command does
//! - `ramp`: joins viewers in groups and measures
//! - `report`: the results of a ramp, for people and for programs
//! - `spread`: percentiles
//! - `summary`: the same in a line or three, for a table of many runs
//! - `ways`: publishes by several protocols at once and compares

pub(crate) mod continuity;
pub(crate) mod floor;
pub(crate) mod hls;
pub(crate) mod hls_check;
pub(crate) mod impair;
mod layers;
pub(crate) mod lip_sync;
pub(crate) mod options;
pub(crate) mod publish;
mod publisher;
pub(crate) mod ramp;
mod report;
mod spread;
pub(crate) mod summary;
pub(crate) mod ways;

use std::io::Write;

/// Writes a result to the standard output, as a table or as JSON.
pub(crate) fn print<T>(json: bool, report: &T) -> anyhow::Result<()>
where
    T: std::fmt::Display + serde::Serialize,
{
    let text = if json { serde_json::to_string_pretty(report)? } else { report.to_string() };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Writes how it goes to the standard error output.
pub(crate) fn progress(text: std::fmt::Arguments<'_>) {
    // Progress that nobody can read is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Until the time is up, or Ctrl-C or SIGTERM.
///
/// Returns whether the time was up.
pub(crate) async fn wait(seconds: u64) -> anyhow::Result<bool> {
    let terminate = tokio::signal::unix::SignalKind::terminate();
    let mut terminated = tokio::signal::unix::signal(terminate)?;
    let stopped = async {
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminated.recv() => Ok(()),
        }
    };
    if seconds == 0 {
        stopped.await?;
        return Ok(false);
    }
    let limit = std::time::Duration::from_secs(seconds);
    match tokio::time::timeout(limit, stopped).await {
        Ok(stopped) => stopped.map(|()| false).map_err(Into::into),
        Err(_) => Ok(true),
    }
}
