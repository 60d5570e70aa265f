//! Rules of what is in the files.

use super::evidence::{Evidence, Rendition};
use super::playlists::ROUNDING;
use super::{Check, Findings};
use crate::hls::mp4::{Chunk, Track};
use crate::hls::playlist::{MediaPlaylist, Segment};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "init",
        rule: "a Media Initialization Section has one track, and no media",
        section: "§3.1.2",
        run: init,
    },
    Check {
        id: "codecs",
        rule: "CODECS says what is in the Media Initialization Section",
        section: "§4.4.6.2, RFC 6381",
        run: codecs,
    },
    Check {
        id: "resolution",
        rule: "RESOLUTION is the size of the picture",
        section: "§4.4.6.2",
        run: resolution,
    },
    Check {
        id: "chunks",
        rule: "each part is whole moof and mdat pairs of that track",
        section: "§3.1.2, ISO/IEC 23000-19 §7.3.2.3",
        run: chunks,
    },
    Check {
        id: "concatenation",
        rule: "the parts of a segment are the segment, byte for byte",
        section: "§3.2, §6.2.1",
        run: concatenation,
    },
    Check {
        id: "decode-times",
        rule: "each chunk begins when the one before ends",
        section: "§3.1.2, ISO/IEC 14496-12 §8.8.12",
        run: decode_times,
    },
    Check {
        id: "durations",
        rule: "a part is as long as its samples",
        section: "§4.4.4.9",
        run: durations,
    },
    Check {
        id: "independent",
        rule: "INDEPENDENT=YES is said of the parts that have a keyframe, and of no others",
        section: "§4.4.4.9",
        run: independent,
    },
    Check {
        id: "independent-segments",
        rule: "with EXT-X-INDEPENDENT-SEGMENTS each segment begins with a keyframe",
        section: "§4.4.2.1",
        run: independent_segments,
    },
    Check {
        id: "bandwidth",
        rule: "no segment, with those of its sound, has more bits a second than BANDWIDTH",
        section: "§4.4.6.2",
        run: bandwidth,
    },
    Check {
        id: "in-step",
        rule: "picture and sound of one number begin within 0.5 s, by date and by media time",
        section: "§6.2.4",
        run: in_step,
    },
];

/// The track that a segment is of.
fn track(rendition: &Rendition, segment: &Segment) -> Option<Track> {
    Track::read(&rendition.files.get(segment.map.as_deref()?)?.body).ok()
}

/// The parts of a segment that were loaded, up to the first that was not, with their chunks.
fn loaded(rendition: &Rendition, segment: &Segment) -> Vec<(usize, Option<Vec<Chunk>>)> {
    let Some(track) = track(rendition, segment) else { return Vec::new() };
    let files = segment.parts.iter().map(|part| rendition.files.get(&part.uri));
    let bodies = files.map_while(|file| file.filter(|file| file.status == 200));
    bodies.enumerate().map(|(at, file)| (at, track.chunks(&file.body).ok())).collect()
}

fn init(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let segments = rendition.segments();
        let mut maps: Vec<&str> = segments.values().filter_map(|it| it.map.as_deref()).collect();
        maps.dedup();
        for map in maps {
            let Some(file) = rendition.files.get(map) else { continue };
            let read = Track::read(&file.body);
            findings.hold(read.is_ok(), || format!("{map}: {read:?}"));
            let handler: &[u8; 4] = if rendition.is_video { b"vide" } else { b"soun" };
            if let Ok(track) = read {
                findings.hold(track.handler == *handler, || format!("{map}: {:?}", track.handler));
                findings.note(format!("{} at {}", track.codec, track.timescale));
            }
        }
    }
}

fn codecs(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let Some(playlist) = rendition.last() else { continue };
        let Some(track) = playlist.segments.last().and_then(|it| track(rendition, it)) else {
            continue;
        };
        // What is read of H.265 and AV1 is the beginning.
        let says = rendition.codecs.iter().any(|codec| {
            let (codec, found) = (codec.to_ascii_lowercase(), track.codec.to_ascii_lowercase());
            codec == found || codec.starts_with(&format!("{found}."))
        });
        findings
            .hold(says, || format!("{}: {} in {:?}", rendition.uri, track.codec, rendition.codecs));
    }
}

