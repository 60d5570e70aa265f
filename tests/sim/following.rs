//! A viewer gets the layer that its link carries, as that changes.

// The figures are what this is about.
#![allow(clippy::print_stdout)]

use crate::camera::Camera;
use crate::link::Competing;
use crate::lot::{Lot, browser, kbps};
use crate::tells::Tells;
use crate::viewer::Screen;
use crate::world::{ms, secs};
use millrace::media::codec::Kind;
use std::env;
use std::time::Duration;

/// A link with room for the best layer, of which the half carries the middle one.
const WHOLE: u64 = 2_800;
const HALF: u64 = 1_400;
/// What stands in front of a link that got slower, until its viewer has another layer: word of it
/// comes a round trip and a tenth of a second later.
const QUEUE: Duration = Duration::from_millis(200);
/// The same where a keyframe of the best layer has just gone out: over the half it takes 200 ms.
const QUEUE_WITH_KEYFRAME: Duration = Duration::from_millis(360);

#[test]
fn steady_links_of_three_rates_get_three_layers_and_keep_them() {
    for (seed, rate, layer) in [(1, 4_000, "f"), (2, 1_200, "h"), (3, 350, "q")] {
        let mut lot = Lot::viewed(seed, browser(), rate);
        assert_eq!(lot.allowed(rate).1, layer);
        let (ana, since) = (lot.ana(), lot.world.now);
        let received = lot.assert_steady(ana, rate);
        let switches = lot.switches(ana, since);
        let queue = lot.queue(since);
        println!("steady {rate} kb/s: {layer}, {received} kb/s, {switches} switches, {queue:?}");
        assert!(switches <= 3, "{switches}");
    }
}

/// The link goes from one rate to another: how long it takes until the layer is the one that fits,
/// and the longest wait in front of it.
fn change(lot: &mut Lot, to: u64) -> (Duration, Duration) {
    let (ana, since) = (lot.ana(), lot.world.now);
    lot.rate(to);
    let (_, rid) = lot.allowed(to);
    let took = lot.until(ana, rid, secs(30));
    lot.world.run_for(secs(4).saturating_sub(took));
    (took, lot.queue(since))
}

#[test]
fn a_link_that_halves_is_followed_within_two_seconds_and_climbed_again_within_eight() {
    for seed in 10..10 + if env::var("SEEDS").is_ok() { 50 } else { 4 } {
        let mut lot = Lot::viewed(seed, browser(), WHOLE);
        let ana = lot.ana();
        lot.assert_steady(ana, WHOLE);
        // Keyframes come each ten seconds: just now, or a while ago.
        let most = if seed % 10 == 0 { QUEUE_WITH_KEYFRAME } else { QUEUE };
        lot.world.run_for(ms(seed % 10 * 937));
        let since = lot.world.now;
        let (down, queue) = change(&mut lot, HALF);
        let still = lot.gap(ana, Kind::Video, since, lot.world.now);
        let received = lot.assert_steady(ana, HALF);
        let (up, _) = change(&mut lot, WHOLE);
        println!("halved: down in {down:?}, queue {queue:?}, still {still:?}, up in {up:?}");
        println!("halved: {received} kb/s");
        assert!(down <= secs(2) && queue <= most && up <= secs(8), "seed {seed}");
        assert!(still <= ms(150), "seed {seed}: {still:?}");
        lot.assert_steady(ana, WHOLE);
    }
}

#[test]
fn three_megabits_600_kilobits_and_back_over_a_minute() {
    // All of them where many are asked for: they take minutes.
    let seeds = if env::var("SEEDS").is_ok() { 50 } else { 6 };
    let (mut downs, mut ups, mut queues, mut shares) = (vec![], vec![], vec![], vec![]);
    for seed in 100..100 + seeds {
        let mut lot = Lot::viewed(seed, browser(), 3_000);
        let ana = lot.ana();
        for (rate, span) in [(3_000, 15), (600, 20), (3_000, 25)] {
            let began = lot.world.now;
            let (took, queue) = change(&mut lot, rate);
            let settled = lot.world.now;
            lot.world.run_for((began + secs(span)) - settled);
            let (allowed, rid) = lot.allowed(rate);
            let received = lot.received(ana, settled, lot.world.now);
            assert_eq!(lot.layer(ana), rid, "seed {seed} at {rate} kb/s");
            shares.push(received * 100 / allowed);
            if rate == 600 {
                downs.push(took);
                queues.push(queue);
            } else if span == 25 {
                ups.push(took);
            }
        }
    }
    for spans in [&mut downs, &mut ups, &mut queues] {
        spans.sort();
    }
    let share = shares.iter().min();
    for (what, spans) in [("down", &downs), ("up", &ups), ("queue", &queues)] {
        let (median, most) = (spans[spans.len() / 2], spans[spans.len() - 1]);
        println!("3,000/600/3,000: {what} {median:?} at the median, {most:?} at most");
    }
    println!("3,000/600/3,000: {share:?} % of what is allowed at least");
    assert!(downs.last() <= Some(&secs(2)) && ups.last() <= Some(&secs(8)));
    assert!(share >= Some(&80));
}

