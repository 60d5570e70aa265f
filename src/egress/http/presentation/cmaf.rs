//! CMAF files (ISO/IEC 23000-19): the boxes of a header and of a chunk, for one track.
//!
//! Written by hand: a track has one sample entry out of five, whose configuration record comes
//! ready made, so that all boxes together are shorter than filling the structures of a library that
//! reads the records apart and writes them anew.

use crate::codec::configuration::{AudioConfiguration, VideoConfiguration};
use crate::media::codec::Codec;
use bytes::Bytes;

/// The only track of a file.
const TRACK: u32 = 1;
/// A sample that others are not needed for (ISO/IEC 14496-12 §8.8.3.1).
const SYNC: u32 = 0x0200_0000;
/// A sample that depends on others.
const NOT_SYNC: u32 = 0x0101_0000;
/// No rotation, no scaling (§8.3.2).
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// What a track holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Description {
    /// A picture.
    Video(VideoConfiguration),
    /// Sound.
    Audio(AudioConfiguration),
}

impl Description {
    /// Ticks per second of its times.
    pub(super) const fn timescale(&self) -> u32 {
        match self {
            Self::Video(_) => crate::media::frame::CLOCK_RATE,
            Self::Audio(audio) => audio.sample_rate,
        }
    }

    /// How its codec is named in playlists.
    pub(super) fn codec_string(&self) -> &str {
        match self {
            Self::Video(video) => &video.codec_string,
            Self::Audio(audio) => &audio.codec_string,
        }
    }
}

/// A sample of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its duration, in ticks of the track.
    pub(super) duration: u32,
    /// From its decoding to its presentation.
    pub(super) offset: i32,
    /// Whether a decoder can start with it.
    pub(super) starts: bool,
    /// The bytes.
    pub(super) data: Bytes,
}

/// A CMAF header: the media initialization section.
pub(super) fn header(description: &Description) -> Bytes {
    let mut out = Vec::with_capacity(1_024);
    boxed(&mut out, *b"ftyp", |out| {
        out.extend(b"iso6");
        put32(out, &[0]);
        out.extend(b"iso6cmfcmp41");
    });
    boxed(&mut out, *b"moov", |out| {
        full(out, *b"mvhd", 0, 0, |out| {
            put32(out, &[0, 0, description.timescale(), 0, 0x1_0000]);
            put16(out, &[0x0100, 0]);
            put32(out, &[0, 0]);
            put32(out, &UNITY);
            put32(out, &[0; 6]);
            put32(out, &[TRACK + 1]);
        });
        boxed(out, *b"trak", |out| track(out, description));
        boxed(out, *b"mvex", |out| {
            full(out, *b"trex", 0, 0, |out| put32(out, &[TRACK, 1, 0, 0, 0]));
        });
    });
    out.into()
}

/// The body of `trak`.
fn track(out: &mut Vec<u8>, description: &Description) {
    let (size, volume) = match description {
        Description::Video(video) => (video.size, 0),
        Description::Audio(_) => ((0, 0), 0x0100),
    };
    // Enabled, and part of the presentation (§8.3.2.3).
    full(out, *b"tkhd", 0, 3, |out| {
        put32(out, &[0, 0, TRACK, 0, 0, 0, 0]);
        put16(out, &[0, 0, volume, 0]);
        put32(out, &UNITY);
        put32(out, &[u32::from(size.0) << 16, u32::from(size.1) << 16]);
    });
    boxed(out, *b"mdia", |out| {
        full(out, *b"mdhd", 0, 0, |out| {
            put32(out, &[0, 0, description.timescale(), 0]);
            // The language is not known: `und`.
            put16(out, &[0x55c4, 0]);
        });
        full(out, *b"hdlr", 0, 0, |out| {
            put32(out, &[0]);
            out.extend(match description {
                Description::Video(_) => b"vide",
                Description::Audio(_) => b"soun",
            });
            put32(out, &[0; 3]);
            out.push(0);
        });
        boxed(out, *b"minf", |out| {
            match description {
                Description::Video(_) => full(out, *b"vmhd", 0, 1, |out| put16(out, &[0; 4])),
                Description::Audio(_) => full(out, *b"smhd", 0, 0, |out| put16(out, &[0; 2])),
            }
            boxed(out, *b"dinf", |out| {
                full(out, *b"dref", 0, 0, |out| {
                    put32(out, &[1]);
                    // The media is in the same file (§8.7.2.1).
                    full(out, *b"url ", 0, 1, |_| {});
                });
            });
            boxed(out, *b"stbl", |out| {
                full(out, *b"stsd", 0, 0, |out| {
                    put32(out, &[1]);
                    match description {
                        Description::Video(video) => video_entry(out, video),
                        Description::Audio(audio) => audio_entry(out, audio),
                    }
                });
                for kind in [b"stts", b"stsc", b"stco"] {
                    full(out, *kind, 0, 0, |out| put32(out, &[0]));
                }
                full(out, *b"stsz", 0, 0, |out| put32(out, &[0, 0]));
            });
        });
    });
}

