//! Which layer of a stream's picture each viewer gets.
//!
//! What layers carry is measured by the stream's router, what links carry by the viewers' send
//! sides; `router/allocator` decides, ten times a second where there is a choice, and at once where
//! a link turns out to carry less. Here viewers are aimed at what it says, keyframes are asked for,
//! and who listens is told.

use super::Engine;
use super::catch_up::Begins;
use super::command::{Event, LayerChoice, Selection};
use super::peer::{Side, Viewing};
use super::sound::Sound;
use super::stream::Stream;
use super::told::Told;
use crate::media::arena::SendArena;
use crate::media::bitrate::Bitrate;
use crate::media::codec::Kind;
use crate::media::id::SessionId;
use crate::media::layer::{LAYERS_MAX, LayerId, LayerState, SelectedLayer};
use crate::peer::estimate::Estimate;
use crate::router::Router;
use crate::router::allocator::{Allocator, Capacity, Demand, has_choice};
use crate::router::rewriter::Limits;
use crate::router::subscription::Subscription;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// How often a stream's viewers are looked at, where there is a choice.
const INTERVAL: Duration = Duration::from_millis(100);
/// And where there is none, for those who listen: what the one layer carries.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// What one viewer wishes to see, what it is to get, and what it was told of that.
#[derive(Debug)]
pub(super) struct Selecting {
    choice: LayerChoice,
    /// The highest spatial layer of what flows that it can make use of.
    pub(super) spatial_max: u8,
    allocator: Allocator,
    target: Option<SelectedLayer>,
    /// What its link carries, as was said last.
    pub(super) estimate: Option<Bitrate>,
    /// How long a queue stands in front of it.
    queue: Duration,
    /// Since when that has been measured.
    measured: Option<Instant>,
    sound: Sound,
    /// Since when more has flowed than its link carries, as what it is to get instead has not
    /// begun.
    excess_since: Option<Instant>,
    /// The layer that flowed when this was looked at last.
    flowed: Option<LayerId>,
    /// What its client was told.
    told: Told,
}

/// What is to be done for a viewer besides.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    /// It waits for a keyframe of this layer.
    wants: Option<LayerId>,
    /// It has begun with a keyframe that was kept.
    pub(super) begins: bool,
    /// Whatever it was sent of the past is over.
    ends: bool,
    /// It has gone up.
    went_up: bool,
    /// It has gone down.
    went_down: bool,
    /// Its picture was taken away, as its link carries none.
    was_stopped: bool,
}

/// More flows than a link carries, or nothing as the layer has stopped.
#[derive(Debug, Clone, Copy)]
struct Excess {
    lasts: Duration,
    has_stopped: bool,
}

impl Excess {
    /// A burst may keep a link busy for this part of a second.
    const BUSY_MAX: f64 = 0.25;
    /// And for this, where nothing else flows.
    const BUSY_MAX_STOPPED: f64 = 1.0;

    const fn busy_max(self) -> f64 {
        if self.has_stopped { Self::BUSY_MAX_STOPPED } else { Self::BUSY_MAX }
    }
}

impl Selecting {
    /// A viewer that tells nothing of its link in this time tells nothing at all.
    const TELLS_WITHIN: Duration = Duration::from_secs(5);
    /// So long more may flow than the link carries: a keyframe that was asked for takes a round
    /// trip to the publisher and a picture or two. Beyond that a picture that stands is better than
    /// one that is ever later.
    const EXCESS_MAX: Duration = Duration::from_millis(400);
    /// And it stands at once where so long a queue stands already: what is in it by then is late.
    const QUEUE_MAX: Duration = Duration::from_millis(60);
    /// More than a link carries by less than this share passes.
    const EXCESS: f64 = 1.1;

    /// For a viewer with this wish.
    pub(super) fn new(choice: LayerChoice) -> Self {
        Self {
            choice,
            spatial_max: u8::MAX,
            allocator: Allocator::default(),
            target: None,
            estimate: None,
            queue: Duration::ZERO,
            measured: None,
            sound: Sound::new(),
            excess_since: None,
            flowed: None,
            told: Told::default(),
        }
    }

