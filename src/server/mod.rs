//! Wiring: the one folder that knows every part; start and stop order.
//!
//! - `admission`: whether one more viewer can be served
//! - `announce`: which addresses clients are told
//! - `certificate`: where that for HTTPS comes from
//! - `doctor`: whether this machine can serve, and what to do where it cannot
//! - `hls`: LL-HLS as HTTP sees it
//! - `ladders`: made layers as HTTP sees them
//! - `layers`: layers as HTTP sees them
//! - `kernel`: what the kernel grants, and the lines that make it grant more
//! - `audience`: viewers who listen to what is told of their stream
//! - `ledger`: what shards tell, kept for the directory and the metrics
//! - `listeners`: every port
//! - `memory`: what the process holds, and what it may
//! - `port`: the media server as HTTP sees it
//! - `readings`: every metric with its present value
//! - `sound`: what is said about sound that is not transcoded
//! - `shards`: their sockets, their start, and the ways to them
//! - `thumbnails`: pictures of what is live, as HTTP sees them
//! - `tcp`: where clients without UDP come in
//! - `ways_in`: those that do not speak WebRTC
//! - `welcome`: what is printed at the start

mod admission;
mod announce;
mod audience;
mod certificate;
mod doctor;
mod hls;
mod kernel;
mod ladders;
mod layers;
mod ledger;
mod listeners;
mod memory;
mod port;
mod readings;
mod shards;
mod sound;
mod tcp;
mod thumbnails;
mod ways_in;
mod welcome;