/// §12.1.3, with the configuration box of the codec.
fn video_entry(out: &mut Vec<u8>, video: &VideoConfiguration) {
    boxed(out, video.sample_entry(), |out| {
        put16(out, &[0, 0, 0, 1]);
        put32(out, &[0; 4]);
        put16(out, &[video.size.0, video.size.1]);
        // 72 dpi, one frame in a sample, no name of a compressor, 24 bits, -1.
        put32(out, &[0x48_0000, 0x48_0000, 0]);
        put16(out, &[1]);
        put32(out, &[0; 8]);
        put16(out, &[0x18, 0xffff]);
        let kind = match video.codec {
            Codec::H265 => *b"hvcC",
            Codec::Av1 => *b"av1C",
            _ => *b"avcC",
        };
        boxed(out, kind, |out| out.extend(&video.record));
    });
}

/// §12.2.3, with `dOps` or `esds`.
fn audio_entry(out: &mut Vec<u8>, audio: &AudioConfiguration) {
    let is_opus = audio.codec_string == "opus";
    boxed(out, if is_opus { *b"Opus" } else { *b"mp4a" }, |out| {
        put16(out, &[0, 0, 0, 1]);
        put32(out, &[0; 2]);
        put16(out, &[u16::from(audio.channels), 16, 0, 0]);
        // 16.16: rates that do not fit are told by the record.
        put32(out, &[u16::try_from(audio.sample_rate).map_or(0, u32::from) << 16]);
        if is_opus {
            boxed(out, *b"dOps", |out| out.extend(&audio.record));
        } else {
            full(out, *b"esds", 0, 0, |out| elementary_stream(out, &audio.record));
        }
    });
}

/// An `ES_Descriptor` (ISO/IEC 14496-1 §7.2.6.5) around an `AudioSpecificConfig`.
fn elementary_stream(out: &mut Vec<u8>, record: &[u8]) {
    let record = &record[..record.len().min(64)];
    let length = record.len() as u8;
    out.extend([0x03, length + 23, 0, 0, 0]);
    // MPEG-4 audio, an audio stream; neither buffer nor bit rates are said.
    out.extend([0x04, length + 15, 0x40, 0x15, 0, 0, 0]);
    put32(out, &[0, 0]);
    out.extend([0x05, length]);
    out.extend(record);
    out.extend([0x06, 1, 2]);
}

/// A CMAF chunk: `moof` and `mdat`. `decode_time`: of its first sample, in ticks of the track.
pub(super) fn chunk(sequence: u32, decode_time: u64, entries: &[Entry]) -> Bytes {
    let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
    let mut out = Vec::with_capacity(128 + 16 * entries.len() + bytes);
    let mut offset_at = 0;
    boxed(&mut out, *b"moof", |out| {
        full(out, *b"mfhd", 0, 0, |out| put32(out, &[sequence]));
        boxed(out, *b"traf", |out| {
            // default-base-is-moof (ISO/IEC 14496-12 §8.8.7.1).
            full(out, *b"tfhd", 0, 0x02_0000, |out| put32(out, &[TRACK]));
            full(out, *b"tfdt", 1, 0, |out| out.extend(decode_time.to_be_bytes()));
            // Signed offsets; where the data is, durations, sizes, flags, offsets (§8.8.8.1).
            full(out, *b"trun", 1, 0x0f01, |out| {
                put32(out, &[entries.len() as u32]);
                offset_at = out.len();
                put32(out, &[0]);
                for entry in entries {
                    let flags = if entry.starts { SYNC } else { NOT_SYNC };
                    let size = entry.data.len() as u32;
                    put32(out, &[entry.duration, size, flags, entry.offset.cast_unsigned()]);
                }
            });
        });
    });
    let data_at = (out.len() + 8) as u32;
    out[offset_at..offset_at + 4].copy_from_slice(&data_at.to_be_bytes());
    boxed(&mut out, *b"mdat", |out| {
        for entry in entries {
            out.extend_from_slice(&entry.data);
        }
    });
    out.into()
}

fn boxed(out: &mut Vec<u8>, kind: [u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put32(out, &[0]);
    out.extend(kind);
    body(out);
    let size = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

fn full(
    out: &mut Vec<u8>,
    kind: [u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    boxed(out, kind, |out| {
        put32(out, &[u32::from(version) << 24 | flags]);
        body(out);
    });
}

fn put32(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend(value.to_be_bytes());
    }
}

fn put16(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend(value.to_be_bytes());
    }
}
