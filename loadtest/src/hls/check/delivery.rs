//! Rules of what is asked and answered: delivery directives, hints, headers.

use super::evidence::{Evidence, Fetched, Rendition, Snapshot};
use super::{Check, Findings};
use crate::hls::playlist::MediaPlaylist;
use std::collections::BTreeSet;

/// The share of blocking reloads that must come when their part does; a player that was held up
/// asks late and gets more.
const PROMPT: f64 = 0.5;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "playlist-type",
        rule: "playlists are application/vnd.apple.mpegurl or audio/mpegurl",
        section: "§4",
        run: playlist_type,
    },
    Check {
        id: "media-type",
        rule: "media are video/mp4, audio/mp4 or their segments",
        section: "§3.1.2, ISO/IEC 23000-19",
        run: media_type,
    },
    Check {
        id: "reload-waits",
        rule: "an answer to _HLS_msn and _HLS_part has that part",
        section: "§6.2.5.2",
        run: reload_waits,
    },
    Check {
        id: "reload-prompt",
        rule: "it comes when the part does, not later",
        section: "§6.2.5.2",
        run: reload_prompt,
    },
    Check {
        id: "reload-segment",
        rule: "an answer to _HLS_msn alone has that segment, complete",
        section: "§6.2.5.2",
        run: reload_segment,
    },
    Check {
        id: "reload-beyond",
        rule: "a part beyond the last of its segment is the first of the next one",
        section: "§6.2.5.2",
        run: reload_beyond,
    },
    Check {
        id: "reload-too-far",
        rule: "more than two segments ahead is 400, at once",
        section: "§6.2.5.2",
        run: reload_too_far,
    },
    Check {
        id: "reload-part-alone",
        rule: "_HLS_part without _HLS_msn is 400",
        section: "§6.2.5.2",
        run: reload_part_alone,
    },
    Check {
        id: "reload-at-once",
        rule: "without directives the answer comes at once",
        section: "§6.2.5",
        run: reload_at_once,
    },
    Check {
        id: "delta",
        rule: "a delta update is the whole playlist without the segments that it skips",
        section: "§6.2.5.1",
        run: delta,
    },
    Check {
        id: "delta-boundary",
        rule: "what is skipped is older than CAN-SKIP-UNTIL, and all that is older is skipped",
        section: "§6.2.5.1, §4.4.3.8",
        run: delta_boundary,
    },
    Check {
        id: "hint-waits",
        rule: "who asks for what is hinted at gets it once it is there: what is then listed",
        section: "§4.4.5.3, Appendix B.1",
        run: hint_waits,
    },
    Check {
        id: "same-rendering",
        rule: "who asks for the same playlist gets the same bytes",
        section: "Appendix B.1",
        run: same_rendering,
    },
    Check {
        id: "gzip",
        rule: "playlists come compressed to who takes that",
        section: "Appendix B.1, RFC 9110 §12.5.3",
        run: gzip,
    },
    Check {
        id: "etag",
        rule: "playlists have an entity tag, and 304 answers who has that one",
        section: "RFC 9110 §8.8.3, §13.1.2",
        run: etag,
    },
    Check {
        id: "cross-origin",
        rule: "any page may read playlists and media",
        section: "Fetch, Access-Control-Allow-Origin",
        run: cross_origin,
    },
    Check {
        id: "cache-playlists",
        rule: "a playlist that was waited for is kept six target durations at most, others half",
        section: "Appendix B.1",
        run: cache_playlists,
    },
    Check {
        id: "cache-media",
        rule: "media may be kept for as long as they are listed",
        section: "§6.2.1, RFC 8246",
        run: cache_media,
    },
    Check {
        id: "unknown-file",
        rule: "a file that there is none of is 404",
        section: "RFC 9110 §15.5.5",
        run: unknown_file,
    },
    Check {
        id: "listed-files",
        rule: "all that is listed can be had",
        section: "§6.2.1",
        run: listed_files,
    },
    Check {
        id: "removed-segments",
        rule: "a segment stays for as long as the playlist was, after it has left it",
        section: "§6.2.2",
        run: removed_segments,
    },
];

