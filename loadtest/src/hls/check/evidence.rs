//! What a server gave: every answer, with when it was asked for and when it came.

use crate::hls::gunzip;
use crate::hls::playlist::{Fault, MediaPlaylist, Multivariant, Part, Segment};
use bytes::Bytes;
use std::collections::BTreeMap;

/// One answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fetched {
    /// What was asked for.
    pub url: String,
    /// The status; 0 where none came, and `body` says why.
    pub status: u16,
    /// Headers, in lower case.
    pub headers: BTreeMap<String, String>,
    /// As it came.
    pub body: Bytes,
    /// When it was asked for, in seconds.
    pub asked: f64,
    /// When all of it was there.
    pub answered: f64,
}

impl Fetched {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body, unpacked where it came packed.
    pub fn text(&self) -> Bytes {
        match self.header("content-encoding") {
            Some("gzip") => gunzip(&self.body).map(Bytes::from).unwrap_or_default(),
            _ => self.body.clone(),
        }
    }

    /// How long it took, in seconds.
    pub fn took(&self) -> f64 {
        self.answered - self.asked
    }

    /// `max-age` of `Cache-Control`, in seconds; 0 where nobody may keep it.
    pub fn max_age(&self) -> Option<u64> {
        let control = self.header("cache-control")?;
        let mut words = control.split(',').map(str::trim);
        if words.clone().any(|word| word == "no-store" || word == "no-cache") {
            return Some(0);
        }
        words.find_map(|word| word.strip_prefix("max-age=")?.parse().ok())
    }
}

/// One playlist as it was given.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The answer.
    pub fetched: Fetched,
    /// What was waited for: segment and part.
    pub wanted: Option<(u64, Option<u64>)>,
    /// What it says, or why it cannot be read.
    pub playlist: Result<MediaPlaylist, Fault>,
}

impl Snapshot {
    /// Reads an answer.
    pub fn new(fetched: Fetched, wanted: Option<(u64, Option<u64>)>) -> Self {
        let playlist = if fetched.status == 200 {
            MediaPlaylist::read(&fetched.text())
        } else {
            Err(Fault { line: 0, rule: format!("status {}", fetched.status) })
        };
        Self { fetched, wanted, playlist }
    }

    /// What is to be waited for next.
    pub fn next(&self) -> Option<(u64, u64)> {
        let last = self.playlist.as_ref().ok()?.segments.last()?;
        Some(match last.uri {
            Some(_) => (last.msn + 1, 0),
            None => (last.msn, last.parts.len() as u64),
        })
    }
}

/// Answers to requests beside those of a player.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    /// Without directives.
    pub plain: Vec<Fetched>,
    /// The same again, with `If-None-Match`.
    pub unchanged: Vec<Fetched>,
    /// The same, with `If-None-Match` of something else.
    pub changed: Vec<Fetched>,
    /// Ten segments ahead.
    pub too_far: Vec<Fetched>,
    /// `_HLS_part` alone.
    pub part_alone: Vec<Fetched>,
    /// A segment alone, and its number.
    pub segment: Vec<(u64, Snapshot)>,
    /// One part beyond the last of a segment that is complete, and the number of that segment.
    pub beyond: Vec<(u64, Snapshot)>,
    /// The same twice, the second packed.
    pub twins: Vec<(Fetched, Fetched)>,
    /// The same whole and as a delta update.
    pub deltas: Vec<(Snapshot, Snapshot)>,
    /// Files that there are none of.
    pub unknown: Vec<Fetched>,
    /// Segments that have left the playlist since.
    pub removed: Vec<Fetched>,
}

/// All of one media playlist.
#[derive(Debug, Clone, Default)]
pub struct Rendition {
    /// Its address as the multivariant playlist has it.
    pub uri: String,
    /// Whether it has the picture.
    pub is_video: bool,
    /// `CODECS` of its variants.
    pub codecs: Vec<String>,
    /// Playlists, in order.
    pub snapshots: Vec<Snapshot>,
    /// Files by their address in the playlist.
    pub files: BTreeMap<String, Fetched>,
    /// Files that were asked for when they were hinted at.
    pub hints: BTreeMap<String, Fetched>,
    /// Other requests.
    pub probes: Probes,
}

/// All that was given.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The multivariant playlist.
    pub multivariant: Fetched,
    /// What it says.
    pub master: Option<Multivariant>,
    /// Why it cannot be read.
    pub master_fault: Option<Fault>,
    /// The media playlists.
    pub renditions: Vec<Rendition>,
}

impl Rendition {
    /// The playlists that could be read, in order.
    pub fn playlists(&self) -> impl DoubleEndedIterator<Item = &MediaPlaylist> {
        self.snapshots.iter().filter_map(|snapshot| snapshot.playlist.as_ref().ok())
    }

    /// The newest of them.
    pub fn last(&self) -> Option<&MediaPlaylist> {
        self.playlists().next_back()
    }

    /// Every segment as it was last listed with all its parts, in order.
    pub fn segments(&self) -> BTreeMap<u64, Segment> {
        let mut all: BTreeMap<u64, Segment> = BTreeMap::new();
        for segment in self.playlists().flat_map(|playlist| &playlist.segments) {
            let known = all.entry(segment.msn).or_insert_with(|| segment.clone());
            // Parts leave the playlist before their segment does.
            let parts = std::mem::take(&mut known.parts);
            let fuller =
                if parts.len() > segment.parts.len() { parts } else { segment.parts.clone() };
            *known = Segment { parts: fuller, ..segment.clone() };
        }
        all
    }

    /// Every part with the number of its segment and its own, and whether it is its segment's last.
    /// Parts whose number is not certain, as earlier ones were not listed, are left out.
    pub fn parts(&self) -> Vec<(u64, usize, Part, bool)> {
        let segments = self.segments();
        let mut all = Vec::new();
        for segment in segments.values() {
            let count = segment.parts.len();
            for (number, part) in segment.parts.iter().enumerate() {
                let is_last = segment.uri.is_some() && number + 1 == count;
                all.push((segment.msn, number, part.clone(), is_last));
            }
        }
        all
    }

    /// The answers to requests for playlists of which a player would take notice.
    pub fn answers(&self) -> impl Iterator<Item = &Fetched> {
        self.probes.plain.iter().chain(self.snapshots.iter().map(|it| &it.fetched))
    }
}
