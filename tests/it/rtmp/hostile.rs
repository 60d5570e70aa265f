//! What strangers send to the RTMP port costs them their connection, and the live stream beside
//! it nothing.

use super::encoder::{
    AUDIO, COMMAND, Encoder, SET_CHUNK_SIZE, VIDEO, chunk, command, connect, message, opening,
    picture, setup,
};
use super::live::Live;
use super::rtmp_address;
use crate::harness::{PUBLISH_TOKEN, SOON, Server, until};
use anyhow::{Context as _, ensure};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Says all this, and waits for the server to close.
async fn closes(server: &Server, bytes: &[u8]) -> anyhow::Result<String> {
    let mut encoder = Encoder::connect(rtmp_address(server).await?).await?;
    // The server may be faster than we are.
    let _ = encoder.say(bytes).await;
    encoder.hears_out().await
}

fn key(stream: &str) -> String {
    format!("{stream}?token={PUBLISH_TOKEN}")
}

#[tokio::test]
async fn what_makes_no_sense_closes_its_connection_and_no_other() -> anyhow::Result<()> {
    // It is not for want of time that anything is closed.
    let server =
        Server::with(&[("rtmp.read_timeout_s", "120"), ("rtmp.publish_timeout_s", "120")]).await?;
    let live = Live::start(&server).await?;
    let nested = [10, 0, 0, 0, 1].repeat(12_000);
    let big = [connect(), chunk(3, 0, COMMAND, 65_537, &[0; 4096])].concat();
    let size = |size: u32| message(2, 0, SET_CHUNK_SIZE, &size.to_be_bytes());
    let streams: Vec<u8> = (2..60).flat_map(|id| chunk(id, 0, COMMAND, 9_000, &[0; 128])).collect();
    let held: Vec<u8> = [
        size(65_535),
        (3..30).flat_map(|id| chunk(id, 0, COMMAND, 65_536, &vec![0; 65_535])).collect(),
    ]
    .concat();
    for (what, bytes) in [
        ("nested AMF", [connect(), message(3, 0, COMMAND, &nested)].concat()),
        ("nested AMF before connect", [size(65_536), message(3, 0, COMMAND, &nested)].concat()),
        ("a list of 4 billion", message(3, 0, COMMAND, &[10, 0xff, 0xff, 0xff, 0xff, 5])),
        ("a chunk size of 0", size(0)),
        ("a chunk size of 2^31", size(1 << 31)),
        ("a chunk size of 1 GiB", size(1 << 30)),
        ("a chunk size that is cut short", message(2, 0, SET_CHUNK_SIZE, &[0, 1])),
        ("a chunk of type 3 first", vec![0xc7; 64]),
        ("a chunk of type 2 first", vec![0x87, 0, 0, 1, 9, 9]),
        ("a message within another", chunk(4, 0, COMMAND, 300, &[0; 128]).repeat(2)),
        ("a command that is too long", big),
        ("too many chunk streams", streams),
        ("too much unfinished", held),
        ("media before publish", [connect(), message(4, 0, VIDEO, &[0x17, 0, 0, 0, 0])].concat()),
        ("media before connect", message(4, 0, AUDIO, &[0xaf, 0])),
        ("a command before connect", command("createStream", &[5])),
        ("connect twice", [connect(), connect()].concat()),
        ("noise", (0..4096_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
    ] {
        closes(&server, &bytes).await.context(what)?;
        live.is_untouched(&server).await.context(what)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_handshake_that_is_none_closes_its_connection() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let live = Live::start(&server).await?;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0], &[6; 1537]] {
        let mut stream = TcpStream::connect(rtmp_address(&server).await?).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        // It may be reset: there is more than it has read.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await?;
    }
    live.is_untouched(&server).await
}

#[tokio::test]
async fn interleaved_chunks_and_short_commands_are_no_fault() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let live = Live::start(&server).await?;
    let mut encoder = Encoder::connect(rtmp_address(&server).await?).await?;
    encoder.say(&connect()).await?;
    // Commands of a name alone, and of nothing.
    for name in ["releaseStream", "FCPublish", "deleteStream", "closeStream", "unheard-of"] {
        let payload = [&[2, 0, name.len() as u8], name.as_bytes()].concat();
        encoder.say(&message(3, 0, COMMAND, &payload)).await?;
    }
    encoder.say(&message(3, 0, COMMAND, &[])).await?;
    let opening = opening(&key("woven"));
    encoder.say(&opening[connect().len()..]).await?;
    encoder.hears("NetStream.Publish.Start").await?;
    encoder.say(&message(5, 0, AUDIO, &[0xaf, 0, 0x12, 0x10])).await?;
    encoder.say(&message(2, 0, SET_CHUNK_SIZE, &100_u32.to_be_bytes())).await?;
    let mut timestamp = 0;
    let all = async || {
        for piece in woven(timestamp).chunks(7) {
            encoder.say(piece).await.ok()?;
        }
        timestamp += 20;
        let stream = server.stream("woven").await.ok()??;
        (stream["publisher"]["frames"]["taken"].as_u64()? >= 40).then_some(())
    };
    until("pictures and sounds", all).await?;
    live.is_untouched(&server).await
}

