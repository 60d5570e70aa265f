//! Server Sent Events of the WHEP draft, as a player uses them.

use super::fake::SESSION;
use super::*;
use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use signaling::media_server::TrackClock;
use signaling::media_server::ViewerEvent::{self, Active, Inactive, Reconnect};

fn entry() -> String {
    format!("/whep/@session/{SESSION}/events")
}

/// An open stream of events.
pub(crate) struct Open(BodyDataStream);

impl Open {
    pub(crate) async fn at(served: &Served, path: &str) -> Self {
        let response = served.app.clone().oneshot(Ask::new("GET", path).0).await;
        let response = response.expect("the app is infallible");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self(response.into_body().into_data_stream())
    }

    /// The next event as it stands in the stream; `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let bytes = self.0.next().await?.expect("the body is whole");
        Some(String::from_utf8(bytes.to_vec()).expect("events are text"))
    }
}

fn tell(served: &Served, event: ViewerEvent) {
    served.fake.events.send_modify(|news| news.event = Some(event));
}

#[tokio::test]
async fn a_viewer_s_answer_names_the_entry_point_and_the_events() {
    let served = Served::new();
    let answer = served.send(Ask::offer("/whep/a")).await;
    let link = answer.header("link");
    let relation = "rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"";
    let events = "active,inactive,layers,reconnect,viewercount,clock";
    assert_eq!(link, format!("<{}>; {relation}; events=\"{events}\"", entry()));
    let publisher = served.send(Ask::offer("/whip/a")).await;
    assert_eq!(publisher.header("link"), "", "there is no such extension of WHIP");
}

#[tokio::test]
async fn a_stream_tells_what_there_is_and_then_what_changes() {
    let served = Served::new();
    tell(&served, Active);
    let mut events = Open::at(&served, &entry()).await;
    let text = |name: &str| Some(format!("event: {name}\ndata: {{}}\n\n"));
    assert_eq!(events.next().await, text("active"), "the draft's example");
    for (event, name) in [(Inactive, "inactive"), (Active, "active"), (Reconnect, "reconnect")] {
        tell(&served, event);
        assert_eq!(events.next().await, text(name));
    }
    drop(served);
    assert_eq!(events.next().await, None, "the session's end is the stream's");
}

#[tokio::test]
async fn what_counts_and_what_the_clock_shows_take_the_place_of_nothing_else() {
    let served = Served::new();
    tell(&served, Active);
    let mut events = Open::at(&served, &entry()).await;
    let clock =
        |ssrc, rtp_timestamp, wall_time_ms| Some(TrackClock { ssrc, rtp_timestamp, wall_time_ms });
    // All at once, before the stream of events is read.
    served.fake.events.send_modify(|news| {
        news.viewers = Some(3);
        news.clocks = [clock(7, u32::MAX, 1_764_000_000_123.25), clock(8, 90_000, 5.0)];
    });
    tell(&served, Reconnect);
    let told = |name: &str, data: &str| Some(format!("event: {name}\ndata: {data}\n\n"));
    assert_eq!(events.next().await, told("reconnect", "{}"));
    assert_eq!(events.next().await, told("viewercount", "{\"viewercount\":3}"), "the draft's form");
    let data = "{\"ssrc\":7,\"rtp_timestamp\":4294967295,\"wall_time_ms\":1764000000123.25}";
    assert_eq!(events.next().await, told("clock", data));
    let data = "{\"ssrc\":8,\"rtp_timestamp\":90000,\"wall_time_ms\":5.0}";
    assert_eq!(events.next().await, told("clock", data));
    // Only what has changed is told again.
    served.fake.events.send_modify(|news| news.viewers = Some(2));
    assert_eq!(events.next().await, told("viewercount", "{\"viewercount\":2}"));
}

#[tokio::test]
async fn who_chooses_the_clock_is_told_nothing_else() {
    let served = Served::new();
    let post = Ask::new("POST", &entry()).with("content-type", "application/json");
    let answer = served.send(post.body(r#"["clock"]"#)).await;
    assert_eq!(answer.header("location"), format!("{}?types=clock", entry()));
    let mut events = Open::at(&served, answer.header("location")).await;
    served.fake.events.send_modify(|news| {
        (news.event, news.viewers) = (Some(Active), Some(1));
        news.clocks[1] = Some(TrackClock { ssrc: 1, rtp_timestamp: 2, wall_time_ms: 3.5 });
    });
    let first = events.next().await.expect("an event");
    assert!(first.starts_with("event: clock\n"), "{first}");
}

#[tokio::test]
async fn a_post_chooses_the_events_of_a_stream() {
    let served = Served::new();
    let post = |body: &'static str| {
        Ask::new("POST", &entry()).with("content-type", "application/json").body(body)
    };
    let all = served.send(Ask::new("POST", &entry())).await;
    assert_eq!((all.status.as_u16(), all.header("location")), (201, &*entry()));
    let some = served.send(post(r#"["active","scte35","reconnect","bitrate"]"#)).await;
    assert_eq!(some.status, 201);
    assert_eq!(some.header("location"), format!("{}?types=active,reconnect", entry()));
    tell(&served, Inactive);
    let mut events = Open::at(&served, some.header("location")).await;
    let reader = tokio::spawn(async move { events.next().await });
    tokio::task::yield_now().await;
    tell(&served, Active);
    let first = reader.await.expect("it reads").expect("an event");
    assert!(first.starts_with("event: active"), "{first}");

    for body in ["{}", "[1]", "active", "[\"active\""] {
        let detail = served.send(post(body)).await.problem(400, "malformed-body");
        assert!(detail.contains("JSON array of event names"), "{detail}");
    }
    served.send(post("[]").with("content-type", "text/plain")).await.problem(415, "media-type");
    let long = format!("[\"{}\"]", "x".repeat(2_000));
    let long = Ask::new("POST", &entry()).with("content-type", "application/json").body(long);
    served.send(long).await.problem(413, "body-too-long");
}

#[tokio::test]
async fn what_there_is_nothing_to_tell_of_is_refused() {
    let served = Served::new();
    let events = |id: &str| format!("/whep/@session/{id}/events");
    for method in ["GET", "POST"] {
        served.send(Ask::new(method, &events("nobody"))).await.problem(404, "no-session");
        let full = served.send(Ask::new(method, &events("full"))).await;
        let detail = full.problem(503, "events-full");
        assert!(detail.contains("goes on without"), "{detail}");
    }
    served.send(Ask::new("DELETE", &entry())).await.problem(405, "method-not-allowed");
    let options = served.send(Ask::new("OPTIONS", &entry())).await;
    assert_eq!(options.header("accept-post"), "application/json");
}
