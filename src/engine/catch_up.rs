//! Instant start, then live: a new viewer gets all since the newest keyframe as a paced burst of
//! video, until it takes its packets from the batches as everybody does.
//!
//! Sound needs no keyframe: it comes with the batches from the first on.

use super::Engine;
use super::command::EndReason;
use super::peer::{Peer, Side, Viewing};
use super::report::Counters;
use crate::media::arena::SendArena;
use crate::media::codec::Kind;
use crate::media::layer::{Lane, LayerId};
use crate::media::time::ticks_of;
use crate::peer::outgoing::{Numbered, Outgoing, Sent, Wire};
use crate::router::Router;
use crate::router::cache::{At, Start};
use crate::router::subscription::{Place, Subscription};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a viewer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// From the keyframe cache.
    Cached,
    /// With the next keyframe, which the publisher is asked for.
    Requested,
    /// It takes no video.
    Sound,
}

/// Those who catch up, of all streams; who was served goes to the end.
#[derive(Debug, Default)]
pub(super) struct CatchUps {
    queue: VecDeque<usize>,
    due: Option<Instant>,
}

/// One viewer's walk through the cache of its stream.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Whose cache it walks through.
    layer: LayerId,
    cursor: u64,
    /// When it began, and the RTP timestamp of that moment: a packet is due when its own has come.
    began: (Instant, u64),
    /// Until when what it was sent is paid for, at the pace.
    paid_until: Instant,
}

impl CatchUps {
    /// As long as a viewer's bucket takes to fill.
    const TICK: Duration = Duration::from_millis(1);

    /// A viewer begins.
    pub(super) fn started(&mut self, key: usize, begins: Begins, now: Instant) {
        if begins == Begins::Cached {
            self.queue.push_back(key);
            self.due = Some(now);
        }
    }

    /// A session is over.
    pub(super) fn ended(&mut self, key: usize) {
        self.queue.retain(|&other| other != key);
    }

    /// When somebody may be sent more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.queue.is_empty())
    }
}

impl CatchUp {
    /// Ten packets a millisecond, and no more at once: a queue on the way to the viewer takes that
    /// much, where a whole burst would overflow it; ten seconds of 2.5 Mb/s take 0.3 s.
    const BUCKET: u32 = 10;
    const PACKET: Duration = Duration::from_micros(100);

    /// So much more time is planned for a packet than it takes at the pace, for what departs
    /// meanwhile.
    const PLANNED: Duration = Duration::from_micros(125);

    fn new(layer: LayerId, now: Instant) -> Self {
        Self { layer, cursor: 0, began: (now, 0), paid_until: now }
    }

    /// Here is where it begins, or where it goes on with another keyframe.
    fn begin(
        &mut self,
        start: Start<'_>,
        shift: u64,
        subscription: &mut Subscription,
        now: Instant,
    ) {
        let Start { first, cursor, present, packets } = start;
        let least = ticks_of(Self::PLANNED * packets as u32, first.codec.clock_rate());
        let begins = subscription.begin_at(first, shift, present, least);
        (self.cursor, self.began) = (cursor, (now, begins));
    }

    fn is_due(&self, timestamp: u64, clock_rate: u32, now: Instant) -> bool {
        let (began, present) = self.began;
        let passed = ticks_of(now.saturating_duration_since(began), clock_rate);
        timestamp <= present.saturating_add(passed)
    }

    fn affordable(&self, now: Instant) -> usize {
        let full = now + Self::PACKET * Self::BUCKET;
        let credit = full.saturating_duration_since(self.paid_until.max(now));
        (credit.as_nanos() / Self::PACKET.as_nanos()) as usize
    }

    fn pay(&mut self, packets: usize, now: Instant) {
        self.paid_until = self.paid_until.max(now) + Self::PACKET * packets as u32;
    }
}

impl Viewing {
    /// Whether it takes video and has none yet.
    pub(super) fn waits_for_video(&self) -> bool {
        let waits = self.subscription(Kind::Video).is_some_and(Subscription::is_waiting);
        waits && self.catching_up.is_none()
    }

    /// Whether it may begin in the past again.
    pub(super) fn has_rested(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now >= began + Engine::AGAIN_AFTER)
    }

    /// Begins at the keyframe that the cache of the layer that it aims at holds, if it holds one.
    pub(super) fn catch_up_from(&mut self, router: &Router, now: Instant) -> bool {
        let subscription = self.subscriptions[Kind::Video.index()].as_mut();
        let (Some(subscription), Some(track)) = (subscription, self.viewer.track(Kind::Video))
        else {
            return false;
        };
        let Some(layer) = subscription.target() else { return false };
        let Some(start) = router.cache(layer).and_then(|cache| cache.start(now)) else {
            return false;
        };
        if router.has_made() && !track.takes(start.first.codec) {
            return false; // it is aimed at another layer soon
        }
        let mut walk = Box::new(CatchUp::new(layer, now));
        let shift = router.shift(Lane::Video(layer), subscription.moved(), now);
        walk.begin(start, shift, subscription, now);
        track.playout_delay().catches_up(subscription.next_out());
        self.catching_up = Some(walk);
        self.began = Some(now);
        true
    }
}

