//! Sound as PES packets carry it -> frames with their times.
//!
//! A PES packet holds one frame or several, or parts of some; its time is that of the first frame
//! that begins in it, and the others follow by how long each lasts.

use super::latm;
use super::pes::Pes;
use crate::codec::opus;
use crate::codec::sync_frame::{self, Header};
use crate::media::frame::{AudioCoding, CLOCK_RATE};
use bytes::Bytes;
use std::sync::Arc;

/// Frames of one PES packet; more are no sound.
const FRAMES_MAX: usize = 256;
/// A frame that goes on in the next PES packet; LOAS has the longest.
const REST_MAX: usize = 1 << 14;
/// The rate in which the length of Opus packets is told.
const OPUS_RATE: u32 = 48_000;

/// How sound stands in its PES packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// AAC with ADTS headers.
    Adts,
    /// AAC in LATM within LOAS.
    Latm,
    /// Opus with control headers.
    Opus,
    /// MPEG audio.
    Mpeg,
    Ac3,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) presented: i64,
    pub(super) coding: AudioCoding,
    pub(super) data: Bytes,
}

/// One audio stream.
#[derive(Debug)]
pub(super) struct Audio {
    framing: Framing,
    /// The beginning of a frame that goes on.
    rest: Vec<u8>,
    /// Time at the last one that was told, and how much has gone by since.
    time: Option<Time>,
    /// Of the last ADTS header.
    config: Option<Arc<[u8]>>,
    latm: Option<latm::Config>,
}

#[derive(Debug, Clone, Copy)]
struct Time {
    told: i64,
    samples: i64,
    rate: u32,
}

impl Time {
    fn now(self) -> i64 {
        let passed = self.samples.saturating_mul(i64::from(CLOCK_RATE)) / i64::from(self.rate);
        self.told.saturating_add(passed)
    }

    fn pass(&mut self, samples: u32, rate: u32) {
        if rate != self.rate {
            *self = Self { told: self.now(), samples: 0, rate };
        }
        self.samples += i64::from(samples);
    }
}

/// What begins at the beginning of some bytes.
enum Found {
    /// A frame, header included, of so many bytes.
    Frame(usize),
    /// A frame may begin here; more bytes will tell.
    Short,
    /// None.
    Garbage,
}

