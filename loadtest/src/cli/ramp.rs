//! `millrace-loadtest ramp` and `view`: viewers join in groups, watch, and are measured.

use super::options::{Common, Media};
use super::publisher::{Published, Publisher};
use super::report::{Limits, Report, Watched};
use super::summary::Summary;
use super::{print, progress, wait};
use anyhow::Context;
use clap::Args;
use loadtest::http::Signaling;
use loadtest::light::{Feedback, Identity};
use loadtest::swarm::{JoinOptions, Joined, Status, Swarm, SwarmOptions, Usage, allow_descriptors};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The viewers that join first, and those that join in a burst.
const WATCHING: usize = 0;
const BURST: usize = 1;
/// Who has just connected is catching up for so long; and how it goes is known by then.
const SETTLE_AFTER: Duration = Duration::from_secs(3);
/// How long a group may take until everybody is connected and has caught up.
const SETTLE_WITHIN: Duration = Duration::from_secs(25);
/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(20);

/// What `view` takes.
#[derive(Debug, Args)]
pub(crate) struct View {
    #[command(flatten)]
    common: Common,
    /// How many viewers.
    #[arg(long, default_value_t = 1)]
    viewers: usize,
    #[command(flatten)]
    measure: Measure,
}

/// What `ramp` takes.
#[derive(Debug, Args)]
pub(crate) struct Ramp {
    #[command(flatten)]
    common: Common,
    /// How many viewers watch from the beginning.
    #[arg(long, default_value_t = 50)]
    watching: usize,
    /// How many viewers join while those watch.
    #[arg(long, default_value_t = 0)]
    burst: usize,
    /// How many of these a second; as fast as it goes without.
    #[arg(long)]
    burst_rate: Option<f64>,
    /// Publish the stream here as well, by WHIP, RTMP or SRT as the address says.
    #[arg(long, value_name = "URL")]
    publish: Option<String>,
    /// The token to publish with.
    #[arg(long, env = "MILLRACE_LOADTEST_PUBLISH_TOKEN")]
    publish_token: Option<String>,
    #[command(flatten)]
    media: Media,
    #[command(flatten)]
    measure: Measure,
}

/// How is measured.
#[derive(Debug, Args)]
struct Measure {
    /// Viewers that join a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds that are measured once everybody watches.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// POSTs and DELETEs under way at the same time.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Viewers ask for lost packets again.
    #[arg(long)]
    nack: bool,
    /// What viewers tell of how packets arrive: transport-cc as browsers do, remb=KBPS, or none.
    #[arg(long, default_value = "none")]
    feedback: Feedback,
    /// What viewers choose among layers, in turn where it is given several times: JSON, as in
    /// `{"maxHeight":360}`.
    #[arg(long = "choice", value_name = "JSON")]
    choices: Vec<String>,
    /// Viewers refused with 503 try again when the server says.
    #[arg(long)]
    retry: bool,
    /// The server's process id, for its CPU time and memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Writes the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Print one line for each phase, under this name, instead of the tables.
    #[arg(long, value_name = "NAME")]
    summary: Option<String>,
    /// What `floor` says of sendto, in microseconds: to be compared with in the summary.
    #[arg(long, value_name = "US")]
    sendto_us: Option<f64>,
    #[command(flatten)]
    limits: Limits,
}

struct Plan {
    common: Common,
    watching: usize,
    burst: usize,
    burst_rate: Option<f64>,
    publish: Option<Published>,
    measure: Measure,
}

/// Joins viewers to a stream that is live.
pub(crate) async fn view(arguments: View) -> anyhow::Result<()> {
    let View { common, viewers, measure } = arguments;
    let plan =
        Plan { common, watching: viewers, burst: 0, burst_rate: None, publish: None, measure };
    run(plan).await
}

/// Joins one group of viewers, then perhaps another in a burst.
pub(crate) async fn ramp(arguments: Ramp) -> anyhow::Result<()> {
    let (media, token) = (&arguments.media, &arguments.publish_token);
    let publish = arguments.publish.as_deref();
    let publish = publish.map(|url| Published::new(url, token.clone(), media)).transpose()?;
    let Ramp { common, watching, burst, burst_rate, measure, .. } = arguments;
    run(Plan { common, watching, burst, burst_rate, publish, measure }).await
}

