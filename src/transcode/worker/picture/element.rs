//! One element, driven by its pads: it works in the thread of whoever hands in a buffer, and what
//! it makes is there when that returns, unless it has threads of its own.

use anyhow::Context as _;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::VideoMeta;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an element has made, with its caps.
pub(crate) type Made = (gst::Buffer, gst::Caps);

/// A running element; dropping it stops it.
pub(crate) struct Driven {
    element: gst::Element,
    bus: gst::Bus,
    into: gst::Pad,
    out_of: gst::Pad,
    /// The first error that it told.
    error: Arc<Mutex<Option<String>>>,
}

impl Driven {
    /// Starts `element` with what has the caps `from`; it has to make what has the caps `to`, which
    /// `out` gets, in any thread.
    pub(crate) fn start(
        element: gst::Element,
        from: &gst::Caps,
        to: &gst::Caps,
        out: impl FnMut(Made) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let error: Arc<Mutex<Option<String>>> = Arc::default();
        let bus = gst::Bus::new();
        let told = Arc::clone(&error);
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(fault) = message.view() {
                lock(&told).get_or_insert_with(|| fault.error().to_string());
            }
            gst::BusSyncReply::Drop
        });
        element.set_bus(Some(&bus));
        let driven = Self {
            into: source_pad(from)?,
            out_of: sink_pad(to, out, Arc::clone(&error))?,
            element,
            bus,
            error,
        };
        driven.begin(from).map_err(|error| match driven.error() {
            Some(said) => error.context(said),
            None => error,
        })?;
        Ok(driven)
    }

    fn begin(&self, caps: &gst::Caps) -> anyhow::Result<()> {
        let pad = |name| self.element.static_pad(name).context("an element without pads");
        self.out_of.set_active(true).context("a pad of ours")?;
        pad("src")?.link(&self.out_of).context("it does not make what is wanted")?;
        self.element.set_state(gst::State::Playing).context("it does not start")?;
        self.into.set_active(true).context("a pad of ours")?;
        self.into.link(&pad("sink")?).context("it does not take what there is")?;
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let taken = self.into.push_event(gst::event::StreamStart::new("millrace"))
            && self.into.push_event(gst::event::Caps::new(caps))
            && self.into.push_event(gst::event::Segment::new(&segment));
        anyhow::ensure!(taken, "it does not take what there is");
        Ok(())
    }

    /// Hands in a buffer.
    pub(crate) fn push(&self, buffer: gst::Buffer) -> anyhow::Result<()> {
        let pushed = self.into.push(buffer);
        if let Some(said) = self.error() {
            anyhow::bail!("{}: {said}", self.name());
        }
        pushed.map(drop).with_context(|| self.name())
    }

    /// Tells it something.
    pub(crate) fn send(&self, event: gst::Event) {
        // Elements that do not know of it go on without.
        self.into.push_event(event);
    }

    /// The element itself, to change it while it runs.
    pub(crate) const fn element(&self) -> &gst::Element {
        &self.element
    }

    /// What kind of element it is.
    pub(crate) fn name(&self) -> String {
        self.element.factory().map_or_else(String::new, |factory| factory.name().to_string())
    }

    fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // One that does not stop goes with the process.
        let _ = self.into.set_active(false);
        let _ = self.element.set_state(gst::State::Null);
        let _ = self.out_of.set_active(false);
        self.element.set_bus(None);
        self.bus.unset_sync_handler();
    }
}

fn source_pad(caps: &gst::Caps) -> anyhow::Result<gst::Pad> {
    let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
    let template = gst::PadTemplate::new("src", direction, presence, caps)?;
    Ok(gst::Pad::from_template(&template))
}

fn sink_pad(
    caps: &gst::Caps,
    out: impl FnMut(Made) -> anyhow::Result<()> + Send + 'static,
    error: Arc<Mutex<Option<String>>>,
) -> anyhow::Result<gst::Pad> {
    let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Always);
    let template = gst::PadTemplate::new("sink", direction, presence, caps)?;
    let out = Mutex::new(out);
    let pad = gst::Pad::builder_from_template(&template)
        .chain_function(move |pad, _, buffer| {
            let caps = pad.current_caps().ok_or(gst::FlowError::NotNegotiated)?;
            (*lock(&out))((buffer, caps)).map(|()| gst::FlowSuccess::Ok).map_err(|fault| {
                lock(&error).get_or_insert_with(|| format!("{fault:#}"));
                gst::FlowError::Error
            })
        })
        // What an element tells with its pictures is of no use here.
        .event_function(|_, _, _| true)
        .query_function(|pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Allocation(allocation) => {
                // Pictures may lie in memory as the decoder likes it: none is copied for that.
                allocation.add_allocation_meta::<VideoMeta>(None);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .build();
    Ok(pad)
}

/// What a thread that panicked leaves behind is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
