//! One encoder's commands, from `connect` to the end of its stream (RTMP 1.0 §7.2), without a
//! socket: bytes in, bytes out, and what they ask of the server as events.
//! Fuzz target: `rtmp_session`.
//!
//! Audio and video pass through untouched, to `flv`. Nothing is played here: who asks for that is
//! told where streams are watched.

use super::address::Address;
use super::amf::{self, AmfError, Value};
use super::chunk::{ChunkError, ChunkReader, Message, kind};
use super::reply::{Replies, Status, WINDOW_BYTES};
use bytes::BytesMut;
use tracing::debug;

/// The most message streams of one connection; each publish of an encoder makes one.
const MESSAGE_STREAMS_MAX: u32 = 16;
/// Who wants to be told more often costs more than it sends.
const WINDOW_BYTES_MIN: u32 = 4096;
/// The texts of metadata that are logged.
const METADATA: [&str; 8] = [
    "encoder",
    "width",
    "height",
    "framerate",
    "videocodecid",
    "videodatarate",
    "audiocodecid",
    "audiodatarate",
];

/// Why a connection is closed without a word in its own protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// What comes in are no chunks that we take.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A command or data that cannot be read.
    #[error("a message of kind {kind}: {error}")]
    Amf {
        /// Its kind.
        kind: u8,
        /// What is wrong.
        error: AmfError,
    },
    /// A command that has no place where it came.
    #[error("{0} out of order")]
    OutOfOrder(&'static str),
}

/// What an encoder's bytes ask of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It wants to publish: [`Session::accept`] or [`Session::refuse`] is to be called.
    Publish(Address),
    /// Audio, video, or both.
    Media(Message),
    /// Its stream is over; another may follow.
    Unpublish,
    /// It has been told why it cannot go on: send what there is, and close.
    Close,
}

/// Why somebody may not publish, or does not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The name is none, or is taken, or there is no room.
    BadName,
    /// The token is missing or wrong.
    Denied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before `connect`.
    Opening,
    /// Between `connect` and `publish`.
    Connected,
    /// `publish` has come, on this message stream, and is not answered yet.
    Asking { stream: u32 },
    /// Media comes, on this message stream.
    Publishing { stream: u32 },
    /// It has been told to go.
    Over,
}

/// One connection.
pub struct Session {
    phase: Phase,
    chunks: ChunkReader,
    replies: Replies,
    application: String,
    message_streams: u32,
    received: u64,
    acknowledged: u64,
    window: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            phase: Phase::Opening,
            chunks: ChunkReader::default(),
            replies: Replies::new(),
            application: String::new(),
            message_streams: 0,
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
        }
    }
}

