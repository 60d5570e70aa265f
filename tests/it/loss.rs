//! Handshakes over paths that lose datagrams, and media that is repaired.

use crate::harness::{SOON, Server, media_address, received};
use crate::relay::{Dice, Relay, Way};
use anyhow::Context;
use loadtest::codec::Codec;
use loadtest::light::{LightOptions, LightPeer, Offer, Setup};
use loadtest::whep::ViewOptions;
use loadtest::whip::PublishOptions;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// First bytes of DTLS records (RFC 7983 §7).
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Connects one client through a relay: a viewer of `live`, or a publisher of a stream of its own.
async fn connect(
    server: Arc<Server>,
    via: SocketAddr,
    number: usize,
    setup: Setup,
) -> anyhow::Result<()> {
    let options = LightOptions { via: Some(via), ..LightOptions::default() };
    let (client, url, offer) = if number.is_multiple_of(3) {
        let url = server.whip(&format!("lossy-{number}"));
        (server.publisher(), url, Offer::publish(Codec::H264))
    } else {
        (server.client(None), server.whep("live"), Offer::view())
    };
    let mut peer = LightPeer::start(&client, &url, offer.setup(setup), options).await?;
    peer.connected(SOON).await.with_context(|| format!("client {number}, {setup:?}"))?;
    Ok(())
}

#[tokio::test]
async fn all_handshakes_complete_at_fifteen_percent_loss_each_way() -> anyhow::Result<()> {
    let server = Arc::new(Server::start().await?);
    let address = media_address(&server).await?;
    let _publisher = server.publish("live", PublishOptions::default()).await?;
    let _viewer = server.view("live", ViewOptions::default()).await?;
    let mut clients = JoinSet::new();
    let mut relays = Vec::new();
    for number in 0..24 {
        let mut dice = Dice::seeded(number as u64 + 1);
        let relay = Relay::start(address, move |_, _| dice.percent(15)).await?;
        let setup = if number % 2 == 0 { Setup::Active } else { Setup::Passive };
        clients.spawn(connect(server.clone(), relay.address, number, setup));
        relays.push(relay);
    }
    let failed: Vec<String> = clients
        .join_all()
        .await
        .into_iter()
        .filter_map(|result| result.err().map(|error| format!("{error:#}")))
        .collect();
    assert_eq!(failed, Vec::<String>::new());
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn every_dtls_datagram_may_be_lost_once_in_each_role() -> anyhow::Result<()> {
    let server = Arc::new(Server::start().await?);
    let address = media_address(&server).await?;
    let _publisher = server.publish("live", PublishOptions::default()).await?;
    let _viewer = server.view("live", ViewOptions::default()).await?;
    let mut clients = JoinSet::new();
    let mut relays = Vec::new();
    let mut number = 0;
    for setup in [Setup::Active, Setup::Passive] {
        for way in [Way::Up, Way::Down] {
            for dropped in 0..5 {
                let mut seen = 0;
                let lost = move |going: Way, datagram: &[u8]| {
                    let counts = going == way && is_dtls(datagram);
                    seen += usize::from(counts);
                    counts && seen == dropped + 1
                };
                let relay = Relay::start(address, lost).await?;
                clients.spawn(connect(server.clone(), relay.address, number, setup));
                relays.push(relay);
                number += 1;
            }
        }
    }
    let failed: Vec<String> = clients
        .join_all()
        .await
        .into_iter()
        .filter_map(|result| result.err().map(|error| format!("{error:#}")))
        .collect();
    assert_eq!(failed, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_viewer_behind_a_lossy_link_misses_nothing_in_the_end() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = media_address(&server).await?;
    let _publisher = server.publish("live", PublishOptions::default()).await?;
    let dropping = Arc::new(Mutex::new(0_u32));
    let counter = dropping.clone();
    let mut dice = Dice::seeded(5);
    // Media down only: every lost packet must come again by RTX.
    let relay = Relay::start(address, move |way, datagram| {
        let media = matches!(datagram.first(), Some(128..=191));
        let lost = way == Way::Down && media && dice.percent(5);
        if lost && let Ok(mut count) = counter.lock() {
            *count += 1;
        }
        lost
    })
    .await?;
    let light = LightOptions { via: Some(relay.address), ..LightOptions::default() };
    let viewer = server.view("live", ViewOptions { light, ..ViewOptions::default() }).await?;
    received(&viewer, Codec::H264, 500).await?;
    let lost = dropping.lock().map_or(0, |count| *count);
    assert!(lost >= 10, "the relay dropped only {lost}");
    let payload_type = viewer.answer.payload_type(Codec::H264).context("H.264")?;
    let whole = |log: &loadtest::whep::ViewLog| {
        let summary = log.probe.summary();
        let video = summary.values().find(|stream| stream.payload_type == payload_type)?;
        (video.recovered > 0 && log.probe.missing(video.ssrc).len() <= 1).then_some(())
    };
    viewer.log().wait(SOON, "holes are filled", whole).await
}
