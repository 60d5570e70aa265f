//! Media playlists (draft-pantos-hls-rfc8216bis-16 §4.4.3 to §4.4.5).

use super::Fault;
use super::attributes::{Attributes, date, decimal, integer, lines, tag};
use std::collections::BTreeSet;

/// `EXT-X-SERVER-CONTROL`; times are in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerControl {
    /// `CAN-BLOCK-RELOAD`.
    pub can_block_reload: bool,
    /// `CAN-SKIP-UNTIL`.
    pub can_skip_until: Option<f64>,
    /// `HOLD-BACK`.
    pub hold_back: Option<f64>,
    /// `PART-HOLD-BACK`.
    pub part_hold_back: Option<f64>,
}

/// `EXT-X-PART`.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its address.
    pub uri: String,
    /// `DURATION`, in seconds.
    pub duration: f64,
    /// `INDEPENDENT`.
    pub independent: bool,
    /// `GAP`.
    pub gap: bool,
}

/// A segment, or what there is of the last one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    /// Its media sequence number.
    pub msn: u64,
    /// Its address; none of one that is being made.
    pub uri: Option<String>,
    /// `EXTINF`, in seconds; none of one that is being made.
    pub duration: Option<f64>,
    /// Its parts, as far as they are listed.
    pub parts: Vec<Part>,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// The `EXT-X-MAP` that applies to it.
    pub map: Option<String>,
    /// `EXT-X-PROGRAM-DATE-TIME`, in microseconds since the Unix epoch.
    pub program_date_time: Option<i64>,
    /// `EXT-X-GAP` stands before it.
    pub gap: bool,
}

impl Segment {
    /// How long its parts are together, in seconds.
    pub fn parts_duration(&self) -> f64 {
        self.parts.iter().map(|part| part.duration).sum()
    }
}

/// `EXT-X-PRELOAD-HINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `TYPE`: PART or MAP.
    pub kind: String,
    /// Its address.
    pub uri: String,
    /// Whether it is a range of that.
    pub is_range: bool,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The playlist that it is of.
    pub uri: String,
    /// `LAST-MSN`.
    pub last_msn: Option<u64>,
    /// `LAST-PART`.
    pub last_part: Option<u64>,
}

/// A media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MediaPlaylist {
    /// `EXT-X-VERSION`; 1 without.
    pub version: u64,
    /// `EXT-X-TARGETDURATION`, in seconds.
    pub target_duration: u64,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub media_sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent_segments: bool,
    /// `EXT-X-SERVER-CONTROL`.
    pub control: Option<ServerControl>,
    /// `PART-TARGET` of `EXT-X-PART-INF`, in seconds.
    pub part_target: Option<f64>,
    /// `SKIPPED-SEGMENTS` of `EXT-X-SKIP`.
    pub skipped: Option<u64>,
    /// The segments that are listed; the last may be one that is being made.
    pub segments: Vec<Segment>,
    /// What comes next.
    pub hints: Vec<Hint>,
    /// How far the other renditions are.
    pub reports: Vec<Report>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
    /// Tags that this reader does not know.
    pub unknown: Vec<String>,
}

impl MediaPlaylist {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn read(text: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::default();
        reader.playlist.version = 1;
        for (number, line) in lines(text)? {
            match tag(line) {
                Some((name, value)) => reader.tag(number, name, value)?,
                None => reader.address(number, line)?,
            }
        }
        reader.finish()
    }

    /// The segments that are complete.
    pub fn complete(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.uri.is_some())
    }

    /// The newest part that is listed: its segment's number and its own, none where that segment is
    /// complete.
    pub fn edge(&self) -> Option<(u64, Option<u64>)> {
        let last = self.segments.last()?;
        let part = last.uri.is_none().then(|| (last.parts.len() as u64).saturating_sub(1));
        Some((last.msn, part))
    }

    /// The same as `LAST-MSN` and `LAST-PART` have it, where parts are listed.
    pub fn last_part(&self) -> Option<(u64, u64)> {
        let last = self.segments.iter().rev().find(|segment| !segment.parts.is_empty())?;
        Some((last.msn, last.parts.len() as u64 - 1))
    }

    /// How long all that it lists is, in seconds.
    pub fn duration(&self) -> f64 {
        let of = |segment: &Segment| segment.duration.unwrap_or_else(|| segment.parts_duration());
        self.segments.iter().map(of).sum()
    }

    /// What comes next, as `PART`.
    pub fn part_hint(&self) -> Option<&str> {
        self.hints.iter().find(|hint| hint.kind == "PART").map(|hint| hint.uri.as_str())
    }
}

