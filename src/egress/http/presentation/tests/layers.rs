//! Pictures of several layers, which come and go: a playlist for each, and all of them go on.

use super::stream::{
    Read, attribute, mixed, picture, playlist, presentation, secs, settings, sound,
};
use super::{assert_parts, seconds};
use crate::egress::http::presentation::{Presentation, Rendition, Rung, Settings};
use crate::media::bitrate::Bitrate;
use crate::media::layer::{LayerId, LayerState};
use crate::media::sample::Sample;
use std::time::Duration;

/// Bytes of a picture of the layers that are called `f`, `h` and `q`.
const SIZES: [usize; 3] = [6_000, 1_500, 400];
const RIDS: [&str; 3] = ["f", "h", "q"];

fn id(index: usize) -> LayerId {
    LayerId::at(index).expect("there are as many")
}

/// A picture of the layer with this name; `id`: its place in the publisher's offer.
fn of_layer(name: usize, layer: LayerId, ticks: i64, starts: bool) -> Sample {
    let mut one = picture(ticks, ticks, starts, SIZES[name]);
    if starts {
        // The level, in the parameter set: each layer is another picture.
        let mut data = one.data.to_vec();
        data[4 + 3] = 0x1e + name as u8;
        one.data = data.into();
    }
    Sample { layer, ..one }
}

/// A layer from one second to another, with a keyframe at every other second.
fn layer(name: usize, from: f64, to: f64) -> Vec<Sample> {
    let times = (0..secs(to) / 3_600).map(|index| (index * 3_600, index % 50 == 0));
    let within = times.filter(|(at, _)| *at >= secs(from));
    within.map(|(at, starts)| of_layer(name, id(name), at, starts)).collect()
}

/// What is told of layers: name, place in the offer, whether it flows.
fn told(layers: &[(usize, usize, bool)]) -> Vec<LayerState> {
    let state = |&(name, place, is_active): &(usize, usize, bool)| LayerState {
        layer: id(place),
        rid: RIDS[name].to_owned(),
        bitrate: Bitrate::bps(SIZES[name] as u64 * 200),
        is_active,
        ..LayerState::default()
    };
    layers.iter().map(state).collect()
}

const ALL_FLOW: [(usize, usize, bool); 3] = [(0, 0, true), (1, 1, true), (2, 2, true)];

fn rung(index: usize) -> Rendition {
    Rendition::Video(Rung::all().nth(index).expect("there are as many"))
}

/// Three layers, whose names are told at the beginning.
fn layered(samples: impl IntoIterator<Item = Sample>) -> Presentation {
    let mut made = presentation([]);
    made.set_layers(&told(&ALL_FLOW));
    samples.into_iter().for_each(|sample| made.push(sample));
    made
}

/// The playlists that newcomers are told of, in their order.
fn offered(made: &Presentation) -> Vec<String> {
    let text = made.multivariant("").expect("there is something");
    text.lines().filter(|line| line.starts_with("video")).map(str::to_owned).collect()
}

/// The numbers of segments that are complete, with their discontinuities.
fn numbers(read: &Read) -> Vec<(u64, u64)> {
    let complete = read.segments.iter().filter(|segment| segment.complete.is_some());
    complete.map(|segment| (segment.msn, segment.discontinuity)).collect()
}

#[test]
fn each_layer_has_a_playlist_and_all_are_cut_at_the_same_times() {
    for late in [-0.08, 0.0, 0.08] {
        let mut all =
            mixed([layer(2, 0.0, 9.0), layer(0, 0.0, 9.0), layer(1, 0.0, 9.0), sound(0.0, 9.0)]);
        all.sort_by_key(|sample| {
            let moved = if sample.layer == id(0) { secs(late) } else { 0 };
            sample.decode_ticks + moved
        });
        let made = layered(all);
        let first = playlist(&made, rung(0));
        assert_eq!(numbers(&first), [(0, 0), (1, 0), (2, 0), (3, 0)]);
        for index in 0..3 {
            let read = playlist(&made, rung(index));
            assert_parts(&read);
            assert_eq!(numbers(&read), numbers(&first));
            for (one, other) in read.segments.iter().zip(&first.segments) {
                assert_eq!(one.date, other.date);
                assert!(one.parts.first().is_none_or(|part| part.is_independent));
            }
            assert_eq!(read.reports.len(), 3, "two pictures and the sound");
        }
        assert_eq!(offered(&made), ["video.m3u8", "video-1.m3u8", "video-2.m3u8"]);
        let text = made.multivariant("token=a").expect("there is one");
        let rates: Vec<u64> = text
            .lines()
            .filter(|line| line.starts_with("#EXT-X-STREAM-INF"))
            .map(|line| {
                attribute(line, "AVERAGE-BANDWIDTH").expect("it").parse().expect("a number")
            })
            .collect();
        assert!(rates.windows(2).all(|pair| pair[0] > pair[1]), "{text}");
        assert!(text.contains("video-2.m3u8?token=a"), "{text}");
        assert_eq!(text.matches("FRAME-RATE=25.000,AUDIO=\"aac\"").count(), 3, "{text}");
    }
}

