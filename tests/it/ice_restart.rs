//! New ICE credentials in mid-stream (RFC 9725 §4.3.3, RFC 8445 §9): media goes on, and a client
//! that has not got the answer yet is heard as before.

use crate::harness::{Server, media_address, received, until};
use crate::spread::{Route, Spread};
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::http::Signaling;
use loadtest::light::LightSender;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::PublishOptions;
use reqwest::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What a client calls itself after its restart of this number.
fn own(number: usize) -> (String, String) {
    (format!("again{number}"), format!("password-of-restart-{number:04}").replace('-', "+"))
}

/// What the server says to a restart.
struct Restarted {
    remote: (String, String),
    etag: String,
}

async fn patch(
    client: &Signaling,
    url: &str,
    if_match: Option<&str>,
    fragment: &str,
) -> anyhow::Result<reqwest::Response> {
    let request = client
        .request(Method::PATCH, url)
        .header("content-type", "application/trickle-ice-sdpfrag")
        .body(fragment.to_owned());
    let request = match if_match {
        Some(tags) => request.header("if-match", tags),
        None => request,
    };
    Ok(request.send().await?)
}

/// Asks the server for new credentials.
async fn ask(client: &Signaling, url: &str, number: usize) -> anyhow::Result<Restarted> {
    let (ufrag, password) = own(number);
    let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
    let answer = patch(client, url, Some("*"), &fragment).await?;
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["content-type"], "application/trickle-ice-sdpfrag");
    let etag = answer.headers().get("etag").context("a new ICE session has a new tag")?;
    let etag = etag.to_str()?.to_owned();
    let text = answer.text().await?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("a={name}:")));
        line.map(str::to_owned).with_context(|| format!("{name} in {text}"))
    };
    value("candidate")?;
    Ok(Restarted { remote: (value("ice-ufrag")?, value("ice-pwd")?), etag })
}

/// Uses them.
fn renew(sender: &LightSender, number: usize, restarted: &Restarted) {
    let remote = restarted.remote.clone();
    sender.with_agent(|agent| agent.restart_ice(own(number), remote, Instant::now()));
}

/// Waits until one more check has been answered.
async fn checked(sender: &LightSender) -> anyhow::Result<()> {
    let before = sender.counters().answered_checks;
    let answered = async || (sender.counters().answered_checks > before).then_some(());
    until("a check is answered", answered).await
}

/// Waits until the picture has gone on by so many packets, none of them lost.
async fn goes_on(viewer: &WhepClient) -> anyhow::Result<()> {
    let before = viewer.summary_of(Codec::H264).map_or(0, |stream| stream.received);
    received(viewer, Codec::H264, before + 150).await?;
    for stream in viewer.summary().values() {
        assert_eq!((stream.lost, stream.duplicates), (0, 0), "{stream:?}");
    }
    Ok(())
}

#[tokio::test]
async fn publisher_and_viewer_restart_ice_in_mid_stream_and_nothing_is_lost() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    received(&viewer, Codec::H264, 100).await?;
    for (client, url, sender) in [
        (server.publisher(), publisher.session_url(), publisher.sender()),
        (server.client(None), viewer.session_url(), viewer.sender()),
    ] {
        // Twice, as if the first answer had been lost on its way.
        let lost = ask(&client, url, 1).await?;
        let restarted = ask(&client, url, 2).await?;
        assert_ne!((&lost.remote, &lost.etag), (&restarted.remote, &restarted.etag));
        checked(sender).await.context("with the credentials of the offer")?;
        goes_on(&viewer).await?;
        renew(sender, 2, &restarted);
        checked(sender).await.context("with the new ones")?;
        goes_on(&viewer).await?;
        let again = ask(&client, url, 3).await?;
        renew(sender, 3, &again);
        checked(sender).await.context("and once more")?;
        goes_on(&viewer).await?;
    }
    assert_eq!(server.metric("millrace_sessions").await? as u64, 2, "they are the same sessions");
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn the_entity_tag_names_the_ice_session_and_a_refusal_changes_nothing() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = server.view("a", ViewOptions::default()).await?;
    let (client, url) = (server.client(None), viewer.session_url());
    let first = ask(&client, url, 1).await?;
    let second = ask(&client, url, 2).await?;
    renew(viewer.sender(), 2, &second);
    let (ufrag, password) = own(2);
    let credentials = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
    let candidate = "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n";
    let trickle = format!("{credentials}{candidate}");
    let half = "a=ice-ufrag:other\r\n";
    let weak = format!("W/{}", second.etag);
    for (if_match, fragment, status) in [
        (Some(second.etag.as_str()), trickle.as_str(), 204),
        (Some(first.etag.as_str()), &trickle, 412),
        (Some(&weak), &trickle, 412),
        (None, &trickle, 428),
        (Some("*"), half, 400),
        (Some("*"), "hello", 400),
    ] {
        let answer = patch(&client, url, if_match, fragment).await?;
        assert_eq!(answer.status().as_u16(), status, "{if_match:?} {fragment}");
        assert!(answer.headers().get("etag").is_none(), "RFC 9725 §4.3.2");
    }
    checked(viewer.sender()).await?;
    goes_on(&viewer).await?;
    let url = url.to_owned();
    viewer.end().await?;
    let answer = patch(&client, &url, Some("*"), &trickle).await?;
    assert_eq!(answer.status().as_u16(), 404);
    Ok(())
}

/// The client has changed networks, which is what ICE restarts are for.
#[tokio::test]
async fn a_restart_may_come_from_addresses_that_other_shards_hear() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let address = media_address(&server).await?;
    let place = Arc::new(AtomicUsize::new(0));
    let now_at = place.clone();
    let way = Spread::start(address, move |_| Route::One(now_at.load(Ordering::Relaxed))).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let options = ViewOptions { light: way.light(), ..ViewOptions::default() };
    let viewer = server.view("a", options).await?;
    received(&viewer, Codec::H264, 100).await?;
    let client = server.client(None);
    for number in 1..5 {
        let restarted = ask(&client, viewer.session_url(), number).await?;
        place.store(number, Ordering::Relaxed);
        let before = way.received(number);
        // Its old credentials are good there, too.
        if number == 4 {
            checked(viewer.sender()).await.context("with the old credentials")?;
        }
        renew(viewer.sender(), number, &restarted);
        checked(viewer.sender()).await?;
        let follows = async || (way.received(number) > before + 200).then_some(());
        until("media follows", follows).await?;
    }
    assert_eq!(server.metric("millrace_sessions").await? as u64, 2, "they are the same sessions");
    server.assert_sound();
    Ok(())
}