fn resolution(evidence: &Evidence, findings: &mut Findings) {
    let Some(master) = &evidence.master else { return };
    for variant in &master.variants {
        let of = |rendition: &&Rendition| rendition.uri == variant.uri && rendition.is_video;
        let Some(rendition) = evidence.renditions.iter().find(of) else { continue };
        let segment = rendition.last().and_then(|playlist| playlist.segments.last());
        let size = segment.and_then(|segment| track(rendition, segment)?.size);
        let size = size.map(|(width, height)| (u64::from(width), u64::from(height)));
        findings.hold(variant.resolution.is_some() && variant.resolution == size, || {
            format!("{:?}, it is {size:?}", variant.resolution)
        });
    }
}

fn chunks(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        for segment in rendition.segments().values() {
            for (at, chunks) in loaded(rendition, segment) {
                findings.hold(chunks.is_some(), || {
                    format!("{} {}.{at} cannot be read", rendition.uri, segment.msn)
                });
            }
        }
    }
}

fn concatenation(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let seen_from = rendition.playlists().next().and_then(MediaPlaylist::edge);
        let Some((seen_from, _)) = seen_from else { continue };
        for segment in rendition.segments().values().filter(|segment| segment.msn >= seen_from) {
            let whole = segment.uri.as_ref().and_then(|uri| rendition.files.get(uri));
            let Some(whole) = whole.filter(|_| !segment.parts.is_empty()) else { continue };
            let files = segment.parts.iter().map(|part| rendition.files.get(&part.uri));
            let Some(files) = files.collect::<Option<Vec<_>>>() else { continue };
            let parts: Vec<u8> = files.iter().flat_map(|file| file.body.to_vec()).collect();
            findings.hold(parts == whole.body, || {
                format!("{}: {} bytes of {}", whole.url, parts.len(), whole.body.len())
            });
        }
    }
}

fn decode_times(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let mut ends: Option<(u64, u64)> = None;
        for segment in rendition.segments().values() {
            if segment.discontinuity {
                ends = None;
            }
            let loaded = loaded(rendition, segment);
            let complete = loaded.len() == segment.parts.len() && segment.uri.is_some();
            for (at, chunks) in loaded {
                for chunk in chunks.unwrap_or_default() {
                    // Of an earlier segment that was not loaded, nobody knows.
                    if let Some((msn, end)) = ends.filter(|(msn, _)| msn + 1 >= segment.msn) {
                        let begins = chunk.decode_time;
                        findings.hold(begins == end, || {
                            let of = format!("{} {}.{at}", rendition.uri, segment.msn);
                            format!("{of} begins at {begins}, segment {msn} went to {end}")
                        });
                    }
                    ends = Some((segment.msn, chunk.decode_time + chunk.duration()));
                }
            }
            ends = ends.filter(|_| complete);
        }
    }
}

fn durations(evidence: &Evidence, findings: &mut Findings) {
    let mut worst: f64 = 0.0;
    for rendition in &evidence.renditions {
        for segment in rendition.segments().values() {
            let Some(track) = track(rendition, segment) else { continue };
            for ((at, chunks), part) in loaded(rendition, segment).into_iter().zip(&segment.parts) {
                let ticks: u64 = chunks.unwrap_or_default().iter().map(Chunk::duration).sum();
                let lasts = ticks as f64 / f64::from(track.timescale.max(1));
                let off = (lasts - part.duration).abs();
                worst = worst.max(off);
                findings.hold(off <= ROUNDING, || {
                    let of = format!("{} {}.{at}", rendition.uri, segment.msn);
                    format!("{of}: {lasts:.5} s, DURATION={}", part.duration)
                });
            }
        }
    }
    findings.note(format!("{:.3} ms off at most", worst * 1_000.0));
}

fn independent(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        for segment in rendition.segments().values() {
            for ((at, chunks), part) in loaded(rendition, segment).into_iter().zip(&segment.parts) {
                let Some(chunks) = chunks else { continue };
                let mut samples = chunks.iter().flat_map(|chunk| &chunk.samples);
                let is_sync = samples.any(|sample| sample.is_sync);
                findings.hold(is_sync == part.independent, || {
                    let of = format!("{} {}.{at}", rendition.uri, segment.msn);
                    format!("{of}: keyframe {is_sync}, INDEPENDENT {}", part.independent)
                });
            }
        }
    }
}

