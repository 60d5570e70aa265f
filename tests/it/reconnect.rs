//! A publisher that drops is not a dropped audience: who publishes next goes on in the viewers'
//! sessions, and they are told of it by events.

use crate::harness::{SOON, Server, received, until};
use anyhow::Context as _;
use loadtest::codec::{Codec, Kind};
use loadtest::light::{Offer, Section};
use loadtest::source::VideoSettings;
use loadtest::watched::Watched;
use loadtest::whep::{ViewLog, ViewOptions, WhepClient};
use loadtest::whip::{PublishLog, PublishOptions, WhipClient};
use rtc_rtcp::sender_report::SenderReport;
use std::sync::Arc;
use std::time::Duration;

/// A viewer's open stream of events.
struct Events {
    text: Arc<Watched<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Events {
    async fn of(server: &Server, viewer: &WhepClient) -> anyhow::Result<Self> {
        Self::at(server, viewer.session_url()).await
    }

    async fn at(server: &Server, session_url: &str) -> anyhow::Result<Self> {
        Self::choosing(server, session_url, "active,inactive,reconnect").await
    }

    async fn choosing(server: &Server, session_url: &str, types: &str) -> anyhow::Result<Self> {
        let url = format!("{session_url}/events?types={types}");
        let mut response = server.client(None).request(reqwest::Method::GET, &url).send().await?;
        anyhow::ensure!(response.status().is_success(), "{}", response.status());
        let text = Arc::new(Watched::new(String::new()));
        let seen = Arc::clone(&text);
        let task = tokio::spawn(async move {
            while let Ok(Some(bytes)) = response.chunk().await {
                seen.update(|text| text.push_str(&String::from_utf8_lossy(&bytes)));
            }
        });
        Ok(Self { text, task })
    }

    /// Waits until these are all events so far, in order.
    async fn are(&self, names: &[&str]) -> anyhow::Result<()> {
        let wanted: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let same = |text: &String| {
            let names = text.lines().filter_map(|line| line.strip_prefix("event: "));
            names.eq(wanted.iter().map(String::as_str)).then_some(())
        };
        let waited = self.text.wait(SOON, &format!("the events {names:?}"), same).await;
        waited.with_context(|| self.text.read(Clone::clone))
    }

    /// The data of the events so far.
    fn data(text: &str) -> Vec<serde_json::Value> {
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str(data).ok()).collect()
    }

    /// Waits for its end.
    async fn ended(self) -> anyhow::Result<()> {
        Ok(tokio::time::timeout(SOON, self.task).await.context("the events end")??)
    }
}

fn video(codec: Codec) -> PublishOptions {
    let video = VideoSettings { codec, ..VideoSettings::default() };
    PublishOptions { video: Some(video), ..PublishOptions::default() }
}

/// What a viewer got of each stream has one numbering without a gap, and timestamps that rise.
fn assert_unbroken(viewer: &WhepClient) {
    let summaries = viewer.summary();
    assert_eq!(summaries.len(), 2, "one SSRC for sound and one for pictures, all the time");
    for (ssrc, summary) in summaries {
        assert_eq!((summary.lost, summary.duplicates), (0, 0), "{ssrc}: {summary:?}");
        let mut times = viewer.log().read(|log| {
            let of_it = log.received.iter().filter(|it| it.packet.header.ssrc == ssrc);
            let header = of_it.map(|it| (it.packet.header.sequence_number, &it.packet.header));
            header.map(|(number, header)| (number, header.timestamp)).collect::<Vec<_>>()
        });
        assert!(times.len() > 50, "{ssrc}: {}", times.len());
        let first = times[0].0;
        times.sort_by_key(|(number, _)| number.wrapping_sub(first).cast_signed());
        for pair in times.windows(2) {
            let step = pair[1].1.wrapping_sub(pair[0].1);
            assert!(step < 1 << 31, "{ssrc}: {pair:?}");
        }
    }
}

async fn viewer(server: &Server) -> anyhow::Result<WhepClient> {
    server.view("a", ViewOptions { keep: 20_000, ..ViewOptions::default() }).await
}

async fn is_over(publisher: &WhipClient) -> anyhow::Result<()> {
    let over = |log: &PublishLog| log.closed.clone().map(drop);
    publisher.log().wait(SOON, "the publisher before is told that it is over", over).await
}

