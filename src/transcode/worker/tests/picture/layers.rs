//! What layers are made of: sizes, ticks, keyframes, bit rates, whatever the source is.

use crate::ipc::picture::{Codec, Layer, Order, Report};
use crate::source::{Frame, X264, decoded, frames};
use crate::talk::{Talk, layer};

const FOUR: [u8; 4] = [0, 1, 2, 3];
const SIZES: [(u16, u16); 4] = [(1280, 720), (854, 480), (640, 360), (256, 144)];

fn four(talk: &mut Talk) {
    for (number, size) in FOUR.into_iter().zip(SIZES) {
        talk.say(&Order::Start(layer(number, size, 500_000)));
    }
}

#[test]
fn each_picture_becomes_one_of_each_layer_with_its_size_and_its_ticks() {
    let mut source = frames(Codec::H264, X264, 40, (1280, 720));
    // Ticks that no clock of nanoseconds or milliseconds has, and that are negative at first.
    for frame in &mut source {
        frame.ticks = frame.ticks * 3 - 100_001;
    }
    let mut talk = Talk::start(Codec::H264);
    four(&mut talk);
    let made = talk.feed(&source, &FOUR);
    for (made, (width, height)) in made.iter().zip(SIZES) {
        let (width, height) = (u32::from(width), u32::from(height));
        let expected: Vec<_> = source.iter().map(|frame| (frame.ticks, width, height)).collect();
        assert_eq!(decoded(made), expected);
    }
}

#[test]
fn all_layers_have_their_idrs_where_the_source_has_its_keyframes_and_where_they_are_asked_for() {
    let source = frames(Codec::H264, X264, 80, (640, 360));
    let keyframes: Vec<i64> =
        source.iter().filter(|frame| frame.is_keyframe).map(|frame| frame.ticks).collect();
    assert_eq!(keyframes, [0, 90_000, 180_000]);
    let mut talk = Talk::start(Codec::H264);
    four(&mut talk);
    let mut made = talk.feed(&source[..40], &FOUR);
    talk.say(&Order::Keyframe);
    for (made, more) in made.iter_mut().zip(talk.feed(&source[40..], &FOUR)) {
        made.extend(more);
    }
    for made in &made[..4] {
        let idrs: Vec<i64> = made.iter().filter(|it| it.is_keyframe).map(|it| it.ticks).collect();
        assert_eq!(idrs, [0, 90_000, source[40].ticks, 180_000]);
    }
}

#[test]
fn a_layer_that_starts_while_others_run_begins_with_an_idr_at_once() {
    let source = frames(Codec::H264, X264, 60, (640, 360));
    let mut talk = Talk::start(Codec::H264);
    talk.say(&Order::Start(layer(0, (480, 270), 400_000)));
    talk.feed(&source[..10], &[0]);
    talk.say(&Order::Start(layer(1, (320, 180), 200_000)));
    let made = talk.feed(&source[10..12], &[0, 1]);
    let first = made[1].first().expect("a frame");
    assert!(first.is_keyframe && first.ticks == source[10].ticks);
    // The one that ran already has no need of another.
    assert!(!made[0][0].is_keyframe);
    talk.say(&Order::Stop(1));
    let made = talk.feed(&source[12..20], &[0]);
    assert_eq!((made[0].len(), made[1].len()), (8, 0));
    // The same number once more, of another size.
    talk.say(&Order::Start(layer(1, (160, 90), 100_000)));
    let made = talk.feed(&source[20..30], &[0, 1]);
    assert!(decoded(&made[1]).iter().all(|(_, width, height)| (*width, *height) == (160, 90)));
}

#[test]
fn a_layer_has_the_bit_rate_that_was_asked_for_last() {
    let source = frames(Codec::H264, X264, 240, (640, 360));
    let mut talk = Talk::start(Codec::H264);
    talk.say(&Order::Start(layer(0, (640, 360), 800_000)));
    let mut made = talk.feed(&source[..120], &[0]).swap_remove(0);
    talk.say(&Order::Bitrate { layer: 0, bitrate_bps: 400_000 });
    made.extend(talk.feed(&source[120..], &[0]).swap_remove(0));
    // All of each rate, after half a second that the change may take.
    for (span, wanted) in [(15..120, 800_000), (135..240, 400_000)] {
        let rate = made[span].iter().map(|frame| frame.data.len()).sum::<usize>() * 8 * 30 / 105;
        assert!(rate.abs_diff(wanted) < wanted / 5, "{rate} for {wanted}");
    }
}

#[test]
fn openh264_makes_layers_as_well() {
    let source = frames(Codec::H264, X264, 60, (640, 360));
    let mut talk = Talk::start(Codec::H264);
    let encoder = "openh264enc".to_owned();
    talk.say(&Order::Start(Layer { encoder, ..layer(1, (320, 180), 500_000) }));
    talk.say(&Order::Start(layer(0, (640, 360), 800_000)));
    // It may leave out pictures to keep its rate, so nothing waits for it.
    let made = talk.feed(&source, &[0]).swap_remove(1);
    assert!(made.len() > 30 && made[0].is_keyframe, "{}", made.len());
    let expected: Vec<_> = made.iter().map(|frame| (frame.ticks, 320, 180)).collect();
    assert_eq!(decoded(&made), expected);
    assert!(made.iter().all(|made| source.iter().any(|frame| frame.ticks == made.ticks)));
}

