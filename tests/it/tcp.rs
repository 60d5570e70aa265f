//! Clients without UDP: ICE-TCP on the media port, with four shards.

use crate::harness::{SOON, Server, media_address, received, until};
use loadtest::codec::Codec;
use loadtest::light::{LightOptions, Transport};
use loadtest::source::VideoSettings;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::PublishOptions;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

const OPEN: &str = "millrace_tcp_connections";
const DROPPED: &str = "millrace_tcp_datagrams_dropped_total";

fn over_tcp() -> LightOptions {
    LightOptions { transport: Transport::Tcp { receive_buffer: None }, ..LightOptions::default() }
}

fn publish_over_tcp() -> PublishOptions {
    PublishOptions { light: over_tcp(), ..PublishOptions::default() }
}

fn view_over_tcp() -> ViewOptions {
    ViewOptions { light: over_tcp(), ..ViewOptions::default() }
}

/// A viewer has lost nothing of what it has been sent.
fn assert_whole(viewer: &WhepClient) {
    for stream in viewer.summary().values() {
        assert_eq!((stream.lost, stream.duplicates, stream.reordered), (0, 0, 0), "{stream:?}");
    }
}

/// Waits until so many connections are open.
async fn open(server: &Server, count: u64) -> anyhow::Result<()> {
    let open = async || server.metric(OPEN).await.ok().filter(|&open| open as u64 == count);
    until(&format!("{count} TCP connections are open"), open).await.map(drop)
}

#[tokio::test]
async fn publisher_and_viewers_go_over_tcp_and_nobody_misses_anything() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("lane", publish_over_tcp()).await?;
    let mut viewers = vec![server.view("lane", ViewOptions::default()).await?];
    for _ in 0..8 {
        viewers.push(server.view("lane", view_over_tcp()).await?);
    }
    for viewer in &viewers {
        received(viewer, Codec::H264, 300).await?;
        received(viewer, Codec::Opus, 50).await?;
        assert_whole(viewer);
    }
    open(&server, 9).await?;
    let shards = server.samples(OPEN).await?;
    assert!(shards.iter().all(|&open| open > 0.0), "they are spread: {shards:?}");
    assert_eq!(server.metric(DROPPED).await? as u64, 0);
    for viewer in viewers {
        viewer.end().await?;
    }
    publisher.end().await?;
    open(&server, 0).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn what_comes_by_udp_is_seen_over_tcp() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("mixed", PublishOptions::default()).await?;
    for _ in 0..4 {
        let viewer = server.view("mixed", view_over_tcp()).await?;
        received(&viewer, Codec::H264, 100).await?;
        assert_whole(&viewer);
    }
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn without_media_tcp_nobody_is_told_of_it_and_nothing_listens() -> anyhow::Result<()> {
    let server = Server::with(&[("network.media_tcp", "off")]).await?;
    let publisher = server.publish("dry", PublishOptions::default()).await?;
    assert!(publisher.answer.tcp_candidates.is_empty());
    assert!(TcpStream::connect(publisher.answer.candidates[0]).await.is_err());
    Ok(())
}

/// The reader takes 16 KiB and then nothing more, while 4 Mb/s are for it.
#[tokio::test]
async fn a_slow_reader_skips_to_a_keyframe_and_costs_nobody_else_anything() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let video = VideoSettings {
        bitrate_bps: 4_000_000,
        // It goes on with a keyframe that is asked for, or not at all.
        keyframe_interval_frames: 0,
        ..VideoSettings::default()
    };
    let options =
        PublishOptions { video: Some(video), history: 40_000, ..PublishOptions::default() };
    let publisher = server.publish("slow", options).await?;
    let steady = server.view("slow", ViewOptions::default()).await?;
    let transport = Transport::Tcp { receive_buffer: Some(16 << 10) };
    let light = LightOptions { transport, ..LightOptions::default() };
    let options = ViewOptions { light, keep: 40_000, ..ViewOptions::default() };
    let slow = server.view("slow", options).await?;
    received(&slow, Codec::H264, 200).await?;

    slow.sender().set_deaf(true);
    let lost = async || server.metric(DROPPED).await.ok().filter(|&dropped| dropped > 0.0);
    until("its backlog is full", lost).await?;
    let before = steady.summary_of(Codec::H264).map_or(0, |stream| stream.received);
    received(&steady, Codec::H264, before + 1_000).await?;
    let dropped = server.metric(DROPPED).await?;
    assert!(dropped < 500.0, "{dropped} of a thousand dropped: it is sent pictures all the time");

    let seen = slow.summary_of(Codec::H264).map_or(0, |stream| stream.received);
    slow.sender().set_deaf(false);
    received(&slow, Codec::H264, seen + 600).await?;
    let (sent_as, seen_as) = (
        publisher.answer.payload_type(Codec::H264).expect("agreed with the publisher"),
        slow.answer.payload_type(Codec::H264).expect("agreed with the viewer"),
    );
    let places: HashMap<_, usize> = publisher.log().read(|log| {
        let video = log.sent.iter().filter(|packet| packet.header.payload_type == sent_as);
        video.enumerate().map(|(place, packet)| (packet.payload.clone(), place)).collect()
    });
    let seen: Vec<_> = slow.log().read(|log| {
        let packets = log.of_payload_type(seen_as).map(|it| it.packet.payload.clone());
        packets.map(|payload| (places[&payload], payload)).collect()
    });
    let gap = |pair: &[(usize, _)]| pair[1].0.saturating_sub(pair[0].0);
    let longest = seen.windows(2).map(gap).max().unwrap_or(0);
    assert!(longest > 500, "it went on at the present: it skipped {longest} packets");
    let resumed = seen.windows(2).find(|pair| gap(pair) == longest).map(|pair| &pair[1].1);
    let resumed = resumed.expect("there is a longest gap");
    assert!(millrace::codec::is_keyframe(millrace::media::codec::Codec::H264, resumed));
    assert_whole(&steady);
    server.assert_sound();
    Ok(())
}

