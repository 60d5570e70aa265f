//! What a PMT offers: which streams are played, and what the others are called.

use super::Continuity;
use super::audio::{Audio, Framing};
use super::pes::{AUDIO_MAX, Assembly, VIDEO_MAX};
use super::section::Entry;
use super::video::Video;
use crate::media::codec::Codec;

/// One stream that is used.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) pid: u16,
    pub(super) continuity: Continuity,
    pub(super) assembly: Assembly,
    pub(super) decoder: Decoder,
    kind: Kind,
}

/// What makes frames of its PES packets.
#[derive(Debug)]
pub(super) enum Decoder {
    Video(Codec, Video),
    Audio(Audio),
}

/// What can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Video(Codec),
    Audio(Framing),
}

impl Track {
    fn new(pid: u16, kind: Kind) -> Self {
        let (len_max, decoder) = match kind {
            Kind::Video(codec) => (VIDEO_MAX, Decoder::Video(codec, Video::new(codec))),
            Kind::Audio(framing) => (AUDIO_MAX, Decoder::Audio(Audio::new(framing))),
        };
        let assembly = Assembly::new(len_max);
        Self { pid, continuity: Continuity::default(), assembly, decoder, kind }
    }

    fn is_video(&self) -> bool {
        matches!(self.kind, Kind::Video(_))
    }
}

/// Takes the first video and the first audio stream that can be used; tracks that stay the same
/// go on. Returns what the others are.
pub(super) fn choose(entries: &[Entry<'_>], tracks: &mut Vec<Track>) -> Vec<String> {
    let mut old = std::mem::take(tracks);
    let mut unused = Vec::new();
    for entry in entries {
        let (name, kind) = describe(entry);
        let is_taken =
            |kind| tracks.iter().any(|it| it.is_video() == matches!(kind, Kind::Video(_)));
        match kind {
            Some(kind) if !is_taken(kind) => {
                let same = old.iter().position(|it| (it.pid, it.kind) == (entry.pid, kind));
                let track = same.map(|at| old.swap_remove(at));
                tracks.push(track.unwrap_or_else(|| Track::new(entry.pid, kind)));
            }
            _ => unused.push(format!("{name} (PID {})", entry.pid)),
        }
    }
    unused
}

/// What a stream is, and how it is used if it can be (ISO/IEC 13818-1 table 2-34, ETSI EN 300 468
/// §6.4, the registry of SMPTE RA).
fn describe(entry: &Entry<'_>) -> (String, Option<Kind>) {
    let private = || {
        let has = |tag| entry.descriptor(tag).is_some();
        if entry.is_registered(*b"Opus") {
            let channels = entry.descriptor(0x7f).and_then(|it| it.strip_prefix(&[0x80])?.first());
            // 0 is two channels without a relation. From 3 on several streams are in a packet.
            let plays = channels.is_none_or(|&channels| channels <= 2);
            let name = if plays { "Opus" } else { "Opus with more than two channels" };
            return (name.to_owned(), plays.then_some(Kind::Audio(Framing::Opus)));
        }
        if has(0x6a) || entry.is_registered(*b"AC-3") {
            return ("AC-3".to_owned(), Some(Kind::Audio(Framing::Ac3)));
        }
        let name = match entry.stream_type {
            _ if has(0x7a) || entry.is_registered(*b"EAC3") => "E-AC-3",
            _ if has(0x59) => "subtitles",
            _ if has(0x56) => "teletext",
            _ if entry.is_registered(*b"AV01") => "AV1",
            _ => "private data",
        };
        (name.to_owned(), None)
    };
    let known = |name: &str, kind| (name.to_owned(), Some(kind));
    match entry.stream_type {
        0x1b => known("H.264", Kind::Video(Codec::H264)),
        0x24 => known("H.265", Kind::Video(Codec::H265)),
        0x0f => known("AAC", Kind::Audio(Framing::Adts)),
        0x11 => known("AAC", Kind::Audio(Framing::Latm)),
        0x03 | 0x04 => known("MPEG audio", Kind::Audio(Framing::Mpeg)),
        0x81 => known("AC-3", Kind::Audio(Framing::Ac3)),
        0x06 => private(),
        other => (unplayable(other), None),
    }
}

fn unplayable(stream_type: u8) -> String {
    let name = match stream_type {
        0x01 => "MPEG-1 video",
        0x02 => "MPEG-2 video",
        0x10 => "MPEG-4 video",
        0x33 => "H.266",
        0x87 => "E-AC-3",
        0x05 | 0x0c | 0x0d => "private data",
        0x15 => "metadata",
        0x86 => "SCTE-35 markers",
        other => return format!("stream type {other:#04x}"),
    };
    name.to_owned()
}