impl Session {
    /// Notes that so many bytes have come, the handshake included, and acknowledges them when it
    /// is time to.
    pub fn note_received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        if self.phase != Phase::Opening
            && self.received - self.acknowledged >= u64::from(self.window)
        {
            self.acknowledged = self.received;
            self.replies.acknowledge(self.received);
        }
    }

    /// The next event, or `None` once `input` is used up.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: the connection is to be closed.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Event>, SessionError> {
        while self.phase != Phase::Over {
            let Some(message) = self.chunks.read(input)? else { return Ok(None) };
            if let Some(event) = self.take(message)? {
                return Ok(Some(event));
            }
        }
        Ok(Some(Event::Close))
    }

    /// What is to be sent.
    pub fn output(&mut self) -> Vec<u8> {
        self.replies.take()
    }

    /// The publisher may begin.
    pub fn accept(&mut self, description: &str) {
        let Phase::Asking { stream } = self.phase else { return };
        self.phase = Phase::Publishing { stream };
        self.chunks.take_media(true);
        self.replies.begin(stream);
        let code = "NetStream.Publish.Start";
        self.replies.status(stream, Status { is_error: false, code, description });
    }

    /// The publisher may not begin, or not go on. Nothing is read of it any more.
    pub fn refuse(&mut self, reason: Reason, description: &str) {
        let (Phase::Asking { stream } | Phase::Publishing { stream }) = self.phase else { return };
        self.phase = Phase::Over;
        let mut error = |code| {
            self.replies.status(stream, Status { is_error: true, code, description });
        };
        match reason {
            Reason::Denied => error("NetStream.Publish.Denied"),
            Reason::BadName => {
                error("NetStream.Publish.BadName");
                // OBS knows no `BadName`; of this one it shows the description.
                error("NetStream.Publish.Rejected");
            }
        }
    }

    /// The stream is over for a reason that is not the publisher's. Nothing is read of it any more.
    pub fn end(&mut self, description: &str) {
        let Phase::Publishing { stream } = self.phase else { return };
        self.phase = Phase::Over;
        let code = "NetStream.Unpublish.Success";
        self.replies.status(stream, Status { is_error: false, code, description });
        // What encoders take for the end of a connection is an error only.
        let code = "NetStream.Publish.Rejected";
        self.replies.status(stream, Status { is_error: true, code, description });
        self.replies.end(stream);
    }

    /// Asks whether the encoder is there.
    pub fn ping(&mut self) {
        self.replies.ping();
    }

    fn take(&mut self, message: Message) -> Result<Option<Event>, SessionError> {
        match message.kind {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => Ok(Some(Event::Media(message))),
            kind::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                self.window = message.number()?.max(WINDOW_BYTES_MIN);
                Ok(None)
            }
            kind::USER_CONTROL => {
                self.user_control(&message);
                Ok(None)
            }
            kind::COMMAND => self.command(&message, &message.payload),
            kind::COMMAND_AMF3 => self.command(&message, without_zero(&message.payload)),
            kind::DATA => metadata(&message, &message.payload).map(|()| None),
            kind::DATA_AMF3 => metadata(&message, without_zero(&message.payload)).map(|()| None),
            _ => Ok(None),
        }
    }

    /// Only pings are answered (RTMP 1.0 §7.1.7).
    fn user_control(&mut self, message: &Message) {
        if let Some(&[0, 6, a, b, c, d]) = message.payload.first_chunk() {
            self.replies.pong(u32::from_be_bytes([a, b, c, d]));
        }
    }

    fn command(&mut self, message: &Message, bytes: &[u8]) -> Result<Option<Event>, SessionError> {
        let values = read(message, bytes)?;
        let Some(name) = values.first().and_then(Value::text) else { return Ok(None) };
        let transaction = values.get(1).and_then(Value::number).unwrap_or_default();
        // The third is an object, and nothing but with `connect`.
        let arguments = values.get(3..).unwrap_or_default();
        match name {
            "connect" => return self.connect(transaction, values.get(2)),
            _ if self.phase == Phase::Opening => {
                return Err(SessionError::OutOfOrder("a command before connect"));
            }
            "createStream" => self.create_stream(transaction)?,
            "publish" => return self.publish(message.stream, arguments),
            "play" | "play2" => return Ok(Some(self.decline_play(message.stream))),
            "closeStream" | "deleteStream" => return Ok(self.unpublish()),
            "releaseStream" => self.replies.done(transaction, None),
            "FCPublish" => {
                self.replies.done(transaction, None);
                let code = "NetStream.Publish.Start";
                let status = Status { is_error: false, code, description: "Go on" };
                self.replies.on_fc("onFCPublish", status);
            }
            "FCUnpublish" => {
                self.replies.done(transaction, None);
                let code = "NetStream.Unpublish.Success";
                let status = Status { is_error: false, code, description: "Over" };
                self.replies.on_fc("onFCUnpublish", status);
            }
            name => debug!(?name, "an RTMP command that is not answered"),
        }
        Ok(None)
    }

    fn connect(
        &mut self,
        transaction: f64,
        object: Option<&Value>,
    ) -> Result<Option<Event>, SessionError> {
        if self.phase != Phase::Opening {
            return Err(SessionError::OutOfOrder("connect"));
        }
        let member = |name| object.and_then(|object| object.get(name));
        debug!(
            encoder = ?member("flashVer"),
            url = member("tcUrl").is_some(),
            codecs = ?member("fourCcList"),
            capabilities = ?member("capsEx"),
            "RTMP connect"
        );
        let Some(application) = member("app").and_then(Value::text) else {
            self.phase = Phase::Over;
            let description = "connect without app: publish to rtmp://<server>/live";
            self.replies.not_connected(transaction, description);
            return Ok(Some(Event::Close));
        };
        application.clone_into(&mut self.application);
        self.phase = Phase::Connected;
        self.replies.connected(transaction);
        Ok(None)
    }

    fn create_stream(&mut self, transaction: f64) -> Result<(), SessionError> {
        if self.message_streams >= MESSAGE_STREAMS_MAX {
            return Err(SessionError::OutOfOrder("one createStream too many"));
        }
        self.message_streams += 1;
        self.replies.done(transaction, Some(f64::from(self.message_streams)));
        Ok(())
    }

    fn publish(&mut self, stream: u32, arguments: &[Value]) -> Result<Option<Event>, SessionError> {
        if self.phase != Phase::Connected {
            return Err(SessionError::OutOfOrder("publish"));
        }
        self.phase = Phase::Asking { stream };
        // Whether it is to be recorded is none of its business.
        let key = arguments.first().and_then(Value::text).unwrap_or_default();
        Ok(Some(Event::Publish(Address::parse(&self.application, key))))
    }

    fn decline_play(&mut self, stream: u32) -> Event {
        self.phase = Phase::Over;
        let description = "streams are not played over RTMP: watch this one in a browser, at \
            /watch.html of this server, or by WHEP at /whep/<stream>";
        let code = "NetStream.Play.Failed";
        self.replies.status(stream, Status { is_error: true, code, description });
        Event::Close
    }

    fn unpublish(&mut self) -> Option<Event> {
        let Phase::Publishing { stream } = self.phase else { return None };
        self.phase = Phase::Connected;
        self.chunks.take_media(false);
        let code = "NetStream.Unpublish.Success";
        self.replies.status(stream, Status { is_error: false, code, description: "Over" });
        Some(Event::Unpublish)
    }
}

/// Metadata is read to be logged, and believed in nothing.
fn metadata(message: &Message, bytes: &[u8]) -> Result<(), SessionError> {
    let values = read(message, bytes)?;
    let Some(object) = values.iter().find(|value| matches!(value, Value::Object(_))) else {
        return Ok(());
    };
    let known = METADATA.iter().filter_map(|name| Some((name, object.get(name)?)));
    debug!(metadata = ?known.collect::<Vec<_>>(), "RTMP metadata");
    Ok(())
}

fn read(message: &Message, bytes: &[u8]) -> Result<Vec<Value>, SessionError> {
    amf::read(bytes).map_err(|error| SessionError::Amf { kind: message.kind, error })
}

/// What is marked as AMF3 begins with a zero, and is AMF0 after it.
fn without_zero(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&[0]).unwrap_or(bytes)
}

#[cfg(test)]
mod tests;
