//! DTLS handshakes in pieces: in any order, overlapping, repeated, never completed.

use super::Bystanders;
use crate::harness::{media_address, received, until};
use crate::relay::{Dice, Relay, Way};
use loadtest::codec::Codec;
use loadtest::light::{LightOptions, LightPeer, Offer};
use loadtest::whep::ViewOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes before a record's body (RFC 6347 §4.1), and before a fragment's within it (§4.2.2).
const RECORD: usize = 13;
const FRAGMENT: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// What becomes of a client's handshake messages on their way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// They arrive in pieces.
    Pieces,
    /// The same, but for the last byte of each.
    Unfinished,
}

/// A big-endian number of a few bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// The records of a datagram.
fn records(mut datagram: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while datagram.len() >= RECORD {
        let end = (RECORD + number(&datagram[11..RECORD])).min(datagram.len());
        let (record, rest) = datagram.split_at(end);
        records.push(record);
        datagram = rest;
    }
    records
}

/// Cuts handshake messages into pieces of a few bytes, in records and datagrams of their own.
struct Shredder {
    fate: Fate,
    dice: Dice,
    /// The number of the next record.
    next: u64,
}

impl Shredder {
    fn shred(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let (mut pieces, mut others) = (Vec::new(), Vec::new());
        for record in records(datagram) {
            let is_plain = record[0] == HANDSHAKE && record[3..5] == [0, 0];
            if is_plain && record.len() > RECORD + FRAGMENT {
                self.cut(&record[RECORD..], &mut pieces);
            } else {
                others.push(record.to_vec());
            }
        }
        for at in (1..pieces.len()).rev() {
            pieces.swap(at, self.dice.roll(at as u64 + 1) as usize);
        }
        pieces.extend(others);
        pieces
    }

    /// One fragment, which usually is a whole message, into many that overlap.
    fn cut(&mut self, fragment: &[u8], pieces: &mut Vec<Vec<u8>>) {
        let (header, body) = fragment.split_at(FRAGMENT);
        let offset = number(&header[6..9]);
        let end = body.len() - usize::from(self.fate == Fate::Unfinished);
        // Of one address no more than 16 datagrams wait, and a later flight has three messages.
        let step = body.len().div_ceil(if header[0] == CLIENT_HELLO { 12 } else { 3 });
        for start in (0..end).step_by(step) {
            let from = start.saturating_sub(self.dice.roll(4) as usize);
            let to = (start + step + self.dice.roll(4) as usize).min(end);
            let mut record = vec![HANDSHAKE, 0xfe, 0xfd, 0, 0];
            record.extend(&self.next.to_be_bytes()[2..]);
            self.next += 1;
            record.extend(((FRAGMENT + to - from) as u16).to_be_bytes());
            record.extend(&header[..6]);
            record.extend(&((offset + from) as u32).to_be_bytes()[1..]);
            record.extend(&((to - from) as u32).to_be_bytes()[1..]);
            record.extend(&body[from..to]);
            for _ in 0..=u8::from(self.dice.percent(20)) {
                pieces.push(record.clone());
            }
        }
    }
}

fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// A viewer's way to the server on which its handshake is cut; counts the pieces.
async fn shredding(
    bystanders: &Bystanders,
    fate: Fate,
    seed: u64,
    count: Arc<AtomicUsize>,
) -> anyhow::Result<Relay> {
    let server = media_address(&bystanders.server).await?;
    let mut shredder = Shredder { fate, dice: Dice::seeded(seed), next: 0 };
    let change = move |way, datagram: &[u8]| {
        if way == Way::Down || !is_dtls(datagram) {
            return vec![datagram.to_vec()];
        }
        let pieces = shredder.shred(datagram);
        count.fetch_add(pieces.len(), Ordering::Relaxed);
        pieces
    };
    Ok(Relay::changing(server, change).await?)
}

fn by(relay: &Relay) -> LightOptions {
    LightOptions { via: Some(relay.address), ..LightOptions::default() }
}

