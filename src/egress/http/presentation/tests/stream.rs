//! Synthetic streams, and what a presentation makes of them, read back.

use crate::egress::http::presentation::{File, Presentation, Rendition, Settings};
use crate::media::codec::Codec;
use crate::media::frame::{AudioCoding, Coding};
use crate::media::layer::LayerId;
use crate::media::sample::Sample;
use crate::media::time::WallTime;
use bytes::Bytes;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Parameter sets of High at level 3, as x264 writes them.
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa4, 0x2f, 0xe2, 0x24, 0xc0, 0x44, 0x00, 0x00, 0x03,
    0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x58, 0xb6, 0x58,
];
const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

static BEGAN: LazyLock<Instant> = LazyLock::new(|| crate::clock::Clock::system().now());

/// Where the wall clock stands at tick 0.
pub(super) const EPOCH: Duration = Duration::from_secs(1_764_148_000);

pub(super) fn settings() -> Settings {
    Settings {
        part: Duration::from_millis(200),
        segment: Duration::from_secs(2),
        window: Duration::from_secs(20),
        bytes_max: 16 << 20,
        first_msn: 0,
    }
}

/// A moment of the line, in ticks, on the wall clock.
pub(super) fn wall(ticks: i64) -> WallTime {
    let nanos = ticks as u64 * 100_000 / 9;
    WallTime::since_unix_epoch(EPOCH + Duration::from_nanos(nanos))
}

fn sample(coding: Coding, decode: i64, present: i64, starts: bool, data: Vec<u8>) -> Sample {
    Sample {
        coding,
        layer: LayerId::ONLY,
        decode_ticks: decode,
        present_ticks: present,
        wall: wall(present),
        starts,
        arrival: *BEGAN,
        data: data.into(),
    }
}

/// A picture of `bytes`.
pub(super) fn picture(decode: i64, present: i64, starts: bool, bytes: usize) -> Sample {
    let mut data = Vec::new();
    let slice = vec![if starts { 0x65 } else { 0x41 }; bytes.max(1)];
    let sets: &[&[u8]] = if starts { &[SPS, PPS] } else { &[] };
    for nal in sets.iter().copied().chain([slice.as_slice()]) {
        data.extend((nal.len() as u32).to_be_bytes());
        data.extend(nal);
    }
    sample(Coding::Video(Codec::H264), decode, present, starts, data)
}

/// A picture whose size is another.
pub(super) fn other_picture(decode: i64) -> Sample {
    let mut one = picture(decode, decode, true, 100);
    let mut data = one.data.to_vec();
    // The level, in the parameter set.
    data[4 + 3] = 0x1f;
    one.data = data.into();
    one
}

/// A frame of AAC-LC with two channels; `index` of the table of rates: 3 is 48 kHz, 4 44.1 kHz.
pub(super) fn aac(ticks: i64, index: u8) -> Sample {
    let config: Arc<[u8]> = Arc::from([0x10 | index >> 1, index << 7 | 0x10]);
    sample(Coding::Audio(AudioCoding::Aac(config)), ticks, ticks, true, vec![0x21; 300])
}

/// 20 ms of Opus.
pub(super) fn opus(ticks: i64) -> Sample {
    sample(Coding::Audio(AudioCoding::Opus), ticks, ticks, true, vec![0xfc; 160])
}

/// Ticks of seconds.
pub(super) fn secs(seconds: f64) -> i64 {
    (seconds * 90_000.0).round() as i64
}

/// Pictures at a rate, from `from` to `to` seconds, a keyframe every `keyframes_apart` seconds.
pub(super) fn pictures(rate: (i64, i64), from: f64, to: f64, keyframes_apart: f64) -> Vec<Sample> {
    let (count, scale) = rate;
    let apart = (keyframes_apart * count as f64 / scale as f64).round() as usize;
    times(from, to, |index| index * 90_000 * scale / count)
        .enumerate()
        .map(|(index, ticks)| picture(ticks, ticks, index.is_multiple_of(apart), 1_000))
        .collect()
}

/// AAC at 48 kHz, from `from` to `to` seconds.
pub(super) fn sound(from: f64, to: f64) -> Vec<Sample> {
    times(from, to, |index| index * 1_920).map(|ticks| aac(ticks, 3)).collect()
}

/// Packets of Opus, from `from` to `to` seconds.
pub(super) fn packets(from: f64, to: f64) -> Vec<Sample> {
    times(from, to, |index| index * 1_800).map(opus).collect()
}

/// Ticks from `from` to `to` seconds, so far from the first.
fn times(from: f64, to: f64, since: impl Fn(i64) -> i64) -> impl Iterator<Item = i64> {
    let count = secs(to - from);
    (0..count).map(move |index| secs(from) + since(index)).take_while(move |it| *it < secs(to))
}

