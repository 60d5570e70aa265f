//! One picture as a JPEG: of which frame, how large, and in which colours.

use crate::ipc::picture::{Codec, Order, Report, STILL_ARGUMENT};
use crate::source::{Frame, X264, frames, frames_of};
use crate::talk::Talk;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

/// What comes of these frames.
fn told(codec: Codec, frames: &[Frame], height: u16) -> Report {
    let mut talk = Talk::start_with(STILL_ARGUMENT, codec);
    talk.send_all(frames);
    talk.say(&Order::Still(height));
    let told = talk.next().expect("it says something");
    assert_eq!(talk.next(), None, "then it ends");
    assert!(talk.child.wait().expect("it was started").success());
    told
}

fn jpeg(codec: Codec, frames: &[Frame], height: u16) -> Vec<u8> {
    match told(codec, frames, height) {
        Report::Still(jpeg) => Some(jpeg),
        _ => None,
    }
    .expect("a picture")
}

/// Width and height of a JPEG, and its red, green and blue in the middle, as they are shown.
fn shown(jpeg: Vec<u8>) -> (i32, i32, [u8; 3]) {
    // SOI and EOI (ITU-T T.81 §B.1.1.3): nothing stands before or after.
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    gst::init().expect("GStreamer is there");
    let line = "appsrc name=in caps=image/jpeg,parsed=true ! avdec_mjpeg ! videoconvert ! \
                video/x-raw,format=RGB ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(line).expect("elements that the worker needs itself");
    let bin = pipeline.downcast_ref::<gst::Bin>().expect("a pipeline is a bin");
    let sink = bin.by_name("out").and_then(|sink| sink.downcast::<AppSink>().ok());
    let source = bin.by_name("in").and_then(|source| source.downcast::<AppSrc>().ok());
    let (sink, source) = (sink.expect("a sink"), source.expect("a source"));
    pipeline.set_state(gst::State::Playing).expect("it starts");
    source.push_buffer(gst::Buffer::from_slice(jpeg)).expect("it takes it");
    source.end_of_stream().expect("it ends");
    let sample = sink.pull_sample().expect("a picture");
    pipeline.set_state(gst::State::Null).expect("it stops");
    let caps = sample.caps().and_then(|caps| caps.structure(0)).expect("a size");
    let side = |name| caps.get::<i32>(name).expect("a size");
    let (width, height) = (side("width"), side("height"));
    let bytes = sample.buffer().expect("a picture").map_readable().expect("memory");
    let row = (width * 3 + 3) / 4 * 4;
    let at = (row * (height / 2) + width / 2 * 3) as usize;
    (width, height, [bytes[at], bytes[at + 1], bytes[at + 2]])
}

/// The encoders of all codecs, with how they are made to be quick.
const ALL: [(Codec, &str); 5] = [
    (Codec::H264, X264),
    (Codec::H265, "x265enc tune=zerolatency speed-preset=ultrafast"),
    (Codec::Vp8, "vp8enc deadline=1"),
    (Codec::Vp9, "vp9enc deadline=1 cpu-used=8"),
    (Codec::Av1, "av1enc usage-profile=realtime cpu-used=8"),
];

#[test]
fn a_keyframe_alone_is_enough_whatever_the_codec() {
    for (codec, encoder) in ALL {
        let red = "solid-color foreground-color=0xffff0000";
        let source = frames_of(red, codec, encoder, 1, (640, 360));
        let (width, height, color) = shown(jpeg(codec, &source, 90));
        assert_eq!((width, height), (160, 90), "{codec:?}");
        let [red, green, blue] = color;
        assert!(red > 245 && green < 10 && blue < 10, "{codec:?}: {color:?}");
    }
}

#[test]
fn it_is_the_newest_picture_that_is_shown() {
    // Black and white, one after the other.
    let source = frames_of("blink", Codec::H264, X264, 6, (320, 180));
    let bright = |count: usize| {
        let (width, height, [red, _, _]) = shown(jpeg(Codec::H264, &source[..count], 270));
        assert_eq!((width, height), (320, 180), "it is made no larger");
        assert!(!(6..=249).contains(&red), "{red} is neither black nor white");
        red > 128
    };
    let all: Vec<bool> = (1..=6).map(bright).collect();
    assert!(all.windows(2).all(|two| two[0] != two[1]), "{all:?}");
}

#[test]
fn pictures_that_the_decoder_keeps_for_those_that_may_come_are_not_missed() {
    let encoder = "x264enc speed-preset=superfast bframes=3 b-adapt=false key-int-max=60 threads=1";
    let source = frames(Codec::H264, encoder, 30, (640, 360));
    assert!(source.windows(2).any(|two| two[1].ticks < two[0].ticks), "there are B-frames");
    let first = jpeg(Codec::H264, &source[..1], 90);
    let newest = jpeg(Codec::H264, &source, 90);
    assert_ne!(first, newest);
    assert_eq!(shown(newest).1, 90);
}

#[test]
fn an_upright_picture_stays_so() {
    let source = frames(Codec::H264, X264, 1, (360, 640));
    let (width, height, _) = shown(jpeg(Codec::H264, &source, 270));
    assert_eq!((width, height), (150, 270), "sides are even");
}

#[test]
fn what_cannot_be_decoded_is_said() {
    let mut source = frames(Codec::H264, X264, 3, (320, 180));
    for frame in &mut source {
        frame.data.iter_mut().skip(4).for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x5a);
    }
    for frames in [&source[..], &[]] {
        let told = told(Codec::H264, frames, 90);
        assert!(matches!(&told, Report::Failed(_)), "{told:?}");
    }
}

#[test]
fn one_that_the_server_leaves_ends() {
    let mut talk = Talk::start_with(STILL_ARGUMENT, Codec::H264);
    talk.socket.shutdown(std::net::Shutdown::Write).expect("it is open");
    // It says why, to whoever may hear it.
    assert!(matches!(talk.next(), Some(Report::Failed(_)) | None));
    assert!(talk.child.wait().expect("it was started").code().is_some(), "by itself");
}