fn with<'a>(
    evidence: &'a Evidence,
    findings: &mut Findings,
    mut look: impl FnMut(&'a Rendition, &mut Findings),
) {
    for rendition in &evidence.renditions {
        look(rendition, findings);
    }
}

fn is(fetched: &Fetched, status: u16) -> bool {
    fetched.status == status
}

fn said(fetched: &Fetched) -> String {
    format!("{}: {}", fetched.url, fetched.status)
}

fn playlist_type(evidence: &Evidence, findings: &mut Findings) {
    let all = evidence.renditions.iter().flat_map(Rendition::answers);
    for fetched in all.chain([&evidence.multivariant]).filter(|it| is(it, 200)) {
        let kind = fetched.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let fits = ["application/vnd.apple.mpegurl", "audio/mpegurl"].contains(&kind.as_str());
        findings.hold(fits, || format!("{}: {kind}", fetched.url));
    }
}

fn media_type(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        let media = if rendition.is_video { "video" } else { "audio" };
        for fetched in rendition.files.values().filter(|it| is(it, 200)) {
            let kind = fetched.header("content-type").unwrap_or_default();
            let fits = kind.split_once('/').is_some_and(|(of, form)| {
                (of == media || of == "video") && ["mp4", "iso.segment"].contains(&form)
            });
            findings.hold(fits, || format!("{}: {kind}", fetched.url));
        }
    });
}

/// Whether a playlist has this part or a later one.
fn has(snapshot: &Snapshot, msn: u64, part: u64) -> bool {
    let next = snapshot.next();
    next.is_some_and(|next| next > (msn, part))
}

fn reload_waits(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for snapshot in &rendition.snapshots {
            let (Some((msn, Some(part))), Ok(said)) = (snapshot.wanted, &snapshot.playlist) else {
                continue;
            };
            let has = has(snapshot, msn, part) || said.ended;
            findings.hold(has, || format!("{}: {:?}", snapshot.fetched.url, said.edge()));
        }
    });
}

fn reload_prompt(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        let (mut waited, mut prompt) = (0_u32, 0_u32);
        for snapshot in &rendition.snapshots {
            if let (Some((msn, Some(part))), Some(next)) = (snapshot.wanted, snapshot.next()) {
                waited += 1;
                prompt += u32::from(next <= (msn, part + 1) || next == (msn + 1, 0));
            }
        }
        if waited > 0 {
            findings.hold(f64::from(prompt) >= PROMPT * f64::from(waited), || {
                format!("{}: {prompt} of {waited}", rendition.uri)
            });
            findings.note(format!("{prompt} of {waited} have no later part"));
        }
    });
}

fn reload_segment(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for (msn, snapshot) in &rendition.probes.segment {
            let Ok(playlist) = &snapshot.playlist else {
                findings.hold(false, || said(&snapshot.fetched));
                continue;
            };
            let has = playlist.complete().any(|segment| segment.msn == *msn);
            findings.hold(has || playlist.ended, || {
                format!("{}: {:?}", snapshot.fetched.url, playlist.edge())
            });
        }
    });
}

fn reload_beyond(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for (msn, snapshot) in &rendition.probes.beyond {
            let has = has(snapshot, msn + 1, 0);
            findings.hold(has, || said(&snapshot.fetched));
        }
    });
}

/// Seconds within which what does not wait is answered: less than a segment takes.
fn at_once(rendition: &Rendition) -> f64 {
    rendition.last().map_or(1.0, |playlist| playlist.target_duration as f64)
}

fn reload_too_far(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for fetched in &rendition.probes.too_far {
            let fits = is(fetched, 400) && fetched.took() < at_once(rendition);
            findings.hold(fits, || format!("{} in {:.3} s", said(fetched), fetched.took()));
        }
    });
}

