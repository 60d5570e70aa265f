//! RTCP and retransmission, both ways: what viewers ask of the server, and the server of
//! publishers.

use crate::harness::{SOON, Server, received};
use anyhow::Context;
use loadtest::codec::{Codec, Kind};
use loadtest::light::{
    ABS_SEND_TIME, Arrival, Direction, Event, LightOptions, LightPeer, Offer, PUBLISHED_SSRCS,
    Section, TRANSPORT_CC, publish_audio,
};
use loadtest::source::{VideoSettings, now_micros};
use loadtest::whep::{ViewLog, ViewOptions, WhepClient};
use loadtest::whip::{PublishLog, PublishOptions, Resend};
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate as remb;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Loses every twentieth packet of video on its first way.
fn losing(payload_type: u8) -> ViewOptions {
    let lose = move |packet: &rtp::Packet| {
        packet.header.payload_type == payload_type
            && packet.header.sequence_number.is_multiple_of(20)
    };
    ViewOptions { lose: Some(Arc::new(lose)), keep: 20_000, ..ViewOptions::default() }
}

#[tokio::test]
async fn lost_packets_come_again_as_rfc_4588_has_it() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    // `Offer::view` gives H.264 the payload type 96 and its RTX 97.
    let viewer = server.view("a", losing(96)).await?;
    received(&viewer, Codec::H264, 300).await?;
    let section = viewer.answer.section(Kind::Video).context("video")?;
    let media_type = section.payload_type(Codec::H264).context("H.264")?;
    let rtx_type = section.rtx_of(media_type).context("RTX is agreed")?;
    let [media_ssrc, rtx_ssrc] = section.ssrcs[..] else { anyhow::bail!("two SSRCs announced") };
    let repaired = |log: &ViewLog| {
        let stream = log.probe.summary().remove(&media_ssrc)?;
        (log.lost.len() >= 10 && stream.recovered >= 10 && stream.lost <= 1).then_some(())
    };
    viewer.log().wait(SOON, "every hole is filled", repaired).await?;
    let headers: Vec<rtp::Header> =
        viewer.log().read(|log| log.received.iter().filter_map(|it| it.rtx.clone()).collect());
    for header in &headers {
        assert_eq!((header.ssrc, header.payload_type), (rtx_ssrc, rtx_type));
    }
    let mut numbers: Vec<u16> = headers.iter().map(|it| it.sequence_number).collect();
    let first = *numbers.first().context("retransmissions")?;
    numbers.sort_by_key(|number| number.wrapping_sub(first).wrapping_add(1_000));
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0].wrapping_add(1), "the RTX stream is unbroken");
    }
    Ok(())
}

/// A viewer without RTX, on the wire: what it gets again must be what it got before.
#[tokio::test]
async fn a_viewer_without_rtx_gets_the_identical_packet_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let _first = server.view("a", ViewOptions::default()).await?;
    let video = Section::new(Kind::Video)
        .codec(Codec::H264, 102)
        .extension(2, ABS_SEND_TIME)
        .extension(3, TRANSPORT_CC);
    let offer = Offer::new(Direction::RecvOnly).section(video);
    let url = server.whep("a");
    let options = LightOptions::default();
    let mut viewer = LightPeer::start(&server.client(None), &url, offer, options).await?;
    viewer.connected(SOON).await?;
    let original = next_rtp(&mut viewer).await?;
    let (number, media_ssrc) = (original.header.sequence_number, original.header.ssrc);
    let nacks = nack_pairs_from_sequence_numbers(&[number]);
    let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks };
    viewer.sender().rtcp(&[Box::new(nack)])?;
    loop {
        let packet = next_rtp(&mut viewer).await?;
        if packet.header.sequence_number == number {
            assert_eq!(packet, original, "header, extensions and payload are the same");
            return Ok(());
        }
    }
}

async fn next_rtp(peer: &mut LightPeer) -> anyhow::Result<rtp::Packet> {
    let next = async {
        while let Some(Arrival { event, .. }) = peer.next().await {
            if let Event::Rtp(packet) = event {
                return Ok(packet);
            }
        }
        anyhow::bail!("the peer ended")
    };
    tokio::time::timeout(SOON, next).await.context("no media in time")?
}

#[tokio::test]
async fn many_keyframe_requests_become_at_most_one_per_second() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let video = VideoSettings { keyframe_interval_frames: 0, ..VideoSettings::default() };
    let options = PublishOptions { video: Some(video), ..PublishOptions::default() };
    let publisher = server.publish("a", options).await?;
    let mut viewers = Vec::new();
    for _ in 0..3 {
        viewers.push(server.view("a", ViewOptions::default()).await?);
    }
    for viewer in &viewers {
        received(viewer, Codec::H264, 10).await?;
    }
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while start.elapsed() < Duration::from_millis(3_300) {
        ticks.tick().await;
        for viewer in &viewers {
            let ssrc = viewer.summary_of(Codec::H264).context("video")?.ssrc;
            viewer.request_keyframe(ssrc)?;
        }
    }
    let requests = publisher.log().read(|log| log.keyframe_requests.clone());
    let recent = requests.iter().filter(|at| **at >= start).count();
    assert!((2..=4).contains(&recent), "{recent} requests in 3.3 s");
    for pair in requests.windows(2) {
        let apart = pair[1].duration_since(pair[0]);
        assert!(apart >= Duration::from_millis(900), "{apart:?} apart");
    }
    Ok(())
}

