//! `millrace-loadtest hls`: players of LL-HLS by the thousand.

use super::spread::Spread;
use super::{print, progress, wait};
use anyhow::Context;
use clap::Args;
use loadtest::hls::crowd::{Crowd, CrowdOptions, Outcome, Span};
use loadtest::swarm::allow_descriptors;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Descriptors of each player that listens.
const CONNECTIONS: usize = 4;
/// How long players may take until all play.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(100);

/// What `hls` takes.
#[derive(Debug, Args)]
pub(crate) struct Hls {
    /// The multivariant playlist, for example `http://127.0.0.1:8080/hls/test/index.m3u8`.
    url: reqwest::Url,
    /// How many players.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Players that come a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds that are measured once all play.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Follow the picture only.
    #[arg(long)]
    no_audio: bool,
    /// Take playlists compressed, as browsers do.
    #[arg(long)]
    gzip: bool,
    /// Ask for whole playlists even where there are delta updates.
    #[arg(long)]
    no_skip: bool,
    /// The server's process id, for its CPU time and memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Writes the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Fail when there are more stalls than this while it is measured.
    #[arg(long, value_name = "STALLS")]
    fail_stalls: Option<u64>,
}

/// Lets players come, and measures once all play.
pub(crate) async fn run(arguments: Hls) -> anyhow::Result<()> {
    let clients = arguments.clients;
    allow_descriptors(clients * CONNECTIONS)?;
    let crowd = Crowd::start(CrowdOptions {
        url: arguments.url,
        clients,
        rate: arguments.rate,
        audio: !arguments.no_audio,
        gzip: arguments.gzip,
        skip: !arguments.no_skip,
        server_process: arguments.server_pid,
    })?;
    let reporting = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = crowd.status();
            progress(format_args!(
                "{} of {} play; {} responses, {} stalls, {} failures",
                now.playing, now.started, now.responses, now.stalls, now.failures
            ));
        }
    };
    let all_play = async {
        while crowd.status().playing < clients {
            tokio::time::sleep(LOOK).await;
        }
    };
    let within = Duration::from_secs_f64(clients as f64 / arguments.rate) + SETTLE_WITHIN;
    let measured = async {
        let _ = tokio::time::timeout(within, all_play).await;
        crowd.measure();
        wait(arguments.seconds).await
    };
    tokio::select! {
        measured = measured => drop(measured?),
        () = reporting => {}
    }
    let report = Report::new(&crowd.end()?);
    if let Some(path) = &arguments.json_file {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(arguments.json, &report)?;
    if let Some(limit) = arguments.fail_stalls {
        let Phase { stalls, .. } = report.steady;
        anyhow::ensure!(report.playing == clients, "{} of {clients} play", report.playing);
        anyhow::ensure!(stalls <= limit, "{stalls} stalls, {limit} may be");
    }
    Ok(())
}

/// One phase.
#[derive(Debug, Clone, Serialize)]
struct Phase {
    seconds: f64,
    playlists_a_second: f64,
    files_a_second: f64,
    megabits_a_second: f64,
    stalls: u64,
    stalled_ms: u64,
    late_playlists: u64,
    refused: BTreeMap<u16, u64>,
    broken: BTreeMap<String, u64>,
    /// From the end of what a part shows until a player has it.
    edge_ms: Spread,
    /// From what happens until it is played.
    latency_ms: Spread,
    server_cpu_percent: Option<f64>,
    server_us_per_client_second: Option<f64>,
    server_us_per_request: Option<f64>,
    server_resident_bytes: Option<u64>,
    generator_cpu_percent: f64,
}

