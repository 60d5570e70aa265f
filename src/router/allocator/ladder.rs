//! What a viewer can be sent of a picture, smallest first, as far as its wish allows.

use super::super::choice::LayerChoice;
use crate::media::layer::{LayerState, SelectedLayer};

/// Layers of each temporal and spatial extent that are worth a step.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    rungs: Vec<Rung>,
    is_granted: bool,
}

/// One step of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rung {
    /// What is sent.
    pub(super) selected: SelectedLayer,
    /// What that needs of a link, in bits per second, headers included.
    pub(super) needs: u64,
    /// What the layer carries of it.
    carries: u64,
    /// Nothing of it flows before somebody wants it.
    pub(super) is_idle: bool,
    dimensions: Option<(u16, u16)>,
}

impl Rung {
    /// So many times the rate make a difference to a picture of the same size.
    const MORE: f64 = 1.25;

    /// Whether it fits so many times.
    pub(super) fn fits(&self, bps: u64, times: f64) -> bool {
        self.needs as f64 * times <= bps as f64
    }

    /// Whether a layer shows nearly the same as another one: they would take turns.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.selected.layer != other.selected.layer
            && self.dimensions == other.dimensions
            && (self.needs as f64) < other.needs as f64 * Self::MORE
    }

    fn area(&self) -> Option<u32> {
        self.dimensions.map(|(width, height)| u32::from(width) * u32::from(height))
    }
}

impl Ladder {
    /// Headers and authentication tags take this share more, at 1200 bytes a packet.
    pub(super) const OVERHEAD: f64 = 1.04;

    /// What of these layers, best first, somebody with this wish can be sent who can make use of
    /// spatial layers up to this one. Empty: nothing flows.
    pub(super) fn new(layers: &[LayerState], choice: &LayerChoice, spatial_max: u8) -> Self {
        let may_flow = |layer: &&LayerState| layer.is_active && !layer.is_withdrawn;
        let mut flowing: Vec<_> = layers.iter().filter(may_flow).collect();
        let is_named = |layer: &LayerState| choice.rid.as_ref() == Some(&layer.rid);
        let named = flowing.iter().position(|&layer| is_named(layer));
        flowing.drain(..named.unwrap_or(0));
        // One that cannot be had for now is not made up for with a larger one, which costs more.
        let area = |layer: &LayerState| {
            layer.dimensions.map(|(width, height)| u32::from(width) * u32::from(height))
        };
        let missing = layers.iter().find(|layer| layer.is_withdrawn && is_named(layer));
        let most = missing.and_then(area);
        if flowing.iter().any(|&layer| area(layer) <= most) {
            flowing.retain(|&layer| most.is_none() || area(layer) <= most);
        }
        let smallest = flowing.last().map(|layer| layer.layer);
        let rungs = flowing.iter().rev().flat_map(|layer| {
            let highest = choice.spatial_of(layer.spatial_max().min(spatial_max));
            Self::rungs_of(layer, choice, highest, smallest == Some(layer.layer))
        });
        let mut ladder = Self { rungs: rungs.collect(), is_granted: named.is_some() };
        ladder.bound(choice);
        ladder
    }

    /// Smallest first; none is empty.
    pub(super) fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Whether the layer that is wished for by name flows: then it is the highest.
    pub(super) const fn is_granted(&self) -> bool {
        self.is_granted
    }

    /// Where this is, or what is left of it: the next below of the same layer.
    pub(super) fn find(&self, selected: SelectedLayer) -> Option<usize> {
        let exact = self.rungs.iter().position(|rung| rung.selected == selected);
        exact.or_else(|| {
            let extent = |it: SelectedLayer| (it.spatial, it.temporal);
            let same = |rung: &Rung| rung.selected.layer == selected.layer;
            let below = |rung: &Rung| extent(rung.selected) <= extent(selected);
            let below = self.rungs.iter().rposition(|rung| same(rung) && below(rung));
            below.or_else(|| self.rungs.iter().position(same))
        })
    }

    /// Each spatial layer that may be sent, up to the highest, in full; of the smallest of all also
    /// less than all temporal layers, which no other layer takes the place of.
    fn rungs_of(
        layer: &LayerState,
        choice: &LayerChoice,
        highest: u8,
        is_smallest: bool,
    ) -> Vec<Rung> {
        let lowest = choice.spatial.map_or(0, |_| highest);
        let temporal = choice.temporal_of(layer.temporal_max());
        let mut rungs = Vec::new();
        for spatial in lowest..=highest {
            let least = if is_smallest && spatial == lowest { 0 } else { temporal };
            for temporal in least..=temporal {
                let selected = SelectedLayer { layer: layer.layer, spatial, temporal };
                let carries = layer.rate(selected).as_bps();
                let needs = (carries as f64 * Self::OVERHEAD) as u64;
                let dimensions = Self::dimensions(layer, spatial);
                let is_idle = layer.is_idle;
                rungs.push(Rung { selected, needs, carries, is_idle, dimensions });
            }
        }
        rungs
    }

    /// How large a spatial layer is: where that is not told, half of the next one, as encoders
    /// have it (WebRTC-SVC: `L2T1` and so on, whose scaling ratio is 2).
    fn dimensions(layer: &LayerState, spatial: u8) -> Option<(u16, u16)> {
        let told = layer.spatial.get(usize::from(spatial)).and_then(|it| it.dimensions);
        let below = layer.spatial_max().saturating_sub(spatial);
        let halved = |side: u16| side.checked_shr(u32::from(below)).unwrap_or(0);
        told.or_else(|| layer.dimensions.map(|(width, height)| (halved(width), halved(height))))
    }

    /// Takes away what is beyond the ceilings; the smallest stays.
    fn bound(&mut self, choice: &LayerChoice) {
        if let Some(least) = self.rungs.iter().filter_map(Rung::area).min() {
            let admits = |rung: &Rung| rung.dimensions.is_none_or(|it| choice.ceiling.admits(it));
            self.rungs.retain(|rung| admits(rung) || rung.area() == Some(least));
        }
        if let Some(most) = choice.ceiling.bitrate
            && let Some(smallest) = self.rungs.iter().min_by_key(|rung| rung.carries).copied()
        {
            self.rungs.retain(|it| it.carries <= most.as_bps() || *it == smallest);
        }
    }
}
