//! Publishes a synthetic stream by protocols that carry whole pictures: RTMP and SRT.
//!
//! - `flv`: what RTMP carries
//! - `mpegts`: what SRT carries
//! - `rtmp`: the connection, on the client session of the crate `rml_rtmp`
//! - `srt`: the connection, by the caller that tests use as well
//! - `udp`: no connection, for a program that passes it on by SRT

mod flv;
mod mpegts;
mod rtmp;
mod srt;
mod udp;

pub use mpegts::{MESSAGE_BYTES, Muxer, PACKET_BYTES};

use crate::source::{AudioSource, Picture, PictureSource, VideoSettings};
use crate::watched::Watched;
use anyhow::Context;
use bytes::Bytes;
use reqwest::Url;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long the way to a stream that is being published may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Ticks in a packet of Opus, 20 ms, and in a frame of AAC, 1,024 samples at 48 kHz.
const OPUS_TICKS: u64 = 1_800;
const AAC_TICKS: u64 = 1_920;

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushOptions {
    /// The picture, in H.264 whatever the codec says.
    pub video: VideoSettings,
    /// Whether there is sound, in Opus.
    pub audio: bool,
    /// Whether the sound is AAC instead, which is silence; by RTMP only.
    pub aac: bool,
}

/// What a publisher did so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushLog {
    /// Pictures sent.
    pub pictures: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Packets of sound sent.
    pub audio: u64,
    /// Why it is over, once it is.
    pub closed: Option<String>,
}

/// Whether an address is one that pictures are pushed to.
pub fn is_push(url: &str) -> bool {
    ["rtmp://", "srt://", "udp://"].iter().any(|scheme| url.starts_with(scheme))
}

/// A live publisher. Dropping it breaks off; [`PushClient::end`] says goodbye.
#[derive(Debug)]
pub struct PushClient {
    log: Arc<Watched<PushLog>>,
    stop: Arc<tokio::sync::Notify>,
    task: JoinHandle<()>,
}

impl PushClient {
    /// Connects, and starts to send. `rtmp://HOST:PORT/live/KEY` takes all that follows `live` as
    /// the stream key; `srt://HOST:PORT?streamid=ID&latency=MS&passphrase=..&pbkeylen=..` is as
    /// ffmpeg has it, but for the latency, which is in milliseconds; `udp://HOST:PORT` is for a
    /// program that passes it on.
    ///
    /// # Errors
    ///
    /// When the server refuses, or does not let it publish in time.
    pub async fn publish(url: &str, options: PushOptions) -> anyhow::Result<Self> {
        let address = Url::parse(url).with_context(|| url.to_owned())?;
        let line = tokio::time::timeout(CONNECT_WITHIN, Line::connect(&address, options))
            .await
            .with_context(|| format!("not connected within {CONNECT_WITHIN:?}"))??;
        let log = Arc::new(Watched::new(PushLog::default()));
        let stop = Arc::new(tokio::sync::Notify::new());
        let (task_log, task_stop) = (log.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut line = line;
            tokio::select! {
                ended = drive(&mut line, options, &task_log) => {
                    let reason = ended.err().map_or(String::new(), |error| format!("{error:#}"));
                    task_log.update(|log| log.closed = Some(reason));
                }
                () = task_stop.notified() => line.end().await,
            }
        });
        Ok(Self { log, stop, task })
    }

    /// What it did.
    pub fn log(&self) -> &Watched<PushLog> {
        &self.log
    }

    /// Stops, and says so.
    pub async fn end(mut self) {
        self.stop.notify_one();
        let _ = (&mut self.task).await;
    }
}

impl Drop for PushClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that takes pictures and sound.
#[derive(Debug)]
enum Line {
    Rtmp(Box<rtmp::Rtmp>),
    Srt(Box<srt::Srt>),
    Udp(udp::Udp),
}

