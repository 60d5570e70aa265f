//! Publishes MPEG-TS in bare UDP, for another program to pass on: that is how libsrt's own
//! `srt-live-transmit` becomes the publisher.

use super::mpegts::{MESSAGE_BYTES, Muxer};
use crate::source::Picture;
use anyhow::Context;
use reqwest::Url;
use std::io::ErrorKind;
use tokio::net::UdpSocket;

/// A socket that somebody may be listening to.
#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
    muxer: Muxer,
}

impl Udp {
    pub(super) async fn publish(url: &Url, audio: bool) -> anyhow::Result<Self> {
        let host = url.host_str().context("an address has a host")?;
        let port = url.port().context("udp://HOST:PORT")?;
        let remote = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?.next();
        let remote = remote.context("an address")?;
        let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(remote).await?;
        Ok(Self { socket, muxer: Muxer::new(audio) })
    }

    pub(super) async fn picture(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let stream = self.muxer.picture(picture);
        self.send(&stream).await
    }

    pub(super) async fn audio(&mut self, ticks: u64, packet: &[u8]) -> anyhow::Result<()> {
        let stream = self.muxer.audio(ticks, packet);
        self.send(&stream).await
    }

    async fn send(&self, stream: &[u8]) -> anyhow::Result<()> {
        for message in stream.chunks(MESSAGE_BYTES) {
            match self.socket.send(message).await {
                // The other program is not there yet: as with any datagram, nobody is told.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
