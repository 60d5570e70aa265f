//! What a server that keeps to all rules would give, made up: some segments are whole when it is
//! first asked, and it is watched for four more. Tests break one rule at a time.

use super::evidence::{Evidence, Fetched, Rendition, Snapshot};
use crate::hls::mp4::tests::{chunk, init};
use crate::hls::playlist::Multivariant;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Parts of 0.2 s: six pictures at 30 a second, or ten packets of sound of 20 ms.
const PARTS: u64 = 10;
/// The segment that is being made when it is first asked, and the first after the last.
pub(super) const FIRST: u64 = 12;
const LAST: u64 = 16;
/// The first that is listed, of all.
const LISTED: u64 = 4;

/// One rendition's names and times.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    is_video: bool,
    timescale: u32,
    samples: u32,
    duration: u32,
}

const VIDEO: Shape =
    Shape { name: "video", is_video: true, timescale: 90_000, samples: 6, duration: 3_000 };
const SOUND: Shape =
    Shape { name: "aac", is_video: false, timescale: 48_000, samples: 10, duration: 960 };

impl Shape {
    fn other(self) -> &'static str {
        if self.is_video { "aac" } else { "video" }
    }

    fn part(self, msn: u64, part: u64) -> Vec<u8> {
        let ticks = u64::from(self.samples * self.duration);
        let at = (msn * PARTS + part) * ticks;
        chunk(at, self.samples, self.duration, part == 0 || !self.is_video)
    }

    /// The playlist when this part is the newest.
    fn text(self, msn: u64, newest: u64, skip: bool) -> String {
        let first = LISTED.max(msn.saturating_sub(8));
        let Self { name, .. } = self;
        let control = "CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12,HOLD-BACK=6,PART-HOLD-BACK=0.6";
        let mut lines = vec![
            "#EXTM3U".to_owned(),
            format!("#EXT-X-VERSION:{}", if skip { 9 } else { 6 }),
            "#EXT-X-TARGETDURATION:2".to_owned(),
            format!("#EXT-X-SERVER-CONTROL:{control}"),
            "#EXT-X-PART-INF:PART-TARGET=0.2".to_owned(),
            format!("#EXT-X-MEDIA-SEQUENCE:{first}"),
        ];
        // Segments are two seconds long: those that begin before the boundary are skipped.
        let skipped = if skip { (msn - first).saturating_sub(6) } else { 0 };
        if skipped > 0 {
            lines.push(format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        } else {
            lines.push(format!("#EXT-X-MAP:URI=\"{name}_init0.mp4\""));
        }
        for segment in first + skipped..=msn {
            let seconds = segment * 2;
            let (minutes, seconds) = (20 + seconds / 60, seconds % 60);
            lines.push(format!(
                "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:{minutes}:{seconds:02}.000Z"
            ));
            let is_whole = segment < msn || newest + 1 == PARTS;
            let parts = if is_whole { PARTS } else { newest + 1 };
            for part in (0..parts).filter(|_| segment + 3 >= msn) {
                let independent = part == 0 || !self.is_video;
                let independent = if independent { ",INDEPENDENT=YES" } else { "" };
                let uri = format!("URI=\"{name}_{segment}.{part}.m4s\"");
                lines.push(format!("#EXT-X-PART:DURATION=0.2,{uri}{independent}"));
            }
            if is_whole {
                lines.push(format!("#EXTINF:2.00000,\n{name}_{segment}.m4s"));
            }
        }
        let (next, part) = if newest + 1 == PARTS { (msn + 1, 0) } else { (msn, newest + 1) };
        lines.push(format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}_{next}.{part}.m4s\""));
        let other = self.other();
        let report = format!("URI=\"{other}.m3u8\",LAST-MSN={msn},LAST-PART={newest}");
        lines.push(format!("#EXT-X-RENDITION-REPORT:{report}\n"));
        lines.join("\n")
    }

    fn playlist(self, at: f64, msn: u64, newest: u64, skip: bool) -> Fetched {
        let mut fetched = fetched(&format!("{}.m3u8", self.name), at, self.text(msn, newest, skip));
        fetched.headers.insert("content-type".into(), "application/vnd.apple.mpegurl".into());
        fetched.headers.insert("cache-control".into(), "public, max-age=1".into());
        fetched.headers.insert("etag".into(), format!("\"{msn}.{newest}\""));
        fetched.headers.insert("vary".into(), "Accept-Encoding".into());
        fetched
    }

    fn file(self, name: &str, body: Vec<u8>) -> Fetched {
        let mut fetched = fetched(name, 0.0, body);
        let kind = if self.is_video { "video/mp4" } else { "audio/mp4" };
        fetched.headers.insert("content-type".into(), kind.into());
        let control = "public, max-age=31536000, immutable";
        fetched.headers.insert("cache-control".into(), control.into());
        fetched
    }

    fn files(self) -> BTreeMap<String, Fetched> {
        let mut files = BTreeMap::new();
        let mut put = |name: String, body| files.insert(name.clone(), self.file(&name, body));
        put(format!("{}_init0.mp4", self.name), init(self.is_video, self.timescale));
        for msn in LISTED..LAST {
            let mut whole = Vec::new();
            for part in 0..PARTS {
                let body = self.part(msn, part);
                whole.extend_from_slice(&body);
                put(format!("{}_{msn}.{part}.m4s", self.name), body);
            }
            put(format!("{}_{msn}.m4s", self.name), whole);
        }
        files
    }

    fn rendition(self) -> Rendition {
        let positions = (FIRST..LAST).flat_map(|msn| (0..PARTS).map(move |part| (msn, part)));
        let time = |msn: u64, part: u64| (msn * PARTS + part) as f64 / 5.0;
        let snapshot = |(msn, part): (u64, u64), skip: bool| {
            let mut fetched = self.playlist(time(msn, part), msn, part, skip);
            fetched.asked = fetched.answered - 0.2;
            Snapshot::new(fetched, Some((msn, Some(part))))
        };
        let files = self.files();
        let hinted = |(msn, part)| format!("{}_{msn}.{part}.m4s", self.name);
        let hints = positions.clone().skip(1).map(hinted);
        let hints = hints.filter_map(|name| Some((name.clone(), files.get(&name)?.clone())));
        let mut rendition = Rendition {
            uri: format!("{}.m3u8", self.name),
            is_video: self.is_video,
            codecs: vec!["avc1.42E01F".to_owned(), "mp4a.40.2".to_owned()],
            snapshots: positions.map(|position| snapshot(position, false)).collect(),
            hints: hints.collect(),
            files,
            ..Rendition::default()
        };
        let probes = &mut rendition.probes;
        let status = |status: u16| Fetched { status, ..fetched("probe", 1.0, "") };
        probes.plain =
            vec![self.playlist(1.0, FIRST, 0, false), self.playlist(1.1, FIRST, 0, false)];
        probes.unchanged = vec![status(304)];
        probes.changed = vec![self.playlist(1.2, FIRST, 0, false)];
        probes.too_far = vec![status(400)];
        probes.part_alone = vec![status(400)];
        probes.unknown = vec![status(404)];
        probes.removed = vec![status(200)];
        probes.segment = vec![(13, snapshot((13, 9), false))];
        probes.beyond = vec![(13, snapshot((14, 0), false))];
        let plain = self.playlist(3.0, 13, 0, false);
        let mut packed = plain.clone();
        packed.headers.insert("content-encoding".into(), "gzip".into());
        packed.body = pack(&plain.body);
        probes.twins = vec![(plain, packed)];
        let last = (LAST - 1, 4);
        probes.deltas = vec![(snapshot(last, false), snapshot(last, true))];
        rendition
    }
}

fn fetched(name: &str, at: f64, body: impl Into<Bytes>) -> Fetched {
    let headers = [("access-control-allow-origin".to_owned(), "*".to_owned())];
    Fetched {
        url: format!("http://sample/{name}"),
        status: 200,
        headers: headers.into_iter().collect(),
        body: body.into(),
        asked: at,
        answered: at,
    }
}

pub(super) fn pack(text: &[u8]) -> Bytes {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = packer.write_all(text).and_then(|()| packer.finish());
    packed.expect("memory takes what is written").into()
}

/// All of it.
pub(super) fn evidence() -> Evidence {
    let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"AAC\",DEFAULT=YES,AUTOSELECT=YES,\
        URI=\"aac.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=2700000,RESOLUTION=640x360,\
        CODECS=\"avc1.42E01F,mp4a.40.2\",AUDIO=\"aac\"\nvideo.m3u8\n";
    let mut multivariant = fetched("index.m3u8", 0.0, text);
    multivariant.headers.insert("content-type".into(), "application/vnd.apple.mpegurl".into());
    Evidence {
        multivariant,
        master: Multivariant::read(text.as_bytes()).ok(),
        master_fault: None,
        renditions: vec![SOUND.rendition(), VIDEO.rendition()],
    }
}