impl Audio {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, rest: Vec::new(), time: None, config: None, latm: None }
    }

    /// Takes in what a PES packet carried, with its time unwrapped; returns how many times
    /// something had to be dropped.
    pub(super) fn push(&mut self, pes: &Pes, time: Option<i64>, out: &mut Vec<Sound>) -> u32 {
        let mut bytes = std::mem::take(&mut self.rest);
        // Where the first frame that begins in this PES packet may stand.
        let begin = bytes.len();
        bytes.extend_from_slice(&pes.data);
        let mut told = time.map(|told| Time { told, samples: 0, rate: OPUS_RATE });
        let (mut at, mut dropped, mut frames) = (0, 0, 0);
        let mut is_lost = false;
        while at < bytes.len() && frames < FRAMES_MAX {
            let here = bytes.get(at..).unwrap_or_default();
            match self.find(here) {
                Found::Frame(len) => {
                    if at >= begin
                        && let Some(told) = told.take()
                    {
                        self.time = Some(told);
                    }
                    let frame = here.get(..len).unwrap_or_default();
                    dropped += u32::from(!self.take(frame, out));
                    (at, frames, is_lost) = (at + len, frames + 1, false);
                }
                Found::Short => break,
                Found::Garbage => {
                    dropped += u32::from(!is_lost);
                    (at, is_lost) = (at + 1, true);
                }
            }
        }
        if pes.is_whole && bytes.len() - at.min(bytes.len()) <= REST_MAX {
            bytes.drain(..at.min(bytes.len()));
            self.rest = bytes;
        } else {
            dropped += 1;
        }
        dropped
    }

    /// Looks for a frame at the beginning of some bytes that are not empty.
    fn find(&self, bytes: &[u8]) -> Found {
        let len = match self.framing {
            Framing::Adts => {
                let Some(&header) = bytes.first_chunk::<7>() else { return short(bytes, &[0xff]) };
                adts_len(header)
            }
            Framing::Latm => {
                let Some(&header) = bytes.first_chunk::<3>() else { return short(bytes, &[0x56]) };
                latm::packet_len(header)
            }
            Framing::Opus => return opus_len(bytes),
            Framing::Mpeg if bytes.len() < 4 => return short(bytes, &[0xff]),
            Framing::Mpeg => sync_frame::mpeg(bytes).map(|header| header.length),
            Framing::Ac3 if bytes.len() < 7 => return short(bytes, &[0x0b]),
            Framing::Ac3 => sync_frame::ac3(bytes).map(|header| header.length),
        };
        match len {
            Some(len) if bytes.len() >= len => Found::Frame(len),
            Some(_) => Found::Short,
            None => Found::Garbage,
        }
    }

    /// Hands a frame out; false where it is none that can be used.
    fn take(&mut self, frame: &[u8], out: &mut Vec<Sound>) -> bool {
        match self.framing {
            Framing::Adts => self.take_adts(frame, out),
            Framing::Latm => self.take_latm(frame, out),
            Framing::Opus => self.take_opus(frame, out),
            Framing::Mpeg => self.take_synced(AudioCoding::Mpeg, sync_frame::mpeg, frame, out),
            Framing::Ac3 => self.take_synced(AudioCoding::Ac3, sync_frame::ac3, frame, out),
        }
    }

    fn take_synced(
        &mut self,
        coding: AudioCoding,
        read: fn(&[u8]) -> Option<Header>,
        frame: &[u8],
        out: &mut Vec<Sound>,
    ) -> bool {
        let Some(Header { rate, samples, .. }) = read(frame) else { return false };
        self.hand_out(coding, frame, samples, rate, out)
    }

    fn take_adts(&mut self, frame: &[u8], out: &mut Vec<Sound>) -> bool {
        // ISO/IEC 14496-3 §1.A.2.2.
        let Some(&[_, second, third, fourth, _, _, seventh]) = frame.first_chunk() else {
            return false;
        };
        let header = if second & 1 == 1 { 7 } else { 9 };
        let object = (third >> 6) + 1;
        let index = third >> 2 & 0x0f;
        let channels = (third & 1) << 2 | fourth >> 6;
        let Some(rate) = latm::rate(u32::from(index)) else { return false };
        // A configuration of channels that is spelled out, several blocks with checksums between
        // them: no encoder sends those.
        if channels == 0 || seventh & 3 != 0 {
            return false;
        }
        let config = [object << 3 | index >> 1, index << 7 | channels << 3];
        let config = match &self.config {
            Some(known) if **known == config => known.clone(),
            _ => self.config.insert(config.as_slice().into()).clone(),
        };
        let Some(data) = frame.get(header..).filter(|data| !data.is_empty()) else { return false };
        self.hand_out(AudioCoding::Aac(config), data, 1024, rate, out)
    }

    fn take_latm(&mut self, packet: &[u8], out: &mut Vec<Sound>) -> bool {
        let element = packet.get(3..).unwrap_or_default();
        let frames = latm::frames(element, &mut self.latm);
        let (Some(frames), Some(config)) = (frames, &self.latm) else { return false };
        let (audio, rate, samples) = (config.audio.clone(), config.rate, config.samples);
        for frame in &frames {
            self.hand_out(AudioCoding::Aac(audio.clone()), frame, samples, rate, out);
        }
        !frames.is_empty()
    }

    fn take_opus(&mut self, packet: &[u8], out: &mut Vec<Sound>) -> bool {
        let Some((header, _)) = opus_header(packet) else { return false };
        let data = packet.get(header..).unwrap_or_default();
        let Some(samples) = opus::duration(data) else { return false };
        self.hand_out(AudioCoding::Opus, data, samples, OPUS_RATE, out)
    }

    fn hand_out(
        &mut self,
        coding: AudioCoding,
        data: &[u8],
        samples: u32,
        rate: u32,
        out: &mut Vec<Sound>,
    ) -> bool {
        // Before the first time that is told nothing can be placed.
        let Some(time) = &mut self.time else { return false };
        let presented = time.now();
        time.pass(samples, rate);
        out.push(Sound { presented, coding, data: Bytes::copy_from_slice(data) });
        true
    }
}

/// Too few bytes for a header: they may be the beginning of one, or not.
fn short(bytes: &[u8], begin: &[u8]) -> Found {
    if bytes.first() == begin.first() { Found::Short } else { Found::Garbage }
}

fn adts_len(header: [u8; 7]) -> Option<usize> {
    let [first, second, _, fourth, fifth, sixth, _] = header.map(usize::from);
    // 12 bits of ones, and a layer that is 0.
    let is_sync = first == 0xff && second & 0xf6 == 0xf0;
    let len = (fourth & 3) << 11 | fifth << 3 | sixth >> 5;
    (is_sync && len >= 7).then_some(len)
}

/// The lengths of a control header and of the packet behind it, as "Opus in MPEG-TS" has them.
fn opus_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let &[_, second] = bytes.first_chunk()?;
    let (mut at, mut len) = (2, 0);
    loop {
        let part = *bytes.get(at)?;
        at += 1;
        len += usize::from(part);
        if part != 255 {
            break;
        }
    }
    // Trims at start and end: 2 bytes each; nobody who joins a live stream needs them.
    at += 2 * usize::from(second >> 4 & 1) + 2 * usize::from(second >> 3 & 1);
    if second & 4 != 0 {
        at += 1 + usize::from(*bytes.get(at)?);
    }
    Some((at, len))
}

