//! Malformed datagrams, RTCP, RTP, SDP and HTTP, as they are kept in `tests/data/hostile` and
//! mutated, beside a live stream: nothing panics, its viewers lose nothing, memory returns.

use crate::harness::{Server, received, until};
use crate::relay::{Dice, Relay, Way};
use anyhow::Context;
use loadtest::codec::Codec;
use loadtest::light::{Answer, Identity, LightOptions, LightSender, Offer};
use loadtest::source::VideoSettings;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, WhipClient};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const DATAGRAMS: &str = include_str!("../data/hostile/datagrams.hex");
const RTCP: &str = include_str!("../data/hostile/rtcp.hex");
const PAYLOADS: &str = include_str!("../data/hostile/payloads.hex");
const REQUESTS: &str = include_str!("../data/hostile/http.txt");
/// So much more may be resident after a second round of the same than after the first.
const GROWTH_MAX: u64 = 8 << 20;

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

/// A live stream whose viewer must notice nothing.
struct Bystanders {
    server: Server,
    _publisher: WhipClient,
    viewer: WhepClient,
}

impl Bystanders {
    async fn start(options: &[(&str, &str)]) -> anyhow::Result<Self> {
        let server = Server::with(options).await?;
        let publisher = server.publish("live", PublishOptions::default()).await?;
        // It asks for nothing again, so nothing hides what it lost.
        let options = ViewOptions { nack: false, ..ViewOptions::default() };
        let viewer = server.view("live", options).await?;
        received(&viewer, Codec::H264, 30).await?;
        Ok(Self { server, _publisher: publisher, viewer })
    }

    async fn noticed_nothing(&mut self) -> anyhow::Result<()> {
        let before = self.viewer.summary_of(Codec::H264).context("video")?.received;
        received(&self.viewer, Codec::H264, before + 30).await?;
        assert!(self.server.is_running());
        self.server.assert_sound();
        let faults = self.server.metric("millrace_faults_total").await?;
        assert!(faults.abs() < 0.5, "{faults} sessions ended by a fault of the server's");
        for (ssrc, stream) in self.viewer.summary() {
            assert_eq!((stream.lost, stream.duplicates), (0, 0), "stream {ssrc}: {stream:?}");
        }
        Ok(())
    }

