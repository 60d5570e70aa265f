//! A presentation out of synthetic streams.
//!
//! - `layers`: pictures of several layers, which come and go
//! - `real`: real encoders and a real player
//! - `reload`: what a player sees that loads playlists again and again
//! - `stream`: these streams, and playlists read back

mod layers;
mod real;
mod reload;
mod stream;

use super::{File, Presentation, Rendition};
use crate::media::codec::Kind;
use crate::media::frame::{AudioCoding, Coding};
use crate::media::sample::Sample;
use reload::times;
use stream::{
    Read, mixed, other_picture, packets, picture, pictures, playlist, presentation, secs, settings,
    sound, whole,
};

/// Every part is as long as the draft wants it (§4.4.4.9), bar those that it excepts.
fn assert_parts(read: &Read) {
    for segment in &read.segments {
        for (index, part) in segment.parts.iter().enumerate() {
            let is_last = segment.complete.is_some() && index + 1 == segment.parts.len();
            let least = if is_last { 0.0 } else { 0.85 * read.part_target };
            let is_right = (least..=read.part_target).contains(&part.duration);
            assert!(is_right, "{part:?} of {segment:?}, target {}", read.part_target);
        }
        if let (Some((duration, _)), false) = (&segment.complete, segment.parts.is_empty()) {
            let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
            assert!((sum - duration).abs() < 0.001, "{segment:?}");
            assert!(duration.round() <= read.target_duration, "{segment:?}");
        }
    }
}

#[test]
fn parts_and_segments_are_whole_at_constant_frame_rates() {
    for (rate, target, parts) in [
        ((25, 1), 0.2, 10),
        ((30_000, 1_001), 0.201, 10),
        ((30, 1), 0.2, 10),
        ((60, 1), 0.2, 10),
        ((60_000, 1_001), 0.201, 10),
    ] {
        let made = presentation(pictures(rate, 1.0, 9.0, 2.0));
        let read = playlist(&made, Rendition::VIDEO);
        assert!((read.part_target - target).abs() < 1e-9, "{rate:?}: {}", read.part_target);
        assert_parts(&read);
        let last = &read.segments[2];
        assert_eq!(last.parts.len(), parts, "{rate:?}");
        assert!(last.parts[0].is_independent && !last.parts[1].is_independent);
        assert!(read.segments.iter().all(|segment| segment.parts.len() <= parts));
    }
}

#[test]
fn dates_follow_each_other_while_a_clock_is_measured_anew() {
    // Each segment's clock is some milliseconds off, then more; the last one's is wrong.
    let off = [0, 4_000, -3_000, 30_000, -30_000, 60_000];
    let moved = pictures((25, 1), 0.0, 13.0, 2.0).into_iter().map(|mut sample| {
        let segment = (sample.present_ticks / secs(2.0)) as usize;
        sample.wall = sample.wall.offset_micros(off[segment.min(off.len() - 1)]);
        sample
    });
    let made = presentation(moved);
    let dates: Vec<_> =
        playlist(&made, Rendition::VIDEO).segments.into_iter().map(|it| it.date).collect();
    let ends = ["40.000Z", "42.000Z", "44.000Z", "46.001Z", "48.001Z", "50.060Z", "52.060Z"];
    let is_right = dates.iter().zip(ends).all(|(date, end)| date.ends_with(end));
    assert!(is_right && dates.len() == ends.len(), "{dates:?}");
}

/// A date in milliseconds since midnight.
fn millis(date: &str) -> f64 {
    let time = date.split_once('T').expect("date and time").1.trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, field| sum * 60.0 + field.parse::<f64>().expect("a number"))
        * 1_000.0
}

/// When each segment that is complete begins in the media, in milliseconds.
fn begins(made: &Presentation, read: &Read, scale: f64) -> Vec<f64> {
    let names = read.segments.iter().filter_map(|segment| segment.complete.as_ref());
    names.map(|(_, name)| times(&whole(made, name)).0 as f64 * 1_000.0 / scale).collect()
}