#[test]
fn layers_that_are_a_little_apart_on_the_line_begin_the_same_segments() {
    for apart in [-0.1, -0.03, 0.02, 0.12] {
        let moved = layer(0, 0.0, 9.0).into_iter().map(|mut sample| {
            sample.decode_ticks += secs(apart);
            sample.present_ticks += secs(apart);
            sample
        });
        let all = mixed([layer(2, 0.0, 9.0), moved.collect()]);
        let made = layered(all);
        let (large, small) = (playlist(&made, rung(0)), playlist(&made, rung(2)));
        assert_eq!(numbers(&large), [(0, 0), (1, 0), (2, 0), (3, 0)], "{apart}");
        assert_eq!(numbers(&large), numbers(&small), "{apart}");
        let begins = large.segments.iter().filter_map(|segment| segment.parts.first());
        assert!(begins.clone().all(|part| part.is_independent), "{apart}");
        assert_parts(&large);
    }
}

#[test]
fn a_playlist_whose_layer_stops_goes_on_with_another_until_it_is_back() {
    let mut made = layered([]);
    let all = mixed([
        layer(0, 0.0, 6.0),
        layer(0, 11.0, 21.0),
        layer(1, 0.0, 21.0),
        layer(2, 0.0, 21.0),
        sound(0.0, 21.0),
    ]);
    let mut longest: f64 = 0.0;
    let mut names = Vec::new();
    for sample in all {
        let at = sample.decode_ticks;
        if at >= secs(7.0) && at < secs(11.0) {
            made.set_layers(&told(&[(0, 0, false), (1, 1, true), (2, 2, true)]));
        } else {
            made.set_layers(&told(&ALL_FLOW));
        }
        made.push(sample);
        if made.is_ready() {
            let (large, small) = (playlist(&made, rung(0)), playlist(&made, rung(2)));
            longest = longest.max(seconds(&small) - seconds(&large));
            names.push((at / 90_000, offered(&made)));
        }
    }
    // A second until it is known, and a keyframe.
    assert!(longest < 3.5, "{longest}");
    let large = playlist(&made, rung(0));
    let others = ["video-1.m3u8", "video-2.m3u8"];
    let all = ["video.m3u8", "video-1.m3u8", "video-2.m3u8"];
    let at = |second| names.iter().find(|(at, _)| *at == second).map(|(_, names)| names.clone());
    assert_eq!(at(5), Some(all.map(str::to_owned).to_vec()));
    assert_eq!(at(15), Some(others.map(str::to_owned).to_vec()));
    // Five seconds later, with a keyframe.
    assert_eq!(at(20), Some(all.map(str::to_owned).to_vec()));
    let with_media = large.segments.iter().filter(|segment| !segment.is_gap);
    let mut maps: Vec<&str> = with_media.map(|it| it.map.as_str()).collect();
    maps.dedup();
    let inits = ["run_video_init0.mp4", "run_video_init1.mp4", "run_video_init2.mp4"];
    assert_eq!(maps, inits);
    for index in 1..3 {
        let other = numbers(&playlist(&made, rung(index)));
        assert!(other.ends_with(&numbers(&large)), "{other:?}");
    }
    assert_eq!(large.segments.last().map(|it| it.discontinuity), Some(2));
}

