//! Layers in `signaling`'s words: what is told of them, and what viewers wish.

use crate::bus::directory::SessionEntry;
use crate::engine::command::{Ceiling, LayerChoice, Selection};
use crate::media::bitrate::Bitrate;
use crate::media::codec::Kind;
use crate::media::layer::{LayerState, SelectedLayer, SpatialState};
use signaling::media_server::layers::{self, LayerReport, LayersNews, SpatialReport};

/// What a viewer is told of its layers.
pub(super) fn news(entry: &SessionEntry, selection: &Selection) -> LayersNews {
    let Selection { layers, current, target, estimate } = selection;
    let named = |it: &Option<SelectedLayer>| it.map(|it| selected(it, layers));
    LayersNews {
        media: video_of(entry).unwrap_or_default().to_owned(),
        layers: layers.iter().map(report).collect(),
        current: named(current),
        target: named(target),
        choice: posted(&entry.choice),
        estimate_bps: estimate.map(Bitrate::as_bps),
    }
}

/// The `mid` of a session's video section; its place where the offer names none.
pub(super) fn video_of(entry: &SessionEntry) -> Option<&str> {
    let is_video = |(kind, _): &&(Kind, String)| *kind == Kind::Video;
    let (_, mid) = entry.sections.iter().find(is_video)?;
    let is_first = entry.sections.first().is_some_and(|(kind, _)| *kind == Kind::Video);
    Some(if !mid.is_empty() {
        mid
    } else if is_first {
        "0"
    } else {
        "1"
    })
}

/// A layer as operators and viewers see it.
pub(super) fn report(state: &LayerState) -> LayerReport {
    let size = |dimensions: Option<(u16, u16)>| {
        let (width, height) = dimensions.unzip();
        [width, height].map(|side| side.map(u32::from))
    };
    let [width, height] = size(state.dimensions);
    let within = |SpatialState { dimensions, temporal }: &SpatialState| {
        let [width, height] = size(*dimensions);
        let temporal_bps = temporal.iter().map(|rate| rate.as_bps()).collect();
        SpatialReport { width, height, temporal_bps }
    };
    LayerReport {
        rid: rid(state),
        index: state.layer.index(),
        active: state.is_active && !state.is_withdrawn,
        made: state.is_made,
        encoder: None,
        bitrate_bps: state.bitrate.as_bps(),
        width,
        height,
        frame_rate: state.frame_rate,
        spatial: state.spatial.iter().map(within).collect(),
    }
}

/// A layer that somebody gets, by its name.
pub(super) fn selected(it: SelectedLayer, layers: &[LayerState]) -> layers::SelectedLayer {
    layers::SelectedLayer {
        encoding_id: layers.iter().find(|state| state.layer == it.layer).and_then(rid),
        spatial_layer_id: it.spatial,
        temporal_layer_id: it.temporal,
    }
}

fn rid(state: &LayerState) -> Option<String> {
    Some(state.rid.clone()).filter(|rid| !rid.is_empty())
}

/// A wish in the engine's words.
pub(super) fn choice(posted: layers::LayerChoice) -> LayerChoice {
    LayerChoice {
        rid: posted.encoding_id,
        spatial: posted.spatial_layer_id,
        temporal: posted.temporal_layer_id,
        ceiling: Ceiling {
            width: posted.max_width,
            height: posted.max_height,
            bitrate: posted.max_bitrate.map(Bitrate::bps),
            spatial: posted.max_spatial_layer_id,
            temporal: posted.max_temporal_layer_id,
        },
        paused: posted.paused,
    }
}

/// A wish as it was posted.
pub(super) fn posted(choice: &LayerChoice) -> layers::LayerChoice {
    let LayerChoice { rid, spatial, temporal, ceiling, paused } = choice;
    layers::LayerChoice {
        encoding_id: rid.clone(),
        spatial_layer_id: *spatial,
        temporal_layer_id: *temporal,
        max_spatial_layer_id: ceiling.spatial,
        max_temporal_layer_id: ceiling.temporal,
        max_width: ceiling.width,
        max_height: ceiling.height,
        max_bitrate: ceiling.bitrate.map(Bitrate::as_bps),
        paused: *paused,
    }
}
