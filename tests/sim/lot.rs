//! A publisher of several layers and viewers behind links of their own: what scenarios of layers
//! do, and what they look at.

use crate::camera::{BROWSER, Camera, Encoding};
use crate::client::Side;
use crate::link::Link;
use crate::publisher::Publishing;
use crate::sessions::session;
use crate::viewer::{Screen, Watching};
use crate::world::{World, ms, secs};
use millrace::engine::command::{Command, LayerChoice};
use millrace::media::bitrate::Bitrate;
use millrace::media::codec::Kind;
use std::time::{Duration, Instant};

/// A camera with a browser's three layers.
pub(crate) fn browser() -> Camera {
    Camera { ladder: BROWSER, ..Camera::default() }
}

/// A link's rate.
pub(crate) fn kbps(rate: u64) -> Bitrate {
    Bitrate::bps(rate * 1_000)
}

/// What IP, UDP, RTP and SRTP put around a payload.
const AROUND: usize = 20 + 8 + 12 + 16;
/// A sound is of so many bytes, fifty times a second.
const SOUND: usize = 81 + AROUND;

/// What an encoding of a camera takes with its sound, between keyframes, in kb/s.
pub(crate) fn takes(camera: &Camera, encoding: &Encoding) -> u64 {
    let Encoding { packets, payload_bytes, every, .. } = *encoding;
    let picture = (packets - 1) * payload_bytes + payload_bytes / 2 + packets * AROUND;
    let pictures = picture as u64 * u64::from(camera.frame_rate) / every;
    (pictures + SOUND as u64 * 50) * 8 / 1_000
}

/// A stream with a publisher, and viewers.
pub(crate) struct Lot {
    pub(crate) world: World,
    pub(crate) camera: usize,
    pub(crate) viewers: Vec<usize>,
    sends: Camera,
}

impl Lot {
    /// With a publisher that has been there for a while, and nobody else.
    pub(crate) fn new(seed: u64, camera: Camera) -> Self {
        Self::sharded(seed, camera, 1)
    }

    /// The same at a server of so many shards.
    pub(crate) fn sharded(seed: u64, camera: Camera, shards: usize) -> Self {
        let mut world = World::sharded(seed, shards);
        world.listen = true;
        let publisher = world.publish("lot-42", camera);
        world.run_for(ms(1_500 + seed * 37 % 500));
        Self { world, camera: publisher, viewers: Vec::new(), sends: camera }
    }

    /// With one viewer behind a link of this rate, in kb/s.
    pub(crate) fn viewed(seed: u64, camera: Camera, rate: u64) -> Self {
        let mut lot = Self::new(seed, camera);
        lot.view(Screen::default(), rate);
        lot
    }

    /// Somebody comes whose link has this rate, with room for half a second.
    pub(crate) fn view(&mut self, screen: Screen, rate: u64) -> usize {
        let viewer = self.world.view("lot-42", screen);
        let link = &mut self.world.clients[viewer].down;
        (link.delay, link.queue) = (ms(20), ms(500));
        link.rate = Some(kbps(rate));
        self.world.clients[viewer].up.delay = ms(20);
        self.viewers.push(viewer);
        viewer
    }

    /// The first viewer.
    pub(crate) fn ana(&self) -> usize {
        self.viewers[0]
    }

    /// The first viewer's link from the server.
    pub(crate) fn link(&mut self) -> &mut Link {
        let ana = self.ana();
        &mut self.world.clients[ana].down
    }

    /// What a viewer is above its transport.
    pub(crate) fn watching(&mut self, viewer: usize) -> &mut Watching {
        match &mut self.world.clients[viewer].side {
            Side::Viewer(watching) => watching,
            Side::Publisher(_) => unreachable!("client {viewer} watches"),
        }
    }

    /// That link carries so much from now on, in kb/s.
    pub(crate) fn rate(&mut self, rate: u64) {
        let (ana, now) = (self.ana(), self.world.now);
        self.link().set_rate(kbps(rate), now);
        self.world.oracle.disturb(ana, now);
    }

    pub(crate) fn publisher(&mut self) -> &mut Publishing {
        self.world.publisher(self.camera)
    }

    /// The publisher sends nothing of a layer any more, or something again.
    pub(crate) fn stop(&mut self, encoding: usize, stopped: bool) {
        self.publisher().stop(encoding, stopped);
        for &viewer in &self.viewers {
            self.world.oracle.disturb(viewer, self.world.now);
        }
    }

