//! `millrace-loadtest`: publishes streams by WHIP, RTMP and SRT, watches them by WHEP by the
//! thousand, and measures.

mod cli;

use clap::{Parser, Subcommand};
use cli::summary::Summary;
use cli::{continuity, floor, hls, hls_check, impair, lip_sync, print, publish, ramp, ways};

/// Publishes to any WHIP, RTMP or SRT server, watches by WHEP, and measures what arrives.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publishes a stream: by WHIP, or by RTMP or SRT where the address begins with `rtmp://` or
    /// `srt://` (the token is a part of it then).
    Publish(publish::Publish),
    /// Watches a stream that is live, with any number of viewers.
    View(ramp::View),
    /// Joins viewers in two groups, publishes as well if asked to, and compares the groups.
    Ramp(ramp::Ramp),
    /// Publishes by several protocols at once, and compares latency and first frames.
    Ways(ways::Ways),
    /// Plays a stream by LL-HLS, with any number of players.
    Hls(hls::Hls),
    /// Says which rules of LL-HLS a stream keeps to, and which it breaks.
    HlsCheck(hls_check::HlsCheck),
    /// Puts a bad network between real clients and a server.
    Impair(impair::Impair),
    /// Says how far picture and sound of a stream that flashes and beeps are apart for a viewer.
    LipSync(lip_sync::Measure),
    /// Counts the gaps in a file of MPEG-TS.
    Continuity(continuity::Count),
    /// Prints the head of the table that `--summary` fills.
    SummaryHead,
    /// Measures what sending UDP costs on this machine at least.
    Floor(floor::Floor),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::View(arguments) => ramp::view(arguments).await,
        Command::Ramp(arguments) => ramp::ramp(arguments).await,
        Command::Ways(arguments) => ways::run(arguments).await,
        Command::Hls(arguments) => hls::run(arguments).await,
        Command::HlsCheck(arguments) => hls_check::run(arguments).await,
        Command::Impair(arguments) => impair::run(arguments).await,
        Command::LipSync(arguments) => lip_sync::run(arguments).await,
        Command::Continuity(arguments) => continuity::run(&arguments),
        Command::SummaryHead => print(false, &Summary::head()),
        Command::Floor(arguments) => floor::run(&arguments),
    }
}
