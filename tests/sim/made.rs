//! Layers that are made here, of a stream whose publisher sends one: they begin when a viewer wants
//! them, follow what its link carries like any other, and cost nothing while nobody gets them.

use crate::lot::kbps;
use crate::sessions::session;
use crate::shards::{SHARDS, place, view_at};
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::engine::Input;
use millrace::engine::command::{Command, EndReason, LayerChoice, Make, Opening, Written};
use millrace::engine::made::{Watching, Wishes};
use millrace::engine::message::{SenderReport, Term};
use millrace::engine::tap::{TapId, TapSink, Tapped};
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::id::{SessionId, StreamName};
use millrace::media::layer::{Lane, LayerId, LayerState, MadeLayer};
use millrace::media::packet::PacketFields;
use millrace::media::protocol::Protocol;
use millrace::peer::testing::ClientOptions;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PICTURE: Duration = Duration::from_micros(33_333);
/// Pictures from one keyframe of the publisher to the next.
const GROUP: u64 = 60;
const PAYLOAD: usize = 1_000;
/// Packets of a picture: of the publisher's own (1,440 kb/s), and of what is made of it.
const PACKETS: [u64; 3] = [6, 3, 1];
/// What is made is sent so long after what it is made of.
const MAKING: Duration = Duration::from_millis(15);

/// What an engine wishes of whoever makes layers.
#[derive(Debug, Default)]
struct Wanted {
    watched: u8,
    /// How many watch each.
    by: Watching,
    /// Each change of which are watched.
    changes: Vec<u8>,
    keyframes: [bool; 2],
}

#[derive(Debug, Default, Clone)]
struct Wishing(Arc<Mutex<Wanted>>);

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
struct Mill {
    shard: usize,
    session: SessionId,
    term: Term,
    /// How the publisher encodes; what is made of it is H.264.
    codec: Codec,
    pictures: u64,
    next_at: Instant,
    wishing: Wishing,
    /// Which of the made layers are being made.
    runs: [bool; 2],
    sequences: [u64; 3],
    /// How many pictures of each were made.
    made: [u64; 2],
}

fn stream() -> StreamName {
    StreamName::parse("lot-42").expect("a name")
}

