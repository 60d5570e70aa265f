//! Who watches made layers, and who reads all of them to package them: for him all are made.

use super::{Mill, choose, stream, world};
use crate::sessions::session;
use crate::shards::{SHARDS, view_at};
use crate::world::{World, secs};
use millrace::engine::command::{Command, EndReason};
use millrace::engine::message::Term;
use millrace::engine::tap::{TapId, TapSink, Tapped};
use millrace::media::layer::Lane;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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
