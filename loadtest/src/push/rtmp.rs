//! Publishes by RTMP. Handshake, commands and chunks are those of the crate `rml_rtmp`, from
//! which the server takes less: its reader of chunks and commands is its own.

use super::{PushOptions, flv};
use crate::source::Picture;
use anyhow::Context;
use bytes::Bytes;
use reqwest::Url;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where a server listens if the address does not say.
const PORT: u16 = 1935;
/// As encoders choose it.
const CHUNK_BYTES: u32 = 4_096;
/// A server that takes nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
const SHAKING: &str = "the handshake";
/// Ticks in a millisecond.
const TICKS: u64 = 90;

/// A connection on which the server has said that it may publish.
pub(super) struct Rtmp {
    stream: TcpStream,
    session: ClientSession,
    /// What is to be written before anything else: answers to the server.
    waiting: Vec<u8>,
    input: Vec<u8>,
    /// Whether the sound is AAC.
    aac: bool,
}

impl fmt::Debug for Rtmp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Rtmp").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Rtmp {
    /// Connects, and asks to publish until the server answers.
    pub(super) async fn publish(url: &Url, options: PushOptions) -> anyhow::Result<Self> {
        let (app, key) = app_and_key(url)?;
        let host = url.host_str().context("an address has a host")?;
        let port = url.port().unwrap_or(PORT);
        let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        stream.set_nodelay(true)?;
        let rest = shake_hands(&mut stream).await?;
        let config = ClientSessionConfig {
            flash_version: "FMLE/3.0 (compatible; millrace-loadtest)".to_owned(),
            chunk_size: CHUNK_BYTES,
            tc_url: Some(format!("rtmp://{host}:{port}/{app}")),
            ..ClientSessionConfig::new()
        };
        let (session, results) = ClientSession::new(config)?;
        let (waiting, input) = (Vec::new(), vec![0; 16_384]);
        let mut this = Self { stream, session, waiting, input, aac: options.aac };
        for result in results {
            this.queue(result);
        }
        let request = this.session.request_connection(app)?;
        this.queue(request);
        let results = this.session.handle_input(&rest)?;
        let mut events = this.take(results);
        loop {
            for event in std::mem::take(&mut events) {
                match event {
                    ClientSessionEvent::ConnectionRequestAccepted => {
                        let live = PublishRequestType::Live;
                        let request = this.session.request_publishing(key.clone(), live)?;
                        this.queue(request);
                    }
                    ClientSessionEvent::PublishRequestAccepted => {
                        this.send_headers(options.audio).await?;
                        return Ok(this);
                    }
                    ClientSessionEvent::ConnectionRequestRejected { description } => {
                        anyhow::bail!("the server refuses the connection: {description}");
                    }
                    ClientSessionEvent::UnhandleableOnStatusCode { code } => {
                        anyhow::bail!("the server says {code}");
                    }
                    _ => {}
                }
            }
            this.flush().await?;
            events = this.hear().await?;
        }
    }

    async fn send_headers(&mut self, audio: bool) -> anyhow::Result<()> {
        let start = RtmpTimestamp::new(0);
        let header = self.session.publish_video_data(flv::video_header(), start, false)?;
        self.queue(header);
        if audio {
            let header =
                self.session.publish_audio_data(flv::audio_header(self.aac), start, false)?;
            self.queue(header);
        }
        self.flush().await
    }

    pub(super) async fn picture(&mut self, picture: &Picture) -> anyhow::Result<()> {
        let timestamp = RtmpTimestamp::new((picture.ticks / TICKS) as u32);
        let sent = self.session.publish_video_data(flv::video(picture), timestamp, false)?;
        self.queue(sent);
        self.flush().await
    }

    pub(super) async fn audio(&mut self, ticks: u64, packet: &Bytes) -> anyhow::Result<()> {
        let timestamp = RtmpTimestamp::new((ticks / TICKS) as u32);
        let body = if self.aac { flv::silence() } else { flv::audio(packet) };
        let sent = self.session.publish_audio_data(body, timestamp, false)?;
        self.queue(sent);
        self.flush().await
    }

    /// Hears the server; its answer is written with what is sent next.
    pub(super) async fn listen(&mut self) -> anyhow::Result<()> {
        for event in self.hear().await? {
            if let ClientSessionEvent::UnhandleableOnStatusCode { code } = event {
                anyhow::bail!("the server says {code}");
            }
        }
        Ok(())
    }

    pub(super) async fn end(mut self) {
        if let Ok(results) = self.session.stop_publishing() {
            self.take(results);
            let _ = self.flush().await;
        }
        let _ = self.stream.shutdown().await;
    }

    /// Reads once.
    async fn hear(&mut self) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let count = self.stream.read(&mut self.input).await?;
        anyhow::ensure!(count > 0, "the server closed the connection");
        let results = self.session.handle_input(self.input.get(..count).unwrap_or_default())?;
        Ok(self.take(results))
    }

    /// The events among these; the rest is to be written.
    fn take(&mut self, results: Vec<ClientSessionResult>) -> Vec<ClientSessionEvent> {
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                other => self.queue(other),
            }
        }
        events
    }

    fn queue(&mut self, result: ClientSessionResult) {
        if let ClientSessionResult::OutboundResponse(packet) = result {
            self.waiting.extend(packet.bytes);
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let written = self.stream.write_all(&self.waiting);
        tokio::time::timeout(WRITE_WITHIN, written)
            .await
            .with_context(|| format!("the server has taken nothing for {WRITE_WITHIN:?}"))??;
        self.waiting.clear();
        Ok(())
    }
}

/// The first part of the path is the application, all else the stream key.
fn app_and_key(url: &Url) -> anyhow::Result<(String, String)> {
    let path = url.path().trim_start_matches('/');
    let (app, key) = path.split_once('/').context("rtmp://HOST/APPLICATION/STREAM KEY")?;
    let query = url.query().map_or(String::new(), |query| format!("?{query}"));
    Ok((app.to_owned(), format!("{key}{query}")))
}

/// Returns what the server said after it.
async fn shake_hands(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Client);
    let hello = handshake.generate_outbound_p0_and_p1().context(SHAKING)?;
    stream.write_all(&hello).await?;
    let mut input = vec![0; 4_096];
    loop {
        let count = stream.read(&mut input).await?;
        anyhow::ensure!(count > 0, "the server closed the connection in the handshake");
        let heard = input.get(..count).unwrap_or_default();
        match handshake.process_bytes(heard).context(SHAKING)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                stream.write_all(&response_bytes).await?;
            }
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                stream.write_all(&response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_belongs_to_the_stream_key() -> anyhow::Result<()> {
        let parts = |url: &str| app_and_key(&Url::parse(url)?);
        let wanted = ("live".to_owned(), "a/b?token=x".to_owned());
        assert_eq!(parts("rtmp://host/live/a/b?token=x")?, wanted);
        assert!(parts("rtmp://host/live").is_err());
        Ok(())
    }
}