#[tokio::test]
async fn a_handshake_in_overlapping_pieces_in_any_order_is_completed() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |bystanders, seed| {
            for round in 0..8 {
                let pieces = Arc::new(AtomicUsize::new(0));
                let way =
                    shredding(bystanders, Fate::Pieces, seed * 100 + round, pieces.clone()).await?;
                let options = ViewOptions { light: by(&way), ..ViewOptions::default() };
                let viewer = bystanders.server.view("live", options).await?;
                received(&viewer, Codec::H264, 10).await?;
                assert!(pieces.load(Ordering::Relaxed) > 30, "{pieces:?}");
                viewer.end().await?;
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn thousands_of_pieces_of_hellos_that_are_never_completed_harm_nobody() -> anyhow::Result<()>
{
    Bystanders::start(&[("limits.handshake_timeout_s", "3")])
        .await?
        .survive(async |bystanders, seed| {
            let pieces = Arc::new(AtomicUsize::new(0));
            let (mut peers, mut ways) = (Vec::new(), Vec::new());
            for number in 0..60 {
                let seed = seed * 100 + number;
                let way = shredding(bystanders, Fate::Unfinished, seed, pieces.clone()).await?;
                let (client, url) =
                    (bystanders.server.client(None), bystanders.server.whep("live"));
                peers.push(LightPeer::start(&client, &url, Offer::view(), by(&way)).await?);
                ways.push(way);
            }
            let server = &bystanders.server;
            let ended = async || {
                let left = server.metric("millrace_sessions").await.ok()?;
                // The bystanders.
                (left < 6.0).then_some(())
            };
            until("they are given up", ended).await?;
            assert!(peers.iter().all(|peer| !peer.sender().is_connected()));
            assert!(pieces.load(Ordering::Relaxed) > 4_000, "{pieces:?}");
            Ok(())
        })
        .await
}

/// All that a client has sent of DTLS so far comes again and again, in and after its handshake.
#[tokio::test]
async fn replayed_handshake_datagrams_harm_nobody_and_get_few_answers() -> anyhow::Result<()> {
    Bystanders::start(&[])
        .await?
        .survive(async |bystanders, seed| {
            let server = media_address(&bystanders.server).await?;
            let (replayed, answers) =
                (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (count, answered) = (replayed.clone(), answers.clone());
            let (mut heard, mut dice) = (Vec::<Vec<u8>>::new(), Dice::seeded(seed));
            let change = move |way, datagram: &[u8]| {
                let mut all = vec![datagram.to_vec()];
                match way {
                    Way::Down => {
                        answered.fetch_add(usize::from(is_dtls(datagram)), Ordering::Relaxed);
                    }
                    Way::Up if is_dtls(datagram) => {
                        heard.push(datagram.to_vec());
                        all.extend(heard.iter().cloned());
                    }
                    // With each check and each report.
                    Way::Up => {
                        for _ in 0..100 {
                            let which = dice.roll(heard.len() as u64) as usize;
                            all.extend(heard.get(which).cloned());
                        }
                    }
                }
                count.fetch_add(all.len() - 1, Ordering::Relaxed);
                all
            };
            let way = Relay::changing(server, change).await?;
            let options = ViewOptions { light: by(&way), ..ViewOptions::default() };
            let viewer = bystanders.server.view("live", options).await?;
            received(&viewer, Codec::H264, 10).await?;
            let enough = || (replayed.load(Ordering::Relaxed) > 400).then_some(());
            until("hundreds are replayed", async || enough()).await?;
            let before = viewer.summary_of(Codec::H264).map_or(0, |video| video.received);
            received(&viewer, Codec::H264, before + 30).await?;
            let (answers, replayed) = (answers.load(Ordering::Relaxed), &replayed);
            assert!(answers < 60, "{answers} datagrams for {replayed:?} replayed");
            viewer.end().await?;
            Ok(())
        })
        .await
}
