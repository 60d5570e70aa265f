//! Which layers of a picture a viewer may choose from, and what it chooses.

/// The layers of a viewer's picture, and which one it gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayersNews {
    /// The `mid` of its video section.
    pub media: String,
    /// All that the publisher has offered, best first.
    pub layers: Vec<LayerReport>,
    /// What flows to it; none where no picture does.
    pub current: Option<SelectedLayer>,
    /// What is to flow to it, from the next keyframe on if that is another; none where no picture
    /// is.
    pub target: Option<SelectedLayer>,
    /// What it has chosen last.
    pub choice: LayerChoice,
    /// What its link carries, where that is known.
    pub estimate_bps: Option<u64>,
}

/// One layer, as measured by the media server.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LayerReport {
    /// Its name in the publisher's offer (RFC 8851); none where it is the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Its place in the publisher's offer.
    pub index: usize,
    /// Whether it flows; one that is made here also where it would for whoever wants it.
    pub active: bool,
    /// Whether it is made here, of the publisher's.
    pub made: bool,
    /// What encodes it now, where it is made here and operators ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Bits per second over the last two seconds or so.
    pub bitrate_bps: u64,
    /// The width of its picture in pixels, where a keyframe has told it.
    pub width: Option<u32>,
    /// Its height.
    pub height: Option<u32>,
    /// Pictures per second.
    pub frame_rate: f64,
    /// What is within it, by spatial layer (SVC), lowest first; one where there are no more.
    pub spatial: Vec<SpatialReport>,
}

/// One spatial layer, those below it included.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct SpatialReport {
    /// The width of its picture in pixels, where a keyframe has told it.
    pub width: Option<u32>,
    /// Its height.
    pub height: Option<u32>,
    /// Bits per second up to and including each temporal layer, lowest first.
    pub temporal_bps: Vec<u64>,
}

/// A layer with what is sent of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectedLayer {
    /// Its name; none where it is the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_id: Option<String>,
    /// The highest spatial layer.
    pub spatial_layer_id: u8,
    /// The highest temporal layer.
    pub temporal_layer_id: u8,
}

/// What a viewer wishes to see, as it posts it. Nothing of it: what its link carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LayerChoice {
    /// The layer of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_id: Option<String>,
    /// This spatial layer of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial_layer_id: Option<u8>,
    /// This temporal layer of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporal_layer_id: Option<u8>,
    /// No higher spatial layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_spatial_layer_id: Option<u8>,
    /// No higher temporal layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_temporal_layer_id: Option<u8>,
    /// No picture wider than that, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
    /// None higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u32>,
    /// No more bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
    /// No picture.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}