    /// Runs the same attack twice: what the first round left behind, the second finds again.
    async fn survive(
        &mut self,
        mut attack: impl AsyncFnMut(&Server, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        attack(&self.server, 1).await?;
        self.noticed_nothing().await?;
        let before = self.server.resident_bytes()?;
        attack(&self.server, 2).await?;
        self.noticed_nothing().await?;
        let (server, limit) = (&self.server, before + GROWTH_MAX);
        let returned = async || server.resident_bytes().ok().filter(|now| *now < limit).map(drop);
        until("memory returns", returned).await
    }
}

/// Where the server takes media.
async fn media_address(server: &Server) -> anyhow::Result<SocketAddr> {
    let fingerprint = Some(Identity::generate()?.fingerprint());
    let offer = Offer { fingerprint, ..Offer::view() };
    let session = server.client(None).offer(&server.whep("live"), &offer.to_string()).await?;
    server.client(None).delete(&session.url).await?;
    Answer::parse(&session.answer)?.candidates.first().copied().context("a candidate")
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

#[tokio::test]
async fn malformed_datagrams_harm_nobody() -> anyhow::Result<()> {
    let mut bystanders = Bystanders::start(&[]).await?;
    let address = media_address(&bystanders.server).await?;
    bystanders
        .survive(async |server, seed| {
            let mut dice = Dice::seeded(seed);
            let mut pace = Pace::new();
            let mut seeds = corpus(DATAGRAMS);
            seeds.extend(overheard(server, address).await?);
            let before = server.metric("millrace_datagrams_received_total").await?;
            for round in 0..20 {
                // A stranger from a new address each time.
                let socket = UdpSocket::bind("127.0.0.1:0").await?;
                for datagram in &seeds {
                    pace.wait().await;
                    let changed = mutate(datagram, &mut dice);
                    let bytes = if round == 0 { datagram } else { &changed };
                    // The answer to a datagram may be an ICMP error; the next one goes out anyway.
                    let _ = socket.send_to(bytes, address).await;
                }
            }
            // A busy machine may read them later than they are sent.
            let enough = before + 10.0 * seeds.len() as f64;
            until("half of them arrive", async || {
                let arrived = server.metric("millrace_datagrams_received_total").await.ok()?;
                (arrived > enough).then_some(())
            })
            .await
        })
        .await
}

#[tokio::test]
async fn malformed_datagrams_from_a_clients_own_address_harm_only_itself() -> anyhow::Result<()> {
    let mut bystanders = Bystanders::start(&[]).await?;
    let address = media_address(&bystanders.server).await?;
    bystanders
        .survive(async |server, seed| {
            let mut dice = Dice::seeded(seed);
            let mut pace = Pace::new();
            let mut seeds = corpus(DATAGRAMS);
            seeds.extend(overheard(server, address).await?);
            let viewer = server.view("live", ViewOptions::default()).await?;
            for _ in 0..20 {
                for datagram in &seeds {
                    pace.wait().await;
                    viewer.sender().datagram(&mutate(datagram, &mut dice));
                }
            }
            viewer.end().await.or_else(|error| match error.status() {
                // Its own datagrams may have ended its session.
                Some(404) => Ok(()),
                _ => Err(error),
            })?;
            Ok(())
        })
        .await
}

/// Seals each of these, and mutations of them, as RTCP.
async fn send_rtcp(sender: &LightSender, dice: &mut Dice) {
    let mut pace = Pace::new();
    for round in 0..20 {
        for packet in corpus(RTCP) {
            pace.wait().await;
            let changed = mutate(&packet, dice);
            let mut bytes = if round == 0 { packet } else { changed };
            // Sealing needs a header and an SSRC; these four bits make it RTCP.
            bytes.resize(bytes.len().max(8), 0);
            let sealed = sender.with_agent(|agent| agent.protect_raw_rtcp(&bytes));
            if let Ok(sealed) = sealed {
                sender.datagram(&sealed);
            }
        }
    }
}

#[tokio::test]
async fn sealed_nonsense_from_a_viewer_harms_nobody() -> anyhow::Result<()> {
    let mut bystanders = Bystanders::start(&[]).await?;
    bystanders
        .survive(async |server, seed| {
            let viewer = server.view("live", ViewOptions::default()).await?;
            received(&viewer, Codec::H264, 10).await?;
            send_rtcp(viewer.sender(), &mut Dice::seeded(seed)).await;
            let ssrc = viewer.summary_of(Codec::H264).context("video")?.ssrc;
            let mut pace = Pace::new();
            for start in 0..200_u16 {
                pace.wait().await;
                let numbers: Vec<u16> = (0..200).map(|n| start * 200 + n).collect();
                viewer.nack(ssrc, &numbers)?;
                viewer.request_keyframe(ssrc)?;
            }
            let _ = viewer.end().await;
            Ok(())
        })
        .await
}

async fn hostile_publisher(server: &Server, codec: Codec, seed: u64) -> anyhow::Result<()> {
    let video = VideoSettings { codec, ..VideoSettings::default() };
    let options = PublishOptions { video: Some(video), ..PublishOptions::default() };
    let publisher = server.publish("hostile", options).await?;
    let viewer = server.view("hostile", ViewOptions::default()).await?;
    received(&viewer, codec, 10).await?;
    let mut dice = Dice::seeded(seed);
    let mut pace = Pace::new();
    let sent = publisher.log().read(|log| log.sent.clone());
    let mut payloads = corpus(PAYLOADS);
    payloads.extend(sent.iter().take(8).map(|packet| packet.payload.to_vec()));
    let header = sent.back().context("media was sent")?.header.clone();
    for round in 0..8 {
        for payload in &payloads {
            pace.wait().await;
            let changed = mutate(payload, &mut dice);
            let mut header = header.clone();
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
            let _ = publisher.sender().rtp(&packet);
        }
    }
    send_rtcp(publisher.sender(), &mut dice).await;
    let _ = viewer.end().await;
    let _ = publisher.end().await;
    let gone = async || server.stream("hostile").await.ok()?.is_none().then_some(());
    until("the hostile stream is gone", gone).await
}

#[tokio::test]
async fn sealed_nonsense_from_a_publisher_harms_only_its_own_stream() -> anyhow::Result<()> {
    let mut bystanders = Bystanders::start(&[]).await?;
    bystanders
        .survive(async |server, seed| {
            for codec in Codec::VIDEO {
                hostile_publisher(server, codec, seed).await?;
            }
            Ok(())
        })
        .await
}

/// The offers of real clients.
fn offers() -> anyhow::Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/offers");
    let mut paths: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "sdp"))
        .collect();
    paths.sort();
    anyhow::ensure!(paths.len() > 10, "the offers of real clients are there");
    paths.into_iter().map(|path| Ok(std::fs::read_to_string(path)?)).collect()
}