/// Tags that stand at most once, those of segments and metadata aside (§4.4.2, §4.4.3, §4.4.5).
const SINGLE: [&str; 11] = [
    "#EXT-X-VERSION",
    "#EXT-X-INDEPENDENT-SEGMENTS",
    "#EXT-X-START",
    "#EXT-X-TARGETDURATION",
    "#EXT-X-MEDIA-SEQUENCE",
    "#EXT-X-DISCONTINUITY-SEQUENCE",
    "#EXT-X-ENDLIST",
    "#EXT-X-PLAYLIST-TYPE",
    "#EXT-X-PART-INF",
    "#EXT-X-SERVER-CONTROL",
    "#EXT-X-SKIP",
];

#[derive(Default)]
struct Reader {
    playlist: MediaPlaylist,
    seen: BTreeSet<String>,
    /// The segment whose address has not come yet.
    next: Segment,
    discontinuities: u64,
}

impl Reader {
    fn tag(&mut self, number: usize, name: &str, value: &str) -> Result<(), Fault> {
        if SINGLE.contains(&name) && !self.seen.insert(name.to_owned()) {
            return Err(Fault::new(number, format!("{name} stands once (§4.4.3)")));
        }
        let next = &self.next;
        let has_next = next.duration.is_some() || next.discontinuity || !next.parts.is_empty();
        let begun = has_next || !self.playlist.segments.is_empty();
        let playlist = &mut self.playlist;
        match name {
            "#EXT-X-VERSION" => playlist.version = integer(number, value)?,
            "#EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent_segments = true,
            "#EXT-X-TARGETDURATION" => {
                playlist.target_duration = integer(number, value)?;
                if playlist.target_duration == 0 {
                    return Err(Fault::new(number, "a target duration is at least 1 (§4.4.3.1)"));
                }
            }
            "#EXT-X-MEDIA-SEQUENCE" | "#EXT-X-DISCONTINUITY-SEQUENCE" if begun => {
                let rule = format!("{name} stands before the first segment (§4.4.3.2, §4.4.3.3)");
                return Err(Fault::new(number, rule));
            }
            "#EXT-X-MEDIA-SEQUENCE" => playlist.media_sequence = integer(number, value)?,
            "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                playlist.discontinuity_sequence = integer(number, value)?;
            }
            "#EXT-X-ENDLIST" => playlist.ended = true,
            "#EXT-X-PART-INF" => {
                let list = Attributes::read(number, value)?;
                let target = list.required("PART-TARGET", list.decimal("PART-TARGET")?)?;
                playlist.part_target = Some(target);
            }
            "#EXT-X-SERVER-CONTROL" => {
                let list = Attributes::read(number, value)?;
                playlist.control = Some(ServerControl {
                    can_block_reload: list.yes("CAN-BLOCK-RELOAD", false)?,
                    can_skip_until: list.decimal("CAN-SKIP-UNTIL")?,
                    hold_back: list.decimal("HOLD-BACK")?,
                    part_hold_back: list.decimal("PART-HOLD-BACK")?,
                });
            }
            "#EXT-X-SKIP" if begun => {
                return Err(Fault::new(number, "what is skipped is the oldest (§4.4.5.2)"));
            }
            "#EXT-X-SKIP" => {
                let list = Attributes::read(number, value)?;
                let skipped =
                    list.required("SKIPPED-SEGMENTS", list.integer("SKIPPED-SEGMENTS")?)?;
                playlist.skipped = Some(skipped);
            }
            "#EXT-X-PRELOAD-HINT" => playlist.hints.push(hint(number, value)?),
            "#EXT-X-RENDITION-REPORT" => playlist.reports.push(report(number, value)?),
            _ => return self.segment_tag(number, name, value),
        }
        Ok(())
    }

    /// Tags of segments (§4.4.4).
    fn segment_tag(&mut self, number: usize, name: &str, value: &str) -> Result<(), Fault> {
        let applies_to_all = matches!(
            name,
            "#EXT-X-DISCONTINUITY" | "#EXT-X-MAP" | "#EXT-X-PROGRAM-DATE-TIME" | "#EXT-X-KEY"
        );
        if applies_to_all && !self.next.parts.is_empty() {
            let rule = format!("{name} stands before the parts of its segment (§4.4.4.9)");
            return Err(Fault::new(number, rule));
        }
        let next = &mut self.next;
        match name {
            "#EXTINF" => {
                if next.duration.is_some() {
                    return Err(Fault::new(number, "EXTINF is followed by its URI (§4.4.4.1)"));
                }
                let (duration, _) = value
                    .split_once(',')
                    .ok_or_else(|| Fault::new(number, "EXTINF has a comma (§4.4.4.1)"))?;
                next.duration = Some(decimal(number, duration)?);
            }
            "#EXT-X-DISCONTINUITY" => {
                next.discontinuity = true;
                self.discontinuities += 1;
            }
            "#EXT-X-MAP" => {
                let list = Attributes::read(number, value)?;
                next.map = Some(list.required("URI", list.quoted("URI")?)?);
            }
            "#EXT-X-PROGRAM-DATE-TIME" => next.program_date_time = Some(date(number, value)?),
            "#EXT-X-GAP" => next.gap = true,
            "#EXT-X-PART" => next.parts.push(part(number, value)?),
            "#EXT-X-STREAM-INF" | "#EXT-X-MEDIA" | "#EXT-X-I-FRAME-STREAM-INF" => {
                let rule = format!("{name} is of multivariant playlists (§4.4.6)");
                return Err(Fault::new(number, rule));
            }
            _ => {
                self.playlist.unknown.push(name.to_owned());
                return Ok(());
            }
        }
        Ok(())
    }

    fn address(&mut self, number: usize, line: &str) -> Result<(), Fault> {
        if self.next.duration.is_none() {
            return Err(Fault::new(number, "EXTINF is required for each segment (§4.4.4.1)"));
        }
        self.next.uri = Some(line.to_owned());
        self.close();
        Ok(())
    }

    fn close(&mut self) {
        let mut segment = std::mem::take(&mut self.next);
        let map = segment.map.take();
        segment.map = map.or_else(|| self.playlist.segments.last()?.map.clone());
        segment.discontinuity_sequence = self.discontinuities;
        self.playlist.segments.push(segment);
    }

    fn finish(mut self) -> Result<MediaPlaylist, Fault> {
        if self.next.duration.is_some() {
            return Err(Fault::new(0, "EXTINF is followed by its URI (§4.4.4.1)"));
        }
        if !self.next.parts.is_empty() {
            self.close();
        }
        let mut playlist = self.playlist;
        if playlist.target_duration == 0 {
            return Err(Fault::new(0, "EXT-X-TARGETDURATION is required (§4.4.3.1)"));
        }
        let has_parts = playlist.segments.iter().any(|segment| !segment.parts.is_empty());
        if has_parts && playlist.part_target.is_none() {
            return Err(Fault::new(0, "parts require EXT-X-PART-INF (§4.4.3.7)"));
        }
        if playlist.ended && !playlist.hints.is_empty() {
            return Err(Fault::new(0, "no hint stands beside EXT-X-ENDLIST (§4.4.5.3)"));
        }
        let first = playlist.media_sequence + playlist.skipped.unwrap_or(0);
        for (msn, segment) in (first..).zip(&mut playlist.segments) {
            segment.msn = msn;
            segment.discontinuity_sequence += playlist.discontinuity_sequence;
        }
        Ok(playlist)
    }
}

