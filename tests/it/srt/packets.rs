//! SRT's control packets by hand (draft-sharabayko-srt §3.2): what a stranger can send.

use anyhow::Context;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Kinds of handshakes (§3.2.1).
pub(super) const WAVEAHAND: u32 = 0;
pub(super) const INDUCTION: u32 = 1;
pub(super) const CONCLUSION: u32 = 0xffff_ffff;

/// How long an answer may take that comes at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A handshake packet.
#[derive(Debug, Clone)]
pub(super) struct Handshake {
    pub(super) version: u32,
    /// Flags of the extensions, with version 5.
    pub(super) extension_field: u16,
    pub(super) kind: u32,
    pub(super) socket: u32,
    pub(super) cookie: u32,
    /// Type and content of each.
    pub(super) extensions: Vec<(u16, Vec<u8>)>,
}

impl Handshake {
    /// What a caller begins with.
    pub(super) fn induction(socket: u32) -> Self {
        let (version, extension_field, kind) = (4, 2, INDUCTION);
        Self { version, extension_field, kind, socket, cookie: 0, extensions: Vec::new() }
    }

    /// What a caller goes on with; with a cookie that the listener has given.
    pub(super) fn conclusion(socket: u32, cookie: u32, stream_id: &str) -> Self {
        // Version 1.5.1, live mode, 120 ms.
        let request = [0, 1, 5, 1, 0, 0, 0, 0xbf, 0, 120, 0, 120].to_vec();
        let mut id = stream_id.as_bytes().to_vec();
        id.resize(id.len().next_multiple_of(4), 0);
        // §3.2.1.3: each word of it the other way round.
        id.as_chunks_mut::<4>().0.iter_mut().for_each(|word| word.reverse());
        Self {
            version: 5,
            extension_field: 1 | 4,
            kind: CONCLUSION,
            socket,
            cookie,
            extensions: vec![(1, request), (5, id)],
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(self.version.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.extension_field.to_be_bytes());
        for word in [1000_u32, 1500, 8192, self.kind, self.socket, self.cookie] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([1, 0, 0, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, content) in &self.extensions {
            bytes.extend(kind.to_be_bytes());
            bytes.extend((content.len().div_ceil(4) as u16).to_be_bytes());
            bytes.extend(content);
        }
        bytes
    }
}

/// Somebody with an address of its own.
pub(super) struct Stranger {
    socket: UdpSocket,
}

impl Stranger {
    pub(super) fn at(local: SocketAddr, remote: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { socket })
    }

    pub(super) fn new(remote: SocketAddr) -> anyhow::Result<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), remote)
    }

    pub(super) fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.socket.send(bytes)?;
        Ok(())
    }

    /// The cookie that the listener gives to this address.
    pub(super) fn cookie(&self, socket: u32) -> anyhow::Result<u32> {
        self.send(&Handshake::induction(socket).bytes())?;
        let answer = self.answer()?;
        let cookie = answer.get(44..48).context("a whole handshake")?;
        Ok(u32::from_be_bytes(cookie.try_into()?))
    }

    /// The kind of the handshake that the listener answers with: a reason, above 1000.
    pub(super) fn answered_kind(&self) -> anyhow::Result<u32> {
        let answer = self.answer()?;
        Ok(u32::from_be_bytes(answer.get(36..40).context("a whole handshake")?.try_into()?))
    }

    fn answer(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = [0; 1500];
        let len = self.socket.recv(&mut bytes).context("an answer")?;
        Ok(bytes[..len].to_vec())
    }
}
