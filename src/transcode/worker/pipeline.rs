//! One chain of elements: bytes with a time go in, bytes with a time come out. All that is common
//! to decoding and encoding.

use anyhow::Context as _;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use std::sync::Arc;

/// As many buffers as wait before a chain. Whoever has more must wait himself: the server then
/// drops the oldest, and nothing grows.
const WAITING_MAX: u64 = 8;

/// Told what has gone wrong, from any thread.
pub(crate) type Fault = Arc<dyn Fn(String) + Send + Sync>;

/// A running chain; dropping it stops it.
pub(crate) struct Chain {
    pipeline: gst::Pipeline,
    source: AppSrc,
}

impl Chain {
    /// Starts `elements` between a source of `caps` and `out`, which is called in a thread of the
    /// chain's own.
    pub(crate) fn start(
        caps: &gst::Caps,
        elements: &[gst::Element],
        fault: &Fault,
        mut out: impl FnMut(&gst::Sample) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let source = AppSrc::builder().caps(caps).format(gst::Format::Time).build();
        source.set_max_buffers(WAITING_MAX);
        source.set_max_bytes(0);
        source.set_max_time(gst::ClockTime::ZERO);
        source.set_block(true);
        let told = Arc::clone(fault);
        let take = move |sink: &AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            out(&sample).map_err(|error| {
                told(format!("{error:#}"));
                gst::FlowError::Error
            })?;
            Ok(gst::FlowSuccess::Ok)
        };
        let sink = AppSink::builder()
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .max_buffers(WAITING_MAX as u32)
            .callbacks(AppSinkCallbacks::builder().new_sample(take).build())
            .build();
        let pipeline = gst::Pipeline::new();
        let all: Vec<&gst::Element> = std::iter::once(source.upcast_ref())
            .chain(elements)
            .chain(std::iter::once(sink.upcast_ref()))
            .collect();
        pipeline.add_many(&all).context("elements that do not go together")?;
        gst::Element::link_many(&all).context("elements that cannot be linked")?;
        let told = Arc::clone(fault);
        let bus = pipeline.bus().context("a pipeline without a bus")?;
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                let element = error.src().map_or_else(String::new, |it| format!("{}: ", it.name()));
                told(format!("{element}{}", error.error()));
            }
            gst::BusSyncReply::Drop
        });
        let chain = Self { pipeline, source };
        chain.pipeline.set_state(gst::State::Playing).context("a pipeline that does not start")?;
        Ok(chain)
    }

    /// Hands in some bytes; waits where too much waits already.
    pub(crate) fn push(&self, bytes: Vec<u8>, time: gst::ClockTime) -> anyhow::Result<()> {
        let mut buffer = gst::Buffer::from_slice(bytes);
        buffer.get_mut().context("a new buffer that has two owners")?.set_pts(time);
        self.source.push_buffer(buffer).context("a pipeline that takes no more")?;
        Ok(())
    }

    /// Says that nothing more comes, and waits until the rest is out or `limit` is over.
    pub(crate) fn finish(&self, limit: gst::ClockTime) {
        // Either way it is stopped next.
        let _ = self.source.end_of_stream();
        let (_, _, _) = self.pipeline.state(limit);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // A chain that does not stop goes with the process.
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

/// An element that every installation has that has any.
pub(crate) fn element(name: &str) -> anyhow::Result<gst::Element> {
    let element = gst::ElementFactory::make(name).build();
    element.with_context(|| format!("GStreamer lacks {name}"))
}

/// A filter that lets through these caps only.
pub(crate) fn filter(caps: &gst::Caps) -> anyhow::Result<gst::Element> {
    let filter = element("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}
