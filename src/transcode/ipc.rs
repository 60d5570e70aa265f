//! What server and worker tell each other: messages after their lengths, over a socket pair. The
//! worker includes this very file. Fuzz target: `transcode_ipc`.
//!
//! Pure: bytes in, messages out. Neither side trusts the other: a worker reads media of strangers
//! with large libraries written in C, and whoever takes it over must gain nothing here.

use std::fmt;

/// The longest message, its type included. An audio frame has some hundred bytes, the longest of
/// AAC (6 channels) 4.6 kB, and a PES packet with several frames 64 KiB.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The length that stands before each message, big-endian.
const LENGTH_BYTES: usize = 4;
/// The longest text of a fault; more is cut off.
const FAULT_BYTES_MAX: usize = 1000;

/// How sound is encoded, as both sides name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// Opus packets.
    Opus,
    /// Raw AAC frames, with their `AudioSpecificConfig`; empty where it is only wanted.
    Aac(Vec<u8>),
    /// MPEG audio, layers 1 to 3.
    Mpeg,
    /// AC-3.
    Ac3,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// To the worker: from now on frames come so, and are to be made into that. Comes first, and
    /// again whenever what comes in changes.
    Configure {
        /// How the frames that follow are encoded.
        from: Sound,
        /// What they are to become.
        to: Sound,
        /// For this many bits per second.
        bitrate_bps: u32,
    },
    /// From the worker: it has started, and waits for frames.
    Ready,
    /// From the worker: how the frames that follow are encoded.
    Format(Sound),
    /// Both ways: one frame.
    Frame {
        /// When it is heard, in ticks of 90 kHz.
        ticks: i64,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// From the worker, and its last: what went wrong.
    Failed(String),
}

/// Bytes that are no message. Nothing after them can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadMessage {
    /// Longer than [`MESSAGE_BYTES_MAX`], or empty.
    Length(usize),
    /// Of no known type, or not laid out as its type is.
    Content,
}

impl fmt::Display for BadMessage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(out, "a message of {length} bytes"),
            Self::Content => out.write_str("a message that makes no sense"),
        }
    }
}

impl std::error::Error for BadMessage {}

impl Message {
    /// Appends it with its length. What is too long for the other side is left out: false.
    pub fn write_to(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend([0; LENGTH_BYTES]);
        match self {
            Self::Configure { from, to, bitrate_bps } => {
                out.push(b'C');
                out.extend(bitrate_bps.to_be_bytes());
                to.write_to(out);
                from.write_to(out);
            }
            Self::Ready => out.push(b'R'),
            Self::Format(sound) => {
                out.push(b'T');
                sound.write_to(out);
            }
            Self::Frame { ticks, data } => {
                out.push(b'F');
                out.extend(ticks.to_be_bytes());
                out.extend(data);
            }
            Self::Failed(fault) => {
                out.push(b'E');
                out.extend(fault.bytes().take(FAULT_BYTES_MAX));
            }
        }
        let length = out.len() - start - LENGTH_BYTES;
        match u32::try_from(length).ok().filter(|_| length <= MESSAGE_BYTES_MAX) {
            Some(length) => out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes()),
            None => out.truncate(start),
        }
        out.len() > start
    }

    /// Reads one without its length.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            b'C' => {
                let (bitrate, rest) = rest.split_first_chunk()?;
                let (to, rest) = Sound::parse(rest)?;
                let (from, rest) = Sound::parse(rest)?;
                let bitrate_bps = u32::from_be_bytes(*bitrate);
                rest.is_empty().then_some(Self::Configure { from, to, bitrate_bps })?
            }
            b'R' => rest.is_empty().then_some(Self::Ready)?,
            b'T' => {
                let (sound, rest) = Sound::parse(rest)?;
                rest.is_empty().then_some(Self::Format(sound))?
            }
            b'F' => {
                let (ticks, data) = rest.split_first_chunk()?;
                Self::Frame { ticks: i64::from_be_bytes(*ticks), data: data.to_vec() }
            }
            b'E' => {
                let text = String::from_utf8_lossy(rest.get(..FAULT_BYTES_MAX).unwrap_or(rest));
                Self::Failed(text.replace(char::is_control, " "))
            }
            _ => return None,
        })
    }
}