use crate::bus::Bus;
use crate::bus::directory::{Directory, DirectoryLimits, ShardClaims};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::address::{Listen, ipv6_works};
use crate::config::egress::HlsMode;
use crate::config::token::{TokenError, Tokens, load_or_make};
use crate::engine::{Engine, EngineSettings};
use crate::ingest::{self, Entrance, FeedTools, Gate, ListenError};
use crate::media::arena::TransportAddress;
use crate::peer::identity::{Identity, IdentityError};
use crate::peer::transport::Timeouts;
use crate::router::RouterSettings;
use crate::sessions::Sessions;
use crate::shard::Handle;
use crate::transcode::Transcoder;
use admission::{Admission, Marks};
use announce::Announced;
use audience::Audience;
use kernel::Grants;
use ledger::Ledger;
use port::{Parts, Port};
use shards::{bind_media, links, start_shards};
use signaling::config::{IceServer, IceServerError, Limits as HttpLimits};
use signaling::serve::{Listeners, ServeError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tcp::Acceptor;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use ways_in::WaysIn;

pub use doctor::{Report, check_health, diagnose};
pub use welcome::welcome;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The tokens cannot be kept.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// No DTLS certificate can be made.
    #[error("cannot make the certificate for media: {0}")]
    Identity(#[from] IdentityError),
    /// The media port cannot be had.
    #[error(
        "cannot listen for media on {address}/udp: {error}; stop the program that has this port, \
         or choose another in network.media_listen"
    )]
    Media {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The media port cannot be had for TCP.
    #[error(
        "cannot listen for media on {address}/tcp: {error}; stop the program that has this port, \
         choose another in network.media_listen, or do without by network.media_tcp = \"off\""
    )]
    MediaTcp {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// HTTP or HTTPS cannot be served.
    #[error(transparent)]
    Http(#[from] ServeError),
    /// A way in cannot be served.
    #[error(transparent)]
    WayIn(#[from] ListenError),
    /// An ICE server of the configuration cannot be told to clients.
    #[error("network.ice_servers: {0}")]
    IceServer(#[from] IceServerError),
    /// No thread, no random numbers, no list of interfaces.
    #[error("the system refuses {what}: {error}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// Where the server listens and what it announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// HTTP, if it is served.
    pub http: Option<SocketAddr>,
    /// HTTPS, if it is served.
    pub https: Option<SocketAddr>,
    /// The media port.
    pub media: SocketAddr,
    /// Whether it serves TCP as well as UDP.
    pub media_tcp: bool,
    /// What clients are told to send media to, the public one first.
    pub announced: Vec<SocketAddr>,
    /// Where those come in who do not speak WebRTC.
    pub ways_in: Vec<ingest::Port>,
    /// The server's name, if it has one.
    pub domain: Option<String>,
}

/// A running server.
pub struct Server {
    bound: Bound,
    tokens: Tokens,
    advice: String,
    port: Arc<Port>,
    shards: Arc<Vec<Handle>>,
    running: Running,
    shutdown_timeout: Duration,
}

/// What runs beside the shards.
struct Running {
    http: JoinHandle<Result<(), ServeError>>,
    sweeper: JoinHandle<()>,
    acceptor: Option<JoinHandle<()>>,
    ways_in: WaysIn,
    stop: watch::Sender<bool>,
}

impl Server {
    /// How often it is looked whether new viewers can be taken.
    const LOOK_INTERVAL: Duration = Duration::from_millis(100);
    /// So many looks between two for sessions whose clients never came: a second.
    const LOOKS_PER_SWEEP: u64 = 10;
    /// How often a stopping server looks whether everybody has gone.
    const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

    /// Starts everything; when it returns, clients are served.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let clock = Clock::system();
        let transcoder = Transcoder::new(&config, clock.clone());
        let tokens = tokens(&config)?;
        let identity = Arc::new(Identity::generate()?);
        let descriptors = kernel::raise_descriptor_limit();
        let (sockets, listener) = bind_media(&config)?;
        let buffers = sockets[0].granted();
        let short = kernel::check(&Grants::wanted(&config), &Grants { buffers, descriptors });
        let media = sockets[0].local_address().map_err(system("the media port's address"))?;
        let Announced { addresses: announced, advice } =
            announce::find(&config.network, &sockets[0]).await?;
        let lacking = ladders::advice(&config, &transcoder).await;
        let advice = short.into_iter().chain(advice).chain(lacking).collect();

        let directory = Arc::new(Directory::new(directory_limits(&config)));
        let audience = Arc::new(Audience::new(config.limits.event_streams_max));
        let ledger = Arc::new(Ledger::new(Arc::clone(&directory), Arc::clone(&audience)));
        let epoch = clock.epoch();
        let shards = start_shards(&config, sockets, |place| {
            let claims = ShardClaims { shard: place.shard, directory: Arc::clone(&directory) };
            let identity = Arc::clone(&identity);
            let engine = Engine::new(settings(&config), identity, epoch, Box::new(claims));
            let ledger = Arc::clone(&ledger);
            (clock.clone(), engine.at(place), move |event| ledger.take(event))
        })?;
        let acceptor = Acceptor::new(&directory, &shards, config.limits.media_tcp_connections_max);
        let bus = Arc::new(Bus::new(directory, links(&shards)));
        audience.attach(Arc::clone(&bus));
        let ladders = ledger.attach(ladders::ladders(&config, &bus, &clock, epoch, &transcoder));
        let told = candidates(&announced, listener.is_some());
        let sessions = sessions(&config, &bus, &clock, &identity, told);
        let admission = Admission::new(Marks::new(&config.limits, memory::usable_bytes()));
        let port = Arc::new(Port::new(Parts {
            sessions,
            shards: Arc::clone(&shards),
            ledger,
            audience,
            admission,
            transcoder: transcoder.clone(),
            ladders,
            packaged: hls::packaged(&config, &bus, &clock, epoch, &transcoder),
            thumbnails: thumbnails::thumbnails(&config, &bus, &clock, epoch, &transcoder),
            epoch,
        }));

        let http_config = http_config(&config, &tokens, &announced)?;
        let listeners = Listeners::bind(&http_config).await?;
        let addresses = listeners.addresses();
        let tools = FeedTools { settings: config.ingest.clone(), epoch, transcoder };
        let entrance = Entrance::new(bus, clock, gate(&http_config, &port), tools);
        let ways_in = WaysIn::start(&config, entrance, listeners.certificates())?;
        let app = signaling::app(port.clone(), &http_config, ways_in.among(addresses));
        // Its task goes on by itself: from here on nothing can fail any more.
        let acceptor = listener.map(|listener| acceptor.start(listener)).transpose();
        let acceptor = acceptor.map_err(system("a listener"))?;
        let (stop, stopping) = watch::channel(false);
        let http = tokio::spawn(signaling::serve::serve(listeners, app, stopped(stopping.clone())));
        let sweeper = tokio::spawn(sweep(Arc::clone(&port), stopping));
        let bound = Bound {
            http: addresses.http,
            https: addresses.https,
            media,
            media_tcp: acceptor.is_some(),
            announced,
            ways_in: ways_in.ports(),
            domain: config.network.domain,
        };
        info!(media = %bound.media, http = ?bound.http, https = ?bound.https, "listening");
        let shutdown_timeout = config.server.shutdown_timeout;
        let running = Running { http, sweeper, acceptor, ways_in, stop };
        Ok(Self { bound, tokens, advice, port, shards, running, shutdown_timeout })
    }

    /// Where it listens.
    pub const fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Its tokens.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// What to do about a kernel that grants less than is configured, and about addresses that
    /// clients may not reach. Empty where all is well.
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// Done when a part has failed without which nobody is served.
    pub async fn failed(&self) {
        self.port.ledger().failed().await;
    }

    /// Refuses new sessions, tells those there are, and ends within the configured time.
    pub async fn stop(self) {
        self.port.refuse_new();
        let Running { http, sweeper, acceptor, ways_in, stop } = self.running;
        ways_in.close();
        self.port.sessions().bus.stop();
        let drained = tokio::time::timeout(self.shutdown_timeout, async {
            while self.port.sessions_left() > 0 {
                tokio::time::sleep(Self::DRAIN_INTERVAL).await;
            }
        });
        if drained.await.is_err() {
            let left = self.port.sessions_left();
            warn!(left, "sessions are cut off: server.shutdown_timeout_s is over");
        }
        self.port.end_events();
        // Nobody listens any more when both tasks have ended already.
        let _ = stop.send(true);
        sweeper.abort();
        acceptor.inspect(JoinHandle::abort);
        ways_in.ended().await;
        // Requests in flight have a time limit of their own.
        match http.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "HTTP ended badly"),
            Err(error) => warn!(%error, "HTTP ended badly"),
        }
        drop(self.port);
        // The shards' threads are joined where nothing else waits for this thread.
        let shards = self.shards;
        let joined = tokio::task::spawn_blocking(move || drop(shards)).await;
        if let Err(error) = joined {
            warn!(%error, "a shard ended badly");
        }
        info!("stopped");
    }
}