#[test]
fn a_link_that_gets_slower_and_slower_is_followed_down_to_the_smallest_layer() {
    let mut lot = Lot::viewed(20, browser(), 3_000);
    let ana = lot.ana();
    lot.assert_steady(ana, 3_000);
    let since = lot.world.now;
    for step in 1..=27 {
        lot.rate(3_000 - 100 * step);
        lot.world.run_for(ms(700));
    }
    let queue = lot.queue(since);
    lot.until(ana, "q", secs(3));
    println!("slower and slower: queue {queue:?}, {} switches", lot.switches(ana, since));
    assert!(queue <= ms(300), "{queue:?}");
}

#[test]
fn a_queue_of_three_seconds_is_not_filled() {
    let mut lot = Lot::viewed(21, browser(), WHOLE);
    lot.link().queue = secs(3);
    let ana = lot.ana();
    lot.assert_steady(ana, WHOLE);
    lot.world.run_for(secs(3));
    let (down, queue) = change(&mut lot, HALF);
    println!("bufferbloat: down in {down:?}, queue {queue:?}");
    assert!(down <= secs(2) && queue <= QUEUE);
    let since = lot.world.now;
    lot.assert_steady(ana, HALF);
    assert!(lot.queue(since) <= ms(200), "{:?}", lot.queue(since));
}

#[test]
fn traffic_that_comes_and_goes_is_given_way_to() {
    let mut lot = Lot::viewed(22, browser(), 4_000);
    let ana = lot.ana();
    lot.assert_steady(ana, 4_000);
    let now = lot.world.now;
    lot.link().competing = Some(Competing::on_off(kbps(2_800), secs(12), now));
    lot.world.oracle.disturb(ana, now);
    let mut layers = Vec::new();
    let began = now;
    for _ in 0..6 {
        lot.world.run_for(ms(11_900));
        layers.push(lot.layer(ana));
        lot.world.run_for(ms(100));
        let now = lot.world.now;
        lot.world.oracle.disturb(ana, now);
    }
    let (silence, queue) = (lot.silence(ana, began, lot.world.now), lot.queue(began));
    println!("on and off: {layers:?}, silence {silence:?}, queue {queue:?}");
    assert!(layers[0] == "h" && layers.contains(&"f"), "{layers:?}");
    assert!(silence < ms(400) && queue < QUEUE, "{silence:?}, {queue:?}");
}

#[test]
fn beside_traffic_that_takes_what_it_can_get_there_is_sound_and_some_picture() {
    let mut lot = Lot::viewed(23, browser(), 4_000);
    lot.link().queue = ms(150);
    let ana = lot.ana();
    lot.assert_steady(ana, 4_000);
    let now = lot.world.now;
    lot.link().competing = Some(Competing::greedy(now));
    lot.world.oracle.disturb(ana, now);
    lot.world.run_for(secs(40));
    let silence = lot.silence(ana, now, lot.world.now);
    let received = lot.received(ana, now + secs(5), lot.world.now);
    let switches = lot.switches(ana, now);
    println!("greedy: {received} kb/s, {switches} switches, silence {silence:?}");
    assert!(silence < ms(600) && received > 60, "{silence:?}, {received}");
}

#[test]
fn a_thin_way_back_is_enough() {
    let mut lot = Lot::viewed(24, browser(), WHOLE);
    let ana = lot.ana();
    let up = &mut lot.world.clients[ana].up;
    (up.rate, up.jitter, up.delay, up.queue) = (Some(kbps(64)), ms(30), ms(60), secs(1));
    lot.assert_steady(ana, WHOLE);
    lot.world.run_for(secs(3));
    let (down, queue) = change(&mut lot, HALF);
    println!("asymmetric: down in {down:?}, queue {queue:?}");
    assert!(down <= secs(2) && queue <= QUEUE);
}

#[test]
fn loss_that_has_nothing_to_do_with_the_rate_costs_no_layer_until_it_is_heavy() {
    for (seed, loss, least) in [(30, 0.02, "f"), (31, 0.05, "f"), (32, 0.10, "q")] {
        let mut lot = Lot::viewed(seed, browser(), 4_000);
        lot.link().loss = loss;
        let ana = lot.ana();
        lot.world.run_for(secs(15));
        let since = lot.world.now;
        lot.world.run_for(secs(20));
        let (layer, received) = (lot.layer(ana), lot.received(ana, since, lot.world.now));
        let silence = lot.silence(ana, since, lot.world.now);
        println!("loss {loss}: {layer}, {received} kb/s, silence {silence:?}");
        assert!(least == "q" || layer == least, "{layer} at {loss}");
        assert!(silence < ms(300) && !layer.is_empty(), "{silence:?}");
    }
}

