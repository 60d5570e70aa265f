//! Links that change, tremble and lie; layers that come and go; wishes of all sorts.
//!
//! - `properties`: whatever is estimated and wished

mod properties;

use super::super::choice::Ceiling;
use super::*;
use crate::media::layer::{LayerId, SpatialState};
use std::cmp::Reverse;

const STEP: Duration = Duration::from_millis(100);

/// A layer with this name and so many lines of 16:9, with the rates of its temporal layers in kb/s.
fn layer(rid: &str, index: usize, height: u16, kbps: &[u64]) -> LayerState {
    let temporal: Vec<_> = kbps.iter().copied().map(Bitrate::kbps).collect();
    LayerState {
        layer: LayerId::at(index).expect("few layers"),
        rid: rid.to_owned(),
        codec: None,
        bitrate: temporal[temporal.len() - 1],
        dimensions: Some((height * 16 / 9, height)),
        frame_rate: 30.0,
        is_active: true,
        is_made: false,
        is_idle: false,
        is_withdrawn: false,
        spatial: vec![SpatialState { dimensions: None, temporal }],
    }
}

/// So many spatial layers within a layer, each of which has a third of the next one's rate.
fn set_spatial(state: &mut LayerState, count: usize) {
    let mut next = state.spatial.pop().expect("there is one");
    state.spatial.clear();
    for _ in 0..count {
        state.spatial.insert(0, next.clone());
        next.temporal.iter_mut().for_each(|rate| *rate = rate.scaled(0.35));
    }
}

/// Three layers, best first, whose order in the offer is another.
fn three() -> Vec<LayerState> {
    vec![
        layer("f", 2, 720, &[2_500]),
        layer("h", 0, 360, &[700]),
        layer("q", 1, 180, &[120, 160, 200]),
    ]
}

/// A viewer on a link, with the clock going on.
struct World {
    allocator: Allocator,
    layers: Vec<LayerState>,
    choice: LayerChoice,
    now: Instant,
    /// When the layer that it gets has changed, its beginning apart.
    switches: Vec<Instant>,
    allotment: Allotment,
    spatial_max: u8,
}

impl World {
    fn new() -> Self {
        Self {
            allocator: Allocator::default(),
            layers: three(),
            choice: LayerChoice::default(),
            now: Instant::now(),
            switches: Vec::new(),
            allotment: Allotment::default(),
            spatial_max: u8::MAX,
        }
    }

    fn step(&mut self, capacity: Capacity) -> Option<SelectedLayer> {
        self.now += STEP;
        let Self { layers, choice, spatial_max, .. } = self;
        let (sound, spatial_max) = (Bitrate::kbps(50), *spatial_max);
        let demand = Demand { layers, sound, choice, capacity, spatial_max };
        let before = self.allotment;
        self.allotment = self.allocator.allot(demand, self.now);
        let layer = |allotment: Allotment| allotment.target.map(|it| it.layer);
        if before != Allotment::default() && layer(before) != layer(self.allotment) {
            self.switches.push(self.now);
        }
        self.allotment.target
    }

    /// What it gets, by the name of the layer and the temporal layer; `-` for no picture.
    fn gets(&self) -> String {
        let Some(target) = self.allotment.target else { return "-".to_owned() };
        let state = self.layers.iter().find(|state| state.layer == target.layer);
        let rid = &state.expect("it is one of them").rid;
        format!("{rid}{}", target.temporal)
    }

    /// What it gets after that time on a link that is estimated so.
    fn run(&mut self, seconds: f64, kbps: u64) -> String {
        for _ in 0..(seconds * 10.0) as u32 {
            self.step(Capacity::Estimated(Bitrate::kbps(kbps)));
        }
        self.gets()
    }

    fn choose(&mut self, choice: LayerChoice) {
        self.choice = choice;
    }

    fn set_active(&mut self, rid: &str, is_active: bool) {
        let layer = self.layers.iter_mut().find(|layer| layer.rid == rid);
        layer.expect("it is one of them").is_active = is_active;
        self.layers.sort_by_key(|layer| Reverse((layer.is_active, layer.bitrate)));
    }

    /// The most changes in ten seconds.
    fn most_switches(&self) -> usize {
        let within = |at: &Instant| *at + Duration::from_secs(10);
        let from = self.switches.iter().map(|first| {
            self.switches.iter().filter(|at| *at >= first && **at < within(first)).count()
        });
        from.max().unwrap_or(0)
    }
}

