//! What holds of allotments, whatever is estimated and wished.

use super::super::super::choice::Ceiling;
use super::super::ladder::Ladder;
use super::super::*;
use super::{World, set_spatial};
use proptest::prelude::*;

fn any_capacity() -> impl Strategy<Value = Capacity> {
    let rate = prop_oneof![0_u64..4_000, Just(u64::MAX / 1_000)].prop_map(Bitrate::kbps);
    prop_oneof![
        8 => rate.clone().prop_map(Capacity::Estimated),
        1 => rate.prop_map(Capacity::Start),
        1 => Just(Capacity::Unmeasured),
    ]
}

fn any_choice() -> impl Strategy<Value = LayerChoice> {
    let rid = prop::option::of(prop::sample::select(vec!["f", "h", "q", "x"]));
    let id = || prop::option::of(0_u8..4);
    let side = || prop::option::of(0_u32..2_000);
    let rate = prop::option::of(0_u64..4_000);
    let picture = prop::bool::weighted(0.1);
    (rid, id(), id(), (side(), side(), rate, id(), id()), picture).prop_map(
        |(rid, spatial, temporal, (width, height, rate, most_spatial, most_temporal), paused)| {
            LayerChoice {
                rid: rid.map(ToOwned::to_owned),
                spatial,
                temporal,
                ceiling: Ceiling {
                    width,
                    height,
                    bitrate: rate.map(Bitrate::kbps),
                    spatial: most_spatial,
                    temporal: most_temporal,
                },
                paused,
            }
        },
    )
}

proptest! {
    /// Whatever is estimated and wished, what is allotted is there and is allowed.
    #[test]
    fn what_is_allotted_exists_and_exceeds_nothing(
        steps in prop::collection::vec(
            (any_capacity(), any_choice(), prop::collection::vec(any::<bool>(), 3), 0_u8..3, 1..20),
            1..20,
        ),
    ) {
        let mut world = World::new();
        for (capacity, choice, active, spatial_max, turns) in steps {
            world.choose(choice);
            for (rid, is_active) in ["f", "h", "q"].into_iter().zip(active) {
                world.set_active(rid, is_active);
            }
            set_spatial(&mut world.layers[0], usize::from(spatial_max) + 1);
            for _ in 0..turns {
                world.step(capacity);
                let choice = &world.choice;
                let Some(target) = world.allotment.target else {
                    continue;
                };
                prop_assert!(!choice.paused);
                let state = world.layers.iter().find(|it| it.layer == target.layer);
                let state = state.expect("one of those there are");
                let flows = world.layers.iter().any(|it| it.is_active);
                prop_assert!(state.is_active || !flows);
                if !flows {
                    continue;
                }
                prop_assert!(target.spatial <= choice.spatial_of(state.spatial_max()));
                prop_assert!(target.temporal <= choice.temporal_of(state.temporal_max()));
                let chosen = world.layers.iter().find(|it| {
                    choice.rid.as_ref() == Some(&it.rid) && it.is_active
                });
                if let Some(chosen) = chosen {
                    prop_assert!(chosen.bitrate >= state.bitrate);
                }
            }
        }
    }

    /// A link that is steady, however its estimate trembles, at any speed.
    #[test]
    fn a_picture_changes_three_times_in_ten_seconds_at_most(
        kbps in 60_u64..4_000,
        noise in prop::collection::vec((0.8_f64..1.2, 1_usize..40), 1..200),
    ) {
        let mut world = World::new();
        for (factor, turns) in noise {
            let rate = Bitrate::kbps(kbps).scaled(factor);
            for _ in 0..turns {
                world.step(Capacity::Estimated(rate));
            }
        }
        prop_assert!(world.most_switches() <= 3, "{:?}", world.switches);
    }

    /// The same where the noise waits for the moment at which it does most harm.
    #[test]
    fn nor_does_noise_that_follows_what_is_sent(kbps in 60_u64..4_000, patience in 1_u32..200) {
        let mut world = World::new();
        let mut up = 0;
        for turn in 0..2_000_u32 {
            let before = world.switches.len();
            // It is high until the viewer has gone up, and low until it has gone down.
            let factor = if up % 2 == 0 { 1.2 } else { 0.8 };
            world.step(Capacity::Estimated(Bitrate::kbps(kbps).scaled(factor)));
            if world.switches.len() > before || turn % patience == patience - 1 {
                up += 1;
            }
        }
        prop_assert!(world.most_switches() <= 3, "{:?}", world.switches);
    }

    /// However it was before, a link that is steady for two minutes gets what it carries.
    #[test]
    fn a_steady_link_is_made_use_of(
        before in prop::collection::vec((any_capacity(), 1_usize..60), 0..30),
        kbps in 300_u64..4_000,
    ) {
        let mut world = World::new();
        for (capacity, turns) in before {
            for _ in 0..turns {
                world.step(capacity);
            }
        }
        let gets = world.run(125.0, kbps);
        let budget = (kbps - 50) as f64;
        // Between what it takes to stay and what it takes to go up, either is right.
        let carried: Vec<&str> = [("f0", 2_500.0), ("h0", 700.0), ("q2", 200.0)]
            .into_iter()
            .filter(|(_, kbps)| kbps * Ladder::OVERHEAD <= budget)
            .map(|(gets, _)| gets)
            .collect();
        let is_clear = |kbps: f64| {
            let share = budget / (kbps * Ladder::OVERHEAD);
            !(1.0..Allocator::HEADROOM).contains(&share)
        };
        prop_assume!([2_500.0, 700.0, 200.0].into_iter().all(is_clear));
        prop_assert_eq!(&gets, carried[0]);
    }
}
