//! One access unit or audio frame on the media time line of its stream, for ways out that are
//! packaged.

use super::frame::Coding;
use super::layer::LayerId;
use super::time::WallTime;
use bytes::Bytes;
use std::time::Instant;

/// One access unit, or one frame of sound, whichever way its stream comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// How it is encoded; the bytes are laid out as [`Coding`] says. Sound is AAC or Opus only.
    pub coding: Coding,
    /// Which layer of the picture it is of; of sound the first.
    pub layer: LayerId,
    /// When it is decoded, in ticks of [`super::frame::CLOCK_RATE`], on a line that all lanes of
    /// one publisher share. Rises within a lane.
    pub decode_ticks: i64,
    /// When it is shown or heard, on the same line: later than `decode_ticks` in streams with
    /// B-frames.
    pub present_ticks: i64,
    /// The moment on the server's clock that `present_ticks` stands for.
    pub wall: WallTime,
    /// Whether a decoder can start here: a keyframe, or any sound.
    pub starts: bool,
    /// When the server received the last of it.
    pub arrival: Instant,
    /// The bytes.
    pub data: Bytes,
}
