//! Pieces of sound, encoded: packets with the time at which what they hold is heard.

use crate::decoder::ticks_of;
use crate::elements::{self, RATE, encoders};
use crate::ipc::{Message, Sound};
use crate::pipeline::{Chain, Fault, element, filter};
use crate::timeline::{PIECE, Piece, SECOND};
use anyhow::Context as _;
use gstreamer as gst;
use gstreamer::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Where messages for the server go.
pub(crate) type Tell = Arc<dyn Fn(&Message) -> anyhow::Result<()> + Send + Sync>;

/// Samples of a piece after resampling.
const PIECE_SAMPLES: i64 = PIECE * RATE as i64 / SECOND;
/// More pieces on their way through an encoder mean that nothing comes out of it.
const PIECES_MAX: usize = 2_000;

/// Encodes pieces of one sample rate.
pub(crate) struct Encoder {
    chain: Chain,
    times: Arc<Mutex<Times>>,
    /// Pieces taken so far: the encoder's own clock, which has no jumps.
    pieces: i64,
}

impl Encoder {
    /// Starts the first encoder of this machine that can, with sound of `rate`.
    pub(crate) fn start(
        to: &Sound,
        rate: u32,
        bitrate_bps: u32,
        tell: Tell,
        fault: &Fault,
    ) -> anyhow::Result<Self> {
        let found = encoders(to).iter().find_map(|it| Some((*it, made(it, bitrate_bps)?)));
        let (kind, encoder) = found.with_context(|| {
            let names: Vec<_> = encoders(to).iter().map(|it| it.name).collect();
            format!("GStreamer has none of {}", names.join(", "))
        })?;
        let raw = |rate: u32| {
            gst::Caps::builder("audio/x-raw")
                .field("format", "S16LE")
                .field("layout", "interleaved")
                .field("channels", 2)
                .field("rate", rate.cast_signed())
        };
        let resampled = gst::Caps::builder("audio/x-raw").field("rate", RATE).build();
        let convert = [element("audioconvert")?, element("audioresample")?];
        let [convert, resample] = convert;
        let elements = [resample, convert, filter(&resampled)?, encoder];
        let times = Arc::new(Mutex::new(Times::default()));
        let mut packets =
            Packets { to: to.clone(), told: None, count: 0, kind, times: Arc::clone(&times), tell };
        let chain =
            Chain::start(&raw(rate).build(), &elements, fault, move |sample| packets.take(sample))?;
        Ok(Self { chain, times, pieces: 0 })
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &Piece) -> anyhow::Result<()> {
        lock(&self.times).push(piece.time)?;
        let bytes = piece.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let time = gst::ClockTime::from_nseconds((self.pieces * PIECE) as u64);
        self.pieces += 1;
        self.chain.push(bytes, time)
    }

    /// Says that nothing more comes, and gives what is on its way some time.
    pub(crate) fn finish(&self) {
        self.chain.finish(gst::ClockTime::from_mseconds(100));
    }
}

fn made(kind: &elements::Encoder, bitrate_bps: u32) -> Option<gst::Element> {
    let element = gst::ElementFactory::make(kind.name).build().ok()?;
    element.set_property_from_str("bitrate", &bitrate_bps.to_string());
    for (name, value) in kind.properties {
        element.set_property_from_str(name, value);
    }
    elements::started(element)
}

/// What comes out of the encoder, on its way to the server.
struct Packets {
    to: Sound,
    /// The format that the server was told.
    told: Option<Sound>,
    count: i64,
    kind: elements::Encoder,
    times: Arc<Mutex<Times>>,
    tell: Tell,
}