#[test]
fn bursts_of_loss_and_jitter_do_not_make_layers_take_turns() {
    for (seed, bursts, jitter) in [(33, (0.002, 8), 0), (34, (0.0, 0), 40), (35, (0.001, 20), 25)] {
        let mut lot = Lot::viewed(seed, browser(), 4_000);
        (lot.link().bursts, lot.link().jitter) = (bursts, ms(jitter));
        let ana = lot.ana();
        lot.world.run_for(secs(12));
        let since = lot.world.now;
        lot.world.run_for(secs(30));
        let switches = lot.switches(ana, since);
        println!("bursts {bursts:?}, jitter {jitter}: {}, {switches} switches", lot.layer(ana));
        assert!(switches <= 3 && !lot.layer(ana).is_empty(), "{switches}");
    }
}

#[test]
fn a_path_around_the_world_is_followed_a_little_later() {
    let mut lot = Lot::viewed(36, browser(), WHOLE);
    let ana = lot.ana();
    lot.world.clients[ana].up.delay = ms(150);
    lot.link().delay = ms(150);
    lot.assert_steady(ana, WHOLE);
    let (down, queue) = change(&mut lot, HALF);
    let (up, _) = change(&mut lot, WHOLE);
    println!("far away: down in {down:?}, queue {queue:?}, up in {up:?}");
    assert!(down <= secs(3) && queue <= ms(600) && up <= secs(10));
}

#[test]
fn an_outage_of_a_second_is_got_over() {
    let mut lot = Lot::viewed(37, browser(), WHOLE);
    let ana = lot.ana();
    lot.assert_steady(ana, WHOLE);
    let now = lot.world.now;
    lot.link().outages.push((now, now + secs(1)));
    lot.world.oracle.disturb(ana, now);
    lot.world.run_for(secs(1));
    let up = lot.until(ana, "f", secs(12));
    println!("an outage of a second: back in {up:?}");
}

#[test]
fn a_viewer_that_tells_nothing_gets_the_best_layer() {
    for (seed, tells) in [(40, Tells::Nothing), (41, Tells::Remb)] {
        let mut lot = Lot::new(seed, browser());
        let ana = lot.view(Screen { tells, ..Screen::default() }, 4_000);
        lot.world.run_for(secs(20));
        println!("{tells:?} at 4,000 kb/s: {}", lot.layer(ana));
        assert!(!lot.layer(ana).is_empty());
        assert!(tells == Tells::Remb || lot.layer(ana) == "f");
    }
}

#[test]
fn an_estimate_of_the_viewer_s_own_is_followed_down() {
    let mut lot = Lot::new(42, browser());
    let ana = lot.view(Screen { tells: Tells::Remb, ..Screen::default() }, 1_000);
    lot.world.run_for(secs(15));
    let since = lot.world.now;
    lot.rate(300);
    lot.world.run_for(secs(5));
    let settled = lot.world.now;
    lot.world.run_for(secs(10));
    let silence = lot.silence(ana, settled, lot.world.now);
    println!("REMB: {}, {:?} queued, {silence:?}", lot.layer(ana), lot.queue(since));
    assert!(lot.layer(ana) == "q" && silence < ms(200), "{silence:?}");
}

#[test]
fn without_retransmissions_of_its_own_a_viewer_has_a_picture_again_when_its_link_has() {
    let mut lot = Lot::new(43, browser());
    let ana = lot.view(Screen { rtx: false, ..Screen::default() }, WHOLE);
    lot.world.run_for(secs(20));
    let before = lot.layer(ana);
    let since = lot.world.now;
    lot.rate(350);
    lot.world.run_for(secs(20));
    let (slow, queue) = (lot.layer(ana), lot.queue(since));
    lot.rate(WHOLE);
    lot.world.run_for(secs(30));
    let after = lot.layer(ana);
    println!("no RTX: {before}, at 350 kb/s {slow}, queue {queue:?}, half a minute later {after}");
    assert!(slow == "q" && after == "f", "{slow:?}, {after:?}");
}

#[test]
fn who_comes_late_over_a_slow_link_hears_at_once_and_sees_the_smallest_layer_soon() {
    let mut lot = Lot::new(44, Camera { group: 300, ..browser() });
    lot.view(Screen::default(), 4_000);
    lot.world.run_for(secs(7));
    let since = lot.world.now;
    let ben = lot.view(Screen::default(), 350);
    let took = lot.until(ben, "q", secs(8));
    let first =
        |kind: Kind| lot.world.viewer(ben).got[kind.index()].first().map(|got| got.at - since);
    let (sound, picture) = (first(Kind::Audio), first(Kind::Video));
    println!("late: sound after {sound:?}, picture after {picture:?}, q after {took:?}");
    assert!(sound < Some(ms(1_500)), "{sound:?}");
}
