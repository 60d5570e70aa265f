//! What server and worker tell each other where the worker transcodes the picture of a stream:
//! frames of the source go in, frames of made layers come out. Fuzz target: `transcode_picture`.
//!
//! A worker for pictures is started with the argument [`ARGUMENT`]. It decodes all that it gets
//! from the first frame on that a decoder can start with, so that a layer begins at once. Ticks are
//! of 90 kHz, and of presentation; a made frame has those of the picture that it was made of.

use super::{Wire, fault_text, write_fault};

/// What a worker is started with that is to transcode pictures.
pub const ARGUMENT: &str = "--picture";
/// The same for one that is to make a single JPEG, and ends then.
pub const STILL_ARGUMENT: &str = "--still";
/// Layers have numbers below this.
pub const LAYERS_MAX: usize = 8;
/// Twice what one frame of RTMP may have: a keyframe of 4K has some megabytes.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// Type, number of the layer, ticks, keyframe or not: all that stands before a frame.
const FRAME_HEAD_BYTES_MAX: usize = 16;
/// The longest name of an encoder or decoder; more is cut off.
const NAME_BYTES_MAX: usize = 64;

/// A codec of the picture. Frames are laid out as `media::frame::Coding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
}

/// A layer to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its number, below [`LAYERS_MAX`].
    pub number: u8,
    /// In pixels, even.
    pub width: u16,
    /// In pixels, even.
    pub height: u16,
    /// Frames in 1,000 seconds: what rate control counts on. What comes faster is thinned out.
    pub frame_rate_mhz: u32,
    /// Bits per second.
    pub bitrate_bps: u32,
    /// The encoder's element; empty for the first that works.
    pub encoder: String,
}

/// To the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The frames that follow are of this codec. Comes first, and again where another publisher has
    /// another one; the layers that run go on with the next keyframe.
    Source(Codec),
    /// Make this layer, beginning with an IDR of the next picture that is decoded. One of the same
    /// number is replaced.
    Start(Layer),
    /// From the next picture on this layer has another bit rate.
    Bitrate {
        /// Its number.
        layer: u8,
        /// Bits per second.
        bitrate_bps: u32,
    },
    /// No longer make this layer.
    Stop(u8),
    /// Make the next picture an IDR in all layers that run.
    Keyframe,
    /// Nothing more comes: make a JPEG of the newest picture of what came, so high at most; width
    /// follows. To a worker with [`STILL_ARGUMENT`], which gets codec and frames before that, and
    /// nothing else.
    Still(u16),
    /// A frame of the source, in the order of decoding.
    Frame {
        /// When it is shown.
        ticks: i64,
        /// Whether a decoder can start with it.
        is_keyframe: bool,
        /// Its bytes.
        data: Vec<u8>,
    },
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It has started, and waits for orders.
    Ready,
    /// The source is decoded by this element, from the next frame on.
    Decoder(String),
    /// The frames of this layer that follow are made by this element. Comes once for each
    /// [`Order::Start`] that succeeds, before its first frame: what came before was of a layer of
    /// that number that ran earlier.
    Encoder {
        /// The layer's number.
        layer: u8,
        /// The element.
        name: String,
    },
    /// This layer is not made, or no longer: no encoder of this machine can. The others run on.
    Refused {
        /// The layer's number.
        layer: u8,
        /// Why.
        reason: String,
    },
    /// A frame of a made layer: H.264, NAL units after their lengths in 4 bytes, SPS and PPS
    /// before each IDR; no B-frames.
    Frame {
        /// The layer's number.
        layer: u8,
        /// When it is shown: as the picture of the source that it was made of.
        ticks: i64,
        /// Whether it is an IDR.
        is_keyframe: bool,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// Once a second, whatever happens. A worker whose loads stop hangs; so does one that takes
    /// frames, second after second, and neither decodes nor drops any nor finds them broken.
    Load(Load),
    /// A JPEG.
    Still(Vec<u8>),
    /// Its last: what went wrong.
    Failed(String),
}

