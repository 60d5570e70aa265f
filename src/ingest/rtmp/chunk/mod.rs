//! Chunks -> messages (RTMP 1.0 §5.3), for bytes of anybody. Fuzz target: `rtmp_chunks`.
//!
//! Chunks of several messages may lie between each other, one message per chunk stream. What a
//! connection can make us keep is bounded: by the number of chunk streams, by the length of a
//! message of each kind, which is looked at before its first byte is kept, and by a sum over all.

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk with a whole header.
    fn first(id: u8, timestamp: u32, kind: u8, length: usize, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![id];
        bytes.extend_from_slice(&timestamp.min(EXTENDED).to_be_bytes()[1..]);
        bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        bytes.push(kind);
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        if timestamp >= EXTENDED {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
        }
        bytes.extend_from_slice(data);
        bytes
    }

    /// A chunk that goes on.
    fn more(id: u8, data: &[u8]) -> Vec<u8> {
        [&[0xc0 | id], data].concat()
    }

    fn taker() -> ChunkReader {
        let mut reader = ChunkReader::default();
        reader.take_media(true);
        reader
    }

    /// All messages as (timestamp, kind, length), however the bytes come in pieces.
    fn messages(bytes: &[u8]) -> Result<Vec<(u32, u8, usize)>, ChunkError> {
        let mut results = Vec::new();
        for piece in [1, 7, bytes.len().max(1)] {
            let mut reader = taker();
            let mut input = BytesMut::new();
            let mut read = Ok(Vec::new());
            'pieces: for part in bytes.chunks(piece) {
                input.extend_from_slice(part);
                loop {
                    match (reader.read(&mut input), &mut read) {
                        (Ok(Some(it)), Ok(list)) => {
                            list.push((it.timestamp, it.kind, it.payload.len()));
                        }
                        (Ok(_), _) => break,
                        (Err(error), _) => {
                            read = Err(error);
                            break 'pieces;
                        }
                    }
                }
            }
            results.push(read);
        }
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        results.remove(0)
    }

    #[test]
    fn chunks_of_several_messages_may_lie_between_each_other() {
        let bytes = [
            first(4, 40, kind::VIDEO, 300, &[1; 128]),
            first(5, 41, kind::AUDIO, 150, &[2; 128]),
            more(4, &[1; 128]),
            more(5, &[2; 22]),
            more(4, &[1; 44]),
        ];
        let read = messages(&bytes.concat());
        assert_eq!(read, Ok(vec![(41, kind::AUDIO, 150), (40, kind::VIDEO, 300)]));
    }

    #[test]
    fn later_headers_repeat_what_they_leave_out() {
        let bytes = [
            first(4, 1000, kind::VIDEO, 2, &[1; 2]),
            [&[0x44, 0, 0, 33, 0, 0, 3, kind::AUDIO][..], &[0; 3]].concat(),
            [&[0x84, 0, 0, 20][..], &[0; 3]].concat(),
            more(4, &[0; 3]),
        ];
        let (audio, video) = (kind::AUDIO, kind::VIDEO);
        let expected = vec![(1000, video, 2), (1033, audio, 3), (1053, audio, 3), (1073, audio, 3)];
        assert_eq!(messages(&bytes.concat()), Ok(expected));
    }

    #[test]
    fn librtmp_begins_a_chunk_stream_with_half_a_header() {
        let ping = [0x42, 0, 0, 0, 0, 0, 6, kind::USER_CONTROL, 0, 3, 0, 0, 0, 1];
        assert_eq!(messages(&ping), Ok(vec![(0, kind::USER_CONTROL, 6)]));
    }

    #[test]
    fn long_timestamps_are_read_whether_or_not_later_chunks_repeat_them() {
        let late = 0x0123_4567_u32;
        let repeating = [late.to_be_bytes().as_slice(), &[7; 72]].concat();
        for second in [repeating, vec![7; 72]] {
            let bytes = [first(4, late, kind::VIDEO, 200, &[7; 128]), more(4, &second)].concat();
            assert_eq!(messages(&bytes), Ok(vec![(late, kind::VIDEO, 200)]));
        }
        let wrapped =
            [first(4, u32::MAX, kind::AUDIO, 1, &[0]), [&[0x84, 0, 0, 5][..], &[0]].concat()];
        let read = messages(&wrapped.concat());
        assert_eq!(read, Ok(vec![(u32::MAX, kind::AUDIO, 1), (4, kind::AUDIO, 1)]));
    }

    #[test]
    fn chunk_stream_numbers_have_one_two_or_three_bytes() {
        let mut two = first(0, 1, kind::DATA, 1, &[0]);
        two.insert(1, 0xff);
        let mut three = first(1, 2, kind::DATA, 1, &[0]);
        three.splice(1..1, [0xff, 0xff]);
        let read = messages(&[two, three].concat());
        assert_eq!(read, Ok(vec![(1, kind::DATA, 1), (2, kind::DATA, 1)]));
    }

    #[test]
    fn a_chunk_size_is_1_byte_to_1_mib() {
        let set = |size: u32| first(2, 0, kind::SET_CHUNK_SIZE, 4, &size.to_be_bytes());
        for good in [1_u32, 128, 1 << 20] {
            let sized = vec![9; 3.min(good as usize)];
            let mut bytes = [set(good), first(4, 0, kind::AUDIO, 3, &sized)].concat();
            if good == 1 {
                bytes.extend([more(4, &[9]), more(4, &[9])].concat());
            }
            assert_eq!(messages(&bytes), Ok(vec![(0, kind::AUDIO, 3)]), "{good}");
        }
        for bad in [0, (1 << 20) + 1, 1 << 31, u32::MAX] {
            assert_eq!(messages(&set(bad)), Err(ChunkError::ChunkSize(bad)));
        }
    }

    #[test]
    fn an_aborted_message_is_forgotten() {
        let bytes = [
            first(4, 0, kind::VIDEO, 300, &[1; 128]),
            first(2, 0, kind::ABORT, 4, &4_u32.to_be_bytes()),
            first(4, 9, kind::VIDEO, 2, &[1; 2]),
        ];
        assert_eq!(messages(&bytes.concat()), Ok(vec![(9, kind::VIDEO, 2)]));
    }

    #[test]
    fn what_is_no_chunk_or_too_much_is_refused_before_it_is_kept() {
        let long = |kind, length| first(4, 0, kind, length, &[]);
        let streams: Vec<u8> = (2..=34).flat_map(|id| first(id, 0, kind::DATA, 1, &[0])).collect();
        for (bytes, fault) in [
            (more(7, &[0; 9]), ChunkError::NoFirstHeader(7)),
            (vec![0x87, 0, 0, 0], ChunkError::NoFirstHeader(7)),
            (
                [first(4, 0, kind::VIDEO, 300, &[0; 128]), first(4, 0, kind::VIDEO, 3, &[0; 3])]
                    .concat(),
                ChunkError::Unfinished(4),
            ),
            (streams, ChunkError::TooManyStreams),
            (
                long(kind::VIDEO, MEDIA_BYTES_MAX + 1),
                ChunkError::TooLong {
                    kind: kind::VIDEO,
                    length: MEDIA_BYTES_MAX + 1,
                    max: MEDIA_BYTES_MAX,
                },
            ),
            (
                long(kind::COMMAND, COMMAND_BYTES_MAX + 1),
                ChunkError::TooLong {
                    kind: kind::COMMAND,
                    length: COMMAND_BYTES_MAX + 1,
                    max: COMMAND_BYTES_MAX,
                },
            ),
            (
                long(kind::ABORT, 65),
                ChunkError::TooLong { kind: kind::ABORT, length: 65, max: CONTROL_BYTES_MAX },
            ),
            (first(2, 0, kind::ABORT, 3, &[0; 3]), ChunkError::TooShort(kind::ABORT)),
        ] {
            assert_eq!(messages(&bytes), Err(fault));
        }
    }

    #[test]
    fn who_does_not_publish_sends_no_media_and_little_else() {
        let mut reader = ChunkReader::default();
        let mut input = BytesMut::from(&first(4, 0, kind::AUDIO, 1, &[0])[..]);
        assert_eq!(reader.read(&mut input), Err(ChunkError::MediaBeforePublish));

        let mut reader = ChunkReader::default();
        let size = first(2, 0, kind::SET_CHUNK_SIZE, 4, &(1_u32 << 20).to_be_bytes());
        reader.read(&mut BytesMut::from(&size[..])).expect("a good size");
        let almost = vec![0; COMMAND_BYTES_MAX - 1];
        let parts = |id: u8| {
            // Each is left one byte short, by a chunk size that is one byte short.
            let size = (COMMAND_BYTES_MAX as u32 - 1).to_be_bytes();
            let size = first(2, 0, kind::SET_CHUNK_SIZE, 4, &size);
            [size, first(id, 0, kind::COMMAND, COMMAND_BYTES_MAX, &almost)].concat()
        };
        let fault = (3..9).find_map(|id| reader.read(&mut BytesMut::from(&parts(id)[..])).err());
        assert_eq!(fault, Some(ChunkError::TooMuch));
    }

    #[test]
    fn who_does_not_publish_has_nothing_reserved_for_what_it_announces() {
        let mut reader = ChunkReader::default();
        for id in 2..32 {
            let mut input =
                BytesMut::from(&first(id, 0, kind::COMMAND, COMMAND_BYTES_MAX, &[])[..]);
            assert_eq!(reader.read(&mut input), Ok(None));
        }
        let partials = reader.streams.iter().filter_map(|stream| stream.partial.as_ref());
        let reserved: usize = partials.map(BytesMut::capacity).sum();
        assert!(reserved <= 16 << 10, "{reserved} bytes");
    }
}
