//! What a viewer may seal and ask for: nonsense, everything again, keyframes without end.

use super::{Bystanders, Pace, at_full_speed, corpus, mutate};
use crate::harness::{SOON, media_address, received};
use crate::relay::{Dice, Relay, Way};
use anyhow::Context;
use loadtest::codec::{Codec, Kind};
use loadtest::light::{
    Direction, Event, LightOptions, LightPeer, LightSender, Offer, PUBLISHED_SSRCS, Section,
};
use loadtest::whep::{ViewOptions, WhepClient};
use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const RTCP: &str = include_str!("../../data/hostile/rtcp.hex");

/// Seals each of these, and mutations of them, as RTCP: about this SSRC, and about another's.
pub(super) async fn send_rtcp(sender: &LightSender, ssrc: u32, dice: &mut Dice) {
    let mut pace = Pace::new();
    let (theirs, ours) = (PUBLISHED_SSRCS[1].to_be_bytes(), ssrc.to_be_bytes());
    for round in 0..40 {
        for mut packet in corpus(RTCP) {
            pace.wait().await;
            if round % 2 == 0 {
                let named: Vec<usize> =
                    (0..packet.len()).filter(|&at| packet[at..].starts_with(&theirs)).collect();
                for at in named {
                    packet[at..at + 4].copy_from_slice(&ours);
                }
            }
            let mut bytes = if round < 2 { packet } else { mutate(&packet, dice) };
            // Sealing needs a header and an SSRC; these four bits make it RTCP.
            bytes.resize(bytes.len().max(8), 0);
            let sealed = sender.with_agent(|agent| agent.protect_raw_rtcp(&bytes));
            if let Ok(sealed) = sealed {
                sender.datagram(&sealed);
            }
        }
    }
}

/// A viewer that has begun to receive, and the SSRC of its video.
async fn begun(bystanders: &Bystanders) -> anyhow::Result<(WhepClient, u32)> {
    let viewer = bystanders.server.view("live", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 10).await?;
    let ssrc = viewer.summary_of(Codec::H264).context("video")?.ssrc;
    Ok((viewer, ssrc))
}

#[tokio::test]
async fn sealed_nonsense_from_a_viewer_harms_nobody() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |bystanders, seed| {
            let (viewer, ssrc) = begun(bystanders).await?;
            send_rtcp(viewer.sender(), ssrc, &mut Dice::seeded(seed)).await;
            // Media from somebody who has none to send.
            let mut pace = Pace::new();
            for sequence in 0..2_000_u16 {
                pace.wait().await;
                let ssrc =
                    [ssrc, PUBLISHED_SSRCS[1], u32::from(sequence)][usize::from(sequence % 3)];
                let header = rtp::Header {
                    version: 2,
                    payload_type: 96 + (sequence % 32) as u8,
                    sequence_number: sequence,
                    ssrc,
                    ..Default::default()
                };
                let payload = vec![sequence as u8; usize::from(sequence % 1_000)].into();
                viewer.sender().rtp(&rtp::Packet { header, payload })?;
            }
            let before = viewer.summary_of(Codec::H264).context("video")?.received;
            received(&viewer, Codec::H264, before + 10).await?;
            viewer.end().await?;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn replays_and_wrong_tags_are_not_heard() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |bystanders, seed| {
            let (viewer, ssrc) = begun(bystanders).await?;
            let asked = viewer.log().read(|log| log.probe.highest(ssrc)).context("numbers")?;
            let nacks = nack_pairs_from_sequence_numbers(&[asked as u16]);
            let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrc, nacks };
            let sealed = viewer.sender().with_agent(|it| it.protect_rtcp(&[Box::new(nack)]))?;
            let server = &bystanders.server;
            let counted = async || server.metric("millrace_retransmissions_total").await;
            let before = counted().await?;
            let mut dice = Dice::seeded(seed);
            let mut pace = Pace::new();
            for round in 0..4_000 {
                pace.wait().await;
                let mut datagram = sealed.to_vec();
                if round % 2 == 1 {
                    let at = dice.roll(datagram.len() as u64 - 2) as usize + 2;
                    datagram[at] ^= 1 << dice.roll(8);
                }
                viewer.sender().datagram(&datagram);
            }
            let so_far = viewer.summary_of(Codec::H264).context("video")?.received;
            received(&viewer, Codec::H264, so_far + 30).await?;
            assert_eq!((counted().await? - before) as u64, 1, "the one that it asked for");
            viewer.end().await?;
            Ok(())
        })
        .await
}

