//! SRT in: MPEG-TS over the SRT protocol (draft-sharabayko-srt), by libsrt.
//!
//! A caller is looked at twice: in its handshake, where it can be told why it may not publish, and
//! when it is connected. Only then does it take the stream: whoever knows a token and not the
//! passphrase takes nothing.
//!
//! - `libsrt`: the library behind a safe face; all `unsafe` is there
//! - `mpegts`: transport stream -> frames
//! - `places`: how many may connect
//! - `publisher`: one connection's task
//! - `pull`: streams that the server fetches
//! - `receiver`: the thread that reads all connections
//! - `shield`: keeps floods of handshakes from the library
//! - `stream_id`: what a caller wants

mod libsrt;
pub mod mpegts;
mod places;
mod publisher;
mod pull;
mod receiver;
mod shield;
pub mod stream_id;

use super::{Entrance, ListenError, Port, Refusal, Request, Running};
use crate::config::address::ipv6_works;
use crate::config::srt::{Passphrase, Srt};
use crate::media::protocol::Protocol;
use libsrt::{Hook, Knock, Rejection, Socket};
use places::{Knocks, Place, Places};
use receiver::{Callers, Door, Receiver, Registration};
use shield::Shield;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stream_id::StreamIdError;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

/// Callers that were let in and are not yet taken in by our thread.
const WAITING_MAX: i32 = 64;

/// How long connections may take to be told that the server stops, and to close.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Where it listens, if it does.
pub fn port(config: &Srt) -> Option<Port> {
    let address = config.listen.address(ipv6_works())?;
    Some(Port { purpose: "SRT", option: "srt.listen", is_udp: true, address })
}

