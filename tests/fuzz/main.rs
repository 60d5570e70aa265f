//! Every parser against mutated bytes, on stable Rust: nothing may panic.
//!
//! - `engines`: an engine whose clients are authentic and hostile
//! - `frames`: the targets that take frames
//! - `handshake`: whole DTLS handshakes with hostile datagrams between
//! - `mutate`: makes new inputs out of known ones
//! - `rtmp`: the targets of RTMP
//! - `targets`: one function per parser
//! - `sessions`: the targets that need a session around them
//! - `source`: packets and frames as a tap gives them
//!
//! `cargo test` replays `corpus/<target>/*` and a bounded, repeatable run of mutations.
//! `make fuzz` runs each target for `FUZZ_SECONDS` from `FUZZ_SEED` (by default the time of day),
//! `FUZZ_TARGET` alone if that is set. An input that fails is kept in the corpus.

#![allow(missing_docs)]

mod engines;
mod frames;
mod handshake;
mod mutate;
mod rtmp;
#[path = "../sdp/check/mod.rs"]
mod sdp_check;
mod sessions;
mod source;
mod targets;

use mutate::{Random, mutated};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use targets::{TARGETS, Target};

/// The seed of the run in `cargo test`.
const SEED: u64 = 2;
/// No input may take longer in a long run: a slow parser is a way to stall a shard.
const INPUT_TIME_MAX: Duration = Duration::from_secs(1);

fn corpus_folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name)
}

/// The target's own corpus and the recordings it shares with other tests.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut folders = vec![corpus_folder(target)];
    folders.extend(target.recordings.iter().map(|folder| recordings.join(folder)));
    let mut files: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|files| files.map(|file| file.expect("a readable folder").path()))
        .collect();
    files.sort();
    let read = |path: &PathBuf| std::fs::read(path).expect("a readable file");
    let corpus: Vec<Vec<u8>> = files.iter().map(read).collect();
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    corpus
}

/// Runs one input; one that fails is kept, and the panic goes on.
fn run(target: &Target, input: &[u8], origin: &str) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) else { return };
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(input);
    let path = corpus_folder(target).join(format!("crash-{hash:016x}"));
    let kept =
        std::fs::create_dir_all(corpus_folder(target)).and_then(|()| std::fs::write(&path, input));
    eprintln!("{} fails on {origin}", target.name);
    match kept {
        Ok(()) => eprintln!("kept as {}; `cargo test --test fuzz` repeats it", path.display()),
        Err(error) => eprintln!("{} could not be written: {error}", path.display()),
    }
    std::panic::resume_unwind(panic);
}

/// The mutation of a given seed and number.
fn nth(corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    mutated(corpus, &mut Random::seeded(seed.rotate_left(32) ^ number))
}

#[test]
fn the_corpora_and_mutations_of_each_are_survived() {
    for target in TARGETS {
        let corpus = corpus(target);
        for (index, input) in corpus.iter().enumerate() {
            run(target, input, &format!("entry {index} of its corpus"));
        }
        for number in 0..target.mutations {
            let input = nth(&corpus, SEED, number);
            run(target, &input, &format!("mutation {number} of seed {SEED}"));
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_input() {
    let corpus = [b"a=mid:0\r\n".to_vec(), vec![0x80, 0x60, 0, 1]];
    let inputs: Vec<_> = (0..50).map(|number| nth(&corpus, 7, number)).collect();
    assert!((0..50).zip(&inputs).all(|(number, input)| nth(&corpus, 7, number) == *input));
    assert!(inputs.iter().any(|input| *input != inputs[0]), "they differ among each other");
}

#[test]
fn an_input_that_fails_is_told_from_one_that_does_not() {
    let fails_on_seven = |input: &[u8]| assert!(!input.contains(&7), "seven");
    let corpus = [vec![0; 8]];
    let failed = (0..2_000).any(|number| {
        let input = nth(&corpus, SEED, number);
        catch_unwind(AssertUnwindSafe(|| fails_on_seven(&input))).is_err()
    });
    assert!(failed, "two thousand mutations of zeros have no seven in them");
}

#[test]
#[ignore = "runs as long as FUZZ_SECONDS says; see make fuzz"]
fn for_as_long_as_asked() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(60));
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = number("FUZZ_SEED").unwrap_or(since_epoch.as_secs());
    let only = std::env::var("FUZZ_TARGET").ok();
    for target in TARGETS.iter().filter(|target| only.as_ref().is_none_or(|o| o == target.name)) {
        let corpus = corpus(target);
        eprintln!("{}: seed {seed}, {} s", target.name, time.as_secs());
        let end = Instant::now() + time;
        let mut number = 0;
        while Instant::now() < end {
            let input = nth(&corpus, seed, number);
            let began = Instant::now();
            run(target, &input, &format!("mutation {number} of FUZZ_SEED={seed}"));
            assert!(
                began.elapsed() < INPUT_TIME_MAX,
                "{} is slow on mutation {number} of FUZZ_SEED={seed}",
                target.name
            );
            number += 1;
        }
        eprintln!("{}: {number} inputs", target.name);
    }
}