/// How a worker keeps up. What is counted is counted since the last time this was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Frames that were taken in.
    pub taken: u32,
    /// Of them, those that were dropped before the decoder, which was too slow for them.
    pub dropped: u32,
    /// Of them, those of which the decoder made nothing, and those after them up to a keyframe.
    pub broken: u32,
    /// Pictures that were decoded.
    pub decoded: u32,
    /// Frames that wait for the decoder now.
    pub waiting: u32,
    /// Mean time to decode a frame, in microseconds.
    pub decode_us: u32,
    /// Time of the source that was decoded, per time that has passed, in percent: 100 keeps up.
    pub speed_percent: u32,
    /// Whether the worker falls behind: frames or pictures were left out for lack of time. Fewer
    /// layers would help, the largest most.
    pub is_behind: bool,
    /// Each layer that runs, at most [`LAYERS_MAX`].
    pub layers: Vec<LayerLoad>,
}

/// How a layer of a worker keeps up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerLoad {
    /// Its number.
    pub layer: u8,
    /// Frames that were made.
    pub frames: u32,
    /// Pictures that were left out, since they came faster than they were encoded.
    pub skipped: u32,
    /// Mean time to scale and encode a picture, in microseconds.
    pub encode_us: u32,
}

impl Wire for Order {
    const BYTES_MAX: usize = FRAME_BYTES_MAX + FRAME_HEAD_BYTES_MAX;

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Source(codec) => out.extend([b'S', codec.letter()]),
            Self::Start(layer) => {
                out.extend([b'L', layer.number]);
                out.extend(layer.width.to_be_bytes());
                out.extend(layer.height.to_be_bytes());
                out.extend(layer.frame_rate_mhz.to_be_bytes());
                out.extend(layer.bitrate_bps.to_be_bytes());
                write_name(&layer.encoder, out);
            }
            Self::Bitrate { layer, bitrate_bps } => {
                out.extend([b'B', *layer]);
                out.extend(bitrate_bps.to_be_bytes());
            }
            Self::Stop(layer) => out.extend([b'X', *layer]),
            Self::Keyframe => out.push(b'K'),
            Self::Still(height) => {
                out.push(b'J');
                out.extend(height.to_be_bytes());
            }
            Self::Frame { ticks, is_keyframe, data } => {
                out.push(b'F');
                write_frame(*ticks, *is_keyframe, data, out);
            }
        }
    }

    fn parse_body(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let mut rest = Reader(rest);
        Some(match kind {
            b'S' => {
                let codec = Codec::of_letter(rest.u8()?)?;
                rest.end(Self::Source(codec))?
            }
            b'L' => Self::Start(Layer {
                number: rest.layer()?,
                width: rest.side()?,
                height: rest.side()?,
                frame_rate_mhz: rest.u32()?,
                bitrate_bps: rest.u32()?,
                encoder: name(rest.0)?,
            }),
            b'B' => {
                let (layer, bitrate_bps) = (rest.layer()?, rest.u32()?);
                rest.end(Self::Bitrate { layer, bitrate_bps })?
            }
            b'X' => {
                let layer = rest.layer()?;
                rest.end(Self::Stop(layer))?
            }
            b'K' => rest.end(Self::Keyframe)?,
            b'J' => {
                let height = rest.side()?;
                rest.end(Self::Still(height))?
            }
            b'F' => {
                let (ticks, is_keyframe) = (rest.i64()?, rest.bool()?);
                Self::Frame { ticks, is_keyframe, data: rest.0.to_vec() }
            }
            _ => return None,
        })
    }
}