    /// A viewer wishes to see this.
    pub(crate) fn choose(&mut self, viewer: usize, choice: &LayerChoice) {
        self.world.oracle.disturb(viewer, self.world.now);
        self.world.oracle.wishes(viewer, choice.paused, self.world.now);
        for shard in 0..self.world.shards().count() {
            self.world.command_at(shard, Command::Choose(session(viewer), choice.clone()));
        }
    }

    /// The place of the layer that a viewer is sent, by its name in the publisher's offer.
    pub(crate) fn layer(&self, viewer: usize) -> &'static str {
        let flows = self.last(viewer, Kind::Video).is_some_and(|at| self.world.now < at + ms(400));
        let stays = self.world.oracle.stays(viewer);
        match stays.last().filter(|_| flows) {
            Some((_, layer)) => self.sends.ladder[layer.index()].rid,
            None => "",
        }
    }

    /// When something of a kind came to a viewer last.
    pub(crate) fn last(&self, viewer: usize, kind: Kind) -> Option<Instant> {
        self.world.viewer(viewer).got[kind.index()].last().map(|got| got.at)
    }

    /// Lets time pass until a viewer is sent this layer; tells how long that took.
    pub(crate) fn until(&mut self, viewer: usize, rid: &str, most: Duration) -> Duration {
        let began = self.world.now;
        while self.layer(viewer) != rid {
            let passed = self.world.now - began;
            assert!(passed < most, "{:?}, not {rid:?} after {passed:?}", self.layer(viewer));
            self.world.run_for(ms(20));
        }
        self.world.now - began
    }

    /// The longest that a viewer went without a sound between the two.
    pub(crate) fn silence(&self, viewer: usize, from: Instant, to: Instant) -> Duration {
        self.gap(viewer, Kind::Audio, from, to)
    }

    /// The longest that it went without anything of a kind.
    pub(crate) fn gap(&self, viewer: usize, kind: Kind, from: Instant, to: Instant) -> Duration {
        let got = self.world.viewer(viewer).got[kind.index()].iter().map(|got| got.at);
        let within = got.filter(|at| (from..to).contains(at));
        let times: Vec<Instant> = [from].into_iter().chain(within).chain([to]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// What came to a viewer between the two, in kb/s, without what came twice.
    pub(crate) fn received(&self, viewer: usize, from: Instant, to: Instant) -> u64 {
        let got = self.world.viewer(viewer).got.iter().flatten();
        let within = got.filter(|got| (from..to).contains(&got.at));
        let bytes: usize = within.map(|got| got.payload.len() + AROUND).sum();
        bytes as u64 * 8 / (to - from).as_millis() as u64
    }

    /// What the best layer takes that a link of this rate carries with a fifth to spare, in kb/s,
    /// and its name; the smallest layer at least.
    pub(crate) fn allowed(&self, rate: u64) -> (u64, &'static str) {
        let of = |encoding: &'static Encoding| (takes(&self.sends, encoding), encoding.rid);
        let fitting = self.sends.ladder.iter().map(of);
        let least = self.sends.ladder.iter().map(of).min().expect("there is one");
        fitting.filter(|(takes, _)| takes * 6 / 5 <= rate).max().unwrap_or(least)
    }

    /// How often a viewer has gone on with another layer since then.
    pub(crate) fn switches(&self, viewer: usize, since: Instant) -> usize {
        let stays = self.world.oracle.stays(viewer);
        let moved = stays.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        moved.filter(|pair| pair[1].0 >= since).count()
    }

    /// The longest queue that stood in front of the first viewer's link since then: a keyframe or a
    /// probe is in it for a moment, what is more than the link carries stays.
    pub(crate) fn queue(&mut self, since: Instant) -> Duration {
        let now = self.world.now;
        self.link().stood(since, now)
    }

    /// Settles at what a link of this rate carries, and stays there; tells what was received.
    pub(crate) fn assert_steady(&mut self, viewer: usize, rate: u64) -> u64 {
        let (allowed, rid) = self.allowed(rate);
        self.until(viewer, rid, secs(12));
        let since = self.world.now;
        self.world.run_for(secs(20));
        assert_eq!((self.layer(viewer), self.switches(viewer, since)), (rid, 0), "{rate} kb/s");
        let received = self.received(viewer, since, self.world.now);
        assert!(received * 10 >= allowed * 8, "{received} of {allowed} kb/s, link {rate} kb/s");
        received
    }
}
