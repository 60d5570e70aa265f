//! A stream goes in by WHIP and comes out by WHEP, untouched.

use crate::harness::{ADMIN_TOKEN, SOON, Server, received, until};
use anyhow::Context;
use loadtest::codec::{Codec, Kind};
use loadtest::interop::{InteropLog, InteropPeer};
use loadtest::light::{
    Direction, DtlsRole, LightOptions, Offer, Section, Setup, SrtpProfile, publish_audio,
    publish_video,
};
use loadtest::source::{Stamp, VideoSettings};
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{Pacing, PublishOptions, WhipClient};

/// Packets compared in each test: more than two seconds of video, over a sequence number wrap.
const COMPARED: u64 = 300;

fn publish(codec: Codec) -> PublishOptions {
    let settings = VideoSettings { codec, ..VideoSettings::default() };
    PublishOptions { video: Some(settings), history: 20_000, ..PublishOptions::default() }
}

fn keeping() -> ViewOptions {
    ViewOptions { keep: 20_000, ..ViewOptions::default() }
}

/// The packets sent of one codec, and those received of it.
fn both_ends(
    publisher: &WhipClient,
    viewer: &WhepClient,
    codec: Codec,
) -> anyhow::Result<(Vec<rtp::Packet>, Vec<rtp::Packet>)> {
    let sent_as = publisher.answer.payload_type(codec).context("agreed with the publisher")?;
    let seen_as = viewer.answer.payload_type(codec).context("agreed with the viewer")?;
    let of = |wanted: u8| move |packet: &&rtp::Packet| packet.header.payload_type == wanted;
    let sent = publisher.log().read(|log| log.sent.iter().filter(of(sent_as)).cloned().collect());
    let mut seen: Vec<rtp::Packet> =
        viewer.log().read(|log| log.of_payload_type(seen_as).map(|it| it.packet.clone()).collect());
    let first = seen.first().context("packets came")?.header.sequence_number;
    seen.sort_by_key(|packet| packet.header.sequence_number.wrapping_sub(first));
    Ok((sent, seen))
}

/// Payload bytes, sequence, timestamps and markers are those of the publisher; only what was past
/// when the viewer came has compressed timestamps.
fn assert_untouched(sent: &[rtp::Packet], seen: &[rtp::Packet]) -> anyhow::Result<()> {
    let stamped = seen.iter().position(|it| Stamp::read(&it.payload).is_some());
    let stamped = stamped.context("a packet with a stamp")?;
    let payload = &seen[stamped].payload;
    let found = sent.iter().position(|it| it.payload == *payload).context("it was sent")?;
    let start = found.checked_sub(stamped).context("what came before was sent before")?;
    let (first_in, first_out) = (&sent[start].header, &seen[0].header);
    let ticks = |header: &rtp::header::Header| header.timestamp.wrapping_sub(first_in.timestamp);
    let pairs = || sent[start..].iter().zip(seen);
    let live = pairs().filter(|(input, output)| input.header.timestamp == output.header.timestamp);
    let live = live.map(|(input, _)| ticks(&input.header)).min().context("it gets live")?;
    for (offset, (input, output)) in pairs().enumerate() {
        let place = format!("packet {offset}: {:?} as {:?}", input.header, output.header);
        assert_eq!(input.payload, output.payload, "{place}");
        assert_eq!(input.header.marker, output.header.marker, "{place}");
        assert_eq!(
            output.header.sequence_number.wrapping_sub(first_out.sequence_number),
            offset as u16,
            "{place}"
        );
        let sent_at = ticks(&input.header);
        let at = ticks(&output.header);
        assert!(at == sent_at || (sent_at < at && sent_at < live && at <= live), "{place}");
    }
    Ok(())
}

async fn passes_through_untouched(codec: Codec) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("a", publish(codec)).await?;
    let viewer = server.view("a", keeping()).await?;
    received(&viewer, codec, COMPARED).await?;
    let (sent, seen) = both_ends(&publisher, &viewer, codec)?;
    assert_untouched(&sent, &seen)?;
    let (sent, seen) = both_ends(&publisher, &viewer, Codec::Opus)?;
    assert!(seen.len() > 50, "audio came too: {}", seen.len());
    assert_untouched(&sent, &seen)?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn h264_passes_through_untouched() -> anyhow::Result<()> {
    passes_through_untouched(Codec::H264).await
}

#[tokio::test]
async fn h265_passes_through_untouched() -> anyhow::Result<()> {
    passes_through_untouched(Codec::H265).await
}

#[tokio::test]
async fn vp8_passes_through_untouched() -> anyhow::Result<()> {
    passes_through_untouched(Codec::Vp8).await
}