/// A picture of three chunks and a sound of two, which lie between each other.
fn woven(timestamp: u32) -> Vec<u8> {
    let picture = [&[0x27, 1, 0, 0, 0, 0, 0, 1, 35, 0x41][..], &[8; 290]].concat();
    let sound = [&[0xaf, 1][..], &[7; 148]].concat();
    let more = |id: u8, data: &[u8]| [&[0xc0 | id], data].concat();
    [
        chunk(4, timestamp, VIDEO, picture.len(), &picture[..100]),
        chunk(5, timestamp, AUDIO, sound.len(), &sound[..100]),
        more(4, &picture[100..200]),
        more(5, &sound[100..]),
        more(4, &picture[200..]),
    ]
    .concat()
}

#[tokio::test]
async fn tags_that_make_no_sense_are_passed_over_and_counted() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut encoder = Encoder::publish(rtmp_address(&server).await?, &key("odd")).await?;
    encoder.say(&setup()).await?;
    let mut number = 0;
    let counted = async || {
        let odd = message(5, number * 20, AUDIO, &[0x95]);
        encoder.say(&[picture(number, number * 20), odd].concat()).await.ok()?;
        number += 1;
        let stream = server.stream("odd").await.ok()??;
        let frames = &stream["publisher"]["frames"];
        (frames["taken"].as_u64()? > 10 && frames["damaged"].as_u64()? > 10).then_some(())
    };
    until("pictures and odd tags", counted).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn who_publishes_is_told_what_is_wrong_with_it() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let live = Live::start(&server).await?;
    let mut encoder = Encoder::publish(rtmp_address(&server).await?, &key("large")).await?;
    encoder.say(&chunk(4, 0, VIDEO, (4 << 20) + 1, &[0x17])).await?;
    let said = encoder.hears_out().await?;
    ensure!(said.contains("may have 4194304"), "{said}");
    live.is_untouched(&server).await
}

#[tokio::test]
async fn who_dawdles_is_closed_and_who_is_quiet_is_asked_first() -> anyhow::Result<()> {
    let server =
        Server::with(&[("rtmp.read_timeout_s", "2"), ("rtmp.publish_timeout_s", "3")]).await?;
    let live = Live::start(&server).await?;
    let address = rtmp_address(&server).await?;
    // A byte at a time, before and after the handshake: each in time, and never done.
    let mut slow = TcpStream::connect(address).await?;
    let (mut reading, mut writing) = slow.split();
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        while writing.write_all(&[3]).await.is_ok() {
            ticks.tick().await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        _ = reading.read_to_end(&mut answer) => {}
        () = drip => {}
        () = tokio::time::sleep(SOON * 3) => anyhow::bail!("a handshake may take for ever"),
    }
    let mut idle = Encoder::connect(address).await?;
    idle.say(&connect()).await?;
    idle.hears_out().await.context("who connects must publish")?;
    // One that publishes is pinged, 0006 and a time of 0, before it is closed.
    let mut quiet = Encoder::publish(address, &key("quiet")).await?;
    let said = quiet.hears_out().await?;
    ensure!(said.contains("\0\u{6}\0\0\0\0"), "{said:?}");
    live.is_untouched(&server).await
}

#[tokio::test]
async fn ten_thousand_half_open_connections_keep_no_publisher_out() -> anyhow::Result<()> {
    // A connection is a descriptor at both ends; other tests have some too.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)?;
    let count = usize::try_from(hard / 2).unwrap_or(usize::MAX).min(10_000);
    let server = Server::start().await?;
    let live = Live::start(&server).await?;
    let address = rtmp_address(&server).await?;
    let before = server.resident_bytes()?;
    let mut open = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(address).await?;
        // Some say nothing, some half a handshake.
        if number % 2 == 0 {
            // Those that have given way already are closed.
            let _ = stream.write_all(&[3; 700]).await;
        }
        open.push(stream);
    }
    let publisher = Encoder::publish(address, &key("punctual")).await.context("it comes in")?;
    live.is_untouched(&server).await?;
    let grown = server.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "{count} connections cost {grown} bytes");
    drop((open, publisher));
    Ok(())
}
