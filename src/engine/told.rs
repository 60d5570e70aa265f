//! What a viewer's client was told of its layers, and whether there is news.

use super::command::Selection;
use crate::media::layer::LayerState;
use std::time::{Duration, Instant};

/// What one client was told last, and when.
#[derive(Debug, Default)]
pub(super) struct Told(Option<(Selection, Instant)>);

impl Told {
    /// Not more often is anybody told.
    const EVERY: Duration = Duration::from_millis(250);
    /// So often is told what layers carry where nothing else is new.
    const REFRESHED_EVERY: Duration = Duration::from_secs(2);

    /// What the client is to be told now, if anything.
    pub(super) fn news(&mut self, selection: Selection, now: Instant) -> Option<Selection> {
        if let Some((told, at)) = &self.0 {
            let is_due = now >= *at + Self::EVERY && !is_like(told, &selection);
            let is_stale = now >= *at + Self::REFRESHED_EVERY && *told != selection;
            if !is_due && !is_stale {
                return None;
            }
        }
        self.0 = Some((selection.clone(), now));
        Some(selection)
    }
}

/// Whether two are the same but for rates.
fn is_like(one: &Selection, other: &Selection) -> bool {
    let shape = |it: &LayerState| {
        (it.layer, it.is_active, it.dimensions, it.spatial_max(), it.temporal_max())
    };
    let alike = |(one, other): (&LayerState, &LayerState)| shape(one) == shape(other);
    (one.current, one.target) == (other.current, other.target)
        && one.layers.len() == other.layers.len()
        && one.layers.iter().zip(other.layers.iter()).all(alike)
}
