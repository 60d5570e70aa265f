//! Frames of the source, decoded: pictures with the ticks of their frames.

use crate::ipc::picture::Codec;
use crate::picture::element::{Driven, Made, lock};
use crate::picture::flight::{Entry, Flight};
use crate::picture::input::Frame;
use crate::picture::{nal, stamp, table};
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer_video::VideoInfo;
use std::sync::{Arc, Mutex};

/// A temporal delimiter (AV1 §5.6): the server leaves it out, and decoders may wait for it.
const DELIMITER: [u8; 2] = [0x12, 0];

/// A decoded picture.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) buffer: gst::Buffer,
    pub(crate) info: VideoInfo,
    pub(crate) entry: Entry,
}

/// Decodes frames of whatever codec they have.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The element, and the codec that it was made for.
    running: Option<(Codec, Driven)>,
    made: Arc<Mutex<Vec<Made>>>,
    flight: Flight,
    /// The newest parameter sets, and of which codec: a stream may have them once, before its first
    /// keyframe.
    parameters: Option<(Codec, Vec<u8>)>,
    /// The caps of the newest picture, as they are and read.
    info: Option<(gst::Caps, VideoInfo)>,
}

impl Decoder {
    /// Decodes a frame; gives what pictures come out, which may be of earlier frames. `told` hears
    /// the name of an element that begins.
    ///
    /// # Errors
    ///
    /// Where there is no decoder. A frame that cannot be decoded is no error: it is counted.
    pub(crate) fn decode(
        &mut self,
        frame: Frame,
        is_late: bool,
        told: impl FnOnce(String) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Picture>> {
        let Frame { number, codec, ticks, is_keyframe, mut data } = frame;
        let is_disposable = nal::is_disposable(codec, &data);
        let entry = Entry { number, ticks, is_keyframe, is_disposable, is_late };
        if self.running.as_ref().is_none_or(|(made_for, _)| *made_for != codec) {
            self.stop();
            if !is_keyframe {
                self.flight.lose(entry);
                return Ok(Vec::new());
            }
            let driven = self.start(codec)?;
            told(driven.name())?;
            self.running = Some((codec, driven));
            if let Some((known, sets)) = &self.parameters
                && *known == codec
                && nal::parameters(codec, &data).is_empty()
            {
                data.splice(0..0, sets.iter().copied());
            }
        }
        let parameters = nal::parameters(codec, &data);
        if !parameters.is_empty() {
            self.parameters = Some((codec, parameters));
        }
        if nal::is_shown(codec, &data) {
            self.flight.push(entry);
        }
        let Some((_, driven)) = &self.running else { return Ok(Vec::new()) };
        let is_whole = match codec {
            Codec::H264 | Codec::H265 => nal::to_start_codes(&mut data),
            Codec::Av1 => {
                data.splice(0..0, DELIMITER);
                true
            }
            Codec::Vp8 | Codec::Vp9 => true,
        };
        // One that is not whole is lost: nothing of it comes out.
        let pushed =
            if is_whole { driven.push(stamp::stamped(data, ticks, number)) } else { Ok(()) };
        let pictures = self.pictures()?;
        if pushed.is_err() {
            // Some take nothing more after what they could not decode; the next keyframe gets a
            // new one.
            self.stop();
        }
        Ok(pictures)
    }

    /// Nothing more comes: gives the pictures that were kept for what might.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Vec<Picture>> {
        if let Some((_, driven)) = &self.running {
            driven.send(gst::event::Eos::new());
        }
        self.pictures()
    }

    /// How many frames came to nothing since this was asked last.
    pub(crate) fn take_broken(&mut self) -> u32 {
        self.flight.take_broken()
    }

    fn start(&self, codec: Codec) -> anyhow::Result<Driven> {
        let rows = table::decoders(codec);
        for row in rows {
            let Some(element) = row.make() else { continue };
            let made = Arc::clone(&self.made);
            let raw = gst::Caps::new_empty_simple("video/x-raw");
            let started = Driven::start(element, &caps(codec), &raw, move |picture| {
                lock(&made).push(picture);
                Ok(())
            });
            if let Ok(driven) = started {
                return Ok(driven);
            }
        }
        let names: Vec<_> = rows.iter().map(|row| row.name).collect();
        anyhow::bail!("GStreamer has none of {}", names.join(", "))
    }

    fn stop(&mut self) {
        self.running = None;
        lock(&self.made).clear();
        self.flight.lose_all();
        self.info = None;
    }

    /// What the element has made.
    fn pictures(&mut self) -> anyhow::Result<Vec<Picture>> {
        let made = std::mem::take(&mut *lock(&self.made));
        let mut pictures = Vec::with_capacity(made.len());
        for (buffer, caps) in made {
            let ticks = stamp::ticks(&buffer).context("a decoder that forgets the ticks")?;
            let Some(entry) = self.flight.take(ticks) else { continue };
            let info = match &self.info {
                Some((known, info)) if *known == caps => info.clone(),
                _ => VideoInfo::from_caps(&caps).context("a decoder of strange pictures")?,
            };
            self.info = Some((caps, info.clone()));
            pictures.push(Picture { buffer, info, entry });
        }
        Ok(pictures)
    }
}

/// What the frames are, for an element.
fn caps(codec: Codec) -> gst::Caps {
    let name = match codec {
        Codec::H264 => "video/x-h264",
        Codec::H265 => "video/x-h265",
        Codec::Vp8 => "video/x-vp8",
        Codec::Vp9 => "video/x-vp9",
        Codec::Av1 => "video/x-av1",
    };
    let caps = gst::Caps::builder(name).field("parsed", true);
    match codec {
        Codec::H264 | Codec::H265 => {
            caps.field("stream-format", "byte-stream").field("alignment", "au").build()
        }
        Codec::Av1 => caps.field("stream-format", "obu-stream").field("alignment", "tu").build(),
        Codec::Vp8 | Codec::Vp9 => caps.build(),
    }
}