#[tokio::test]
async fn vp9_passes_through_untouched() -> anyhow::Result<()> {
    passes_through_untouched(Codec::Vp9).await
}

#[tokio::test]
async fn av1_passes_through_untouched() -> anyhow::Result<()> {
    passes_through_untouched(Codec::Av1).await
}

#[tokio::test]
async fn a_viewer_starts_with_a_keyframe_however_long_the_publisher_waits() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let video = VideoSettings { keyframe_interval_frames: 0, ..VideoSettings::default() };
    let options = PublishOptions { video: Some(video), ..publish(Codec::H264) };
    let publisher = server.publish("a", options).await?;
    let started = publisher.log().wait(SOON, "sending", |log| (log.packets > 100).then_some(()));
    started.await?;
    let viewer = server.view("a", keeping()).await?;
    received(&viewer, Codec::H264, 10).await?;
    let (_, seen) = both_ends(&publisher, &viewer, Codec::H264)?;
    // STAP-A with the parameter sets (RFC 6184 §5.7.1).
    assert_eq!(seen.first().map(|packet| packet.payload[0] & 0x1F), Some(24));
    Ok(())
}

#[tokio::test]
async fn audio_alone_is_a_stream() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = PublishOptions { video: None, ..publish(Codec::H264) };
    let publisher = server.publish("radio", options).await?;
    let viewer = server.view("radio", keeping()).await?;
    received(&viewer, Codec::Opus, 60).await?;
    let (sent, seen) = both_ends(&publisher, &viewer, Codec::Opus)?;
    assert_untouched(&sent, &seen)
}

#[tokio::test]
async fn video_alone_is_a_stream() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = PublishOptions { audio: false, pacing: Pacing::Paced, ..publish(Codec::Vp8) };
    let publisher = server.publish("camera", options).await?;
    let viewer = server.view("camera", keeping()).await?;
    received(&viewer, Codec::Vp8, 150).await?;
    let (sent, seen) = both_ends(&publisher, &viewer, Codec::Vp8)?;
    assert_untouched(&sent, &seen)
}

#[tokio::test]
async fn each_viewer_gets_the_payload_types_of_its_own_offer() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("a", publish(Codec::H264)).await?;
    for payload_type in [37, 97, 126] {
        let video = Section::new(Kind::Video).codec_with_rtx(Codec::Vp8, 120, 121).codec_with_rtx(
            Codec::H264,
            payload_type,
            36,
        );
        let audio = Section::new(Kind::Audio).codec(Codec::Opus, payload_type + 1);
        let offer = Offer::new(Direction::RecvOnly).section(audio).section(video);
        let viewer = server.view("a", ViewOptions { offer: Some(offer), ..keeping() }).await?;
        assert_eq!(viewer.answer.payload_type(Codec::H264), Some(payload_type));
        received(&viewer, Codec::H264, 100).await?;
        received(&viewer, Codec::Opus, 20).await?;
        let (sent, seen) = both_ends(&publisher, &viewer, Codec::H264)?;
        assert_untouched(&sent, &seen)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_viewer_that_offers_video_first_is_served_too() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", publish(Codec::H264)).await?;
    let mut offer = Offer::view();
    offer.sections.reverse();
    let viewer = server.view("a", ViewOptions { offer: Some(offer), ..keeping() }).await?;
    received(&viewer, Codec::H264, 30).await?;
    received(&viewer, Codec::Opus, 20).await
}

#[tokio::test]
async fn a_viewer_may_want_the_sound_only() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", publish(Codec::H264)).await?;
    let audio = Section::new(Kind::Audio).codec(Codec::Opus, 111);
    let offer = Offer::new(Direction::RecvOnly).section(audio);
    let viewer = server.view("a", ViewOptions { offer: Some(offer), ..keeping() }).await?;
    received(&viewer, Codec::Opus, 50).await?;
    assert_eq!(viewer.summary().len(), 1);
    Ok(())
}

async fn connects(
    setup: Setup,
    role: DtlsRole,
    profiles: &[SrtpProfile],
    agreed: SrtpProfile,
) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let light = LightOptions { profiles: profiles.to_vec(), ..LightOptions::default() };
    let offer = Offer::publish(Codec::H264).setup(setup);
    let options = PublishOptions { offer: Some(offer), light, ..publish(Codec::H264) };
    let publisher = server.publish("a", options.clone()).await?;
    assert_eq!((publisher.answer.role, publisher.profile), (role, agreed));
    let offer = Some(Offer::view().setup(setup));
    let viewer = server.view("a", ViewOptions { offer, light: options.light, ..keeping() }).await?;
    assert_eq!((viewer.answer.role, viewer.profile), (role, agreed));
    received(&viewer, Codec::H264, 60).await?;
    let (sent, seen) = both_ends(&publisher, &viewer, Codec::H264)?;
    assert_untouched(&sent, &seen)?;
    let name = agreed.name();
    let told = async || {
        let stream = server.stream("a").await.ok()??;
        let profiles =
            [&stream["publisher"]["srtp_profile"], &stream["viewers"][0]["srtp_profile"]];
        (profiles == [name, name]).then_some(())
    };
    until("the API tells the SRTP profile", told).await
}

