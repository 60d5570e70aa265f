//! Who may publish what: the one door of all ways in that do not speak WebRTC.

use super::feed::{Feed, FeedTools};
use crate::bus::Bus;
use crate::bus::directory::DirectoryError;
use crate::bus::publication::{Publish, PublishError};
use crate::clock::Clock;
use crate::media::id::{NameError, SessionId, StreamName};
use crate::media::protocol::Protocol;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::info;

/// The number that names a token, where that is good for a stream of this name.
pub(super) type Allows = Box<dyn Fn(&str, &str) -> Option<u64> + Send + Sync>;

/// What the server knows of tokens, and wants to know of refusals.
pub struct Gate {
    /// Given a stream's name and a token, the number that names the token, if it is good for that.
    pub allows: Allows,
    /// Somebody was refused for this reason, a metric's label.
    pub refused: Box<dyn Fn(&'static str) + Send + Sync>,
}

/// Names no token: that of streams that the server fetches.
const NO_TOKEN: u64 = 0;

/// What a way in needs of the server.
pub struct Entrance {
    bus: Arc<Bus>,
    clock: Clock,
    gate: Gate,
    tools: FeedTools,
    stopping: AtomicBool,
    lines: Mutex<Lines>,
}

/// What was logged of refusals since then.
#[derive(Debug, Clone, Copy)]
struct Lines {
    since: Instant,
    written: u32,
}

/// Who wants to publish.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// How it comes in.
    pub protocol: Protocol,
    /// The stream's name as it was given, not yet checked.
    pub stream: &'a str,
    /// The token as it was given; empty where there was none.
    pub token: &'a str,
    /// Where it comes from.
    pub remote: SocketAddr,
}

/// Why somebody may not publish. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The stream's name is none.
    #[error(transparent)]
    BadName(#[from] NameError),
    /// There was no token.
    #[error("publishing needs a token: {0}")]
    NoToken(&'static str),
    /// The token is not good for this stream.
    #[error(
        "this token does not publish stream {0}; compare it with the one that the server's \
         operator gave out"
    )]
    WrongToken(StreamName),
    /// Somebody else's token publishes that stream now.
    #[error(
        "stream {0} is being published with another token; use another name, or try again when \
         it has ended"
    )]
    Taken(StreamName),
    /// A limit is reached; says which option.
    #[error("the server is full: {0} is reached; try again later")]
    Full(&'static str),
    /// A media thread takes nothing more at the moment.
    #[error("the server is too busy; try again in a few seconds")]
    Busy,
    /// The server is being stopped.
    #[error("the server is stopping; try again in a few seconds")]
    Stopping,
}

impl Refusal {
    /// The refusal as a metric's label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::BadName(_) => "bad_name",
            Self::NoToken(_) => "no_token",
            Self::WrongToken(_) => "wrong_token",
            Self::Taken(_) => "taken",
            Self::Full(_) => "full",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
        }
    }
}

/// How a token is given.
const fn token_form(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Srt => "write it into the stream id, #!::r=<stream>,m=publish,token=<token>",
        _ => "write it behind the stream key, <stream>?token=<token>",
    }
}

impl Entrance {
    /// So many refusals are logged at most in that time.
    const LINES_MAX: u32 = 10;
    const LINES_IN: Duration = Duration::from_secs(1);

    /// A door to these streams.
    pub fn new(bus: Arc<Bus>, clock: Clock, gate: Gate, tools: FeedTools) -> Self {
        let lines = Mutex::new(Lines { since: clock.now(), written: 0 });
        Self { bus, clock, gate, tools, stopping: AtomicBool::new(false), lines }
    }

    /// The server's clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether one more refusal is logged: strangers can have as many as they like.
    pub(super) fn may_log(&self) -> bool {
        let now = self.clock.now();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(lines.since) >= Self::LINES_IN {
            *lines = Lines { since: now, written: 0 };
        }
        lines.written = lines.written.saturating_add(1);
        lines.written <= Self::LINES_MAX
    }

    /// From now on nobody is let in.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether somebody may publish, without making anything.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why not.
    pub fn check(&self, request: Request<'_>) -> Result<(), Refusal> {
        self.examine(request).map(drop).inspect_err(|refusal| (self.gate.refused)(refusal.label()))
    }

    /// Lets a publisher in: its stream is its own from now on.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why not; nothing was made.
    pub fn admit(&self, request: Request<'_>) -> Result<Feed, Refusal> {
        self.begin(request).inspect_err(|refusal| (self.gate.refused)(refusal.label()))
    }

    fn begin(&self, request: Request<'_>) -> Result<Feed, Refusal> {
        let (stream, token) = self.examine(request)?;
        self.open(&stream, request.protocol, token)
    }

    /// Lets in a stream that the server fetches by its operator's order: that needs no token.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why not; nothing was made.
    pub fn admit_fetched(&self, stream: &StreamName, protocol: Protocol) -> Result<Feed, Refusal> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Refusal::Stopping);
        }
        self.open(stream, protocol, NO_TOKEN)
    }

    fn open(&self, stream: &StreamName, protocol: Protocol, token: u64) -> Result<Feed, Refusal> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| Refusal::Busy)?;
        let session = SessionId::from_random(random);
        let created = self.clock.now();
        let publish = Publish { session, stream: stream.clone(), protocol, token, created };
        let publication =
            self.bus.publish(publish).map_err(|error| refusal(error, stream.clone()))?;
        info!(?session, %stream, %protocol, "publishes");
        Ok(Feed::new(publication, self.tools.clone()))
    }

    fn examine(&self, request: Request<'_>) -> Result<(StreamName, u64), Refusal> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Refusal::Stopping);
        }
        let stream = StreamName::parse(request.stream)?;
        if request.token.is_empty() {
            return Err(Refusal::NoToken(token_form(request.protocol)));
        }
        let Some(token) = (self.gate.allows)(stream.as_str(), request.token) else {
            return Err(Refusal::WrongToken(stream));
        };
        let may = self.bus.directory().may_publish(&stream, token);
        may.map_err(|error| refusal(error.into(), stream.clone()))?;
        Ok((stream, token))
    }
}

fn refusal(error: PublishError, stream: StreamName) -> Refusal {
    match error {
        PublishError::Directory(DirectoryError::Taken) => Refusal::Taken(stream),
        PublishError::Directory(DirectoryError::Full(option)) => Refusal::Full(option),
        // Those are said to viewers only.
        PublishError::Directory(DirectoryError::NotLive | DirectoryError::NotPlayable(_))
        | PublishError::Busy => Refusal::Busy,
    }
}
