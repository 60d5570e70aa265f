//! What a publisher may seal: payloads, headers and reports that lie, jumps, replays, floods.

use super::viewer::send_rtcp;
use super::{Bystanders, Pace, at_full_speed, corpus, mutate};
use crate::harness::{Server, received, until};
use crate::relay::Dice;
use anyhow::Context;
use loadtest::codec::Codec;
use loadtest::light::{LightSender, PUBLISHED_SSRCS};
use loadtest::source::VideoSettings;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, WhipClient};
use rtc_shared::marshal::Marshal;

const PAYLOADS: &str = include_str!("../../data/hostile/payloads.hex");

/// A publisher that also does what its stream does, and somebody who watches it.
struct Hostile {
    publisher: WhipClient,
    viewer: WhepClient,
    /// A packet of its video, without extensions.
    packet: rtp::Packet,
    payloads: Vec<Vec<u8>>,
}

impl Hostile {
    async fn start(server: &Server, codec: Codec) -> anyhow::Result<Self> {
        let video = VideoSettings { codec, ..VideoSettings::default() };
        let options = PublishOptions { video: Some(video), ..PublishOptions::default() };
        let publisher = server.publish("hostile", options).await?;
        let viewer = server.view("hostile", ViewOptions::default()).await?;
        received(&viewer, codec, 10).await?;
        let sent = publisher.log().read(|log| log.sent.clone());
        let video = || sent.iter().filter(|it| it.header.ssrc == PUBLISHED_SSRCS[1]);
        let mut payloads = corpus(PAYLOADS);
        payloads.extend(video().take(8).map(|packet| packet.payload.to_vec()));
        let mut packet = video().next_back().context("video was sent")?.clone();
        packet.header = rtp::Header {
            version: 2,
            payload_type: packet.header.payload_type,
            sequence_number: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            ssrc: packet.header.ssrc,
            ..Default::default()
        };
        Ok(Self { publisher, viewer, packet, payloads })
    }

    fn sender(&self) -> &LightSender {
        self.publisher.sender()
    }

    fn raw(&self, plain: &[u8]) {
        if let Ok(sealed) = self.sender().with_agent(|agent| agent.protect_raw_rtp(plain)) {
            self.sender().datagram(&sealed);
        }
    }

    async fn end(self, server: &Server) -> anyhow::Result<()> {
        // Whatever it has sent, nothing has ended its session.
        let live = server.stream("hostile").await?.context("the hostile stream is live")?;
        assert!(live["publisher"].is_object(), "{live}");
        let _ = self.viewer.end().await;
        self.publisher.end().await?;
        let gone = async || server.stream("hostile").await.ok()?.is_none().then_some(());
        until("the hostile stream is gone", gone).await
    }
}

async fn nonsense(server: &Server, codec: Codec, seed: u64) -> anyhow::Result<()> {
    let hostile = Hostile::start(server, codec).await?;
    let mut dice = Dice::seeded(seed);
    let mut pace = Pace::new();
    for round in 0..8 {
        for payload in &hostile.payloads {
            pace.wait().await;
            let changed = mutate(payload, &mut dice);
            let mut header = hostile.packet.header.clone();
            header.sequence_number = dice.roll(65_536) as u16;
            header.timestamp = dice.roll(1 << 32) as u32;
            header.marker = dice.percent(50);
            if dice.percent(20) {
                header.ssrc = dice.roll(1 << 32) as u32;
            }
            if dice.percent(20) {
                header.payload_type = dice.roll(128) as u8;
            }
            let bytes = if round == 0 { payload.clone() } else { changed };
            let packet = rtp::Packet { header, payload: bytes.into() };
            let _ = hostile.sender().rtp(&packet);
        }
    }
    send_rtcp(hostile.sender(), PUBLISHED_SSRCS[1], &mut dice).await;
    hostile.end(server).await
}

