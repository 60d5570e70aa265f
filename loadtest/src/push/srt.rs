//! Publishes by SRT: a caller on the crate `srt-tokio`, which shares nothing with libsrt.

use super::mpegts::{Muxer, PACKET_BYTES};
use crate::source::Picture;
use anyhow::Context;
use bytes::Bytes;
use reqwest::Url;
use srt_tokio::SrtSocket;
use std::time::{Duration, Instant};

/// Where a server listens if the address does not say.
const PORT: u16 = 8890;
/// As all programs send it: seven transport packets in a datagram.
const MESSAGE_BYTES: usize = 7 * PACKET_BYTES;
/// The latency where none is asked for, in milliseconds; libsrt's default.
const LATENCY_MS: u64 = 120;
/// How long what was sent last may take to be acknowledged.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A connection that the server has accepted.
pub(super) struct Srt {
    socket: SrtSocket,
    muxer: Muxer,
}

impl std::fmt::Debug for Srt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Srt").field("muxer", &self.muxer).finish_non_exhaustive()
    }
}

/// What an address says of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    stream_id: Option<String>,
    latency: Duration,
    passphrase: Option<String>,
    key_bytes: u16,
}

impl Wanted {
    fn of(url: &Url) -> anyhow::Result<Self> {
        let mut wanted = Self {
            stream_id: None,
            latency: Duration::from_millis(LATENCY_MS),
            passphrase: None,
            key_bytes: 16,
        };
        for (name, value) in url.query_pairs() {
            match &*name {
                "streamid" => wanted.stream_id = Some(value.into_owned()),
                "latency" => {
                    wanted.latency = Duration::from_millis(value.parse().context("latency")?);
                }
                "passphrase" => wanted.passphrase = Some(value.into_owned()),
                "pbkeylen" => wanted.key_bytes = value.parse().context("pbkeylen")?,
                other => anyhow::bail!("{other} is not among what is known of SRT addresses"),
            }
        }
        anyhow::ensure!([16, 24, 32].contains(&wanted.key_bytes), "pbkeylen is 16, 24 or 32");
        Ok(wanted)
    }
}

impl Srt {
    pub(super) async fn publish(url: &Url, audio: bool) -> anyhow::Result<Self> {
        let Wanted { stream_id, latency, passphrase, key_bytes } = Wanted::of(url)?;
        let host = url.host_str().context("an address has a host")?;
        let remote = format!("{host}:{}", url.port().unwrap_or(PORT));
        let mut builder = SrtSocket::builder().latency(latency);
        if let Some(passphrase) = passphrase {
            builder = builder.encryption(key_bytes, passphrase);
        }
        let socket = builder.call(&*remote, stream_id.as_deref()).await;
        Ok(Self { socket: socket.context("the server refuses")?, muxer: Muxer::new(audio) })
    }

    pub(super) fn picture(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let stream = Bytes::from(self.muxer.picture(picture));
        self.send(stream)
    }

    pub(super) fn audio(&mut self, ticks: u64, packet: &Bytes) -> anyhow::Result<()> {
        let stream = Bytes::from(self.muxer.audio(ticks, packet));
        self.send(stream)
    }

    /// Each picture begins a message of its own and waits for nothing.
    fn send(&mut self, mut stream: Bytes) -> anyhow::Result<()> {
        let now = Instant::now();
        while !stream.is_empty() {
            let message = stream.split_to(stream.len().min(MESSAGE_BYTES));
            let sent = self.socket.try_send(now, message);
            anyhow::ensure!(sent.is_ok(), "the server takes nothing, or is gone");
        }
        Ok(())
    }

    pub(super) async fn end(mut self) {
        let _ = tokio::time::timeout(END_WITHIN, self.socket.close_and_finish()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_stream_id_latency_and_keys() -> anyhow::Result<()> {
        let url = "srt://host:9?streamid=publish:a:b&latency=20&passphrase=0123456789&pbkeylen=32";
        let wanted = Wanted::of(&Url::parse(url)?)?;
        assert_eq!(wanted.stream_id.as_deref(), Some("publish:a:b"));
        assert_eq!((wanted.latency, wanted.key_bytes), (Duration::from_millis(20), 32));
        assert_eq!(wanted.passphrase.as_deref(), Some("0123456789"));
        assert!(Wanted::of(&Url::parse("srt://host?pbkeylen=5")?).is_err());
        assert!(Wanted::of(&Url::parse("srt://host?mode=listener")?).is_err());
        Ok(())
    }
}
