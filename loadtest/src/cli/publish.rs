//! `millrace-loadtest publish`: sends a stream.

use super::options::{Common, Media};
use super::publisher::{Published, Publisher};
use super::{print, wait};
use clap::Args;

/// What `publish` takes.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    common: Common,
    /// Seconds to run; 0 means until Ctrl-C.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    #[command(flatten)]
    media: Media,
}

/// Publishes until the time is up.
pub(crate) async fn run(arguments: Publish) -> anyhow::Result<()> {
    let common = &arguments.common;
    let published = Published::new(&common.url, common.token.clone(), &arguments.media)?;
    let publisher = Publisher::start(published).await?;
    wait(arguments.seconds).await?;
    print(common.json, &publisher.end()?)
}
