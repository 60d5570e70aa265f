//! Chunks -> messages (RTMP 1.0 §5.3), for bytes of anybody. Fuzz target: `rtmp_chunks`.
//!
//! Chunks of several messages may lie between each other, one message per chunk stream. What a
//! connection can make us keep is bounded: by the number of chunk streams, by the length of a
//! message of each kind, which is looked at before its first byte is kept, and by a sum over all.
//!
//! - `tests`: what real encoders send, and what only hostile ones do

#[cfg(test)]
mod tests;

use bytes::{Buf as _, Bytes, BytesMut};

/// The kinds of messages that are named here (RTMP 1.0 §5.4, §7.1).
pub mod kind {
    /// How long the chunks that follow are.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// The message of a chunk stream will not be finished.
    pub const ABORT: u8 = 2;
    /// How many bytes the other side has received.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// Pings, and what begins and ends.
    pub const USER_CONTROL: u8 = 4;
    /// After how many bytes the other side wants an acknowledgement.
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    /// The last of those that steer the protocol itself.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// One audio tag of FLV.
    pub const AUDIO: u8 = 8;
    /// One video tag of FLV.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command in AMF3, in practice AMF0 after a zero.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// A command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Several tags of FLV as one message.
    pub const AGGREGATE: u8 = 22;
}

/// The most chunk streams of one connection; encoders use three to six.
const CHUNK_STREAMS_MAX: usize = 32;
/// The longest message of audio or video: a keyframe at 100 Mb/s fits many times.
pub const MEDIA_BYTES_MAX: usize = 4 << 20;
/// The longest command or data.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
/// The longest message that steers the protocol; they have 4 to 10 bytes.
const CONTROL_BYTES_MAX: usize = 64;
/// Unfinished messages of one connection in all: one picture, one sound, and room for commands.
const HELD_BYTES_MAX: usize = 2 * MEDIA_BYTES_MAX;
/// The same as long as it may send commands only.
const HELD_BYTES_MAX_COMMANDS: usize = 2 * COMMAND_BYTES_MAX;
/// The longest chunk. Encoders set 4 to 64 KiB; more than a message is no use to anybody.
const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// The length of chunks until the other side says otherwise (§5.4.1).
const CHUNK_BYTES_AT_FIRST: usize = 128;
/// So much of audio or video is reserved at once; the rest as it comes.
const RESERVED_AT_FIRST: usize = 16 << 10;
/// The same of anything else, which anybody may announce.
const RESERVED_AT_FIRST_COMMANDS: usize = 512;
/// A timestamp field that says that the timestamp stands behind the header (§5.3.1.3).
const EXTENDED: u32 = 0x00ff_ffff;

/// Why the bytes are no chunks that we take. Nothing after such a fault can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// More than `CHUNK_STREAMS_MAX`.
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    TooManyStreams,
    /// A header that refers to one before it, and there is none.
    #[error("the first chunk of chunk stream {0} has no whole header")]
    NoFirstHeader(u32),
    /// A message that begins within another of its chunk stream.
    #[error("a message begins before the last one of chunk stream {0} has ended")]
    Unfinished(u32),
    /// A chunk size of 0, with the highest bit set, or that is too large.
    #[error("a chunk size of {0}; it may be 1 to {CHUNK_BYTES_MAX}")]
    ChunkSize(u32),
    /// A message that is too long for its kind.
    #[error("a message of kind {kind} with {length} bytes; it may have {max}")]
    TooLong {
        /// Its kind.
        kind: u8,
        /// Its length as announced.
        length: usize,
        /// What it may have.
        max: usize,
    },
    /// Too much unfinished.
    #[error("too many unfinished messages at once")]
    TooMuch,
    /// Audio or video from somebody who does not publish.
    #[error("audio or video before publish")]
    MediaBeforePublish,
    /// A message that steers the protocol and is cut short.
    #[error("a message of kind {0} is too short")]
    TooShort(u8),
}

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, from anywhere, modulo 2^32.
    pub timestamp: u32,
    /// One of [`kind`], or another.
    pub kind: u8,
    /// The message stream, as `createStream` gave it out.
    pub stream: u32,
    /// What it carries.
    pub payload: Bytes,
}

/// What one chunk stream remembers.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    /// The timestamp field of its last header, or what stood behind that in its place.
    field: u32,
    is_extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    /// What has come of its message; `None` between two.
    partial: Option<BytesMut>,
}

/// A chunk whose header has been read.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// Position in the list of chunk streams.
    at: usize,
    /// Bytes of it that are still to come.
    left: usize,
}