fn tokens(config: &Config) -> Result<Tokens, StartError> {
    let mut random = [[0; 20]; 2];
    for bytes in &mut random {
        getrandom::fill(bytes)
            .map_err(|error| system("random numbers")(io::Error::other(error)))?;
    }
    Ok(load_or_make(&config.auth, &config.server.state_directory, &random)?)
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server itself was dropped: that is a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Does now and then what nobody asks for.
async fn sweep(port: Arc<Port>, mut stopping: watch::Receiver<bool>) {
    for look in 1_u64.. {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(Server::LOOK_INTERVAL) => {}
        }
        // Requests look too; without any the gate opens again here.
        port.look();
        if look.is_multiple_of(Server::LOOKS_PER_SWEEP) {
            port.look_at_memory();
            port.count_viewers();
            port.look_at_streams();
            port.end_overdue();
        }
    }
}

fn sessions(
    config: &Config,
    bus: &Arc<Bus>,
    clock: &Clock,
    identity: &Identity,
    candidates: Vec<TransportAddress>,
) -> Sessions {
    Sessions {
        bus: Arc::clone(bus),
        clock: clock.clone(),
        fingerprint: identity.fingerprint().clone(),
        candidates,
        codec_preference: config.whip.codec_preference.clone(),
    }
}

/// What clients are told: all addresses over UDP first.
fn candidates(announced: &[SocketAddr], tcp: bool) -> Vec<TransportAddress> {
    let over_udp = announced.iter().copied().map(TransportAddress::udp);
    let over_tcp = announced.iter().copied().map(TransportAddress::tcp);
    over_udp.chain(over_tcp.filter(|_| tcp)).collect()
}