fn reload_part_alone(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for fetched in &rendition.probes.part_alone {
            findings.hold(is(fetched, 400), || said(fetched));
        }
    });
}

fn reload_at_once(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        // The first may have started the packaging of a stream that nobody had asked for.
        for fetched in rendition.probes.plain.iter().skip(1) {
            let fits = is(fetched, 200) && fetched.took() < at_once(rendition);
            findings.hold(fits, || format!("{} in {:.3} s", said(fetched), fetched.took()));
        }
    });
}

fn delta(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for (whole, update) in &rendition.probes.deltas {
            let (Ok(whole), Ok(delta)) = (&whole.playlist, &update.playlist) else {
                findings.hold(false, || said(&update.fetched));
                continue;
            };
            let Some(skipped) = delta.skipped else { continue };
            if whole.edge() != delta.edge() {
                // It came later than the other, if it has what was waited for.
                let (msn, part) = update.wanted.unwrap_or_default();
                findings.hold(has(update, msn, part.unwrap_or(0)), || said(&update.fetched));
                continue;
            }
            let mut kept = whole.segments.get(skipped as usize..).unwrap_or_default().to_vec();
            // The EXT-X-MAP of the first that is kept may be among what is skipped.
            for (kept, delta) in kept.iter_mut().zip(&delta.segments) {
                if delta.map.is_none() {
                    kept.map = None;
                }
            }
            let same = kept.iter().zip(&delta.segments).all(|(one, other)| {
                let (mut one, mut other) = (one.clone(), other.clone());
                // Discontinuities that are skipped cannot be counted.
                (one.discontinuity_sequence, other.discontinuity_sequence) = (0, 0);
                one == other
            });
            let same = same && kept.len() == delta.segments.len();
            let same = same && whole.media_sequence == delta.media_sequence;
            let same = same && whole.hints == delta.hints && whole.part_target == delta.part_target;
            findings.hold(same, || {
                format!("{}: {} kept, {skipped} skipped", rendition.uri, delta.segments.len())
            });
        }
    });
}

fn delta_boundary(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for (whole, delta) in &rendition.probes.deltas {
            let (Ok(whole), Ok(delta)) = (&whole.playlist, &delta.playlist) else { continue };
            let boundary = whole.control.and_then(|control| control.can_skip_until);
            let Some(boundary) = boundary.filter(|_| whole.edge() == delta.edge()) else {
                continue;
            };
            // How far its beginning is from the end.
            let mut from_end = whole.duration();
            let mut older = 0;
            for segment in &whole.segments {
                let lasts = segment.duration.unwrap_or_else(|| segment.parts_duration());
                // What is skipped is older with its whole length.
                older += u64::from(from_end - lasts > boundary);
                from_end -= lasts;
            }
            let skipped = delta.skipped.unwrap_or(0);
            // The one on the boundary may be kept or not.
            let fits = skipped <= older + 1 && skipped + 1 >= older;
            findings.hold(fits, || {
                format!("{}: {skipped} skipped, {older} are older than {boundary}", rendition.uri)
            });
        }
    });
}

fn hint_waits(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        let listed: BTreeSet<&str> = rendition
            .playlists()
            .flat_map(|playlist| &playlist.segments)
            .flat_map(|segment| &segment.parts)
            .map(|part| part.uri.as_str())
            .collect();
        let mut early = 0;
        for (uri, hinted) in &rendition.hints {
            let Some(again) = rendition.files.get(uri) else { continue };
            if !listed.contains(uri.as_str()) {
                continue;
            }
            early += 1;
            let same = is(hinted, 200) && hinted.body == again.body && !hinted.body.is_empty();
            findings.hold(same, || {
                format!("{}, {} and {} bytes", said(hinted), hinted.body.len(), again.body.len())
            });
        }
        findings.note(format!("{early} of {} were listed later", rendition.hints.len()));
    });
}