/// Reads one connection's chunks.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    current: Option<Chunk>,
    held: usize,
    takes_media: bool,
}

/// A basic header (§5.3.1.1): the form of what follows, the chunk stream, and its own length.
struct Basic {
    form: u8,
    id: u32,
    len: usize,
}

/// A message header (§5.3.1.2) as far as its form has it.
struct Header {
    field: u32,
    is_extended: bool,
    length_and_kind: Option<(usize, u8)>,
    stream: Option<u32>,
    len: usize,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self {
            chunk_size: CHUNK_BYTES_AT_FIRST,
            streams: Vec::new(),
            current: None,
            held: 0,
            takes_media: false,
        }
    }
}

impl ChunkReader {
    /// From now on audio and video are taken, or are not any more.
    pub fn take_media(&mut self, takes_media: bool) {
        self.takes_media = takes_media;
    }

    /// The next message; `None` once `input` is used up, apart from a header that is cut short.
    ///
    /// # Errors
    ///
    /// [`ChunkError`] says what is wrong; the connection is to be closed.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        loop {
            let chunk = match self.current {
                Some(chunk) => chunk,
                None => match self.begin(input)? {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                },
            };
            let Some(message) = self.fill(chunk, input)? else {
                if self.current.is_some() {
                    return Ok(None);
                }
                continue;
            };
            match message.kind {
                kind::SET_CHUNK_SIZE => self.set_chunk_size(&message)?,
                kind::ABORT => self.abort(&message)?,
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Reads a chunk's header; `None` where it has not come as a whole.
    fn begin(&mut self, input: &mut BytesMut) -> Result<Option<Chunk>, ChunkError> {
        let Some(basic) = basic(input) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == basic.id);
        let continues = |at: usize| self.streams.get(at).is_some_and(|it| it.partial.is_some());
        let continues = known.is_some_and(continues);
        match (known, basic.form) {
            // librtmp begins chunk stream 2 with a header of form 1.
            (None, 2 | 3) => return Err(ChunkError::NoFirstHeader(basic.id)),
            (Some(_), 0..=2) if continues => return Err(ChunkError::Unfinished(basic.id)),
            (None, _) if self.streams.len() >= CHUNK_STREAMS_MAX => {
                return Err(ChunkError::TooManyStreams);
            }
            _ => {}
        }
        let last = known.and_then(|at| self.streams.get(at));
        let Some(header) = header(&basic, last, input) else { return Ok(None) };
        let at = known.unwrap_or(self.streams.len());
        if known.is_none() {
            self.streams.push(ChunkStream::new(basic.id));
        }
        let takes_media = self.takes_media;
        let stream = self.streams.get_mut(at).expect("it is known, or was just pushed");
        if !continues {
            stream.open(&basic, &header, takes_media)?;
        }
        let have = stream.partial.as_ref().map_or(0, BytesMut::len);
        let left = stream.length.saturating_sub(have).min(self.chunk_size);
        input.advance(header.len);
        let chunk = Chunk { at, left };
        self.current = Some(chunk);
        Ok(Some(chunk))
    }

    /// Takes what there is of a chunk; the message, if this was the last of it.
    fn fill(&mut self, chunk: Chunk, input: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        let held_max = if self.takes_media { HELD_BYTES_MAX } else { HELD_BYTES_MAX_COMMANDS };
        let stream = self.streams.get_mut(chunk.at).expect("a chunk is of a known stream");
        let partial = stream.partial.get_or_insert_default();
        let taken = chunk.left.min(input.len());
        if self.held + taken > held_max {
            return Err(ChunkError::TooMuch);
        }
        partial.extend_from_slice(&input.split_to(taken));
        self.held += taken;
        let left = chunk.left - taken;
        if left > 0 {
            self.current = Some(Chunk { left, ..chunk });
            return Ok(None);
        }
        self.current = None;
        if partial.len() < stream.length {
            return Ok(None);
        }
        let payload = stream.partial.take().unwrap_or_default().freeze();
        self.held -= payload.len();
        let ChunkStream { timestamp, kind, stream, .. } = *stream;
        Ok(Some(Message { timestamp, kind, stream, payload }))
    }

    /// §5.4.1. A size with the highest bit set is too large in any case.
    fn set_chunk_size(&mut self, message: &Message) -> Result<(), ChunkError> {
        match message.number()? {
            size @ 1..=CHUNK_BYTES_MAX => self.chunk_size = size as usize,
            size => return Err(ChunkError::ChunkSize(size)),
        }
        Ok(())
    }

