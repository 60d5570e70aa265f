//! A viewer gets the layer that it wishes to see, as far as there is one.

// The figures are what this is about.
#![allow(clippy::print_stdout)]

use crate::lot::{Lot, browser, kbps};
use crate::world::{ms, secs};
use millrace::engine::command::{Ceiling, LayerChoice};
use millrace::media::codec::Kind;

fn named(rid: &str) -> LayerChoice {
    LayerChoice { rid: Some(rid.to_owned()), ..LayerChoice::default() }
}

#[test]
fn twenty_switches_that_are_wished_for_come_within_a_second_and_a_half_each() {
    let mut lot = Lot::viewed(300, browser(), 8_000);
    let ana = lot.ana();
    lot.until(ana, "f", secs(12));
    let mut most = ms(0);
    for round in 0..20 {
        let rid = ["q", "f", "h", "f"][round % 4];
        lot.choose(ana, &named(rid));
        most = most.max(lot.until(ana, rid, secs(3)));
        lot.world.run_for(secs(2));
        assert_eq!(lot.layer(ana), rid);
    }
    println!("twenty switches: {most:?} at most");
    assert!(most <= ms(1_500), "{most:?}");
    lot.choose(ana, &LayerChoice::default());
    lot.until(ana, "f", secs(10));
}

#[test]
fn what_is_larger_than_its_ceiling_is_not_sent() {
    let size = |width, height| Ceiling { width, height, ..Ceiling::default() };
    let cases = [
        (size(Some(640), Some(368)), "h"),
        (size(Some(300), None), "q"),
        (size(Some(800), None), "h"),
        (size(Some(1_280), Some(720)), "f"),
        (Ceiling { bitrate: Some(kbps(900)), ..Ceiling::default() }, "h"),
        (Ceiling::default(), "f"),
    ];
    let mut lot = Lot::viewed(310, browser(), 8_000);
    let ana = lot.ana();
    lot.until(ana, "f", secs(12));
    for (ceiling, rid) in cases {
        lot.choose(ana, &LayerChoice { ceiling, ..LayerChoice::default() });
        let took = lot.until(ana, rid, secs(10));
        lot.world.run_for(secs(4));
        println!("{ceiling:?}: {rid} in {took:?}");
        assert_eq!(lot.layer(ana), rid, "{ceiling:?}");
    }
}

#[test]
fn a_paused_viewer_hears_and_sees_again_at_once() {
    let mut lot = Lot::viewed(320, browser(), 8_000);
    let ana = lot.ana();
    lot.until(ana, "f", secs(12));
    for _ in 0..3 {
        lot.choose(ana, &LayerChoice { paused: true, ..LayerChoice::default() });
        lot.world.run_for(secs(1));
        let since = lot.world.now;
        lot.world.run_for(secs(4));
        let last = lot.last(ana, Kind::Video).expect("it has seen something");
        assert!(last < since, "nothing is sent of the picture");
        assert!(lot.silence(ana, since, lot.world.now) < ms(100), "the sound goes on");
        let again = lot.world.now;
        lot.choose(ana, &LayerChoice::default());
        lot.world.run_for(ms(1_500));
        let mut got = lot.world.viewer(ana).got[Kind::Video.index()].iter();
        let first = got.find(|got| got.at > again).expect("it sees something");
        println!("paused: sees again after {:?}", first.at - again);
        assert!(first.at - again < ms(1_300));
        lot.world.run_for(secs(5));
    }
}

#[test]
fn a_layer_that_nobody_sends_is_wished_for_in_vain_until_it_comes() {
    let mut lot = Lot::viewed(330, browser(), 8_000);
    let ana = lot.ana();
    lot.until(ana, "f", secs(12));
    lot.choose(ana, &named("x"));
    lot.world.run_for(secs(3));
    assert_eq!(lot.layer(ana), "f");
    lot.stop(1, true);
    lot.world.run_for(secs(2));
    lot.choose(ana, &named("h"));
    lot.world.run_for(secs(3));
    assert_eq!(lot.layer(ana), "f");
    lot.stop(1, false);
    lot.until(ana, "h", secs(4));
}
