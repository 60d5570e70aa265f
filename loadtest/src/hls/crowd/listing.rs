//! What a player takes from a media playlist, worked out once for all who get the same text.

use super::response::Head;
use crate::hls::gunzip;
use crate::hls::playlist::{Fault, MediaPlaylist};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Texts that are remembered: those of the last seconds are asked for again.
const TEXTS_MAX: usize = 512;

/// A part that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedPart {
    pub(super) msn: u64,
    pub(super) part: u64,
    /// Path and query.
    pub(super) target: Rc<str>,
    /// When it begins, in microseconds since the Unix epoch, and how long it is.
    pub(super) begins: i64,
    pub(super) lasts_us: i64,
    pub(super) independent: bool,
    pub(super) map: Rc<str>,
}

/// A playlist as a player needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) parts: Vec<ListedPart>,
    pub(super) hint: Option<Rc<str>>,
    /// What to wait for next: `_HLS_msn` and `_HLS_part`.
    pub(super) next: (u64, u64),
    pub(super) hold_back_us: i64,
    pub(super) part_us: i64,
    pub(super) can_skip: bool,
    pub(super) ended: bool,
}

impl Listing {
    pub(super) fn new(text: &[u8], playlist_target: &str) -> Result<Self, Fault> {
        let playlist = MediaPlaylist::read(text)?;
        let fault = |rule: &str| Fault { line: 0, rule: rule.to_owned() };
        let control = playlist.control.ok_or_else(|| fault("no EXT-X-SERVER-CONTROL"))?;
        if !control.can_block_reload {
            return Err(fault(
                "it has no CAN-BLOCK-RELOAD=YES: a low-latency player plays nothing",
            ));
        }
        let part = playlist.part_target.ok_or_else(|| fault("no EXT-X-PART-INF"))?;
        let hold_back = control.part_hold_back.ok_or_else(|| fault("no PART-HOLD-BACK"))?;
        let absolute = |uri: &str| -> Rc<str> { resolve(playlist_target, uri).into() };
        let mut parts = Vec::new();
        let mut clock = None;
        let mut map: Rc<str> = "".into();
        let mut map_uri = None;
        for segment in &playlist.segments {
            clock = segment.program_date_time.or(clock);
            if segment.map.as_deref() != map_uri {
                map_uri = segment.map.as_deref();
                map = map_uri.map_or_else(|| "".into(), absolute);
            }
            let mut begins = clock.unwrap_or(0);
            for (number, part) in (0..).zip(&segment.parts) {
                let lasts_us = to_micros(part.duration);
                parts.push(ListedPart {
                    msn: segment.msn,
                    part: number,
                    target: absolute(&part.uri),
                    begins,
                    lasts_us,
                    independent: part.independent,
                    map: map.clone(),
                });
                begins += lasts_us;
            }
            let lasts = segment.duration.unwrap_or_else(|| segment.parts_duration());
            clock = clock.map(|clock| clock + to_micros(lasts));
        }
        let last = playlist.segments.last();
        let next = last.map_or((playlist.media_sequence, 0), |segment| match segment.uri {
            Some(_) => (segment.msn + 1, 0),
            None => (segment.msn, segment.parts.len() as u64),
        });
        Ok(Self {
            parts,
            hint: playlist.part_hint().map(absolute),
            next,
            hold_back_us: to_micros(hold_back),
            part_us: to_micros(part),
            can_skip: control.can_skip_until.is_some(),
            ended: playlist.ended,
        })
    }

    /// When the last part ends.
    pub(super) fn end(&self) -> Option<i64> {
        self.parts.last().map(|part| part.begins + part.lasts_us)
    }
}

fn to_micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

/// The path and query of an address that stands in a playlist (RFC 3986 §5.2, as far as it is
/// needed: all is on one host).
pub(super) fn resolve(playlist_target: &str, uri: &str) -> String {
    if let Some((_, rest)) = uri.split_once("://") {
        return rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/").to_owned();
    }
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let path = playlist_target.split('?').next().unwrap_or_default();
    let folder = path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or("/");
    format!("{folder}{uri}")
}

/// Listings by what identifies their text: thousands of players get the same.
#[derive(Debug, Default)]
pub(super) struct Listings {
    known: HashMap<u64, Rc<Listing>>,
    /// How many texts were read.
    pub(super) read: u64,
}