/// In the order of their decoding.
pub(super) fn mixed(tracks: impl IntoIterator<Item = Vec<Sample>>) -> Vec<Sample> {
    let mut all: Vec<Sample> = tracks.into_iter().flatten().collect();
    all.sort_by_key(|sample| sample.decode_ticks);
    all
}

/// A presentation that has taken all this.
pub(super) fn presentation(samples: impl IntoIterator<Item = Sample>) -> Presentation {
    let mut presentation = Presentation::new(settings());
    presentation.begin("run", None);
    samples.into_iter().for_each(|sample| presentation.push(sample));
    presentation
}

/// A part as a playlist lists it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListedPart {
    pub(super) name: String,
    pub(super) duration: f64,
    pub(super) is_independent: bool,
}

/// A segment as a playlist lists it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Listed {
    pub(super) msn: u64,
    pub(super) discontinuity: u64,
    pub(super) map: String,
    pub(super) date: String,
    pub(super) parts: Vec<ListedPart>,
    pub(super) is_gap: bool,
    /// With its name, where it is complete.
    pub(super) complete: Option<(f64, String)>,
}

/// A media playlist, read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) part_target: f64,
    pub(super) target_duration: f64,
    pub(super) segments: Vec<Listed>,
    pub(super) skipped: usize,
    pub(super) hint: Option<String>,
    pub(super) reports: Vec<String>,
    pub(super) is_over: bool,
}

/// A value of an attribute list.
pub(super) fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let at = line.find(&format!("{name}="))?;
    let value = &line[at + name.len() + 1..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(',').next(),
    }
}

/// Reads a media playlist as a player does.
pub(super) fn read(text: &str) -> Read {
    let mut read = Read::default();
    let (mut next, mut msn, mut map) = (Listed::default(), 0, String::new());
    let mut discontinuity = 0;
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#EXTM3U"));
    while let Some(line) = lines.next() {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-TARGETDURATION" => read.target_duration = value.parse().expect("a number"),
            "#EXT-X-PART-INF" => {
                let target = attribute(value, "PART-TARGET").expect("it is there");
                read.part_target = target.parse().expect("a number");
            }
            "#EXT-X-MEDIA-SEQUENCE" => msn = value.parse().expect("a number"),
            "#EXT-X-DISCONTINUITY-SEQUENCE" => discontinuity = value.parse().expect("a number"),
            "#EXT-X-DISCONTINUITY" => discontinuity += 1,
            "#EXT-X-SKIP" => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS").expect("it is there");
                read.skipped = skipped.parse().expect("a number");
                msn += read.skipped as u64;
            }
            "#EXT-X-MAP" => map = attribute(value, "URI").expect("it is there").to_owned(),
            "#EXT-X-PROGRAM-DATE-TIME" => value.clone_into(&mut next.date),
            "#EXT-X-GAP" => next.is_gap = true,
            "#EXT-X-PART" => next.parts.push(ListedPart {
                name: attribute(value, "URI").expect("it is there").to_owned(),
                duration: attribute(value, "DURATION").expect("it").parse().expect("a number"),
                is_independent: value.ends_with("INDEPENDENT=YES"),
            }),
            "#EXTINF" => {
                let duration = value.trim_end_matches(',').parse().expect("a number");
                next.complete = Some((duration, lines.next().expect("a name").to_owned()));
                (next.msn, next.discontinuity) = (msn, discontinuity);
                next.map.clone_from(&map);
                read.segments.push(std::mem::take(&mut next));
                msn += 1;
            }
            "#EXT-X-PRELOAD-HINT" => read.hint = attribute(value, "URI").map(str::to_owned),
            "#EXT-X-RENDITION-REPORT" => read.reports.push(value.to_owned()),
            "#EXT-X-ENDLIST" => read.is_over = true,
            _ => {}
        }
    }
    if !next.parts.is_empty() {
        (next.msn, next.discontinuity, next.map) = (msn, discontinuity, map);
        read.segments.push(next);
    }
    read
}

/// A playlist as it is now, read.
pub(super) fn playlist(presentation: &Presentation, rendition: Rendition) -> Read {
    read(&presentation.playlist(rendition, false, "").expect("there is one"))
}

/// The bytes of a file.
pub(super) fn whole(presentation: &Presentation, name: &str) -> Bytes {
    let file = presentation.file(name);
    assert!(matches!(file, File::Whole(_)), "{name} is {file:?}");
    if let File::Whole(bytes) = file { bytes } else { Bytes::new() }
}
