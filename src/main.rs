//! millrace: arguments, configuration, log, start, wait for the signal, stop.

use anyhow::Context as _;
use millrace::config::log::Format;
use millrace::config::{self, Action, Config};
use millrace::server::{Report, Server, check_health, diagnose, welcome};
use millrace::telemetry::{LogFormat, start_log};
use std::io::Write as _;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let action = match config::load(std::env::args_os(), std::env::vars_os()) {
        Ok(action) => action,
        Err(error) => return failed(&error.into()),
    };
    let done = match action {
        Action::Print(text) => print(&text),
        Action::Diagnose(config) => return examined(&diagnose(&config)),
        Action::CheckHealth(config) => check_health(&config).context("not well"),
        Action::Run(config) => run(*config),
    };
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(std::io::stderr(), "millrace: {error:#}");
    ExitCode::FAILURE
}

fn examined(report: &Report) -> ExitCode {
    let failures = report.has_failures();
    let printed = print(&report.to_string()).is_ok();
    if printed && !failures { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to the output")
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let format = match config.log.format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    start_log(config.log.level.as_str(), format);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Server::start(config).await?;
    print(&(welcome(server.bound(), server.tokens()) + server.advice()))?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = server.failed() => true,
    };
    server.stop().await;
    anyhow::ensure!(!failed, "a media thread has failed; its error is in the log");
    Ok(())
}
