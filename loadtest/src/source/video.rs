//! A synthetic video encoder: frames of a chosen size at a chosen rate.

use super::payload::{FrameShape, SIZE, packetize};
use super::{STAMP_BYTES, Stamp};
use crate::codec::Codec;
use bytes::Bytes;
use std::time::Duration;

/// RTP ticks in a second.
const CLOCK_RATE: u64 = 90_000;
/// How much larger than a delta frame a keyframe is.
const KEYFRAME_WEIGHT: u64 = 6;

/// How frames follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rhythm {
    /// At the frame rate.
    #[default]
    Even,
    /// At 1000/1001 of it: 29.97 for 30.
    Ntsc,
    /// As a browser's camera: early and late by up to a quarter of the interval.
    Uneven,
}

impl std::str::FromStr for Rhythm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "even" => Ok(Self::Even),
            "ntsc" => Ok(Self::Ntsc),
            "uneven" => Ok(Self::Uneven),
            other => Err(format!("{other} is none of even, ntsc, uneven")),
        }
    }
}

/// What the encoder is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoSettings {
    /// The payload format to imitate.
    pub codec: Codec,
    /// Mean bits per second of payload.
    pub bitrate_bps: u64,
    /// Frames per second.
    pub frame_rate: u32,
    /// Frames from one keyframe to the next; 0 means only when asked.
    pub keyframe_interval_frames: u32,
    /// Most bytes in one payload.
    pub payload_bytes_max: usize,
    /// How frames follow each other.
    pub rhythm: Rhythm,
    /// Width and height of the pictures, as far as their headers tell it.
    pub size: [u16; 2],
    /// Which of several layers it is; it stands in the stamps.
    pub layer: u8,
}

impl Default for VideoSettings {
    fn default() -> Self {
        Self {
            codec: Codec::H264,
            bitrate_bps: 1_000_000,
            frame_rate: 30,
            keyframe_interval_frames: 60,
            payload_bytes_max: 1_180,
            rhythm: Rhythm::Even,
            size: SIZE,
            layer: 0,
        }
    }
}

impl VideoSettings {
    /// When a frame is shown, in 90 kHz ticks from the first.
    pub fn ticks(&self, number: u64) -> u64 {
        let rate = u64::from(self.frame_rate.max(1));
        let even = number * CLOCK_RATE / rate;
        match self.rhythm {
            Rhythm::Even => even,
            Rhythm::Ntsc => number * (CLOCK_RATE / 1_000 * 1_001) / rate,
            Rhythm::Uneven => {
                // The same for every source, and without a period that could hide something.
                let mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let noise = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 48;
                let quarter = CLOCK_RATE / rate / 4;
                (even + noise * 2 * quarter / 0xFFFF).saturating_sub(quarter)
            }
        }
    }

    /// Bytes of coded picture in a frame.
    pub(super) fn frame_bytes(&self, keyframe: bool) -> usize {
        let per_second = self.bitrate_bps / 8;
        let rate = u64::from(self.frame_rate.max(1));
        let interval = u64::from(self.keyframe_interval_frames);
        // One keyframe and interval - 1 delta frames share the interval's bytes.
        let delta = if interval == 0 {
            per_second / rate
        } else {
            per_second * interval / (rate * (interval - 1 + KEYFRAME_WEIGHT))
        };
        let bytes = if keyframe { delta * KEYFRAME_WEIGHT } else { delta };
        usize::try_from(bytes).unwrap_or(usize::MAX).max(STAMP_BYTES)
    }
}

/// One frame, ready to be sent.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// Its packets, in order; the last has the marker bit.
    pub packets: Vec<rtp::Packet>,
}

/// The encoder.
#[derive(Debug, Clone)]
pub struct VideoSource {
    settings: VideoSettings,
    header: rtp::Header,
    frames: u64,
    packets: u64,
    since_keyframe: u32,
    wants_keyframe: bool,
}

impl VideoSource {
    /// An encoder whose first frame is a keyframe.
    pub fn new(settings: VideoSettings, payload_type: u8, ssrc: u32) -> Self {
        let header = rtp::Header {
            version: 2,
            payload_type,
            ssrc,
            // Near the wrap, so that every run of a few seconds crosses it.
            sequence_number: 65_400,
            timestamp: u32::MAX - 45_000,
            ..Default::default()
        };
        Self { settings, header, frames: 0, packets: 0, since_keyframe: 0, wants_keyframe: true }
    }

    /// Makes the next frame a keyframe, as a PLI asks.
    pub fn request_keyframe(&mut self) {
        self.wants_keyframe = true;
    }

