//! One picture of a stream as a JPEG: the newest of what the server hands over. Then this process
//! has done what it was started for.

use crate::ipc::Incoming;
use crate::ipc::picture::{Codec, Order, Report};
use crate::picture::decoder::{Decoder, Picture};
use crate::picture::element::{Driven, lock};
use crate::picture::input::Frame;
use crate::picture::scaler::Scaler;
use crate::picture::{nal, table, tell};
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer_video::{VideoColorimetry, VideoFormat, VideoInfo};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// The element, of the plugin that decodes ...
const ENCODER: &str = "avenc_mjpeg";
/// ... and how it is set up: a picture of 270 lines has 6 to 20 kB, one full of noise 60.
const PROPERTIES: [(&str, &str); 2] = [("pass", "quant"), ("quantizer", "5")];
/// The colours of a JPEG (ITU-T T.871 §7): those of 625-line television, in the full range ...
const COLORS: &str = "1:4:0:0";
/// ... and those on the way there: from one range to the other, with the same matrix, GStreamer
/// 1.22 copies pictures as they are.
const COLORS_BETWEEN: &str = "sRGB";
/// So many times as wide as high at most: what is wider is broken, or meant to cost much.
const WIDTH_MAX: u64 = 4;
/// Read at once.
const READ_BYTES: usize = 64 * 1024;

/// Serves the server at the other end of the socket, with one picture.
pub(crate) fn work(mut socket: UnixStream) -> anyhow::Result<()> {
    let tell = tell(socket.try_clone()?);
    gst::init().context("GStreamer does not start")?;
    tell(&Report::Ready)?;
    tell(&match make(&mut socket) {
        Ok(jpeg) => Report::Still(jpeg),
        Err(error) => Report::Failed(format!("{error:#}")),
    })?;
    // Elements that hang would keep an orderly end waiting; nothing is left to be saved.
    std::process::exit(0);
}

/// Reads frames until it is told how high the picture is to be.
fn make(socket: &mut UnixStream) -> anyhow::Result<Vec<u8>> {
    let mut incoming = Incoming::<Order>::default();
    let mut bytes = vec![0; READ_BYTES];
    let mut source = Source::default();
    loop {
        let count = socket.read(&mut bytes).context("the server's end")?;
        anyhow::ensure!(count > 0, "the server has gone");
        incoming.feed(bytes.get(..count).unwrap_or_default());
        while let Some(order) = incoming.take_next()? {
            match order {
                Order::Source(codec) => source.codec = Some(codec),
                Order::Frame { ticks, is_keyframe, data } => {
                    source.take(ticks, is_keyframe, data)?;
                }
                Order::Still(height) => return jpeg(&source.newest()?, u32::from(height)),
                _ => {}
            }
        }
    }
}

/// What comes in, decoded.
#[derive(Default)]
struct Source {
    codec: Option<Codec>,
    decoder: Decoder,
    /// Frames that came.
    frames: u64,
    newest: Option<Picture>,
}

impl Source {
    fn take(&mut self, ticks: i64, is_keyframe: bool, data: Vec<u8>) -> anyhow::Result<()> {
        let codec = self.codec.context("a frame before its codec")?;
        // Those that no other frame needs are a picture or two older than the newest at most.
        if !is_keyframe && nal::is_disposable(codec, &data) {
            return Ok(());
        }
        let number = self.frames;
        self.frames += 1;
        let frame = Frame { number, codec, ticks, is_keyframe, data };
        let pictures = self.decoder.decode(frame, false, |_| Ok(()))?;
        self.newest = pictures.into_iter().next_back().or(self.newest.take());
        Ok(())
    }

    /// The newest picture, of all that came.
    fn newest(mut self) -> anyhow::Result<Picture> {
        let kept = self.decoder.finish()?;
        kept.into_iter().next_back().or(self.newest).context("nothing of it can be decoded")
    }
}

fn jpeg(picture: &Picture, height_max: u32) -> anyhow::Result<Vec<u8>> {
    let size = size(&picture.info, height_max);
    let between = scaler(&picture.info, VideoFormat::Bgrx, size, COLORS_BETWEEN)?;
    let scaled = between.scale(&picture.buffer)?.context("a new pool without a picture")?;
    let scaler = scaler(between.info(), VideoFormat::I420, size, COLORS)?;
    let scaled = scaler.scale(&scaled)?.context("a new pool without a picture")?;
    let element = gst::ElementFactory::make(ENCODER).build()?;
    for (name, value) in PROPERTIES {
        table::set(&element, name, value);
    }
    let mut from = scaler.info().to_caps()?;
    let caps = from.get_mut().context("new caps that have two owners")?;
    caps.set("framerate", gst::Fraction::new(1, 1));
    let made: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let out = Arc::clone(&made);
    let to = gst::Caps::new_empty_simple("image/jpeg");
    let driven = Driven::start(element, &from, &to, move |(buffer, _)| {
        *lock(&out) = Some(buffer.map_readable()?.to_vec());
        Ok(())
    })?;
    let mut frame = scaled.copy();
    frame.get_mut().context("a new buffer that has two owners")?.set_pts(gst::ClockTime::ZERO);
    driven.push(frame)?;
    let jpeg = lock(&made).take();
    jpeg.context("no JPEG came")
}

fn scaler(
    from: &VideoInfo,
    format: VideoFormat,
    size: (u32, u32),
    colors: &str,
) -> anyhow::Result<Scaler> {
    let colors: VideoColorimetry = colors.parse().context("colours that GStreamer knows not")?;
    Scaler::to_colors(from, format, size, &colors)
}

/// Even sides of a picture with the shape that this one is shown in.
fn size(info: &VideoInfo, height_max: u32) -> (u32, u32) {
    let height = info.height().min(height_max.max(2));
    let par = info.par();
    let (over, under) = (par.numer().max(1).cast_unsigned(), par.denom().max(1).cast_unsigned());
    let width = u64::from(info.width()) * u64::from(height) * u64::from(over)
        / (u64::from(info.height().max(1)) * u64::from(under));
    let width = width.clamp(2, u64::from(height_max) * WIDTH_MAX) as u32;
    (width & !1, height & !1)
}
