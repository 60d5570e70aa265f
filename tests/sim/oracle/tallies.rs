//! How much the oracle has seen.

use super::Oracle;
use super::track::Track;
use millrace::media::layer::{Lane, LayerId};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::time::Instant;

impl Oracle {
    /// How often a viewer has gone on from one publisher to another.
    pub(crate) fn went_on(&self) -> usize {
        let tracks = self.known.values().flat_map(|known| &known.tracks);
        tracks.map(Track::went_on).sum()
    }

    /// How often a viewer has gone on with another layer of the same publisher.
    pub(crate) fn switched(&self) -> usize {
        let tracks = self.known.values().flat_map(|known| &known.tracks);
        tracks.map(Track::switched).sum()
    }

    /// A viewer has said what it wishes to see.
    pub(crate) fn wishes(&mut self, number: usize, paused: bool, now: Instant) {
        if let Some(known) = self.known.get_mut(&number) {
            known.selected.wishes(paused, now);
        }
    }

    /// Which layers of the picture a viewer was sent, and since when.
    pub(crate) fn stays(&self, number: usize) -> Vec<(Instant, LayerId)> {
        let tracks = self.known.get(&number).into_iter().flat_map(|known| &known.tracks);
        let layer = |(at, lane)| match lane {
            Lane::Audio => None,
            Lane::Video(layer) => Some((at, layer)),
        };
        tracks.flat_map(Track::stays).filter_map(layer).collect()
    }

    /// How many frames a viewer was sent since then, by spatial and temporal layer.
    pub(crate) fn frames(&self, number: usize, since: Instant) -> BTreeMap<(u8, u8), usize> {
        let tracks = self.known.get(&number).into_iter().flat_map(|known| &known.tracks);
        let mut counts = BTreeMap::new();
        for layers in tracks.flat_map(|track| track.frames(since, &self.sources)) {
            *counts.entry(layers).or_default() += 1;
        }
        counts
    }

    /// How many packets were sent again as they were.
    pub(crate) fn repeated(&self) -> u64 {
        self.nonces.repeated
    }

    /// Their bytes.
    pub(crate) fn repeated_bytes(&self) -> u64 {
        self.nonces.repeated_bytes
    }

    /// How many different packets it has seen.
    pub(crate) fn packets(&self) -> usize {
        self.nonces.packets()
    }

    /// How many numberings have come around.
    pub(crate) fn rollovers(&self) -> usize {
        self.nonces.rollovers()
    }

    /// Everything that viewers were sent, when, and which sessions began and ended.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}