    /// §5.4.2. What has come of the message is forgotten.
    fn abort(&mut self, message: &Message) -> Result<(), ChunkError> {
        let id = message.number()?;
        let stream = self.streams.iter_mut().find(|stream| stream.id == id);
        if let Some(partial) = stream.and_then(|stream| stream.partial.take()) {
            self.held -= partial.len();
        }
        Ok(())
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            timestamp: 0,
            field: 0,
            is_extended: false,
            length: 0,
            kind: 0,
            stream: 0,
            partial: None,
        }
    }

    /// Begins a message, if one of this kind and length is taken.
    fn open(
        &mut self,
        basic: &Basic,
        header: &Header,
        takes_media: bool,
    ) -> Result<(), ChunkError> {
        if let Some((length, kind)) = header.length_and_kind {
            (self.length, self.kind) = (length, kind);
        }
        if let Some(stream) = header.stream {
            self.stream = stream;
        }
        (self.field, self.is_extended) = (header.field, header.is_extended);
        // A header without a timestamp repeats the last step, be that the first timestamp
        // (§5.3.1.2.4).
        let base = if basic.form == 0 { 0 } else { self.timestamp };
        self.timestamp = base.wrapping_add(header.field);
        let (kind, length) = (self.kind, self.length);
        let max = match kind {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE if !takes_media => {
                return Err(ChunkError::MediaBeforePublish);
            }
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => MEDIA_BYTES_MAX,
            kind::SET_CHUNK_SIZE..=kind::SET_PEER_BANDWIDTH => CONTROL_BYTES_MAX,
            _ => COMMAND_BYTES_MAX,
        };
        if length > max {
            return Err(ChunkError::TooLong { kind, length, max });
        }
        let reserved_max = match max {
            MEDIA_BYTES_MAX => RESERVED_AT_FIRST,
            _ => RESERVED_AT_FIRST_COMMANDS,
        };
        self.partial = Some(BytesMut::with_capacity(length.min(reserved_max)));
        Ok(())
    }
}

impl Message {
    /// The number that messages which steer the protocol begin with.
    ///
    /// # Errors
    ///
    /// [`ChunkError::TooShort`] where there is none.
    pub fn number(&self) -> Result<u32, ChunkError> {
        let number = self.payload.first_chunk().ok_or(ChunkError::TooShort(self.kind))?;
        Ok(u32::from_be_bytes(*number))
    }
}

fn basic(input: &[u8]) -> Option<Basic> {
    let &first = input.first()?;
    let form = first >> 6;
    let (id, len) = match first & 0x3f {
        0 => (64 + u32::from(*input.get(1)?), 2),
        1 => (64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3),
        id => (u32::from(id), 1),
    };
    Some(Basic { form, id, len })
}

/// Reads the header behind the basic one; `last` is what its chunk stream remembers.
fn header(basic: &Basic, last: Option<&ChunkStream>, input: &[u8]) -> Option<Header> {
    let rest = input.get(basic.len..)?;
    let u24 = |at: usize| {
        let bytes = rest.get(at..)?.first_chunk::<3>()?;
        Some(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
    };
    let behind = |len: usize| Some(u32::from_be_bytes(*rest.get(len..)?.first_chunk()?));
    let own_len = match basic.form {
        0 => 11,
        1 => 7,
        2 => 3,
        _ => return repeated(basic, last?, behind),
    };
    let field = u24(0)?;
    let length_and_kind = match basic.form {
        0 | 1 => Some((u24(3)? as usize, *rest.get(6)?)),
        _ => None,
    };
    let stream = match basic.form {
        0 => Some(u32::from_le_bytes(*rest.get(7..)?.first_chunk()?)),
        _ => None,
    };
    let is_extended = field == EXTENDED;
    let field = if is_extended { behind(own_len)? } else { field };
    let len = basic.len + own_len + if is_extended { 4 } else { 0 };
    Some(Header { field, is_extended, length_and_kind, stream, len })
}

/// A header that is all the last one's. Where that had an extended timestamp it is repeated
/// (§5.3.1.3), and there are encoders that leave it out: they are told by its value.
fn repeated(
    basic: &Basic,
    last: &ChunkStream,
    behind: impl Fn(usize) -> Option<u32>,
) -> Option<Header> {
    let is_extended = last.is_extended;
    let is_there = is_extended && {
        let value = behind(0)?;
        value == last.field || value == last.timestamp
    };
    let len = basic.len + if is_there { 4 } else { 0 };
    Some(Header { field: last.field, is_extended, length_and_kind: None, stream: None, len })
}
