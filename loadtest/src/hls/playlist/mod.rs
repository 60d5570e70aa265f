//! Playlists as a strict reader sees them (draft-pantos-hls-rfc8216bis-16 §4): a fault says in
//! which line which rule is broken.
//!
//! - `attributes`: lines, numbers, dates, attribute lists
//! - `media`: media playlists, with parts
//! - `multivariant`: those that name others

mod attributes;
mod media;
mod multivariant;

pub use media::{Hint, MediaPlaylist, Part, Report, Segment, ServerControl};
pub use multivariant::{Media, Multivariant, Variant};

use std::fmt;

/// What is wrong with a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; 0 where it is of the whole.
    pub line: usize,
    /// The rule that it breaks.
    pub rule: String,
}

impl Fault {
    fn new(line: usize, rule: impl Into<String>) -> Self {
        Self { line, rule: rule.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.rule)
    }
}

impl std::error::Error for Fault {}

/// Whether a playlist is one that names others.
pub fn is_multivariant(text: &[u8]) -> bool {
    let tag = b"#EXT-X-STREAM-INF";
    text.windows(tag.len()).any(|part| part == tag)
}
