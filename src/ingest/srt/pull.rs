//! Streams that the server fetches: it calls an SRT listener, and calls again when that is gone.

use super::libsrt::{self, Socket};
use super::publisher::{self, End};
use super::receiver::{Connection, Door};
use crate::config::srt::{Passphrase, Pull};
use crate::engine::command::EndReason;
use crate::ingest::{Entrance, Refusal};
use crate::media::protocol::Protocol;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// How long a listener may take to answer: four round trips around the world, and losses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two calls: at first, and where nobody has answered for long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What has lasted so long was no failure.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("its name cannot be resolved: {0}")]
    Name(std::io::Error),
    #[error("its name has no address")]
    NoAddress,
    #[error("{0}")]
    Call(libsrt::Error),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the call was given up")]
    GivenUp,
}

/// Fetches a stream until the server stops.
pub(super) async fn run(
    pull: Pull,
    latency: Duration,
    entrance: Arc<Entrance>,
    door: Door,
    mut stopping: watch::Receiver<bool>,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = stopped(&mut stopping) => return,
            connected = connect(&pull, latency, &door) => match connected {
                Err(error) => warn!(?pull, %error, next_in = ?pause, "cannot fetch a stream"),
                Ok(connection) => {
                    if fetch(&pull, connection, &entrance, pause).await {
                        return;
                    }
                }
            },
        }
        if began.elapsed() >= GOOD_AFTER {
            pause = PAUSE_MIN;
        }
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits until the server stops, or until nobody is there any more to say so.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Receives what was connected to; true once the server stops.
async fn fetch(pull: &Pull, connection: Connection, entrance: &Entrance, pause: Duration) -> bool {
    match entrance.admit_fetched(&pull.stream, Protocol::Srt) {
        Err(refusal) => {
            let error = PullError::Refused(refusal);
            warn!(?pull, %error, next_in = ?pause, "cannot fetch a stream");
            let _ = tokio::task::spawn_blocking(move || drop(connection)).await;
            false
        }
        Ok(feed) => {
            info!(?pull, session = ?feed.session(), "fetches a stream");
            publisher::run(connection, feed).await == End::Session(EndReason::Stopping)
        }
    }
}

async fn connect(pull: &Pull, latency: Duration, door: &Door) -> Result<Connection, PullError> {
    let mut addresses =
        tokio::net::lookup_host((pull.host.as_str(), pull.port)).await.map_err(PullError::Name)?;
    let remote = addresses.next().ok_or(PullError::NoAddress)?;
    let (pull, latency) = (pull.clone(), pull.latency.unwrap_or(latency));
    let call = move || call(&pull, remote, latency);
    let called = tokio::task::spawn_blocking(call).await.map_err(|_| PullError::GivenUp)?;
    called.and_then(|socket| door.connection(socket)).map_err(PullError::Call)
}

/// Calls, which waits.
fn call(pull: &Pull, remote: SocketAddr, latency: Duration) -> Result<Socket, libsrt::Error> {
    let socket = Socket::new(latency)?;
    let passphrase = pull.passphrase.as_ref().map(Passphrase::reveal);
    let passphrase = passphrase.map(|it| (it, i32::from(pull.key_bytes)));
    socket.connect(remote, &pull.stream_id, passphrase, CONNECT_TIMEOUT)?;
    Ok(socket)
}