#[test]
fn who_holds_to_a_playlist_goes_on_when_the_publisher_comes_back_with_one_layer() {
    let three = || mixed([layer(0, 0.0, 5.0), layer(1, 0.0, 5.0), layer(2, 0.0, 5.0)]);
    let mut made = layered(three());
    made.begin("one", None);
    for mut sample in layer(1, 50.0, 60.0) {
        sample.layer = LayerId::ONLY;
        made.push(sample);
    }
    let first = playlist(&made, rung(0));
    for index in 0..3 {
        let read = playlist(&made, rung(index));
        assert!(seconds(&first) - seconds(&read) < 2.5, "{index}: {}", seconds(&read));
        let last = read.segments.last().expect("some");
        assert_eq!(last.msn, first.segments.last().expect("some").msn);
        assert!(last.map.starts_with("one_"), "{last:?}");
    }
    assert_eq!(offered(&made), ["video.m3u8"]);
    // And with three again, which it lists in another order.
    made.begin("three", None);
    made.set_layers(&told(&[(2, 0, true), (1, 1, true), (0, 2, true)]));
    let places = |name: usize| id(2 - name);
    for sample in mixed([layer(0, 90.0, 99.0), layer(1, 90.0, 99.0), layer(2, 90.0, 99.0)]) {
        let name = sample.layer.index();
        made.push(Sample { layer: places(name), ..sample });
    }
    assert_eq!(offered(&made), ["video.m3u8", "video-1.m3u8", "video-2.m3u8"]);
    assert_eq!(playlist(&made, rung(1)).segments.last().map(|it| it.discontinuity), Some(2));
}

#[test]
fn a_layer_that_begins_later_is_offered_once_it_can_be_played() {
    let mut made = presentation([]);
    let all = mixed([layer(0, 5.0, 14.0), layer(2, 0.0, 14.0), sound(0.0, 14.0)]);
    let mut known = None;
    for sample in all {
        let at = sample.decode_ticks;
        made.set_layers(&told(&[(0, 0, at >= secs(5.0)), (1, 1, false), (2, 2, true)]));
        made.push(sample);
        if made.is_ready() && offered(&made).len() == 2 {
            known.get_or_insert(at);
        }
    }
    let known = known.expect("both are offered") as f64 / 90_000.0;
    // It begins with the next segment, and is told of when that is complete.
    assert!((7.0..9.2).contains(&known), "{known}");
    // The small one was there first.
    assert_eq!(offered(&made), ["video-1.m3u8", "video.m3u8"]);
    let (large, small) = (playlist(&made, rung(1)), playlist(&made, rung(0)));
    let first = large.segments.first().expect("some");
    let same = small.segments.iter().find(|it| it.msn == first.msn).expect("it has it, too");
    assert_eq!((first.discontinuity, &first.date), (0, &same.date));
    assert_parts(&large);
}

#[test]
fn who_leads_may_stop_and_the_others_do_not_wait_for_it() {
    // The first layer to come is the one that stops.
    let mut made = layered([]);
    for sample in mixed([layer(0, 0.0, 6.0), layer(1, 0.0, 12.0), sound(0.0, 12.0)]) {
        let at = sample.decode_ticks as f64 / 90_000.0;
        made.push(sample);
        let read = playlist_if(&made, rung(1));
        if let Some(read) = read.filter(|_| at > 1.0) {
            assert!(at - seconds(&read) < 0.7, "at {at}: {}", seconds(&read));
        }
    }
    assert_parts(&playlist(&made, rung(1)));
}

fn playlist_if(made: &Presentation, rendition: Rendition) -> Option<Read> {
    made.position(rendition).map(|_| playlist(made, rendition))
}

#[test]
fn keyframes_are_asked_for_once_for_all_layers() {
    let mut made = layered([]);
    let (mut asked, mut keyframe_at) = (Vec::new(), 0);
    for index in 0..500 {
        for name in [2, 1, 0] {
            made.push(of_layer(name, id(name), index * 3_600, index == keyframe_at));
            if made.wants_keyframe() {
                asked.push(index);
            }
        }
        if asked.last() == Some(&index) {
            keyframe_at = index + 4;
        }
    }
    let apart: Vec<i64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(asked.len() >= 9 && apart.iter().all(|apart| *apart == 49), "{asked:?}");
}

