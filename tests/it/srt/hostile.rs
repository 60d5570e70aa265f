//! What a public SRT port must stand: each leaves a live stream on the same port untouched, and
//! takes no memory that grows with the number of tries.

use super::packets::{CONCLUSION, Handshake, INDUCTION, Stranger, WAVEAHAND};
use super::{PASSPHRASE, ffmpeg_source, goes_on, publisher, publishing, rejection, server};
use crate::harness::{PUBLISH_TOKEN, Server, until};
use crate::relay::Dice;
use anyhow::Context;
use loadtest::srt::{CallOptions, SrtCaller};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// What may come beside what is measured: everything since the last keyframe of a second stream (16
/// MiB), packets that wait (6 MB), the library's pools.
const GROWTH_MAX: u64 = 48 << 20;

/// A server, a live stream on its SRT port, and what it was like before.
struct Bystander {
    server: Server,
    remote: SocketAddr,
    session: Value,
    resident: u64,
    _encoder: Child,
}

impl Bystander {
    async fn start(options: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (server, remote) = server(options).await?;
        let id = format!("publish:bystander:{PUBLISH_TOKEN}");
        let url = format!("srt://{remote}?streamid={id}");
        let encoder = ffmpeg_source(true).args(["-f", "mpegts", &url]).spawn()?;
        goes_on(&server, "bystander", 60).await?;
        let session =
            publisher(&server, "bystander").await?.context("it publishes")?["session"].clone();
        let resident = server.resident_bytes()?;
        Ok(Self { server, remote, session, resident, _encoder: encoder })
    }

    /// The same session goes on, nothing of it was lost, and memory is what it was.
    async fn assert_untouched(&self) -> anyhow::Result<()> {
        goes_on(&self.server, "bystander", 60).await?;
        let now = publisher(&self.server, "bystander").await?.context("it publishes")?;
        assert_eq!(now["session"], self.session);
        assert_eq!(now["link"]["dropped_packets"], 0, "{now}");
        self.server.output().read(|text| {
            let session = self.session.as_str().unwrap_or_default();
            let mut lines = text.lines().filter(|line| line.contains(session));
            let gap = lines.find(|line| line.contains("has gaps"));
            assert_eq!(gap, None, "something of it was lost");
        });
        let resident = self.server.resident_bytes()?;
        assert!(resident < self.resident + GROWTH_MAX, "{} -> {resident}", self.resident);
        self.server.assert_sound();
        Ok(())
    }

    fn stranger(&self) -> anyhow::Result<Stranger> {
        Stranger::new(self.remote)
    }
}

#[tokio::test]
async fn a_spoofed_handshake_with_an_unknown_extension_harms_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let stranger = bystander.stranger()?;
    let cookie = stranger.cookie(7)?;
    let unknown = |version, kind, cookie| Handshake {
        version,
        extension_field: 0x8000 | 1,
        kind,
        socket: 7,
        cookie,
        extensions: vec![(0x7777, vec![1, 2, 3, 4])],
    };
    for (kind, cookie) in [(INDUCTION, 0), (CONCLUSION, 0), (CONCLUSION, cookie), (9, cookie)] {
        for version in [4, 5, 0, u32::MAX] {
            let bytes = unknown(version, kind, cookie).bytes();
            assert_eq!(bytes.len(), 72);
            stranger.send(&bytes)?;
        }
    }
    bystander.assert_untouched().await
}

#[tokio::test]
async fn callers_that_encrypt_and_the_port_does_not_harm_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[("srt.passphrases", &format!("e={PASSPHRASE}"))]).await?;
    for key_bytes in [16, 32] {
        let encryption = Some((key_bytes, PASSPHRASE.to_owned()));
        let encrypted = CallOptions { encryption, ..publishing("a") };
        assert_eq!(rejection(bystander.remote, &encrypted).await?, "Core(Unsecure)");
        // And the other way round.
        assert_eq!(rejection(bystander.remote, &publishing("e")).await?, "Core(Unsecure)");
    }
    bystander.assert_untouched().await
}

