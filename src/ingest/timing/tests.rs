//! Publishers whose clocks and links do what real ones do.

use super::*;
use crate::media::codec::Codec;
use crate::media::frame::{AudioCoding, Coding};
use bytes::Bytes;
use proptest::prelude::*;
use std::ops::Range;

const MS: i64 = SECOND / 1_000;
const VIDEO: usize = Kind::Video.index();
const AUDIO: usize = Kind::Audio.index();

/// One publisher on its line. Sound comes every 20 ms, pictures every 40 ms, and a keyframe every
/// two seconds. All times are in milliseconds from the beginning.
struct World {
    timing: Timing,
    start: Instant,
    has: [bool; 2],
    shown: [Vec<Shown>; 2],
    late: [Vec<i64>; 2],
}

/// A frame on the line.
#[derive(Debug, Clone, Copy)]
struct Shown {
    made: i64,
    arrival: i64,
    line: i64,
    /// The moment that its place stands for.
    moment: i64,
}

impl World {
    fn new() -> Self {
        Self {
            timing: Timing::new(Duration::from_secs(2)),
            start: Instant::now() + Duration::from_hours(1),
            has: [true; 2],
            shown: [Vec::new(), Vec::new()],
            late: [Vec::new(), Vec::new()],
        }
    }

    fn only(kind: Kind) -> Self {
        Self { has: Kind::ALL.map(|it| it == kind), ..Self::new() }
    }

    /// What is made in this time arrives with a delay, and its publisher has a clock in ticks.
    fn publish(
        &mut self,
        made: Range<i64>,
        delay: impl Fn(Kind, i64) -> i64,
        clock: impl Fn(Kind, i64) -> i64,
    ) {
        let all = made.step_by(20).flat_map(|at| [(Kind::Video, at), (Kind::Audio, at)]);
        let is_made = |(kind, at): &(Kind, i64)| {
            self.has[kind.index()] && (*kind == Kind::Audio || at % 40 == 0)
        };
        let mut frames: Vec<(i64, Kind, i64)> =
            all.filter(is_made).map(|(kind, at)| (at + delay(kind, at), kind, at)).collect();
        frames.sort_by_key(|(arrival, ..)| *arrival);
        for (arrival, kind, at) in frames {
            self.send(kind, at, arrival, clock(kind, at));
        }
    }

    fn send(&mut self, kind: Kind, made: i64, arrival: i64, ticks: i64) {
        let frame = frame(kind, ticks, ticks, self.start + Duration::from_millis(arrival as u64));
        match self.timing.place(&frame, made % 2_000 == 0) {
            Placement::At(Placed { ticks, moment, .. }) => {
                let line = (ticks.cast_signed() - LINE_START) / MS;
                let moment = (moment + Duration::from_hours(1)).duration_since(self.start);
                let moment = moment.as_millis() as i64 - 3_600_000;
                self.shown[kind.index()].push(Shown { made, arrival, line, moment });
            }
            Placement::Late => self.late[kind.index()].push(made),
            Placement::Misplaced => {}
        }
    }

    /// All that is shown, by pairs in a row, of both tracks.
    fn steps(&self) -> impl Iterator<Item = (Shown, Shown)> {
        self.shown.iter().flat_map(|track| track.windows(2).map(|pair| (pair[0], pair[1])))
    }

    /// How far the line is ahead of when its frames were made, at the end of each track.
    fn shifts(&self) -> [i64; 2] {
        [VIDEO, AUDIO].map(|kind| self.shown[kind].last().map_or(0, |it| it.line - it.made))
    }

    fn is_nothing_late(&self) -> bool {
        self.late.iter().all(Vec::is_empty)
    }
}

fn frame(kind: Kind, decode_ticks: i64, present_ticks: i64, arrival: Instant) -> Frame {
    let coding = match kind {
        Kind::Video => Coding::Video(Codec::H264),
        Kind::Audio => Coding::Audio(AudioCoding::Opus),
    };
    Frame { coding, decode_ticks, present_ticks, arrival, data: Bytes::new() }
}

const fn at_once(_: Kind, _: i64) -> i64 {
    0
}

const fn in_time(_: Kind, at: i64) -> i64 {
    at * MS
}

#[test]
fn the_line_begins_with_the_first_frame_wherever_the_publisher_begins() {
    for begin in [0, -7, 1 << 33, -(1 << 33), (1 << 40) + 1, -5_000 * MS] {
        let mut world = World::new();
        world.publish(0..10_000, at_once, |_, at| begin + at * MS);
        assert!(world.is_nothing_late());
        for shown in world.shown.iter().flatten() {
            assert_eq!((shown.line, shown.moment), (shown.made, shown.made));
        }
        assert_eq!(world.shown.each_ref().map(Vec::len), [500, 250]);
    }
}