impl Engine {
    /// How long a viewer that has begun in the past waits until it may do so again: on a link that
    /// loses whole pictures bursts are no help.
    const AGAIN_AFTER: Duration = Duration::from_secs(4);

    /// A viewer cannot decode what flows, and the publisher sends no keyframe when it is asked: the
    /// viewer begins again with the one that there was.
    pub(super) fn begin_again(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(stream) = self.streams.get(peer.stream) else { return };
        let Side::Viewer(viewing) = &mut peer.side else { return };
        // The shard that has the publisher may let a request wait as long before it asks.
        let held_back = match stream.source {
            Some(_) => self.settings.router.keyframe_request_interval,
            None => Duration::ZERO,
        };
        let asked_before = now.checked_sub(held_back);
        if viewing.has_rested(now)
            && viewing.catching_up.is_none()
            && let Some(target) = viewing.target()
            && asked_before
                .is_some_and(|then| stream.router.keyframe_requests_are_ignored(target, then))
            && viewing.catch_up_from(&stream.router, now)
        {
            self.counters.starts_again += 1;
            self.catch_ups.started(key, Begins::Cached, now);
        }
    }
}

/// How far a viewer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There is more for it.
    More,
    /// There is more for it, and no room for that in the arena.
    Full,
    /// It has caught up.
    Live,
    /// Nothing is kept any more: it waits for a keyframe.
    Waits,
    /// Its connection has no room for more: it goes on when there is.
    Held,
    /// It has not agreed to the codec that flows.
    NotAgreed,
}

impl Engine {
    /// How many viewers catch up.
    pub fn catching_up(&self) -> usize {
        self.catch_ups.queue.len()
    }

    /// Sends those who catch up what they may be sent now, `packets_max` packets in all and no
    /// more than the arena has room for; tells how many it were.
    pub fn catch_up(&mut self, now: Instant, packets_max: usize, arena: &mut SendArena) -> usize {
        let mut left = packets_max;
        for _ in 0..self.catch_ups.queue.len() {
            if left == 0 {
                break;
            }
            let Some(key) = self.catch_ups.queue.pop_front() else { break };
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let index = peer.stream;
            let Some(stream) = self.streams.get_mut(index) else { continue };
            let counters = &mut self.counters;
            let mut sent = 0;
            let progress = catch_unwind(AssertUnwindSafe(|| {
                advance(peer, &stream.router, (now, left), arena, &mut sent)
            }));
            left -= sent;
            counters.packets_out += sent as u64;
            counters.packets_burst += sent as u64;
            match progress {
                Ok(Progress::More) => self.catch_ups.queue.push_back(key),
                Ok(Progress::Full) => {
                    self.catch_ups.queue.push_front(key);
                    break;
                }
                Ok(Progress::Live | Progress::Held) => {}
                Ok(Progress::Waits) => {
                    if let Side::Viewer(viewing) = &peer.side
                        && let Some(target) = viewing.target()
                    {
                        stream.router.want_keyframe(target);
                    }
                    self.request_keyframe(index, now);
                }
                Ok(Progress::NotAgreed) => self.end(key, EndReason::CodecNotAgreed, now, arena),
                Err(_) => self.fault(key, now, arena),
            }
        }
        self.catch_ups.due = Some(now + CatchUps::TICK);
        packets_max - left
    }
}

