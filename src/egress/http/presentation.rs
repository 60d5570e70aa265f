//! The renditions of one stream as playlists and files, out of its samples. Pure.

use crate::media::sample::Sample;
use bytes::Bytes;
use std::time::Duration;

/// How a stream is packaged; the reasons stand beside the options of the same names.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a part is, about.
    pub part: Duration,
    /// How long a segment is, about.
    pub segment: Duration,
    /// How far back playlists reach.
    pub window: Duration,
    /// What it may hold.
    pub bytes_max: usize,
}

/// One media playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rendition {
    /// The picture: `video.m3u8`.
    Video,
    /// Sound as AAC: `aac.m3u8`.
    Aac,
    /// Sound as Opus: `opus.m3u8`.
    Opus,
}

/// How far a playlist has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The media sequence number of its newest segment, be it complete or not.
    pub msn: u64,
    /// How many parts of that there are; one at least.
    pub parts: u64,
    /// Whether that segment is complete.
    pub is_complete: bool,
    /// Whether nothing more comes.
    pub is_over: bool,
}

/// What there is under a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// All of it; it never changes.
    Whole(Bytes),
    /// A segment that is being made: so many of its parts are there.
    Growing(Vec<Bytes>),
    /// It is hinted at, and comes next.
    Hinted,
    /// There is none of that name, or none any more.
    Unknown,
}

/// A stream being packaged.
#[derive(Debug)]
pub struct Presentation {}

impl Presentation {
    /// Nothing yet.
    pub fn new(_settings: Settings) -> Self {
        Self {}
    }

    /// A publisher begins: its files have this in their names, which nobody has had before.
    /// `keyframes_apart`: the longest time between two of its keyframes, as far as that is known.
    pub fn begin(&mut self, _run: &str, _keyframes_apart: Option<Duration>) {}

    /// Takes a sample of the publisher.
    pub fn push(&mut self, _sample: Sample) {}

    /// Nothing more comes: playlists end.
    pub fn end(&mut self) {}

    /// How far a playlist has got; `None` while it has no part.
    pub fn position(&self, _rendition: Rendition) -> Option<Position> {
        None
    }

    /// The playlist that names the others; `None` before all of them have something to play.
    /// `query` is put behind every URL.
    pub fn multivariant(&self, _query: &str) -> Option<String> {
        None
    }

    /// A media playlist as it is now; `skip`: as a delta update, where that is possible.
    pub fn playlist(&self, _rendition: Rendition, _skip: bool, _query: &str) -> Option<String> {
        None
    }

    /// What there is under a name.
    pub fn file(&self, _name: &str) -> File {
        File::Unknown
    }
}
