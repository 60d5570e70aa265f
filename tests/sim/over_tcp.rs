//! Viewers without UDP get the layer that their connection carries, and hear.

// The figures are what this is about.
#![allow(clippy::print_stdout)]

use crate::lot::{Lot, browser};
use crate::oracle::Rule;
use crate::viewer::Screen;
use crate::world::{ms, secs};
use std::time::Duration;

/// A viewer over a connection whose link has this rate, in kb/s.
fn connected(seed: u64, rate: u64) -> Lot {
    let mut lot = Lot::new(seed, browser());
    let ana = lot.view(Screen::default(), rate);
    lot.world.connect(ana);
    lot
}

/// Lets time pass; tells the longest that anything waited before it had left.
fn run(lot: &mut Lot, span: Duration) -> Duration {
    let (ana, end) = (lot.ana(), lot.world.now + span);
    let mut longest = Duration::ZERO;
    while lot.world.now < end {
        lot.world.run_for(ms(10));
        let client = &lot.world.clients[ana];
        let connection = client.connection.as_ref().expect("it connects by TCP");
        longest = longest.max(connection.delay(&client.down, lot.world.now));
    }
    longest
}

fn lost(lot: &Lot) -> usize {
    lot.world.clients[lot.ana()].connection.as_ref().map_or(0, |it| it.lost)
}

#[test]
fn connections_over_links_of_three_rates_get_three_layers_and_keep_them() {
    for (seed, rate, layer) in [(900, 4_000, "f"), (901, 1_200, "h"), (902, 350, "q")] {
        let mut lot = connected(seed, rate);
        // What it begins with may be more than a slow link takes in time.
        lot.world.strict = rate > 1_000;
        let ana = lot.ana();
        let took = lot.until(ana, layer, secs(12));
        run(&mut lot, secs(8));
        let since = lot.world.now;
        let waited = run(&mut lot, secs(10));
        let (silence, received) =
            (lot.silence(ana, since, lot.world.now), lot.received(ana, since, lot.world.now));
        println!("TCP, {rate} kb/s: {layer} after {took:?}, {received} kb/s");
        println!("TCP, {rate} kb/s: waits {waited:?}, silence {silence:?}");
        assert!(waited < ms(250) && silence < ms(250), "{waited:?}, {silence:?}");
        let skips = [Rule::Missing, Rule::Gap, Rule::Report];
        let other = lot.world.oracle.violations.iter().find(|it| !skips.contains(&it.rule));
        assert!(other.is_none(), "{other:?}");
        assert_eq!((lot.layer(ana), lot.switches(ana, since), lost(&lot)), (layer, 0, 0));
    }
}

#[test]
fn a_connection_whose_link_halves_is_moved_down_and_up_again_and_its_sound_goes_on() {
    let mut lot = connected(910, 2_800);
    let ana = lot.ana();
    lot.until(ana, "f", secs(12));
    run(&mut lot, secs(10));
    let since = lot.world.now;
    lot.rate(1_400);
    let waited = run(&mut lot, secs(6));
    let (layer, silence) = (lot.layer(ana), lot.silence(ana, since, lot.world.now));
    let settled = run(&mut lot, secs(8));
    println!("TCP halves: {layer}, waited {waited:?}, then {settled:?}, silence {silence:?}");
    assert_eq!((lot.layer(ana), lost(&lot)), ("h", 0));
    // Nothing is lost over TCP: what is on its way is in the way of the sound.
    assert!(waited < ms(700) && silence < ms(400) && settled < ms(250), "{waited:?}, {silence:?}");
    lot.rate(2_800);
    let up = lot.until(ana, "f", secs(20));
    println!("TCP recovers: up in {up:?}");
    assert!(up <= secs(10), "{up:?}");
}
