//! Listeners, connections and graceful stop.
//!
//! Every wait has an end: for the TLS handshake, for the head of a request, for its body, for the
//! next request, and for the client to take what it is sent. Only what the media server gives may
//! be waited for longer, and it sees to that itself. A fault costs its own connection and no other.

use crate::acme;
use crate::config::{CertificateSource, Config, Limits};
use crate::places::{Full, Place, Places};
use crate::proxy::TrustedProxies;
use crate::requests::{Answering, Requests};
use crate::tls::{ACME_PROTOCOL, CertificateError, Certificates};
use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How long to wait when the process has no more file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Requests at a time on one HTTP/2 connection: what RFC 9113 §6.5.2 recommends at least. Of a
/// player some four to six wait for what is to come; a cache sends those of many on one connection.
const STREAMS_MAX: u32 = 100;
/// What is kept for each of them until the client takes it.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// How HTTP/2 begins where the client knows that it is spoken (RFC 9113 §3.4); no method does.
const HTTP2_PREFACE: &[u8; 3] = b"PRI";
/// What a caller is told for whom there is no place; written without a connection's state.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\
    Connection: close\r\nAccess-Control-Allow-Origin: *\r\n\
    Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n";
/// The same for one whose address has all the places it may have.
const FULL_ADDRESS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\
    Connection: close\r\nAccess-Control-Allow-Origin: *\r\n\
    Content-Type: text/plain\r\nContent-Length: 39\r\n\r\ntoo many connections from this address\n";

/// Where the server listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<SocketAddr>,
    /// RTMP, which the media server serves.
    pub rtmp: Option<SocketAddr>,
    /// RTMPS, likewise.
    pub rtmps: Option<SocketAddr>,
    /// SRT, likewise; over UDP.
    pub srt: Option<SocketAddr>,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not allowed or not of this machine.
    #[error("cannot listen for {protocol} on {address}: {error}; {advice}")]
    Bind {
        /// `HTTP` or `HTTPS`.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: Error,
        /// What to change.
        advice: &'static str,
    },
    /// No certificate for HTTPS.
    #[error("HTTPS has no certificate: {0}")]
    Certificate(#[from] CertificateError),
}

/// Bound sockets, not yet served.
#[derive(Debug)]
pub struct Listeners {
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    certificates: Option<Arc<Certificates>>,
    addresses: Addresses,
    limits: Limits,
    proxies: TrustedProxies,
}

impl Listeners {
    /// Binds what the configuration names and prepares the certificate.
    ///
    /// # Errors
    ///
    /// [`ServeError`] names the address, the reason and what to change.
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        let http = match config.http {
            Some(address) => Some(bind("HTTP", address).await?),
            None => None,
        };
        let https = match config.https {
            Some(address) => Some(bind("HTTPS", address).await?),
            None => None,
        };
        let is_wanted = https.is_some() || config.certificate_is_shared;
        let certificates = is_wanted.then(|| Certificates::load(config.certificate.clone()));
        let certificates = certificates.transpose()?.map(Arc::new);
        let bound = |listener: &TcpListener| listener.local_addr().ok();
        let addresses = Addresses {
            http: http.as_ref().and_then(bound),
            https: https.as_ref().and_then(bound),
            ..Addresses::default()
        };
        let proxies = TrustedProxies::new(&config.trusted_proxies);
        Ok(Self { http, https, certificates, addresses, limits: config.limits.clone(), proxies })
    }

    /// Where they listen; a port 0 in the configuration has become a real one. What is not HTTP is
    /// left to whoever serves it.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The certificate of HTTPS, for what else is served with it; it changes while it is in use.
    pub const fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }
}

async fn bind(protocol: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "stop the program that has this port, or choose another port",
            ErrorKind::PermissionDenied => {
                "choose a port from 1024 up, or give the program CAP_NET_BIND_SERVICE"
            }
            ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0 for all",
            _ => "choose another address or port",
        };
        ServeError::Bind { protocol, address, error, advice }
    })
}

/// Serves until `shutdown` is done; then takes no more connections, lets the requests in flight
/// finish within [`Limits::stop_timeout`], and returns.
///
/// # Errors
///
/// [`ServeError::Certificate`] where TLS cannot be set up.
pub async fn serve(
    listeners: Listeners,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Listeners { http, https, certificates, limits, proxies, .. } = listeners;
    let (all, per_address) = (limits.connections_max, limits.connections_per_address_max);
    let places = Arc::new(Places::new(all, per_address, proxies.clone()));
    let proxies = Arc::new(proxies);
    let (stop, stopping) = watch::channel(false);
    let mut doors = JoinSet::new();
    let door = |acceptor| Door {
        acceptor,
        app: app.clone(),
        limits: limits.clone(),
        places: Arc::clone(&places),
        proxies: Arc::clone(&proxies),
        stopping: stopping.clone(),
        full: false,
        crowded: false,
    };
    if let (Some(listener), Some(certificates)) = (https, &certificates) {
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config()?));
        doors.spawn(door(Some(acceptor)).keep(listener));
    }
    if let Some(certificates) = certificates {
        if let CertificateSource::Acme(acme) = certificates.source() {
            let every = limits.certificate_interval;
            let kept = acme::keep(acme.clone(), Arc::clone(&certificates), every);
            let mut stopping = stopping.clone();
            doors.spawn(async move {
                tokio::select! {
                    () = stopped(&mut stopping) => {}
                    () = kept => {}
                }
            });
        }
        doors.spawn(look_after(certificates, limits.certificate_interval, stopping.clone()));
    }
    if let Some(listener) = http {
        doors.spawn(door(None).keep(listener));
    }
    shutdown.await;
    // The doors hold receivers; without any the server was listening nowhere.
    let _ = stop.send(true);
    while doors.join_next().await.is_some() {}
    Ok(())
}

