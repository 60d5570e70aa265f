//! Video Layer Selection of the WHEP draft, as a player uses it.

use super::events::Open;
use super::fake::SESSION;
use super::*;
use serde_json::{Value, json};
use signaling::media_server::layers::{
    LayerChoice, LayerReport, LayersNews, SelectedLayer, SpatialReport,
};

fn entry() -> String {
    format!("/whep/@session/{SESSION}/layer")
}

fn post(body: &str) -> Ask {
    let post = Ask::new("POST", &entry()).with("content-type", "application/json");
    post.body(body.to_owned())
}

/// A layer of 16:9 with so many lines.
fn layer(rid: &str, index: usize, height: u32, temporal_bps: &[u64]) -> LayerReport {
    LayerReport {
        rid: Some(rid.to_owned()).filter(|rid| !rid.is_empty()),
        index,
        active: true,
        made: false,
        encoder: None,
        bitrate_bps: temporal_bps.last().copied().unwrap_or_default(),
        width: Some(height * 16 / 9),
        height: Some(height),
        frame_rate: 29.97,
        spatial: vec![SpatialReport {
            temporal_bps: temporal_bps.to_owned(),
            ..SpatialReport::default()
        }],
    }
}

fn selected(rid: Option<&str>, spatial_layer_id: u8, temporal_layer_id: u8) -> SelectedLayer {
    let encoding_id = rid.map(ToOwned::to_owned);
    SelectedLayer { encoding_id, spatial_layer_id, temporal_layer_id }
}

/// What the next event of a viewer says, which is one of layers.
async fn told(served: &Served, news: LayersNews) -> Value {
    served.fake.events.send_modify(|told| told.layers = Some(Arc::new(news)));
    let events = format!("/whep/@session/{SESSION}/events?types=layers");
    let event = Open::at(served, &events).await.next().await.expect("an event");
    let data = event.strip_prefix("event: layers\ndata: ").expect("of layers, in one line");
    serde_json::from_str(data.trim_end()).expect("it is JSON")
}

