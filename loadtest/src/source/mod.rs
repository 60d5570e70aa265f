//! Synthetic RTP: framed as each codec's payload format demands, with a counter and the send time
//! at the end of every media payload. Nobody can decode a picture from it, unless it is a file's.
//!
//! - `annexb`: pictures from a file
//! - `audio`: Opus-like packets, one per 20 ms
//! - `parameter_set`: what tells the size of an H.264 stream
//! - `payload`: the payload formats
//! - `picture`: whole pictures, for protocols that do not speak RTP
//! - `recorded`: sizes and times of what a real publisher sent
//! - `video`: frames of a chosen bitrate, frame rate and keyframe interval

mod annexb;
mod audio;
mod parameter_set;
mod payload;
mod picture;
mod recorded;
mod video;

pub use annexb::{AnnexB, FileSource};
pub use audio::AudioSource;
pub use picture::{PARAMETER_SETS, Picture, PictureSource};
pub(crate) use recorded::RecordedSource;
pub use recorded::{Recording, RecordingError};
pub use video::{Frame, Rhythm, VideoSettings, VideoSource};

use bytes::Bytes;
use std::time::{SystemTime, UNIX_EPOCH};

/// Marks the stamp at the end of a payload.
const MAGIC: [u8; 2] = [0xD5, 0xCA];
/// Seven bits in each of ten bytes.
const NUMBER_BYTES: usize = 10;
/// Of the 70 bits a number takes 64; the layer has the others of the counter's.
const LAYER_SHIFT: u32 = 1;
const LAYERS_MASK: u8 = 0x3F;
/// Bytes a stamp takes: magic, counter, send time.
pub(crate) const STAMP_BYTES: usize = MAGIC.len() + 2 * NUMBER_BYTES;

/// What the last bytes of a payload say. Every byte has its top bit set, so that no NAL unit
/// that carries one needs emulation prevention (ITU-T H.264 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Counts the packets of one source.
    pub counter: u64,
    /// When it was sent, in microseconds since the Unix epoch.
    pub sent_micros: u64,
    /// Which of its publisher's layers it is of, by its place in the offer; below 64.
    pub layer: u8,
}

impl Stamp {
    /// Of the only layer, sent now.
    pub(crate) fn now(counter: u64) -> Self {
        Self { counter, sent_micros: now_micros(), layer: 0 }
    }

    /// Reads the stamp of a payload, if it has one.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let start = payload.len().checked_sub(STAMP_BYTES)?;
        let numbers = payload.get(start..)?.strip_prefix(&MAGIC)?;
        let (counter, sent_micros) = numbers.split_at_checked(NUMBER_BYTES)?;
        let layer = counter.last()? >> LAYER_SHIFT & LAYERS_MASK;
        Some(Self { counter: decode(counter)?, sent_micros: decode(sent_micros)?, layer })
    }

    /// Overwrites the end of a payload that has room for it.
    pub fn write(self, payload: &mut [u8]) {
        let Some(start) = payload.len().checked_sub(STAMP_BYTES) else { return };
        let mut counter = encode(self.counter);
        counter[NUMBER_BYTES - 1] |= (self.layer & LAYERS_MASK) << LAYER_SHIFT;
        let bytes = MAGIC.into_iter().chain(counter).chain(encode(self.sent_micros));
        for (place, byte) in payload.iter_mut().skip(start).zip(bytes) {
            *place = byte;
        }
    }

    /// Puts the present time into a packet's stamp; a packet without one stays as it is.
    pub fn refresh(packet: &mut rtp::Packet) {
        if let Some(stamp) = Self::read(&packet.payload) {
            let mut payload = packet.payload.to_vec();
            Self { sent_micros: now_micros(), ..stamp }.write(&mut payload);
            packet.payload = Bytes::from(payload);
        }
    }
}

fn encode(number: u64) -> [u8; NUMBER_BYTES] {
    std::array::from_fn(|position| (number >> (7 * position)) as u8 | 0x80)
}

fn decode(bytes: &[u8]) -> Option<u64> {
    bytes.iter().rev().try_fold(0_u64, |number, byte| {
        (byte & 0x80 != 0).then_some((number << 7) | u64::from(byte & 0x7F))
    })
}

/// Microseconds since the Unix epoch.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_round_trip() {
        for number in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            for layer in [0, 1, 63] {
                let stamp = Stamp { counter: number, sent_micros: number / 3, layer };
                let mut payload = vec![7; STAMP_BYTES + 5];
                stamp.write(&mut payload);
                assert_eq!(Stamp::read(&payload), Some(stamp));
            }
        }
    }

    #[test]
    fn a_payload_without_a_stamp_has_none() {
        assert_eq!(Stamp::read(&[0x80; 64]), None);
        assert_eq!(Stamp::read(&[]), None);
    }
}