#[test]
fn sound_that_is_placed_by_its_dates_is_where_it_is_or_a_little_before() {
    let rates = [(25, 1), (30, 1), (30_000, 1_001)];
    // How far the clocks of picture and sound are off, in microseconds, and at times twice as far.
    let clocks = [(0, 0), (4_300, 0), (0, 4_300), (0, -4_300), (0, 700), (-14_000, 0), (200, 400)];
    let cases = rates.into_iter().flat_map(|rate| clocks.map(|clock| (rate, clock)));
    for (rate, (picture, tone)) in cases {
        let mut all = mixed([pictures(rate, 0.0, 61.0, 2.0), sound(0.0, 61.0)]);
        for sample in &mut all {
            let off = if sample.coding.kind() == Kind::Audio { tone } else { picture };
            let since = sample.present_ticks / secs(7.0) + 1;
            sample.wall = sample.wall.offset_micros(off * (1 + since % 2));
        }
        let made = presentation(all);
        let (video, aac) = (playlist(&made, Rendition::VIDEO), playlist(&made, Rendition::Aac));
        let (pictures, tones) = (begins(&made, &video, 90e3), begins(&made, &aac, 48e3));
        // As hls.js does: the first segment by its date beside one in the middle of the picture's,
        // the others behind it.
        let middle = pictures.len() / 2;
        let dates = millis(&aac.segments[0].date) - millis(&video.segments[middle].date);
        let mut place = pictures[middle] + dates;
        for (segment, is) in aac.segments.iter().zip(tones) {
            assert!(
                (0.1..9.0).contains(&(is - place)),
                "{rate:?}, {picture}, {tone}: {place} {is}"
            );
            place += segment.complete.as_ref().map_or(0.0, |(duration, _)| duration * 1_000.0);
        }
    }
}

#[test]
fn no_segment_is_said_to_last_longer_than_browsers_tell_of_it() {
    for rate in [(25, 1), (30, 1), (30_000, 1_001), (60_000, 1_001)] {
        let made = presentation(mixed([pictures(rate, 0.0, 15.0, 2.0), sound(0.0, 15.0)]));
        for (rendition, scale) in [(Rendition::VIDEO, 90e3), (Rendition::Aac, 48e3)] {
            let read = playlist(&made, rendition);
            let begins = begins(&made, &read, scale);
            assert!(begins.len() >= 5);
            for (segment, ends) in read.segments.iter().zip(begins.windows(2)) {
                let lasts = segment.complete.as_ref().map_or(0.0, |(duration, _)| *duration);
                let less = (ends[1] - ends[0]) / 1_000.0 - lasts;
                assert!((5e-6..50e-6).contains(&less), "{rate:?}, {rendition:?}: {less}");
            }
        }
    }
}

#[test]
fn a_segment_is_its_parts_byte_for_byte() {
    let made = presentation(mixed([pictures((25, 1), 0.0, 7.0, 2.0), sound(0.0, 7.0)]));
    for rendition in [Rendition::VIDEO, Rendition::Aac] {
        let read = playlist(&made, rendition);
        let (mut compared, mut recent) = (0, read.segments.iter());
        for segment in recent.by_ref().filter(|it| it.complete.is_some() && !it.parts.is_empty()) {
            let (_, name) = segment.complete.clone().expect("it is complete");
            let parts: Vec<u8> =
                segment.parts.iter().flat_map(|part| whole(&made, &part.name)).collect();
            assert_eq!(whole(&made, &name), parts, "{name}");
            compared += 1;
        }
        assert!(compared >= 2);
        assert_eq!(&whole(&made, &read.segments[0].map)[4..8], b"ftyp");
        assert_eq!(made.file(&read.hint.expect("one comes")), File::Hinted);
    }
}

#[test]
fn sound_is_cut_where_the_picture_is() {
    for late in [-0.15, 0.0, 0.15] {
        let mut all = mixed([pictures((25, 1), 1.0, 9.0, 2.0), sound(0.7, 9.0)]);
        all.sort_by_key(|sample| {
            let is_sound = sample.coding.kind() == Kind::Audio;
            sample.decode_ticks + if is_sound { secs(late) } else { 0 }
        });
        let made = presentation(all);
        let (video, aac) = (playlist(&made, Rendition::VIDEO), playlist(&made, Rendition::Aac));
        assert_parts(&aac);
        for (one, other) in video.segments.iter().zip(&aac.segments) {
            assert_eq!(one.msn, other.msn);
            let millis =
                |date: &str| -> f64 { date[17..date.len() - 1].parse::<f64>().expect("seconds") };
            let apart = millis(&one.date) - millis(&other.date);
            assert!(apart.abs() <= 0.012, "{late}: {} {}", one.date, other.date);
        }
        assert!(aac.segments.len() >= 4);
    }
}