/// Reads the certificate again at intervals.
async fn look_after(
    certificates: Arc<Certificates>,
    every: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = sleep(every) => {}
        }
        let certificates = Arc::clone(&certificates);
        let looked = tokio::task::spawn_blocking(move || certificates.refresh()).await;
        if looked.is_err() {
            tracing::error!("looking at the certificate panicked; the old one stays in use");
        }
    }
}

/// Done when the server stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that `serve` itself was dropped: that is a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// One listener and what its connections need.
#[derive(Clone)]
struct Door {
    acceptor: Option<TlsAcceptor>,
    app: Router,
    limits: Limits,
    places: Arc<Places>,
    proxies: Arc<TrustedProxies>,
    stopping: watch::Receiver<bool>,
    /// Whether the last caller was refused: one warning for a whole run of them.
    full: bool,
    /// Whether an address has ever had all its places: who does that could fill the log.
    crowded: bool,
}

impl Door {
    async fn keep(mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut self.stopping) => break,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    if let Some(place) = self.place(&stream, from.ip()) {
                        connections.spawn(self.clone().admit(stream, from.ip(), place));
                    }
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(self.limits.stop_timeout, drained).await.is_err() {
            tracing::warn!(unfinished = connections.len(), "requests cut off by the stop");
            connections.shutdown().await;
        }
    }

    /// A place for one more connection, or a refusal where there is none.
    fn place(&mut self, stream: &TcpStream, from: IpAddr) -> Option<Place> {
        let place = self.places.take(from);
        let full = place.as_ref().err().copied();
        match full {
            Some(Full::All) if !self.full => {
                tracing::warn!("all connections are in use; more are refused");
            }
            Some(Full::Address) if !self.crowded => {
                self.crowded = true;
                tracing::warn!(
                    "one address has limits.http_connections_per_address_max connections, more \
                     are refused; if it is a proxy, name it in network.trusted_proxies"
                );
            }
            _ => {}
        }
        if let Some(full) = full {
            tracing::debug!(%from, ?full, "connection refused");
            // A fresh socket has room for one small answer, so nobody waits here.
            if self.acceptor.is_none() {
                let _ = stream.try_write(if full == Full::All { FULL } else { FULL_ADDRESS });
            }
        }
        self.full = full == Some(Full::All);
        place.ok()
    }

    async fn admit(mut self, stream: TcpStream, from: IpAddr, _place: Place) {
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = self.acceptor.take() else {
            return self.converse(stream, from).await;
        };
        let handshake = timeout(self.limits.handshake_timeout, acceptor.accept(stream));
        let outcome = tokio::select! {
            () = stopped(&mut self.stopping) => return,
            outcome = handshake => outcome,
        };
        match outcome {
            Ok(Ok(stream)) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => self.converse_http2(stream, from, true).await,
                // An authority has seen what it wanted (RFC 8737 §3).
                Some(ACME_PROTOCOL) => {}
                _ => self.converse_http1(stream, from, true).await,
            },
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    /// Without TLS the first bytes tell which version it is.
    async fn converse(mut self, stream: TcpStream, from: IpAddr) {
        let mut first = [0; HTTP2_PREFACE.len()];
        let patience = self.limits.head_timeout.min(self.limits.idle_timeout);
        let seen = tokio::select! {
            () = stopped(&mut self.stopping) => return,
            seen = timeout(patience, stream.peek(&mut first)) => seen,
        };
        match seen {
            Ok(Ok(_)) if first == *HTTP2_PREFACE => self.converse_http2(stream, from, false).await,
            Ok(Ok(_)) => self.converse_http1(stream, from, false).await,
            Ok(Err(error)) => tracing::debug!(%error, "connection failed"),
            Err(_) => tracing::debug!("nothing was asked"),
        }
    }

    async fn converse_http1<S>(self, stream: S, from: IpAddr, secure: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = Arc::new(Requests::default());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), self.answering(from, secure, &requests));
        self.drive(connection, &requests).await;
    }

    async fn converse_http2<S>(self, stream: S, from: IpAddr, secure: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = Arc::new(Requests::default());
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_concurrent_streams(STREAMS_MAX)
            .max_send_buf_size(STREAM_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), self.answering(from, secure, &requests));
        self.drive(connection, &requests).await;
    }

    fn answering(&self, from: IpAddr, secure: bool, requests: &Arc<Requests>) -> Answering {
        let (app, proxies) = (self.app.clone(), Arc::clone(&self.proxies));
        Answering { app, from, secure, proxies, requests: Arc::clone(requests) }
    }

    /// Runs a connection until it ends, idles or stalls too long, or the server stops.
    async fn drive<C>(mut self, connection: C, requests: &Requests)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        let ended = {
            let idle = requests.left_alone(self.limits.idle_timeout);
            tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = idle => None,
                () = stopped(&mut self.stopping) => None,
            }
        };
        let ended = if let Some(ended) = ended {
            Ok(ended)
        } else {
            connection.as_mut().graceful_shutdown();
            timeout(self.limits.stop_timeout, connection).await
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "connection failed"),
            Err(_) => tracing::debug!("connection cut off"),
        }
    }
}

/// A panic in a handler is caught there; one that gets here is in the connection's own code.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed; only that connection is affected");
    }
}

/// Faults of the connection that was to be accepted, not of the listener.
fn of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
