//! Four shards on one port: the kernel spreads clients over them, and all are served alike.
//!
//! Which shard a datagram arrives at is the kernel's choice, by the client's address. So each of
//! these tests speaks from many addresses, and then asks the metrics whether shards were crossed.

use crate::harness::{Server, media_address, received, until};
use crate::spread::{Route, Spread, is_stun};
use loadtest::codec::Codec;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::PublishOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UdpSocket;

const CROSSED: &str = "millrace_datagrams_crossed_total";
const STRANGERS: &str = "millrace_datagrams_unknown_total";

async fn four_shards() -> anyhow::Result<Server> {
    Server::with(&[("server.shards", "4"), ("whip.grace_time_s", "1")]).await
}

/// A viewer has lost nothing of what it has been sent.
fn assert_whole(viewer: &WhepClient) {
    for stream in viewer.summary().values() {
        assert_eq!((stream.lost, stream.duplicates), (0, 0), "{stream:?}");
    }
}

#[tokio::test]
async fn publisher_and_viewers_are_spread_over_the_shards_and_nobody_misses_anything()
-> anyhow::Result<()> {
    let server = four_shards().await?;
    let publisher = server.publish("apart", PublishOptions::default()).await?;
    let mut viewers = Vec::new();
    for _ in 0..16 {
        viewers.push(server.view("apart", ViewOptions::default()).await?);
    }
    for viewer in &viewers {
        received(viewer, Codec::H264, 300).await?;
        received(viewer, Codec::Opus, 50).await?;
        assert_whole(viewer);
    }
    let shards = server.samples("millrace_shard_sessions").await?;
    let used = shards.iter().filter(|&&sessions| sessions > 0.0).count();
    assert_eq!((shards.len(), shards.iter().sum::<f64>()), (4, 17.0));
    assert!(used > 1, "seventeen clients are not all on one of four: {shards:?}");
    assert!(server.metric("millrace_packets_crossed_total").await? > 300.0);
    assert_eq!(server.metric("millrace_crossing_dropped_total").await? as u64, 0);
    let stream = server.stream("apart").await?.expect("it is live");
    assert_eq!(stream["viewers"].as_array().map(Vec::len), Some(16), "the API sees all shards");
    publisher.end().await?;
    let gone = async || server.metric("millrace_sessions").await.ok().filter(|&all| all == 0.0);
    until("all sessions have ended", gone).await?;
    server.assert_sound();
    Ok(())
}