#[test]
fn a_jump_of_both_clocks_is_no_gap_and_keeps_the_tracks_together() {
    for jump in [3_600_000, -3_600_000, 5_000, -5_000, -12_000_000] {
        let mut world = World::new();
        let clock = |_: Kind, at: i64| (at + if at < 6_000 { 0 } else { jump }) * MS;
        world.publish(0..12_000, at_once, clock);
        assert!(world.is_nothing_late(), "{jump}");
        for (before, after) in world.steps() {
            let (step, passed) = (after.line - before.line, after.arrival - before.arrival);
            assert!((0..=passed + 40).contains(&step), "{jump}: {before:?} {after:?}");
        }
        let [video, audio] = world.shifts();
        assert!(video == audio && video.abs() <= 40, "{jump}: {video} {audio}");
    }
}

#[test]
fn a_jump_that_one_track_makes_later_than_the_other_keeps_them_together_too() {
    for (jump, behind) in [(3_600_000, 300), (-3_600_000, 300), (-3_600_000, -300), (5_000, 0)] {
        let mut world = World::new();
        let clock = |kind: Kind, at: i64| {
            let from = 6_000 + if kind == Kind::Audio { behind } else { 0 };
            (at + if at < from { 0 } else { jump }) * MS
        };
        // By arrival alone the tracks would be told apart by up to 120 ms.
        let jitter = |kind, at: i64| if kind == Kind::Video { at / 40 % 4 * 40 } else { 0 };
        world.publish(0..12_000, jitter, clock);
        assert!(world.is_nothing_late(), "{jump}");
        let [video, audio] = world.shifts();
        assert!((video - audio).abs() <= 1, "{jump}: {video} {audio}");
        assert!(world.steps().all(|(before, after)| after.line - before.line <= 200), "{jump}");
    }
}

#[test]
fn tracks_may_begin_apart_or_come_apart() {
    let mut world = World::new();
    world.has[VIDEO] = false;
    world.publish(0..3_000, at_once, in_time);
    world.has[VIDEO] = true;
    world.publish(3_000..9_000, at_once, in_time);
    assert_eq!(world.shifts(), [0, 0]);
    assert!(world.is_nothing_late());

    // Video of the same time comes three seconds after the sound.
    let mut world = World::new();
    let delay = |kind, _| if kind == Kind::Video { 3_000 } else { 0 };
    world.publish(0..20_000, delay, in_time);
    assert_eq!(world.shifts(), [0, 0]);
    assert!(world.is_nothing_late());
}

#[test]
fn tracks_with_clocks_of_their_own_are_put_together_as_they_come() {
    let mut world = World::new();
    world.publish(0..5_000, at_once, |kind, at| {
        at * MS + if kind == Kind::Video { 1 << 40 } else { 0 }
    });
    assert_eq!(world.shifts(), [0, 0]);
}

#[test]
fn what_was_held_up_is_left_out_to_a_keyframe_that_is_on_time() {
    // Nothing comes for five seconds, then all at once.
    let delay = |_: Kind, at: i64| if (5_000..10_000).contains(&at) { 10_000 - at } else { 0 };
    let mut world = World::new();
    world.publish(0..15_000, delay, in_time);
    let [video, audio] = [VIDEO, AUDIO].map(|kind| &world.late[kind]);
    assert_eq!((video.first(), video.last()), (Some(&5_000), Some(&9_960)));
    assert_eq!(audio.first(), Some(&5_000));
    assert!(audio.iter().all(|at| (5_000..=9_980).contains(at)) && audio.len() >= 248);
    assert_eq!(world.shifts(), [0, 0], "the line is the same as before");
    for shown in world.shown.iter().flatten() {
        assert!(shown.arrival - shown.moment <= 2_000, "{shown:?}");
    }
}

#[test]
fn a_backlog_that_comes_fast_is_not_played_from_tape() {
    // Five seconds, caught up with at four times the pace.
    let delay = |_: Kind, at: i64| (5_000 - (at - 5_000) * 3 / 4).max(0) * i64::from(at >= 5_000);
    let mut world = World::new();
    world.publish(0..20_000, delay, in_time);
    let resumed = world.shown[VIDEO].iter().find(|shown| shown.made >= 5_000).expect("it goes on");
    assert_eq!(resumed.made, 12_000, "the first keyframe that is late by less than a second");
    assert_eq!(world.shifts(), [0, 0]);
}

#[test]
fn who_stays_late_is_live_again_from_a_keyframe_on() {
    for kinds in [&Kind::ALL[..], &[Kind::Video], &[Kind::Audio]] {
        let mut world = World { has: Kind::ALL.map(|kind| kinds.contains(&kind)), ..World::new() };
        let delay = |_: Kind, at: i64| if at < 5_000 { 0 } else { 4_000 };
        world.publish(0..20_000, delay, in_time);
        for kind in kinds {
            let shown = &world.shown[kind.index()];
            let resumed = shown.iter().find(|it| it.made >= 5_000).expect("it goes on");
            assert!(resumed.made <= 6_040, "{kinds:?}: {resumed:?}");
            for it in shown.iter().filter(|it| it.made >= 6_040) {
                assert!((it.arrival - it.moment).abs() <= 40, "{kinds:?}: {it:?}");
                assert!((it.arrival - it.line).abs() <= 40, "{kinds:?}: {it:?}");
            }
        }
        if kinds.len() == 2 {
            let [video, audio] = world.shifts();
            assert_eq!(video, audio, "together");
        }
    }
}

