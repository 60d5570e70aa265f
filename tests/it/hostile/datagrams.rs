//! Malformed datagrams, as they are kept in `tests/data/hostile` and mutated.

use super::{Bystanders, Pace, corpus, mutate, overheard};
use crate::harness::{media_address, until};
use crate::relay::Dice;
use loadtest::whep::ViewOptions;
use tokio::net::UdpSocket;

const DATAGRAMS: &str = include_str!("../../data/hostile/datagrams.hex");

#[tokio::test]
async fn malformed_datagrams_harm_nobody() -> anyhow::Result<()> {
    let bystanders = Bystanders::start(&[]).await?;
    let address = media_address(&bystanders.server).await?;
    bystanders
        .survive(async |Bystanders { server, .. }, seed| {
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
    let bystanders = Bystanders::start(&[]).await?;
    let address = media_address(&bystanders.server).await?;
    bystanders
        .survive(async |Bystanders { server, .. }, seed| {
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