#[test]
fn openh264_takes_no_more_than_the_bit_rate_that_was_asked_for_last() {
    // Of these rings it makes no less than 1 Mb/s without leaving out most of them.
    const RATES: [u32; 2] = [1_500_000, 1_000_000];
    let source = frames(Codec::H264, X264, 240, (640, 360));
    let mut talk = Talk::start(Codec::H264);
    let encoder = "openh264enc".to_owned();
    talk.say(&Order::Start(Layer { encoder, ..layer(1, (640, 360), RATES[0]) }));
    // It takes longer for each picture, so that the other one has time.
    talk.say(&Order::Start(layer(0, (1280, 720), 2_000_000)));
    let mut made = talk.feed(&source[..120], &[0]).swap_remove(1);
    talk.say(&Order::Bitrate { layer: 1, bitrate_bps: RATES[1] });
    made.extend(talk.feed(&source[120..], &[0]).swap_remove(1));
    // All of each rate, after half a second that the change may take.
    for (span, wanted) in [(15..120, RATES[0]), (135..240, RATES[1])] {
        let span = source[span.start].ticks..source[span.end - 1].ticks;
        let of_it: Vec<_> = made.iter().filter(|it| span.contains(&it.ticks)).collect();
        let rate = of_it.iter().map(|it| it.data.len() as u32).sum::<u32>() * 8 * 30 / 104;
        assert!(rate < wanted + wanted / 5, "{rate} for {wanted}");
        assert!(of_it.len() > 30, "{} pictures of 104", of_it.len());
    }
}

#[test]
fn every_codec_is_decoded() {
    for (codec, encoder) in [
        (Codec::H265, "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10"),
        (Codec::Vp8, "vp8enc deadline=1 keyframe-max-dist=10"),
        (Codec::Vp9, "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=10"),
        (Codec::Av1, "av1enc usage-profile=realtime cpu-used=8 keyframe-max-dist=10"),
    ] {
        let source = frames(codec, encoder, 25, (320, 180));
        assert!(source.len() >= 25 && source[0].is_keyframe, "{codec:?}");
        let mut talk = Talk::start(codec);
        talk.say(&Order::Start(layer(0, (160, 90), 200_000)));
        let made = talk.feed(&source, &[0]);
        let expected: Vec<_> = source.iter().map(|frame| (frame.ticks, 160, 90)).collect();
        assert_eq!(decoded(&made[0]), expected, "{codec:?}");
    }
}

#[test]
fn another_codec_in_the_same_stream_is_decoded_from_its_keyframe_on() {
    let mut talk = Talk::start(Codec::H264);
    talk.say(&Order::Start(layer(0, (160, 90), 200_000)));
    talk.feed(&frames(Codec::H264, X264, 5, (320, 180)), &[0]);
    talk.say(&Order::Source(Codec::Vp8));
    let source = frames(Codec::Vp8, "vp8enc deadline=1", 5, (640, 360));
    assert_eq!(talk.feed(&source, &[0])[0].len(), 5);
}

#[test]
fn pictures_of_a_stream_with_b_frames_come_in_the_order_in_which_they_are_shown() {
    let encoder = "x264enc speed-preset=superfast bframes=3 b-adapt=false key-int-max=20 threads=1";
    let source = frames(Codec::H264, encoder, 60, (320, 180));
    assert!(source.windows(2).any(|two| two[1].ticks < two[0].ticks), "there are B-frames");
    let mut talk = Talk::start(Codec::H264);
    talk.say(&Order::Start(layer(0, (160, 90), 200_000)));
    for frame in &source {
        talk.send(frame);
    }
    let mut shown: Vec<i64> = source.iter().map(|frame| frame.ticks).collect();
    shown.sort_unstable();
    // The decoder keeps the last ones, and whatever is late is thinned out.
    let mut made: Vec<i64> = Vec::new();
    while made.last().is_none_or(|last| *last < shown[50]) {
        made.push(talk.frame().1.ticks);
    }
    assert!(made.windows(2).all(|two| two[0] < two[1]), "{made:?}");
    assert!(made.iter().all(|ticks| shown.contains(ticks)));
}

#[test]
fn frames_that_come_too_fast_are_thinned_out_for_a_layer_that_wants_fewer() {
    let source = frames(Codec::H264, X264, 30, (320, 180));
    let mut talk = Talk::start(Codec::H264);
    let half = Layer { frame_rate_mhz: 15_000, ..layer(1, (160, 90), 100_000) };
    talk.say(&Order::Start(half));
    talk.say(&Order::Start(layer(0, (320, 180), 200_000)));
    let made = talk.feed(&source, &[0]);
    let ticks: Vec<i64> = made[1].iter().map(|frame| frame.ticks).collect();
    assert!(ticks.len() >= 14 && ticks.windows(2).all(|two| two[1] - two[0] == 6000), "{ticks:?}");
}

#[test]
fn an_encoder_that_is_not_there_is_named_and_costs_no_other_layer() {
    let source = frames(Codec::H264, X264, 10, (320, 180));
    let mut talk = Talk::start(Codec::H264);
    for (number, encoder, why) in
        [(1, "nvh264enc", "GStreamer has no nvh264enc"), (2, "fakesink", "fakesink is none of")]
    {
        let encoder = encoder.to_owned();
        talk.say(&Order::Start(Layer { encoder, ..layer(number, (160, 90), 100_000) }));
        talk.send(&source[0]);
        let reason = talk.wait(|report| match report {
            Report::Refused { layer, reason } if *layer == number => Some(reason.clone()),
            _ => None,
        });
        assert!(reason.starts_with(why), "{reason}");
    }
    talk.say(&Order::Start(layer(0, (160, 90), 100_000)));
    talk.send_all(&source);
    let name = talk.wait(|report| match report {
        Report::Encoder { layer: 0, name } => Some(name.clone()),
        _ => None,
    });
    assert!(name.ends_with("enc"), "{name}");
    let _: (u8, Frame) = talk.frame();
}
