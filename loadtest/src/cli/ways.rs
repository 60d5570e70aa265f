//! `millrace-loadtest ways`: the same stream published by several protocols at once, so that what
//! each adds to the latency, and how soon a newcomer sees a picture, can be compared in one run.

use super::options::Media;
use super::publisher::{Published, Publisher};
use super::spread::Spread;
use super::{print, progress};
use anyhow::Context;
use clap::Args;
use loadtest::http::Signaling;
use loadtest::light::{Feedback, Identity};
use loadtest::report::PublishReport;
use loadtest::swarm::{
    Histogram, JoinOptions, Joined, Joins, Outcome, Swarm, SwarmOptions, ViewerOutcome,
    allow_descriptors,
};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Who has just connected catches up for so long.
const SETTLE: Duration = Duration::from_secs(4);

/// What `ways` takes.
#[derive(Debug, Args)]
pub(crate) struct Ways {
    /// A way in: its name in the table, where to publish, where that is watched, and the latency
    /// in milliseconds that was asked for on the way, if any. May be given several times.
    #[arg(long = "way", required = true, value_parser = Way::parse,
        value_name = "NAME,URL,WHEP URL[,MS]")]
    compared: Vec<Way>,
    /// The token of those that publish by WHIP.
    #[arg(long, env = "MILLRACE_LOADTEST_PUBLISH_TOKEN")]
    publish_token: Option<String>,
    /// Viewers of each way whose latency is measured.
    #[arg(long, default_value_t = 3)]
    watching: usize,
    /// Viewers of each way that join later, at moments that know nothing of each other.
    #[arg(long, default_value_t = 40)]
    joining: usize,
    /// Seconds of latency measured before those join.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds over which they join; by default three keyframe intervals.
    #[arg(long)]
    join_seconds: Option<f64>,
    /// The seed of their moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Writes the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    #[command(flatten)]
    media: Media,
}

/// One way in.
#[derive(Debug, Clone, PartialEq)]
struct Way {
    name: String,
    publish: String,
    watch: String,
    /// What SRT was asked to wait for lost packets, which is no cost of the server's.
    agreed_ms: Option<f64>,
}

impl Way {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, publish, watch, agreed_ms) = match text.split(',').collect::<Vec<_>>()[..] {
            [name, publish, watch] => (name, publish, watch, None),
            [name, publish, watch, latency] => {
                let latency = latency.parse().map_err(|_| format!("{latency}: no latency"))?;
                (name, publish, watch, Some(latency))
            }
            _ => return Err("NAME,URL,WHEP URL[,MS]".to_owned()),
        };
        let (name, publish, watch) = (name.to_owned(), publish.to_owned(), watch.to_owned());
        Ok(Self { name, publish, watch, agreed_ms })
    }
}

/// What one way brought.
#[derive(Debug, Clone, Serialize)]
struct WayReport {
    name: String,
    /// From the moment before a picture was handed to the network until the last packet of it was
    /// at a viewer.
    frame_ms: Spread,
    /// The latency that SRT was asked for.
    agreed_ms: Option<f64>,
    /// Packets that those viewers missed.
    lost: u64,
    /// From POST to the last packet of a whole keyframe.
    first_frame_ms: Spread,
    /// Viewers that joined, and did not see one.
    without_frame: usize,
    joins: Vec<Joins>,
    publisher: PublishReport,
}

/// The results.
#[derive(Debug, Clone, Serialize)]
struct Report {
    ways: Vec<WayReport>,
}

