//! `millrace-loadtest impair`: a bad network between real clients and a server.

use super::{progress, wait};
use anyhow::Context;
use clap::Args;
use loadtest::impair::{Change, Front, LinkSettings, Relay, RelayOptions, Script};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

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
    wait(arguments.seconds).await?;
    let counters = relay.counters();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    progress(format_args!("{} passed, {} lost", count(&counters.passed), count(&counters.lost)));
    drop(front);
    Ok(())
}
