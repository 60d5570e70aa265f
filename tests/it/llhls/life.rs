//! Beginnings, ends, and who is refused.

use super::{index, publish, push, video};
use crate::harness::{Server, until};
use anyhow::Context as _;
use loadtest::codec::Codec;
use loadtest::hls::playlist::{MediaPlaylist, Multivariant};
use loadtest::http::Signaling;
use loadtest::source::{Rhythm, VideoSettings};
use reqwest::Method;

/// Status and text.
async fn get(client: &Signaling, url: &str) -> anyhow::Result<(u16, String)> {
    let answer = client.request(Method::GET, url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// The playlist, once it is as it is wanted.
async fn playlist(
    server: &Server,
    stream: &str,
    what: &str,
    wanted: impl Fn(&MediaPlaylist) -> bool,
) -> anyhow::Result<MediaPlaylist> {
    let (client, url) = (server.client(None), server.url(&format!("/hls/{stream}/video.m3u8")));
    until(what, async || {
        let (status, text) = get(&client, &url).await.ok()?;
        let read = MediaPlaylist::read(text.as_bytes()).ok().filter(|_| status == 200)?;
        wanted(&read).then_some(read)
    })
    .await
}

/// The multivariant playlist.
async fn multivariant(server: &Server, stream: &str) -> anyhow::Result<Multivariant> {
    let client = server.client(None);
    let text = until("the stream is packaged", async || {
        let (status, text) = get(&client, &index(server, stream)).await.ok()?;
        (status == 200).then_some(text)
    });
    Multivariant::read(text.await?.as_bytes()).context("a multivariant playlist")
}

#[tokio::test]
async fn a_publisher_that_returns_is_a_discontinuity() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = push(&server, "back", video(25, Rhythm::Even)).await?;
    multivariant(&server, "back").await?;
    let before = playlist(&server, "back", "parts", |it| !it.segments.is_empty()).await?;
    publisher.end().await;
    let publisher = push(&server, "back", video(25, Rhythm::Even)).await?;
    let is_back = |it: &MediaPlaylist| it.segments.iter().any(|segment| segment.discontinuity);
    let after = playlist(&server, "back", "a discontinuity", is_back).await?;
    let at = after.segments.iter().position(|segment| segment.discontinuity).context("one")?;
    let maps = after.segments.get(at.saturating_sub(1)).zip(after.segments.get(at));
    let (old, new) = maps.context("two segments")?;
    assert_ne!(old.map, new.map, "names are made anew");
    assert!(new.msn > before.segments[0].msn, "numbers go on");
    publisher.end().await;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_publisher_that_stays_away_is_the_end() -> anyhow::Result<()> {
    let server = Server::with(&[("whip.grace_time_s", "1")]).await?;
    let publisher = push(&server, "over", video(25, Rhythm::Even)).await?;
    multivariant(&server, "over").await?;
    playlist(&server, "over", "parts", |it| !it.segments.is_empty()).await?;
    publisher.end().await;
    playlist(&server, "over", "the end", |it| it.ended).await?;
    Ok(())
}

#[tokio::test]
async fn sound_alone_and_a_picture_alone_are_played() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let heard = publish(&server, "heard", None, true).await?;
    let seen = publish(&server, "seen", Some(video(30, Rhythm::Even)), false).await?;
    let sound = multivariant(&server, "heard").await?;
    assert_eq!(sound.variants[0].codecs, ["opus"]);
    let picture = multivariant(&server, "seen").await?;
    assert!(picture.variants[0].codecs.iter().all(|codec| codec.starts_with("avc1")));
    assert_eq!((picture.variants.len(), picture.media.len()), (1, 0));
    heard.end().await?;
    seen.end().await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_packaged_is_refused_with_the_reason() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let video = VideoSettings { codec: Codec::Vp8, ..VideoSettings::default() };
    let publisher = publish(&server, "vp8", Some(video), false).await?;
    let (client, url) = (server.client(None), index(&server, "vp8"));
    let text = until("a refusal", async || {
        let (status, text) = get(&client, &url).await.ok()?;
        (status == 406).then_some(text)
    });
    assert!(text.await?.to_lowercase().contains("vp8"));
    assert_eq!(get(&client, &index(&server, "nobody")).await?.0, 404);
    publisher.end().await?;
    // Whoever comes next is not refused for it.
    let publisher = push(&server, "vp8", self::video(25, Rhythm::Even)).await?;
    multivariant(&server, "vp8").await?;
    publisher.end().await;
    Ok(())
}

#[tokio::test]
async fn who_stops_asking_stops_the_packaging() -> anyhow::Result<()> {
    let server = Server::with(&[("hls.idle_timeout_s", "5")]).await?;
    let publisher = push(&server, "idle", video(25, Rhythm::Even)).await?;
    multivariant(&server, "idle").await?;
    server.said(&["no longer packaged", "stream=idle"]).await?;
    multivariant(&server, "idle").await?;
    publisher.end().await;
    Ok(())
}

#[tokio::test]
async fn a_token_goes_on_in_the_playlists() -> anyhow::Result<()> {
    let server = Server::with(&[("auth.view_tokens", "secret=watch-this-if-you-may")]).await?;
    let publisher = push(&server, "secret", video(25, Rhythm::Even)).await?;
    let client = server.client(None);
    let url = index(&server, "secret");
    assert_eq!(get(&client, &url).await?.0, 401);
    let text = until("it is packaged", async || {
        let (status, text) =
            get(&client, &format!("{url}?token=watch-this-if-you-may")).await.ok()?;
        (status == 200).then_some(text)
    });
    let text = text.await?;
    let master = Multivariant::read(text.as_bytes())?;
    assert!(
        master.variants.iter().all(|it| it.uri.ends_with("?token=watch-this-if-you-may")),
        "{text}"
    );
    let media = server.url(&format!("/hls/secret/{}", master.variants[0].uri));
    let (_, text) = get(&client, &media).await?;
    let read = MediaPlaylist::read(text.as_bytes())?;
    let mut parts = read.segments.iter().flat_map(|segment| &segment.parts);
    assert!(parts.all(|part| part.uri.ends_with("?token=watch-this-if-you-may")), "{text}");
    publisher.end().await;
    Ok(())
}