/// Changes lines: drops, doubles, swaps and cuts them, or mutates their bytes.
fn mutate_sdp(offer: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
    for _ in 0..=dice.roll(4) {
        let count = lines.len().max(1) as u64;
        let (at, other) = (dice.roll(count) as usize, dice.roll(count) as usize);
        match dice.roll(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => lines.truncate(at.max(1)),
            4 => lines[at] = lines[at].repeat(1 + dice.roll(40) as usize),
            _ => {
                let bytes = mutate(lines[at].as_bytes(), dice);
                lines[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }
    lines.join("\r\n") + "\r\n"
}

#[tokio::test]
async fn malformed_offers_get_an_answer_or_a_reason() -> anyhow::Result<()> {
    let mut bystanders = Bystanders::start(&[("limits.handshake_timeout_s", "2")]).await?;
    let offers = offers()?;
    bystanders
        .survive(async |server, seed| {
            let mut dice = Dice::seeded(seed);
            let client = server.publisher();
            for offer in &offers {
                for round in 0..6 {
                    let offer =
                        if round == 0 { offer.clone() } else { mutate_sdp(offer, &mut dice) };
                    let whip = dice.percent(50);
                    let url = if whip { server.whip("fuzzed") } else { server.whep("live") };
                    match client.offer(&url, &offer).await {
                        Ok(session) => client.delete(&session.url).await?,
                        Err(error) => {
                            let status = error.status();
                            let told = matches!(status, Some(400 | 406 | 409 | 413 | 422 | 503));
                            assert!(told, "{error} for\n{offer}");
                        }
                    }
                }
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn malformed_requests_get_a_refusal_or_a_closed_connection() -> anyhow::Result<()> {
    let mut bystanders = Bystanders::start(&[("limits.http_request_timeout_s", "1")]).await?;
    let requests: Vec<String> = REQUESTS
        .split("=====\n")
        .map(|request| request.lines().filter(|line| !line.starts_with('#')))
        .map(|lines| lines.fold(String::new(), |all, line| all + line + "\r\n"))
        .collect();
    bystanders
        .survive(async |server, seed| {
            let mut dice = Dice::seeded(seed);
            let mut answers = tokio::task::JoinSet::new();
            for request in &requests {
                for round in 0..6 {
                    let changed = mutate(request.as_bytes(), &mut dice);
                    let bytes = if round == 0 { request.clone().into_bytes() } else { changed };
                    answers.spawn(request_of(server.http_address().to_owned(), bytes));
                }
            }
            for answer in answers.join_all().await {
                let answer = answer?;
                assert!(!answer.starts_with("HTTP/1.1 500"), "{answer}");
            }
            Ok(())
        })
        .await
}

/// Sends bytes, closes its side, and reads until the server closes.
async fn request_of(address: String, bytes: Vec<u8>) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let exchange = async {
        let mut answer = Vec::new();
        // Either side may find the other gone: that is an answer too.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.take(65_536).read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await.context("an answer in time")
}