/// What came at an attacker, in bytes of datagrams.
#[derive(Debug, Default)]
struct Arrived {
    /// Media for the first time.
    media: usize,
    /// The same again, or on the SSRC for that.
    again: usize,
}

/// A viewer of video asks for the newest packets and for all others, as fast as it can.
async fn asks_for_everything(bystanders: &Bystanders, rtx: bool) -> anyhow::Result<Arrived> {
    const FOR: Duration = Duration::from_secs(4);
    let video = Section::new(Kind::Video);
    let video = if rtx {
        video.codec_with_rtx(Codec::H264, 102, 103)
    } else {
        video.codec(Codec::H264, 102)
    };
    let offer = Offer::new(Direction::RecvOnly).section(video);
    let (client, url) = (bystanders.server.client(None), bystanders.server.whep("live"));
    let mut peer = LightPeer::start(&client, &url, offer, LightOptions::default()).await?;
    peer.connected(SOON).await?;
    let media_ssrc = peer.answer.section(Kind::Video).context("video")?.ssrcs[0];
    let (sender, newest) = (peer.sender(), Arc::new(AtomicU16::new(0)));
    let (ends, seen) = (Instant::now() + FOR, newest.clone());
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let flood = tokio::spawn(at_full_speed(move || {
        for round in 0_u32.. {
            let last = seen.load(Ordering::Relaxed);
            let numbers: Vec<u16> = match round % 4 {
                0 => (0..2_048).map(|at| (round * 512 + at) as u16).collect(),
                _ => (0..64).map(|back| last.wrapping_sub(back)).collect(),
            };
            let nacks = nack_pairs_from_sequence_numbers(&numbers);
            let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks };
            if sender.rtcp(&[Box::new(nack)]).is_err() || Instant::now() >= ends {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    }));
    let (mut arrived, mut known) = (Arrived::default(), HashSet::new());
    while !is_over.load(Ordering::Relaxed) {
        let Some(arrival) = peer.next().await else { break };
        let Event::Rtp(packet) = arrival.event else { continue };
        // With the tag of AES-GCM.
        let bytes = 12 + packet.header.csrc.len() * 4 + packet.payload.len() + 16;
        let number = packet.header.sequence_number;
        if packet.header.ssrc == media_ssrc && known.insert(number) {
            newest.store(number, Ordering::Relaxed);
            arrived.media += bytes;
        } else {
            arrived.again += bytes;
        }
    }
    flood.await??;
    peer.end(&client).await?;
    Ok(arrived)
}

/// What is asked for again gets a share of 15 percent and, once, what a keyframe needs.
async fn gets_its_share(rtx: bool) -> anyhow::Result<()> {
    const CREDIT: usize = 96 * 1024;
    Bystanders::start(&[("whep.rtx_share_percent", "15")])
        .await?
        .survive(async |bystanders, _| {
            let Arrived { media, again } = asks_for_everything(bystanders, rtx).await?;
            assert!(media > 200_000, "{media}");
            assert!(again > CREDIT * 9 / 10, "the flood uses its credit up: {again}");
            // What counts is what the server has sent, of which the last few are not there yet.
            assert!(again <= CREDIT + media * 15 / 100 + 10_000, "{again} beside {media}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_viewer_that_asks_for_everything_gets_its_share_and_costs_nobody_else()
-> anyhow::Result<()> {
    gets_its_share(true).await
}

#[tokio::test]
async fn a_viewer_without_rtx_that_asks_for_everything_gets_no_more() -> anyhow::Result<()> {
    gets_its_share(false).await
}

/// A viewer's way to the server; keeps the last check that went by.
async fn wiretapped(bystanders: &Bystanders) -> anyhow::Result<(Relay, Arc<Mutex<Vec<u8>>>)> {
    let server = media_address(&bystanders.server).await?;
    let check = Arc::new(Mutex::new(Vec::new()));
    let tap = check.clone();
    let relay = Relay::start(server, move |way, datagram| {
        if way == Way::Up && matches!(datagram.first(), Some(0..=3)) {
            *tap.lock().unwrap_or_else(PoisonError::into_inner) = datagram.to_vec();
        }
        false
    });
    Ok((relay.await?, check))
}

/// What a viewer sends from a hundred addresses arrives at all shards, and is handed to its own by
/// the ways that media takes as well.
#[tokio::test]
async fn a_viewer_that_floods_from_everywhere_takes_no_room_between_the_shards()
-> anyhow::Result<()> {
    const DATAGRAMS: usize = 30_000;
    Bystanders::start(&[])
        .await?
        .survive(async |bystanders, _| {
            let server = &bystanders.server;
            let (relay, check) = wiretapped(bystanders).await?;
            let light = LightOptions { via: Some(relay.address), ..LightOptions::default() };
            let options = ViewOptions { light, ..ViewOptions::default() };
            let viewer = server.view("live", options).await?;
            received(&viewer, Codec::H264, 10).await?;
            let media_ssrc = viewer.summary_of(Codec::H264).context("video")?.ssrc;
            let check = check.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let crossed = server.metric("millrace_datagrams_crossed_total").await?;
            let (sender, address) = (viewer.sender().clone(), media_address(server).await?);
            at_full_speed(move || {
                let sockets: Vec<UdpSocket> =
                    (0..100).filter_map(|_| UdpSocket::bind("127.0.0.1:0").ok()).collect();
                for number in 0..DATAGRAMS {
                    let socket = &sockets[number % sockets.len()];
                    // Of a session so many addresses are known; the newest are.
                    if number % 1_000 < sockets.len() {
                        let _ = socket.send_to(&check, address);
                    }
                    let nacks = nack_pairs_from_sequence_numbers(&[number as u16]);
                    let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks };
                    let sealed = sender.with_agent(|agent| agent.protect_rtcp(&[Box::new(nack)]));
                    let _ = sealed.map(|sealed| socket.send_to(&sealed, address));
                }
            })
            .await?;
            let crossed = server.metric("millrace_datagrams_crossed_total").await? - crossed;
            assert!(crossed > 500.0, "{crossed} of {DATAGRAMS}");
            viewer.end().await?;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn floods_of_keyframe_requests_cost_the_publisher_one_a_second() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |bystanders, _| {
            let mut viewers = Vec::new();
            let mut floods = tokio::task::JoinSet::new();
            let began = Instant::now();
            for _ in 0..3 {
                let (viewer, media_ssrc) = begun(bystanders).await?;
                let sender = viewer.sender().clone();
                let ends = began + Duration::from_secs(5);
                floods.spawn(at_full_speed(move || {
                    for number in 0_u32.. {
                        let fir =
                            vec![FirEntry { ssrc: media_ssrc, sequence_number: number as u8 }];
                        let loss = PictureLossIndication { sender_ssrc: 1, media_ssrc };
                        let intra = FullIntraRequest { sender_ssrc: 1, media_ssrc, fir };
                        let sent = sender.rtcp(&[Box::new(loss), Box::new(intra)]);
                        if sent.is_err() || Instant::now() >= ends {
                            return;
                        }
                    }
                }));
                viewers.push(viewer);
            }
            floods.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
            let took = began.elapsed();
            let requests = bystanders.publisher.log().read(|log| log.keyframe_requests.clone());
            let recent = requests.iter().filter(|at| **at >= began).count() as u64;
            assert!((2..=took.as_secs() + 2).contains(&recent), "{recent} in {took:?}");
            for viewer in viewers {
                viewer.end().await?;
            }
            Ok(())
        })
        .await
}