#[tokio::test]
async fn the_same_token_takes_the_stream_over_in_other_codecs_and_the_viewers_go_on()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut publisher = server.publish("a", video(Codec::H264)).await?;
    let mut viewers = Vec::new();
    for _ in 0..6 {
        viewers.push(viewer(&server).await?);
    }
    for viewer in &viewers {
        received(viewer, Codec::H264, 60).await?;
    }
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264] {
        let next = server.publish("a", video(codec)).await?;
        is_over(&std::mem::replace(&mut publisher, next)).await?;
        for viewer in &viewers {
            let before = viewer.log().read(|log| log.received.len());
            let payload_type = viewer.answer.payload_type(codec).context("agreed")?;
            let goes_on = |log: &ViewLog| {
                let new = log.received.iter().skip(before);
                let new = new.filter(|it| it.packet.header.payload_type == payload_type);
                (new.count() >= 60).then_some(())
            };
            viewer.log().wait(SOON, &format!("{codec} flows"), goes_on).await?;
        }
    }
    for viewer in &viewers {
        assert_unbroken(viewer);
        assert!(viewer.log().read(|log| log.closed.is_none()));
    }
    let ended = server.metric("millrace_sessions_ended_total").await? as u64;
    assert_eq!(ended, 4, "the publishers only");
    server.said(&["session ended", "publisher", "the same token publishes anew"]).await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_publisher_that_vanished_comes_back_with_other_tracks_and_viewers_are_told()
-> anyhow::Result<()> {
    let server = Server::with(&[("limits.publisher_silence_timeout_s", "1")]).await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = viewer(&server).await?;
    received(&viewer, Codec::H264, 60).await?;
    let events = Events::of(&server, &viewer).await?;
    events.are(&["active"]).await?;
    drop(publisher);
    events.are(&["active", "inactive"]).await?;
    let waiting = server.stream("a").await?.context("the stream waits")?;
    assert!(waiting["publisher"].is_null(), "{waiting}");
    assert_eq!(waiting["viewers"].as_array().map(Vec::len), Some(1));
    // Who comes meanwhile is served too.
    let late = server.view("a", ViewOptions::default()).await?;

    // Without sound at first, then with it again.
    let silent = PublishOptions { audio: false, ..video(Codec::Vp8) };
    let publisher = server.publish("a", silent).await?;
    received(&viewer, Codec::Vp8, 60).await?;
    received(&late, Codec::Vp8, 60).await?;
    events.are(&["active", "inactive", "active"]).await?;
    let sounds = viewer.summary_of(Codec::Opus).map_or(0, |stream| stream.received);
    publisher.end().await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    received(&viewer, Codec::Opus, sounds + 60).await?;
    assert_unbroken(&viewer);
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_viewer_that_has_not_agreed_to_the_next_codec_is_told_to_reconnect() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let _first = server.publish("a", video(Codec::H264)).await?;
    let mut offer = Offer::view();
    let only = Section::new(Kind::Video).codec_with_rtx(Codec::H264, 102, 103);
    let section = offer.sections.iter_mut().find(|section| section.kind == Kind::Video);
    section.context("a video section")?.payloads = only.payloads;
    let narrow = ViewOptions { offer: Some(offer), ..ViewOptions::default() };
    let narrow = server.view("a", narrow).await?;
    let wide = viewer(&server).await?;
    received(&narrow, Codec::H264, 30).await?;
    received(&wide, Codec::H264, 30).await?;
    let (told, others) = (Events::of(&server, &narrow).await?, Events::of(&server, &wide).await?);
    told.are(&["active"]).await?;
    let _second = server.publish("a", video(Codec::Vp8)).await?;
    told.are(&["active", "reconnect"]).await?;
    told.ended().await?;
    let over = |log: &ViewLog| log.closed.clone().map(drop);
    narrow.log().wait(SOON, "its session is over", over).await?;
    let again = server.view("a", ViewOptions::default()).await?;
    received(&again, Codec::Vp8, 30).await?;
    received(&wide, Codec::Vp8, 60).await?;
    received(&wide, Codec::Opus, 60).await?;
    assert_unbroken(&wide);
    assert!(!others.text.read(|text| text.contains("reconnect")));
    Ok(())
}