fn by_name(rid: &str) -> LayerChoice {
    LayerChoice { rid: Some(rid.to_owned()), ..LayerChoice::default() }
}

#[test]
fn a_link_gets_what_it_carries() {
    for (kbps, gets) in [
        (5_000, "f0"),
        (2_700, "f0"),
        (2_500, "h0"),
        (800, "h0"),
        (700, "q2"),
        (220, "q1"),
        (180, "q0"),
        (100, "-"),
    ] {
        assert_eq!(World::new().run(1.0, kbps), gets, "{kbps} kb/s");
    }
}

#[test]
fn before_anything_is_known_the_start_rate_decides_and_without_feedback_all_is_sent() {
    let mut world = World::new();
    world.step(Capacity::Start(Bitrate::kbps(1_000)));
    assert_eq!(world.gets(), "h0");
    let mut world = World::new();
    world.step(Capacity::Start(Bitrate::kbps(50)));
    assert_eq!(world.gets(), "q0", "something is tried");
    let mut world = World::new();
    world.step(Capacity::Unmeasured);
    assert_eq!((world.gets().as_str(), world.allotment.wanted), ("f0", None));
}

#[test]
fn a_link_that_halves_is_followed_at_once_and_up_again_with_room_after_a_second() {
    let mut world = World::new();
    assert_eq!(world.run(30.0, 3_000), "f0");
    assert_eq!(world.run(0.1, 1_000), "h0");
    assert_eq!(world.run(20.0, 1_000), "h0");
    assert_eq!(world.run(1.0, 3_000), "h0");
    assert_eq!(world.run(0.2, 3_000), "f0");
    assert_eq!(world.run(0.1, 220), "q1", "temporal layers of the smallest");
    assert_eq!(world.switches.len(), 3);
}

#[test]
fn a_little_too_little_is_borne_for_two_seconds() {
    let mut world = World::new();
    assert_eq!(world.run(5.0, 3_000), "f0");
    assert_eq!(world.run(1.9, 2_500), "f0");
    assert_eq!(world.run(0.1, 3_000), "f0");
    assert_eq!(world.run(2.0, 2_500), "f0");
    assert_eq!(world.run(0.1, 2_500), "h0");
}

/// A machine that stood still for a moment looks like that.
#[test]
fn a_link_that_gives_way_for_a_moment_is_made_use_of_again_soon() {
    let mut world = World::new();
    assert_eq!(world.run(20.0, 5_000), "f0");
    assert_eq!(world.run(0.1, 1_500), "h0");
    assert_eq!(world.run(0.3, 500), "q2");
    assert_eq!(world.run(1.2, 5_000), "f0");
}

#[test]
fn a_way_up_that_fails_is_tried_again_ever_later() {
    let mut world = World::new();
    world.run(30.0, 1_000);
    let mut waits = Vec::new();
    let mut fell = world.now;
    while waits.len() < 6 {
        // There is room until it is used.
        let kbps = if world.gets() == "f0" { 1_000 } else { 3_000 };
        if world.run(0.1, kbps) == "f0" {
            waits.push(world.now.duration_since(fell).as_secs());
            fell = world.now;
        }
    }
    assert_eq!(waits, [1, 10, 20, 40, 80, 80]);
    world.run(130.0, 1_000);
    assert_eq!(world.run(1.2, 3_000), "f0", "it is forgotten");
}

#[test]
fn the_estimator_is_told_what_the_next_layer_takes() {
    let mut world = World::new();
    world.run(1.0, 1_000);
    let wanted = world.allotment.wanted.expect("there is a layer above");
    assert!(wanted > Bitrate::kbps(2_900) && wanted < Bitrate::kbps(3_100), "{wanted}");
    world.run(1.0, 100);
    assert_eq!(world.gets(), "-");
    assert!(world.allotment.wanted.expect("the smallest") > Bitrate::kbps(120));
    let mut world = World::new();
    world.run(5.0, 5_000);
    let wanted = world.allotment.wanted.expect("what it has, with room");
    assert!(wanted > Bitrate::kbps(2_900) && wanted < Bitrate::kbps(3_100), "{wanted}");
}