    /// Another publisher goes on: its layers are others.
    pub(super) fn begin_term(&mut self) {
        self.allocator = Allocator::default();
        (self.target, self.excess_since, self.flowed) = (None, None, None);
    }

    /// What the link carries, where `estimate` is what is said of it now.
    fn capacity(&mut self, estimate: Option<Bitrate>, now: Instant) -> Capacity {
        let measured = *self.measured.get_or_insert(now);
        let known = self.estimate;
        self.estimate = estimate.or(known);
        match (estimate, known) {
            (Some(rate), _) => Capacity::Estimated(rate),
            // It was known, and nothing is said any more: nothing changes.
            (None, Some(rate)) => Capacity::Start(rate),
            (None, None) if now < measured + Self::TELLS_WITHIN => Capacity::Start(Estimate::START),
            (None, None) => Capacity::Unmeasured,
        }
    }
}

impl Viewing {
    /// Looks at what it is to get of these layers, best first, and aims it there.
    pub(super) fn select(&mut self, layers: &[LayerState], router: &Router, now: Instant) -> Step {
        let mut step = Step::default();
        let is_paused = self.selecting.choice.paused;
        let flows = layers.iter().any(|layer| layer.is_active);
        if self.subscription(Kind::Video).is_none() || !(flows || is_paused) {
            return step;
        }
        self.notice(layers, &mut step);
        match self.allot(layers, now) {
            Some(target) => {
                let target = self.stand_in(target, layers).unwrap_or(target);
                self.move_to(target, layers, router, now, &mut step);
            }
            None => self.stop(&mut step, !is_paused),
        }
        step
    }

    fn allot(&mut self, layers: &[LayerState], now: Instant) -> Option<SelectedLayer> {
        let layers = &*self.playable(layers);
        let has_choice = has_choice(layers);
        self.viewer.measure(has_choice, now);
        let estimate = self.viewer.estimate(now);
        self.selecting.queue = estimate.map_or(Duration::ZERO, |estimate| estimate.queue);
        let estimate = estimate.map(|estimate| estimate.bitrate);
        let sound = self.viewer.tracks().find(|track| track.kind() == Kind::Audio);
        let selecting = &mut self.selecting;
        let sound = sound.map_or(Bitrate::default(), |track| {
            selecting.sound.measure(track.counters().bytes, now);
            selecting.sound.rate
        });
        let capacity = if has_choice {
            selecting.capacity(estimate, now)
        } else {
            selecting.measured = None;
            Capacity::Unmeasured
        };
        let (choice, spatial_max) = (&selecting.choice, selecting.spatial_max);
        let demand = Demand { layers, sound, choice, capacity, spatial_max };
        let allotment = selecting.allocator.allot(demand, now);
        selecting.target = allotment.target;
        self.viewer.want(allotment.wanted.unwrap_or_default(), now);
        allotment.target
    }

    /// Takes note of the layer that flows.
    fn notice(&mut self, layers: &[LayerState], step: &mut Step) {
        let flows = self.subscription(Kind::Video).and_then(Subscription::current);
        let Some(layer) = flows else { return };
        let place = |layer| layers.iter().position(|state| state.layer == layer);
        let Some(before) = self.selecting.flowed.replace(layer).filter(|&it| it != layer) else {
            return;
        };
        // The best is first.
        step.went_up = place(layer) < place(before);
        step.went_down = !step.went_up;
    }

    /// No picture flows from now on.
    fn stop(&mut self, step: &mut Step, is_for_the_link: bool) {
        let Some(video) = self.subscription(Kind::Video) else { return };
        if video.target().is_none() {
            return;
        }
        step.was_stopped = is_for_the_link && video.current().is_some();
        step.ends = true;
        self.lose_picture();
        if let Some(video) = &mut self.subscriptions[Kind::Video.index()] {
            video.stop();
        }
        self.selecting.excess_since = None;
    }

