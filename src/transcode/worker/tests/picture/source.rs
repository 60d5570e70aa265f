//! Streams to transcode, made by GStreamer's own encoders.

use crate::ipc::picture::Codec;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

/// As most encoders send it: no B-frames, a keyframe each second.
pub(crate) const X264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30";

/// A frame as the server hands it over.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) ticks: i64,
    pub(crate) is_keyframe: bool,
    pub(crate) data: Vec<u8>,
}

/// So many pictures of `size` at 30 per second, in the order of decoding. `encoder` is a piece of a
/// pipeline.
pub(crate) fn frames(codec: Codec, encoder: &str, count: usize, size: (u32, u32)) -> Vec<Frame> {
    // Moving rings: nobody encodes them for nothing.
    frames_of("zone-plate kx2=6 ky2=6 kt=2 kxt=1", codec, encoder, count, size)
}

/// The same of another pattern.
pub(crate) fn frames_of(
    pattern: &str,
    codec: Codec,
    encoder: &str,
    count: usize,
    (width, height): (u32, u32),
) -> Vec<Frame> {
    gst::init().expect("GStreamer is there");
    let caps = match codec {
        Codec::H264 => "video/x-h264,stream-format=byte-stream,alignment=au",
        Codec::H265 => "video/x-h265,stream-format=byte-stream,alignment=au",
        Codec::Vp8 => "video/x-vp8",
        Codec::Vp9 => "video/x-vp9",
        Codec::Av1 => "video/x-av1,stream-format=obu-stream,alignment=tu",
    };
    let line = format!(
        "videotestsrc num-buffers={count} pattern={pattern} ! \
         video/x-raw,format=I420,width={width},height={height},framerate=30/1 ! \
         {encoder} ! {caps} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&line).expect("elements that tests need; see scripts/setup");
    let sink = pipeline.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name("out"));
    let sink = sink.and_then(|sink| sink.downcast::<AppSink>().ok()).expect("it is in the line");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let frames = std::iter::from_fn(|| Some(frame(codec, &sink.pull_sample().ok()?))).collect();
    pipeline.set_state(gst::State::Null).expect("it stops");
    frames
}

fn frame(codec: Codec, sample: &gst::Sample) -> Frame {
    let buffer = sample.buffer().expect("a frame");
    let segment = sample.segment().and_then(|it| it.downcast_ref::<gst::ClockTime>());
    let time = segment.expect("a segment of time").to_running_time(buffer.pts());
    let nanos = time.expect("a frame with a time").nseconds();
    let bytes = buffer.map_readable().expect("memory");
    let data = match codec {
        Codec::H264 | Codec::H265 => with_lengths(&bytes),
        Codec::Av1 => bytes.strip_prefix(&[0x12, 0]).unwrap_or(&bytes).to_vec(),
        Codec::Vp8 | Codec::Vp9 => bytes.to_vec(),
    };
    Frame {
        ticks: ((nanos * 9 + 50_000) / 100_000).cast_signed(),
        is_keyframe: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        data,
    }
}

/// What stands after start codes, after lengths.
fn with_lengths(bytes: &[u8]) -> Vec<u8> {
    let starts = bytes.windows(3).enumerate().filter(|(_, code)| *code == [0, 0, 1]);
    let starts: Vec<usize> = starts.map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([bytes.len()]);
    let mut data = Vec::new();
    for (start, end) in starts.iter().zip(ends) {
        let unit = &bytes[*start..end];
        let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        data.extend((end as u32).to_be_bytes());
        data.extend(&unit[..end]);
    }
    data
}

/// Decodes what a layer has become: the size of each picture, with its ticks.
pub(crate) fn decoded(frames: &[Frame]) -> Vec<(i64, u32, u32)> {
    gst::init().expect("GStreamer is there");
    let line = "appsrc name=in format=time is-live=false \
                caps=video/x-h264,stream-format=byte-stream,alignment=au ! \
                avdec_h264 max-threads=1 std-compliance=normal ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(line).expect("elements that the worker needs itself");
    let bin = pipeline.downcast_ref::<gst::Bin>().expect("a pipeline is a bin");
    let sink = bin.by_name("out").and_then(|sink| sink.downcast::<AppSink>().ok());
    let source =
        bin.by_name("in").and_then(|source| source.downcast::<gstreamer_app::AppSrc>().ok());
    let (sink, source) = (sink.expect("a sink"), source.expect("a source"));
    pipeline.set_state(gst::State::Playing).expect("it starts");
    for (number, frame) in (0..).zip(frames) {
        let mut data = frame.data.clone();
        let mut at = 0;
        while at < data.len() {
            let length = u32::from_be_bytes(data[at..at + 4].try_into().expect("four"));
            data[at..at + 4].copy_from_slice(&[0, 0, 0, 1]);
            at += 4 + length as usize;
        }
        let mut buffer = gst::Buffer::from_mut_slice(data);
        let time = gst::ClockTime::from_mseconds(number * 10);
        buffer.get_mut().expect("a new one").set_pts(time);
        source.push_buffer(buffer).expect("it takes it");
    }
    source.end_of_stream().expect("it ends");
    let pictures = std::iter::from_fn(|| {
        let sample = sink.pull_sample().ok()?;
        let caps = sample.caps()?.structure(0)?.to_owned();
        let number = sample.buffer()?.pts()?.mseconds() / 10;
        let side = |name: &str| caps.get::<i32>(name).expect("a size").cast_unsigned();
        Some((frames[number as usize].ticks, side("width"), side("height")))
    })
    .collect();
    pipeline.set_state(gst::State::Null).expect("it stops");
    pictures
}
