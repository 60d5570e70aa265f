//! A viewer climbs to what its link carries and no further, over links as homes have them: with
//! token buckets, packets that are late, and moments in which nothing moves.

// The figures are what this is about.
#![allow(clippy::print_stdout)]

use crate::camera::{CHROMIUM, Camera};
use crate::lot::{Lot, browser};
use crate::world::{ms, secs};
use millrace::media::codec::Kind;
use std::env;
use std::time::Duration;

/// A page's three layers, over a line of this rate whose shaper lets a little pass at once.
fn at_home(seed: u64, rate: u64) -> Lot {
    let mut lot = Lot::viewed(seed, Camera { ladder: CHROMIUM, ..Camera::default() }, rate);
    let ana = lot.ana();
    lot.world.clients[ana].up.delay = ms(10);
    let link = lot.link();
    (link.delay, link.queue, link.bucket) = (ms(10), ms(300), 4_500);
    (link.jitter, link.stalls) = (ms(5), Some((ms(400), ms(15))));
    lot
}

/// So many worlds of each sort; more of them where many are asked for.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    first..first + if env::var("SEEDS").is_ok() { 50 } else { count }
}

#[test]
fn a_line_gets_the_layer_that_fits_and_no_other() {
    for (rate, rid, least) in [(3_000, "f", 1_400), (800, "h", 480), (250, "q", 120)] {
        for seed in seeds(400, 3) {
            let mut lot = at_home(seed, rate);
            let ana = lot.ana();
            let took = lot.until(ana, rid, secs(12));
            lot.world.run_for(secs(20));
            let since = lot.world.now;
            lot.world.run_for(secs(20));
            let (layer, switches) = (lot.layer(ana), lot.switches(ana, since));
            let received = lot.received(ana, since, lot.world.now);
            println!("home {rate} kb/s: {layer} after {took:?}, {received} kb/s, {switches}");
            assert_eq!((layer, switches), (rid, 0), "seed {seed} at {rate} kb/s");
            assert!(received >= least, "{received} kb/s");
        }
    }
}

/// At 600 kb/s the middle layer takes nine tenths of it, with others' moments in between: it is
/// found, if not always at once.
#[test]
fn a_line_that_falls_to_a_fifth_is_climbed_again_when_it_recovers() {
    let (mut ups, mut halves) = (Vec::new(), 0);
    for seed in seeds(500, 5) {
        let mut lot = at_home(seed, 3_000);
        let ana = lot.ana();
        lot.until(ana, "f", secs(12));
        lot.world.run_for(secs(6) + ms(seed * 1_237 % 10_000));
        lot.rate(600);
        lot.world.run_for(secs(2));
        assert_ne!(lot.layer(ana), "f", "seed {seed}");
        lot.world.run_for(secs(18));
        halves += u64::from(lot.layer(ana) == "h");
        assert!(["h", "q"].contains(&lot.layer(ana)), "seed {seed}");
        lot.rate(3_000);
        ups.push(lot.until(ana, "f", secs(30)));
    }
    ups.sort();
    let (median, most) = (ups[ups.len() / 2], ups[ups.len() - 1]);
    println!("home 3,000/600/3,000: {halves} of {} on h; up {median:?}, {most:?}", ups.len());
    assert!(median <= secs(8) && most <= secs(20), "{ups:?}");
}

/// A picture that stands because of what looked like a queue would be worse than a late one.
#[test]
fn links_that_stand_still_for_moments_and_packets_that_are_late_by_chance_stop_no_picture() {
    let mut links: Vec<(Option<(Duration, Duration)>, u64)> = vec![(None, 40), (None, 80)];
    links.extend([(500, 60), (1_000, 120)].map(|(apart, most)| (Some((ms(apart), ms(most))), 5)));
    for (stalls, jitter) in links {
        for seed in seeds(600, 2) {
            let mut lot = Lot::viewed(seed, browser(), 20_000);
            (lot.link().stalls, lot.link().jitter) = (stalls, ms(jitter));
            let ana = lot.ana();
            let took = lot.until(ana, "f", secs(45));
            lot.world.run_for(secs(3));
            let since = lot.world.now;
            lot.world.run_for(secs(30));
            let still = lot.gap(ana, Kind::Video, since, lot.world.now);
            let switches = lot.switches(ana, since);
            let seen = format!("up in {took:?}, {still:?} still, {switches} switches");
            println!("stalls {stalls:?}, jitter {jitter}: {seen}");
            assert!(still < ms(200), "seed {seed}, {stalls:?}, {jitter}: {still:?}");
        }
    }
}