#[tokio::test]
async fn sealed_nonsense_from_a_publisher_harms_only_its_own_stream() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |Bystanders { server, .. }, seed| {
            for codec in Codec::VIDEO {
                nonsense(server, codec, seed).await?;
            }
            Ok(())
        })
        .await
}

/// Blocks of header extensions, with the profile and the length in words before them (RFC 8285).
const EXTENSIONS: [&[u8]; 16] = [
    // One byte: nothing, an element longer than the block, the id that ends it, all padding.
    &[0xbe, 0xde, 0, 0],
    &[0xbe, 0xde, 0, 1, 0x4f, b'0', 0, 0],
    &[0xbe, 0xde, 0, 1, 0xf0, 1, 0x40, b'1'],
    &[0xbe, 0xde, 0, 1, 0, 0, 0, 0],
    // The MID of sound on a picture, one of nobody, one of no bytes that UTF-8 has.
    &[0xbe, 0xde, 0, 1, 0x40, b'0', 0, 0],
    &[0xbe, 0xde, 0, 1, 0x40, b'9', 0, 0],
    &[0xbe, 0xde, 0, 1, 0x41, 0xff, 0xfe, 0],
    // A RID, a repaired RID; nobody has agreed on any.
    &[0xbe, 0xde, 0, 1, 0xa0, b'q', 0xb0, b'h'],
    // Transport-wide numbers: the same again, the highest, one of four bytes.
    &[0xbe, 0xde, 0, 1, 0x31, 0, 0, 0],
    &[0xbe, 0xde, 0, 1, 0x31, 0xff, 0xff, 0],
    &[0xbe, 0xde, 0, 2, 0x33, 1, 2, 3, 4, 0, 0, 0],
    // Two bytes: lengths of zero, of 255, an id alone at the end.
    &[0x10, 0, 0, 1, 4, 0, 3, 0],
    &[0x10, 0, 0, 1, 4, 255, b'1', 0],
    &[0x10, 0x0f, 0, 1, 0, 0, 0, 4],
    // A block beyond the packet, and one of a profile that nobody knows.
    &[0xbe, 0xde, 0xff, 0xff, 0x40, b'1', 0, 0],
    &[0xab, 0xcd, 0, 1, 0x40, b'1', 0, 0],
];

/// Headers that lie about what follows them.
async fn lies(hostile: &Hostile, dice: &mut Dice) -> anyhow::Result<()> {
    let mut pace = Pace::new();
    let mut sequence = hostile.packet.header.sequence_number;
    for round in 0..600_usize {
        pace.wait().await;
        // Small steps, gaps, and jumps that begin the numbering anew.
        sequence = sequence.wrapping_add([1, 1, 1, 40, 2_900, 20_000][dice.roll(6) as usize]);
        let mut packet = hostile.packet.clone();
        packet.header.sequence_number = sequence;
        packet.header.timestamp = packet.header.timestamp.wrapping_add(dice.roll(1 << 32) as u32);
        packet.payload = hostile.payloads[round % hostile.payloads.len()].clone().into();
        let mut plain = packet.marshal()?.to_vec();
        match dice.roll(4) {
            0 => {
                plain[0] |= 0x10;
                plain.splice(12..12, EXTENSIONS[round % EXTENSIONS.len()].iter().copied());
            }
            // Padding of none, of more than there is, of all there is.
            1 => {
                plain[0] |= 0x20;
                let most = plain.len() - 12;
                plain.push([0, 255, most as u8, most as u8 + 1][dice.roll(4) as usize]);
            }
            // Contributing sources that are the payload, or are not there.
            2 => plain[0] |= 1 + dice.roll(15) as u8,
            _ => {
                let header: Vec<u8> = mutate(&plain[..12], dice);
                plain.splice(..12, header);
                plain.resize(plain.len().max(12), 0);
                plain[0] = plain[0] & 0x3f | 0x80;
            }
        }
        hostile.raw(&plain);
    }
    Ok(())
}