/// All addresses are checked, as a browser checks its pairs; everything else comes from another
/// one every few packets.
#[tokio::test]
async fn claim_handshake_and_media_may_arrive_at_different_shards() -> anyhow::Result<()> {
    let server = four_shards().await?;
    let address = media_address(&server).await?;
    let wander = || {
        let mut count = 0;
        move |datagram: &[u8]| {
            count += 1;
            if is_stun(datagram) { Route::All } else { Route::One(count / 8 % Spread::ADDRESSES) }
        }
    };
    let up = Spread::start(address, wander()).await?;
    let options = PublishOptions { light: up.light(), ..PublishOptions::default() };
    let _publisher = server.publish("wanders", options).await?;
    let mut ways = Vec::new();
    let mut viewers = Vec::new();
    for _ in 0..4 {
        let down = Spread::start(address, wander()).await?;
        let options = ViewOptions { light: down.light(), ..ViewOptions::default() };
        viewers.push(server.view("wanders", options).await?);
        ways.push(down);
    }
    let steady = server.view("wanders", ViewOptions::default()).await?;
    received(&steady, Codec::H264, 600).await?;
    for viewer in &viewers {
        received(viewer, Codec::H264, 300).await?;
    }
    // What overtakes on the way in comes out as it came; what is asked for again too early, twice.
    assert!(steady.summary().values().all(|stream| stream.lost == 0), "{:?}", steady.summary());
    let crossed = server.metric(CROSSED).await?;
    assert!(crossed > 100.0, "{crossed} datagrams of hundreds from a dozen addresses");
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_client_whose_address_changes_in_mid_stream_goes_on_at_whichever_shard()
-> anyhow::Result<()> {
    let server = four_shards().await?;
    let address = media_address(&server).await?;
    let place = Arc::new(AtomicUsize::new(0));
    let now_at = place.clone();
    let route = move |_: &[u8]| Route::One(now_at.load(Ordering::Relaxed));
    let way = Spread::start(address, route).await?;
    let options = PublishOptions { light: way.light(), ..PublishOptions::default() };
    let _publisher = server.publish("moves", options).await?;
    let viewer = server.view("moves", ViewOptions::default()).await?;
    let mut before = 0;
    for rebind in 0..4 {
        place.store(rebind * 3, Ordering::Relaxed);
        // Its next check comes within two seconds; until then its packets are a stranger's.
        let frames = async || {
            let frames = viewer.summary_of(Codec::H264)?.received;
            (frames > before + 200).then_some(frames)
        };
        before = until("the picture goes on", frames).await?;
    }
    let sessions = server.metric("millrace_sessions").await?;
    assert_eq!(sessions as u64, 2, "they are the same sessions");
    server.assert_sound();
    Ok(())
}

/// A viewer's address changes. Until its next check its reports come from nobody's address, and
/// media goes where it went; then media goes where the check came from, whichever shard hears it.
#[tokio::test]
async fn media_follows_a_viewer_to_another_address_when_it_is_checked_and_not_before()
-> anyhow::Result<()> {
    let server = four_shards().await?;
    let address = media_address(&server).await?;
    let _publisher = server.publish("moves", PublishOptions::default()).await?;
    let place = Arc::new(AtomicUsize::new(0));
    let checks = Arc::new(AtomicUsize::new(0));
    let (now_at, checked_at) = (place.clone(), checks.clone());
    let route = move |datagram: &[u8]| {
        let place = if is_stun(datagram) { &checked_at } else { &now_at };
        Route::One(place.load(Ordering::Relaxed))
    };
    let way = Spread::start(address, route).await?;
    let options = ViewOptions { light: way.light(), ..ViewOptions::default() };
    let viewer = server.view("moves", options).await?;
    for (from, to) in [(0, 5), (5, 9), (9, 0)] {
        // Everything but its checks comes from the new address.
        place.store(to, Ordering::Relaxed);
        let (before, strangers) = (way.received(from), server.metric(STRANGERS).await?);
        let ignored = async || {
            let more = server.metric(STRANGERS).await.ok()? > strangers;
            // An address that it was checked at before is its own; others are strangers'.
            ((more || to == 0) && way.received(from) > before + 200).then_some(())
        };
        until("media goes on to where it was checked", ignored).await?;
        let elsewhere = way.received(to);
        checks.store(to, Ordering::Relaxed);
        let moved = async || (way.received(to) > elsewhere + 200).then_some(());
        until("media follows the check", moved).await?;
        let left = way.received(from);
        let elsewhere = way.received(to);
        let more = async || (way.received(to) > elsewhere + 100).then_some(());
        until("media stays there", more).await?;
        // What was under way when it moved may still have come.
        assert!(way.received(from) <= left + 20, "{} more", way.received(from) - left);
    }
    assert_eq!(server.metric("millrace_sessions").await? as u64, 2, "they are the same sessions");
    let before = viewer.summary_of(Codec::H264).map_or(0, |stream| stream.received);
    received(&viewer, Codec::H264, before + 100).await?;
    server.assert_sound();
    Ok(())
}

/// Twice as many strangers' datagrams as a socket's buffer takes, while a publisher sends.
#[tokio::test]
async fn a_flood_of_strangers_costs_the_publisher_nothing() -> anyhow::Result<()> {
    let server = four_shards().await?;
    let address = media_address(&server).await?;
    let _publisher = server.publish("flooded", PublishOptions::default()).await?;
    let viewer = server.view("flooded", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 50).await?;
    let stranger = UdpSocket::bind("127.0.0.1:0").await?;
    let kinds: [&[u8]; 4] = [&[0; 1_200], &[22; 1_200], &[0x80; 1_200], &[0xff; 1_200]];
    for number in 0..20_000 {
        let _ = stranger.send_to(kinds[number % 4], address).await;
    }
    received(&viewer, Codec::H264, 400).await?;
    let stream = server.stream("flooded").await?.expect("it is live");
    for track in stream["tracks"].as_array().expect("tracks") {
        assert_eq!(track["lost_packets"], 0, "{stream}");
    }
    assert_whole(&viewer);
    server.assert_sound();
    Ok(())
}
