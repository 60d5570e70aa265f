//! What a player sees that loads playlists again and again, whatever comes.

use super::assert_parts;
use super::stream::{Read, aac, mixed, opus, picture, playlist, read, secs, settings, whole};
use crate::egress::http::presentation::{File, Presentation, Rendition, Settings};
use crate::media::sample::Sample;
use std::time::Duration;

/// Numbers that look like chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    /// Below `end`.
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33).cast_signed() % end.max(1)
    }
}

/// A stream of fourteen seconds that nothing is right with: frame rate, unevenness, keyframes, what
/// is missing, how late sound is, whether it is there.
fn stream(chance: &mut Chance) -> Vec<Sample> {
    let apart = [90_000 / 60, 3_003, 3_000, 3_600, 6_000, 9_000][chance.below(6) as usize];
    let uneven = [0, 90, apart / 2][chance.below(3) as usize];
    let keyframes = [20, 50, 75, 120, 400][chance.below(5) as usize];
    let lost = [0, 0, 40, 200][chance.below(4) as usize];
    let reorders = chance.below(3) == 0;
    let mut pictures = Vec::new();
    let mut at = secs(100.0);
    for index in 0.. {
        let shown = if reorders && index % 3 != 0 { at + apart } else { at + 2 * apart };
        let present = if reorders { shown } else { at };
        let is_lost = lost > 0 && chance.below(lost) == 0;
        if !is_lost {
            let bytes = 200 + chance.below(3_000);
            pictures.push(picture(at, present, index % keyframes == 0, bytes as usize));
        }
        at += apart + if uneven > 0 { chance.below(uneven) - uneven / 2 } else { 0 };
        if at > secs(114.0) {
            break;
        }
    }
    let begins = secs(100.0) + chance.below(secs(1.0)) - secs(0.5);
    let stops = secs(100.0) + chance.below(secs(28.0));
    let late = chance.below(secs(0.4)) - secs(0.2);
    let (frame, make): (i64, fn(i64) -> Sample) =
        if chance.below(2) == 0 { (1_920, |at| aac(at, 3)) } else { (1_800, opus) };
    let sound: Vec<Sample> = (0..1_000)
        .map(|index| begins + index * frame)
        .take_while(|at| *at < secs(114.0))
        .filter(|at| *at < stops || *at > stops + secs(3.0))
        .map(make)
        .collect();
    let mut all = mixed([pictures, sound]);
    all.sort_by_key(|sample| {
        let is_sound = sample.coding.kind() == crate::media::codec::Kind::Audio;
        sample.decode_ticks + if is_sound { late } else { 0 }
    });
    all
}

/// One version of a playlist follows another: what was there is there still and the same, or has
/// left at the beginning; and what was hinted at came next.
pub(super) fn assert_follows(before: &Read, after: &Read) {
    let first = after.segments[0].msn;
    assert!(first >= before.segments[0].msn);
    assert!((after.part_target - before.part_target).abs() < 1e-9);
    let known = before.segments.iter().filter(|segment| segment.msn >= first);
    for (old, new) in known.zip(&after.segments) {
        assert_eq!((old.msn, old.discontinuity), (new.msn, new.discontinuity));
        assert_eq!((old.is_gap, &old.date), (new.is_gap, &new.date));
        // What is missing has none of its own.
        assert!(old.is_gap || old.map == new.map, "{old:?} {new:?}");
        if old.complete.is_some() {
            assert_eq!(old.complete, new.complete);
        }
        // Parts may leave together, once they are old.
        if !new.parts.is_empty() {
            assert_eq!(old.parts[..], new.parts[..old.parts.len()]);
        }
    }
    let names = |read: &Read| -> Vec<String> {
        let parts = read.segments.iter().flat_map(|segment| &segment.parts);
        parts.map(|part| part.name.clone()).collect()
    };
    let old = names(before);
    let last = before.segments.last().map(|segment| segment.msn);
    // What came before a gap may be too old for its parts to be listed.
    let has_gap = after.segments.iter().any(|it| it.is_gap && Some(it.msn) > last);
    if let (Some(next), Some(hint), false) =
        (names(after).iter().find(|name| !old.contains(name)), &before.hint, has_gap)
    {
        assert_eq!(next, hint);
    }
}

/// The 32 bits at a place.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// When a chunk's first sample is decoded, and how long its samples are, as its boxes say.
pub(super) fn times(chunk: &[u8]) -> (u64, u64) {
    let find =
        |kind: &[u8]| chunk.windows(4).position(|four| four == kind).expect("the box is there") + 4;
    let (tfdt, trun) = (find(b"tfdt"), find(b"trun"));
    let begins = u64::from(number(chunk, tfdt + 4)) << 32 | u64::from(number(chunk, tfdt + 8));
    let count = number(chunk, trun + 4) as usize;
    let durations = (0..count).map(|index| u64::from(number(chunk, trun + 12 + 16 * index)));
    (begins, durations.sum())
}

/// Times of decoding have no holes, and are what the playlist says.
fn assert_times(made: &Presentation, read: &Read, scale: f64) {
    let mut next = None;
    for part in read.segments.iter().flat_map(|segment| &segment.parts) {
        let (begins, duration) = times(&whole(made, &part.name));
        assert!(next.is_none_or(|next| next == begins), "{part:?}");
        assert!((duration as f64 / scale - part.duration).abs() < 1e-4, "{part:?}");
        next = Some(begins + duration);
    }
}

#[test]
fn whatever_comes_each_playlist_follows_the_one_before() {
    for seed in 0..24 {
        let mut chance = Chance(seed);
        let window = Duration::from_secs(8);
        let mut made = Presentation::new(Settings { window, ..settings() });
        made.begin("run", None);
        let mut before: Vec<Option<Read>> = (0..Rendition::COUNT).map(|_| None).collect();
        for sample in stream(&mut chance) {
            made.push(sample);
            if chance.below(8) != 0 {
                continue;
            }
            for rendition in Rendition::all().filter(|it| made.position(*it).is_some()) {
                let now = playlist(&made, rendition);
                let before = &mut before[rendition.index()];
                if let Some(before) = before {
                    assert_follows(before, &now);
                }
                let hint = now.hint.clone().expect("it goes on");
                assert_eq!(made.file(&hint), File::Hinted, "seed {seed}");
                *before = Some(now);
            }
        }
        let made_of = Rendition::all().filter(|it| made.position(*it).is_some());
        for rendition in made_of {
            let now = playlist(&made, rendition);
            assert_parts(&now);
            assert_times(&made, &now, if rendition == Rendition::VIDEO { 90e3 } else { 48e3 });
            let delta = made.playlist(rendition, true, "").map(|text| read(&text));
            assert!(delta.is_some_and(|delta| delta.skipped < now.segments.len()));
        }
        let last = |rendition| made.position(rendition).map(|position| position.msn);
        let (video, sounds) = (
            last(Rendition::VIDEO).expect("it plays"),
            [last(Rendition::Aac), last(Rendition::Opus)],
        );
        for sound in sounds.into_iter().flatten() {
            assert!(video.abs_diff(sound) <= 1, "seed {seed}: {video} {sound}");
        }
    }
}
