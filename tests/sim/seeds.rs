//! Worlds by seed: whatever publishers, viewers and networks do, what must hold holds.
//!
//! `make sim SEEDS=1000` runs as many as asked, from `FIRST` on, and optimises a little: that takes
//! 100 s of processor time more to build, and each hundred of seeds 27 s less.

// How much was tried is worth knowing.
#![allow(clippy::print_stdout)]

use crate::plan::Plan;
use crate::play::{Counts, play};
use std::env;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// As many as take less than a minute.
const SEEDS: u64 = 200;
/// Many are enough to see what they have in common.
const TOLD: usize = 5;

fn number(variable: &str, default: u64) -> u64 {
    let Ok(text) = env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic_with(variable, &text))
}

#[allow(clippy::panic, reason = "there is nobody else to tell")]
fn panic_with(variable: &str, text: &str) -> ! {
    panic!("{variable} is a number of seeds, {text:?} is none")
}

/// Plays the plan of one seed: how much happened, or what was broken.
fn try_seed(seed: u64) -> Result<Counts, String> {
    let plan = Plan::drawn(seed);
    let told = |what: &str| format!("{what}\nrepeat it: make sim FIRST={seed} SEEDS=1\n{plan}");
    match catch_unwind(|| play(&plan)) {
        Ok(played) => match played.violation {
            None => Ok(played.counts),
            Some(violation) => Err(told(&violation.to_string())),
        },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(told(&format!("a panic: {}", text.unwrap_or("without a word"))))
        }
    }
}

/// Tries all of them on every core; tells how much happened, and what was broken where.
fn try_seeds(seeds: Range<u64>) -> (Counts, Vec<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((Counts::default(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed))
                {
                    let result = try_seed(seed);
                    let mut found = found.lock().expect("nobody panics with it");
                    match result {
                        Ok(counts) => found.0 += counts,
                        Err(broken) => found.1.push((seed, broken)),
                    }
                }
            });
        }
    });
    let (counts, mut broken) = found.into_inner().expect("nobody panics with it");
    broken.sort();
    (counts, broken)
}

#[test]
fn whatever_clients_and_networks_do_what_must_hold_holds() {
    let (first, seeds) = (number("FIRST", 1), number("SEEDS", SEEDS));
    let (counts, broken) = try_seeds(first..first.saturating_add(seeds));
    println!("seeds {first} to {}: {counts:?}", first + seeds.max(1) - 1);
    let told: Vec<&str> = broken.iter().take(TOLD).map(|(_, told)| told.as_str()).collect();
    let which: Vec<u64> = broken.iter().map(|(seed, _)| *seed).collect();
    let told = told.join("\n");
    assert!(broken.is_empty(), "{} of {seeds} seeds, {which:?}:\n{told}", which.len());
    if seeds >= SEEDS {
        // Whatever is to be looked at was there often enough.
        let some = seeds as usize;
        assert!(counts.connected > some * 3 && counts.packets > some * 500, "{counts:?}");
        assert!(counts.retransmissions > seeds && counts.repeated > seeds, "{counts:?}");
        assert!(counts.cached > seeds && counts.requested > seeds / 4, "{counts:?}");
        assert!(counts.keyframe_requests > seeds / 2 && counts.forwarded > seeds, "{counts:?}");
        assert!(counts.went_on > some / 4 && counts.impostors > some / 10, "{counts:?}");
    }
}

/// Else a seed that has found a fault would not find it again.
#[test]
fn the_same_seed_gives_the_same_world() {
    let digests = |seeds: Range<u64>| -> Vec<u64> {
        seeds.map(|seed| play(&Plan::drawn(seed)).digest).collect()
    };
    let first = digests(1..9);
    assert_eq!(first, digests(1..9));
    let different: std::collections::HashSet<&u64> = first.iter().collect();
    assert_eq!(different.len(), first.len(), "and another one another");
}
