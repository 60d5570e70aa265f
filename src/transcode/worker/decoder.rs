//! Frames of whatever comes in, decoded: stereo samples with the time of the first of them.

use crate::elements::{decoders, first_decoder};
use crate::ipc::Sound;
use crate::packets;
use crate::pipeline::{Chain, Fault, element, filter};
use crate::sync_frame::{self, Header};
use anyhow::Context as _;
use gstreamer as gst;
use std::sync::{Arc, Mutex, PoisonError};

/// GStreamer's times are not negative, ours may be, and may jump back: what comes first gets this.
const FIRST: i64 = 1_000 * 3_600 * crate::timeline::SECOND;

/// Takes the time of the first sample, the sample rate, and samples, left and right in turn.
pub(crate) trait Listen:
    FnMut(i64, u32, Vec<i16>) -> anyhow::Result<()> + Send + 'static
{
}
impl<F: FnMut(i64, u32, Vec<i16>) -> anyhow::Result<()> + Send + 'static> Listen for F {}

/// Decodes one kind of sound.
pub(crate) struct Decoder<L> {
    sound: Sound,
    listener: Arc<Mutex<L>>,
    fault: Fault,
    /// The time of the first frame, in nanoseconds.
    first: Option<i64>,
    /// The chain, and what it was made for.
    chain: Option<(Shape, Chain)>,
}

/// What a decoder is told of what it decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    layer: u8,
    rate: u32,
    channels: u8,
}

impl From<Header> for Shape {
    fn from(header: Header) -> Self {
        Self { layer: header.layer, rate: header.rate, channels: header.channels }
    }
}

impl<L: Listen> Decoder<L> {
    /// A decoder of `sound`, whose samples `listener` gets.
    pub(crate) fn new(sound: Sound, listener: L, fault: Fault) -> Self {
        let listener = Arc::new(Mutex::new(listener));
        Self { sound, listener, fault, first: None, chain: None }
    }

    /// Takes what one packet of the container holds.
    pub(crate) fn push(&mut self, ticks: i64, data: Vec<u8>) -> anyhow::Result<()> {
        let read = match &self.sound {
            Sound::Opus => {
                return self.decode(ticks, data, Shape { layer: 0, rate: 48_000, channels: 2 });
            }
            Sound::Aac(config) => {
                let (rate, channels) = packets::aac(config).context("AAC without its config")?;
                return self.decode(ticks, data, Shape { layer: 0, rate, channels });
            }
            Sound::Mpeg => sync_frame::mpeg,
            Sound::Ac3 => sync_frame::ac3,
        };
        let mut frames = Vec::new();
        packets::frames(&data, ticks, read, |bytes, ticks, header| {
            frames.push((bytes.to_vec(), ticks, header));
        });
        frames
            .into_iter()
            .try_for_each(|(data, ticks, header)| self.decode(ticks, data, header.into()))
    }

    fn decode(&mut self, ticks: i64, data: Vec<u8>, shape: Shape) -> anyhow::Result<()> {
        let time = nanos_of(ticks);
        let first = *self.first.get_or_insert(time);
        if !matches!(&self.chain, Some((made_for, _)) if *made_for == shape) {
            // The old one first: two would feed one listener.
            self.chain = None;
            self.chain = Some((shape, self.start(first, shape)?));
        }
        let (_, chain) = self.chain.as_ref().context("a chain that was just made")?;
        let pts = time.saturating_sub(first).saturating_add(FIRST).max(0);
        chain.push(data, gst::ClockTime::from_nseconds(pts as u64))
    }

    fn start(&self, first: i64, shape: Shape) -> anyhow::Result<Chain> {
        let names = decoders(&self.sound, shape.layer);
        let decoder = first_decoder(names)
            .with_context(|| format!("GStreamer has none of {}", names.join(", ")))?;
        let stereo = gst::Caps::builder("audio/x-raw")
            .field("format", "S16LE")
            .field("layout", "interleaved")
            .field("channels", 2)
            .build();
        let elements = [decoder, element("audioconvert")?, filter(&stereo)?];
        let listener = Arc::clone(&self.listener);
        Chain::start(&self.caps(shape), &elements, &self.fault, move |sample| {
            let caps = sample.caps().and_then(|caps| caps.structure(0)).context("no caps")?;
            let rate = caps.get::<i32>("rate")?.max(1) as u32;
            let buffer = sample.buffer().context("a sample without a buffer")?;
            let time = buffer.pts().context("sound without a time")?.nseconds().cast_signed();
            let map = buffer.map_readable()?;
            let samples = map.as_slice().chunks_exact(2);
            let samples = samples.map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
            let time = time.saturating_sub(FIRST).saturating_add(first);
            let mut listener = listener.lock().unwrap_or_else(PoisonError::into_inner);
            listener(time, rate, samples)
        })
    }

    fn caps(&self, shape: Shape) -> gst::Caps {
        let (rate, channels) = (shape.rate.cast_signed(), i32::from(shape.channels));
        let caps = |name| gst::Caps::builder(name).field("rate", rate).field("channels", channels);
        match &self.sound {
            Sound::Opus => caps("audio/x-opus").field("channel-mapping-family", 0).build(),
            Sound::Aac(config) => caps("audio/mpeg")
                .field("mpegversion", 4)
                .field("stream-format", "raw")
                .field("framed", true)
                .field("codec_data", gst::Buffer::from_slice(config.clone()))
                .build(),
            Sound::Mpeg => caps("audio/mpeg")
                .field("mpegversion", 1)
                .field("layer", i32::from(shape.layer))
                .field("parsed", true)
                .build(),
            Sound::Ac3 => caps("audio/x-ac3").field("framed", true).build(),
        }
    }
}

/// Ticks of 90 kHz as nanoseconds; what is 292 years away stays there.
fn nanos_of(ticks: i64) -> i64 {
    ticks.saturating_mul(100_000) / 9
}

/// Nanoseconds as ticks of 90 kHz, to the nearest.
pub(crate) fn ticks_of(nanos: i64) -> i64 {
    ((i128::from(nanos) * 9 + 50_000).div_euclid(100_000)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_their_way_through_nanoseconds() {
        for ticks in [-90_001, -1, 0, 1, 7, 89_999, 1 << 33, 1 << 45] {
            assert_eq!(ticks_of(nanos_of(ticks)), ticks);
        }
        assert!(nanos_of(i64::MAX) > 0 && nanos_of(i64::MIN) < 0);
    }
}