impl Wire for Report {
    const BYTES_MAX: usize = FRAME_BYTES_MAX + FRAME_HEAD_BYTES_MAX;

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready => out.push(b'R'),
            Self::Decoder(name) => {
                out.push(b'D');
                write_name(name, out);
            }
            Self::Encoder { layer, name } => {
                out.extend([b'C', *layer]);
                write_name(name, out);
            }
            Self::Refused { layer, reason } => {
                out.extend([b'N', *layer]);
                write_fault(reason, out);
            }
            Self::Frame { layer, ticks, is_keyframe, data } => {
                out.extend([b'F', *layer]);
                write_frame(*ticks, *is_keyframe, data, out);
            }
            Self::Load(load) => {
                out.push(b'P');
                load.write_to(out);
            }
            Self::Still(jpeg) => {
                out.push(b'J');
                out.extend(jpeg);
            }
            Self::Failed(fault) => {
                out.push(b'E');
                write_fault(fault, out);
            }
        }
    }

    fn parse_body(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let mut rest = Reader(rest);
        Some(match kind {
            b'R' => rest.end(Self::Ready)?,
            b'D' => Self::Decoder(name(rest.0)?),
            b'C' => Self::Encoder { layer: rest.layer()?, name: name(rest.0)? },
            b'N' => Self::Refused { layer: rest.layer()?, reason: fault_text(rest.0) },
            b'F' => {
                let (layer, ticks, is_keyframe) = (rest.layer()?, rest.i64()?, rest.bool()?);
                Self::Frame { layer, ticks, is_keyframe, data: rest.0.to_vec() }
            }
            b'P' => Self::Load(Load::parse(rest)?),
            b'J' => Self::Still(rest.0.to_vec()),
            b'E' => Self::Failed(fault_text(rest.0)),
            _ => return None,
        })
    }
}

impl Load {
    fn write_to(&self, out: &mut Vec<u8>) {
        let Self { taken, dropped, broken, decoded, waiting, decode_us, speed_percent, .. } = self;
        for number in [taken, dropped, broken, decoded, waiting, decode_us, speed_percent] {
            out.extend(number.to_be_bytes());
        }
        out.push(u8::from(self.is_behind));
        for LayerLoad { layer, frames, skipped, encode_us } in self.layers.iter().take(LAYERS_MAX) {
            out.push(*layer);
            for number in [frames, skipped, encode_us] {
                out.extend(number.to_be_bytes());
            }
        }
    }

    fn parse(mut rest: Reader<'_>) -> Option<Self> {
        let mut load = Self {
            taken: rest.u32()?,
            dropped: rest.u32()?,
            broken: rest.u32()?,
            decoded: rest.u32()?,
            waiting: rest.u32()?,
            decode_us: rest.u32()?,
            speed_percent: rest.u32()?,
            is_behind: rest.bool()?,
            layers: Vec::new(),
        };
        while !rest.0.is_empty() {
            if load.layers.len() == LAYERS_MAX {
                return None;
            }
            load.layers.push(LayerLoad {
                layer: rest.layer()?,
                frames: rest.u32()?,
                skipped: rest.u32()?,
                encode_us: rest.u32()?,
            });
        }
        Some(load)
    }
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::H264, Self::H265, Self::Vp8, Self::Vp9, Self::Av1];

    /// As `--probe` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::H264 => b'4',
            Self::H265 => b'5',
            Self::Vp8 => b'8',
            Self::Vp9 => b'9',
            Self::Av1 => b'1',
        }
    }

    fn of_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.letter() == letter)
    }
}

fn write_frame(ticks: i64, is_keyframe: bool, data: &[u8], out: &mut Vec<u8>) {
    out.extend(ticks.to_be_bytes());
    out.push(u8::from(is_keyframe));
    out.extend(data);
}

/// Names of GStreamer's elements are short words.
fn write_name(name: &str, out: &mut Vec<u8>) {
    out.extend(name.bytes().filter(|&byte| is_of_name(byte)).take(NAME_BYTES_MAX));
}

fn name(bytes: &[u8]) -> Option<String> {
    let is_name = bytes.len() <= NAME_BYTES_MAX && bytes.iter().all(|&byte| is_of_name(byte));
    is_name.then(|| String::from_utf8_lossy(bytes).into_owned())
}

const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// What is left of a message.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// The number of a layer.
    fn layer(&mut self) -> Option<u8> {
        self.u8().filter(|&number| usize::from(number) < LAYERS_MAX)
    }

    /// Width or height of a picture: pixels of 4:2:0 come in squares of 4.
    fn side(&mut self) -> Option<u16> {
        self.u16().filter(|&side| side > 0 && side.is_multiple_of(2))
    }

    /// The message, if nothing is left.
    fn end<M>(self, message: M) -> Option<M> {
        self.0.is_empty().then_some(message)
    }
}
