//! Where a link does not carry all of an encoding, frames of its higher layers are left out, and
//! nothing tells that they ever were.

// The figures are what this is about.
#![allow(clippy::print_stdout)]

use crate::camera::{BROWSER, Camera};
use crate::lot::Lot;
use crate::scalable::Mode;
use crate::viewer::Screen;
use crate::world::{ms, secs};
use millrace::engine::command::LayerChoice;
use millrace::media::codec::Codec;
use std::collections::BTreeMap;

/// No keyframe in between, behind which everything would wait on a thin link.
const GROUP: u64 = 6_000;

/// About 1,000 kb/s, of which a quarter is in the lowest temporal layer and half in the lower two.
fn temporal(codec: Codec) -> Camera {
    let (packets, payload_bytes, group, mode) = (4, 1_100, GROUP, Mode::L1T3);
    Camera { codec, packets, payload_bytes, group, mode, ..Camera::default() }
}

/// About 2,100 kb/s, of which a tenth is in the lowest spatial layer, a third in the lower two.
fn spatial(codec: Codec) -> Camera {
    let (packets, payload_bytes, group, mode) = (8, 1_100, GROUP, Mode::L3T3KEY);
    Camera { codec, packets, payload_bytes, group, mode, ..Camera::default() }
}

/// What the first viewer is sent in eight seconds: frames by spatial and temporal layer.
fn frames(lot: &mut Lot) -> BTreeMap<(u8, u8), usize> {
    let (ana, since) = (lot.ana(), lot.world.now);
    lot.world.run_for(secs(8));
    let silence = lot.silence(ana, since, lot.world.now);
    assert!(silence < ms(150), "the sound goes on: {silence:?}");
    lot.world.oracle.frames(ana, since)
}

/// The highest of which more than a few came.
fn highest(frames: &BTreeMap<(u8, u8), usize>) -> (u8, u8) {
    let often = frames.iter().filter(|(_, count)| **count > 10).map(|(layers, _)| *layers);
    let often: Vec<(u8, u8)> = often.collect();
    let most = |of: fn(&(u8, u8)) -> u8| often.iter().map(of).max().unwrap_or(0);
    (most(|it| it.0), most(|it| it.1))
}

#[test]
fn a_thin_link_gets_fewer_pictures_and_a_wide_one_all() {
    let codecs = [(600, Codec::Vp8), (601, Codec::Vp9), (603, Codec::H264), (604, Codec::Av1)];
    for (seed, codec) in codecs {
        let mut lot = Lot::viewed(seed, temporal(codec), 3_000);
        lot.world.run_for(secs(3));
        for (rate, temporal, pictures) in [(750, 1, 120), (380, 0, 60), (3_000, 2, 240)] {
            lot.rate(rate);
            lot.world.run_for(secs(9));
            let got = frames(&mut lot);
            let count: usize = got.values().sum();
            println!("{codec} over {rate} kb/s: {got:?}");
            assert_eq!(highest(&got), (0, temporal), "{codec} over {rate} kb/s: {got:?}");
            assert!(count * 100 >= pictures * 95, "{codec} over {rate} kb/s: {count}");
        }
    }
}

#[test]
fn a_thin_link_gets_smaller_pictures_of_one_encoding() {
    for (seed, codec) in (610..).zip([Codec::Vp9, Codec::Av1]) {
        let mut lot = Lot::viewed(seed, spatial(codec), 5_000);
        for (rate, layers) in [(1_200, (1, 2)), (450, (0, 2)), (5_000, (2, 2))] {
            lot.rate(rate);
            lot.world.run_for(secs(9));
            let got = frames(&mut lot);
            println!("{codec} L3T3_KEY over {rate} kb/s: {got:?}");
            assert_eq!(highest(&got), layers, "{rate} kb/s: {got:?}");
            let pictures: usize =
                got.iter().filter(|((spatial, _), _)| *spatial == 0).map(|(_, count)| count).sum();
            assert!(pictures >= 228, "{rate} kb/s: {pictures}");
        }
    }
}

/// Without dependency descriptors nobody could put AV1's spatial layers together.
#[test]
fn who_takes_no_descriptors_gets_the_lowest_spatial_layer_of_av1() {
    let mut lot = Lot::new(615, spatial(Codec::Av1));
    let viewer = lot.view(Screen { dependencies: false, ..Screen::default() }, 5_000);
    lot.view(Screen::default(), 5_000);
    lot.world.run_for(secs(9));
    let wish = LayerChoice { spatial: Some(2), ..LayerChoice::default() };
    for _ in 0..2 {
        let got = frames(&mut lot);
        assert_eq!(highest(&got), (0, 2), "{got:?}");
        assert!(got.values().sum::<usize>() >= 228, "{got:?}");
        lot.choose(viewer, &wish);
    }
}

#[test]
fn who_wishes_for_less_of_an_encoding_is_sent_that() {
    for (seed, codec) in (620..).zip([Codec::Vp9, Codec::Av1]) {
        let mut lot = Lot::viewed(seed, spatial(codec), 8_000);
        let ana = lot.ana();
        lot.world.run_for(secs(8));
        for (spatial, temporal) in [(1, 2), (2, 0), (0, 1), (2, 2)] {
            let wish = LayerChoice {
                spatial: Some(spatial),
                temporal: Some(temporal),
                ..LayerChoice::default()
            };
            lot.choose(ana, &wish);
            lot.world.run_for(secs(5));
            assert_eq!(highest(&frames(&mut lot)), (spatial, temporal), "{codec}");
        }
    }
}

#[test]
fn frames_are_left_out_over_links_that_lose_and_reorder() {
    let cameras = [
        temporal(Codec::Vp8),
        temporal(Codec::H264),
        spatial(Codec::Vp9),
        spatial(Codec::Av1),
        temporal(Codec::Av1),
    ];
    for (seed, camera) in (630..).zip(cameras) {
        let mut lot = Lot::viewed(seed, camera, 3_000);
        let publisher = lot.camera;
        let up = &mut lot.world.clients[publisher].up;
        (up.loss, up.reordering, up.duplication) = (0.02, 0.03, 0.02);
        lot.link().loss = 0.02;
        for rate in [3_000, 800, 3_000, 800] {
            lot.rate(rate);
            lot.world.run_for(secs(8));
            let got = frames(&mut lot);
            let pictures: usize =
                got.iter().filter(|(it, _)| it.0 == 0).map(|(_, count)| count).sum();
            println!("{} lossy over {rate} kb/s: {got:?}", camera.codec);
            assert!(pictures > 60, "{rate} kb/s: {pictures}");
        }
    }
}

/// As Chromium sends VP8.
#[test]
fn of_several_encodings_only_the_smallest_is_thinned() {
    let (codec, ladder, group, mode) = (Codec::Vp8, BROWSER, GROUP, Mode::L1T3);
    let camera = Camera { codec, ladder, group, mode, ..Camera::default() };
    let mut lot = Lot::viewed(640, camera, 4_000);
    let ana = lot.ana();
    for (rate, rid, temporal) in [(4_000, "f", 2), (1_200, "h", 2), (440, "q", 2), (190, "q", 1)] {
        lot.rate(rate);
        lot.world.run_for(secs(9));
        let got = frames(&mut lot);
        println!("three encodings over {rate} kb/s: {} {got:?}", lot.layer(ana));
        assert_eq!((lot.layer(ana), highest(&got).1), (rid, temporal), "{rate} kb/s");
    }
}