#[test]
fn all_renditions_are_named_once_they_have_a_segment_and_the_first_is_short_if_somebody_waits() {
    let mut made = presentation([]);
    made.expect_sound(&[Rendition::Aac, Rendition::Opus]);
    made.hurry();
    let all = mixed([pictures((25, 1), 0.0, 1.2, 2.0), sound(0.0, 1.2), packets(0.3, 1.2)]);
    for sample in all {
        let plays = |rendition: Rendition| {
            made.position(rendition).is_some_and(|it| it.is_complete || it.msn > 0)
        };
        let all = [Rendition::VIDEO, Rendition::Aac, Rendition::Opus];
        assert_eq!(made.multivariant("").is_some(), all.into_iter().all(plays));
        made.push(sample);
    }
    let text = made.multivariant("token=a").expect("all are there");
    assert!(text.contains("CODECS=\"avc1.64001e,mp4a.40.2\",RESOLUTION=642x362"), "{text}");
    assert!(text.contains("FRAME-RATE=25.000,AUDIO=\"opus\"\nvideo.m3u8?token=a\n"), "{text}");
    let first = &playlist(&made, Rendition::VIDEO).segments[0];
    assert_eq!(first.parts.len(), 3, "{first:?}");
    assert!(made.wants_keyframe(), "nobody can begin with the second");
}

#[test]
fn what_there_is_does_for_the_first_playlist_where_something_stays_away() {
    let mut made = presentation(pictures((25, 1), 0.0, 1.0, 2.0));
    made.expect_sound(&[Rendition::Aac]);
    assert_eq!(made.multivariant(""), None);
    made.make_do();
    assert!(made.multivariant("").is_some());
}

#[test]
fn a_keyframe_is_asked_for_once_for_a_segment() {
    let mut made = presentation([]);
    let mut asked = Vec::new();
    let mut keyframe_at = 0;
    for index in 0..300 {
        let ticks = index * 3_600;
        made.push(picture(ticks, ticks, index == keyframe_at, 1_000));
        if made.wants_keyframe() {
            asked.push(index);
            keyframe_at = index + 4;
        }
    }
    let apart: Vec<i64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(asked.len() >= 5 && apart.iter().all(|apart| *apart == 49), "{asked:?}");
    let read = playlist(&made, Rendition::VIDEO);
    assert_parts(&read);
    let mut first = read.segments.iter().filter_map(|segment| segment.parts.first());
    assert!(first.all(|part| part.is_independent));
}

#[test]
fn uneven_pictures_make_even_parts() {
    // A camera: 28 to 45 ms apart, with one that is missing now and then.
    let (mut ticks, mut state) = (0_i64, 7_u32);
    let mut all = Vec::new();
    for index in 0..600 {
        all.push(picture(ticks, ticks, index % 54 == 0, 1_000));
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let missing = if index % 37 == 36 { 33 } else { 0 };
        ticks += (28 + i64::from(state >> 16) % 18 + missing) * 90;
    }
    let read = playlist(&presentation(all), Rendition::VIDEO);
    assert!(read.part_target < 0.25, "{}", read.part_target);
    assert_parts(&read);
    assert!(read.segments.len() > 5);
}

#[test]
fn a_publisher_that_returns_and_one_that_changes_are_discontinuities() {
    let mut made = presentation(mixed([pictures((25, 1), 0.0, 4.0, 2.0), sound(0.0, 4.0)]));
    made.begin("again", None);
    let again = mixed([pictures((25, 1), 900.0, 905.0, 2.0), sound(900.0, 905.0)]);
    for sample in again {
        made.push(sample);
    }
    made.push(other_picture(secs(905.0)));
    for index in 1..60 {
        let ticks = secs(905.0) + index * 3_600;
        made.push(picture(ticks, ticks, false, 100));
    }
    for sample in sound(905.0, 907.0) {
        made.push(sample);
    }
    let (video, aac) = (playlist(&made, Rendition::VIDEO), playlist(&made, Rendition::Aac));
    let told = |read: &Read| -> Vec<(u64, u64)> {
        read.segments.iter().map(|segment| (segment.msn, segment.discontinuity)).collect()
    };
    let expected = [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 2)];
    assert_eq!(told(&video), expected);
    assert_eq!(told(&aac), expected);
    let maps: Vec<&str> = video.segments.iter().map(|segment| segment.map.as_str()).collect();
    assert_eq!(maps[1..3], ["run_video_init0.mp4", "again_video_init0.mp4"]);
    assert_eq!(maps[4..], ["again_video_init0.mp4", "again_video_init1.mp4"]);
    made.end();
    let ended = playlist(&made, Rendition::VIDEO);
    assert!(ended.is_over && ended.hint.is_none() && ended.reports.is_empty());
    assert!(ended.segments.iter().all(|segment| segment.complete.is_some()));
    assert!(made.position(Rendition::Aac).is_some_and(|position| position.is_over));
}