/// Starts the listener and whatever is to be fetched; `None` where neither is wanted.
///
/// # Errors
///
/// [`ListenError`]: the port cannot be had.
pub fn start(
    config: &Srt,
    entrance: &Arc<Entrance>,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<Running>, ListenError> {
    let wanted = port(config);
    if wanted.is_none() && config.pull.is_empty() {
        return Ok(None);
    }
    let failed = |error: io::Error| {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = wanted.map_or(any, |port| port.address);
        ListenError { purpose: "SRT", option: "srt.listen", address, error }
    };
    let other = |error: libsrt::Error| failed(io::Error::other(error));
    let sockets_max = config.connections_max + config.pull.len() + 1;
    let receiver = Receiver::start(sockets_max, entrance.clock().clone()).map_err(failed)?;
    // Held by every task, so that waiting for its end is waiting for all of them.
    let (alive, all_ended) = mpsc::channel(1);
    let mut listener = None;
    let mut ports = Vec::new();
    if let Some(wanted) = wanted {
        let now = entrance.clock().now();
        let (shield, port) = Shield::bind(wanted.address, now).map_err(failed)?;
        let address = port.local_addr().map_err(failed)?;
        ports.push(Port { address, ..wanted });
        let socket = Socket::new(config.latency).map_err(other)?;
        let desk = Arc::new(Desk::new(config, entrance, shield));
        socket.listen(port, WAITING_MAX, hook(&desk)).map_err(other)?;
        let lobby =
            Lobby { desk, door: receiver.door(), runtime: Handle::current(), alive: alive.clone() };
        listener = Some(receiver.listen(socket, Arc::new(lobby)).map_err(other)?);
    }
    for pull in &config.pull {
        let (entrance, door) = (Arc::clone(entrance), receiver.door());
        let (stopping, alive) = (stopping.clone(), alive.clone());
        let (pull, latency) = (pull.clone(), config.latency);
        tokio::spawn(async move {
            pull::run(pull, latency, entrance, door, stopping).await;
            drop(alive);
        });
    }
    drop(alive);
    let task = tokio::spawn(run(receiver, listener, all_ended, stopping.clone(), STOP_WITHIN));
    Ok(Some(Running { ports, task }))
}

/// Waits for the stop, and then for all to end.
async fn run(
    receiver: Receiver,
    listener: Option<Registration>,
    mut all_ended: mpsc::Receiver<()>,
    mut stopping: watch::Receiver<bool>,
    stop_within: Duration,
) {
    // Where nobody can say it any more, it is so.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    let closed = tokio::task::spawn_blocking(move || drop(listener)).await;
    let ended = async { while all_ended.recv().await.is_some() {} };
    if timeout(stop_within, ended).await.is_err() {
        // One that was let in while the others were told. It ends with the media threads.
        debug!("SRT connections are left to the stop");
    }
    let stopped = tokio::task::spawn_blocking(move || drop(receiver)).await;
    if let Err(error) = closed.and(stopped) {
        warn!(%error, "SRT ended badly");
    }
}

/// Looks at callers.
struct Desk {
    config: Srt,
    entrance: Arc<Entrance>,
    places: Arc<Places>,
    knocks: Mutex<Knocks>,
    shield: Mutex<Shield>,
}

/// What takes callers in that have passed the desk.
struct Lobby {
    desk: Arc<Desk>,
    door: Door,
    runtime: Handle,
    /// See [`start`].
    alive: mpsc::Sender<()>,
}

impl Desk {
    fn new(config: &Srt, entrance: &Arc<Entrance>, shield: Shield) -> Self {
        let places = Places::new(config.connections_max, config.connections_per_address_max);
        let knocks = Mutex::new(Knocks::new(entrance.clock().now()));
        let (config, entrance) = (config.clone(), Arc::clone(entrance));
        Self { config, entrance, places: Arc::new(places), knocks, shield: Mutex::new(shield) }
    }

    /// Looks at a caller in its handshake: gives the passphrase that it needs, if it needs one.
    fn examine(&self, knock: &Knock<'_>) -> Result<Option<String>, Rejection> {
        let now = self.entrance.clock().now();
        let ip = knock.remote.ip();
        self.shield().count(now);
        if !self.knocks(|knocks| knocks.allow(ip, now)) {
            return Err(Rejection::Overload);
        }
        let wanted = stream_id::parse(knock.stream_id)
            .map_err(|error| self.refuse(knock.remote, &error, of_stream_id(error)))?;
        let request = Request {
            protocol: Protocol::Srt,
            stream: wanted.stream,
            token: wanted.token,
            remote: knock.remote,
        };
        let full = self.places.shortage(ip).map(Refusal::Full);
        let checked = full.map_or_else(|| self.entrance.check(request), Err);
        checked.map_err(|error| self.refuse(knock.remote, &error, of_refusal(&error)))?;
        let passphrase = self.config.passphrase_of(wanted.stream);
        Ok(passphrase.map(Passphrase::reveal).map(str::to_owned))
    }

    fn refuse(
        &self,
        remote: SocketAddr,
        error: &dyn std::fmt::Display,
        rejection: Rejection,
    ) -> Rejection {
        if self.entrance.may_log() {
            info!(reason = rejection as i32, %error, "SRT caller refused");
            debug!(%remote, "that was");
        }
        rejection
    }

    fn shield(&self) -> MutexGuard<'_, Shield> {
        self.shield.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knocks<T>(&self, ask: impl FnOnce(&mut Knocks) -> T) -> T {
        ask(&mut self.knocks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Callers for Lobby {
    fn take(&self, caller: Socket, remote: SocketAddr) {
        let Some(place) = self.desk.places.take(remote.ip()) else { return };
        let (entrance, door) = (Arc::clone(&self.desk.entrance), self.door.clone());
        let alive = self.alive.clone();
        self.runtime.spawn(async move {
            let id = caller.stream_id();
            serve(caller, &id, remote, &door, &entrance, place).await;
            drop(alive);
        });
    }

    fn turn(&self, now: Instant) {
        self.desk.shield().turn(now);
    }
}

fn hook(desk: &Arc<Desk>) -> Hook {
    let desk = Arc::clone(desk);
    Box::new(move |knock| desk.examine(knock))
}

/// Serves a caller from when it is connected.
async fn serve(
    socket: Socket,
    id: &str,
    remote: SocketAddr,
    door: &Door,
    entrance: &Entrance,
    place: Place,
) {
    let admitted = stream_id::parse(id).ok().map(|wanted| {
        let (stream, token) = (wanted.stream, wanted.token);
        entrance.admit(Request { protocol: Protocol::Srt, stream, token, remote })
    });
    match (admitted, door.connection(socket)) {
        (Some(Ok(feed)), Ok(connection)) => {
            debug!(session = ?feed.session(), %remote, "SRT caller connected");
            publisher::run(connection, feed).await;
        }
        // What its handshake was told has changed since.
        (Some(Err(error)), _) if entrance.may_log() => info!(%error, "SRT caller refused"),
        (_, Err(error)) => debug!(%error, "SRT caller gone"),
        (Some(Err(_)) | None, _) => {}
    }
    drop(place);
}

/// The number that a caller is told for a stream id that cannot be served.
const fn of_stream_id(error: StreamIdError) -> Rejection {
    match error {
        StreamIdError::NoName | StreamIdError::Syntax => Rejection::BadRequest,
        StreamIdError::Viewing | StreamIdError::Mode => Rejection::BadMode,
        StreamIdError::Type => Rejection::NotSupported,
    }
}

/// The number that a caller is told for a refusal.
const fn of_refusal(refusal: &Refusal) -> Rejection {
    match refusal {
        Refusal::BadName(_) => Rejection::BadRequest,
        Refusal::NoToken(_) => Rejection::Unauthorized,
        Refusal::WrongToken(_) => Rejection::Forbidden,
        Refusal::Taken(_) => Rejection::Conflict,
        Refusal::Full(_) | Refusal::Busy => Rejection::Overload,
        Refusal::Stopping => Rejection::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn a_connection_that_does_not_end_does_not_keep_the_server_from_stopping() {
        let receiver = Receiver::start(1, Clock::system()).expect("a thread");
        let (alive, all_ended) = mpsc::channel(1);
        let (_stop, stopping) = watch::channel(true);
        let stopped = run(receiver, None, all_ended, stopping, Duration::from_millis(1));
        timeout(Duration::from_mins(1), stopped).await.expect("it stops");
        drop(alive);
    }
}