    /// It is to get this layer.
    fn move_to(
        &mut self,
        target: SelectedLayer,
        layers: &[LayerState],
        router: &Router,
        now: Instant,
        step: &mut Step,
    ) {
        let Some(video) = &mut self.subscriptions[Kind::Video.index()] else { return };
        let is_new = video.target() != Some(target.layer);
        video.aim(target.layer);
        video.limit(Limits::of(target, layers));
        if !video.is_moving() {
            self.selecting.excess_since = None;
            if video.needs_keyframe() && self.catching_up.is_none() && !self.held {
                step.wants = Some(target.layer);
            }
            return;
        }
        let current = video.current();
        let has_rested = self.has_rested(now);
        if current.is_none() {
            // It waits: with what is kept it need not, where its link is not full of that for long.
            let is_due = is_new && has_rested && self.catching_up.is_none();
            if is_due
                && self.is_cheap(router.cached_bytes(target.layer), Excess::BUSY_MAX_STOPPED)
                && self.catch_up_from(router, now)
            {
                step.begins = true;
                return;
            }
        } else if let Some(excess) = self.excess(current, target, layers, now) {
            let is_ignored = router.keyframe_requests_are_ignored(target.layer, now);
            let is_late = !excess.has_stopped && self.selecting.queue >= Selecting::QUEUE_MAX;
            // What is made only now takes longer: it is worth standing for where packets wait.
            let is_idle = layers.iter().any(|it| it.layer == target.layer && it.is_idle);
            let is_over = is_late || (excess.lasts >= Selecting::EXCESS_MAX && !is_idle);
            if (is_over || is_ignored)
                && self.is_cheap(router.cached_bytes(target.layer), excess.busy_max())
                && self.catch_up_from(router, now)
            {
                step.begins = true;
                return;
            }
            if is_over {
                self.lose_picture();
                step.ends = true;
            }
        }
        if self.catching_up.is_none() && !self.held {
            step.wants = Some(target.layer);
        }
    }

    /// How it is with the layer that it is to leave, if that is no good any more.
    fn excess(
        &mut self,
        current: Option<LayerId>,
        target: SelectedLayer,
        layers: &[LayerState],
        now: Instant,
    ) -> Option<Excess> {
        let state = |layer| layers.iter().find(|state| state.layer == layer);
        let own = state(current?)?;
        let is_less = state(target.layer)?.bitrate < own.bitrate;
        let selecting = &mut self.selecting;
        let takes = own.bitrate.as_bps() + selecting.sound.rate.as_bps();
        let carries = selecting.estimate.map(|estimate| estimate.scaled(Selecting::EXCESS));
        let is_excess = is_less && carries.is_some_and(|carries| takes > carries.as_bps());
        if own.is_active && !is_excess {
            selecting.excess_since = None;
            return None;
        }
        let since = *selecting.excess_since.get_or_insert(now);
        let lasts = now.saturating_duration_since(since);
        Some(Excess { lasts, has_stopped: !own.is_active })
    }

    /// Whether what is kept of a layer is no burden to its link at once.
    fn is_cheap(&self, bytes: usize, busy_max: f64) -> bool {
        let estimate = self.selecting.estimate;
        estimate.is_none_or(|rate| bytes as f64 * 8.0 <= rate.as_bps() as f64 * busy_max)
    }

    /// The layers that are sent to it, or are to be.
    pub(super) fn watched(&self) -> [Option<LayerId>; 2] {
        let video = self.subscription(Kind::Video);
        video.map_or([None; 2], |video| [video.target(), video.current()])
    }

    /// What flows to it, with what of it is to.
    pub(super) fn flows(&self, layers: &[LayerState]) -> Option<SelectedLayer> {
        let layer = self.subscription(Kind::Video)?.current()?;
        let target = self.selecting.target.filter(|target| target.layer == layer);
        target.or_else(|| {
            let state = layers.iter().find(|state| state.layer == layer)?;
            let spatial = state.spatial_max().min(self.selecting.spatial_max);
            Some(SelectedLayer { layer, spatial, temporal: state.temporal_max() })
        })
    }
}