/// The last sender report of an SSRC.
fn report_of(log: &ViewLog, ssrc: u32) -> Option<SenderReport> {
    log.rtcp_of::<SenderReport>().filter(|report| report.ssrc == ssrc).last().cloned()
}

/// When a packet was captured, in seconds of the server's time line, by the stream's report.
fn ntp_seconds(report: &SenderReport, timestamp: u32, rate: f64) -> f64 {
    let ntp = report.ntp_time as f64 / 2_f64.powi(32);
    ntp + f64::from(timestamp.wrapping_sub(report.rtp_time).cast_signed()) / rate
}

#[tokio::test]
async fn sender_reports_keep_the_lips_in_step() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = PublishOptions { history: 20_000, ..PublishOptions::default() };
    let publisher = server.publish("a", options).await?;
    let keep = ViewOptions { keep: 20_000, ..ViewOptions::default() };
    let viewer = server.view("a", keep).await?;
    let reports = |log: &ViewLog| {
        let ssrcs: std::collections::BTreeSet<u32> =
            log.rtcp_of::<SenderReport>().map(|report| report.ssrc).collect();
        (ssrcs.len() == 2).then_some(())
    };
    viewer.log().wait(SOON, "reports of both tracks", reports).await?;
    received(&viewer, Codec::H264, 200).await?;
    let mut captured = Vec::new();
    for (codec, rate, ssrc) in
        [(Codec::Opus, 48_000.0, PUBLISHED_SSRCS[0]), (Codec::H264, 90_000.0, PUBLISHED_SSRCS[1])]
    {
        let packet = a_packet(&viewer, codec)?;
        let report = viewer
            .log()
            .read(|log| report_of(log, packet.header.ssrc))
            .context("the report names the SSRC that the media has")?;
        let theirs = ntp_seconds(&report, packet.header.timestamp, rate);
        let ours = publisher.log().read(|log| {
            let sent = log.sent.iter().find(|it| it.payload == packet.payload)?;
            let (first, start) = log.clocks.get(&ssrc)?;
            let ticks = sent.header.timestamp.wrapping_sub(*first);
            Some(*start as f64 / 1e6 + f64::from(ticks) / rate)
        });
        captured.push((theirs, ours.context("it was sent")?));
    }
    let [(audio_there, audio_here), (video_there, video_here)] = captured[..] else {
        anyhow::bail!("two tracks")
    };
    let skew = (video_there - audio_there) - (video_here - audio_here);
    assert!(skew.abs() < 0.015, "audio and video drift apart by {skew} s");
    // The server's time line is the wall clock: a second is more than enough on one machine.
    let unix = now_micros() as f64 / 1e6 + 2_208_988_800.0;
    let age = unix - video_there;
    assert!((-1.0..20.0).contains(&age), "captured {age} s ago");
    Ok(())
}

/// A packet near the end of what a viewer received, of which the payload is unique.
fn a_packet(viewer: &WhepClient, codec: Codec) -> anyhow::Result<rtp::Packet> {
    let payload_type = viewer.answer.payload_type(codec).context("agreed")?;
    let packet = viewer.log().read(|log| {
        let stamped = |it: &&loadtest::whep::Received| {
            loadtest::source::Stamp::read(&it.packet.payload).is_some()
        };
        log.of_payload_type(payload_type).filter(stamped).last().map(|it| it.packet.clone())
    });
    packet.context("packets were kept")
}

/// Withholds every fiftieth packet of video.
fn withholding(resend: Resend) -> PublishOptions {
    let pick = |packet: &rtp::Packet| {
        packet.header.ssrc == PUBLISHED_SSRCS[1] && packet.header.sequence_number.is_multiple_of(50)
    };
    PublishOptions { withhold: Some(Arc::new(pick)), resend, ..PublishOptions::default() }
}

