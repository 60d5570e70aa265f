//! Which layer of the picture each rung of a stream's ladder shows.
//!
//! Players load the list of playlists once, and hold to the URLs in it while publishers come, go
//! and change what they send. A rung is what such a URL names: it belongs to the layer of one rid,
//! publish session after publish session, and never to a place in somebody's list. Layers that are
//! new get the first rungs that are free, the best one first.
//!
//! Where a rung's layer stops, or a publisher that comes back has fewer of them, another stands in,
//! from a keyframe on: no player is to wait in front of a playlist that does not go on. Newcomers
//! are not told of that rung meanwhile.

use crate::media::bitrate::Bitrate;
use crate::media::frame::CLOCK_RATE;
use crate::media::layer::{LAYERS_MAX, LayerId, LayerState};
use crate::media::sample::Sample;

const SECOND: i64 = CLOCK_RATE as i64;
/// Of a layer that was not said to have stopped nothing may come for so long: a picture's missing
/// packet is waited for, and then a keyframe.
const MISSING_MAX: i64 = 3 * SECOND;
/// What was said to have stopped has, if nothing has come of it for so long.
const STOPPED: i64 = SECOND * 3 / 10;
/// So long a publisher's layers are waited for when it begins: browsers send the small ones first.
const BEGINNING: i64 = SECOND;
/// A layer that comes back has to flow for so long: each change is a discontinuity for all.
const STEADY: i64 = 5 * SECOND;
/// A keyframe that was asked for and does not come is asked for again after this.
const ASK_AGAIN: i64 = SECOND / 2;

/// A rung of a stream's ladder: one playlist of its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung(u8);

impl Rung {
    /// How many there can be.
    pub const COUNT: usize = LAYERS_MAX;
    /// The only one of a picture that has one layer.
    pub const FIRST: Self = Self(0);

    /// All of them.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its place among the others.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a rung is for, and what it shows.
#[derive(Debug)]
struct Step {
    /// The name of its layer; empty where a picture has only one.
    rid: String,
    /// What that carries, as far as it was told, so that the nearest can stand in.
    rate: Bitrate,
    /// Its layer, if the present publisher has it.
    own: Option<LayerId>,
    /// Since when, if there were pictures of others then.
    since: Option<i64>,
    /// Whose pictures it shows.
    shown: Option<LayerId>,
}

/// The pictures of a layer, in ticks of the publisher.
#[derive(Debug, Clone, Copy)]
struct Flow {
    since: i64,
    newest: i64,
}

/// The ladder of a stream, publisher after publisher.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    /// By rung.
    steps: Vec<Step>,
    /// What was told of the publisher's layers.
    told: Vec<LayerState>,
    flows: [Option<Flow>; LAYERS_MAX],
    /// The publisher's first picture, and its newest of all layers.
    began: Option<i64>,
    newest: i64,
    asked: Option<i64>,
    wants_keyframe: bool,
    /// What is made is waited for, however long that takes: nobody has a list of the rungs yet.
    waits_for_made: bool,
}

impl Ladder {
    /// A publisher begins: nothing is known of its layers yet.
    pub(super) fn begin(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        for step in &mut steps {
            (step.own, step.since, step.shown) = (None, None, None);
        }
        *self = Self { steps, ..Self::default() };
    }

    /// Its clock has jumped.
    pub(super) fn jump(&mut self) {
        (self.flows, self.began, self.asked) = ([None; LAYERS_MAX], None, None);
    }

    /// Whether no other layer is to stand in for one that is made and has not begun.
    pub(super) const fn wait_for_made(&mut self, waits: bool) {
        self.waits_for_made = waits;
    }

    /// What the publisher's layers carry.
    pub(super) fn set_layers(&mut self, layers: &[LayerState]) {
        self.told = layers.to_vec();
        for it in self.told.iter_mut().filter(|it| it.rid.is_empty() && it.layer != LayerId::ONLY) {
            // Without names there are places.
            it.rid = it.layer.index().to_string();
        }
        let size =
            |it: &LayerState| it.dimensions.map(|(width, height)| width as u32 * height as u32);
        self.told.sort_by_key(|it| std::cmp::Reverse((it.is_active, size(it), it.bitrate)));
        for index in 0..self.told.len() {
            let LayerState { layer, bitrate, is_active, .. } = self.told[index];
            if is_active {
                self.assign(layer);
            }
            if let Some(step) = self.steps.iter_mut().find(|step| step.own == Some(layer)) {
                step.rate = step.rate.max(bitrate);
            }
        }
    }

    /// Gives a layer the rung of its name, or one that is free.
    fn assign(&mut self, layer: LayerId) {
        let rid = match self.told.iter().find(|it| it.layer == layer) {
            Some(told) => told.rid.clone(),
            None if layer == LayerId::ONLY => String::new(),
            // It will be told soon.
            None => return,
        };
        if self.steps.iter().any(|step| step.own == Some(layer) && step.rid == rid) {
            return;
        }
        for step in self.steps.iter_mut().filter(|step| step.own == Some(layer)) {
            step.own = None;
        }
        let is_told = |rid: &str| self.told.iter().any(|it| it.rid == rid);
        let named = self.steps.iter().position(|step| step.rid == rid);
        let free = || self.steps.iter().position(|it| it.own.is_none() && !is_told(&it.rid));
        let since = self.began.map(|_| self.newest);
        if let Some(index) = named.or_else(free) {
            let step = &mut self.steps[index];
            if step.rid != rid {
                step.rate = Bitrate::default();
            }
            (step.rid, step.own, step.since) = (rid, Some(layer), since);
        } else if self.steps.len() < Rung::COUNT {
            let rate = Bitrate::default();
            self.steps.push(Step { rid, rate, own: Some(layer), since, shown: None });
        }
    }