impl Stream {
    /// Looks at what the layers carry; where there is a choice, all viewers are looked at again.
    fn look(&mut self, now: Instant) {
        self.layers = self.router.layers(now).into();
        if has_choice(&self.layers) && !self.viewers.is_empty() {
            self.look_again(now + INTERVAL);
        }
    }

    /// All viewers are looked at again by then: whoever comes meanwhile does not put that off.
    pub(super) fn look_again(&mut self, at: Instant) {
        self.choose_at = Some(self.choose_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// A viewer has come: aims it.
    pub(super) fn welcome(&mut self, viewing: &mut Viewing, now: Instant) -> Step {
        self.look(now);
        viewing.select(&self.layers, &self.router, now)
    }
}

impl Engine {
    /// Something has come of a stream: where layers begin or have other sizes by it, the choice is
    /// looked at before it goes out, since the keyframe that says so may be the only one for long.
    pub(super) fn layers_changed(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.router.take_changed() {
            stream.look_again(now);
        }
    }

    /// Looks at the choice of a stream, if it is time.
    pub(super) fn choose_if_due(&mut self, index: usize, now: Instant, arena: &mut SendArena) {
        let Some(stream) = self.streams.get(index) else { return };
        if stream.choose_at.is_some_and(|at| at <= now) {
            self.choose(index, now, arena);
        }
    }

    /// Looks at what each viewer of a stream is to get.
    fn choose(&mut self, index: usize, now: Instant, arena: &mut SendArena) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.choose_at = None;
        stream.look(now);
        let mut place = 0;
        let viewer = |engine: &Self, place| {
            engine.streams.get(index).and_then(|stream| stream.viewers.get(place)).copied()
        };
        while let Some(key) = viewer(self, place) {
            self.select_guarded(key, now, arena);
            // Where a fault has ended it, the next has its place.
            place += usize::from(viewer(self, place) == Some(key));
        }
        self.tell_watched(index);
        self.request_keyframe(index, now);
    }

    /// Looks at what one viewer is to get; a panic in it ends that session only.
    fn select_guarded(&mut self, key: usize, now: Instant, arena: &mut SendArena) {
        self.guarded(key, now, arena, |engine, _| engine.select(key, now));
        // What is to be found out of its link may be due sooner by now.
        self.reschedule(key);
    }

    fn select(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(stream) = self.streams.get_mut(peer.stream) else { return };
        let session = peer.session;
        let Side::Viewer(viewing) = &mut peer.side else { return };
        let before = viewing.selecting.target;
        let step = viewing.select(&stream.layers, &stream.router, now);
        if before != viewing.selecting.target {
            let estimate = viewing.selecting.estimate;
            debug!(?session, from = ?before, to = ?viewing.selecting.target, ?estimate, "target");
        }
        if let Some(layer) = step.wants
            && !stream.router.keyframe_waits(layer)
        {
            stream.router.want_keyframe(layer);
        }
        if step.ends || step.begins {
            self.catch_ups.ended(key);
        }
        if step.begins {
            self.catch_ups.started(key, Begins::Cached, now);
        }
        self.counters.layers_up += u64::from(step.went_up);
        self.counters.layers_down += u64::from(step.went_down);
        self.counters.pictures_stopped += u64::from(step.was_stopped);
        if viewing.listens
            && !stream.layers.is_empty()
            && viewing.subscription(Kind::Video).is_some()
        {
            let selection = Selection {
                layers: Arc::clone(&stream.layers),
                current: viewing.flows(&stream.layers),
                target: viewing.selecting.target,
                estimate: viewing.selecting.estimate,
            };
            // Somebody listens to what the layers carry, be there a choice or not.
            stream.look_again(now + IDLE_INTERVAL);
            if let Some(selection) = viewing.selecting.told.news(selection, now) {
                self.events.push_back(Event::Layers { session, selection });
            }
        }
        self.tell_if_first(key);
    }

    /// A viewer wishes to see this from now on.
    pub(super) fn wish(
        &mut self,
        session: SessionId,
        choice: LayerChoice,
        now: Instant,
        arena: &mut SendArena,
    ) {
        let Some(key) = self.demux.by_session(session) else { return };
        if let Some(Side::Viewer(viewing)) = self.peers.get_mut(key).map(|peer| &mut peer.side) {
            viewing.selecting.choice = choice;
            self.look_at(key, now, arena);
        }
    }

    /// A viewer's client listens from now on: it is told which layers there are.
    pub(super) fn tell_layers(&mut self, key: usize, now: Instant, arena: &mut SendArena) {
        let Some(Side::Viewer(viewing)) = self.peers.get_mut(key).map(|peer| &mut peer.side) else {
            return;
        };
        viewing.selecting.told = Told::default();
        self.look_at(key, now, arena);
    }

    /// Looks at one viewer, if it takes part already.
    fn look_at(&mut self, key: usize, now: Instant, arena: &mut SendArena) {
        let Some(index) = self.peers.get(key).map(|peer| peer.stream) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.viewers.contains(&key) {
            stream.look(now);
            self.select_guarded(key, now, arena);
            self.request_keyframe(index, now);
        }
    }

    /// A viewer has told of its link: where that carries less than was said before, it is looked at
    /// at once.
    pub(super) fn told_of_link(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        let Side::Viewer(viewing) = &peer.side else { return };
        let before = viewing.selecting.estimate;
        let estimate = viewing.viewer.estimate(now).map(|estimate| estimate.bitrate);
        if estimate.is_some() && estimate < before {
            self.select(key, now);
        }
    }

    /// The publisher, if it is here, need not repair layers that nobody gets; a single one it does,
    /// as whoever comes begins with what is kept of it.
    pub(super) fn tell_watched(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index) else { return };
        let is_taken = !stream.followers.is_empty() || stream.is_tapped();
        let all = is_taken || !has_choice(&stream.layers);
        let mut watched = [all; LAYERS_MAX];
        stream.each_viewer(&mut self.peers, |_, viewing| {
            for layer in viewing.watched().into_iter().flatten() {
                watched[layer.index()] = true;
            }
        });
        let publisher = stream.publisher.and_then(|key| self.peers.get_mut(key));
        if let Some(Side::Publisher(publishing)) = publisher.map(|peer| &mut peer.side) {
            publishing.receiver.set_watched(|layer| watched[layer.index()]);
        }
        self.tell_made_watched(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::id::StreamName;
    use crate::media::packet::PacketFields;
    use crate::media::time::{Epoch, WallTime};
    use crate::router::RouterSettings;

    /// A crowd that comes one by one must not keep those who are there from being looked at.
    #[test]
    fn whoever_comes_does_not_put_off_the_look_at_those_who_are_there() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let epoch = Epoch { instant: start, wall: WallTime::since_unix_epoch(Duration::ZERO) };
        let name = StreamName::parse("lot-42").expect("a name");
        let mut stream = Stream::new(name, RouterSettings::default(), epoch, start);
        stream.viewers.push(0);
        for layer in (0..2).filter_map(LayerId::at) {
            let fields = PacketFields::single(Codec::Vp8, 1, 0, start);
            let fields = PacketFields { layer, keyframe: true, ..fields };
            stream.router.push(&Arc::new(fields.with(vec![0])));
        }
        stream.look(at(0));
        let due = stream.choose_at;
        assert_eq!(due, Some(at(100)));
        stream.look(at(50));
        stream.look_again(at(60) + IDLE_INTERVAL);
        assert_eq!(stream.choose_at, due);
        // Who listens where there is no choice is told again as well.
        stream.router.begin_term();
        stream.choose_at = None;
        stream.look_again(at(200));
        stream.look(at(150));
        assert_eq!(stream.choose_at, Some(at(200)));
    }
}