/// Its descriptors, for a test that opens many.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Whether the other side has not closed it; what came is read away.
fn is_open(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 64]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_are_bounded_and_closed_and_clients_still_come()
-> anyhow::Result<()> {
    raise_descriptor_limit()?;
    let server = Server::start().await?;
    let _publisher = server.publish("crowded", PublishOptions::default()).await?;
    let address = media_address(&server).await?;
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(address).await?);
    }
    let open = || silent.iter().filter(|stream| is_open(stream)).count();
    until("most are closed at once", async || (open() <= 128).then_some(())).await?;
    let viewer = server.view("crowded", view_over_tcp()).await?;
    received(&viewer, Codec::H264, 50).await?;
    until("all of them are closed", async || (open() == 0).then_some(())).await?;
    assert_eq!(server.metric(OPEN).await? as u64, 1, "no shard has been bothered");
    assert_whole(&viewer);
    server.assert_sound();
    Ok(())
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
}

#[tokio::test]
async fn who_does_not_begin_with_a_check_of_ours_is_closed_unnoticed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("calm", publish_over_tcp()).await?;
    let viewer = server.view("calm", view_over_tcp()).await?;
    let address = media_address(&server).await?;
    let of_another = include_bytes!("../fuzz/corpus/stun/check");
    let firsts = [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
        vec![0xff; 4_000],
        vec![0; 40],
        framed(b""),
        framed(b"neither STUN nor anything else"),
        framed(&[22; 200]),
        framed(&[0x80; 1_200]),
        framed(of_another),
        framed(&of_another[..of_another.len() - 9]),
        framed(&[0; 2_049]),
    ];
    for first in firsts.iter().cycle().take(100) {
        let mut stream = TcpStream::connect(address).await?;
        // It may be closed before it has taken everything.
        let _ = stream.write_all(first).await;
        let read = stream.read(&mut [0; 16]).await;
        assert!(!matches!(read, Ok(1..)), "{first:?} was answered");
    }
    received(&viewer, Codec::H264, 200).await?;
    assert_whole(&viewer);
    assert_eq!(server.metric(OPEN).await? as u64, 2);
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_client_whose_frames_are_none_is_closed_and_nobody_else() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let _publisher = server.publish("framed", publish_over_tcp()).await?;
    let steady = server.view("framed", view_over_tcp()).await?;
    let hostile = server.view("framed", view_over_tcp()).await?;
    received(&hostile, Codec::H264, 20).await?;
    hostile.sender().datagram(&[0x80; 3_000]);
    let over = |log: &loadtest::whep::ViewLog| log.closed.clone();
    hostile.log().wait(SOON, "it is closed", over).await?;
    received(&steady, Codec::H264, 200).await?;
    assert_whole(&steady);
    open(&server, 2).await?;
    server.assert_sound();
    Ok(())
}

/// A client's ways to the server: one over UDP, others over TCP connections, which are opened by
/// the first check that goes that way.
struct Bridge {
    address: SocketAddr,
    /// Connections there have been.
    opened: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

/// The ways that a datagram takes.
#[derive(Clone, Copy)]
enum Route {
    /// All of them, as the checks of a browser do.
    All,
    /// The one of this number; 0 is UDP.
    One(usize),
}

impl Bridge {
    const WAYS: usize = 5;

