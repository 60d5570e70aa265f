//! From a frame to RTP payloads, for ways in that do not speak RTP.
//!
//! Pure functions of the frames so far. The newest parameter sets are remembered, and stand before
//! every keyframe: who begins there needs nothing else. What a frame says of its own lengths is
//! not trusted: where that is wrong, the frame ends. Fuzz target: `packetizer`.
//!
//! - `payloads`: the payload being written, and which is the last of its frame
//! - `nal`: NAL units, as H.264 and H.265 have them; `h264` and `h265`: where these differ
//! - `av1`: OBUs
//! - `vp`: VP8 and VP9

pub(in crate::codec) mod av1;
pub(in crate::codec) mod h264;
pub(in crate::codec) mod h265;
pub(in crate::codec) mod nal;
mod payloads;
mod vp;

use super::vp9;
use crate::media::codec::{Codec, Format};
pub use nal::{units as nal_units, write_unit as write_nal_unit};
use payloads::Payloads;

/// Splits the frames of one track into RTP payloads.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    payload_max: usize,
    /// The memory that payloads are written in, one at a time.
    payload: Vec<u8>,
    state: State,
}

/// What is remembered from frame to frame.
#[derive(Debug)]
enum State {
    H264(nal::Units<h264::H264>),
    H265(nal::Units<h265::H265>),
    Av1(av1::Sequence),
    Vp8(vp::Pictures),
    Vp9(vp::Pictures),
    Opus,
}

impl Packetizer {
    /// Below that, headers would take more room than what they are for.
    pub const PAYLOAD_MIN: usize = 64;

    /// No path takes datagrams that are longer.
    pub const PAYLOAD_MAX: usize = 9_000;

    /// For frames of this codec; no payload is longer than `payload_max`, which is brought between
    /// [`Self::PAYLOAD_MIN`] and [`Self::PAYLOAD_MAX`].
    pub fn new(codec: Codec, payload_max: usize) -> Self {
        let state = match codec {
            Codec::H264 => State::H264(nal::Units::default()),
            Codec::H265 => State::H265(nal::Units::default()),
            Codec::Av1 => State::Av1(av1::Sequence::default()),
            Codec::Vp8 => State::Vp8(vp::Pictures::default()),
            Codec::Vp9 => State::Vp9(vp::Pictures::default()),
            Codec::Opus => State::Opus,
        };
        let payload_max = payload_max.clamp(Self::PAYLOAD_MIN, Self::PAYLOAD_MAX);
        Self { codec, payload_max, payload: Vec::with_capacity(payload_max), state }
    }

    /// Hands out the payloads of one frame, laid out as [`crate::media::frame::Coding`] says, each
    /// with whether it is the frame's last. There is none where the frame has no picture.
    pub fn packetize(&mut self, frame: &[u8], emit: &mut dyn FnMut(&[u8], bool)) {
        self.payload.clear();
        let mut payloads = Payloads::new(&mut self.payload, self.payload_max, emit);
        match &mut self.state {
            State::H264(units) => units.packetize(frame, &mut payloads),
            State::H265(units) => units.packetize(frame, &mut payloads),
            State::Av1(sequence) => sequence.packetize(frame, &mut payloads),
            State::Vp8(pictures) => pictures.packetize_vp8(frame, &mut payloads),
            State::Vp9(pictures) => pictures.packetize_vp9(frame, &mut payloads),
            // One packet, never more (RFC 7587 §4.2); one that is too long is none that encoders
            // make, and is left out.
            State::Opus if frame.len() <= self.payload_max => payloads.push(frame),
            State::Opus => {}
        }
        payloads.finish();
    }

    /// Whether a decoder can start with this frame, once it has the parameter sets.
    pub fn starts(&self, frame: &[u8]) -> bool {
        match &self.state {
            State::H264(_) => nal::starts::<h264::H264>(frame),
            State::H265(_) => nal::starts::<h265::H265>(frame),
            State::Av1(_) => av1::starts(frame),
            State::Vp8(_) => frame.first().is_some_and(|first| first & 1 == 0),
            State::Vp9(_) => vp9::read_keyframe(frame).is_some(),
            State::Opus => true,
        }
    }

    /// Leaves out a frame, but not the parameter sets in it: they may come only once.
    pub fn skip(&mut self, frame: &[u8]) {
        match &mut self.state {
            State::H264(units) => units.skip(frame),
            State::H265(units) => units.skip(frame),
            State::Av1(sequence) => {
                sequence.skip(frame);
            }
            State::Vp8(_) | State::Vp9(_) | State::Opus => {}
        }
    }

    /// A frame that a decoder can start with, with all that it must have before it, where that does
    /// not stand in it already: encoders may send it only once.
    pub fn whole(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.skip(frame);
        match &self.state {
            State::H264(units) => units.with_sets(frame),
            State::H265(units) => units.with_sets(frame),
            State::Av1(sequence) => sequence.with_header(frame),
            State::Vp8(_) | State::Vp9(_) | State::Opus => None,
        }
    }

    /// The codec and what `a=fmtp` says of it; `None` before a keyframe has told.
    pub fn format(&self) -> Option<Format> {
        let parameters = match &self.state {
            State::H264(units) => units.parameters()?,
            State::H265(units) => units.parameters()?,
            State::Av1(sequence) => sequence.parameters()?,
            State::Vp9(pictures) => pictures.vp9_parameters()?,
            State::Vp8(_) | State::Opus => String::new(),
        };
        Some(Format { codec: self.codec, parameters })
    }

    /// The codec it is for.
    pub const fn codec(&self) -> Codec {
        self.codec
    }
}

#[cfg(test)]
mod tests;