fn part(number: usize, value: &str) -> Result<Part, Fault> {
    let list = Attributes::read(number, value)?;
    Ok(Part {
        uri: list.required("URI", list.quoted("URI")?)?,
        duration: list.required("DURATION", list.decimal("DURATION")?)?,
        independent: list.yes("INDEPENDENT", false)?,
        gap: list.yes("GAP", false)?,
    })
}

fn hint(number: usize, value: &str) -> Result<Hint, Fault> {
    let list = Attributes::read(number, value)?;
    let kind = list.required("TYPE", list.word("TYPE")?)?;
    let range = [list.integer("BYTERANGE-START")?, list.integer("BYTERANGE-LENGTH")?];
    Ok(Hint {
        kind: kind.to_owned(),
        uri: list.required("URI", list.quoted("URI")?)?,
        is_range: range.iter().any(Option::is_some),
    })
}

fn report(number: usize, value: &str) -> Result<Report, Fault> {
    let list = Attributes::read(number, value)?;
    let uri = list.required("URI", list.quoted("URI")?)?;
    if uri.contains("://") {
        return Err(Fault::new(number, "a report's URI is relative (§4.4.5.4)"));
    }
    Ok(Report { uri, last_msn: list.integer("LAST-MSN")?, last_part: list.integer("LAST-PART")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6,CAN-SKIP-UNTIL=12\n\
        #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:7\n\
        #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-MAP:URI=\"init0.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00.000Z\n\
        #EXT-X-PART:DURATION=0.2,URI=\"7.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.1,URI=\"7.1.m4s\"\n#EXTINF:0.30000,\n7.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init1.mp4\"\n\
        #EXT-X-PART:DURATION=0.2,URI=\"8.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.1.m4s\"\n\
        #EXT-X-RENDITION-REPORT:URI=\"aac.m3u8\",LAST-MSN=8,LAST-PART=1\n";

    #[test]
    fn parts_belong_to_their_segments() -> Result<(), Fault> {
        let read = MediaPlaylist::read(GOOD.as_bytes())?;
        assert_eq!(read.segments.len(), 2);
        let (whole, growing) = (&read.segments[0], &read.segments[1]);
        assert_eq!((whole.msn, whole.parts.len(), whole.duration), (7, 2, Some(0.3)));
        assert_eq!((growing.msn, growing.parts.len(), &growing.uri), (8, 1, &None));
        assert_eq!((whole.discontinuity_sequence, growing.discontinuity_sequence), (3, 4));
        assert_eq!(whole.map.as_deref(), Some("init0.mp4"));
        assert_eq!(growing.map.as_deref(), Some("init1.mp4"));
        assert_eq!(whole.program_date_time, Some(1_704_067_200_000_000));
        assert_eq!(read.edge(), Some((8, Some(0))));
        assert_eq!(read.part_hint(), Some("8.1.m4s"));
        assert_eq!(read.reports[0].last_part, Some(1));
        assert!((read.duration() - 0.5).abs() < 1e-9);
        Ok(())
    }

    #[test]
    fn what_is_skipped_counts() -> Result<(), Fault> {
        let text = GOOD.replace("#EXT-X-MAP:URI=\"init0.mp4\"", "#EXT-X-SKIP:SKIPPED-SEGMENTS=5");
        let read = MediaPlaylist::read(text.as_bytes())?;
        assert_eq!((read.segments[0].msn, read.skipped), (12, Some(5)));
        Ok(())
    }

    #[test]
    fn what_breaks_a_rule_is_found() {
        for (good, bad, line) in [
            ("#EXT-X-TARGETDURATION:2\n", "", 0),
            ("#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:0", 3),
            ("#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:2.0", 3),
            ("#EXT-X-PART-INF:PART-TARGET=0.2\n", "", 0),
            ("#EXT-X-VERSION:6", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6", 3),
            ("#EXTINF:0.30000,\n", "", 12),
            ("#EXTINF:0.30000,", "#EXTINF:0.3", 12),
            ("7.m4s\n#", "#", 13),
            ("DURATION=0.2,URI=\"7.0.m4s\"", "URI=\"7.0.m4s\"", 10),
            ("INDEPENDENT=YES", "INDEPENDENT=NO", 10),
            ("#EXT-X-PART:DURATION=0.1", "#EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=0.1", 11),
            ("7.m4s\n#", "7.m4s\n#EXT-X-MEDIA-SEQUENCE:7\n#", 14),
            ("#EXT-X-RENDITION", "#EXT-X-ENDLIST\n#EXT-X-RENDITION", 0),
            ("TYPE=PART,", "", 17),
            ("#EXT-X-MEDIA-SEQUENCE:7", "#EXT-X-STREAM-INF:BANDWIDTH=1", 6),
            ("URI=\"aac.m3u8\"", "URI=\"http://a/aac.m3u8\"", 18),
            ("00:00:00.000Z", "00:00:00.000", 9),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let fault = MediaPlaylist::read(GOOD.replacen(good, bad, 1).as_bytes());
            assert_eq!(fault.map_err(|it| it.line).err(), Some(line), "{bad}");
        }
    }
}
