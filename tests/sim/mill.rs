//! A publisher that does not come by WebRTC, with whoever makes layers of what it sends.

use crate::lot::kbps;
use crate::sessions::session;
use crate::shards::SHARDS;
use crate::world::World;
use millrace::engine::Input;
use millrace::engine::command::{Command, LayerChoice, Make, Opening, Written};
use millrace::engine::made::{Watching, Wishes};
use millrace::engine::message::{SenderReport, Term};
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::id::{SessionId, StreamName};
use millrace::media::layer::{Lane, LayerId, LayerState, MadeLayer};
use millrace::media::packet::PacketFields;
use millrace::media::protocol::Protocol;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const PICTURE: Duration = Duration::from_micros(33_333);
/// Pictures from one keyframe of the publisher to the next.
pub(crate) const GROUP: u64 = 60;
pub(crate) const PAYLOAD: usize = 1_000;
/// Packets of a picture: of the publisher's own (1,440 kb/s), and of what is made of it.
pub(crate) const PACKETS: [u64; 3] = [6, 3, 1];
/// What is made is sent so long after what it is made of.
pub(crate) const MAKING: Duration = Duration::from_millis(15);

/// What an engine wishes of whoever makes layers.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    watched: u8,
    /// How many watch each.
    by: Watching,
    /// Each change of which are watched.
    changes: Vec<u8>,
    keyframes: [bool; 2],
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Wishing(Arc<Mutex<Wanted>>);

impl Wishes for Wishing {
    fn watched(&self, by: Watching) {
        let mut wanted = self.0.lock().expect("not poisoned");
        let watched = (0..2).filter(|at| by[*at] > 0).fold(0, |bits, at| bits | 1 << at);
        wanted.by = by;
        if std::mem::replace(&mut wanted.watched, watched) != watched {
            wanted.changes.push(watched);
        }
    }

    fn keyframe(&self, index: usize) {
        self.0.lock().expect("not poisoned").keyframes[index] = true;
    }
}

/// A publisher of one layer with whoever makes others of it, at one shard.
pub(crate) struct Mill {
    shard: usize,
    pub(crate) session: SessionId,
    pub(crate) term: Term,
    /// How the publisher encodes; what is made of it is H.264.
    pub(crate) codec: Codec,
    pictures: u64,
    next_at: Instant,
    pub(crate) wishing: Wishing,
    /// Which of the made layers are being made.
    pub(crate) runs: [bool; 2],
    sequences: [u64; 3],
    /// How many pictures of each were made.
    pub(crate) made: [u64; 2],
    /// So many pictures of the publisher pass before the first one is made that is wanted.
    pub(crate) starting: u64,
}

pub(crate) fn stream() -> StreamName {
    StreamName::parse("lot-42").expect("a name")
}

pub(crate) fn made(is_available: [bool; 2]) -> Arc<[MadeLayer]> {
    let layer = |(index, rid, dimensions, rate): (usize, &str, _, _)| MadeLayer {
        rid: rid.to_owned(),
        codec: Codec::H264,
        dimensions,
        frame_rate: 30.0,
        bitrate: kbps(rate),
        is_available: is_available[index],
    };
    [(0, "480p", (854, 480), 720), (1, "240p", (426, 240), 240)].map(layer).into()
}

impl Mill {
    pub(crate) fn begins(world: &mut World, shard: usize) -> Self {
        let session = SessionId::from_random([7; 16]);
        let opening = Opening {
            session,
            stream: stream(),
            protocol: Protocol::Rtmp,
            created: world.now,
            ended: Box::new(|_| {}),
        };
        let term = Term { since: world.now, session };
        world.command_at(shard, Command::Publish(Box::new(opening)));
        let wishing = Wishing::default();
        let wishes: Arc<dyn Wishes> = Arc::new(wishing.clone());
        let make = Make { stream: stream(), term, layers: made([true; 2]), wishes: Some(wishes) };
        world.command_at(shard, Command::Make(Box::new(make)));
        let (pictures, next_at, runs) = (0, world.now, [false; 2]);
        let (sequences, made, codec) = ([1 << 20; 3], [0; 2], Codec::H264);
        Self {
            shard,
            session,
            term,
            codec,
            pictures,
            next_at,
            wishing,
            runs,
            sequences,
            made,
            starting: 0,
        }
    }

    pub(crate) fn changes(&self, world: &mut World, is_available: [bool; 2]) {
        let layers = made(is_available);
        let make = Make { stream: stream(), term: self.term, layers, wishes: None };
        world.command_at(self.shard, Command::Make(Box::new(make)));
    }