#[test]
fn a_layer_that_stops_is_left_and_comes_back_when_it_flows_again() {
    let mut world = World::new();
    assert_eq!(world.run(20.0, 5_000), "f0");
    world.set_active("f", false);
    assert_eq!(world.run(0.1, 5_000), "h0");
    world.set_active("f", true);
    assert_eq!(world.run(1.2, 5_000), "f0");
    for rid in ["f", "h", "q"] {
        world.set_active(rid, false);
    }
    assert_eq!(world.run(1.0, 5_000), "f0", "where nothing flows nothing is better");
}

#[test]
fn a_ceiling_of_size_takes_the_largest_that_does_not_exceed_it() {
    let sized = |width, height| {
        let ceiling = Ceiling { width: Some(width), height: Some(height), ..Ceiling::default() };
        let mut world = World::new();
        world.choose(LayerChoice { ceiling, ..LayerChoice::default() });
        world.run(5.0, 9_000)
    };
    assert_eq!(sized(4_000, 3_000), "f0");
    assert_eq!(sized(1_280, 720), "f0");
    assert_eq!(sized(1_279, 720), "h0");
    assert_eq!(sized(640, 360), "h0");
    assert_eq!(sized(4_000, 359), "q2");
    assert_eq!(sized(100, 100), "q2", "the smallest goes out in any case");
    assert_eq!(sized(0, 0), "q2");
}

#[test]
fn a_ceiling_that_is_lifted_is_gone_up_to_at_once() {
    let mut world = World::new();
    let ceiling = Ceiling { height: Some(180), ..Ceiling::default() };
    world.choose(LayerChoice { ceiling, ..LayerChoice::default() });
    assert_eq!(world.run(5.0, 9_000), "q2");
    world.choose(LayerChoice::default());
    assert_eq!(world.run(0.1, 9_000), "f0");
    let ceiling = Ceiling { bitrate: Some(Bitrate::kbps(750)), ..Ceiling::default() };
    world.choose(LayerChoice { ceiling, ..LayerChoice::default() });
    assert_eq!(world.run(0.1, 9_000), "h0");
    let ceiling = Ceiling { bitrate: Some(Bitrate::kbps(1)), ..Ceiling::default() };
    world.choose(LayerChoice { ceiling, ..LayerChoice::default() });
    assert_eq!(world.run(0.1, 9_000), "q0", "the smallest goes out in any case");
    let ceiling = Ceiling { temporal: Some(1), height: Some(100), ..Ceiling::default() };
    world.choose(LayerChoice { ceiling, ..LayerChoice::default() });
    assert_eq!(world.run(0.1, 9_000), "q1");
}

#[test]
fn a_layer_that_is_chosen_flows_at_once_and_as_long_as_the_link_bears_it() {
    let mut world = World::new();
    assert_eq!(world.run(5.0, 1_000), "h0");
    world.choose(by_name("f"));
    assert_eq!(world.run(0.1, 1_000), "f0", "the estimate is no more than what was sent");
    assert_eq!(world.run(30.0, 1_100), "f0");
    assert_eq!(world.run(0.1, 850), "h0", "the link has shown that it does not");
    assert_eq!(world.run(8.0, 2_000), "h0");
    world.choose(by_name("q"));
    assert_eq!(world.run(0.1, 2_000), "q2");
    world.choose(by_name("h"));
    assert_eq!(world.run(20.0, 2_000), "h0");
    world.choose(LayerChoice::default());
    assert_eq!(world.run(2.0, 5_000), "f0");
}

#[test]
fn twenty_choices_are_twenty_switches() {
    let mut world = World::new();
    world.run(5.0, 5_000);
    for turn in 0..20 {
        let rid = ["q", "f", "h", "f"][turn % 4];
        world.choose(by_name(rid));
        assert!(world.run(0.1, 5_000).starts_with(rid), "{turn}");
        world.run(1.0, 5_000);
    }
}

#[test]
fn a_chosen_layer_that_does_not_flow_is_as_none_chosen_until_it_does() {
    let mut world = World::new();
    world.choose(by_name("x"));
    assert_eq!(world.run(5.0, 5_000), "f0");
    world.choose(by_name("h"));
    assert_eq!(world.run(5.0, 5_000), "h0");
    world.set_active("h", false);
    assert_eq!(world.run(5.0, 5_000), "f0");
    world.set_active("h", true);
    assert_eq!(world.run(0.1, 5_000), "h0");
}