#[tokio::test]
async fn no_more_viewers_listen_to_events_than_allowed() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.event_streams_max", "1")]).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let (ana, ben) = (viewer(&server).await?, viewer(&server).await?);
    let events = Events::of(&server, &ana).await?;
    let refused = Events::of(&server, &ben).await.err().map(|error| error.to_string());
    assert_eq!(refused.as_deref(), Some("503 Service Unavailable"));
    received(&ben, Codec::H264, 30).await?;
    ana.end().await?;
    events.ended().await?;
    let listens = async || Events::of(&server, &ben).await.ok().map(drop);
    until("there is room again", listens).await
}

#[tokio::test]
async fn who_listens_is_told_how_many_watch_and_what_timestamps_stand_for() -> anyhow::Result<()> {
    let server = Server::with(&[("server.shards", "2")]).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    let ana = viewer(&server).await?;
    received(&ana, Codec::H264, 1).await?;
    let counts = Events::choosing(&server, ana.session_url(), "viewercount").await?;
    let newest = |wanted: u64| {
        move |text: &String| {
            let newest = Events::data(text).pop()?;
            (newest["viewercount"] == wanted).then_some(())
        }
    };
    counts.text.wait(SOON, "one watches", newest(1)).await?;
    let ben = viewer(&server).await?;
    received(&ben, Codec::H264, 1).await?;
    counts.text.wait(SOON, "two watch", newest(2)).await?;
    // The first stream of events had a place; this is the second of the session.
    let clocks = Events::choosing(&server, ana.session_url(), "clock").await?;
    let six = |text: &String| Some(Events::data(text)).filter(|clocks| clocks.len() >= 6);
    let told = clocks.text.wait(SOON, "six clocks", six).await?;
    let reports: Vec<(u64, u64, f64)> = ana.log().read(|log| {
        // RFC 3550 §4: seconds since 1900, in 2^-32.
        let unix_ms = |ntp: u64| (ntp as f64 / 2_f64.powi(32) - 2_208_988_800.0) * 1e3;
        let reports = log.rtcp_of::<SenderReport>();
        reports.map(|it| (it.ssrc.into(), it.rtp_time.into(), unix_ms(it.ntp_time))).collect()
    });
    let same = |clock: &serde_json::Value| {
        let wall = clock["wall_time_ms"].as_f64().unwrap_or_default();
        reports.iter().any(|(ssrc, rtp, at)| {
            clock["ssrc"] == *ssrc && clock["rtp_timestamp"] == *rtp && (wall - at).abs() < 0.01
        })
    };
    let reported = told.iter().filter(|clock| same(clock)).count();
    // Two came with the wish, and of the last two the reports may be on their way.
    assert!(reported >= 2, "{told:?} {reports:?}");
    ben.end().await?;
    counts.text.wait(SOON, "one watches again", newest(1)).await
}

/// Of such a session no shard tells that it is over.
#[tokio::test]
async fn events_end_with_a_session_whose_client_never_came() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.handshake_timeout_s", "2")]).await?;
    let _publisher = server.publish("a", PublishOptions::default()).await?;
    received(&viewer(&server).await?, Codec::H264, 1).await?;
    let identity = loadtest::light::Identity::generate()?;
    let offer = Offer { fingerprint: Some(identity.fingerprint()), ..Offer::view() }.to_string();
    let client = server.client(None);
    let mut events = Vec::new();
    for is_deleted in [true, false] {
        let session = client.offer(&server.whep("a"), &offer).await?;
        events.push(Events::at(&server, &session.url).await?);
        if is_deleted {
            client.delete(&session.url).await?;
        }
    }
    for events in events {
        events.ended().await?;
    }
    Ok(())
}

/// The time that viewers wait is the operator's to choose.
#[tokio::test]
async fn after_the_grace_time_viewers_are_let_go() -> anyhow::Result<()> {
    let server = Server::with(&[("whip.grace_time_s", "1")]).await?;
    let publisher = server.publish("a", PublishOptions::default()).await?;
    let viewer = viewer(&server).await?;
    received(&viewer, Codec::H264, 30).await?;
    let events = Events::of(&server, &viewer).await?;
    events.are(&["active"]).await?;
    let left = std::time::Instant::now();
    publisher.end().await?;
    let over = |log: &ViewLog| log.closed.clone().map(drop);
    viewer.log().wait(SOON, "its session is over", over).await?;
    assert!(left.elapsed() >= Duration::from_millis(990));
    events.ended().await
}