    /// A picture of a layer, the publisher's own or a made one.
    pub(crate) fn picture(&mut self, world: &mut World, place: usize, keyframe: bool) {
        let timestamp = (1 << 33) + self.pictures * 3_000;
        let unit = if keyframe { 5 } else { 1 };
        let layer = LayerId::at(place).expect("there are few");
        let codec = if place == 0 { self.codec } else { Codec::H264 };
        let packets = (0..PACKETS[place]).map(|index| {
            // A VP8 payload descriptor begins a partition (RFC 7741 §4.2).
            let begins = if index == 0 { 0x10 } else { 0 };
            let first = if codec == Codec::Vp8 { begins } else { 0x60 | unit };
            let mut payload = vec![first; PAYLOAD];
            payload[1] = place as u8;
            let sequence = self.sequences[place] + index;
            let fields = PacketFields::single(codec, sequence, timestamp, world.now);
            let marker = index + 1 == PACKETS[place];
            Arc::new(PacketFields { layer, marker, keyframe, ..fields }.with(payload))
        });
        let packets: Vec<_> = packets.collect();
        self.sequences[place] += PACKETS[place];
        let ntp = world.epoch.wall_of(self.next_at);
        let report = SenderReport { lane: Lane::Video(layer), ntp, timestamp, arrival: world.now };
        let format = Format { codec, parameters: String::new() };
        self.hands(
            world,
            Written {
                format: (keyframe && place == 0).then_some(format),
                report: Some(report),
                packets,
                is_made: place > 0,
                ..Written::default()
            },
        );
    }

    pub(crate) fn hands(&self, world: &mut World, written: Written) {
        let session = self.session;
        world.with_arena(self.shard, |engine, now, arena| {
            engine.handle(Input::Written(session, written), now, arena);
        });
        world.deliver_messages();
    }

    /// Of each picture what is wanted is made; what is not wanted any more ends.
    pub(crate) fn makes(&mut self, world: &mut World) {
        for index in 0..2 {
            let (is_wanted, keyframe) = {
                let mut wanted = self.wishing.0.lock().expect("not poisoned");
                let keyframe = std::mem::take(&mut wanted.keyframes[index]);
                (wanted.watched & 1 << index != 0, keyframe)
            };
            if is_wanted && self.starting > 0 {
                self.starting -= 1;
                continue;
            }
            let began = std::mem::replace(&mut self.runs[index], is_wanted);
            if is_wanted {
                self.picture(world, index + 1, keyframe || !began);
                self.made[index] += 1;
            } else if began {
                let ended = MadeLayer::id(index);
                self.hands(world, Written { is_made: true, ended, ..Written::default() });
            }
        }
    }

    pub(crate) fn runs_for(&mut self, world: &mut World, span: Duration) {
        let until = world.now + span;
        while self.next_at < until {
            world.run_for(self.next_at.saturating_duration_since(world.now));
            self.picture(world, 0, self.pictures.is_multiple_of(GROUP));
            world.run_for(MAKING);
            self.makes(world);
            self.pictures += 1;
            self.next_at += PICTURE;
        }
        world.run_for(until.saturating_duration_since(world.now));
    }

    /// How many watch the two layers, as was told last.
    pub(crate) fn watching(&self) -> [u32; 2] {
        let by = self.wishing.0.lock().expect("not poisoned").by;
        [by[0], by[1]]
    }

    pub(crate) fn changes_told(&self) -> Vec<u8> {
        self.wishing.0.lock().expect("not poisoned").changes.clone()
    }
}

pub(crate) fn world(seed: u64) -> World {
    let mut world = World::sharded(seed, SHARDS);
    // The oracle knows clients only, and this publisher is none.
    world.strict = false;
    world
}

pub(crate) fn choose(world: &mut World, viewer: usize, rid: Option<&str>) {
    let choice = LayerChoice { rid: rid.map(str::to_owned), ..LayerChoice::default() };
    wish(world, viewer, &choice);
}

pub(crate) fn wish(world: &mut World, viewer: usize, choice: &LayerChoice) {
    for shard in 0..SHARDS {
        world.command_at(shard, Command::Choose(session(viewer), choice.clone()));
    }
}

/// The layers that a viewer has got, one after the other; its stream has no gap, and its time does
/// not run back.
pub(crate) fn layers_of(world: &World, viewer: usize) -> Vec<u8> {
    layers_with_steps(world, viewer, 9_000)
}

/// The same where a picture may stand for so many ticks.
pub(crate) fn layers_with_steps(world: &World, viewer: usize, step_max: u32) -> Vec<u8> {
    let mut got = world.viewer(viewer).got[Kind::Video.index()].clone();
    got.sort_by_key(|got| got.sequence);
    for pair in got.windows(2) {
        assert_eq!(pair[0].sequence + 1, pair[1].sequence, "no gap");
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step < step_max, "a step of {step} ticks");
    }
    let mut layers: Vec<u8> = got.iter().map(|got| got.payload[1]).collect();
    layers.dedup();
    layers
}

pub(crate) fn states(world: &mut World, shard: usize) -> Vec<LayerState> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let report = move |states| *tell.lock().expect("not poisoned") = states;
    world.command_at(shard, Command::Report(Box::new(report)));
    let states = told.lock().expect("not poisoned");
    let track = states[0].tracks.iter().find(|track| track.kind == Kind::Video);
    track.expect("it has a picture").layers.clone()
}
