//! Audio and video messages -> frames, for bytes of anybody. Fuzz target: `rtmp_flv`.
//!
//! - `setup`: sequence headers
//! - `tag`: the heads of tags, legacy and Enhanced RTMP
//! - `units`: NAL units and OBUs, laid out as frames have them
//!
//! The first video and the first audio track that can be used are; the others are listed. A tag
//! that makes no sense is passed over and counted: the stream goes on with the next.

mod setup;
mod tag;
mod units;

use super::chunk::{Message, kind};
use crate::media::codec::{Codec, Kind};
use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;
use tag::{Body, Part, Tag, TagCodec};
use units::LENGTH_BYTES;

/// The most tracks that are listed as not used.
const OTHERS_MAX: usize = 16;
/// Ticks of a frame's clock per millisecond.
const TICKS_PER_MS: i64 = CLOCK_RATE as i64 / 1000;

/// Makes frames of one publisher's messages.
#[derive(Debug, Default)]
pub struct Demuxer {
    time: Unwrapped,
    video: VideoTrack,
    audio: AudioTrack,
    others: Vec<String>,
    has_new_others: bool,
    /// Tags that made no sense.
    bad: u64,
}

/// Timestamps without their wrap at 2^32 ms. One for both kinds, so that they stay together
/// wherever they start: a step of more than 2^31 ms is one back.
#[derive(Debug, Default)]
struct Unwrapped {
    last: Option<(u32, i64)>,
}

/// The video track in use.
#[derive(Debug, Default)]
struct VideoTrack {
    /// Its number, once there is one that can be used.
    number: Option<u8>,
    /// What the sequence header was of: another codec's does not fit.
    codec: Option<Codec>,
    /// Before each NAL unit; 0 before a sequence header.
    length_bytes: usize,
    /// What stands before the next keyframe.
    parameters: Option<Bytes>,
}

/// The audio track in use.
#[derive(Debug, Default)]
struct AudioTrack {
    number: Option<u8>,
    /// The `AudioSpecificConfig` of AAC.
    config: Option<Arc<[u8]>>,
    /// Opus with more than two channels, which WebRTC's sound cannot be made of as it is.
    has_many_channels: bool,
}

impl Demuxer {
    /// Reads an audio, video or aggregate message, and hands each frame in it to `take`.
    pub fn read(&mut self, message: &Message, arrival: Instant, mut take: impl FnMut(Frame)) {
        match message.kind {
            kind::AUDIO => {
                self.tag(Kind::Audio, message.timestamp, &message.payload, arrival, &mut take);
            }
            kind::VIDEO => {
                self.tag(Kind::Video, message.timestamp, &message.payload, arrival, &mut take);
            }
            kind::AGGREGATE => self.aggregate(message, arrival, &mut take),
            _ => {}
        }
    }

    /// The tracks that are there and not used, if there are more than when it was last asked.
    pub fn new_others(&mut self) -> Option<&[String]> {
        std::mem::take(&mut self.has_new_others).then_some(&self.others)
    }

    /// How many tags made no sense.
    pub const fn bad(&self) -> u64 {
        self.bad
    }

    /// RTMP 1.0 §7.1.6: tags of FLV with their heads and tails; their timestamps count from that
    /// of the first, which is the message's.
    fn aggregate(&mut self, message: &Message, arrival: Instant, take: &mut impl FnMut(Frame)) {
        let (mut rest, mut first) = (message.payload.clone(), None);
        while let Some(head) = rest.first_chunk::<11>().copied() {
            let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
            let end = head.len() + len;
            if rest.len() < end {
                break;
            }
            let base = *first.get_or_insert(time);
            let timestamp = message.timestamp.wrapping_add(time.wrapping_sub(base));
            let data = rest.slice(head.len()..end);
            match head[0] {
                kind::AUDIO => self.tag(Kind::Audio, timestamp, &data, arrival, take),
                kind::VIDEO => self.tag(Kind::Video, timestamp, &data, arrival, take),
                _ => {}
            }
            // The length once more.
            rest = rest.slice((end + 4).min(rest.len())..);
        }
    }

    fn tag(
        &mut self,
        kind: Kind,
        timestamp: u32,
        payload: &Bytes,
        arrival: Instant,
        take: &mut impl FnMut(Frame),
    ) {
        if payload.is_empty() {
            // Encoders send these to keep a connection up.
            return;
        }
        let Some(tag) = tag::read(kind, payload.clone()) else {
            self.bad += 1;
            return;
        };
        let Tag { is_keyframe, offset_nanos, parts } = tag;
        let nanos = i64::from(offset_nanos) * i64::from(CLOCK_RATE) / 1_000_000_000;
        let decode_ticks = self.time.unwrap(timestamp) * TICKS_PER_MS + nanos;
        for part in parts {
            if !self.uses(kind, &part) {
                continue;
            }
            let composition_ms = match part.body {
                Body::Setup => {
                    self.set_up(&part);
                    continue;
                }
                Body::Nothing => continue,
                Body::Frame { composition_ms } => i64::from(composition_ms),
            };
            let Some((coding, data)) = self.frame(&part, is_keyframe) else { continue };
            let present_ticks = decode_ticks + composition_ms * TICKS_PER_MS;
            take(Frame { coding, decode_ticks, present_ticks, arrival, data });
        }
    }