fn made(is_available: [bool; 2]) -> Arc<[MadeLayer]> {
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
    fn begins(world: &mut World, shard: usize) -> Self {
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
        Self { shard, session, term, codec, pictures, next_at, wishing, runs, sequences, made }
    }

    fn changes(&self, world: &mut World, is_available: [bool; 2]) {
        let layers = made(is_available);
        let make = Make { stream: stream(), term: self.term, layers, wishes: None };
        world.command_at(self.shard, Command::Make(Box::new(make)));
    }

    /// A picture of a layer, the publisher's own or a made one.
    fn picture(&mut self, world: &mut World, place: usize, keyframe: bool) {
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

    fn hands(&self, world: &mut World, written: Written) {
        let session = self.session;
        world.with_arena(self.shard, |engine, now, arena| {
            engine.handle(Input::Written(session, written), now, arena);
        });
        world.deliver_messages();
    }

    /// Of each picture what is wanted is made; what is not wanted any more ends.
    fn makes(&mut self, world: &mut World) {
        for index in 0..2 {
            let (is_wanted, keyframe) = {
                let mut wanted = self.wishing.0.lock().expect("not poisoned");
                let keyframe = std::mem::take(&mut wanted.keyframes[index]);
                (wanted.watched & 1 << index != 0, keyframe)
            };
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

    fn runs_for(&mut self, world: &mut World, span: Duration) {
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
    fn watching(&self) -> [u32; 2] {
        let by = self.wishing.0.lock().expect("not poisoned").by;
        [by[0], by[1]]
    }

    fn changes_told(&self) -> Vec<u8> {
        self.wishing.0.lock().expect("not poisoned").changes.clone()
    }
}

fn world(seed: u64) -> World {
    let mut world = World::sharded(seed, SHARDS);
    // The oracle knows clients only, and this publisher is none.
    world.strict = false;
    world
}

fn choose(world: &mut World, viewer: usize, rid: Option<&str>) {
    let choice = LayerChoice { rid: rid.map(str::to_owned), ..LayerChoice::default() };
    for shard in 0..SHARDS {
        world.command_at(shard, Command::Choose(session(viewer), choice.clone()));
    }
}

/// The layers that a viewer has got, one after the other; its stream has no gap, and its time does
/// not run back.
fn layers_of(world: &World, viewer: usize) -> Vec<u8> {
    layers_with_steps(world, viewer, 9_000)
}

/// The same where a picture may stand for so many ticks.
fn layers_with_steps(world: &World, viewer: usize, step_max: u32) -> Vec<u8> {
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

fn states(world: &mut World, shard: usize) -> Vec<LayerState> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let report = move |states| *tell.lock().expect("not poisoned") = states;
    world.command_at(shard, Command::Report(Box::new(report)));
    let states = told.lock().expect("not poisoned");
    let track = states[0].tracks.iter().find(|track| track.kind == Kind::Video);
    track.expect("it has a picture").layers.clone()
}

#[test]
fn a_layer_is_made_for_whoever_wants_it_on_any_shard_and_as_long_as_that() {
    for shard in 0..SHARDS {
        let mut world = world(1_100 + shard as u64);
        let mut mill = Mill::begins(&mut world, 1);
        mill.runs_for(&mut world, secs(3));
        let viewer = view_at(&mut world, shard);
        mill.runs_for(&mut world, secs(12));
        assert_eq!(layers_of(&world, viewer).last(), Some(&0), "its link carries everything");
        let before = mill.changes_told().len();
        for (rid, place) in [("240p", 2), ("480p", 1), ("240p", 2)] {
            choose(&mut world, viewer, Some(rid));
            let since = world.now;
            mill.runs_for(&mut world, secs(2));
            let got = &world.viewer(viewer).got[Kind::Video.index()];
            let first = got.iter().find(|it| it.at > since && it.payload[1] == place);
            let took = first.expect("it gets what it wants").at - since;
            assert!(took < ms(200), "{rid} after {took:?}");
            assert_eq!(layers_of(&world, viewer).last(), Some(&place));
        }
        choose(&mut world, viewer, None);
        mill.runs_for(&mut world, secs(14));
        assert_eq!(layers_of(&world, viewer).last(), Some(&0), "up again");
        assert_eq!(mill.changes_told().last(), Some(&0));
        assert_eq!(mill.runs, [false; 2]);
        let told = mill.changes_told();
        assert!(told[before..].starts_with(&[0b10, 0b11, 0b01, 0b11, 0b10]), "{told:?}");
        let made = mill.made;
        mill.runs_for(&mut world, secs(2));
        assert_eq!(mill.made, made, "nothing is made for nobody");
        let states = states(&mut world, 1);
        let told: Vec<_> = states.iter().map(|it| (&*it.rid, it.is_made, it.is_active)).collect();
        assert_eq!(told, [("source", false, true), ("480p", true, true), ("240p", true, true)]);
        assert_eq!(states[1].bitrate, kbps(720), "what it would carry");
    }
}

#[test]
fn who_watches_a_layer_is_counted_on_all_shards_together() {
    let mut world = world(1_105);
    let mut mill = Mill::begins(&mut world, 1);
    mill.runs_for(&mut world, secs(1));
    let viewers: Vec<_> = (0..5).map(|at| view_at(&mut world, at % SHARDS)).collect();
    mill.runs_for(&mut world, secs(12));
    for (viewer, rid) in viewers.iter().zip(["480p", "480p", "480p", "240p", "240p"]) {
        choose(&mut world, *viewer, Some(rid));
    }
    mill.runs_for(&mut world, secs(2));
    assert_eq!(mill.watching(), [3, 2]);
    let reader = Reader::begins(&mut world, 1, true);
    mill.runs_for(&mut world, secs(1));
    assert_eq!(mill.watching(), [4, 3], "who reads all counts as one of each");
    world.command_at(1, Command::Untap(stream(), TapId(1)));
    reader.is_closed.store(true, Ordering::Relaxed);
    choose(&mut world, viewers[0], Some("240p"));
    world.command_at(3, Command::End(session(viewers[3]), EndReason::Deleted));
    mill.runs_for(&mut world, secs(2));
    assert_eq!(mill.watching(), [2, 2]);
}

#[test]
fn a_viewer_whose_link_carries_less_than_the_publisher_sends_gets_what_is_made() {
    for (seed, rate, place) in [(1_110, 1_100, 1), (1_111, 450, 2), (1_112, 4_000, 0)] {
        let mut world = world(seed);
        let mut mill = Mill::begins(&mut world, 0);
        mill.runs_for(&mut world, secs(3));
        let viewer = world.view("lot-42", Screen::default());
        let shard = seed as usize % SHARDS;
        self::place(&mut world, viewer, shard);
        let link = &mut world.clients[viewer].down;
        (link.delay, link.queue, link.rate) = (ms(20), ms(500), Some(kbps(rate)));
        world.clients[viewer].up.delay = ms(20);
        mill.runs_for(&mut world, secs(30));
        let got = &world.viewer(viewer).got[Kind::Video.index()];
        let late: Vec<_> = got.iter().filter(|it| it.at > world.ago(secs(5))).collect();
        let of_it = late.iter().filter(|it| it.payload[1] as usize == place).count();
        let pictures = late.iter().filter(|it| it.marker).count();
        assert!(of_it * 100 >= late.len() * 95, "{rate} kb/s: {of_it} of {}", late.len());
        assert!(pictures >= 140, "{rate} kb/s: {pictures} of 150 pictures");
    }
}

#[test]
fn a_layer_that_was_not_made_for_a_while_begins_anew_and_not_with_what_was_kept() {
    let mut world = world(1_120);
    let mut mill = Mill::begins(&mut world, 2);
    mill.runs_for(&mut world, secs(1));
    let first = view_at(&mut world, 0);
    mill.runs_for(&mut world, secs(1));
    choose(&mut world, first, Some("240p"));
    mill.runs_for(&mut world, secs(3));
    let keyframes = |world: &World, viewer: usize| {
        let got = &world.viewer(viewer).got[Kind::Video.index()];
        got.iter().filter(|it| it.payload[1] == 2 && it.payload[0] == 0x65).count()
    };
    let second = view_at(&mut world, 0);
    mill.runs_for(&mut world, secs(1));
    choose(&mut world, second, Some("240p"));
    mill.runs_for(&mut world, secs(3));
    assert_eq!(layers_of(&world, second).last(), Some(&2));
    // Both leave, and it ends; who wants it later does not get what was kept then.
    let before = keyframes(&world, first);
    for viewer in [first, second] {
        choose(&mut world, viewer, Some("480p"));
    }
    mill.runs_for(&mut world, secs(12));
    assert_eq!(mill.runs, [true, false]);
    choose(&mut world, first, Some("240p"));
    mill.runs_for(&mut world, secs(1));
    assert_eq!(layers_of(&world, first).last(), Some(&2));
    assert!(keyframes(&world, first) > before, "it began anew");
}

#[test]
fn a_layer_that_cannot_be_had_for_the_time_being_is_left_and_come_back_to() {
    let mut world = world(1_130);
    let mut mill = Mill::begins(&mut world, 3);
    mill.runs_for(&mut world, secs(1));
    let viewer = view_at(&mut world, 1);
    mill.runs_for(&mut world, secs(12));
    assert_eq!(layers_of(&world, viewer).last(), Some(&0));
    choose(&mut world, viewer, Some("480p"));
    mill.runs_for(&mut world, secs(2));
    assert_eq!(layers_of(&world, viewer).last(), Some(&1));
    mill.changes(&mut world, [false, true]);
    mill.runs_for(&mut world, secs(3));
    assert_ne!(layers_of(&world, viewer).last(), Some(&1), "another one");
    assert!(!mill.runs[0], "nobody waits for it");
    mill.changes(&mut world, [true, true]);
    mill.runs_for(&mut world, secs(15));
    assert_eq!(layers_of(&world, viewer).last(), Some(&1), "as it wished");
    // None can be had any more.
    world.command_at(3, Command::Unmake(stream(), mill.term));
    mill.runs_for(&mut world, secs(2));
    // With the next keyframe, as this publisher cannot be asked for one.
    assert_eq!(layers_with_steps(&world, viewer, GROUP as u32 * 3_000).last(), Some(&0));
    assert_eq!(states(&mut world, 3).len(), 0, "there is one layer, as if there had been no other");
}

#[test]
fn whoever_does_not_play_what_the_publisher_sends_gets_what_is_made_of_it() {
    let mut world = world(1_140);
    let mut mill = Mill::begins(&mut world, 1);
    mill.codec = Codec::Vp8;
    mill.runs_for(&mut world, secs(1));
    let options = ClientOptions::default;
    let screen = Screen::default;
    let knows = [&[Codec::H264][..], &[Codec::H264, Codec::Vp8], &[Codec::Vp8]];
    let viewers = knows.map(|codecs| world.view_with("lot-42", screen(), codecs, options()));
    for (shard, viewer) in viewers.into_iter().enumerate() {
        place(&mut world, viewer, shard);
    }
    mill.runs_for(&mut world, secs(15));
    let got = viewers.map(|viewer| layers_of(&world, viewer));
    assert!(!got[0].contains(&0) && got[0].last() == Some(&1), "{got:?}");
    assert_eq!(got[1].last(), Some(&0), "{got:?}");
    assert_eq!(got[2], [0]);
    // From one codec to the other and back, in one stream.
    for (rid, place) in [("480p", 1), ("240p", 2)] {
        choose(&mut world, viewers[1], Some(rid));
        mill.runs_for(&mut world, secs(2));
        assert_eq!(layers_of(&world, viewers[1]).last(), Some(&place));
    }
    choose(&mut world, viewers[1], None);
    mill.runs_for(&mut world, secs(14));
    assert_eq!(layers_of(&world, viewers[1]).last(), Some(&0));
    assert!(viewers.iter().all(|&viewer| world.ended(viewer).is_none()));
}

/// Notes what it is told, as somebody who reads the stream.
#[derive(Default)]
struct Reader {
    takes_made: bool,
    is_closed: AtomicBool,
    told: Mutex<Vec<Tapped>>,
}

impl TapSink for Reader {
    fn tell(&self, _: Term, tapped: Tapped) {
        self.told.lock().expect("not poisoned").push(tapped);
    }

    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    fn takes_made(&self) -> bool {
        self.takes_made
    }
}

impl Reader {
    fn begins(world: &mut World, id: u64, takes_made: bool) -> Arc<Self> {
        let reader = Arc::new(Self { takes_made, ..Self::default() });
        for shard in 0..SHARDS {
            let sink: Arc<dyn TapSink> = Arc::clone(&reader) as _;
            world.command_at(shard, Command::Tap(stream(), TapId(id), sink));
        }
        reader
    }

    /// By layer, the timestamps of what has come of it; each once for a picture.
    fn pictures(&self, layer: u8) -> Vec<u64> {
        let told = self.told.lock().expect("not poisoned");
        let made = told.iter().filter_map(|it| match it {
            Tapped::Made(packets) => Some(packets.iter()),
            _ => None,
        });
        let of_it = made.flatten().filter(|it| it.payload[1] == layer && it.marker);
        of_it.map(|it| it.timestamp).collect()
    }
}

#[test]
fn for_whoever_reads_all_layers_all_are_made_as_long_as_he_reads() {
    let mut world = world(1_150);
    let mut mill = Mill::begins(&mut world, 2);
    mill.runs_for(&mut world, secs(1));
    let own = Reader::begins(&mut world, 1, false);
    mill.runs_for(&mut world, secs(1));
    assert!(mill.changes_told().is_empty(), "whoever reads the publisher's wants none made");
    let all = Reader::begins(&mut world, 2, true);
    mill.runs_for(&mut world, secs(2));
    assert_eq!(mill.changes_told(), [0b11]);
    for layer in [1, 2] {
        let pictures = all.pictures(layer);
        assert!(pictures.len() >= 59, "{} of 60", pictures.len());
        assert!(pictures.windows(2).all(|pair| pair[1] == pair[0] + 3_000), "one after the other");
    }
    let told = all.told.lock().expect("not poisoned").clone();
    let clock = told.iter().find_map(|it| match it {
        Tapped::Clock { lane: Lane::Video(layer), timestamp, wall } if layer.index() == 2 => {
            Some((*timestamp, *wall))
        }
        _ => None,
    });
    // The first picture of all has this timestamp, and was there at the beginning.
    let (timestamp, wall) = clock.expect("it is told what they stand for");
    let since = (timestamp - (1 << 33)).cast_signed() * 100 / 9;
    let off = wall.micros_since(world.epoch.wall_of(mill.term.since)) - since;
    assert!(off.abs() < 1_000, "{off} us off");
    let layers = told.iter().filter(|it| matches!(it, Tapped::Layers(all) if all.len() == 3));
    assert!(layers.count() >= 2, "layers are told of now and then");
    let told = own.told.lock().expect("not poisoned").len();
    assert_eq!(told, 0, "what does not come by WebRTC is told by whoever writes it");
    all.is_closed.store(true, Ordering::Relaxed);
    world.command_at(2, Command::Untap(stream(), TapId(2)));
    mill.runs_for(&mut world, secs(1));
    assert_eq!(mill.changes_told(), [0b11, 0]);
}