impl Sound {
    fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Opus => out.push(b'O'),
            Self::Mpeg => out.push(b'M'),
            Self::Ac3 => out.push(b'3'),
            Self::Aac(config) => {
                // Real ones have 2 to 64 bytes; none fits into a message that the length of
                // which does not fit here.
                let length = u16::try_from(config.len()).unwrap_or(u16::MAX);
                out.push(b'A');
                out.extend(length.to_be_bytes());
                out.extend(config.iter().take(usize::from(length)));
            }
        }
    }

    /// Reads one; what follows it is left.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            b'O' => (Self::Opus, rest),
            b'M' => (Self::Mpeg, rest),
            b'3' => (Self::Ac3, rest),
            b'A' => {
                let (length, rest) = rest.split_first_chunk()?;
                let (config, rest) =
                    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                (Self::Aac(config.to_vec()), rest)
            }
            _ => return None,
        })
    }
}

/// Puts messages together from whatever pieces the socket gives. Holds one message at most, and
/// what was read with it.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// Of those, how many have been read.
    taken: usize,
}

impl Incoming {
    /// Takes what the socket gave.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    ///
    /// [`BadMessage`] for ever: there is no way to find the next one.
    pub fn take_next(&mut self) -> Result<Option<Message>, BadMessage> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > MESSAGE_BYTES_MAX {
            return Err(BadMessage::Length(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = Message::parse(body).ok_or(BadMessage::Content)?;
        self.taken += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        let aac = || Sound::Aac(vec![0x12, 0x10]);
        vec![
            Message::Configure { from: aac(), to: Sound::Opus, bitrate_bps: 128_000 },
            Message::Configure { from: Sound::Ac3, to: Sound::Aac(vec![]), bitrate_bps: 1 },
            Message::Ready,
            Message::Format(aac()),
            Message::Format(Sound::Mpeg),
            Message::Frame { ticks: -5, data: vec![1, 2, 3] },
            Message::Frame { ticks: i64::MAX, data: vec![] },
            Message::Failed("no such element".to_owned()),
        ]
    }

    fn bytes_of(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(messages.iter().all(|message| message.write_to(&mut bytes)));
        bytes
    }

    fn read_all(incoming: &mut Incoming) -> Vec<Message> {
        std::iter::from_fn(|| incoming.take_next().expect("well formed")).collect()
    }

    #[test]
    fn messages_come_out_as_they_went_in_whatever_the_pieces() {
        let bytes = bytes_of(&all());
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let mut incoming = Incoming::default();
            let mut read = Vec::new();
            for piece in bytes.chunks(size) {
                incoming.feed(piece);
                read.extend(read_all(&mut incoming));
            }
            assert_eq!(read, all(), "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_longer_than_the_bound_is_neither_written_nor_read() {
        let longest = Message::Frame { ticks: 0, data: vec![7; MESSAGE_BYTES_MAX - 9] };
        let mut incoming = Incoming::default();
        incoming.feed(&bytes_of(std::slice::from_ref(&longest)));
        assert_eq!(read_all(&mut incoming), [longest]);
        let mut bytes = vec![1, 2];
        let longer = Message::Frame { ticks: 0, data: vec![7; MESSAGE_BYTES_MAX - 8] };
        assert!(!longer.write_to(&mut bytes));
        assert_eq!(bytes, [1, 2]);
        incoming.feed(&(MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(incoming.take_next(), Err(BadMessage::Length(MESSAGE_BYTES_MAX + 1)));
    }

    #[test]
    fn what_makes_no_sense_ends_the_talk() {
        for body in [&b"x"[..], b"R1", b"F1234567", b"C", b"TA\x00\x05abc", b"TOO", b"C1234OO1"] {
            let mut bytes = u32::try_from(body.len()).expect("short").to_be_bytes().to_vec();
            bytes.extend(body);
            let mut incoming = Incoming::default();
            incoming.feed(&bytes);
            assert_eq!(incoming.take_next(), Err(BadMessage::Content), "{body:?}");
            assert_eq!(incoming.take_next(), Err(BadMessage::Content), "and again");
        }
        let mut incoming = Incoming::default();
        incoming.feed(&[0; 4]);
        assert_eq!(incoming.take_next(), Err(BadMessage::Length(0)));
    }

    #[test]
    fn the_text_of_a_fault_is_one_short_line() {
        let bytes = bytes_of(&[Message::Failed(format!("a\nb{}", "x".repeat(5000)))]);
        let mut incoming = Incoming::default();
        incoming.feed(&bytes);
        let expected = format!("a b{}", "x".repeat(FAULT_BYTES_MAX - 3));
        assert_eq!(incoming.take_next(), Ok(Some(Message::Failed(expected))));
    }
}
