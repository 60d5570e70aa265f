//! `--probe`: what this machine's GStreamer decodes and encodes, one line each. The server asks
//! once at its start; whoever wonders why there is no sound may ask as well.

use crate::elements::{decoders, encoders, first_decoder};
use crate::encoder::{Encoder, Tell};
use crate::ipc::picture::{Codec, Layer};
use crate::ipc::{Message, Sound};
use crate::picture::lane::Work;
use crate::picture::scaler::Scaler;
use crate::picture::{self, table};
use crate::pipeline::Fault;
use crate::timeline::{CHANNELS, PIECE, Piece};
use anyhow::Context as _;
use gstreamer::prelude::*;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// How long the first packet may take that an encoder makes.
const FIRST_PACKET: Duration = Duration::from_secs(5);
/// As many pieces as any encoder needs for its first packet.
const PIECES: i64 = 40;

/// What is encoded to see whether an encoder works.
const LAYER: Layer = Layer {
    number: 0,
    width: 320,
    height: 240,
    frame_rate_mhz: 30_000,
    bitrate_bps: 500_000,
    encoder: String::new(),
};

/// Prints `decode CODEC ELEMENT` and `encode CODEC ELEMENT` for all that works.
pub(crate) fn print() -> anyhow::Result<()> {
    gstreamer::init().context("GStreamer does not start")?;
    let version = gstreamer::version_string();
    let mut lines = vec![format!("version {}", version.replace(' ', "-"))];
    // Of MPEG audio the third layer has a decoder of its own; both must be there.
    let mpeg = [2, 3].map(|layer| decoder(&Sound::Mpeg, layer));
    let mpeg = mpeg.into_iter().collect::<Option<Vec<_>>>().map(|names| names.join("+"));
    let rows = [
        ("opus", decoder(&Sound::Opus, 0)),
        ("aac", decoder(&Sound::Aac(Vec::new()), 0)),
        ("mpeg", mpeg),
        ("ac3", decoder(&Sound::Ac3, 0)),
    ];
    let found = rows.into_iter().filter_map(|(codec, name)| Some((codec, name?)));
    lines.extend(found.map(|(codec, name)| format!("decode {codec} {name}")));
    for (codec, sound) in [("opus", Sound::Opus), ("aac", Sound::Aac(Vec::new()))] {
        // Nothing can be encoded in which the first packet does not come.
        if encodes(&sound).is_ok() {
            let names: Vec<_> = encoders(&sound).iter().map(|it| it.name).collect();
            let is_there = |name: &&&str| gstreamer::ElementFactory::find(name).is_some();
            let name = names.iter().find(is_there).copied().unwrap_or_default();
            lines.push(format!("encode {codec} {name}"));
        }
    }
    scales()?;
    for codec in Codec::ALL {
        let found = table::decoders(codec).iter().find(|row| row.make().is_some());
        lines.extend(found.map(|row| format!("decode {} {}", codec.name(), row.name)));
    }
    // All that work, since a configuration may name any; the first is taken where none is named.
    let able = table::ENCODERS.iter().filter(|row| encodes_picture(row).is_ok());
    lines.extend(able.map(|row| format!("encode {} {}", Codec::H264.name(), row.name)));
    let mut out = std::io::stdout();
    out.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    Ok(out.flush()?)
}

/// The element that decodes a sound here.
fn decoder(sound: &Sound, layer: u8) -> Option<String> {
    let element = first_decoder(decoders(sound, layer))?;
    Some(element.factory()?.name().to_string())
}

/// Whether silence becomes a packet.
fn encodes(to: &Sound) -> anyhow::Result<()> {
    let (sender, receiver) = channel();
    let (faults, packets) = (sender.clone(), sender);
    let fault: Fault = Arc::new(move |text| send(&faults, Err(anyhow::anyhow!(text))));
    let tell: Tell = Arc::new(move |message| {
        if matches!(message, Message::Frame { .. }) {
            send(&packets, Ok(()));
        }
        Ok(())
    });
    let mut encoder = Encoder::start(to, 48_000, 128_000, tell, &fault)?;
    for number in 0..PIECES {
        let samples = vec![0; 240 * CHANNELS];
        encoder.push(&Piece { time: number * PIECE, samples })?;
    }
    receiver.recv_timeout(FIRST_PACKET).context("no packet came")?
}

/// Makes a picture smaller: where code may not be made for that, this process ends here, and the
/// server knows.
fn scales() -> anyhow::Result<()> {
    let work = Work::blank(&LAYER)?;
    let scaler = Scaler::new(&work.info, work.info.format(), (160, 120))?;
    scaler.scale(&work.buffer)?.context("a new pool without a picture").map(drop)
}

/// Whether a picture becomes a frame.
fn encodes_picture(row: &'static table::Encoder) -> anyhow::Result<()> {
    let element = row.make().context("it is not there")?;
    let (sender, receiver) = channel();
    let work = Work::blank(&LAYER)?;
    let mut encoder = picture::encoder::Encoder::start(row, element, &LAYER, &work.info, {
        move |_| {
            send(&sender, Ok(()));
            Ok(())
        }
    })?;
    encoder.encode(&work, LAYER.bitrate_bps)?;
    receiver.recv_timeout(FIRST_PACKET).context("no frame came")?
}

/// The first one counts; nobody waits for the others.
fn send(to: &Sender<anyhow::Result<()>>, what: anyhow::Result<()>) {
    let _ = to.send(what);
}
