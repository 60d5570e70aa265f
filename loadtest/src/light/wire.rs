//! The way to the server: datagrams over UDP, or in the frames of a TCP connection (RFC 4571).

use super::burst;
use bytes::Bytes;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// The longest datagram; what is longer is no WebRTC.
const DATAGRAM_MAX: usize = 2_048;
/// Bytes that may wait for a TCP connection to take them; beyond that datagrams are lost.
const WAITING_MAX: usize = 1 << 20;

/// What carries the datagrams of a light client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// A TCP connection that the client opens (RFC 6544, `tcptype active`).
    Tcp {
        /// Size of the kernel's receive buffer: how much comes in that nobody has read.
        receive_buffer: Option<u32>,
    },
}

/// An open way.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream, Mutex<Vec<u8>>),
}

/// What came in and is not complete.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    memory: Vec<u8>,
    partial: Vec<u8>,
}

impl Wire {
    pub(super) async fn open(server: SocketAddr, transport: Transport) -> std::io::Result<Self> {
        match transport {
            Transport::Udp => {
                let any: SocketAddr = if server.is_ipv4() {
                    (Ipv4Addr::UNSPECIFIED, 0).into()
                } else {
                    (Ipv6Addr::UNSPECIFIED, 0).into()
                };
                Ok(Self::Udp(UdpSocket::bind(any).await?, server))
            }
            Transport::Tcp { receive_buffer } => {
                let v4 = server.is_ipv4();
                let socket = if v4 { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                if let Some(bytes) = receive_buffer {
                    socket.set_recv_buffer_size(bytes)?;
                }
                let stream = socket.connect(server).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream, Mutex::default()))
            }
        }
    }

    /// The client's address.
    pub(super) fn local_address(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Udp(socket, _) => socket.local_addr(),
            Self::Tcp(stream, _) => stream.local_addr(),
        }
    }

    /// Sends a datagram. Where there is no room it is lost, as on any network.
    pub(super) fn send(&self, datagram: &[u8]) {
        match self {
            Self::Udp(socket, server) => drop(socket.try_send_to(datagram, *server)),
            Self::Tcp(stream, waiting) => {
                let mut waiting = lock(waiting);
                push(&mut waiting, datagram);
                flush(stream, &mut waiting);
            }
        }
    }

    /// Sends datagrams back to back.
    pub(super) fn send_all(&self, datagrams: &[Bytes]) {
        match self {
            Self::Udp(socket, server) => drop(burst::send(socket, *server, datagrams)),
            Self::Tcp(stream, waiting) => {
                let mut waiting = lock(waiting);
                for datagram in datagrams {
                    push(&mut waiting, datagram);
                }
                flush(stream, &mut waiting);
            }
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Tcp(_, waiting) if !lock(waiting).is_empty())
    }

    /// Sends what waits, as soon as there is room for some of it.
    pub(super) async fn room(&self) {
        if let Self::Tcp(stream, waiting) = self
            && stream.writable().await.is_ok()
        {
            flush(stream, &mut lock(waiting));
        }
    }

    /// Waits for something to come in, and hands on every datagram of it; false: it is over.
    pub(super) async fn receive(&self, inbox: &mut Inbox, mut take: impl FnMut(&[u8])) -> bool {
        let Inbox { memory, partial } = inbox;
        memory.resize(8 * DATAGRAM_MAX, 0);
        match self {
            Self::Udp(socket, _) => {
                // An ICMP error (the server's port is closed) is no reason to stop listening.
                if let Ok((length, _)) = socket.recv_from(memory).await {
                    take(memory.get(..length).unwrap_or_default());
                }
                true
            }
            Self::Tcp(stream, _) => {
                if stream.readable().await.is_err() {
                    return false;
                }
                match stream.try_read(memory) {
                    Ok(0) => return false,
                    Ok(length) => partial.extend_from_slice(memory.get(..length).unwrap_or(&[])),
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
                while let Some((header, rest)) = partial.split_first_chunk()
                    && let Some(datagram) = rest.get(..usize::from(u16::from_be_bytes(*header)))
                {
                    take(datagram);
                    let done = header.len() + datagram.len();
                    partial.drain(..done);
                }
                true
            }
        }
    }
}

fn lock(waiting: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame: two bytes of length, then the datagram (RFC 4571 §2).
fn push(waiting: &mut Vec<u8>, datagram: &[u8]) {
    if let Ok(length) = u16::try_from(datagram.len())
        && waiting.len() < WAITING_MAX
    {
        waiting.extend(length.to_be_bytes());
        waiting.extend(datagram);
    }
}

/// Sends what waits, as far as there is room. Who is no longer listened to sends into the void.
fn flush(stream: &TcpStream, waiting: &mut Vec<u8>) {
    while !waiting.is_empty() {
        match stream.try_write(waiting) {
            Ok(taken) => drop(waiting.drain(..taken)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => waiting.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn datagrams_cross_a_connection_whole_and_in_order() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let transport = Transport::Tcp { receive_buffer: None };
        let near = Wire::open(listener.local_addr()?, transport).await?;
        let far = Wire::Tcp(listener.accept().await?.0, Mutex::default());
        near.send(b"one");
        near.send_all(&[Bytes::from_static(b"two"), Bytes::from_static(b"three")]);
        let mut inbox = Inbox::default();
        let mut came = Vec::new();
        while came.len() < 3 {
            anyhow::ensure!(far.receive(&mut inbox, |it| came.push(it.to_vec())).await, "over");
        }
        assert_eq!(came, [&b"one"[..], b"two", b"three"]);
        Ok(())
    }

    #[tokio::test]
    async fn a_frame_that_comes_byte_by_byte_is_one_datagram() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut near = TcpStream::connect(listener.local_addr()?).await?;
        let far = Wire::Tcp(listener.accept().await?.0, Mutex::default());
        let mut inbox = Inbox::default();
        let mut came = Vec::new();
        for byte in *b"\0\x03abc\0\x01d" {
            near.write_u8(byte).await?;
            anyhow::ensure!(far.receive(&mut inbox, |it| came.push(it.to_vec())).await, "over");
        }
        assert_eq!(came, [&b"abc"[..], b"d"]);
        drop(near);
        assert!(!far.receive(&mut inbox, |_| ()).await);
        Ok(())
    }
}
