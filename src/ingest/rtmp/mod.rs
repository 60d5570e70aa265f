//! RTMP and RTMPS.
//!
//! - `address`: what encoders call server and stream key
//! - `amf`: values in AMF0
//! - `chunk`: chunks -> messages
//! - `connection`: one encoder's connection
//! - `flv`: audio and video messages -> frames
//! - `reply`: what is said to an encoder
//! - `session`: one encoder's commands
//!
//! Here is the listener: it accepts, and gives each connection a task of its own.

pub mod address;
pub mod amf;
pub mod chunk;
mod connection;
pub mod flv;
mod reply;
pub mod session;

use super::places::Places;
use super::{Entrance, ListenError, Port, Running};
use crate::config::Config;
use crate::config::address::{Listen, ipv6_works};
use crate::config::rtmp::Rtmp;
use crate::media::protocol::Protocol;
use connection::{Guest, Host, serve};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// After a failure to accept: of descriptors, say, some may be free by then.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long publishers may take to be told that the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The ports that the configuration wants.
pub(super) fn ports(config: &Rtmp) -> Vec<Port> {
    let rows =
        [("RTMP", "rtmp.listen", config.listen), ("RTMPS", "rtmp.tls_listen", config.tls_listen)];
    let port = |(purpose, option, listen): (_, _, Listen)| {
        Some(Port { purpose, option, is_udp: false, address: listen.address(ipv6_works())? })
    };
    rows.into_iter().filter_map(port).collect()
}

/// Listens, and takes encoders in until `stopping`. RTMPS is served where there is TLS.
///
/// # Errors
///
/// [`ListenError`] names the port that cannot be had.
pub fn start(
    config: &Config,
    entrance: Arc<Entrance>,
    tls: Option<&TlsAcceptor>,
    stopping: watch::Receiver<bool>,
) -> Result<Running, ListenError> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for port in ports(&config.rtmp) {
        let tls = match (port.purpose, tls) {
            ("RTMPS", None) => continue,
            ("RTMPS", Some(tls)) => Some(tls.clone()),
            _ => None,
        };
        let (listener, address) = listen(&port)?;
        listeners.push((listener, tls));
        bound.push(Port { address, ..port });
    }
    let host = Arc::new(Host {
        entrance,
        read_timeout: config.rtmp.read_timeout,
        publish_timeout: config.rtmp.publish_timeout,
    });
    let places = Places::new(config.rtmp.half_open_max, config.rtmp.half_open_per_address_max);
    let stop_within = STOP_WITHIN.min(config.server.shutdown_timeout);
    let door = Door { host, places, tasks: JoinSet::new() };
    let task = tokio::spawn(door.keep(listeners, stopping, stop_within));
    Ok(Running { ports: bound, task })
}

fn listen(port: &Port) -> Result<(TcpListener, SocketAddr), ListenError> {
    let Port { purpose, option, address, .. } = *port;
    let listener = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        io::Result::Ok((TcpListener::from_std(listener)?, bound))
    };
    listener().map_err(|error| ListenError { purpose, option, address, error })
}

/// Who lets encoders in.
struct Door {
    host: Arc<Host>,
    places: Places,
    tasks: JoinSet<()>,
}

impl Door {
    async fn keep(
        mut self,
        listeners: Vec<(TcpListener, Option<TlsAcceptor>)>,
        mut stopping: watch::Receiver<bool>,
        stop_within: Duration,
    ) {
        let (first, second) = (listeners.first(), listeners.get(1));
        loop {
            let (accepted, tls) = tokio::select! {
                // An error means that the server itself was dropped: that is a stop too.
                _ = stopping.wait_for(|stopping| *stopping) => break,
                Some(()) = ended(&mut self.tasks) => continue,
                accepted = accept(first) => accepted,
                accepted = accept(second) => accepted,
            };
            match accepted {
                Ok((stream, remote)) => self.admit(stream, remote, tls.cloned()),
                Err(error) => {
                    warn!(%error, "cannot accept an RTMP connection");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(listeners);
        self.places.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(stop_within, all).await.is_err() {
            debug!(left = self.tasks.len(), "RTMP connections are cut off by the stop");
            self.tasks.shutdown().await;
        }
    }

    fn admit(&mut self, stream: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) {
        // What is said is short and waited for.
        let _ = stream.set_nodelay(true);
        let publishes = Arc::new(AtomicBool::new(false));
        let protocol = if tls.is_some() { Protocol::Rtmps } else { Protocol::Rtmp };
        let guest = Guest { remote, protocol, publishes: Arc::clone(&publishes) };
        let host = Arc::clone(&self.host);
        let network = self.places.make_room(remote.ip());
        let task = self.tasks.spawn(async move {
            let Some(tls) = tls else { return serve(stream, host, guest).await };
            match timeout(host.publish_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, host, guest).await,
                Ok(Err(error)) => debug!(%error, "a TLS handshake for RTMPS failed"),
                Err(_) => debug!("a TLS handshake for RTMPS took too long"),
            }
        });
        self.places.take(network, task, publishes);
    }
}

/// The next connection at a listener; never, where there is none.
async fn accept(
    listener: Option<&(TcpListener, Option<TlsAcceptor>)>,
) -> (io::Result<(TcpStream, SocketAddr)>, Option<&TlsAcceptor>) {
    match listener {
        Some((listener, tls)) => (listener.accept().await, tls.as_ref()),
        None => std::future::pending().await,
    }
}

/// One connection's task has ended; `None` where there is none.
async fn ended(tasks: &mut JoinSet<()>) -> Option<()> {
    let ended = tasks.join_next().await?;
    if let Err(error) = ended
        && error.is_panic()
    {
        warn!(%error, "an RTMP connection ended badly");
    }
    Some(())
}