#[test]
fn what_all_layers_hold_is_bounded_together() {
    for bytes in [1_000, 100_000, 900_000] {
        let mut made = layered([]);
        for index in 0..1_500_i64 {
            for name in 0..3 {
                let ticks = index * 3_600;
                let one = of_layer(name, id(name), ticks, index % 50 == 0);
                let filled = picture(ticks, ticks, false, bytes).data;
                let data = [&one.data[..], &filled[..]].concat().into();
                made.push(Sample { data, ..one });
                assert!(made.held() <= settings().bytes_max, "{}", made.held());
            }
        }
        assert!((0..3).all(|index| made.position(rung(index)).is_some()));
    }
}

#[test]
fn the_first_pictures_of_all_layers_are_bounded_together() {
    let max = settings().bytes_max;
    let state = |index| LayerState {
        layer: id(index),
        rid: index.to_string(),
        is_active: true,
        ..LayerState::default()
    };
    // As large as a picture may be, of few layers and of many; told at once, or one by one.
    for (share, at_once) in [(8, true), (8, false), (16, true), (16, false)] {
        let mut made = presentation([]);
        for index in 0..200 {
            made.push(picture(index * 3_600, index * 3_600, index % 50 == 0, 100_000));
        }
        made.begin("again", None);
        for index in 0..Rung::COUNT {
            let told = if at_once { Rung::COUNT } else { index + 1 };
            made.set_layers(&(0..told).map(state).collect::<Vec<_>>());
            made.push(Sample { layer: id(index), ..picture(0, 0, true, max / share - 100) });
            assert!(made.held() <= max, "{} of {max}: {share} {at_once}", made.held());
        }
        for (ticks, index) in (1..50).map(|number| number * 3_600).zip(1..) {
            let layer = id(index % Rung::COUNT);
            made.push(Sample { layer, ..picture(ticks, ticks, false, max / share - 100) });
            assert!(made.held() <= max, "{} of {max}: {share} {at_once}", made.held());
        }
    }
}

#[test]
fn whatever_layers_do_each_playlist_follows_the_one_before() {
    for seed in 0..12 {
        let mut state: u64 = seed;
        let mut below = |end: i64| {
            state =
                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (state >> 33).cast_signed() % end.max(1)
        };
        let (mut layers, mut silences) = (Vec::new(), Vec::new());
        for name in 0..3 {
            let (late, apart) = (below(9_000), below(18_000) - 9_000);
            let (stops, lasts) = (below(secs(20.0)), below(secs(8.0)));
            silences.push((secs(11.0) + stops, secs(10.0) + stops + lasts));
            let keyframes = [50, 50, 75, 33][below(4) as usize];
            let phase = [0, 0, 20][below(3) as usize];
            for index in 0..600 {
                let at = index * 3_600 + apart + secs(10.0);
                if name > 0 && (stops..stops + lasts).contains(&(index * 3_600)) {
                    continue;
                }
                let starts = (index + phase) % keyframes == 0;
                layers.push((at + late, of_layer(name, id(name), at, starts)));
            }
        }
        layers.extend(sound(10.0, 34.0).into_iter().map(|it| (it.decode_ticks, it)));
        layers.sort_by_key(|(at, _)| *at);
        let window = Duration::from_secs(8);
        let mut made = Presentation::new(Settings { window, ..settings() });
        made.begin("run", None);
        made.set_layers(&told(&ALL_FLOW));
        let mut before: Vec<Option<Read>> = (0..Rendition::COUNT).map(|_| None).collect();
        for (at, sample) in layers {
            let flows =
                |name: usize| name == 0 || !(silences[name].0..silences[name].1).contains(&at);
            made.set_layers(&told(&[0, 1, 2].map(|name| (name, name, flows(name)))));
            made.push(sample);
            if below(20) != 0 {
                continue;
            }
            for rendition in Rendition::all().filter(|it| made.position(*it).is_some()) {
                let now = playlist(&made, rendition);
                if let Some(before) = &before[rendition.index()] {
                    super::reload::assert_follows(before, &now);
                }
                before[rendition.index()] = Some(now);
            }
        }
        let of_video = |it: &Rendition| it.is_video() && made.position(*it).is_some();
        let ends: Vec<u64> = Rendition::all()
            .filter(of_video)
            .filter_map(|it| made.position(it).map(|position| position.msn))
            .collect();
        assert_eq!(ends.len(), 3, "seed {seed}");
        let (first, last) = (ends.iter().min(), ends.iter().max());
        assert!(last.zip(first).is_some_and(|(last, first)| last - first <= 2), "{seed} {ends:?}");
        for rendition in Rendition::all().filter(|it| made.position(*it).is_some()) {
            assert_parts(&playlist(&made, rendition));
        }
    }
}