#[tokio::test]
async fn a_viewer_s_answer_names_where_to_choose() {
    let served = Served::new();
    let answer = served.send(Ask::offer("/whep/a")).await;
    let links: Vec<&str> =
        answer.headers.get_all("link").iter().filter_map(|link| link.to_str().ok()).collect();
    let link = format!("<{}>; rel=\"urn:ietf:params:whep:ext:core:layer\"", entry());
    assert!(links.contains(&link.as_str()), "{links:?}");
    let preflight = served.send(Ask::new("OPTIONS", &entry())).await;
    assert_eq!(preflight.header("accept-post"), "application/json");
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    served.send(Ask::new("DELETE", &entry())).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn each_post_is_the_whole_choice() {
    let served = Served::new();
    let all = r#"{"encodingId":"h","spatialLayerId":0,"temporalLayerId":1,\
        "maxSpatialLayerId":2,"maxTemporalLayerId":3,"maxWidth":1280,"maxHeight":720,\
        "maxBitrate":2500000,"paused":true}"#;
    let all = all.split("\\\n").map(str::trim).collect::<String>();
    let more = format!("{{\"mediaId\":\"1\",\"ofTomorrow\":[],{}", &all[1..]);
    let choices = [
        (more.as_str(), all.as_str()),
        (r#"{"rid":"h"}"#, r#"{"encodingId":"h"}"#),
        (r#"{"rid":"h","encodingId":"h"}"#, r#"{"encodingId":"h"}"#),
        (r#"{"encodingId":null,"paused":false}"#, "{}"),
        ("{}", "{}"),
        (" ", "{}"),
    ];
    for (body, _) in choices {
        assert_eq!(served.send(post(body)).await.status, 200, "{body}");
    }
    assert_eq!(served.send(Ask::new("POST", &entry())).await.status, 200, "an empty body");
    let taken: Vec<String> = choices.iter().map(|(_, taken)| format!("choose {taken}")).collect();
    assert_eq!(served.fake.asked()[..choices.len()], taken);
    assert_eq!(served.fake.asked()[choices.len()], "choose {}");
}

#[tokio::test]
async fn what_is_no_choice_is_refused() {
    let served = Served::new();
    let bodies = [
        "[]",
        "1",
        "{",
        r#"{"maxWidth":"1280"}"#,
        r#"{"maxWidth":-1}"#,
        r#"{"maxBitrate":1.5}"#,
        r#"{"spatialLayerId":256}"#,
        r#"{"encodingId":1}"#,
        r#"{"paused":"yes"}"#,
        r#"{"mediaId":1}"#,
    ];
    for body in bodies {
        let detail = served.send(post(body)).await.problem(400, "malformed-body");
        assert!(detail.contains("JSON object") && !detail.contains("struct"), "{detail}");
    }
    let other = served.send(post(r#"{"mediaId":"0"}"#)).await;
    assert!(other.problem(400, "unknown-media").contains("mid"));
    served.send(post("{}").with("content-type", "text/plain")).await.problem(415, "media-type");
    let long = format!("{{\"encodingId\":\"{}\"}}", "x".repeat(2_000));
    served.send(post(&long)).await.problem(413, "body-too-long");
    for (session, status, kind) in [("nobody", 404, "no-session"), ("full", 503, "busy")] {
        let path = format!("/whep/@session/{session}/layer");
        served.send(Ask::new("POST", &path)).await.problem(status, kind);
    }
}

#[tokio::test]
async fn the_event_tells_what_there_is_what_flows_and_what_was_chosen() {
    let served = Served::new();
    let mut gone = layer("q", 2, 180, &[0]);
    gone.active = false;
    let news = LayersNews {
        media: "1".into(),
        layers: vec![layer("f", 0, 720, &[1_500_000, 2_500_000]), gone],
        current: Some(selected(Some("f"), 0, 1)),
        target: Some(selected(Some("f"), 0, 0)),
        choice: LayerChoice { max_height: Some(700), ..LayerChoice::default() },
        estimate_bps: Some(2_000_000),
    };
    let part = |temporal: u8, rate: u32| {
        let ids = (0, temporal);
        json!({"spatialLayerId": ids.0, "temporalLayerId": ids.1, "bitrate": rate})
    };
    let whole = |temporal: u8, bitrate: u32| {
        json!({"encodingId": "f", "simulcastIdx": 0, "spatialLayerId": 0,
            "temporalLayerId": temporal, "bitrate": bitrate, "width": 1280, "height": 720})
    };
    let expected = json!({"1": {
        "active": [{"encodingId": "f", "simulcastIdx": 0, "bitrate": 2_500_000, "width": 1280,
            "height": 720, "framerate": 30.0, "layers": [part(1, 2_500_000), part(0, 1_500_000)]}],
        "inactive": [{"encodingId": "q", "simulcastIdx": 2}],
        "layers": [whole(1, 2_500_000), whole(0, 1_500_000)],
        "current": {"encodingId": "f", "spatialLayerId": 0, "temporalLayerId": 1},
        "target": {"encodingId": "f", "spatialLayerId": 0, "temporalLayerId": 0},
        "choice": {"maxHeight": 700},
        "estimate": 2_000_000,
    }});
    assert_eq!(told(&served, news).await, expected);
}

#[tokio::test]
async fn of_a_single_layer_there_is_one_entry_without_a_name() {
    let served = Served::new();
    let mut only = layer("", 0, 360, &[700_000]);
    (only.width, only.height) = (None, None);
    let current = Some(selected(None, 0, 0));
    let (media, layers) = ("0".into(), vec![only]);
    let news = LayersNews { media, layers, current, ..LayersNews::default() };
    let part = json!({"spatialLayerId": 0, "temporalLayerId": 0, "bitrate": 700_000});
    let expected = json!({"0": {
        "active": [{"simulcastIdx": 0, "bitrate": 700_000, "framerate": 30.0, "layers": [part]}],
        "inactive": [],
        "layers": [{"simulcastIdx": 0, "spatialLayerId": 0, "temporalLayerId": 0,
            "bitrate": 700_000}],
        "current": {"spatialLayerId": 0, "temporalLayerId": 0},
        "target": null,
        "choice": {},
        "estimate": null,
    }});
    assert_eq!(told(&served, news).await, expected);
}

#[tokio::test]
async fn spatial_layers_can_be_chosen_one_by_one() {
    let served = Served::new();
    let mut scalable = layer("", 0, 720, &[900_000, 1_000_000]);
    let below = |height: u32, bps: u64| SpatialReport {
        width: Some(height * 4 / 3),
        height: Some(height),
        temporal_bps: vec![bps / 2, bps],
    };
    scalable.spatial.splice(0..0, [below(240, 100_000), below(480, 400_000)]);
    let news = LayersNews { media: "0".into(), layers: vec![scalable], ..LayersNews::default() };
    let event = told(&served, news).await;
    let entries = event["0"]["layers"].as_array().expect("a list");
    let ids: Vec<_> =
        entries.iter().map(|it| (&it["spatialLayerId"], &it["temporalLayerId"])).collect();
    assert_eq!(ids.len(), 6);
    assert_eq!((ids[0], ids[5]), ((&json!(2), &json!(1)), (&json!(0), &json!(0))), "best first");
    assert_eq!(entries[0]["bitrate"], 1_000_000);
    let facts = |at: usize| ["width", "height", "bitrate"].map(|name| entries[at][name].clone());
    assert_eq!(facts(0), [1_280, 720, 1_000_000].map(|it| json!(it)), "as the whole");
    assert_eq!(facts(3), [640, 480, 200_000].map(|it| json!(it)), "its own");
    assert_eq!(facts(5), [320, 240, 50_000].map(|it| json!(it)));
}