impl Listings {
    /// The listing of a text that came with this head.
    pub(super) fn get(
        &mut self,
        target: &str,
        head: &Head,
        text: &[u8],
    ) -> Result<Rc<Listing>, Fault> {
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        // A tag says it in 40 bytes; else all of it must be looked at.
        match &head.etag {
            Some(etag) => (etag, text.len()).hash(&mut hasher),
            None => text.hash(&mut hasher),
        }
        let key = hasher.finish();
        if let Some(listing) = self.known.get(&key) {
            return Ok(listing.clone());
        }
        if self.known.len() >= TEXTS_MAX {
            self.known.clear();
        }
        self.read += 1;
        let unpacked = head.gzip.then(|| gunzip(text)).transpose();
        let unpacked = unpacked.map_err(|error| Fault { line: 0, rule: error.to_string() })?;
        let listing = Rc::new(Listing::new(unpacked.as_deref().unwrap_or(text), target)?);
        self.known.insert(key, listing.clone());
        Ok(listing)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A playlist of parts of 200 ms, two in each segment, up to this part.
    pub(in super::super) fn text(msn: u64, parts: u64) -> String {
        let first = msn.saturating_sub(3);
        let mut lines = vec![
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:1".to_owned(),
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6".to_owned(),
            "#EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MAP:URI=\"i.mp4\"".to_owned(),
            format!("#EXT-X-MEDIA-SEQUENCE:{first}"),
        ];
        for segment in first..=msn {
            let (seconds, rest) = (segment * 400 / 1_000, segment * 400 % 1_000);
            let date = format!("1970-01-01T00:{:02}:{:02}.{rest:03}Z", seconds / 60, seconds % 60);
            lines.push(format!("#EXT-X-PROGRAM-DATE-TIME:{date}"));
            for part in 0..if segment == msn { parts } else { 2 } {
                let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
                let uri = format!("URI=\"{segment}.{part}\"");
                lines.push(format!("#EXT-X-PART:DURATION=0.2,{uri}{independent}"));
            }
            if segment < msn || parts == 2 {
                lines.push(format!("#EXTINF:0.4,\n{segment}"));
            }
        }
        let (next, part) = if parts == 2 { (msn + 1, 0) } else { (msn, parts) };
        lines.push(format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{next}.{part}\"\n"));
        lines.join("\n")
    }

    #[test]
    fn a_listing_has_times_and_targets_of_all_parts() -> Result<(), Fault> {
        let listing = Listing::new(text(9, 1).as_bytes(), "/hls/a/video.m3u8?x=1")?;
        let last = listing.parts.last().expect("parts");
        assert_eq!((last.msn, last.part, &*last.target), (9, 0, "/hls/a/9.0"));
        assert_eq!((last.begins, last.lasts_us), (3_600_000, 200_000));
        assert_eq!((&*last.map, listing.next), ("/hls/a/i.mp4", (9, 1)));
        assert_eq!(listing.hint.as_deref(), Some("/hls/a/9.1"));
        assert_eq!(Listing::new(text(9, 2).as_bytes(), "/")?.next, (10, 0));
        Ok(())
    }

    #[test]
    fn the_same_text_is_read_once() -> Result<(), Fault> {
        let mut listings = Listings::default();
        let text = text(9, 1);
        let tagged = Head { etag: Some("x".into()), ..Head::default() };
        let first = listings.get("/a", &tagged, text.as_bytes())?;
        let again = listings.get("/a", &tagged, text.as_bytes())?;
        assert!(Rc::ptr_eq(&first, &again));
        listings.get("/b", &tagged, text.as_bytes())?;
        listings.get("/a", &Head::default(), text.as_bytes())?;
        assert_eq!(listings.read, 3);
        Ok(())
    }

    #[test]
    fn addresses_are_resolved_against_the_playlist() {
        assert_eq!(resolve("/hls/a/v.m3u8?t=/x", "b.m4s?t=1"), "/hls/a/b.m4s?t=1");
        assert_eq!(resolve("/hls/a/v.m3u8", "/c"), "/c");
        assert_eq!(resolve("/hls/a/v.m3u8", "http://h/d?e"), "/d?e");
    }
}
