//! An encoder that says what a test wants it to, byte by byte.

use crate::harness::SOON;
use anyhow::{Context as _, bail};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Kinds of messages (RTMP 1.0 §5.4, §7.1).
pub(super) const SET_CHUNK_SIZE: u8 = 1;
pub(super) const AUDIO: u8 = 8;
pub(super) const VIDEO: u8 = 9;
pub(super) const COMMAND: u8 = 20;

/// What stands before the number in a picture.
const MARK: &str = "picture ";
/// The length of chunks that every encoder sets after its handshake.
const CHUNK_BYTES: u32 = 65_536;

/// A connection past its handshake.
pub(super) struct Encoder {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Encoder {
    /// Connects and shakes hands.
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&[&[3][..], &[0; 1536]].concat()).await?;
        let mut answer = [0; 1 + 2 * 1536];
        timeout(SOON, stream.read_exact(&mut answer)).await.context("a handshake")??;
        stream.write_all(&answer[1..=1536]).await?;
        Ok(Self { stream, heard: Vec::new() })
    }

    /// Publishes; an error holds what the server said instead.
    pub(super) async fn publish(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let mut encoder = Self::connect(address).await?;
        encoder.say(&opening(key)).await?;
        encoder.hears("NetStream.Publish.Start").await?;
        Ok(encoder)
    }

    /// Says this.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(timeout(SOON, self.stream.write_all(bytes)).await.context("it takes nothing")??)
    }

    /// Waits until the server has said this.
    pub(super) async fn hears(&mut self, words: &str) -> anyhow::Result<()> {
        while !self.has_heard(words) {
            if !self.listen().await? {
                bail!("no {words} in {}", String::from_utf8_lossy(&self.heard));
            }
        }
        Ok(())
    }

    /// Waits until the server closes, however it does that; what it has said by then.
    pub(super) async fn hears_out(&mut self) -> anyhow::Result<String> {
        while self.listen().await? {}
        Ok(String::from_utf8_lossy(&self.heard).into_owned())
    }

    fn has_heard(&self, words: &str) -> bool {
        self.heard.windows(words.len()).any(|part| part == words.as_bytes())
    }

    /// Whether there was more.
    async fn listen(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        let read = timeout(SOON * 3, self.stream.read(&mut bytes)).await;
        // A connection that is reset is closed.
        let read = read.context("the server neither speaks nor closes")?.unwrap_or(0);
        self.heard.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }
}

/// A chunk with a whole header, on message stream 1.
pub(super) fn chunk(id: u8, timestamp: u32, kind: u8, length: usize, data: &[u8]) -> Vec<u8> {
    let (time, length) = (timestamp.to_be_bytes(), (length as u32).to_be_bytes());
    [&[id], &time[1..], &length[1..], &[kind, 1, 0, 0, 0], data].concat()
}

/// A message of one chunk.
pub(super) fn message(id: u8, timestamp: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    chunk(id, timestamp, kind, payload.len(), payload)
}

/// The chunk size that the other messages here need, and `connect` to `live`.
pub(super) fn connect() -> Vec<u8> {
    let object = [&[3][..], &name("app"), &text("live"), &[0, 0, 9]].concat();
    let size = message(2, 0, SET_CHUNK_SIZE, &CHUNK_BYTES.to_be_bytes());
    [size, command("connect", &object)].concat()
}

/// All that an encoder says before its first picture.
pub(super) fn opening(key: &str) -> Vec<u8> {
    let publish = [vec![5], text(key), text("live")].concat();
    [connect(), command("createStream", &[5]), command("publish", &publish)].concat()
}

/// A command with what follows its transaction.
pub(super) fn command(name: &str, rest: &[u8]) -> Vec<u8> {
    let payload = [&text(name), &[0][..], &1_f64.to_be_bytes(), rest].concat();
    message(3, 0, COMMAND, &payload)
}

fn name(name: &str) -> Vec<u8> {
    [&(name.len() as u16).to_be_bytes()[..], name.as_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [vec![2], name(text)].concat()
}

/// The sequence header of pictures of 64 by 64, as x264 makes it.
pub(super) fn setup() -> Vec<u8> {
    const SPS: &[u8] =
        b"\x67\x42\xc0\x0a\xd9\x04\x26\xc0\x44\0\0\x03\0\x04\0\0\x03\0\xc8\x3c\x48\x99\x20";
    const PPS: &[u8] = b"\x68\xcb\x83\xcb\x20";
    let sets = [&[0xe1, 0, SPS.len() as u8], SPS, &[1, 0, PPS.len() as u8], PPS].concat();
    let head = b"\x17\0\0\0\0\x01\x42\xc0\x0a\xff";
    message(4, 0, VIDEO, &[&head[..], &sets].concat())
}

/// A picture that carries its number, as a keyframe or one that refers to the last.
pub(super) fn picture(number: u32, timestamp: u32) -> Vec<u8> {
    let is_key = number.is_multiple_of(25);
    let unit = [if is_key { 0x65 } else { 0x41 }, 0x88];
    let unit = [&unit[..], format!("{MARK}{number:08}.").as_bytes()].concat();
    let head = [if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, unit.len() as u8];
    message(4, timestamp, VIDEO, &[&head[..], &unit].concat())
}

/// The number of the picture in this packet, if it is one.
pub(super) fn number_of(payload: &[u8]) -> Option<u32> {
    let at = payload.windows(MARK.len()).position(|part| part == MARK.as_bytes())?;
    std::str::from_utf8(payload.get(at + MARK.len()..)?.get(..8)?).ok()?.parse().ok()
}
