//! `millrace-loadtest lip-sync`: how far picture and sound are apart for a viewer.

use super::{print, wait};
use anyhow::Context;
use clap::Args;
use loadtest::http::Signaling;
use loadtest::lip_sync::{SOURCE, measure};
use loadtest::whep::{ViewOptions, WhepClient};
use std::io::Write;

/// Packets that are kept: minutes of the stream that is looked for.
const KEEP: usize = 200_000;

/// What `lip-sync` takes.
#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// The WHEP endpoint of a stream that is made of `--print-source`.
    #[arg(required_unless_present = "print_source")]
    url: Option<String>,
    /// Seconds to watch; the first four are for catching up.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the stream's source for `ffmpeg -re -f lavfi -i`, and nothing else.
    #[arg(long)]
    print_source: bool,
}

/// Watches, decodes, compares.
pub(crate) async fn run(arguments: Measure) -> anyhow::Result<()> {
    if arguments.print_source {
        writeln!(std::io::stdout().lock(), "{SOURCE}")?;
        return Ok(());
    }
    let url = arguments.url.context("a WHEP endpoint")?;
    let options = ViewOptions { keep: KEEP, ..ViewOptions::default() };
    let viewer = WhepClient::view(&Signaling::new(None)?, &url, options).await?;
    wait(arguments.seconds).await?;
    let answer = viewer.answer.clone();
    let log = viewer.log().update(std::mem::take);
    viewer.end().await?;
    print(arguments.json, &measure(&log, &answer).await?)
}