#[test]
fn what_is_held_is_bounded_whatever_comes() {
    for (bytes, keyframes) in [(1_000, 50), (200_000, 50), (200_000, u32::MAX), (1_500_000, 50)] {
        let mut made = Presentation::new(settings());
        made.begin("run", None);
        for index in 0..2_000_u32 {
            let ticks = i64::from(index) * 3_600;
            made.push(picture(ticks, ticks, index % keyframes == 0, bytes));
            for sample in sound(ticks as f64 / 90_000.0, (ticks + 3_600) as f64 / 90_000.0) {
                made.push(sample);
            }
            assert!(made.held() <= settings().bytes_max, "{}", made.held());
        }
        assert!(made.position(Rendition::VIDEO).is_some());
    }
}

#[test]
fn segments_are_few_however_short_they_are() {
    // Each picture has another size than the one before, and they are a tick apart.
    let change = |index: i64| {
        if index % 2 == 0 { picture(index, index, true, 100) } else { other_picture(index) }
    };
    let made = presentation((0..4_000).map(change));
    let text = made.playlist(Rendition::VIDEO, false, "").expect("there is one");
    assert!(text.len() < 500_000, "{}", text.len());
    // Sound, each frame of which is coded in another way.
    let made = presentation((0..4_000).map(|index| stream::aac(index, 3 + (index % 2) as u8)));
    let text = made.playlist(Rendition::Aac, false, "").expect("there is one");
    assert!(text.len() < 500_000, "{}", text.len());
}

#[test]
fn a_window_moves_and_what_has_left_it_is_kept_for_a_while() {
    let made = presentation(pictures((25, 1), 0.0, 120.0, 2.0));
    let read = playlist(&made, Rendition::VIDEO);
    let seconds: f64 = read.segments.iter().filter_map(|it| Some(it.complete.as_ref()?.0)).sum();
    assert!((19.999..24.0).contains(&seconds), "{seconds}");
    let first = read.segments[0].msn;
    for (back, is_there) in [(1, true), (9, true), (20, false)] {
        let name = format!("run_video_{}.m4s", first - back);
        assert_eq!(matches!(made.file(&name), File::Whole(_)), is_there, "{name}");
    }
    // Parts of the last three target durations only.
    let with_parts = read.segments.iter().filter(|segment| !segment.parts.is_empty()).count();
    assert!((2..=4).contains(&with_parts), "{with_parts}");
    let delta = made.playlist(Rendition::VIDEO, true, "").expect("there is one");
    let delta = stream::read(&delta);
    assert!(delta.skipped > 2);
    assert_eq!(
        delta.segments[..],
        read.segments
            .iter()
            .skip(delta.skipped)
            .map(|segment| {
                let mut segment = segment.clone();
                segment.map.clear();
                segment
            })
            .collect::<Vec<_>>()[..]
    );
}

/// The seconds of a playlist's segments, complete or not.
fn seconds(read: &Read) -> f64 {
    let of = |segment: &stream::Listed| match &segment.complete {
        Some((duration, _)) => *duration,
        None => segment.parts.iter().map(|part| part.duration).sum(),
    };
    read.segments.iter().map(of).sum()
}

#[test]
fn sound_that_stops_does_not_stop_the_picture_and_comes_back_in_its_place() {
    for kind in [sound as fn(f64, f64) -> Vec<Sample>, packets] {
        let mut made = presentation([]);
        let all = mixed([pictures((25, 1), 0.0, 10.0, 2.0), kind(0.0, 3.0), kind(6.0, 10.0)]);
        let rendition = match all.iter().find(|sample| sample.coding.kind() == Kind::Audio) {
            Some(Sample { coding: Coding::Audio(AudioCoding::Opus), .. }) => Rendition::Opus,
            _ => Rendition::Aac,
        };
        for sample in all {
            let at = sample.decode_ticks;
            made.push(sample);
            if at > secs(1.0) {
                let (video, heard) =
                    (playlist(&made, Rendition::VIDEO), playlist(&made, rendition));
                assert!(seconds(&video) - seconds(&heard) < 2.0, "at {at}");
            }
        }
        let (video, heard) = (playlist(&made, Rendition::VIDEO), playlist(&made, rendition));
        assert_eq!(video.segments.len(), heard.segments.len());
        assert!((seconds(&video) - seconds(&heard)).abs() < 0.3);
        assert_parts(&heard);
    }
}

#[test]
fn sound_that_is_always_late_is_not_taken_for_silence_for_ever() {
    let mut all = mixed([pictures((25, 1), 0.0, 30.0, 2.0), sound(0.0, 30.0)]);
    all.sort_by_key(|sample| {
        let is_sound = sample.coding.kind() == Kind::Audio;
        sample.decode_ticks + if is_sound { secs(2.0) } else { 0 }
    });
    let made = presentation(all);
    let aac = playlist(&made, Rendition::Aac);
    let last = aac.segments.iter().rev().find_map(|it| it.complete.clone()).expect("complete");
    let bytes = whole(&made, &last.1);
    // Frames of the publisher have 300 bytes, those of silence nine.
    assert!(bytes.len() > 20_000, "{}", bytes.len());
}