#[tokio::test]
async fn a_caller_in_file_mode_harms_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let id = format!("publish:a:{PUBLISH_TOKEN}");
    let url = format!("srt://{}?streamid={id}&transtype=file", bystander.remote);
    let mut encoder = ffmpeg_source(true);
    let output = encoder.args(["-t", "5", "-f", "mpegts", &url]).output().await?;
    assert!(!output.status.success(), "it was let in");
    bystander.assert_untouched().await
}

#[tokio::test]
async fn a_rendezvous_handshake_harms_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let stranger = bystander.stranger()?;
    let cookie = stranger.cookie(7)?;
    for (version, cookie) in [(5, 0), (5, cookie), (4, cookie)] {
        let kind = WAVEAHAND;
        let wave = Handshake { version, kind, cookie, ..Handshake::induction(7) };
        stranger.send(&wave.bytes())?;
        // Agreement, the third kind of a rendezvous.
        stranger.send(&Handshake { kind: 0xffff_fffe, ..wave }.bytes())?;
    }
    bystander.assert_untouched().await
}

#[tokio::test]
async fn inductions_from_twenty_thousand_addresses_harm_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    for number in 0..20_000_u32 {
        let [_, high, middle, low] = number.to_be_bytes();
        let local = SocketAddr::from(([127, 1 + high, middle, 1 + (low % 254)], 0));
        let stranger = Stranger::at(local, bystander.remote)?;
        stranger.send(&Handshake::induction(number).bytes())?;
        if number % 50 == 0 {
            // At the pace in which answers come, so that all are looked at.
            stranger.cookie(number)?;
            tokio::task::yield_now().await;
        }
    }
    bystander.assert_untouched().await
}

#[tokio::test]
async fn a_conclusion_without_the_cookie_opens_nothing() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let stranger = bystander.stranger()?;
    let id = format!("publish:a:{PUBLISH_TOKEN}");
    let cookie = stranger.cookie(7)?;
    for wrong in [0, 1, !cookie, cookie ^ 1] {
        stranger.send(&Handshake::conclusion(7, wrong, &id).bytes())?;
    }
    // The cookie of another address.
    let other = Stranger::at(SocketAddr::from(([127, 0, 0, 2], 0)), bystander.remote)?;
    other.send(&Handshake::conclusion(7, cookie, &id).bytes())?;
    // An answer to a good one says that those before were looked at.
    stranger.send(&Handshake::conclusion(7, cookie, "publish:b").bytes())?;
    assert_eq!(stranger.answered_kind()?, 1000 + 1401);
    assert!(publisher(&bystander.server, "a").await?.is_none());
    bystander.assert_untouched().await
}

#[tokio::test]
async fn packets_cut_short_at_every_length_harm_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let stranger = bystander.stranger()?;
    let cookie = stranger.cookie(7)?;
    let whole = Handshake::conclusion(7, cookie, "publish:stage:x").bytes();
    for len in 0..whole.len() {
        stranger.send(&whole[..len])?;
    }
    // Extensions that claim to be longer than the packet, or that are empty.
    for claimed in [0_u16, 2, 400, u16::MAX] {
        let mut lying = whole.clone();
        lying[66..68].copy_from_slice(&claimed.to_be_bytes());
        stranger.send(&lying)?;
    }
    bystander.assert_untouched().await
}

#[tokio::test]
async fn stream_ids_of_any_length_harm_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let stranger = bystander.stranger()?;
    let cookie = stranger.cookie(7)?;
    for len in [0, 1, 511, 512, 513, 600, 1300] {
        let id = "x".repeat(len);
        stranger.send(&Handshake::conclusion(7, cookie, &id).bytes())?;
        assert!(stranger.answered_kind()? >= 1000, "{len} characters");
    }
    bystander.assert_untouched().await
}

