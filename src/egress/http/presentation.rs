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

impl Rendition {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Video, Self::Aac, Self::Opus];

    /// Its place in tables of all.
    pub const fn index(self) -> usize {
        self as usize
    }
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

    /// These kinds of sound come, or will soon: the playlist that names the others waits for them
    /// for a while.
    pub fn expect_sound(&mut self, _renditions: &[Rendition]) {}

    /// Whether the publisher is to be asked for a keyframe now, so that the segment can end in
    /// time; true once for each.
    pub fn wants_keyframe(&mut self) -> bool {
        false
    }

    /// EXT-X-TARGETDURATION, as it is or will be.
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// The media that is held, in bytes.
    pub fn held(&self) -> usize {
        0
    }

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