#[test]
fn sound_that_a_publisher_has_no_longer_is_silent() {
    let mut made = presentation(mixed([pictures((25, 1), 0.0, 4.0, 2.0), sound(0.0, 4.0)]));
    made.begin("again", None);
    for sample in pictures((25, 1), 50.0, 56.0, 2.0) {
        made.push(sample);
    }
    let (video, aac) = (playlist(&made, Rendition::VIDEO), playlist(&made, Rendition::Aac));
    assert_eq!(aac.segments.last().expect("some").map, "again_aac_init0.mp4");
    assert!(seconds(&video) - seconds(&aac) < 1.0);
    assert_parts(&aac);
}

#[test]
fn sound_that_is_coded_in_another_way_begins_with_a_discontinuity() {
    let other: Vec<Sample> =
        (0..200).map(|index| stream::aac(secs(5.0) + index * 2_090, 4)).collect();
    let made = presentation(mixed([pictures((25, 1), 0.0, 9.0, 2.0), sound(0.0, 5.0), other]));
    let (video, aac) = (playlist(&made, Rendition::VIDEO), playlist(&made, Rendition::Aac));
    let told = |read: &Read| -> Vec<(u64, u64)> {
        read.segments.iter().map(|segment| (segment.msn, segment.discontinuity)).collect()
    };
    assert_eq!(told(&video), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)]);
    assert_eq!(told(&aac), told(&video));
    assert_eq!(aac.segments[3].map, "run_aac_init1.mp4");
    assert_parts(&aac);
}

#[test]
fn a_clock_that_jumps_is_a_discontinuity() {
    for to in [-5_000.0, 5_000.0] {
        let before = mixed([pictures((25, 1), 9_000.0, 9_005.0, 2.0), sound(9_000.0, 9_005.0)]);
        let (from, end) = (9_000.0 + to, 9_005.0 + to);
        let after = mixed([pictures((25, 1), from, end, 2.0), sound(from, end)]);
        let made = presentation(before.into_iter().chain(after));
        for rendition in [Rendition::VIDEO, Rendition::Aac] {
            let read = playlist(&made, rendition);
            assert_parts(&read);
            let numbers: Vec<u64> = read.segments.iter().map(|it| it.discontinuity).collect();
            assert_eq!(numbers, [0, 0, 0, 1, 1, 1], "{to}");
        }
    }
}

#[test]
fn pictures_that_last_long_are_cut_into_segments_in_time() {
    // A screen that stands still: 30 pictures a second, then one a second, then none for 8 s.
    let mut all = pictures((30, 1), 0.0, 3.0, 2.0);
    for second in 3..20 {
        all.push(picture(secs(f64::from(second)), secs(f64::from(second)), second % 2 == 0, 500));
    }
    all.extend(pictures((30, 1), 28.0, 32.0, 2.0));
    let made = presentation(mixed([all, sound(0.0, 32.0)]));
    let video = playlist(&made, Rendition::VIDEO);
    for segment in &video.segments {
        if let Some((duration, _)) = &segment.complete {
            assert!(duration.round() <= video.target_duration, "{segment:?}");
        }
    }
    let long = video.segments.iter().flat_map(|segment| &segment.parts);
    assert!(long.clone().all(|part| part.duration <= 2.0));
}

#[test]
fn a_picture_that_stops_does_not_stop_the_sound() {
    let all = mixed([pictures((25, 1), 0.0, 3.0, 2.0), sound(0.0, 12.0)]);
    let made = presentation(all);
    let aac = playlist(&made, Rendition::Aac);
    let seconds: f64 = aac.segments.iter().filter_map(|it| Some(it.complete.as_ref()?.0)).sum();
    assert!(seconds > 9.0, "{seconds}");
    assert_parts(&aac);
}

#[test]
fn sound_alone_plays() {
    let made = presentation(sound(0.0, 6.0));
    let aac = playlist(&made, Rendition::Aac);
    assert_parts(&aac);
    assert!((aac.part_target - 0.192).abs() < 1e-9, "{}", aac.part_target);
    let text = made.multivariant("").expect("it plays");
    assert!(text.ends_with("CODECS=\"mp4a.40.2\"\naac.m3u8\n"), "{text}");
    assert_eq!(made.playlist(Rendition::VIDEO, false, ""), None);
}
