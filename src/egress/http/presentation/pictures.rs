//! All layers of a publisher's picture: one of them leads, and the others follow it.
//!
//! Media sequence numbers mean the same in all playlists, so that one layer says where segments
//! begin, and what the others have waits until that is known. Which one leads does not matter: the
//! first is as good as any, until it stops.

use super::ladder::Rung;
use super::playlists::{Made, Playlists};
use super::video::{Role, Video};
use crate::media::frame::CLOCK_RATE;
use crate::media::sample::Sample;
use std::collections::BTreeMap;

/// Who leads may be behind another layer by so much: until then the others wait for it.
const BEHIND_MAX: i64 = CLOCK_RATE as i64 / 5;

/// The picture of one publisher.
#[derive(Debug)]
pub(super) struct Pictures {
    videos: BTreeMap<Rung, Video>,
    leader: Option<Rung>,
    /// The longest time between keyframes that was said.
    keyframes_apart: Option<i64>,
}

impl Pictures {
    /// Nothing yet.
    pub(super) const fn new(keyframes_apart: Option<i64>) -> Self {
        Self { videos: BTreeMap::new(), leader: None, keyframes_apart }
    }

    /// Whether any came.
    pub(super) fn were_seen(&self) -> bool {
        !self.videos.is_empty()
    }

    /// Whether any came for a rung.
    pub(super) fn comes(&self, rung: Rung) -> bool {
        self.videos.contains_key(&rung)
    }

    /// Up to when segments are known: a boundary that comes is later.
    pub(super) fn reached(&self) -> Option<i64> {
        self.videos.get(&self.leader?)?.reached()
    }

    /// Takes a picture for a rung. `base`: where the time line of the run begins.
    pub(super) fn push(&mut self, rung: Rung, sample: Sample, base: i64, out: &mut Playlists) {
        let is_first = self.leader.is_some() && !self.videos.contains_key(&rung);
        if is_first && sample.starts && out.made == Made::Awaited {
            out.made = Made::Begins(sample.present_ticks);
        }
        let begin = || Video::new(rung, self.keyframes_apart);
        self.videos.entry(rung).or_insert_with(begin).push(sample, out);
        if self.bytes() > out.waiting_bytes_max() {
            // Whoever waits to learn its pace must do with what it has.
            self.videos.values_mut().for_each(|video| video.run(out));
        }
        self.elect(rung);
        self.flow(base, out);
    }

    /// Another one leads where the one that did is behind.
    fn elect(&mut self, rung: Rung) {
        let received = |rung: Rung| self.videos.get(&rung).and_then(Video::received);
        let Some(newest) = received(rung) else { return };
        let last = self.leader.and_then(received);
        if last.is_none_or(|last| newest - last > BEHIND_MAX) {
            self.leader = Some(rung);
        }
    }

    fn flow(&mut self, base: i64, out: &mut Playlists) {
        let Some(leader) = self.leader else { return };
        if let Some(video) = self.videos.get_mut(&leader) {
            video.flow(Role::Leads, base, out);
        }
        let Some(reached) = self.reached() else { return };
        for (_, video) in self.videos.iter_mut().filter(|(rung, _)| **rung != leader) {
            video.flow(Role::Follows { reached }, base, out);
        }
    }

    /// Whether a keyframe is to be asked for; once for each.
    pub(super) fn take_wish(&mut self) -> bool {
        let wishes = self.videos.values_mut().filter_map(|video| video.take_wish().then_some(()));
        wishes.count() > 0
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, base: i64, out: &mut Playlists) {
        self.videos.values_mut().for_each(|video| video.run(out));
        let rungs: Vec<Rung> = self.videos.keys().copied().collect();
        for rung in rungs {
            self.elect(rung);
        }
        self.flow(base, out);
        for video in self.videos.values_mut() {
            video.finish(base, out);
        }
    }

    /// The media that it holds back.
    pub(super) fn bytes(&self) -> usize {
        self.videos.values().map(Video::bytes).sum()
    }
}