async fn run(plan: Plan) -> anyhow::Result<()> {
    allow_descriptors(plan.watching + plan.burst)?;
    let server = plan.measure.server_pid.map(Usage::of).transpose()?;
    let publisher = match plan.publish.clone() {
        Some(published) => Some(Publisher::start(published).await?),
        None => None,
    };
    let (watched, interrupted) = watch(&plan).await?;
    let published = publisher.map(Publisher::end).transpose()?;
    let report = Report::new(watched, published, server);
    if let Some(path) = &plan.measure.json_file {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match &plan.measure.summary {
        Some(name) => print(false, &Summary::new(name, &report, plan.measure.sendto_us))?,
        None => print(plan.common.json, &report)?,
    }
    if !interrupted {
        plan.measure.limits.check(&report)?;
    }
    Ok(())
}

/// Runs all phases; returns what was seen, and whether it was cut short.
async fn watch(plan: &Plan) -> anyhow::Result<(Watched, bool)> {
    let measure = &plan.measure;
    let signaling = Signaling::new(plan.common.token.as_deref())?;
    let options = SwarmOptions {
        identity: Identity::generate()?,
        groups: 2,
        nack: measure.nack,
        feedback: measure.feedback,
        server_process: measure.server_pid,
    };
    let swarm = Arc::new(Swarm::start(options)?);
    let reporter = tokio::spawn(report_progress(swarm.clone()));
    let mut groups = Vec::new();
    let phases = async {
        groups.push(join(plan, &swarm, &signaling, WATCHING).await?);
        swarm.phase("steady");
        if !wait(measure.seconds).await? || plan.burst == 0 {
            return Ok(());
        }
        swarm.phase("burst");
        groups.push(join(plan, &swarm, &signaling, BURST).await?);
        swarm.phase("after");
        wait(measure.seconds).await?;
        anyhow::Ok(())
    };
    let interrupted = tokio::select! {
        result = phases => result.map(|()| false)?,
        result = tokio::signal::ctrl_c() => result.map(|()| true)?,
    };
    swarm.finish().await;
    reporter.abort();
    let mut joins = Vec::new();
    let mut undeleted = 0;
    for group in groups {
        joins.push(group.joins.clone());
        undeleted += group.delete(&signaling, measure.in_flight).await;
    }
    // The reporter lets go of its share when it has ended.
    let _ = reporter.await;
    let swarm = Arc::into_inner(swarm).context("nobody else holds the swarm")?;
    Ok((Watched { outcome: swarm.end()?, joins, undeleted }, interrupted))
}

/// Posts the offers of a group and waits until its viewers have caught up.
async fn join(
    plan: &Plan,
    swarm: &Arc<Swarm>,
    signaling: &Signaling,
    group: usize,
) -> anyhow::Result<Joined> {
    let (viewers, rate) = match group {
        WATCHING => (plan.watching, Some(plan.measure.rate)),
        _ => (plan.burst, plan.burst_rate),
    };
    let options = JoinOptions {
        url: plan.common.url.clone(),
        group,
        viewers,
        rate,
        in_flight: plan.measure.in_flight,
        retry: plan.measure.retry,
        choices: plan.measure.choices.clone(),
    };
    let joined = Joined::post(swarm, signaling, &options).await?;
    let invited = joined.joins.answered + if group == BURST { plan.watching } else { 0 };
    let settled = async {
        loop {
            // Those that were refused before are not among the invited.
            let Status { connecting, settling, invited: known, .. } = swarm.status();
            if connecting == 0 && settling == 0 && known + plan.watching >= invited {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::sleep(SETTLE_AFTER).await;
    let _ = tokio::time::timeout(SETTLE_WITHIN, settled).await;
    Ok(joined)
}

/// Says once a second how it goes.
async fn report_progress(swarm: Arc<Swarm>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut before = 0;
    loop {
        ticks.tick().await;
        let now = swarm.status();
        let p99 = now.latency_p99_us.map_or(0.0, |micros| micros as f64 / 1_000.0);
        progress(format_args!(
            "{} watching, {} connecting, {} over; {} packets/s, {} lost, p99 {p99:.1} ms",
            now.watching,
            now.connecting,
            now.over,
            now.packets.saturating_sub(before),
            now.lost,
        ));
        before = now.packets;
    }
}
