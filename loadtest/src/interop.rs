//! The `webrtc` crate as publisher and as viewer: a complete stack that is not ours.

use crate::codec::{Codec, Kind};
use crate::http::{Session, Signaling};
use crate::source::{VideoSettings, VideoSource};
use crate::watched::Watched;
use anyhow::Context;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use webrtc::runtime::default_runtime;

/// How long gathering, ICE and DTLS may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
const PAYLOAD_TYPE: u8 = 102;
const SSRC: u32 = 0x1A7E_0001;

/// What the stack told us so far.
#[derive(Debug, Default)]
pub struct InteropLog {
    /// The last state of the connection.
    pub state: Option<RTCPeerConnectionState>,
    /// Whether every local candidate is in the local description.
    pub gathered: bool,
    /// Packets received, in order of arrival, retransmissions unwrapped by the stack.
    pub received: Vec<rtp::Packet>,
}

struct Handler(Arc<Watched<InteropLog>>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.0.update(|log| log.gathered |= state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.0.update(|log| log.state = Some(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let log = self.0.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    log.update(|log| log.received.push(packet));
                }
            }
        });
    }
}

/// A connected peer.
pub struct InteropPeer {
    connection: Box<dyn PeerConnection>,
    log: Arc<Watched<InteropLog>>,
    sending: Option<JoinHandle<()>>,
    signaling: Signaling,
    session: Session,
}

impl InteropPeer {
    /// Publishes synthetic video.
    ///
    /// # Errors
    ///
    /// When the server refuses or does not connect.
    pub async fn publish(
        signaling: &Signaling,
        url: &str,
        settings: VideoSettings,
    ) -> anyhow::Result<Self> {
        let (connection, log) = Box::pin(build(settings.codec)).await?;
        let coding = RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec: codec(settings.codec),
            ..Default::default()
        };
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "loadtest".to_owned(),
            "video".to_owned(),
            "video".to_owned(),
            RtpCodecKind::Video,
            vec![encoding],
        )));
        connection.add_track(track.clone() as Arc<dyn TrackLocal>).await?;
        let mut this = Self::connect(signaling, url, connection, log).await?;
        this.sending = Some(tokio::spawn(send(track, settings)));
        Ok(this)
    }

    /// Watches the video of a stream.
    ///
    /// # Errors
    ///
    /// When the server refuses or does not connect.
    pub async fn view(signaling: &Signaling, url: &str, wanted: Codec) -> anyhow::Result<Self> {
        let (connection, log) = Box::pin(build(wanted)).await?;
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..Default::default()
        };
        connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(init)).await?;
        Self::connect(signaling, url, connection, log).await
    }

    async fn connect(
        signaling: &Signaling,
        url: &str,
        connection: Box<dyn PeerConnection>,
        log: Arc<Watched<InteropLog>>,
    ) -> anyhow::Result<Self> {
        let offer = connection.create_offer(None).await?;
        connection.set_local_description(offer).await?;
        log.wait(CONNECT_WITHIN, "gathering", |log| log.gathered.then_some(())).await?;
        let local = connection.local_description().await.context("no local description")?;
        let session = signaling.offer(url, &local.sdp).await?;
        let answer = RTCSessionDescription::answer(session.answer.clone())?;
        connection.set_remote_description(answer).await?;
        let connected = |log: &InteropLog| match log.state {
            Some(RTCPeerConnectionState::Connected) => Some(()),
            _ => None,
        };
        log.wait(CONNECT_WITHIN, "connection", connected).await?;
        Ok(Self { connection, log, sending: None, signaling: signaling.clone(), session })
    }

    /// What the stack told us.
    pub fn log(&self) -> &Watched<InteropLog> {
        &self.log
    }

    /// Deletes the session and closes the connection.
    ///
    /// # Errors
    ///
    /// When the server refuses the DELETE.
    pub async fn end(mut self) -> anyhow::Result<()> {
        if let Some(sending) = self.sending.take() {
            sending.abort();
        }
        self.signaling.delete(&self.session.url).await?;
        Ok(self.connection.close().await?)
    }
}

impl Drop for InteropPeer {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

/// The stack as the answering side, for tests without a server.
#[cfg(test)]
pub(crate) struct Answerer {
    _connection: Box<dyn PeerConnection>,
    log: Arc<Watched<InteropLog>>,
}

#[cfg(test)]
impl Answerer {
    pub(crate) async fn answer(offer: &str, wanted: Codec) -> anyhow::Result<(Self, String)> {
        let (connection, log) = Box::pin(build(wanted)).await?;
        let offer = RTCSessionDescription::offer(offer.to_owned())?;
        connection.set_remote_description(offer).await?;
        let answer = connection.create_answer(None).await?;
        connection.set_local_description(answer).await?;
        log.wait(CONNECT_WITHIN, "gathering", |log| log.gathered.then_some(())).await?;
        let local = connection.local_description().await.context("no local description")?;
        Ok((Self { _connection: connection, log }, local.sdp))
    }

    pub(crate) fn log(&self) -> &Watched<InteropLog> {
        &self.log
    }
}

/// Sends frames until aborted, or until the connection is gone.
async fn send(track: Arc<TrackLocalStaticRTP>, settings: VideoSettings) {
    let mut source = VideoSource::new(settings, PAYLOAD_TYPE, SSRC);
    let mut ticks = tokio::time::interval(source.interval());
    loop {
        ticks.tick().await;
        for packet in source.next_frame().packets {
            if track.write_rtp(packet).await.is_err() {
                return;
            }
        }
    }
}

async fn build(
    wanted: Codec,
) -> anyhow::Result<(Box<dyn PeerConnection>, Arc<Watched<InteropLog>>)> {
    let mut media = MediaEngine::default();
    let kind = match wanted.kind() {
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Video => RtpCodecKind::Video,
    };
    let parameters = RTCRtpCodecParameters { rtp_codec: codec(wanted), payload_type: PAYLOAD_TYPE };
    media.register_codec(parameters, kind)?;
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    let log = Arc::new(Watched::new(InteropLog::default()));
    let runtime = default_runtime().context("the webrtc crate has no runtime")?;
    let builder = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(Handler(log.clone())))
        .with_runtime(runtime)
        .with_udp_addrs(vec!["127.0.0.1:0"]);
    let connection = Box::pin(builder.build()).await?;
    Ok((Box::new(connection), log))
}

fn codec(wanted: Codec) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: format!("{}/{wanted}", wanted.kind()),
        clock_rate: wanted.clock_rate(),
        channels: 0,
        sdp_fmtp_line: wanted.parameters().unwrap_or_default().to_owned(),
        rtcp_feedback: vec![],
    }
}
