//! `millrace-loadtest impair`: a bad network between real clients and a server.

use super::{progress, wait};
use anyhow::Context;
use clap::Args;
use loadtest::impair::{Change, Front, LinkSettings, Relay, RelayOptions, Script};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Between two lines of a trace.
const TRACE_INTERVAL: Duration = Duration::from_millis(100);

/// What `impair` takes.
///
/// A way is described by `loss_percent`, `delay_ms`, `jitter_ms`, `rate_kbps`, `queue_ms` and
/// `queue_bytes`, for example `--down rate_kbps=3000,queue_ms=200`; each client has a path of its
/// own.
#[derive(Debug, Args)]
pub(crate) struct Impair {
    /// Where clients send media to; its address goes into the answers.
    #[arg(long, default_value = "127.0.0.1:8190")]
    listen: SocketAddr,
    /// The server's media address.
    #[arg(long, default_value = "127.0.0.1:8189")]
    server: SocketAddr,
    /// Relay only, whatever protocol it is that goes by UDP: there are no offers.
    #[arg(long)]
    no_http: bool,
    /// Where clients send their offers.
    #[arg(long, default_value = "127.0.0.1:8081")]
    http_listen: SocketAddr,
    /// The server's HTTP address.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http_server: SocketAddr,
    /// The way to the server.
    #[arg(long, default_value = "", value_parser = Change::parse)]
    up: Change,
    /// The way to the client.
    #[arg(long, default_value = "", value_parser = Change::parse)]
    down: Change,
    /// What changes later: a TOML file of `[[step]]` with `at_s`, `up` and `down`, for example
    /// `down = { rate_kbps = 800, loss_percent = 2 }`.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Writes a line of CSV to this file each 100 ms: seconds since the start, kb/s to clients, the
    /// longest queue to one in milliseconds, and datagrams lost so far.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The seed of losses and jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds to run; 0 means until Ctrl-C.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

/// Relays until the time is up.
pub(crate) async fn run(arguments: Impair) -> anyhow::Result<()> {
    let script = match &arguments.script {
        Some(path) => {
            let name = || path.display().to_string();
            Script::parse(&std::fs::read_to_string(path).with_context(name)?).with_context(name)?
        }
        None => Script::default(),
    };
    let relay = Relay::start(RelayOptions {
        listen: arguments.listen,
        server: arguments.server,
        up: arguments.up.apply(LinkSettings::default()),
        down: arguments.down.apply(LinkSettings::default()),
        steps: script.steps,
        seed: arguments.seed,
    })
    .await
    .context("the media address")?;
    let media = relay.address();
    // It passes offers on until it is dropped.
    let mut front = None;
    if arguments.no_http {
        progress(format_args!("use {media} in place of the server"));
    } else {
        let started = Front::start(arguments.http_listen, arguments.http_server, media).await;
        let http = front.insert(started.context("the HTTP address")?).address();
        progress(format_args!("use http://{http} in place of the server; media passes {media}"));
    }
    match &arguments.trace {
        Some(path) => {
            let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
            tokio::select! {
                waited = wait(arguments.seconds) => drop(waited?),
                failed = trace(&relay, file) => failed.context("the trace")?,
            }
        }
        None => drop(wait(arguments.seconds).await?),
    }
    let counters = relay.counters();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    progress(format_args!("{} passed, {} lost", count(&counters.passed), count(&counters.lost)));
    drop(front);
    Ok(())
}

/// Writes what passes, for as long as that goes.
async fn trace(relay: &Relay, mut file: std::fs::File) -> std::io::Result<()> {
    writeln!(file, "seconds,kbps,queue_ms,lost")?;
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at(start + TRACE_INTERVAL, TRACE_INTERVAL);
    let (mut last, mut bytes_before) = (start, 0);
    loop {
        let now = ticks.tick().await;
        let counters = relay.counters();
        let bytes = counters.down_bytes.load(Ordering::Relaxed);
        let seconds = (now - last).as_secs_f64().max(0.001);
        let kbps = (bytes - bytes_before) as f64 * 8.0 / 1_000.0 / seconds;
        let queue_ms = counters.down_queue_micros.swap(0, Ordering::Relaxed) as f64 / 1_000.0;
        let lost = counters.lost.load(Ordering::Relaxed);
        let since = (now - start).as_secs_f64();
        writeln!(file, "{since:.1},{kbps:.0},{queue_ms:.1},{lost}")?;
        (last, bytes_before) = (now, bytes);
    }
}