/// Retransmissions (RFC 4588) of packets of any number, of nothing, and of retransmissions.
async fn foreign_repairs(hostile: &Hostile, dice: &mut Dice) -> anyhow::Result<()> {
    let mut pace = Pace::new();
    for sequence in 0..600_u16 {
        pace.wait().await;
        let mut packet = hostile.packet.clone();
        packet.header.payload_type = 103;
        packet.header.ssrc = PUBLISHED_SSRCS[if dice.percent(80) { 2 } else { 1 }];
        packet.header.sequence_number = 30_000 + sequence;
        let mut payload = (dice.roll(65_536) as u16).to_be_bytes().to_vec();
        payload.extend(&hostile.payloads[usize::from(sequence) % hostile.payloads.len()]);
        payload.truncate(dice.roll(1_200) as usize);
        packet.payload = payload.into();
        hostile.sender().rtp(&packet)?;
    }
    Ok(())
}

/// Media of thousands of SSRCs, and each packet twice.
async fn crowds_and_replays(hostile: &Hostile) -> anyhow::Result<()> {
    let mut pace = Pace::new();
    for ssrc in 0..3_000 {
        let mut packet = hostile.packet.clone();
        packet.header.ssrc = ssrc;
        let sealed = hostile.sender().with_agent(|agent| agent.protect_rtp(&packet))?;
        for _ in 0..2 {
            pace.wait().await;
            hostile.sender().datagram(&sealed);
        }
    }
    Ok(())
}

/// Sender reports of impossible moments, and of SSRCs that are none.
async fn absurd_reports(hostile: &Hostile) -> anyhow::Result<()> {
    let mut pace = Pace::new();
    let moments = [0, 1, u64::MAX, 1 << 63, 2_208_988_800 << 32, (2_208_988_800 << 32) - 1];
    for round in 0..300_usize {
        pace.wait().await;
        let ssrc = [PUBLISHED_SSRCS[0], PUBLISHED_SSRCS[1], PUBLISHED_SSRCS[2], 7][round % 4];
        let mut report = vec![0x80, 200, 0, 6];
        report.extend(ssrc.to_be_bytes());
        report.extend(moments[round % moments.len()].to_be_bytes());
        report.extend([0, u32::MAX, 1 << 31][round % 3].to_be_bytes());
        report.extend([0xff; 8]);
        let sealed = hostile.sender().with_agent(|agent| agent.protect_raw_rtcp(&report))?;
        hostile.sender().datagram(&sealed);
    }
    Ok(())
}

#[tokio::test]
async fn headers_repairs_and_reports_that_lie_harm_only_their_own_stream() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |Bystanders { server, .. }, seed| {
            for codec in [Codec::H264, Codec::Av1] {
                let hostile = Hostile::start(server, codec).await?;
                let mut dice = Dice::seeded(seed);
                lies(&hostile, &mut dice).await?;
                foreign_repairs(&hostile, &mut dice).await?;
                absurd_reports(&hostile).await?;
                crowds_and_replays(&hostile).await?;
                hostile.end(server).await?;
            }
            Ok(())
        })
        .await
}

/// Packets that each skip three thousand numbers: all that can be missed is missed.
#[tokio::test]
async fn a_publisher_that_sends_as_fast_as_it_can_takes_nothing_from_others() -> anyhow::Result<()>
{
    Bystanders::start(&[])
        .await?
        .survive(async |Bystanders { server, .. }, _| {
            let hostile = Hostile::start(server, Codec::H264).await?;
            let (sender, mut packet) = (hostile.sender().clone(), hostile.packet.clone());
            at_full_speed(move || {
                for step in (0..30_000_u32).map(|number| if number % 3 == 0 { 2_999 } else { 1 }) {
                    let header = &mut packet.header;
                    header.sequence_number = header.sequence_number.wrapping_add(step as u16);
                    header.timestamp = header.timestamp.wrapping_add(step * 10);
                    if sender.rtp(&packet).is_err() {
                        return;
                    }
                }
            })
            .await?;
            hostile.end(server).await
        })
        .await
}