#[tokio::test]
async fn the_server_prefers_gcm_whatever_the_clients_order() -> anyhow::Result<()> {
    let profiles = [SrtpProfile::Cm80, SrtpProfile::Gcm];
    connects(Setup::ActPass, DtlsRole::Client, &profiles, SrtpProfile::Gcm).await
}

#[tokio::test]
async fn a_client_without_gcm_is_served_with_cm80() -> anyhow::Result<()> {
    let profiles = [SrtpProfile::Cm80];
    connects(Setup::Active, DtlsRole::Client, &profiles, SrtpProfile::Cm80).await
}

#[tokio::test]
async fn a_client_that_must_be_dtls_server_is_served_with_gcm() -> anyhow::Result<()> {
    let profiles = [SrtpProfile::Gcm, SrtpProfile::Cm80];
    connects(Setup::Passive, DtlsRole::Server, &profiles, SrtpProfile::Gcm).await
}

#[tokio::test]
async fn a_dtls_server_without_gcm_is_served_with_cm80() -> anyhow::Result<()> {
    let profiles = [SrtpProfile::Cm80];
    connects(Setup::Passive, DtlsRole::Server, &profiles, SrtpProfile::Cm80).await
}

#[tokio::test]
async fn the_webrtc_crate_publishes_and_watches() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let url = server.whip("interop");
    let settings = VideoSettings::default();
    let publisher = InteropPeer::publish(&server.publisher(), &url, settings).await?;
    let light = server.view("interop", keeping()).await?;
    received(&light, Codec::H264, 100).await?;
    let url = server.whep("interop");
    let viewer = InteropPeer::view(&server.client(None), &url, Codec::H264).await?;
    let enough = |log: &InteropLog| (log.received.len() >= 100).then_some(());
    viewer.log().wait(SOON, "packets at the webrtc crate", enough).await?;
    let payloads: Vec<_> =
        viewer.log().read(|log| log.received.iter().map(|it| it.payload.clone()).collect());
    let last = payloads.last().context("packets")?;
    let seen = |log: &loadtest::whep::ViewLog| {
        log.received.iter().any(|it| it.packet.payload == *last).then_some(())
    };
    light.log().wait(SOON, "the same packet at the light viewer", seen).await?;
    viewer.end().await?;
    publisher.end().await
}

#[tokio::test]
async fn operators_see_what_is_live() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("shown", publish(Codec::Vp9)).await?;
    let viewer = server.view("shown", keeping()).await?;
    received(&viewer, Codec::Vp9, 200).await?;
    let complete = async || {
        let stream = server.stream("shown").await.ok()??;
        let codecs: Vec<&str> = stream["tracks"]
            .as_array()?
            .iter()
            .filter(|track| track["bitrate_bps"].as_u64() > Some(10_000))
            .filter_map(|track| track["codec"].as_str())
            .collect();
        let viewers = stream["viewers"].as_array()?.len();
        let packets = stream["viewers"][0]["packets"].as_u64()?;
        let named =
            codecs.contains(&"VP9") && codecs.iter().any(|it| *it == "Opus" || *it == "opus");
        (named && viewers == 1 && packets > 100).then_some(())
    };
    until("tracks, bitrates and the viewer are told", complete).await?;
    let names = server.client(Some(ADMIN_TOKEN)).json(&server.url("/api/v1/streams")).await?;
    assert_eq!(names["streams"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_publisher_may_send_only_what_it_offers() -> anyhow::Result<()> {
    // Both sections are there, and the video has no RTX and no SSRC lines, as some encoders offer.
    let server = Server::start().await?;
    let mut video = publish_video(Codec::H264);
    video.payloads.truncate(1);
    video.rtx_ssrc = None;
    let offer = Offer::new(Direction::SendOnly).section(publish_audio()).section(video);
    let options = PublishOptions { offer: Some(offer), ..publish(Codec::H264) };
    let publisher = server.publish("plain", options).await?;
    let viewer = server.view("plain", keeping()).await?;
    received(&viewer, Codec::H264, 100).await?;
    let (sent, seen) = both_ends(&publisher, &viewer, Codec::H264)?;
    assert_untouched(&sent, &seen)
}