    /// Takes note of a picture; the rungs that show it.
    pub(super) fn take(&mut self, sample: &Sample) -> impl Iterator<Item = Rung> + use<> {
        let layer = sample.layer;
        self.note(layer, sample.decode_ticks);
        if self.steps.iter().all(|step| step.own != Some(layer)) {
            self.assign(layer);
        }
        let mut is_shown = [false; Rung::COUNT];
        for (index, is_shown) in is_shown.iter_mut().enumerate().take(self.steps.len()) {
            let wanted = self.wanted(&self.steps[index]);
            let step = &mut self.steps[index];
            let is_first = step.shown.is_none() && step.own == Some(layer);
            if wanted == Some(layer) && (sample.starts || is_first) {
                step.shown = wanted;
            }
            *is_shown = step.shown == Some(layer);
            let stands_in = wanted.is_some() && wanted != step.own && step.shown != wanted;
            let is_still = step.shown.is_none_or(|shown| !self.flows_still(shown));
            if stands_in && is_still {
                self.ask(sample.decode_ticks);
            }
        }
        Rung::all().filter(move |rung| is_shown[rung.index()])
    }

    fn note(&mut self, layer: LayerId, at: i64) {
        let newest = if self.began.is_some() { self.newest.max(at) } else { at };
        self.began.get_or_insert(at);
        self.newest = newest;
        let has_flown = self.flows_still(layer);
        let flow = &mut self.flows[layer.index()];
        *flow = match *flow {
            Some(Flow { since, newest }) if has_flown => {
                Some(Flow { since, newest: newest.max(at) })
            }
            _ => Some(Flow { since: at, newest: at }),
        };
    }

    /// Whether pictures come of a layer.
    fn flows_still(&self, layer: LayerId) -> bool {
        let Some(flow) = self.flows[layer.index()] else { return false };
        let has_stopped = self.told.iter().any(|it| it.layer == layer && !it.is_active);
        self.newest - flow.newest <= if has_stopped { STOPPED } else { MISSING_MAX }
    }

    /// Whose pictures a rung is to show.
    fn wanted(&self, step: &Step) -> Option<LayerId> {
        let shown = step.shown.filter(|shown| self.flows_still(*shown));
        let own = step.own.filter(|own| self.flows_still(*own));
        let is_steady = |own: &LayerId| {
            let flow = self.flows[own.index()];
            flow.is_some_and(|flow| self.newest - flow.since >= STEADY)
        };
        let began = step.since.or(self.began).unwrap_or(self.newest);
        match (own, shown) {
            (Some(own), Some(shown)) if own == shown || is_steady(&own) => Some(own),
            (_, Some(shown)) => Some(shown),
            (Some(own), None) => Some(own),
            (None, None) if step.shown.is_none() && self.newest - began < BEGINNING => step.own,
            (None, None) if step.shown.is_none() && self.waits_for(step) => step.own,
            (None, None) => self.stand_in(step),
        }
    }

    /// The layer that carries the most of those that carry no more than a rung's own, else the one
    /// that carries the least.
    fn stand_in(&self, step: &Step) -> Option<LayerId> {
        let others = || {
            let flows = |it: &&Step| it.own.is_some_and(|own| self.flows_still(own));
            self.steps.iter().filter(flows)
        };
        let below = others().filter(|it| it.rate <= step.rate).max_by_key(|it| it.rate);
        below.or_else(|| others().min_by_key(|it| it.rate)).and_then(|it| it.own)
    }

    fn ask(&mut self, at: i64) {
        if self.asked.is_none_or(|asked| (at - asked).abs() > ASK_AGAIN) {
            (self.asked, self.wants_keyframe) = (Some(at), true);
        }
    }

    /// Whether a keyframe is to be asked for, so that another layer can stand in; once for each.
    pub(super) const fn take_wish(&mut self) -> bool {
        std::mem::replace(&mut self.wants_keyframe, false)
    }

    /// Whether newcomers are told of a rung: it shows its own layer, or did before its publisher
    /// left.
    pub(super) fn is_offered(&self, rung: Rung) -> bool {
        let step = self.steps.get(rung.index());
        step.is_some_and(|step| step.shown.is_none() || step.shown == step.own)
    }

    /// Whether layers were told of that are made here.
    pub(super) fn has_made(&self) -> bool {
        self.told.iter().any(|it| it.is_made)
    }

    /// Whether a layer that is made for this rung has been told of: it begins soon.
    pub(super) fn awaits(&self, rung: Rung) -> bool {
        self.steps.get(rung.index()).is_some_and(|step| self.is_made(step))
    }

    fn waits_for(&self, step: &Step) -> bool {
        self.waits_for_made && self.is_made(step)
    }

    fn is_made(&self, step: &Step) -> bool {
        let of_it = |it: &&LayerState| step.own == Some(it.layer);
        let told = self.told.iter().find(of_it);
        told.is_some_and(|it| it.is_made && it.is_active && !it.is_withdrawn)
    }

    /// How many rungs there are.
    pub(super) const fn len(&self) -> usize {
        self.steps.len()
    }
}