    /// Time from the next frame to the one after it.
    pub fn interval(&self) -> Duration {
        let (now, next) = (self.settings.ticks(self.frames), self.settings.ticks(self.frames + 1));
        Duration::from_nanos((next - now) * 100_000 / 9)
    }

    /// The RTP timestamp of the next frame.
    pub fn timestamp(&self) -> u32 {
        self.header.timestamp
    }

    /// Codes the next frame.
    pub fn next_frame(&mut self) -> Frame {
        let interval = self.settings.keyframe_interval_frames;
        let due = interval > 0 && self.since_keyframe >= interval;
        let keyframe = self.wants_keyframe || due;
        self.wants_keyframe = false;
        self.since_keyframe = if keyframe { 1 } else { self.since_keyframe.saturating_add(1) };
        let payloads = packetize(FrameShape {
            codec: self.settings.codec,
            keyframe,
            bytes: self.settings.frame_bytes(keyframe),
            payload_max: self.settings.payload_bytes_max,
            number: self.frames,
            size: self.settings.size,
        });
        let last = payloads.len().saturating_sub(1);
        let packets = payloads
            .into_iter()
            .enumerate()
            .map(|(at, payload)| self.packet(payload, at == last, keyframe && at == 0))
            .collect();
        self.step();
        Frame { keyframe, packets }
    }

    /// Codes nothing in place of the next frame; the first one after it is a keyframe.
    pub fn skip_frame(&mut self) {
        self.wants_keyframe = true;
        self.step();
    }

    fn step(&mut self) {
        let ticks = self.settings.ticks(self.frames + 1) - self.settings.ticks(self.frames);
        self.frames += 1;
        self.header.timestamp = self.header.timestamp.wrapping_add(ticks as u32);
    }

    fn packet(
        &mut self,
        mut payload: Vec<u8>,
        marker: bool,
        may_be_parameters: bool,
    ) -> rtp::Packet {
        let parameters_only =
            may_be_parameters && matches!(self.settings.codec, Codec::H264 | Codec::H265);
        if !parameters_only {
            let stamp = Stamp { layer: self.settings.layer, ..Stamp::now(self.packets) };
            stamp.write(&mut payload);
        }
        self.packets += 1;
        let header = rtp::Header { marker, ..self.header.clone() };
        self.header.sequence_number = self.header.sequence_number.wrapping_add(1);
        rtp::Packet { header, payload: Bytes::from(payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitrate_is_met_over_a_keyframe_interval() {
        let settings = VideoSettings::default();
        let mut source = VideoSource::new(settings, 102, 7);
        let bytes: usize = (0..settings.keyframe_interval_frames)
            .flat_map(|_| source.next_frame().packets)
            .map(|packet| packet.payload.len())
            .sum();
        // Two seconds of 1 Mb/s are 250 000 bytes.
        assert!((245_000..265_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn frames_follow_each_other_as_their_rhythm_says() {
        let ticks =
            |rhythm, number| VideoSettings { rhythm, ..VideoSettings::default() }.ticks(number);
        assert_eq!([0, 1, 30].map(|number| ticks(Rhythm::Even, number)), [0, 3_000, 90_000]);
        assert_eq!([0, 1, 30].map(|number| ticks(Rhythm::Ntsc, number)), [0, 3_003, 90_090]);
        let steps: Vec<u64> = (0..1_000)
            .map(|number| ticks(Rhythm::Uneven, number + 1) - ticks(Rhythm::Uneven, number))
            .collect();
        assert!(steps.iter().all(|step| (1_500..=4_500).contains(step)), "{steps:?}");
        assert!(steps.iter().any(|step| *step > 4_000) && steps.iter().any(|step| *step < 2_000));
    }

    #[test]
    fn keyframes_come_on_time_and_on_request() {
        let settings = VideoSettings { keyframe_interval_frames: 4, ..VideoSettings::default() };
        let mut source = VideoSource::new(settings, 102, 7);
        let mut keyframes = String::new();
        for frame in 0..10 {
            if frame == 6 {
                source.request_keyframe();
            }
            keyframes.push(if source.next_frame().keyframe { 'K' } else { '-' });
        }
        assert_eq!(keyframes, "K---K-K---");
    }

    #[test]
    fn only_the_last_packet_of_a_frame_has_the_marker() {
        let mut source = VideoSource::new(VideoSettings::default(), 102, 7);
        let frame = source.next_frame();
        let markers = frame.packets.iter().filter(|packet| packet.header.marker).count();
        assert_eq!(markers, 1);
        assert!(frame.packets.last().is_some_and(|packet| packet.header.marker));
    }
}
