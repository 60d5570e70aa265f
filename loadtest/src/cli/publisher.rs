//! A publisher that runs beside what a command does, by the protocol that its address says.

use super::options::{Break, Media};
use anyhow::Context;
use loadtest::http::Signaling;
use loadtest::push::{PushClient, PushOptions, is_push};
use loadtest::report::PublishReport;
use loadtest::whip::{PublishLog, PublishOptions, WhipClient};
use std::convert::Infallible;
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is published, and where.
#[derive(Clone)]
pub(crate) struct Published {
    url: String,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Whip { token: Option<String>, options: Box<PublishOptions>, breaks: Vec<Break> },
    Push(PushOptions),
}

impl Published {
    /// `rtmp://` and `srt://` have the token in the address.
    pub(crate) fn new(url: &str, token: Option<String>, media: &Media) -> anyhow::Result<Self> {
        let way = if is_push(url) {
            Way::Push(media.push_options()?)
        } else {
            let options = Box::new(media.publish_options()?);
            Way::Whip { token, options, breaks: media.breaks().to_vec() }
        };
        Ok(Self { url: url.to_owned(), way })
    }
}

/// A publisher in a thread of its own, so that it does not wait for anything else here.
pub(crate) struct Publisher {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<PublishReport>>,
}

impl Publisher {
    /// Returns when it publishes.
    pub(crate) async fn start(published: Published) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(publish(published, ready, stopped))
        };
        let thread = std::thread::Builder::new().name("publisher".to_owned()).spawn(run)?;
        let this = Self { stop, thread };
        match is_ready.await {
            Ok(()) => Ok(this),
            Err(_) => this.end().and_then(|_| anyhow::bail!("the publisher ended")),
        }
    }

    /// Stops it.
    pub(crate) fn end(self) -> anyhow::Result<PublishReport> {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow::anyhow!("the publisher's thread panicked"))?
    }
}

async fn publish(
    published: Published,
    ready: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<PublishReport> {
    let Published { url, way } = published;
    match way {
        Way::Whip { token, options, breaks } => {
            let signaling = Signaling::new(token.as_deref())?;
            let client = WhipClient::publish(&signaling, &url, *options).await?;
            let _ = ready.send(());
            tokio::select! {
                _ = stopped => {}
                never = keep(&client, &breaks) => match never {},
            }
            let report = client.log().read(report);
            client.end().await.context("the publisher's session did not end cleanly")?;
            Ok(report)
        }
        Way::Push(options) => {
            let client = PushClient::publish(&url, options).await?;
            let _ = ready.send(());
            let _ = stopped.await;
            let log = client.log().read(Clone::clone);
            client.end().await;
            let over = log.closed.as_ref();
            anyhow::ensure!(over.is_none(), "{url}: {}", over.map_or("", |reason| reason));
            let packets = log.pictures + log.audio;
            Ok(PublishReport { packets, keyframes: log.keyframes, ..PublishReport::default() })
        }
    }
}

/// Stops layers and goes on with them when their times have come.
async fn keep(client: &WhipClient, breaks: &[Break]) -> Infallible {
    let start = Instant::now();
    let stops = breaks.iter().map(|it| (it.from, it.place, true));
    let resumes = breaks.iter().filter_map(|it| Some((it.to?, it.place, false)));
    let mut changes: Vec<_> = stops.chain(resumes).collect();
    changes.sort_unstable();
    for (at, place, stops) in changes {
        tokio::time::sleep_until(start + at).await;
        if stops {
            client.pause_layer(place);
        } else {
            client.resume_layer(place);
        }
    }
    std::future::pending().await
}

/// What a publisher did and was told.
fn report(log: &PublishLog) -> PublishReport {
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