/// Publishes, watches, joins, compares.
pub(crate) async fn run(arguments: Ways) -> anyhow::Result<()> {
    let count = arguments.compared.len();
    allow_descriptors(count * (arguments.watching + arguments.joining + 4))?;
    let mut publishers = Vec::with_capacity(count);
    for way in &arguments.compared {
        let token = arguments.publish_token.clone();
        let published = Published::new(&way.publish, token, &arguments.media)?;
        let publisher = Publisher::start(published).await;
        publishers.push(publisher.with_context(|| way.name.clone())?);
    }
    let identity = Identity::generate()?;
    let options = SwarmOptions {
        identity,
        groups: 2 * count,
        nack: false,
        feedback: Feedback::None,
        server_process: None,
    };
    let swarm = Arc::new(Swarm::start(options)?);
    let signaling = Signaling::new(None)?;
    let mut joined = watch(&arguments, &swarm, &signaling).await?;
    swarm.finish().await;
    let mut joins = vec![Vec::new(); count];
    for (group, part) in joined.drain(..) {
        joins[group % count].push(part.joins.clone());
        let undeleted = part.delete(&signaling, 4).await;
        anyhow::ensure!(undeleted == 0, "{undeleted} sessions were gone before their end");
    }
    let swarm = Arc::into_inner(swarm).context("nobody else holds the swarm")?;
    let outcome = swarm.end()?;
    let mut ways = Vec::with_capacity(count);
    for ((at, way), publisher) in arguments.compared.iter().enumerate().zip(publishers) {
        let published = publisher.end().with_context(|| way.name.clone())?;
        let joins = std::mem::take(&mut joins[at]);
        ways.push(way_report(way, (at, count), &outcome, joins, published));
    }
    let report = Report { ways };
    if let Some(path) = &arguments.json_file {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(arguments.json, &report)?;
    for way in &report.ways {
        let joining = arguments.joining as u64;
        let (seen, name) = (way.first_frame_ms.count, &way.name);
        anyhow::ensure!(seen == joining, "{name}: {seen} of {joining} viewers saw a keyframe");
        anyhow::ensure!(way.frame_ms.count > 0, "{name}: no picture came");
    }
    Ok(())
}

/// All viewers, with the groups they are in: of each way those who watch, then those who join.
async fn watch(
    arguments: &Ways,
    swarm: &Arc<Swarm>,
    signaling: &Signaling,
) -> anyhow::Result<Vec<(usize, Joined)>> {
    let count = arguments.compared.len();
    let options = |group: usize, viewers| JoinOptions {
        url: arguments.compared[group % count].watch.clone(),
        group,
        viewers,
        rate: None,
        in_flight: 4,
        retry: false,
        choices: Vec::new(),
    };
    let mut joined = Vec::new();
    for group in 0..count {
        let part = Joined::post(swarm, signaling, &options(group, arguments.watching)).await?;
        joined.push((group, part));
    }
    tokio::time::sleep(SETTLE).await;
    swarm.phase("steady");
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    swarm.phase("joins");
    let keyframes = arguments.media.keyframe_seconds() * 3.0;
    let span = arguments.join_seconds.unwrap_or(keyframes.max(1.0));
    progress(format_args!("{} join each way within {span:.0} s", arguments.joining));
    let mut dice = Dice(arguments.seed);
    let start = Instant::now();
    let mut posts = JoinSet::new();
    for group in (count..2 * count).flat_map(|group| vec![group; arguments.joining]) {
        let at = start + Duration::from_secs_f64(span * dice.roll());
        let (swarm, signaling, options) = (swarm.clone(), signaling.clone(), options(group, 1));
        posts.spawn(async move {
            tokio::time::sleep_until(at).await;
            anyhow::Ok((group, Joined::post(&swarm, &signaling, &options).await?))
        });
    }
    while let Some(post) = posts.join_next().await {
        joined.push(post??);
    }
    tokio::time::sleep(SETTLE).await;
    Ok(joined)
}

/// From 0 up to 1 (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

fn way_report(
    way: &Way,
    (at, count): (usize, usize),
    outcome: &Outcome,
    joins: Vec<Joins>,
    publisher: PublishReport,
) -> WayReport {
    let steady = outcome.phases.iter().find(|phase| phase.name == "steady");
    let flow = steady.and_then(|phase| phase.flows.get(at));
    let newcomers = || outcome.viewers.iter().filter(|viewer| viewer.group == count + at);
    let mut first_frames = Histogram::default();
    let seen = newcomers().filter_map(|viewer: &ViewerOutcome| viewer.post_to_frame_us);
    seen.for_each(|micros| first_frames.add(micros));
    WayReport {
        name: way.name.clone(),
        frame_ms: flow.map(|flow| Spread::of(&flow.frame_latency)).unwrap_or_default(),
        agreed_ms: way.agreed_ms,
        lost: steady.map_or(0, |phase| phase.counts(at).lost),
        first_frame_ms: Spread::of(&first_frames),
        without_frame: newcomers().filter(|viewer| viewer.post_to_frame_us.is_none()).count(),
        joins,
        publisher,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.1}"));
        writeln!(
            out,
            "{:<16}{:>9}{:>8}{:>8}{:>8}{:>8}{:>12}{:>6} |{:>7}{:>8}{:>8}{:>8}",
            "way in",
            "pictures",
            "p50 ms",
            "p95",
            "p99",
            "max",
            "beyond SRT",
            "lost",
            "joined",
            "p50 ms",
            "p95",
            "max"
        )?;
        for (at, way) in self.ways.iter().enumerate() {
            let (frame, first) = (&way.frame_ms, &way.first_frame_ms);
            let beyond = way.agreed_ms.and_then(|agreed| {
                Some(format!("{:.1}/{:.1}", frame.p50? - agreed, frame.p95? - agreed))
            });
            if at > 0 {
                writeln!(out)?;
            }
            write!(
                out,
                "{:<16}{:>9}{:>8}{:>8}{:>8}{:>8}{:>12}{:>6} |{:>7}{:>8}{:>8}{:>8}",
                way.name,
                frame.count,
                cell(frame.p50),
                cell(frame.p95),
                cell(frame.p99),
                cell(frame.max),
                beyond.unwrap_or_else(|| "-".to_owned()),
                way.lost,
                first.count,
                cell(first.p50),
                cell(first.p95),
                cell(first.max)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_says_how_it_is_called_published_and_watched() {
        let way = Way::parse("SRT,udp://127.0.0.1:9,http://h/whep/a,20").expect("four parts");
        assert_eq!((way.watch.as_str(), way.agreed_ms), ("http://h/whep/a", Some(20.0)));
        let way = Way::parse("RTMP,rtmp://h/live/a?b,http://h/whep/a").expect("three parts");
        assert_eq!((way.publish.as_str(), way.agreed_ms), ("rtmp://h/live/a?b", None));
        assert!(Way::parse("RTMP,rtmp://h/live/a").is_err());
    }
}