#[tokio::test]
async fn noise_and_changed_handshakes_harm_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let mut dice = Dice::seeded(5);
    let stranger = bystander.stranger()?;
    let cookie = stranger.cookie(7)?;
    let whole = Handshake::conclusion(7, cookie, "publish:stage:x").bytes();
    for number in 0..5_000 {
        let bytes = if dice.roll(2) == 0 {
            let mut changed = whole.clone();
            for _ in 0..=dice.roll(3) {
                let at = dice.roll(changed.len() as u64) as usize;
                changed[at] = dice.roll(256) as u8;
            }
            changed
        } else {
            (0..dice.roll(200)).map(|_| dice.roll(256) as u8).collect()
        };
        stranger.send(&bytes)?;
        if number % 50 == 0 {
            Stranger::new(bystander.remote)?.cookie(8)?;
        }
    }
    bystander.assert_untouched().await
}

/// Sends bytes over and over, as fast as the connection takes them.
fn flood(bystander: &Bystander, stream: &str, bytes: &[u8]) -> anyhow::Result<Flood> {
    let url = format!("srt://{}?streamid=publish:{stream}:{PUBLISH_TOKEN}", bystander.remote);
    let mut transmit = Command::new("srt-live-transmit")
        .args(["-q", "file://con", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("srt-live-transmit")?;
    let mut input = transmit.stdin.take().context("a pipe")?;
    let bytes = bytes.to_vec();
    let feeding = tokio::spawn(async move { while input.write_all(&bytes).await.is_ok() {} });
    Ok(Flood { _transmit: transmit, feeding })
}

struct Flood {
    _transmit: Child,
    feeding: JoinHandle<()>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

#[tokio::test]
async fn garbage_of_an_authorised_caller_harms_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let mut dice = Dice::seeded(6);
    let mut garbage: Vec<u8> = (0..1316 * 20).map(|_| dice.roll(256) as u8).collect();
    // Half of it looks like packets.
    let looks = garbage.chunks_mut(188).enumerate().filter(|(at, _)| at / 70 % 2 == 0);
    looks.for_each(|(_, packet)| packet[0] = 0x47);
    let _flood = flood(&bystander, "a", &garbage)?;
    bystander.server.said(&["no MPEG transport stream"]).await?;
    bystander.assert_untouched().await
}

#[tokio::test]
async fn callers_that_connect_and_send_nothing_harm_nobody() -> anyhow::Result<()> {
    let options = [("srt.connections_max", "20"), ("limits.publisher_silence_timeout_s", "1")];
    let bystander = Bystander::start(&options).await?;
    let mut callers = Vec::new();
    for number in 0..19 {
        let options = publishing(&format!("silent-{number}"));
        callers.push(SrtCaller::call(bystander.remote, &options).await?);
    }
    let there_is_room =
        async || SrtCaller::call(bystander.remote, &publishing("another")).await.ok().map(drop);
    until("the silent ones were ended", there_is_room).await?;
    bystander.assert_untouched().await
}

#[tokio::test]
async fn a_flood_of_handshakes_with_good_cookies_harms_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let good = format!("publish:bystander:{PUBLISH_TOKEN}x");
    for address in 1..=100_u8 {
        let local = SocketAddr::from(([127, 9, 9, address], 0));
        let stranger = Stranger::at(local, bystander.remote)?;
        let cookie = stranger.cookie(7)?;
        for socket in 0..50 {
            stranger.send(&Handshake::conclusion(socket, cookie, &good).bytes())?;
        }
        tokio::task::yield_now().await;
    }
    bystander.assert_untouched().await?;
    // Who wants to publish gets in, if not at once.
    let gets_in = async || SrtCaller::call(bystander.remote, &publishing("a")).await.ok();
    until("an encoder gets in", gets_in).await.map(drop)
}

#[tokio::test]
async fn a_publisher_that_floods_slows_down_nobody() -> anyhow::Result<()> {
    let bystander = Bystander::start(&[]).await?;
    let _flood = flood(&bystander, "flood", &super::recording().await?)?;
    goes_on(&bystander.server, "flood", 2_000).await?;
    bystander.assert_untouched().await
}