impl Line {
    async fn connect(address: &Url, options: PushOptions) -> anyhow::Result<Self> {
        Ok(match address.scheme() {
            "rtmp" => Self::Rtmp(Box::new(rtmp::Rtmp::publish(address, options).await?)),
            "srt" => Self::Srt(Box::new(srt::Srt::publish(address, options.audio).await?)),
            "udp" => Self::Udp(udp::Udp::publish(address, options.audio).await?),
            other => anyhow::bail!("{other}: pictures are pushed to rtmp://, srt:// and udp://"),
        })
    }

    async fn picture(&mut self, picture: &Picture) -> anyhow::Result<()> {
        match self {
            Self::Rtmp(line) => line.picture(picture).await,
            Self::Srt(line) => line.picture(picture).await,
            Self::Udp(line) => line.picture(picture).await,
        }
    }

    async fn audio(&mut self, ticks: u64, packet: &Bytes) -> anyhow::Result<()> {
        match self {
            Self::Rtmp(line) => line.audio(ticks, packet).await,
            Self::Srt(line) => line.audio(ticks, packet).await,
            Self::Udp(line) => line.audio(ticks, packet).await,
        }
    }

    /// Takes in what the server says; returns when there is something to be answered, or fails
    /// when it has ended the connection. May be given up and called again.
    async fn listen(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Rtmp(line) => line.listen().await,
            // These say nothing; that nobody is there is found by sending.
            Self::Srt(_) | Self::Udp(_) => std::future::pending().await,
        }
    }

    async fn end(self) {
        match self {
            Self::Rtmp(line) => line.end().await,
            Self::Srt(line) => line.end().await,
            Self::Udp(_) => {}
        }
    }
}