#[test]
fn a_chosen_layer_that_is_withdrawn_is_not_made_up_for_with_a_larger_one() {
    for withdrawn in ["f", "h", "q"] {
        let mut world = World::new();
        world.choose(by_name(withdrawn));
        world.run(2.0, 9_000);
        let layer = world.layers.iter_mut().find(|layer| layer.rid == withdrawn);
        layer.expect("it is one of them").is_withdrawn = true;
        let expected = if withdrawn == "f" { "h" } else { "q" };
        // Where there is nothing smaller, something is better than nothing.
        let expected = if withdrawn == "q" { "f" } else { expected };
        let gets = world.run(15.0, 9_000);
        assert!(gets.starts_with(expected), "{withdrawn}: {gets}");
    }
}

#[test]
fn paused_is_no_picture_and_then_what_fits_at_once() {
    let mut world = World::new();
    world.run(5.0, 5_000);
    world.choose(LayerChoice { paused: true, ..LayerChoice::default() });
    assert_eq!(world.run(1.0, 5_000), "-");
    assert_eq!(world.allotment.wanted, None);
    world.choose(LayerChoice::default());
    assert_eq!(world.run(0.1, 5_000), "f0");
}

/// Of sound alone no estimate grows.
#[test]
fn without_a_picture_the_smallest_is_tried_now_and_then() {
    let mut world = World::new();
    world.run(60.0, 300);
    assert_eq!(world.run(0.1, 60), "-");
    assert_eq!(world.run(3.8, 60), "-");
    assert_eq!(world.run(0.2, 60), "q0");
    assert_eq!(world.run(0.1, 50), "-", "in vain");
    assert_eq!(world.run(9.8, 60), "-");
    assert_eq!(world.run(0.3, 60), "q0");
    assert_eq!(world.run(1.0, 250), "q0");
    assert_eq!(world.run(12.0, 350), "q2");
}

#[test]
fn an_estimate_that_dips_does_not_take_the_last_picture_away() {
    let mut world = World::new();
    // The smallest temporal layer takes 125 kb/s, headers included, beside 50 of sound.
    assert_eq!(world.run(20.0, 185), "q0");
    assert_eq!(world.run(10.0, 165), "q0", "a tenth may be missing");
    assert_eq!(world.run(1.0, 150), "q0", "and a quarter, for a moment");
    assert_eq!(world.run(1.2, 150), "-");
    let mut world = World::new();
    assert_eq!(world.run(20.0, 185), "q0");
    assert_eq!(world.run(0.1, 140), "-");
}

#[test]
fn a_single_layer_is_sent_whatever_is_said_of_the_link() {
    let mut world = World::new();
    world.layers = vec![layer("", 0, 720, &[2_500])];
    assert_eq!(world.run(5.0, 100), "0");
    assert_eq!(world.allotment.wanted, None);
    world.choose(LayerChoice { paused: true, ..LayerChoice::default() });
    assert_eq!(world.run(1.0, 100), "-");
}

#[test]
fn spatial_layers_within_a_layer_are_gone_up_and_down_too() {
    let mut world = World::new();
    let mut svc = layer("", 0, 720, &[1_500, 2_000, 2_500]);
    set_spatial(&mut svc, 3);
    world.layers = vec![svc];
    let spatial = |world: &World| world.allotment.target.map(|it| (it.spatial, it.temporal));
    world.run(5.0, 5_000);
    assert_eq!(spatial(&world), Some((2, 2)));
    world.run(0.1, 1_500);
    assert_eq!(spatial(&world), Some((1, 2)));
    let ceiling = Ceiling { height: Some(180), temporal: Some(0), ..Ceiling::default() };
    world.choose(LayerChoice { ceiling, ..LayerChoice::default() });
    world.run(0.1, 5_000);
    assert_eq!(spatial(&world), Some((0, 0)));
    world.choose(LayerChoice { spatial: Some(1), ..LayerChoice::default() });
    world.run(15.0, 5_000);
    assert_eq!(spatial(&world), Some((1, 2)));
    // Who cannot put them together gets the lowest, whatever it wishes.
    world.spatial_max = 0;
    world.run(15.0, 5_000);
    assert_eq!(spatial(&world), Some((0, 2)));
}