impl Packets {
    fn take(&mut self, sample: &gst::Sample) -> anyhow::Result<()> {
        let buffer = sample.buffer().context("a sample without a buffer")?;
        let data = buffer.map_readable()?.as_slice().to_vec();
        let start = self.count * self.kind.packet;
        self.count += 1;
        let time = lock(&self.times).at(start).context("more packets than sound")?;
        let format = match self.to {
            Sound::Aac(_) => Sound::Aac(config_of(sample).context("AAC without its config")?),
            _ => self.to.clone(),
        };
        if self.told.as_ref() != Some(&format) {
            (self.tell)(&Message::Format(format.clone()))?;
            self.told = Some(format);
        }
        let delay = self.kind.delay * SECOND / i64::from(RATE);
        let ticks = ticks_of(time.saturating_sub(delay));
        (self.tell)(&Message::Frame { ticks, data })
    }
}

/// The `AudioSpecificConfig` of what an encoder makes.
fn config_of(sample: &gst::Sample) -> Option<Vec<u8>> {
    let config = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    Some(config.map_readable().ok()?.as_slice().to_vec())
}

fn lock(times: &Mutex<Times>) -> std::sync::MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When the pieces in an encoder are heard: it counts samples only, and sound has gaps.
#[derive(Debug, Default)]
struct Times {
    pieces: VecDeque<i64>,
    /// The number of the first of them.
    first: i64,
}

impl Times {
    fn push(&mut self, time: i64) -> anyhow::Result<()> {
        anyhow::ensure!(self.pieces.len() < PIECES_MAX, "the encoder gives nothing back");
        self.pieces.push_back(time);
        Ok(())
    }

    /// When a sample is heard; forgets the pieces before it.
    fn at(&mut self, sample: i64) -> Option<i64> {
        let piece = sample / PIECE_SAMPLES;
        while self.first < piece && self.pieces.len() > 1 {
            self.pieces.pop_front();
            self.first += 1;
        }
        let inside = sample - self.first * PIECE_SAMPLES;
        Some(self.pieces.front()?.saturating_add(inside * SECOND / i64::from(RATE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: i64 = 1_000_000;

    #[test]
    fn a_packet_is_heard_when_the_piece_is_in_which_it_begins() {
        let mut times = Times::default();
        for time in [100, 105, 110, 115, 120, 125, 500, 505, 510, 515] {
            times.push(time * MILLISECOND).expect("there is room");
        }
        let mut at = |sample| times.at(sample).map(|time| time / MILLISECOND);
        assert_eq!(at(0), Some(100));
        // AAC packets lie across the pieces: 1024 samples are 21 1/3 ms.
        assert_eq!(at(1024), Some(121));
        assert_eq!(at(2048), Some(512));
        // Nobody is ahead of his input; the last piece tells the time of whoever is.
        assert_eq!(at(240 * 10), Some(520));
    }

    #[test]
    fn an_encoder_that_gives_nothing_back_is_noticed() {
        let mut times = Times::default();
        assert!((0..PIECES_MAX).all(|_| times.push(0).is_ok()));
        assert!(times.push(0).is_err());
        assert_eq!(Times::default().at(0), None);
    }

    /// Whether so many packets come of so many pieces, without another one pushing them out.
    fn gives(rate: u32, pieces: i64, packets: usize) -> bool {
        let (sender, receiver) = std::sync::mpsc::channel();
        gst::init().expect("GStreamer is there");
        let tell: Tell = Arc::new(move |message| {
            let is_frame = matches!(message, Message::Frame { .. });
            if is_frame { Ok(sender.send(())?) } else { Ok(()) }
        });
        let fault: Fault = Arc::new(|text| eprintln!("{text}"));
        let encoder = Encoder::start(&Sound::Opus, rate, 128_000, tell, &fault);
        let mut encoder = encoder.expect("it starts");
        for number in 0..pieces {
            let samples = vec![0; (rate / 200) as usize * 2];
            encoder.push(&Piece { time: number * PIECE, samples }).expect("it takes it");
        }
        let soon = std::time::Duration::from_secs(20);
        (0..packets).all(|_| receiver.recv_timeout(soon).is_ok())
    }

    #[test]
    fn a_packet_waits_for_the_next_piece_and_no_longer() {
        assert!(gives(48_000, 5, 1));
        assert!(gives(48_000, 9, 2));
        assert!(gives(44_100, 9, 2));
    }
}