/// Sends each picture and each packet of sound when it is due, until the connection is over.
async fn drive(
    line: &mut Line,
    options: PushOptions,
    log: &Watched<PushLog>,
) -> anyhow::Result<()> {
    let mut pictures = PictureSource::new(options.video);
    let mut sound = AudioSource::new(0, 0);
    let mut sounds = 0;
    let sound_ticks = if options.aac { AAC_TICKS } else { OPUS_TICKS };
    let start = Instant::now();
    let due = |ticks: u64| start + Duration::from_micros(ticks * 100 / 9);
    let mut picture = pictures.next_picture();
    loop {
        let picture_at = due(picture.ticks);
        let sound_at = due(sounds * sound_ticks);
        let next = if options.audio { picture_at.min(sound_at) } else { picture_at };
        tokio::select! {
            heard = line.listen() => {
                heard?;
                continue;
            }
            () = tokio::time::sleep_until(next.into()) => {}
        }
        if next == picture_at {
            picture.stamp();
            line.picture(&picture).await?;
            log.update(|log| {
                log.pictures += 1;
                log.keyframes += u64::from(picture.keyframe);
            });
            picture = pictures.next_picture();
        } else {
            line.audio(sounds * sound_ticks, &sound.next_packet().payload).await?;
            sounds += 1;
            log.update(|log| log.audio += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Stamp;
    use futures_util::StreamExt;
    use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
    use rml_rtmp::sessions::{
        ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UdpSocket};

    const OPTIONS: PushOptions = PushOptions {
        video: VideoSettings {
            codec: crate::codec::Codec::H264,
            bitrate_bps: 1_000_000,
            frame_rate: 60,
            keyframe_interval_frames: 10,
            payload_bytes_max: 0,
            rhythm: crate::source::Rhythm::Even,
            size: [640, 360],
            layer: 0,
        },
        audio: true,
        aac: false,
    };

    /// Lets one publisher in, and returns the stream key and the bodies of the first messages.
    async fn rtmp_server(listener: TcpListener, count: usize) -> anyhow::Result<(String, Bodies)> {
        let (mut stream, _) = listener.accept().await?;
        let (mut handshake, mut input) = (Handshake::new(PeerType::Server), vec![0; 4_096]);
        let mut heard = loop {
            let length = stream.read(&mut input).await?;
            match handshake.process_bytes(&input[..length])? {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    stream.write_all(&response_bytes).await?;
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    stream.write_all(&response_bytes).await?;
                    break remaining_bytes;
                }
            }
        };
        let (mut session, results) = ServerSession::new(ServerSessionConfig::new())?;
        let (mut results, mut key, mut bodies) = (results, String::new(), Bodies::default());
        loop {
            results.extend(session.handle_input(&heard)?);
            while !results.is_empty() {
                match results.remove(0) {
                    ServerSessionResult::OutboundResponse(packet) => {
                        stream.write_all(&packet.bytes).await?;
                    }
                    ServerSessionResult::RaisedEvent(event) => match event {
                        ServerSessionEvent::ConnectionRequested { request_id, .. } => {
                            results.extend(session.accept_request(request_id)?);
                        }
                        ServerSessionEvent::PublishStreamRequested {
                            request_id,
                            stream_key,
                            ..
                        } => {
                            key = stream_key;
                            results.extend(session.accept_request(request_id)?);
                        }
                        ServerSessionEvent::VideoDataReceived { data, .. } => {
                            bodies.video.push(data);
                        }
                        ServerSessionEvent::AudioDataReceived { data, .. } => {
                            bodies.audio.push(data);
                        }
                        _ => {}
                    },
                    ServerSessionResult::UnhandleableMessageReceived(_) => {}
                }
            }
            if bodies.video.len() >= count {
                return Ok((key, bodies));
            }
            let length = stream.read(&mut input).await?;
            anyhow::ensure!(length > 0, "the publisher is gone");
            heard = input[..length].to_vec();
        }
    }

    #[derive(Default)]
    struct Bodies {
        video: Vec<Bytes>,
        audio: Vec<Bytes>,
    }

    #[tokio::test]
    async fn an_rtmp_server_gets_headers_and_then_every_picture() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("rtmp://{}/live/a?token=b", listener.local_addr()?);
        let server = tokio::spawn(rtmp_server(listener, 25));
        let client = PushClient::publish(&url, OPTIONS).await?;
        let (key, bodies) = server.await??;
        assert_eq!(key, "a?token=b");
        assert_eq!(bodies.video[0], flv::video_header());
        assert_eq!(bodies.audio[0], flv::audio_header(false));
        for (body, number) in bodies.video[1..].iter().zip(0..) {
            assert_eq!(body[0], if number % 10 == 0 { 0x17 } else { 0x27 });
            assert_eq!(Stamp::read(body).map(|stamp| stamp.counter), Some(number));
        }
        assert!(bodies.audio.len() > 10, "{} packets of sound", bodies.audio.len());
        drop(client);
        Ok(())
    }

    #[tokio::test]
    async fn a_publisher_says_when_its_server_is_gone() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("rtmp://{}/live/a", listener.local_addr()?);
        let server = tokio::spawn(rtmp_server(listener, 3));
        let client = PushClient::publish(&url, OPTIONS).await?;
        server.await??;
        let closed = |log: &PushLog| log.closed.clone();
        let said = client.log().wait(CONNECT_WITHIN, "the end", closed).await?;
        assert!(!said.is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn an_srt_server_gets_whole_transport_packets_in_order() -> anyhow::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let url = format!("srt://{address}?streamid=publish:a:b&latency=20");
        let server = tokio::spawn(async move {
            let listening = srt_tokio::SrtSocket::builder().socket(socket).listen_on(address);
            let mut connection = listening.await?;
            let mut stream = Vec::new();
            while stream.len() < 50_000 {
                let (_, message) = connection.next().await.context("the publisher is gone")??;
                stream.extend_from_slice(&message);
            }
            anyhow::Ok(stream)
        });
        let client = PushClient::publish(&url, OPTIONS).await?;
        let stream = server.await??;
        let mut counters = std::collections::HashMap::new();
        for packet in stream.chunks_exact(PACKET_BYTES) {
            assert_eq!(packet[0], 0x47);
            let count = packet[3] & 0x0F;
            let last = counters.insert([packet[1] & 0x1F, packet[2]], count);
            assert!(last.is_none_or(|last: u8| (last + 1) & 0x0F == count), "{packet:?}");
        }
        assert_eq!(counters.len(), 4, "two tables, picture and sound");
        client.end().await;
        Ok(())
    }
}