#[tokio::test]
async fn the_publisher_is_asked_once_for_each_missing_packet() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("a", withholding(Resend::Agreed)).await?;
    let mut viewers = Vec::new();
    for _ in 0..2 {
        viewers.push(server.view("a", ViewOptions::default()).await?);
    }
    for viewer in &viewers {
        received(viewer, Codec::H264, 400).await?;
    }
    let asked = |log: &PublishLog| {
        let withheld = log.withheld.len();
        (withheld >= 6 && log.nacks.len() + 1 >= withheld).then(|| log.nacks.clone())
    };
    let nacks = publisher.log().wait(SOON, "every hole is asked for", asked).await?;
    for ((ssrc, number), times) in nacks {
        assert_eq!(ssrc, PUBLISHED_SSRCS[1]);
        assert!(number.is_multiple_of(50), "{number} was not missing");
        assert_eq!(times, 1, "packet {number}");
    }
    for viewer in &viewers {
        let ssrc = viewer.summary_of(Codec::H264).context("video")?.ssrc;
        let whole = |log: &ViewLog| (log.probe.missing(ssrc).len() <= 1).then_some(());
        viewer.log().wait(SOON, "the viewer's stream is whole", whole).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_publisher_without_rtx_repairs_by_sending_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    // As OBS offers: NACK, but no RTX.
    let video = Section::new(Kind::Video)
        .codec(Codec::H264, 96)
        .feedback(&["nack", "nack pli", "goog-remb"])
        .ssrc(PUBLISHED_SSRCS[1]);
    let offer = Offer::new(Direction::SendOnly).section(publish_audio()).section(video);
    let options = PublishOptions { offer: Some(offer), ..withholding(Resend::Agreed) };
    let publisher = server.publish("obs", options).await?;
    let viewer = server.view("obs", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 300).await?;
    let asked = |log: &PublishLog| (log.resent >= 4).then_some(());
    publisher.log().wait(SOON, "holes are asked for", asked).await?;
    let ssrc = viewer.summary_of(Codec::H264).context("video")?.ssrc;
    let whole = |log: &ViewLog| (log.probe.missing(ssrc).len() <= 1).then_some(());
    viewer.log().wait(SOON, "the viewer's stream is whole", whole).await
}

/// Publishes video with this feedback and these header extensions.
async fn told_to_a_publisher(
    feedback: &[&str],
    extensions: &[(u8, &str)],
    until: impl FnMut(&PublishLog) -> Option<()>,
) -> anyhow::Result<(usize, usize)> {
    let server = Server::start().await?;
    let mut video = Section::new(Kind::Video)
        .codec_with_rtx(Codec::H264, 102, 103)
        .feedback(feedback)
        .ssrc(PUBLISHED_SSRCS[1])
        .rtx_ssrc(PUBLISHED_SSRCS[2]);
    for (id, uri) in extensions {
        video = video.extension(*id, uri);
    }
    let offer = Offer::new(Direction::SendOnly).section(video);
    let options = PublishOptions { offer: Some(offer), audio: false, ..PublishOptions::default() };
    let publisher = server.publish("a", options).await?;
    publisher.log().wait(SOON, "the server's feedback", until).await?;
    let counts = publisher.log().read(|log| {
        let transport_cc = log.rtcp_of::<TransportLayerCc>().count();
        let remb = log.rtcp_of::<remb::ReceiverEstimatedMaximumBitrate>().count();
        (transport_cc, remb)
    });
    Ok(counts)
}

/// How many reports about the video have come.
fn reports(log: &PublishLog) -> usize {
    let about_video =
        |report: &&ReceiverReport| report.reports.iter().any(|it| it.ssrc == PUBLISHED_SSRCS[1]);
    log.rtcp_of::<ReceiverReport>().filter(about_video).count()
}

#[tokio::test]
async fn a_publisher_with_transport_cc_gets_it_and_no_remb() -> anyhow::Result<()> {
    let feedback = ["goog-remb", "transport-cc", "nack", "nack pli"];
    let extensions = [(2, ABS_SEND_TIME), (3, TRANSPORT_CC)];
    let enough = |log: &PublishLog| {
        let count = log.rtcp_of::<TransportLayerCc>().count();
        (count >= 5 && reports(log) >= 2).then_some(())
    };
    let (transport_cc, remb) = told_to_a_publisher(&feedback, &extensions, enough).await?;
    assert!(transport_cc >= 5);
    assert_eq!(remb, 0);
    Ok(())
}

#[tokio::test]
async fn a_publisher_with_remb_only_gets_that() -> anyhow::Result<()> {
    let feedback = ["goog-remb", "nack", "nack pli"];
    let enough = |log: &PublishLog| {
        let remb = log.rtcp_of::<remb::ReceiverEstimatedMaximumBitrate>().count();
        (remb >= 1 && reports(log) >= 1).then_some(())
    };
    let extensions = [(2, ABS_SEND_TIME)];
    let (transport_cc, remb) = told_to_a_publisher(&feedback, &extensions, enough).await?;
    assert_eq!(transport_cc, 0);
    assert!(remb >= 1);
    Ok(())
}

#[tokio::test]
async fn a_publisher_with_neither_gets_receiver_reports_only() -> anyhow::Result<()> {
    let enough = |log: &PublishLog| (reports(log) >= 2).then_some(());
    let counts = told_to_a_publisher(&["nack", "nack pli"], &[], enough).await?;
    assert_eq!(counts, (0, 0));
    Ok(())
}