impl Phase {
    fn new(span: &Span, clients: usize) -> Self {
        let tally = &span.tally;
        let seconds = span.ended.duration_since(span.began).as_secs_f64().max(0.001);
        let cpu = span.server.map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        let cpu_us = cpu.map(|cpu| cpu.as_secs_f64() * 1e6);
        let requests = tally.playlists + tally.files;
        Self {
            seconds,
            playlists_a_second: tally.playlists as f64 / seconds,
            files_a_second: tally.files as f64 / seconds,
            megabits_a_second: tally.bytes as f64 * 8.0 / 1e6 / seconds,
            stalls: tally.stalls,
            stalled_ms: tally.stalled.as_millis() as u64,
            late_playlists: tally.late,
            refused: tally.refused.clone(),
            broken: tally.broken.clone(),
            edge_ms: Spread::of(&tally.edge),
            latency_ms: Spread::of(&tally.played),
            server_cpu_percent: cpu_us.map(|us| us / 1e4 / seconds),
            server_us_per_client_second: cpu_us.map(|us| us / seconds / clients.max(1) as f64),
            server_us_per_request: cpu_us.map(|us| us / requests.max(1) as f64),
            server_resident_bytes: span.server.map(|(_, after)| after.resident_bytes),
            generator_cpu_percent: span.generator_cpu.as_secs_f64() * 100.0 / seconds,
        }
    }
}

/// The results.
#[derive(Debug, Clone, Serialize)]
struct Report {
    clients: usize,
    playing: usize,
    stalled_clients: usize,
    renditions: usize,
    connections: usize,
    texts_read: u64,
    faults: Vec<String>,
    /// Before anybody came.
    server_start_resident_bytes: Option<u64>,
    startup_ms: Spread,
    joining: Phase,
    steady: Phase,
}

impl Report {
    fn new(outcome: &Outcome) -> Self {
        let before = outcome.joining.server.map(|(before, _)| before.resident_bytes);
        Self {
            clients: outcome.clients,
            playing: outcome.playing,
            stalled_clients: outcome.stalled_clients,
            renditions: outcome.renditions,
            connections: outcome.connections,
            texts_read: outcome.texts,
            faults: outcome.faults.clone(),
            server_start_resident_bytes: before,
            startup_ms: Spread::of(&outcome.startup),
            joining: Phase::new(&outcome.joining, outcome.clients),
            steady: Phase::new(&outcome.steady, outcome.clients),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, playing, renditions, connections, steady, .. } = self;
        writeln!(
            out,
            "{clients} players of {renditions} renditions on {connections} connections; {playing} \
             play, begun within {} (p50 / p99 / max)",
            self.startup_ms
        )?;
        writeln!(
            out,
            "joining: {} stalls; measured for {:.1} s: {} stalls of {} players, {} ms in all",
            self.joining.stalls,
            steady.seconds,
            steady.stalls,
            self.stalled_clients,
            steady.stalled_ms
        )?;
        writeln!(
            out,
            "{:.0} playlists and {:.0} files of media a second, {:.0} Mb/s; {} playlists late, \
             {:?} refused, {:?} broken",
            steady.playlists_a_second,
            steady.files_a_second,
            steady.megabits_a_second,
            steady.late_playlists,
            steady.refused,
            steady.broken
        )?;
        for fault in &self.faults {
            writeln!(out, "  {fault}")?;
        }
        writeln!(out, "a part is there {} after what it shows", steady.edge_ms)?;
        writeln!(out, "and is played {} after", steady.latency_ms)?;
        if let (Some(percent), Some(us), Some(request), Some(bytes)) = (
            steady.server_cpu_percent,
            steady.server_us_per_client_second,
            steady.server_us_per_request,
            steady.server_resident_bytes,
        ) {
            let before = self.server_start_resident_bytes.unwrap_or(0);
            writeln!(
                out,
                "server: {percent:.1} % of a core, {us:.0} us a second for each player, \
                 {request:.1} us for each request; {:.1} MiB, {:.1} KiB for each player",
                bytes as f64 / 1_048_576.0,
                bytes.saturating_sub(before) as f64 / 1_024.0 / (*clients).max(1) as f64
            )?;
        }
        write!(out, "generator: {:.1} % of a core", steady.generator_cpu_percent)
    }
}
