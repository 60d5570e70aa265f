//! The WHEP draft's "Video Layer Selection" extension: a player sees which layers of the picture
//! there are, by the event `layers`, and says which one it wants, by a POST to the URL that its
//! session's answer names in a `Link` header.
//!
//! Beyond the draft are `maxBitrate` and `paused`, and what the event says of the layer that flows.

use crate::App;
use crate::error::{ACCEPT_POST, BodyError, Problem};
use crate::media_server::Role;
use crate::media_server::layers::{LayerChoice, LayerReport, LayersNews};
use crate::session::{self, Name};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::{MethodRouter, post};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The relation of the extension in a `Link` header.
const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";
/// A choice is no longer than that.
const CHOICE_BYTES_MAX: usize = 1024;

/// `/whep/@session/{id}/layer`: POST chooses.
pub(crate) fn entry() -> MethodRouter<Arc<App>> {
    post(choose).options(entry_options)
}

/// The `Link` header that names the URL of a viewer's session at which it chooses.
pub(crate) fn link(session_url: &str) -> String {
    format!("<{session_url}/layer>; rel=\"{RELATION}\"")
}

async fn entry_options() -> [(HeaderName, HeaderValue); 1] {
    [(ACCEPT_POST, HeaderValue::from_static(session::JSON))]
}

/// What is posted: a choice, and which `m=` section it is for.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Posted {
    media_id: Option<String>,
    /// What the later drafts call `encodingId`. A player for servers of both says both.
    rid: Option<String>,
    #[serde(flatten)]
    choice: LayerChoice,
}

async fn choose(
    State(app): State<Arc<App>>,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    app.credentials.may_use_session(Role::Viewer, &headers)?;
    let text = session::read_json(&app, &headers, body, CHOICE_BYTES_MAX).await?;
    let Posted { media_id, rid, mut choice } = if text.trim().is_empty() {
        Posted::default()
    } else {
        serde_json::from_str(&text).map_err(|error| BodyError::NotLayerChoice(error.to_string()))?
    };
    choice.encoding_id = choice.encoding_id.or(rid);
    app.server.choose_layer(&id, media_id.as_deref(), choice)?;
    Ok(StatusCode::OK)
}

/// The data of a `layers` event.
pub(crate) fn event_data(news: &LayersNews) -> String {
    let LayersNews { media, layers, current, target, choice, estimate_bps } = news;
    let of = |active| layers.iter().filter(move |layer| layer.active == active);
    let active: Vec<Value> = of(true).map(encoding).collect();
    let inactive: Vec<Value> = of(false).map(|layer| Value::Object(identity(layer))).collect();
    let selectable: Vec<Value> = of(true).flat_map(selectable).collect();
    let data = json!({
        "active": active,
        "inactive": inactive,
        "layers": selectable,
        "current": current,
        "target": target,
        "choice": choice,
        "estimate": estimate_bps,
    });
    json!({ media: data }).to_string()
}

fn identity(layer: &LayerReport) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(rid) = &layer.rid {
        fields.insert("encodingId".into(), json!(rid));
    }
    fields.insert("simulcastIdx".into(), json!(layer.index));
    fields
}

/// A layer that flows, with what is within it.
fn encoding(layer: &LayerReport) -> Value {
    let mut fields = identity(layer);
    fields.insert("bitrate".into(), json!(layer.bitrate_bps));
    put_size(&mut fields, [layer.width, layer.height]);
    fields.insert("framerate".into(), json!((layer.frame_rate * 10.0).round() / 10.0));
    fields.insert("layers".into(), within(layer).map(|(_, part)| Value::Object(part)).collect());
    Value::Object(fields)
}

/// Each part of a layer that can be chosen, as an entry of its own. The highest spatial layer has
/// the size of the whole.
fn selectable(layer: &LayerReport) -> impl Iterator<Item = Value> {
    let highest = layer.spatial.len().saturating_sub(1);
    within(layer).map(move |(spatial, part)| {
        let mut fields = identity(layer);
        fields.extend(part);
        let own = layer.spatial.get(spatial).map(|it| [it.width, it.height]);
        let whole = [layer.width, layer.height];
        put_size(&mut fields, own.filter(|_| spatial < highest).unwrap_or(whole));
        Value::Object(fields)
    })
}

fn put_size(fields: &mut Map<String, Value>, size: [Option<u32>; 2]) {
    for (name, side) in ["width", "height"].into_iter().zip(size) {
        if let Some(side) = side {
            fields.insert(name.into(), json!(side));
        }
    }
}

/// The spatial and temporal layers within a layer, highest first, with their rates; which spatial
/// layer each is of.
fn within(layer: &LayerReport) -> impl Iterator<Item = (usize, Map<String, Value>)> {
    layer.spatial.iter().enumerate().rev().flat_map(|(spatial, it)| {
        it.temporal_bps.iter().enumerate().rev().map(move |(temporal, bitrate)| {
            let mut fields = Map::new();
            fields.insert("spatialLayerId".into(), json!(spatial));
            fields.insert("temporalLayerId".into(), json!(temporal));
            fields.insert("bitrate".into(), json!(bitrate));
            (spatial, fields)
        })
    })
}