fn opus_len(bytes: &[u8]) -> Found {
    let is_prefix = match *bytes {
        [first] => first == 0x7f,
        [first, second, ..] => first == 0x7f && second & 0xe0 == 0xe0,
        [] => true,
    };
    if !is_prefix {
        return Found::Garbage;
    }
    match opus_header(bytes) {
        Some((header, len)) if bytes.len() >= header + len => Found::Frame(header + len),
        _ => Found::Short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pes(data: Vec<u8>) -> Pes {
        Pes { presented: None, decoded: None, data, is_whole: true }
    }

    fn push(audio: &mut Audio, data: Vec<u8>, time: Option<i64>) -> (Vec<Sound>, u32) {
        let mut out = Vec::new();
        let dropped = audio.push(&pes(data), time, &mut out);
        (out, dropped)
    }

    /// AAC-LC, 44.1 kHz, stereo, with this content.
    fn adts(content: &[u8]) -> Vec<u8> {
        let len = content.len() + 7;
        let header =
            [0xff, 0xf1, 0x50, 0x80 | (len >> 11) as u8, (len >> 3) as u8, (len << 5) as u8 | 0x1f];
        [&header[..], &[0xfc], content].concat()
    }

    #[test]
    fn adts_becomes_raw_frames_with_their_configuration() {
        let mut audio = Audio::new(Framing::Adts);
        let (sounds, dropped) =
            push(&mut audio, [adts(&[1, 2]), adts(&[3])].concat(), Some(90_000));
        assert_eq!(dropped, 0);
        let config: Arc<[u8]> = [0x12, 0x10].as_slice().into();
        assert!(sounds.iter().all(|it| it.coding == AudioCoding::Aac(config.clone())));
        assert_eq!(sounds[0].data, [1, 2][..]);
        // 1024 / 44,100 s.
        assert_eq!([sounds[0].presented, sounds[1].presented], [90_000, 92_089]);
    }

    #[test]
    fn a_frame_may_go_on_in_the_next_pes_packet() {
        let mut audio = Audio::new(Framing::Adts);
        let all = [adts(&[1; 100]), adts(&[2; 100]), adts(&[3; 100])].concat();
        let (first, dropped) = push(&mut audio, all[..150].to_vec(), Some(0));
        assert_eq!((first.len(), dropped), (1, 0));
        // Its time is that of the third frame, the first that begins in it.
        let (second, dropped) = push(&mut audio, all[150..].to_vec(), Some(5000));
        assert_eq!((second.len(), dropped), (2, 0));
        assert_eq!([second[0].presented, second[1].presented], [2089, 5000]);
        assert_eq!(second[0].data, [2; 100][..]);
    }

    #[test]
    fn what_is_no_frame_is_passed_over_and_counted_once() {
        let mut audio = Audio::new(Framing::Adts);
        let (sounds, dropped) = push(&mut audio, [vec![7; 50], adts(&[1])].concat(), Some(0));
        assert_eq!((sounds.len(), dropped), (1, 1));
        let (none, dropped) = push(&mut Audio::new(Framing::Adts), adts(&[1]), None);
        assert_eq!((none.len(), dropped), (0, 1), "at no time");
    }

    #[test]
    fn what_was_lost_takes_the_begun_frame_with_it() {
        let mut audio = Audio::new(Framing::Adts);
        let half = [adts(&[1; 100]), adts(&[2; 100])[..50].to_vec()].concat();
        let mut out = Vec::new();
        let half = Pes { is_whole: false, ..pes(half) };
        assert_eq!(audio.push(&half, Some(0), &mut out), 1);
        assert_eq!(out.len(), 1, "the one before it is whole");
        let (sounds, dropped) = push(&mut audio, adts(&[3]), Some(9000));
        assert_eq!((sounds[0].presented, dropped), (9000, 0));
    }

    #[test]
    fn opus_packets_lose_their_control_headers() {
        let mut audio = Audio::new(Framing::Opus);
        let packet = [0xfc, 1, 2];
        let plain = [&[0x7f, 0xe0, 3][..], &packet].concat();
        let trimmed = [&[0x7f, 0xfc, 3, 0, 1, 0, 2, 1, 9][..], &packet].concat();
        let long = [&[0x7f, 0xe0, 255, 45][..], &[0xfc; 300]].concat();
        let (sounds, dropped) = push(&mut audio, [plain, trimmed, long].concat(), Some(0));
        assert_eq!(dropped, 0);
        assert_eq!(sounds[0].data, packet[..]);
        assert_eq!(sounds[1].data, packet[..]);
        assert_eq!(sounds[2].data.len(), 300);
        let times: Vec<i64> = sounds.iter().map(|it| it.presented).collect();
        assert_eq!(times, [0, 1800, 3600], "20 ms each");
    }
}
