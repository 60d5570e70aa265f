//! Datagrams of nobody, at full speed: forged checks, handshakes without a check, noise.

use super::Bystanders;
use crate::harness::{media_address, until};
use crate::hostile::at_full_speed;
use crate::relay::Dice;
use std::net::UdpSocket;

/// So many datagrams a flood has.
const DATAGRAMS: u32 = 100_000;

/// A connectivity check for this user name, with the attributes that ICE has (RFC 8445 §7.1) and
/// an integrity and a fingerprint of noise.
fn forged_check(ufrag: &str, dice: &mut Dice) -> Vec<u8> {
    let mut attributes = Vec::new();
    let mut attribute = |kind: u16, value: &[u8]| {
        attributes.extend(kind.to_be_bytes());
        attributes.extend((value.len() as u16).to_be_bytes());
        attributes.extend(value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    };
    let noise: Vec<u8> = (0..20).map(|_| dice.roll(256) as u8).collect();
    attribute(0x0006, format!("{ufrag}:else").as_bytes());
    attribute(0x0024, &noise[..4]);
    attribute(0x802a, &noise[..8]);
    attribute(0x0025, &[]);
    attribute(0x0008, &noise);
    attribute(0x8028, &noise[4..8]);
    let mut check = vec![0, 1];
    check.extend((attributes.len() as u16).to_be_bytes());
    check.extend([0x21, 0x12, 0xa4, 0x42]);
    check.extend(&noise[..12]);
    check.extend(attributes);
    check
}

/// Of each kind that is told apart by its first bytes (RFC 7983 §7), and of none.
fn forged(ufrags: &[String], dice: &mut Dice) -> Vec<u8> {
    let length = dice.roll(1_200) as usize;
    let mut bytes: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
    let mut begin = |start: &[u8]| {
        bytes.resize(bytes.len().max(start.len()), 0);
        bytes[..start.len()].copy_from_slice(start);
    };
    match dice.roll(6) {
        0 => return forged_check(&ufrags[dice.roll(ufrags.len() as u64) as usize], dice),
        1 => return forged_check("nobody", dice),
        // A ClientHello, an alert, SRTP, SRTCP.
        2 => begin(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 244]),
        3 => begin(&[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40]),
        4 => begin(&[0x80, 102 + 94 * (dice.roll(2) as u8)]),
        _ => {}
    }
    bytes
}

#[tokio::test]
async fn a_hundred_thousand_datagrams_of_strangers_at_full_speed_harm_nobody() -> anyhow::Result<()>
{
    let bystanders = Bystanders::start(&[]).await?;
    let address = media_address(&bystanders.server).await?;
    let ufrags = bystanders.ufrags();
    bystanders
        .survive(async |Bystanders { server, .. }, seed| {
            let arrived = async || -> anyhow::Result<f64> {
                let received = server.metric("millrace_datagrams_received_total").await?;
                Ok(received + server.metric("millrace_datagrams_overflowed_total").await?)
            };
            let before = arrived().await?;
            let mut dice = Dice::seeded(seed);
            let corpus: Vec<Vec<u8>> = (0..4_096).map(|_| forged(&ufrags, &mut dice)).collect();
            // Some for each shard.
            let sockets: Vec<UdpSocket> =
                (0..16).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
            at_full_speed(move || {
                for number in 0..DATAGRAMS {
                    let datagram = &corpus[dice.roll(corpus.len() as u64) as usize];
                    let _ = sockets[number as usize % sockets.len()].send_to(datagram, address);
                }
            })
            .await?;
            // The kernel tells of those that found no room with the next that does.
            let enough = before + f64::from(DATAGRAMS) * 0.8;
            let most = async || arrived().await.ok().filter(|&count| count > enough).map(drop);
            until("most have arrived", most).await
        })
        .await
}
