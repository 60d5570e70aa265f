//! Hostile input from strangers and from clients with a session, beside live streams: nothing
//! panics, others lose nothing, memory returns.
//!
//! - `bystanders`: a live stream of which every packet is accounted for
//! - `datagrams`: malformed datagrams from anywhere
//! - `handshake`: DTLS in pieces, unfinished, repeated
//! - `publisher`: what a publisher may seal
//! - `requests`: malformed SDP and HTTP
//! - `strangers`: datagrams without a session at full speed
//! - `viewer`: what a viewer may seal, and ask for

mod bystanders;
mod datagrams;
mod handshake;
mod publisher;
mod requests;
mod strangers;
mod viewer;

use crate::harness::{Server, received};
use crate::relay::{Dice, Relay, Way};
use bystanders::Bystanders;
use loadtest::codec::Codec;
use loadtest::light::LightOptions;
use loadtest::whep::ViewOptions;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The byte strings of a corpus: lines in hexadecimal, `-` for none, `#` for a comment.
fn corpus(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| if line == "-" { Vec::new() } else { from_hex(line) }).collect()
}

fn from_hex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        line.chars().filter_map(|it| it.to_digit(16)).map(|it| it as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// One to four random changes.
fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() as u64) as usize;
        let Some(byte) = bytes.get_mut(at) else {
            bytes.push(dice.roll(256) as u8);
            continue;
        };
        match dice.roll(7) {
            0 => *byte ^= 1 << dice.roll(8),
            1 => *byte = dice.roll(256) as u8,
            2 => *byte = [0, 0x7F, 0x80, 0xFF][dice.roll(4) as usize],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, dice.roll(256) as u8),
            5 => drop(bytes.remove(at)),
            _ => {
                let piece = bytes.split_off(at);
                bytes.extend_from_within(..at.min(64));
                bytes.extend(piece);
            }
        }
    }
    bytes.truncate(1_400);
    bytes
}

/// Sends slowly enough that the kernel's buffers lose nothing: what is lost proves nothing.
struct Pace {
    ticks: tokio::time::Interval,
    left: u32,
}

impl Pace {
    const BURST: u32 = 20;

    fn new() -> Self {
        Self { ticks: tokio::time::interval(Duration::from_millis(5)), left: Self::BURST }
    }

    async fn wait(&mut self) {
        if self.left == 0 {
            self.ticks.tick().await;
            self.left = Self::BURST;
        }
        self.left -= 1;
    }
}

/// Lets an attacker work in a thread of its own, as fast as it can, while everybody else goes on.
async fn at_full_speed(attack: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    Ok(tokio::task::spawn_blocking(attack).await?)
}

/// Everything a viewer sends until it sees media: real checks, a real handshake.
async fn overheard(server: &Server, address: SocketAddr) -> anyhow::Result<Vec<Vec<u8>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let relay = Relay::start(address, move |way, datagram| {
        if way == Way::Up {
            ear.lock().unwrap_or_else(PoisonError::into_inner).push(datagram.to_vec());
        }
        false
    })
    .await?;
    let light = LightOptions { via: Some(relay.address), ..LightOptions::default() };
    let viewer = server.view("live", ViewOptions { light, ..ViewOptions::default() }).await?;
    received(&viewer, Codec::H264, 10).await?;
    viewer.end().await?;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(heard.iter().take(64).cloned().collect())
}