#[test]
fn sound_alone_is_left_out_while_it_is_late() {
    let delay = |_: Kind, at: i64| if (5_000..10_000).contains(&at) { 10_000 - at } else { 0 };
    let mut world = World::only(Kind::Audio);
    world.publish(0..12_000, delay, in_time);
    assert_eq!(world.late[AUDIO].first(), Some(&5_000));
    assert_eq!(world.late[AUDIO].last(), Some(&8_980), "one second is near enough");
}

#[test]
fn a_clock_that_drifts_is_followed_without_a_step() {
    for ppm in [200, -200] {
        let mut world = World::new();
        let clock = |_: Kind, at: i64| at * MS + at * MS * ppm / 1_000_000;
        world.publish(0..3_600_000, at_once, clock);
        assert!(world.is_nothing_late());
        assert!(world.steps().all(|(before, after)| after.line - before.line <= 41));
        let [video, audio] = world.shifts();
        assert!((video - 3_600 * ppm / 1_000).abs() <= 1 && (video - audio).abs() <= 1);
        for shown in world.shown.iter().flatten() {
            assert!((shown.arrival - shown.moment).abs() <= 20, "{shown:?}");
        }
    }
}

#[test]
fn an_encoder_that_is_too_slow_loses_nothing() {
    let mut world = World::new();
    world.publish(0..120_000, |_, at| at / 5, in_time);
    assert!(world.is_nothing_late());
    assert_eq!(world.shifts(), [0, 0]);
}

#[test]
fn without_keyframes_it_goes_on_after_a_while() {
    let mut world = World::only(Kind::Video);
    for made in (0..40_000).step_by(40) {
        let arrival = made + if made < 5_000 { 0 } else { 4_000 };
        // Odd: none of them is a keyframe, but the first.
        world.send(Kind::Video, if made == 0 { 0 } else { made + 1 }, arrival, made * MS);
    }
    let shown = &world.shown[VIDEO];
    let resumed = shown.iter().find(|it| it.made >= 5_000).expect("it goes on");
    assert!((20_000..20_100).contains(&resumed.made), "{resumed:?}");
}

#[test]
fn pictures_out_of_order_keep_their_order_and_have_a_time_of_their_own() {
    let mut timing = Timing::new(Duration::from_secs(2));
    let start = Instant::now();
    // I P B B in the order of decoding, all of a time that is rounded to the same.
    let mut place = |decode: i64, present: i64| {
        let arrival = start + Duration::from_millis(decode as u64);
        match timing.place(&frame(Kind::Video, decode * MS, present * MS, arrival), decode == 0) {
            Placement::At(placed) => placed.ticks.cast_signed() - LINE_START,
            other => unreachable!("{other:?}"),
        }
    };
    let times = [(0, 40), (40, 160), (80, 80), (120, 120), (160, 160)].map(|(d, p)| place(d, p));
    assert_eq!(times, [40 * MS, 160 * MS, 80 * MS, 120 * MS, 160 * MS + 1]);
}

#[test]
fn times_that_cannot_be_are_refused() {
    let mut timing = Timing::new(Duration::from_secs(2));
    let now = Instant::now();
    for (decode, present) in [
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
        (i64::MIN, i64::MAX),
        (0, 11 * SECOND),
        (0, -11 * SECOND),
    ] {
        let frame = frame(Kind::Video, decode, present, now);
        assert_eq!(timing.place(&frame, true), Placement::Misplaced);
    }
    assert!(matches!(timing.place(&frame(Kind::Video, 5, 5, now), true), Placement::At(_)));
}

proptest! {
    /// Whatever a publisher says of its times.
    #[test]
    fn sound_rises_and_no_two_pictures_are_at_once(
        frames in proptest::collection::vec(
            (any::<bool>(), any::<bool>(), 0_u64..3_000, any::<i64>(), 0_u32..64, -100_i64..100),
            1..200,
        ),
    ) {
        let (mut timing, mut now) = (Timing::new(Duration::from_secs(2)), Instant::now());
        let mut decode = 0_i64;
        let (mut sound, mut pictures) = (0, Vec::new());
        for (is_video, starts, passed, step, shift, reorder) in frames {
            now += Duration::from_millis(passed / 10);
            decode = decode.wrapping_add(step >> shift);
            let kind = if is_video { Kind::Video } else { Kind::Audio };
            let present = decode.saturating_add(reorder * MS);
            let Placement::At(placed) = timing.place(&frame(kind, decode, present, now), starts)
            else { continue };
            if is_video {
                let newest = &pictures[pictures.len().saturating_sub(15)..];
                prop_assert!(!newest.contains(&placed.ticks));
                pictures.push(placed.ticks);
            } else {
                prop_assert!(placed.ticks > sound);
                sound = placed.ticks;
            }
        }
    }
}
