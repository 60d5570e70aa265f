//! `millrace-loadtest publish`: sends a stream.

use super::options::{Common, Media};
use super::{print, wait};
use anyhow::Context;
use clap::Args;
use loadtest::http::Signaling;
use loadtest::report::PublishReport;
use loadtest::whip::{PublishLog, WhipClient};

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
    let options = arguments.media.publish_options()?;
    let common = &arguments.common;
    let signaling = Signaling::new(common.token.as_deref())?;
    let client = WhipClient::publish(&signaling, &common.url, options).await?;
    wait(arguments.seconds).await?;
    let report = client.log().read(report);
    client.end().await.context("the session did not end cleanly")?;
    print(common.json, &report)
}

/// What a publisher did and was told.
pub(crate) fn report(log: &PublishLog) -> PublishReport {
    PublishReport {
        packets: log.packets,
        keyframes: log.keyframes,
        keyframe_requests: log.keyframe_requests.len(),
        keyframe_requests_a_second_max: most_a_second(&log.keyframe_requests),
        nacked: log.nacks.len(),
        resent: log.resent,
    }
}

/// The most that came within any second, or a little less: who asks once a second may be early.
fn most_a_second(times: &[std::time::Instant]) -> usize {
    let second = std::time::Duration::from_millis(950);
    let within = |(at, first): (usize, &std::time::Instant)| {
        let rest = times.get(at..).unwrap_or_default();
        rest.iter().take_while(|time| time.duration_since(*first) < second).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn requests_are_counted_within_any_second() {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        assert_eq!(most_a_second(&[]), 0);
        assert_eq!(most_a_second(&[at(0), at(980), at(1_000), at(1_800), at(1_950)]), 3);
    }
}
