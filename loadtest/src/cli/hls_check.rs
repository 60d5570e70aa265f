//! `millrace-loadtest hls-check`: whether a stream keeps to the rules of LL-HLS.

use super::print;
use clap::Args;
use loadtest::hls::check::{CheckReport, GatherOptions, gather};
use std::time::Duration;

/// What `hls-check` takes.
#[derive(Debug, Args)]
pub(crate) struct HlsCheck {
    /// The multivariant playlist, for example `http://127.0.0.1:8080/hls/test/index.m3u8`.
    url: String,
    /// Seconds for which the stream is watched.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Watches a stream, and fails when it breaks a rule.
pub(crate) async fn run(arguments: HlsCheck) -> anyhow::Result<()> {
    let watch = Duration::from_secs(arguments.seconds);
    let evidence = gather(&GatherOptions { url: arguments.url, watch }).await?;
    let report = CheckReport::new(&evidence);
    print(arguments.json, &report)?;
    let failed = report.failed().count();
    anyhow::ensure!(failed == 0, "{failed} rules are broken");
    Ok(())
}
