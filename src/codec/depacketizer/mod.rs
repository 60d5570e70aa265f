//! From RTP payloads to a frame, for ways out that do not speak RTP: what `packetizer` does, the
//! other way round.
//!
//! Pure functions of the payloads of one frame, all of them and in order. Payloads are hostile:
//! what cannot be is no frame, and none is longer than [`FRAME_MAX`]. Fuzz target: `depacketizer`.
//!
//! - `nal`: NAL units, as H.264 and H.265 have them
//! - `av1`: OBUs
//! - `vp`: frames of VP8 and VP9

mod av1;
mod nal;
mod vp;

use crate::media::codec::Codec;

/// No encoder makes longer frames; 2160p at 100 Mbit/s has keyframes of a tenth of it.
pub const FRAME_MAX: usize = 8 << 20;

/// Puts a frame together, laid out as [`crate::media::frame::Coding`] says; `None` where something
/// of it is missing or wrong. Padding is passed over: it is no payload.
pub fn depacketize<'a>(
    codec: Codec,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Option<Vec<u8>> {
    let payloads = payloads.into_iter().filter(|payload| !payload.is_empty());
    let mut frame = Frame::default();
    match codec {
        Codec::H264 => nal::put_together(nal::Rules::H264, payloads, &mut frame)?,
        Codec::H265 => nal::put_together(nal::Rules::H265, payloads, &mut frame)?,
        Codec::Av1 => av1::put_together(payloads, &mut frame)?,
        Codec::Opus => {
            let mut packets = payloads;
            frame.push(packets.next()?)?;
            // One packet is one payload (RFC 7587 §4.2).
            return packets.next().is_none().then_some(frame.bytes);
        }
        Codec::Vp8 | Codec::Vp9 => vp::put_together(codec, payloads, &mut frame)?,
    }
    (!frame.bytes.is_empty()).then_some(frame.bytes)
}

/// A frame being put together, within its bound.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        (self.bytes.len() + bytes.len() <= FRAME_MAX).then(|| self.bytes.extend_from_slice(bytes))
    }
}

#[cfg(test)]
mod tests;
