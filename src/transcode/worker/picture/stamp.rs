//! The ticks of a picture, on its way through elements: as metadata that they hand on untouched.
//! Their own times they take for what they like: they smooth, and mend, and shift them.

use gstreamer as gst;
use std::sync::OnceLock;

/// Ticks per second.
pub(crate) const CLOCK_RATE: i64 = 90_000;

fn caps() -> &'static gst::Caps {
    static CAPS: OnceLock<gst::Caps> = OnceLock::new();
    CAPS.get_or_init(|| gst::Caps::new_empty_simple("timestamp/x-millrace"))
}

/// A buffer of these bytes, which are shown at `ticks`; `number` rises by one with each.
pub(crate) fn stamped(data: Vec<u8>, ticks: i64, number: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(data);
    if let Some(buffer) = buffer.get_mut() {
        let time = gst::ClockTime::from_mseconds(number.saturating_mul(10));
        buffer.set_pts(time);
        buffer.set_dts(time);
        stamp(buffer, ticks);
    }
    buffer
}

/// Notes the ticks of a picture.
pub(crate) fn stamp(buffer: &mut gst::BufferRef, ticks: i64) {
    // Half of all numbers are for times before 0, and the last one means none.
    let shifted = ticks.cast_unsigned() ^ (1 << 63);
    let time = gst::ClockTime::from_nseconds(shifted.min(u64::MAX - 1));
    gst::ReferenceTimestampMeta::add(buffer, caps(), time, gst::ClockTime::NONE);
}

/// The ticks of a picture.
pub(crate) fn ticks(buffer: &gst::BufferRef) -> Option<i64> {
    let metas = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
    let mut ours = metas.filter(|meta| meta.reference() == &**caps());
    Some((ours.next()?.timestamp().nseconds() ^ (1 << 63)).cast_signed())
}
