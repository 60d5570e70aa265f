//! Malformed SDP and HTTP.

use super::{Bystanders, mutate};
use crate::relay::Dice;
use anyhow::Context;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUESTS: &str = include_str!("../../data/hostile/http.txt");

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
        if lines.is_empty() {
            break;
        }
        let count = lines.len() as u64;
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
    let bystanders = Bystanders::start(&[("limits.handshake_timeout_s", "2")]).await?;
    let offers = offers()?;
    bystanders
        .survive(async |Bystanders { server, .. }, seed| {
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
    let bystanders = Bystanders::start(&[("limits.http_request_timeout_s", "1")]).await?;
    let requests: Vec<String> = REQUESTS
        .split("=====\n")
        .map(|request| request.lines().filter(|line| !line.starts_with('#')))
        .map(|lines| lines.fold(String::new(), |all, line| all + line + "\r\n"))
        .collect();
    bystanders
        .survive(async |Bystanders { server, .. }, seed| {
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