/// Whether both were answered by the same part: a request that was held up gets a later one.
fn are_twins((one, other): &(Fetched, Fetched)) -> bool {
    let edge = |it: &Fetched| Some(MediaPlaylist::read(&it.text()).ok()?.edge());
    let edges = edge(one).zip(edge(other));
    edges.is_none_or(|(one, other)| one == other)
}

fn same_rendering(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for (one, other) in rendition.probes.twins.iter().filter(|twins| are_twins(twins)) {
            let same = is(one, 200) && is(other, 200) && one.text() == other.text();
            findings.hold(same, || format!("{}: {} bytes differ", one.url, one.body.len()));
        }
    });
}

fn gzip(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for (plain, packed) in rendition.probes.twins.iter().filter(|twins| are_twins(twins)) {
            let says = packed.header("content-encoding") == Some("gzip");
            let untold = plain.header("content-encoding").is_none();
            let varies = packed.header("vary").unwrap_or_default().to_ascii_lowercase();
            let fits = says && untold && varies.contains("accept-encoding");
            findings.hold(fits && packed.text() == plain.body, || {
                format!("{}: {:?}, vary {varies}", packed.url, packed.header("content-encoding"))
            });
            let sizes = (plain.body.len(), packed.body.len());
            findings.note(format!("{} bytes become {}", sizes.0, sizes.1));
        }
    });
}

fn etag(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for fetched in rendition.answers().filter(|it| is(it, 200)) {
            findings.hold(fetched.header("etag").is_some(), || said(fetched));
        }
        for fetched in &rendition.probes.unchanged {
            findings.hold(is(fetched, 304) && fetched.body.is_empty(), || said(fetched));
        }
        for fetched in &rendition.probes.changed {
            findings.hold(is(fetched, 200), || said(fetched));
        }
    });
}

fn cross_origin(evidence: &Evidence, findings: &mut Findings) {
    let mut hold = |fetched: &Fetched| {
        let allowed = fetched.header("access-control-allow-origin");
        findings.hold(allowed.is_some(), || said(fetched));
    };
    hold(&evidence.multivariant);
    for rendition in &evidence.renditions {
        rendition.answers().filter(|it| is(it, 200)).for_each(&mut hold);
        rendition.files.values().filter(|it| is(it, 200)).for_each(&mut hold);
    }
}

fn cache_playlists(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        let Some(target) = rendition.last().map(|playlist| playlist.target_duration) else {
            return;
        };
        for fetched in rendition.probes.plain.iter().filter(|it| is(it, 200)) {
            let age = fetched.max_age();
            findings.hold(age.is_some_and(|age| age * 2 <= target.max(2)), || {
                format!("{}: {age:?} s", fetched.url)
            });
        }
        let waited = rendition.snapshots.iter().filter(|it| it.wanted.is_some());
        for fetched in waited.map(|it| &it.fetched).filter(|it| is(it, 200)) {
            let age = fetched.max_age();
            findings.hold(age.is_some_and(|age| age <= 6 * target), || {
                format!("{}: {age:?} s", fetched.url)
            });
        }
    });
}

fn cache_media(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        let lasts = rendition.last().map_or(0.0, MediaPlaylist::duration);
        for fetched in rendition.files.values().filter(|it| is(it, 200)) {
            let age = fetched.max_age();
            findings.hold(age.is_some_and(|age| age as f64 >= lasts), || {
                format!("{}: {:?}", fetched.url, fetched.header("cache-control"))
            });
        }
    });
}

fn unknown_file(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for fetched in &rendition.probes.unknown {
            findings.hold(is(fetched, 404), || said(fetched));
        }
    });
}

fn listed_files(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for fetched in rendition.files.values() {
            findings.hold(is(fetched, 200) && !fetched.body.is_empty(), || said(fetched));
        }
    });
}

fn removed_segments(evidence: &Evidence, findings: &mut Findings) {
    with(evidence, findings, |rendition, findings| {
        for fetched in &rendition.probes.removed {
            findings.hold(is(fetched, 200), || said(fetched));
        }
    });
}
