//! What retransmission makes of a bad link.

// The figures go into README.
#![allow(clippy::print_stdout)]

use crate::camera::Camera;
use crate::viewer::Screen;
use crate::world::{World, ms, secs};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

#[test]
fn five_percent_loss_each_way_is_repaired_to_under_a_thousandth_and_not_without_nack() {
    println!("5 % loss each way, round trip 40 ms, 30 s: packets that never came");
    println!("seed     RTX   same packet again   no NACK (control)");
    for seed in SEEDS {
        let mut world = World::seeded(seed);
        let camera = world.publish("lot-42", Camera::default());
        let viewers = [
            Screen { rtx: true, nack: true, ..Screen::default() },
            Screen { rtx: false, nack: true, ..Screen::default() },
            Screen { rtx: false, nack: false, ..Screen::default() },
        ]
        .map(|screen| world.view("lot-42", screen));
        for &viewer in &viewers {
            let client = &mut world.clients[viewer];
            for link in [&mut client.up, &mut client.down] {
                (link.delay, link.loss) = (ms(20), 0.05);
            }
        }
        world.run_for(secs(30));
        world.publisher(camera).sends = false;
        world.run_for(secs(2));
        let [rtx, again, control] = viewers.map(|viewer| {
            let (missing, expected) = world.viewer(viewer).missing();
            assert!(expected > 4_500, "viewer {viewer} of seed {seed} watches: {expected}");
            missing as f64 / expected as f64
        });
        let percent = |share: f64| format!("{:.3} %", share * 100.0);
        println!("{seed:>4}{:>9}{:>16}{:>20}", percent(rtx), percent(again), percent(control));
        assert!(rtx < 0.001, "seed {seed}: {rtx}");
        assert!(again < 0.001, "seed {seed}: {again}");
        assert!(control > 0.03, "seed {seed}: {control}");
    }
}
