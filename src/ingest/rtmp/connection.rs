//! One encoder's connection: the handshake, then its bytes into its session and its frames into
//! its stream, until either ends.

use super::chunk::Message;
use super::flv::Demuxer;
use super::session::{Event, Reason, Session, SessionError};
use crate::engine::command::EndReason;
use crate::ingest::{Entrance, Feed, Refusal, Request};
use crate::media::protocol::Protocol;
use bytes::BytesMut;
use rml_rtmp::handshake::{Handshake, HandshakeError, HandshakeProcessResult, PeerType};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, info};

/// So much is read at once.
const READ_BYTES: usize = 16 << 10;
/// How long a connection stays open for its last words. Closed with unread bytes in it, as those
/// of a publisher are, it would be reset, and the words lost.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What connections need of the server.
pub(super) struct Host {
    pub(super) entrance: Arc<Entrance>,
    pub(super) read_timeout: Duration,
    pub(super) publish_timeout: Duration,
}

/// Who has come.
pub(super) struct Guest {
    pub(super) remote: SocketAddr,
    pub(super) protocol: Protocol,
    /// Set from the start of its stream to the end.
    pub(super) publishes: Arc<AtomicBool>,
}

/// Why a connection ends that has been told nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the handshake: {0}")]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("nothing has come for too long")]
    Silent,
    #[error("nothing is published")]
    Idle,
    #[error("the encoder does not take what it is sent")]
    Stuck,
}

/// An encoder past its handshake.
struct Connection<S> {
    stream: S,
    host: Arc<Host>,
    guest: Guest,
    session: Session,
    input: BytesMut,
    feed: Option<Feed>,
    demuxer: Demuxer,
    /// When it must publish.
    deadline: tokio::time::Instant,
}

/// Serves one encoder until it leaves, or has to.
pub(super) async fn serve<S>(mut stream: S, host: Arc<Host>, guest: Guest)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = tokio::time::Instant::now() + host.publish_timeout;
    let shaken = match timeout(host.publish_timeout, shake_hands(&mut stream)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(ConnectionError::Silent),
    };
    let (input, received) = match shaken {
        Ok(shaken) => shaken,
        Err(error) => return debug!(%error, "an RTMP connection is closed"),
    };
    let mut session = Session::default();
    session.note_received(received);
    let (feed, demuxer) = (None, Demuxer::default());
    let mut connection =
        Connection { stream, host, guest, session, input, feed, demuxer, deadline };
    let outcome = connection.run().await;
    match (outcome, &connection.feed) {
        (Ok(()), _) => {}
        (Err(error), Some(feed)) => cut_off(feed, &error),
        (Err(error), None) => debug!(%error, "an RTMP connection is closed"),
    }
}

