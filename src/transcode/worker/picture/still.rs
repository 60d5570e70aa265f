//! One picture as a JPEG, in a thread of its own: nothing waits for it.

use crate::ipc::picture::Report;
use crate::picture::Tell;
use crate::picture::decoder::Picture;
use crate::picture::element::{Driven, lock};
use crate::picture::scaler::Scaler;
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer_video::VideoFormat;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The element, of the plugin that decodes.
const ENCODER: &str = "avenc_mjpeg";

/// Makes a JPEG, so high at most, and tells it; unless one is being made.
pub(crate) fn make(picture: Picture, height: u16, tell: Tell) {
    static IS_BUSY: AtomicBool = AtomicBool::new(false);
    if IS_BUSY.swap(true, Ordering::Relaxed) {
        return;
    }
    let thread = std::thread::Builder::new().name("still".to_owned()).spawn(move || {
        if let Ok(jpeg) = jpeg(&picture, u32::from(height)) {
            // Where the server is gone, the process ends.
            let _ = tell(&Report::Still(jpeg));
        }
        IS_BUSY.store(false, Ordering::Relaxed);
    });
    if thread.is_err() {
        IS_BUSY.store(false, Ordering::Relaxed);
    }
}

fn jpeg(picture: &Picture, height_max: u32) -> anyhow::Result<Vec<u8>> {
    let (width, height) = size(&picture.info, height_max);
    let scaler = Scaler::new(&picture.info, VideoFormat::I420, (width, height))?;
    let scaled = scaler.scale(&picture.buffer)?.context("a new pool without a picture")?;
    let element = gst::ElementFactory::make(ENCODER).build()?;
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

/// Even sides of a picture with the shape that this one is shown in.
fn size(info: &gstreamer_video::VideoInfo, height_max: u32) -> (u32, u32) {
    let height = info.height().min(height_max.max(2));
    let par = info.par();
    let (over, under) = (par.numer().max(1).cast_unsigned(), par.denom().max(1).cast_unsigned());
    let width = u64::from(info.width()) * u64::from(height) * u64::from(over)
        / (u64::from(info.height().max(1)) * u64::from(under));
    let width = width.clamp(2, 1 << 14) as u32;
    (width & !1, height & !1)
}
