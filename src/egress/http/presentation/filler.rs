//! Fills parts with pictures.
//!
//! A picture's duration is known when the next one comes, but a part shall not wait for that: it
//! is closed with the shortest time that pictures are apart. Where the next one is presented later,
//! it is decoded at the end of that part all the same, and its composition offset says when it is
//! shown: times of presentation are exact, times of decoding have no holes and run ahead of the
//! publisher's by at most [`LAG_MAX`]. The same room takes the pictures of cameras, which come
//! unevenly: every part lasts exactly as long as it may where a picture would reach beyond.
//!
//! A picture that lasts longer than that (screen sharing) makes a part that is longer than the
//! Part Target Duration, against draft-pantos-hls-rfc8216bis-22 §4.4.4.9: nothing else could be put
//! there but a hole, which stops players.

use super::cmaf::Entry;
use super::pace::Pace;
use crate::media::frame::CLOCK_RATE;
use bytes::Bytes;

/// How far decoding may run ahead of what the publisher said: half a second.
const LAG_MAX: i64 = (CLOCK_RATE / 2) as i64;
/// How long a picture may stand for what is missing; then there is a hole.
const PICTURE_MAX: i64 = 2 * CLOCK_RATE as i64;

/// A part that is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// When its first sample is decoded, in ticks of the track.
    pub(super) decode_time: i64,
    /// How long it is.
    pub(super) duration: i64,
    /// Whether a decoder can start in it.
    pub(super) is_independent: bool,
    /// What is in it.
    pub(super) entries: Vec<Entry>,
}

/// A picture of the open part.
#[derive(Debug)]
struct Picture {
    /// When it is decoded: never before the one before it.
    decode: i64,
    present: i64,
    starts: bool,
    data: Bytes,
}

/// The part that is being filled.
#[derive(Debug)]
pub(super) struct Filler {
    pace: Pace,
    /// The Part Target Duration.
    target: i64,
    /// Where the part begins.
    start: Option<i64>,
    pictures: Vec<Picture>,
    bytes: usize,
}

impl Filler {
    /// Nothing yet. `target` in ticks.
    pub(super) const fn new(pace: Pace, target: i64) -> Self {
        Self { pace, target, start: None, pictures: Vec::new(), bytes: 0 }
    }

    /// What it holds.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many pictures it holds.
    pub(super) const fn len(&self) -> usize {
        self.pictures.len()
    }

    /// How far pictures are apart, mostly.
    pub(super) const fn usual(&self) -> i64 {
        self.pace.usual
    }

    /// Where the next part begins, or the one being filled; `decode` if none did.
    pub(super) fn start(&self, decode: i64) -> i64 {
        self.start.unwrap_or(decode)
    }

    /// A picture comes that is decoded at `decode`: closes the part if it has no place there, or
    /// if a segment begins with it (`cuts`). No part reaches beyond `end_max`.
    pub(super) fn before(&mut self, decode: i64, cuts: bool, end_max: i64) -> Option<Closed> {
        let start = *self.start.get_or_insert(decode);
        let Some(last) = self.pictures.last() else {
            if decode - start > PICTURE_MAX {
                self.start = Some(decode);
            }
            return None;
        };
        // With a picture that is shorter than half the usual, rather than a part that is too short.
        let fits =
            decode - start < self.least() || decode + self.pace.shortest / 2 <= start + self.target;
        if fits && !cuts {
            return None;
        }
        let due = decode.max(last.decode + 1);
        let full = (start + self.target).max(last.decode + 1);
        let mut end = due;
        if due > full {
            end = if due - full <= LAG_MAX { full } else { due.min(start + PICTURE_MAX) };
        }
        end = end.min(end_max.max(last.decode + 1));
        let closed = self.close(end);
        if due - end > LAG_MAX {
            self.start = Some(due);
        }
        closed
    }

    /// Puts a picture in; closes the part if it is full with it.
    pub(super) fn add(
        &mut self,
        decode: i64,
        present: i64,
        starts: bool,
        data: Bytes,
    ) -> Option<Closed> {
        let start = *self.start.get_or_insert(decode);
        let at = self.pictures.last().map_or(start, |last| decode.max(last.decode + 1));
        self.bytes += data.len();
        self.pictures.push(Picture { decode: at, present, starts, data });
        let due = decode.max(at) + self.pace.shortest;
        let full = start + self.target;
        if due - start < self.least() || due - full > LAG_MAX {
            return None;
        }
        self.close(due.min(full).max(at + 1))
    }

    /// A part that is so long is full: the draft wants 85 %; where one more picture would fit,
    /// it is waited for.
    fn least(&self) -> i64 {
        (self.target * 85 / 100 + 1).max(self.target - self.pace.usual / 2)
    }

    /// Nothing more comes: the last picture lasts as long as is usual.
    pub(super) fn finish(&mut self) -> Option<Closed> {
        let last = self.pictures.last()?.decode;
        let start = self.start?;
        let due = last + self.pace.usual;
        self.close(due.min(start + self.target).max(last + 1))
    }

    fn close(&mut self, end: i64) -> Option<Closed> {
        let decode_time = self.start.replace(end)?;
        self.bytes = 0;
        let pictures = std::mem::take(&mut self.pictures);
        let ends: Vec<i64> = pictures.iter().skip(1).map(|next| next.decode).chain([end]).collect();
        let is_independent = pictures.iter().any(|picture| picture.starts);
        let entry = |(picture, end): (Picture, i64)| Entry {
            duration: u32::try_from(end - picture.decode).unwrap_or_default(),
            offset: (picture.present - picture.decode)
                .clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
            starts: picture.starts,
            data: picture.data,
        };
        let entries: Vec<Entry> = pictures.into_iter().zip(ends).map(entry).collect();
        (!entries.is_empty()).then_some(Closed {
            decode_time,
            duration: end - decode_time,
            is_independent,
            entries,
        })
    }
}
