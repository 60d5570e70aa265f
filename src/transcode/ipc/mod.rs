//! What server and worker tell each other: messages after their lengths, over a socket pair. The
//! worker includes this very folder. Fuzz targets: `transcode_ipc`, `transcode_picture`.
//!
//! - `picture`: where the worker transcodes the picture of a stream
//! - `sound`: where it transcodes the sound
//!
//! Pure: bytes in, messages out. Neither side trusts the other: a worker reads media of strangers
//! with large libraries written in C, and whoever takes it over must gain nothing here.

pub mod picture;
mod sound;

pub use sound::{Message, Sound};

use std::fmt;
use std::marker::PhantomData;

/// The variable by which a worker is told the cores that it may run on, by their numbers: `2,3`.
/// Without it it runs on those of the server.
pub const CORES: &str = "MILLRACE_CORES";
/// The length that stands before each message, big-endian.
const LENGTH_BYTES: usize = 4;
/// The longest text of a fault; more is cut off.
const FAULT_BYTES_MAX: usize = 1000;

/// Bytes that are no message. Nothing after them can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadMessage {
    /// Longer than [`Wire::BYTES_MAX`], or empty.
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

/// A set of messages: those of sound, or those of pictures in one of the two directions.
pub trait Wire: Sized {
    /// The longest message, its type included.
    const BYTES_MAX: usize;

    /// Appends the message without its length.
    fn write_body(&self, out: &mut Vec<u8>);

    /// Reads a message without its length; `None` where there is none.
    fn parse_body(bytes: &[u8]) -> Option<Self>;

    /// Appends it with its length. What is too long for the other side is left out: false.
    fn write_to(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend([0; LENGTH_BYTES]);
        self.write_body(out);
        let length = out.len() - start - LENGTH_BYTES;
        match u32::try_from(length).ok().filter(|_| length <= Self::BYTES_MAX) {
            Some(length) => out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes()),
            None => out.truncate(start),
        }
        out.len() > start
    }
}

/// Puts messages together from whatever pieces the socket gives. Holds one message at most, and
/// what was read with it.
#[derive(Debug)]
pub struct Incoming<M> {
    bytes: Vec<u8>,
    /// Of those, how many have been read.
    taken: usize,
    messages: PhantomData<M>,
}

impl<M> Default for Incoming<M> {
    fn default() -> Self {
        Self { bytes: Vec::new(), taken: 0, messages: PhantomData }
    }
}

impl<M: Wire> Incoming<M> {
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
    pub fn take_next(&mut self) -> Result<Option<M>, BadMessage> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > M::BYTES_MAX {
            return Err(BadMessage::Length(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = M::parse_body(body).ok_or(BadMessage::Content)?;
        self.taken += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

/// Appends the text of a fault, as long as it may be.
fn write_fault(fault: &str, out: &mut Vec<u8>) {
    out.extend(fault.bytes().take(FAULT_BYTES_MAX));
}

/// The text of a fault as one short line.
fn fault_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..FAULT_BYTES_MAX).unwrap_or(bytes));
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