    /// Whether a part is of the track in use, which is the first that can be; else it is listed.
    fn uses(&mut self, kind: Kind, part: &Part) -> bool {
        let used = match kind {
            Kind::Video => &mut self.video.number,
            Kind::Audio => &mut self.audio.number,
        };
        let is_usable = !matches!(part.codec, TagCodec::Unused(_) | TagCodec::Unknown(_));
        if is_usable && *used.get_or_insert(part.track) == part.track {
            return true;
        }
        let name = name(part.codec);
        let advice = match (is_usable, kind) {
            (true, _) => "another track is used",
            (false, Kind::Video) => "it cannot be used: set the encoder to H.264",
            (false, Kind::Audio) => "it cannot be used: set the encoder to AAC or Opus",
        };
        self.note(format!("{kind} track {}, {name}: {advice}", part.track));
        false
    }

    fn note(&mut self, other: String) {
        if self.others.len() < OTHERS_MAX && !self.others.contains(&other) {
            self.others.push(other);
            self.has_new_others = true;
        }
    }

    /// Takes a sequence header.
    fn set_up(&mut self, part: &Part) {
        let is_good = match part.codec {
            TagCodec::Video(codec) => self.video.set_up(codec, &part.data),
            TagCodec::Aac => {
                let config = setup::aac(&part.data).map(Arc::from);
                self.audio.config = config.or(self.audio.config.take());
                self.audio.config.is_some()
            }
            TagCodec::Opus => {
                let channels = setup::opus_channels(&part.data);
                self.audio.has_many_channels = channels.is_some_and(|channels| channels > 2);
                if self.audio.has_many_channels {
                    let advice = "more than two channels cannot be used: set the encoder to stereo";
                    self.note(format!("audio track {}, Opus: {advice}", part.track));
                }
                channels.is_some()
            }
            _ => true,
        };
        self.bad += u64::from(!is_good);
    }

    /// The coding and bytes of a frame, where it is one that can be decoded.
    fn frame(&mut self, part: &Part, is_keyframe: bool) -> Option<(Coding, Bytes)> {
        let coding = match part.codec {
            TagCodec::Video(codec) => {
                let data = self.video.frame(codec, &part.data, is_keyframe);
                return (!data.is_empty()).then_some((Coding::Video(codec), data));
            }
            TagCodec::Aac => AudioCoding::Aac(Arc::clone(self.audio.config.as_ref()?)),
            TagCodec::Opus if !self.audio.has_many_channels => AudioCoding::Opus,
            TagCodec::Mpeg => AudioCoding::Mpeg,
            TagCodec::Ac3 => AudioCoding::Ac3,
            TagCodec::Opus | TagCodec::Unused(_) | TagCodec::Unknown(_) => return None,
        };
        (!part.data.is_empty()).then(|| (Coding::Audio(coding), part.data.clone()))
    }
}

impl Unwrapped {
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.last {
            None => i64::from(timestamp),
            Some((last, unwrapped)) => {
                unwrapped + i64::from(timestamp.wrapping_sub(last).cast_signed())
            }
        };
        self.last = Some((timestamp, unwrapped));
        unwrapped
    }
}

impl VideoTrack {
    /// Forgets what belongs to another codec than this.
    fn turn_to(&mut self, codec: Codec) {
        if self.codec.replace(codec) != Some(codec) {
            (self.length_bytes, self.parameters) = (0, None);
        }
    }

    /// Takes a sequence header; whether it could be read.
    fn set_up(&mut self, codec: Codec, bytes: &Bytes) -> bool {
        self.turn_to(codec);
        let nal_setup = match codec {
            Codec::H264 => setup::avc(bytes),
            Codec::H265 => setup::hevc(bytes),
            Codec::Av1 => {
                let Some(obus) = setup::av1(bytes) else { return false };
                self.parameters = Some(units::with_sizes(&bytes.slice_ref(obus)));
                return true;
            }
            // VP8 and VP9 have all they need in their keyframes.
            _ => return true,
        };
        let Some(setup) = nal_setup else { return false };
        self.length_bytes = setup.length_bytes;
        self.parameters = Some(setup.parameter_sets.into());
        true
    }

    /// A frame's bytes, with the parameters before it that came since the last keyframe.
    fn frame(&mut self, codec: Codec, data: &Bytes, is_keyframe: bool) -> Bytes {
        self.turn_to(codec);
        let length_bytes = if self.length_bytes == 0 { LENGTH_BYTES } else { self.length_bytes };
        let frame = match codec {
            Codec::H264 | Codec::H265 => units::with_lengths(data, length_bytes),
            Codec::Av1 => units::with_sizes(data),
            _ => data.clone(),
        };
        let starts = is_keyframe || starts_decoding(codec, &frame);
        let parameters = self.parameters.take_if(|_| starts && !frame.is_empty());
        match parameters {
            Some(parameters) if !parameters.is_empty() => [parameters, frame].concat().into(),
            _ => frame,
        }
    }
}

/// Whether a decoder can start with a frame, whatever its tag says: some encoders mark none.
fn starts_decoding(codec: Codec, frame: &[u8]) -> bool {
    let first = |unit: &[u8]| unit.first().copied().unwrap_or_default();
    units::nal_units(frame, LENGTH_BYTES).any(|unit| match codec {
        // An IDR picture (H.264 §7.4.1).
        Codec::H264 => first(unit) & 0x1f == 5,
        // IRAP pictures (H.265 §7.4.2.2).
        Codec::H265 => matches!(first(unit) >> 1 & 0x3f, 16..=21),
        _ => false,
    })
}

fn name(codec: TagCodec) -> String {
    match codec {
        TagCodec::Video(codec) => codec.to_string(),
        TagCodec::Opus => "Opus".to_owned(),
        TagCodec::Aac => "AAC".to_owned(),
        TagCodec::Mpeg => "MPEG audio".to_owned(),
        TagCodec::Ac3 => "AC-3".to_owned(),
        TagCodec::Unused(name) => name.to_owned(),
        TagCodec::Unknown(name) => name.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests;