    async fn start(
        server: SocketAddr,
        mut route: impl FnMut(&[u8]) -> Route + Send + 'static,
    ) -> anyhow::Result<Self> {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        back.connect(server).await?;
        let address = front.local_addr()?;
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let client = Arc::new(Mutex::new(address));
            let mut readers = JoinSet::new();
            readers.spawn(back_by_udp(back.clone(), front.clone(), client.clone()));
            let mut connections: Vec<Option<OwnedWriteHalf>> = Vec::new();
            connections.resize_with(Self::WAYS, || None);
            let mut datagram = vec![0; 2_048];
            loop {
                let Ok((length, from)) = front.recv_from(&mut datagram).await else { continue };
                *client.lock().unwrap_or_else(PoisonError::into_inner) = from;
                let datagram = &datagram[..length];
                let ways = match route(datagram) {
                    Route::All => 0..Self::WAYS,
                    Route::One(way) => way..way + 1,
                };
                for way in ways {
                    if way == 0 {
                        let _ = back.send(datagram).await;
                        continue;
                    }
                    if connections[way].is_none() && is_stun(datagram) {
                        let Ok(stream) = TcpStream::connect(server).await else { continue };
                        count.fetch_add(1, Ordering::Relaxed);
                        let (read, write) = stream.into_split();
                        readers.spawn(back_by_tcp(read, front.clone(), client.clone()));
                        connections[way] = Some(write);
                    }
                    if let Some(write) = &mut connections[way]
                        && write.write_all(&framed(datagram)).await.is_err()
                    {
                        connections[way] = None;
                    }
                }
            }
        });
        Ok(Self { address, opened, _task: task })
    }

    fn light(&self) -> LightOptions {
        LightOptions { via: Some(self.address), ..LightOptions::default() }
    }
}

fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
}

async fn back_by_udp(back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: Arc<Mutex<SocketAddr>>) {
    let mut datagram = vec![0; 2_048];
    loop {
        let Ok(length) = back.recv(&mut datagram).await else { continue };
        let to = *client.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = front.send_to(&datagram[..length], to).await;
    }
}

async fn back_by_tcp(
    mut back: OwnedReadHalf,
    front: Arc<UdpSocket>,
    client: Arc<Mutex<SocketAddr>>,
) {
    let mut datagram = vec![0; 2_048];
    while let Ok(length) = back.read_u16().await {
        let datagram = &mut datagram[..usize::from(length)];
        if back.read_exact(datagram).await.is_err() {
            return;
        }
        let to = *client.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = front.send_to(datagram, to).await;
    }
}

/// Whichever shard a session is claimed by, connections come to it: also those that were on their
/// way to another one.
#[tokio::test]
async fn checks_over_udp_and_many_connections_at_once_lead_to_one_session() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = media_address(&server).await?;
    let over = |way: usize| {
        move |datagram: &[u8]| if is_stun(datagram) { Route::All } else { Route::One(way) }
    };
    let up = Bridge::start(address, over(1)).await?;
    let options = PublishOptions { light: up.light(), ..PublishOptions::default() };
    let _publisher = server.publish("ways", options).await?;
    let mut bridges = Vec::new();
    let mut viewers = Vec::new();
    for way in 0..Bridge::WAYS {
        let down = Bridge::start(address, over(way)).await?;
        let options = ViewOptions { light: down.light(), ..ViewOptions::default() };
        viewers.push(server.view("ways", options).await?);
        bridges.push(down);
    }
    for viewer in &viewers {
        received(viewer, Codec::H264, 200).await?;
    }
    open(&server, 4 * (viewers.len() as u64 + 1)).await?;
    for bridge in bridges.iter().chain([&up]) {
        let opened = bridge.opened.load(Ordering::Relaxed);
        assert_eq!(opened, Bridge::WAYS - 1, "none has been closed on the way");
    }
    let sessions = server.metric("millrace_shard_sessions").await?;
    assert_eq!(sessions as usize, viewers.len() + 1);
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_client_goes_over_to_tcp_and_back_in_mid_stream() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = media_address(&server).await?;
    let way = Arc::new(AtomicUsize::new(0));
    let now_on = way.clone();
    let route = move |_: &[u8]| Route::One(now_on.load(Ordering::Relaxed));
    let bridge = Bridge::start(address, route).await?;
    let _publisher = server.publish("changes", PublishOptions::default()).await?;
    let options = ViewOptions { light: bridge.light(), ..ViewOptions::default() };
    let viewer = server.view("changes", options).await?;
    let mut before = 0;
    for next in [0, 1, 2, 0, 1] {
        way.store(next, Ordering::Relaxed);
        // Its next check comes within two seconds.
        let packets = async || {
            let packets = viewer.summary_of(Codec::H264)?.received;
            (packets > before + 300).then_some(packets)
        };
        before = until("the picture goes on", packets).await?;
    }
    let sessions = server.metric("millrace_sessions").await?;
    assert_eq!(sessions as u64, 2, "they are the same sessions");
    server.assert_sound();
    Ok(())
}