/// What follows the handshake, and how many bytes have come in all.
async fn shake_hands<S>(stream: &mut S) -> Result<(BytesMut, usize), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = Handshake::new(PeerType::Server);
    let mut received = 0;
    let mut bytes = [0; 2048];
    loop {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        received += read;
        let (answer, rest) = match handshake.process_bytes(bytes.get(..read).unwrap_or(&bytes))? {
            HandshakeProcessResult::InProgress { response_bytes } => (response_bytes, None),
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                (response_bytes, Some(remaining_bytes))
            }
        };
        stream.write_all(&answer).await?;
        if let Some(rest) = rest {
            return Ok((BytesMut::from(&rest[..]), received));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Until it ends; with an error it is closed without a word.
    async fn run(&mut self) -> Result<(), ConnectionError> {
        let mut is_quiet = false;
        loop {
            if self.read_all()? == Next::Close {
                return self.say_last_words().await;
            }
            self.flush().await?;
            self.input.reserve(READ_BYTES);
            let quiet_from = self.host.read_timeout / 2;
            tokio::select! {
                reason = ended(&mut self.feed) => {
                    self.leave();
                    self.session.end(words(&reason));
                    return self.say_last_words().await;
                }
                read = self.stream.read_buf(&mut self.input) => match read? {
                    0 => return Ok(()),
                    read => {
                        is_quiet = false;
                        self.session.note_received(read);
                    }
                },
                () = sleep(quiet_from) => {
                    if is_quiet {
                        return Err(ConnectionError::Silent);
                    }
                    is_quiet = true;
                    self.session.ping();
                }
                () = sleep_until(self.deadline), if self.feed.is_none() => {
                    return Err(ConnectionError::Idle);
                }
            }
        }
    }

    /// Reads what has come. Who publishes is told what is wrong with it.
    fn read_all(&mut self) -> Result<Next, ConnectionError> {
        loop {
            let event = match self.session.read(&mut self.input) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Next::Read),
                Err(error) => {
                    let Some(feed) = self.feed.take() else { return Err(error.into()) };
                    cut_off(&feed, &error);
                    self.session.refuse(Reason::BadName, &error.to_string());
                    return Ok(Next::Close);
                }
            };
            if self.take(event) == Next::Close {
                return Ok(Next::Close);
            }
        }
    }

    fn take(&mut self, event: Event) -> Next {
        match event {
            Event::Media(message) => self.media(&message),
            Event::Publish(address) => {
                let request = Request {
                    protocol: self.guest.protocol,
                    stream: &address.stream,
                    token: &address.token,
                    remote: self.guest.remote,
                };
                match self.host.entrance.admit(request) {
                    Ok(feed) => {
                        self.session.accept(&format!("publishing {}", feed.stream()));
                        self.feed = Some(feed);
                        self.demuxer = Demuxer::default();
                        self.guest.publishes.store(true, Ordering::Release);
                    }
                    Err(refusal) => {
                        if self.host.entrance.may_log() {
                            info!(%refusal, "RTMP publisher refused");
                        }
                        self.session.refuse(reason(&refusal), &refusal.to_string());
                        return Next::Close;
                    }
                }
            }
            Event::Unpublish => self.leave(),
            Event::Close => return Next::Close,
        }
        Next::Read
    }

    fn media(&mut self, message: &Message) {
        let Some(feed) = &mut self.feed else { return };
        let arrival = self.host.entrance.clock().now();
        feed.note_damaged(self.demuxer.bad());
        self.demuxer.read(message, arrival, |frame| feed.write(frame));
        if let Some(others) = self.demuxer.new_others() {
            let (session, stream) = (feed.session(), feed.stream());
            info!(?session, %stream, ?others, "tracks that are not used");
            feed.note_tracks(others.to_vec());
        }
    }

    /// The stream is over; the connection may publish another, soon.
    fn leave(&mut self) {
        if let Some(feed) = self.feed.take() {
            debug!(session = ?feed.session(), bad_tags = self.demuxer.bad(), "RTMP ends");
        }
        self.guest.publishes.store(false, Ordering::Release);
        self.deadline = tokio::time::Instant::now() + self.host.publish_timeout;
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        let output = self.session.output();
        if output.is_empty() {
            return Ok(());
        }
        let written = timeout(self.host.read_timeout, self.stream.write_all(&output)).await;
        Ok(written.map_err(|_| ConnectionError::Stuck)??)
    }

    /// Sends what there is to say, and hears the encoder out, so that it gets it.
    async fn say_last_words(&mut self) -> Result<(), ConnectionError> {
        self.feed = None;
        let words = async {
            let output = self.session.output();
            self.stream.write_all(&output).await?;
            self.stream.shutdown().await?;
            let mut unread = [0; 4096];
            while self.stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether it is gone by then or not: it is told.
        let _ = timeout(LAST_WORDS, words).await;
        Ok(())
    }
}

/// Says whose connection is closed for a fault in what it sends.
fn cut_off(feed: &Feed, error: &dyn std::fmt::Display) {
    let (session, stream) = (feed.session(), feed.stream());
    info!(?session, %stream, %error, "an RTMP publisher is cut off");
}

/// What comes after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Read,
    Close,
}

/// Done when the stream is over for a reason that is not the encoder's.
async fn ended(feed: &mut Option<Feed>) -> EndReason {
    match feed {
        Some(feed) => feed.wait_ended().await,
        None => pending().await,
    }
}

const fn reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::NoToken(_) | Refusal::WrongToken(_) => Reason::Denied,
        _ => Reason::BadName,
    }
}

const fn words(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Replaced => {
            "another encoder publishes this stream with the same token now: stop one of the two"
        }
        EndReason::Deleted => "the server's operator has ended this stream",
        EndReason::Silent => "no audio or video has come for too long",
        EndReason::Stopping => "the server is stopping; try again in a few seconds",
        _ => "the server has ended this stream; try again",
    }
}
