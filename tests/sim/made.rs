//! Layers that are made here, of a stream whose publisher sends one: they begin when a viewer wants
//! them, follow what its link carries like any other, and cost nothing while nobody gets them.

use crate::lot::kbps;
use crate::mill::{
    GROUP, MAKING, Mill, PICTURE, choose, layers_of, layers_with_steps, states, stream, wish, world,
};
use crate::sessions::session;
use crate::shards::{SHARDS, place, view_at};
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::engine::command::{Command, EndReason, LayerChoice};
use millrace::engine::message::Term;
use millrace::engine::tap::{TapId, TapSink, Tapped};
use millrace::media::codec::{Codec, Kind};
use millrace::media::layer::Lane;
use millrace::peer::testing::ClientOptions;
use millrace::router::choice::Ceiling;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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
            // It is made of the next picture.
            assert!(took < PICTURE + MAKING + ms(15), "{rid} after {took:?}");
            assert_eq!(layers_of(&world, viewer).last(), Some(&place));
        }
        // Who comes to a layer that has just begun for somebody else need not wait for long.
        let second = view_at(&mut world, 0);
        mill.runs_for(&mut world, secs(2));
        choose(&mut world, second, Some("480p"));
        mill.runs_for(&mut world, ms(100));
        choose(&mut world, viewer, Some("480p"));
        mill.runs_for(&mut world, ms(350));
        assert_eq!(layers_of(&world, viewer).last(), Some(&1));
        world.command_at(0, Command::End(session(second), EndReason::Deleted));
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

/// The publisher's own is above what is sent to a link of which nothing is known.
#[test]
fn a_newcomer_on_a_good_link_begins_with_what_flows_and_nothing_is_made_for_it() {
    for (seed, rate, join) in
        [(1_160, None, 2_050), (1_161, Some(8_000), 3_900), (1_162, None, 2_600)]
    {
        let mut world = world(seed);
        let mut mill = Mill::begins(&mut world, 0);
        mill.runs_for(&mut world, ms(join));
        let viewer = view_at(&mut world, seed as usize % SHARDS);
        let link = &mut world.clients[viewer].down;
        (link.delay, link.queue, link.rate) = (ms(20), ms(500), rate.map(kbps));
        world.clients[viewer].up.delay = ms(20);
        mill.runs_for(&mut world, secs(10));
        assert_eq!(layers_of(&world, viewer), [0], "{rate:?}, {join} ms");
        assert!(mill.changes_told().is_empty(), "{rate:?}, {join} ms: {:?}", mill.changes_told());
    }
}

#[test]
fn who_is_to_get_what_is_not_made_yet_begins_with_what_flows() {
    let small = LayerChoice {
        ceiling: Ceiling { bitrate: Some(kbps(800)), ..Ceiling::default() },
        ..LayerChoice::default()
    };
    let named = LayerChoice { rid: Some("240p".to_owned()), ..LayerChoice::default() };
    for (choice, place) in [(small, 1), (named, 2)] {
        let mut world = world(1_170 + u64::from(place));
        let mut mill = Mill::begins(&mut world, 1);
        mill.runs_for(&mut world, secs(3));
        let viewer = view_at(&mut world, 1);
        // A process starts, and decodes what there is since the keyframe.
        mill.starting = 25;
        while world.viewer(viewer).got[Kind::Video.index()].is_empty() {
            mill.runs_for(&mut world, ms(10));
            wish(&mut world, viewer, &choice);
        }
        assert_eq!(mill.made, [0, 0], "it was not waited for");
        mill.runs_for(&mut world, secs(4));
        assert_eq!(layers_of(&world, viewer), [0, place]);
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