#[test]
fn layers_without_names_are_told_apart_by_their_places() {
    let mut made = presentation([]);
    let mut nameless = told(&ALL_FLOW);
    for state in &mut nameless {
        state.rid.clear();
    }
    made.set_layers(&nameless);
    for sample in mixed([layer(0, 0.0, 5.0), layer(1, 0.0, 5.0), layer(2, 0.0, 5.0)]) {
        made.push(sample);
        made.set_layers(&nameless);
    }
    assert_eq!(offered(&made), ["video.m3u8", "video-1.m3u8", "video-2.m3u8"]);
}

/// What is told of a publisher's layer `f`, and of others that are made of it.
fn told_made() -> Vec<LayerState> {
    let mut layers = told(&ALL_FLOW);
    layers[1..].iter_mut().for_each(|layer| layer.is_made = true);
    layers
}

/// A presentation that waits for layers that are made, which begin with a keyframe at this second;
/// when it was ready, if it was by the ninth.
fn begun_with_made(from: f64) -> (Presentation, Option<f64>) {
    let mut made = presentation([]);
    made.expect_made();
    // What its publisher has sent before comes at once; what is made begins behind it.
    let (past, live) = (layer(0, 0.0, 4.5), layer(0, 4.5, 9.0));
    for sample in past {
        made.push(sample);
    }
    assert!(!made.is_ready() && made.awaits_made(), "nothing was told of them");
    made.set_layers(&told_made());
    let mut begun = mixed([live, layer(1, from, 9.0), layer(2, from, 9.0)]);
    let first = begun.iter().filter(|it| it.layer != id(0)).map(|it| it.decode_ticks).min();
    for sample in begun.iter_mut().filter(|it| it.layer != id(0)) {
        if Some(sample.decode_ticks) == first {
            let name = sample.layer.index();
            *sample = of_layer(name, sample.layer, sample.decode_ticks, true);
        }
    }
    let mut ready_at = None;
    for sample in begun {
        let at = sample.decode_ticks as f64 / 90_000.0;
        made.push(sample);
        if made.is_ready() {
            ready_at.get_or_insert(at);
        }
    }
    (made, ready_at)
}

#[test]
fn layers_that_are_made_for_this_are_in_the_first_playlist() {
    // Soon, and behind the next keyframe, with which another could stand in.
    for from in [4.52, 6.32] {
        let (made, ready_at) = begun_with_made(from);
        let waited = ready_at.expect("it is ready at last") - from;
        // Three parts of 200 ms, and what is waited for to know where they end.
        assert!((0.58..1.08).contains(&waited), "{from}: {waited}");
        assert!(!made.awaits_made());
        assert_eq!(offered(&made), ["video.m3u8", "video-1.m3u8", "video-2.m3u8"]);
        for index in 0..3 {
            let read = playlist(&made, rung(index));
            assert!(read.segments.iter().all(|it| it.discontinuity == 0), "no other stood in");
        }
    }
}

#[test]
fn what_is_not_made_in_time_has_another_in_its_place() {
    let (mut made, ready_at) = begun_with_made(9.0);
    assert_eq!(ready_at, None, "it is waited for");
    made.make_do();
    assert_eq!(offered(&made), ["video.m3u8"]);
    for sample in layer(0, 9.0, 14.0) {
        made.push(sample);
    }
    let [own, other] = [0, 1].map(|index| made.position(rung(index)).map(|it| it.msn));
    assert!(own.is_some() && other >= own, "{own:?} {other:?}");
}

#[test]
fn layers_that_cannot_be_made_are_not_waited_for() {
    let mut made = presentation([]);
    let mut layers = told_made();
    layers[1..].iter_mut().for_each(|layer| layer.is_withdrawn = true);
    made.expect_made();
    made.set_layers(&layers);
    for sample in layer(0, 0.0, 4.5) {
        made.push(sample);
    }
    assert!(made.is_ready());
    assert_eq!(offered(&made), ["video.m3u8"]);
}