fn independent_segments(evidence: &Evidence, findings: &mut Findings) {
    let by_master = evidence.master.as_ref().is_some_and(|master| master.independent_segments);
    for rendition in &evidence.renditions {
        if !by_master && !rendition.last().is_some_and(|playlist| playlist.independent_segments) {
            continue;
        }
        for segment in rendition.segments().values() {
            let file = segment.uri.as_ref().and_then(|uri| rendition.files.get(uri));
            let (Some(file), Some(track)) = (file, track(rendition, segment)) else { continue };
            let chunks = track.chunks(&file.body).unwrap_or_default();
            let first = chunks.first().and_then(|chunk| chunk.samples.first());
            findings.hold(first.is_some_and(|sample| sample.is_sync), || file.url.clone());
        }
    }
}

/// The most bits a second of a segment, and of all together.
fn bit_rates(rendition: &Rendition) -> Option<(f64, f64)> {
    let (mut peak, mut bits, mut seconds): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for segment in rendition.segments().values() {
        let file = segment.uri.as_ref().and_then(|uri| rendition.files.get(uri));
        let Some((file, lasts)) = file.zip(segment.duration) else { continue };
        // The peak counts segments of half the target duration and more only (§4.1).
        let target = rendition.last().map_or(1.0, |playlist| playlist.target_duration as f64);
        let own = file.body.len() as f64 * 8.0;
        if lasts >= target / 2.0 {
            peak = peak.max(own / lasts);
        }
        bits += own;
        seconds += lasts;
    }
    (seconds > 0.0).then(|| (peak, bits / seconds))
}

fn bandwidth(evidence: &Evidence, findings: &mut Findings) {
    let Some(master) = &evidence.master else { return };
    for variant in &master.variants {
        let group = variant.audio.as_ref();
        let sounds = master.media.iter().filter(|media| Some(&media.group) == group);
        let uris = sounds.filter_map(|media| media.uri.as_ref()).chain([&variant.uri]);
        let mut uris: Vec<&String> = uris.collect();
        uris.dedup();
        let rate = |uri: &String| {
            let rendition = evidence.renditions.iter().find(|it| it.uri == *uri)?;
            bit_rates(rendition)
        };
        let rates: Option<Vec<(f64, f64)>> = uris.into_iter().map(rate).collect();
        let Some(rates) = rates else { continue };
        let peak: f64 = rates.iter().map(|(peak, _)| peak).sum();
        let mean: f64 = rates.iter().map(|(_, mean)| mean).sum();
        // Of a stream that goes on it is what was seen so far (a SHOULD).
        findings.hold(variant.bandwidth as f64 * 1.1 >= peak, || {
            format!("{}: {} said, {peak:.0} seen", variant.uri, variant.bandwidth)
        });
        findings.note(format!(
            "{} and {:?} said, {peak:.0} and {mean:.0} seen",
            variant.bandwidth, variant.average_bandwidth
        ));
    }
}

/// When a segment begins: by date, and in the media, in seconds.
fn beginning(rendition: &Rendition, segment: &Segment) -> Option<(f64, f64)> {
    let track = track(rendition, segment)?;
    let file = rendition.files.get(segment.parts.first().map(|it| &it.uri)?)?;
    let ticks = track.chunks(&file.body).ok()?.first()?.decode_time;
    let date = segment.program_date_time? as f64 / 1e6;
    Some((date, ticks as f64 / f64::from(track.timescale.max(1))))
}

fn in_step(evidence: &Evidence, findings: &mut Findings) {
    let Some(video) = evidence.renditions.iter().find(|it| it.is_video) else { return };
    let pictures = video.segments();
    let mut worst: f64 = 0.0;
    for sound in evidence.renditions.iter().filter(|it| !it.is_video) {
        for segment in sound.segments().values() {
            let picture = pictures.get(&segment.msn);
            let Some(seen) = picture.and_then(|it| beginning(video, it)) else { continue };
            let Some(heard) = beginning(sound, segment) else { continue };
            let (date, time) = (seen.0 - heard.0, seen.1 - heard.1);
            worst = worst.max((date - time).abs());
            // The same moment must have the same date in both, or lips and voice are apart.
            let fits = date.abs() <= 0.5 && time.abs() <= 0.5 && (date - time).abs() <= 0.06;
            findings.hold(fits, || {
                format!(
                    "{} {}: {date:.3} s by date, {time:.3} in the media",
                    sound.uri, segment.msn
                )
            });
        }
    }
    findings.note(format!("dates and times differ by {:.0} ms at most", worst * 1_000.0));
}
