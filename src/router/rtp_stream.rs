//! One lane on its way through: the sound, or one layer of the picture.
//!
//! Each has a numbering of its own (an RTP stream, RFC 7656 §2.1.10), and so a history, a cache, a
//! batch and keyframe requests of its own.

use super::RouterSettings;
use super::batch::{Batch, Waiting};
use super::cache::{Departed, KeyframeCache};
use super::history::{History, Pushed};
use super::keyframe::KeyframeRequester;
use crate::media::codec::Kind;
use crate::media::layer::Lane;
use crate::media::packet::Packet;
use crate::media::spacing::Spacing;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is kept and what waits of one lane.
#[derive(Debug)]
pub(super) struct RtpStream {
    pub(super) lane: Lane,
    pub(super) history: History,
    pub(super) cache: KeyframeCache,
    pub(super) batch: Batch,
    pub(super) keyframe: KeyframeRequester,
    spacing: Spacing,
    /// Nothing is taken in before the next keyframe.
    skipping: bool,
}

impl RtpStream {
    pub(super) fn new(lane: Lane, settings: RouterSettings) -> Self {
        Self {
            lane,
            history: History::new(lane.kind(), settings.history),
            cache: KeyframeCache::default(),
            batch: Batch::new(lane.kind(), settings.batch_wait),
            keyframe: KeyframeRequester::new(settings.keyframe_request_interval),
            spacing: Spacing::default(),
            skipping: false,
        }
    }

    /// Takes a packet in, unless it was here before or there is no room for it.
    pub(super) fn push(&mut self, packet: &Arc<Packet>) -> Pushed {
        let is_video = self.lane.kind() == Kind::Video;
        self.skipping &= !(is_video && packet.keyframe);
        if !self.batch.has_room() || self.skipping {
            return Pushed::NoRoom;
        }
        let pushed = self.history.push(packet);
        if pushed != Pushed::New {
            return pushed;
        }
        // Every sound can be a start; what is waited for is a picture.
        if is_video && packet.keyframe {
            self.keyframe.arrived(packet.arrival);
            self.spacing.note(packet.timestamp, packet.arrival);
        }
        self.batch.push(Arc::clone(packet));
        Pushed::New
    }

    /// Takes in a packet that counts as gone out.
    pub(super) fn go_on(&mut self, packet: Arc<Packet>, padding: u8) -> bool {
        if self.history.push(&packet) != Pushed::New {
            return false;
        }
        let sequence = packet.sequence;
        self.history.departed(sequence, padding);
        if self.lane.kind() == Kind::Video {
            self.cache.push(Departed { packet, padding }, self.history.after(sequence));
        }
        true
    }

    /// Lets what waits go out, or a slice of it.
    pub(super) fn depart(&mut self, now: Instant) {
        self.batch.depart(now);
        for Waiting { packet, padding } in self.batch.going() {
            self.history.departed(packet.sequence, *padding);
            if self.lane.kind() == Kind::Video && !self.skipping {
                let departed = Departed { packet: Arc::clone(packet), padding: *padding };
                self.cache.push(departed, self.history.after(packet.sequence));
            }
        }
    }

    /// Lets go of what has waited too long, and of what refers to it; tells how many packets.
    pub(super) fn skip(&mut self, now: Instant) -> usize {
        let (lost, keyframe_waits) = self.batch.skip(now);
        self.cache.clear();
        if !keyframe_waits {
            self.skipping = true;
            self.keyframe.want();
        }
        lost
    }

    /// Nothing more comes of it before a keyframe: what is on its way still goes out, and nobody
    /// begins with that.
    pub(super) fn end(&mut self) {
        self.cache.clear();
        self.skipping = true;
    }

    /// All of it since the newest keyframe, with the padding it went out with.
    pub(super) fn since_keyframe(&self) -> impl Iterator<Item = (Arc<Packet>, u8)> {
        let departed = self.cache.packets().map(|it| (Arc::clone(&it.packet), it.padding));
        let waiting = self.batch.waiting().iter().filter(|_| !self.skipping);
        departed.chain(waiting.map(|it| (Arc::clone(&it.packet), it.padding)))
    }

    /// The same, or, while no keyframe is kept, all that is: some of it may have overtaken one.
    pub(super) fn past_and_present(&self) -> impl Iterator<Item = (Arc<Packet>, u8)> {
        let is_cached = self.cache.packets().next().is_some();
        let past = self.history.after(0).filter(move |_| !is_cached && !self.skipping);
        let past = past.map(|(packet, padding)| (Arc::clone(packet), padding));
        past.chain(self.since_keyframe())
    }

    /// A packet that has gone out, with the padding it went out with.
    pub(super) fn past(&self, sequence: u64) -> Option<(&Packet, u8)> {
        let kept = self.history.get(sequence).map(|(packet, padding)| (&**packet, padding));
        kept.or_else(|| {
            let departed = self.cache.get(sequence)?;
            Some((&*departed.packet, departed.padding))
        })
    }

    /// The packets after this one, of the present batch, that go out before it or went out with
    /// earlier ones: there are such only after one that was late.
    pub(super) fn passed(&self, packet: &Packet) -> impl Iterator<Item = (&Packet, u8)> {
        let going = self.batch.going();
        let place = going.iter().position(|it| it.packet.sequence == packet.sequence);
        let going = &going[place.unwrap_or(0)..];
        let later = self.history.after(packet.sequence);
        later
            .filter(|(later, _)| going.iter().all(|w| w.packet.sequence != later.sequence))
            .map(|(later, padding)| (&**later, padding))
    }

    /// How far apart the last keyframes came, at most.
    pub(super) fn keyframes_apart(&self, now: Instant) -> Option<Duration> {
        self.spacing.longest(now)
    }
}
