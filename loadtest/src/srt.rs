//! Publishes by SRT: a caller on `srt-tokio`, which shares nothing with the library of servers
//! built on libsrt.

use bytes::Bytes;
use futures_util::SinkExt as _;
use srt_tokio::SrtSocket;
use srt_tokio::options::{ByteCount, PacketSize};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// A packet of a transport stream (ISO/IEC 13818-1 §2.4.3.2).
const PACKET: usize = 188;
/// Packets in a message: what an Ethernet frame takes.
const PACKETS_PER_MESSAGE: usize = 7;
/// As libsrt has it. By default it is 31 packets, and a keyframe of more never leaves it.
const SEND_BUFFER: ByteCount = ByteCount(8_192 * 1_500);
/// How long the handshake may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How to call.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// What to ask for.
    pub stream_id: String,
    /// The key's length in bytes, and the passphrase; none: nothing is encrypted.
    pub encryption: Option<(u16, String)>,
    /// How long the other side may wait for lost packets.
    pub latency: Duration,
}

impl CallOptions {
    /// Plain, with every encoder's default latency.
    pub fn new(stream_id: impl Into<String>) -> Self {
        let latency = Duration::from_millis(120);
        Self { stream_id: stream_id.into(), encryption: None, latency }
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The other side gave this reason, such as `Server(Forbidden)`.
    #[error("rejected: {0}")]
    Rejected(String),
    /// Nobody answered, or the network failed.
    #[error(transparent)]
    Network(#[from] io::Error),
}

/// A connection to a listener.
pub struct SrtCaller {
    socket: SrtSocket,
}

impl SrtCaller {
    /// Calls from any port.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn call(remote: SocketAddr, options: &CallOptions) -> Result<Self, CallError> {
        let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        Self::call_from(UdpSocket::bind(any).await?, remote, options).await
    }

    /// Calls from a socket of the caller's own.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn call_from(
        from: UdpSocket,
        remote: SocketAddr,
        options: &CallOptions,
    ) -> Result<Self, CallError> {
        let mut builder = SrtSocket::builder().latency(options.latency).socket(from);
        if let Some((key_bytes, passphrase)) = &options.encryption {
            builder = builder.encryption(*key_bytes, passphrase.as_str());
        }
        let builder = builder.set(|it| {
            it.connect.timeout = CONNECT_WITHIN;
            it.sender.buffer_size = SEND_BUFFER;
            it.sender.max_payload_size = PacketSize((PACKET * PACKETS_PER_MESSAGE) as u64);
        });
        let id = Some(options.stream_id.as_str()).filter(|it| !it.is_empty());
        let socket = builder.call(remote, id).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => CallError::Rejected(reason(&error)),
            _ => CallError::Network(error),
        })?;
        Ok(Self { socket })
    }

    /// Sends one message now.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn send(&mut self, message: Bytes) -> io::Result<()> {
        self.socket.send((Instant::now(), message)).await
    }

    /// Sends a transport stream in its own time, by its clock (PCR).
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn send_stream(&mut self, stream: &Bytes) -> io::Result<()> {
        let began = tokio::time::Instant::now();
        let mut first = None;
        let message = PACKET * PACKETS_PER_MESSAGE;
        for at in (0..stream.len()).step_by(message) {
            let part = stream.slice(at..stream.len().min(at + message));
            if let Some(clock) = part.chunks(PACKET).find_map(clock) {
                let first = *first.get_or_insert(clock);
                tokio::time::sleep_until(began + clock.saturating_sub(first)).await;
            }
            self.send(part).await?;
        }
        Ok(())
    }

    /// Ends the connection, and tells the other side.
    ///
    /// # Errors
    ///
    /// It was gone already.
    pub async fn close(mut self) -> io::Result<()> {
        self.socket.close_and_finish().await
    }
}

/// The reason within a refusal: `srt-tokio` keeps it in an error that it does not export.
fn reason(error: &io::Error) -> String {
    let text = error.get_ref().map(|inner| format!("{inner:?}")).unwrap_or_default();
    let inner = text.strip_prefix("Rejected(").and_then(|rest| rest.strip_suffix(')'));
    inner.unwrap_or(&text).to_owned()
}

/// The program clock reference of a packet, if it has one (ISO/IEC 13818-1 §2.4.3.5): 33 bits of
/// 90 kHz.
fn clock(packet: &[u8]) -> Option<Duration> {
    let (&[0x47, _, _, control, len, flags], rest) = packet.split_first_chunk()? else {
        return None;
    };
    if control & 0x20 == 0 || len < 7 || flags & 0x10 == 0 {
        return None;
    }
    let (high, rest) = rest.split_first_chunk::<4>()?;
    let base = u64::from(u32::from_be_bytes(*high)) << 1 | u64::from(rest.first()? >> 7);
    Some(Duration::from_nanos(base * 100_000 / 9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_packet_is_read() {
        let mut packet = [0xff; PACKET];
        packet[..11].copy_from_slice(&[0x47, 1, 0, 0x30, 7, 0x10, 0, 0, 0xaf, 0xc8, 0x7e]);
        assert_eq!(clock(&packet), Some(Duration::from_secs(1)));
        packet[5] = 0x40;
        assert_eq!(clock(&packet), None);
    }
}
