//! Pictures of a layer, encoded by one element.

use crate::ipc::picture::Layer;
use crate::picture::element::{Driven, Made};
use crate::picture::lane::Work;
use crate::picture::nal::Layout;
use crate::picture::scaler::Scaler;
use crate::picture::{stamp, table};
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer_video::{DownstreamForceKeyUnitEvent, VideoInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An encoder that takes so many pictures, one after the other, gives none. `openh264enc` leaves
/// out a second of them where its rate was halved.
const OWED_MAX: u32 = 90;
/// Pictures further apart are taken for so far apart: clocks jump.
const STEP_MAX: i64 = 10 * stamp::CLOCK_RATE;

/// A frame of a layer.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) ticks: i64,
    pub(crate) is_keyframe: bool,
    pub(crate) data: Vec<u8>,
}

/// A running encoder.
pub(crate) struct Encoder {
    row: &'static table::Encoder,
    driven: Driven,
    /// Into the format that it wants, where that is another one.
    converter: Option<Scaler>,
    /// Pictures it has taken since it gave one back.
    owed: Arc<AtomicU32>,
    bitrate_bps: u32,
    /// The ticks of the newest picture, and its time for the encoder, which only rises.
    newest: Option<(i64, i64)>,
}

impl Encoder {
    /// Starts `element` of `row` for pictures like `info`. `out` gets what it makes, in any thread.
    pub(crate) fn start(
        row: &'static table::Encoder,
        element: gst::Element,
        layer: &Layer,
        info: &VideoInfo,
        mut out: impl FnMut(Encoded) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        row.set_rate(&element, layer.bitrate_bps);
        let converter = if row.format == info.format() {
            None
        } else {
            Some(Scaler::new(info, row.format, (info.width(), info.height()))?)
        };
        let mut from = converter.as_ref().map_or(info, Scaler::info).to_caps()?;
        let rate = gst::Fraction::new(layer.frame_rate_mhz.max(1).cast_signed().max(1), 1000);
        from.get_mut().context("new caps that have two owners")?.set("framerate", rate);
        let to = gst::Caps::builder("video/x-h264")
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .field("profile", gst::List::new(row.profiles.iter().copied()))
            .build();
        let owed: Arc<AtomicU32> = Arc::default();
        let (back, mut layout) = (Arc::clone(&owed), Layout::default());
        let driven = Driven::start(element, &from, &to, move |(buffer, _): Made| {
            let ticks = stamp::ticks(&buffer).context("an encoder that forgets the ticks")?;
            let (data, is_keyframe) = layout.lay_out(&buffer.map_readable()?);
            if data.is_empty() {
                return Ok(());
            }
            back.store(0, Ordering::Relaxed);
            out(Encoded { ticks, is_keyframe, data })
        })?;
        let bitrate_bps = layer.bitrate_bps;
        Ok(Self { row, driven, converter, owed, bitrate_bps, newest: None })
    }

    /// Takes a picture; what was encoded goes where [`Self::start`] was told.
    ///
    /// # Errors
    ///
    /// Where this encoder is of no use any more.
    pub(crate) fn encode(&mut self, work: &Work, bitrate_bps: u32) -> anyhow::Result<()> {
        if bitrate_bps != self.bitrate_bps {
            self.bitrate_bps = bitrate_bps;
            self.row.set_rate(self.driven.element(), bitrate_bps);
        }
        if work.is_keyframe {
            self.driven.send(DownstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        let picture = match &self.converter {
            None => Some(work.buffer.clone()),
            Some(converter) => converter.scale(&work.buffer)?,
        };
        // Too many are on their way in it: this one is left out.
        let Some(picture) = picture else { return Ok(()) };
        let owed = self.owed.fetch_add(1, Ordering::Relaxed);
        anyhow::ensure!(owed < OWED_MAX, "it takes pictures and gives none");
        let ticks = stamp::ticks(&picture).context("a picture without ticks")?;
        // Others read the same picture: only what is said about it is copied.
        let mut picture = picture.copy();
        let buffer = picture.get_mut().context("a new buffer that has two owners")?;
        let time = gst::ClockTime::from_nseconds((self.time(ticks) * 100_000 / 9).cast_unsigned());
        buffer.set_pts(time);
        buffer.set_dts(gst::ClockTime::NONE);
        self.driven.push(picture)
    }

    /// The time of a picture on the encoder's own clock, in ticks.
    fn time(&mut self, ticks: i64) -> i64 {
        let time = self.newest.map_or(0, |(newest, time)| {
            time.saturating_add(ticks.saturating_sub(newest).clamp(1, STEP_MAX))
        });
        self.newest = Some((ticks, time));
        time
    }
}