fn settings(config: &Config) -> EngineSettings {
    EngineSettings {
        router: RouterSettings {
            history: config.whep.history,
            batch_wait: config.whep.batch_wait,
            keyframe_request_interval: config.whip.keyframe_request_interval,
        },
        timeouts: Timeouts {
            handshake: config.limits.handshake_timeout,
            consent: config.limits.consent_timeout,
        },
        publisher_silence: config.limits.publisher_silence_timeout,
        grace: config.whip.grace_time,
        rtx_share: f64::from(config.whep.rtx_share_percent) / 100.0,
    }
}

fn directory_limits(config: &Config) -> DirectoryLimits {
    DirectoryLimits {
        sessions: config.limits.sessions_max,
        streams: config.limits.streams_max,
        viewers_per_stream: config.limits.viewers_per_stream_max,
        pending: config.limits.pending_sessions_max,
        claim_timeout: config.limits.handshake_timeout,
    }
}

/// What tokens are good for by protocols other than HTTP.
fn gate(config: &signaling::Config, port: &Arc<Port>) -> Gate {
    let (credentials, port) = (config.credentials.clone(), Arc::downgrade(port));
    Gate {
        allows: Box::new(move |stream, token| {
            credentials.may_publish(token, stream).ok().map(|id| id.0)
        }),
        refused: Box::new(move |reason| {
            if let Some(port) = port.upgrade() {
                port.ledger().refused(reason);
            }
        }),
    }
}

fn http_config(
    config: &Config,
    tokens: &Tokens,
    announced: &[SocketAddr],
) -> Result<signaling::Config, StartError> {
    let mut credentials =
        signaling::auth::Credentials::new(tokens.publish.reveal(), tokens.admin.reveal());
    for rule in &config.auth.publish_tokens {
        credentials = credentials.with_publish_rule(&rule.pattern, rule.token.reveal());
    }
    for rule in &config.auth.view_tokens {
        credentials = credentials.with_view_rule(&rule.pattern, rule.token.reveal());
    }
    let mut ice_servers = Vec::new();
    for server in &config.network.ice_servers {
        ice_servers.push(match &server.credentials {
            None => IceServer::stun(&server.url)?,
            Some((username, credential)) => IceServer::turn(&server.url, username, credential)?,
        });
    }
    let limits = HttpLimits {
        offer_bytes_max: config.limits.http_body_max_bytes,
        connections_max: config.limits.http_connections_max,
        connections_per_address_max: config.limits.http_connections_per_address_max,
        body_timeout: config.limits.http_request_timeout,
        head_timeout: config.limits.http_request_timeout,
        ..HttpLimits::default()
    };
    let ipv6 = ipv6_works();
    Ok(signaling::Config {
        http: config.network.http_listen.address(ipv6),
        https: config.network.https_listen.address(ipv6),
        certificate: certificate::source(config, announced),
        certificate_is_shared: config.rtmp.tls_listen != Listen::Off,
        credentials,
        ice_servers,
        trusted_proxies: config.network.trusted_proxies.clone(),
        pages: true,
        hls: config.hls.mode != HlsMode::Off,
        media_hint: announced.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        retry_after: Duration::from_secs(2),
        limits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_of_udp_first_and_of_tcp_where_it_is_served() {
        let announced = ["203.0.113.7:8189", "10.0.0.7:8189"]
            .map(|address| address.parse::<SocketAddr>().expect("a literal address"));
        let udp = announced.map(TransportAddress::udp);
        let tcp = announced.map(TransportAddress::tcp);
        assert_eq!(candidates(&announced, true), [udp, tcp].concat());
        assert_eq!(candidates(&announced, false), udp);
    }
}
