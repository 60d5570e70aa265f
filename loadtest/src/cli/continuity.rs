//! `millrace-loadtest continuity`: counts the gaps in a file of MPEG-TS.

use super::print;
use anyhow::Context;
use clap::Args;
use loadtest::continuity::Continuity;
use std::path::PathBuf;

/// What `continuity` takes.
#[derive(Debug, Args)]
pub(crate) struct Count {
    /// The file.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the number of gaps in what carries media, and nothing else.
    #[arg(long)]
    gaps: bool,
}

/// Counts.
pub(crate) fn run(arguments: &Count) -> anyhow::Result<()> {
    let name = || arguments.file.display().to_string();
    let counted = Continuity::of(&std::fs::read(&arguments.file).with_context(name)?);
    anyhow::ensure!(counted.media_packets() > 0, "{}: no MPEG-TS with media", name());
    if arguments.gaps {
        print(false, &counted.media_errors())
    } else {
        print(arguments.json, &counted)
    }
}