/// Seals for one viewer what comes next on its walk, as many packets as it may have and `left`
/// allows; adds them to `sent`.
fn advance(
    peer: &mut Peer,
    router: &Router,
    (now, left): (Instant, usize),
    arena: &mut SendArena,
    sent: &mut usize,
) -> Progress {
    let Some(path) = peer.transport.path() else { return Progress::More };
    let Side::Viewer(viewing) = &mut peer.side else { return Progress::Live };
    if viewing.held {
        return Progress::Held;
    }
    let Viewing { viewer, subscriptions, catching_up, live_after, .. } = &mut **viewing;
    let (Some(walk), Some(subscription), Some(mut track)) = (
        catching_up.as_mut(),
        subscriptions[Kind::Video.index()].as_mut(),
        viewer.sending(Kind::Video, now),
    ) else {
        return Progress::Live;
    };
    let Some(sealer) = peer.transport.sealer() else { return Progress::More };
    let mut wire = Wire { sealer, path, arena };
    let packets_max = walk.affordable(now).min(left);
    let Some(cache) = router.cache(walk.layer) else { return Progress::Live };
    let shift = router.shift(Lane::Video(walk.layer), subscription.moved(), now);
    let progress = loop {
        match cache.at(walk.cursor) {
            At::End => break Progress::Live,
            At::Dropped => {
                subscription.wait();
                break Progress::Waits;
            }
            At::Restarted => {
                // The picture it was in stays in pieces, which decoders drop: as after a loss, but
                // with the keyframe next to it.
                let Some(start) = cache.start(now) else { break Progress::More };
                walk.begin(start, shift, subscription, now);
            }
            At::Packet(departed) => {
                let (packet, padding) = (&departed.packet, departed.padding);
                let timestamp = subscription.timestamp(packet.timestamp);
                let clock_rate = packet.codec.clock_rate();
                // What is of the present is due: its publisher's clock may be ahead of what the
                // newest packet said when the walk began.
                let is_past = subscription.is_past(packet.timestamp);
                let is_due = !is_past || walk.is_due(timestamp, clock_rate, now);
                if *sent == packets_max || !is_due {
                    break Progress::More;
                }
                if Outgoing::room(packet, padding) > wire.arena.remaining() {
                    break Progress::Full;
                }
                walk.cursor += 1;
                let Some(place) = subscription.select(packet, |_| shift) else { continue };
                let Place { sequence, timestamp, patch } = place;
                let numbered = Numbered { packet, padding, sequence, timestamp, patch };
                match track.send(numbered, &mut wire) {
                    Sent::Yes => *sent += 1,
                    Sent::No => {}
                    Sent::NotAgreed => break Progress::NotAgreed,
                }
            }
        }
    };
    walk.pay(*sent, now);
    if matches!(progress, Progress::Live | Progress::Waits) {
        track.playout_delay().is_live(subscription.next_out());
        // What departs in this moment has been walked through.
        *live_after = router.batch_number();
        *catching_up = None;
    }
    progress
}

impl Counters {
    /// A viewer begins.
    pub(super) const fn started(&mut self, begins: Begins) {
        match begins {
            Begins::Cached => self.starts_cached += 1,
            Begins::Requested => self.starts_requested += 1,
            Begins::Sound => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packet::PacketFields;
    use crate::router::cache::{Departed, KeyframeCache};
    use std::sync::Arc;

    #[test]
    fn ten_packets_go_at_once_and_ten_a_millisecond_after_that() {
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        let mut walk = CatchUp::new(LayerId::ONLY, start);
        assert_eq!(walk.affordable(at(0)), 10);
        walk.pay(10, at(0));
        assert_eq!(walk.affordable(at(0)), 0);
        assert_eq!(walk.affordable(at(550)), 5);
        walk.pay(5, at(550));
        assert_eq!(walk.affordable(at(600)), 1);
        assert_eq!(walk.affordable(at(9_000)), 10, "what is not used is lost");
    }

    #[test]
    fn a_hiccup_of_the_publisher_keeps_no_viewer_in_the_past() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let push = |cache: &mut KeyframeCache, n: u64, arrival: u64| {
            let timestamp = (1 << 32) + n * 33 * 90;
            let fields = PacketFields::single(Codec::Vp8, 70_000 + n, timestamp, at(arrival));
            let fields = PacketFields { marker: true, keyframe: n == 0, ..fields };
            let packet = Arc::new(fields.with(vec![0; 100]));
            cache.push(Departed { packet, padding: 0 }, std::iter::empty());
        };
        for late in [0, 20, 60, 220] {
            let mut cache = KeyframeCache::default();
            for n in 0..60 {
                push(&mut cache, n, n * 33);
            }
            let began = 60 * 33 + late;
            push(&mut cache, 60, began);
            let mut subscription = Subscription::new(Kind::Video, 0);
            let mut walk = CatchUp::new(LayerId::ONLY, at(began));
            let start = cache.start(at(began)).expect("kept");
            walk.begin(start, 0, &mut subscription, at(began));
            let mut next = 61;
            let mut live = None;
            for ms in began + 1..11_900 {
                while next * 33 <= ms {
                    push(&mut cache, next, (next * 33).max(began + 1));
                    next += 1;
                }
                while let At::Packet(departed) = cache.at(walk.cursor) {
                    let timestamp = departed.packet.timestamp;
                    let is_due = !subscription.is_past(timestamp)
                        || walk.is_due(subscription.timestamp(timestamp), 90_000, at(ms));
                    if walk.affordable(at(ms)) == 0 || !is_due {
                        break;
                    }
                    walk.cursor += 1;
                    subscription.select(&departed.packet, |_| 0);
                    walk.pay(1, at(ms));
                }
                if matches!(cache.at(walk.cursor), At::End) {
                    live = Some(ms - began);
                    break;
                }
            }
            assert!(live.is_some_and(|ms| ms < 300), "{late} ms late: live after {live:?} ms");
        }
    }
}
