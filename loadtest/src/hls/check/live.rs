//! Rules of playlists over time: what may change, and what may not.

use super::evidence::{Evidence, Rendition};
use super::{Check, Findings};
use crate::hls::playlist::Segment;
use std::collections::BTreeMap;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "constant-targets",
        rule: "target duration and part target never change",
        section: "§6.2.1",
        run: constant_targets,
    },
    Check {
        id: "media-sequence",
        rule: "the media sequence number never falls, and a segment keeps its number",
        section: "§6.2.1, §6.2.2",
        run: media_sequence,
    },
    Check {
        id: "segments-constant",
        rule: "what is said of a segment or part does not change",
        section: "§6.2.1",
        run: segments_constant,
    },
    Check {
        id: "discontinuity-sequence",
        rule: "a segment keeps its discontinuity sequence number",
        section: "§6.2.2",
        run: discontinuity_sequence,
    },
    Check {
        id: "window",
        rule: "segments are removed only while three target durations remain",
        section: "§6.2.2",
        run: window,
    },
    Check {
        id: "hint-true",
        rule: "what is hinted at is what is listed next, under the same URI",
        section: "§4.4.5.3",
        run: hint_true,
    },
    Check {
        id: "reports-true",
        rule: "a report says how far that rendition is",
        section: "§4.4.5.4",
        run: reports_true,
    },
    Check {
        id: "discontinuity",
        rule: "EXT-X-DISCONTINUITY stands where the EXT-X-MAP changes",
        section: "§4.4.4.3",
        run: discontinuity,
    },
    Check {
        id: "end",
        rule: "after EXT-X-ENDLIST nothing changes any more",
        section: "§6.2.1, §4.4.3.4",
        run: end,
    },
];

fn constant_targets(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let Some(first) = rendition.playlists().next() else { continue };
        let said = (first.target_duration, first.part_target);
        for playlist in rendition.playlists() {
            let says = (playlist.target_duration, playlist.part_target);
            findings.hold(says == said, || format!("{}: {said:?}, {says:?}", rendition.uri));
        }
    }
    let targets = evidence.renditions.iter().filter_map(Rendition::last);
    let targets: Vec<u64> = targets.map(|playlist| playlist.target_duration).collect();
    findings.note(format!("target durations {targets:?}"));
}

fn media_sequence(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let mut last = 0;
        let mut uris: BTreeMap<String, u64> = BTreeMap::new();
        for playlist in rendition.playlists() {
            let number = playlist.media_sequence;
            findings.hold(number >= last, || format!("{}: {last}, {number}", rendition.uri));
            last = number;
            for segment in playlist.complete() {
                let Some(uri) = &segment.uri else { continue };
                let known = *uris.entry(uri.clone()).or_insert(segment.msn);
                findings.hold(known == segment.msn, || {
                    format!("{uri} is {known}, then {}", segment.msn)
                });
            }
        }
    }
}

fn segments_constant(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let mut known: BTreeMap<u64, Segment> = BTreeMap::new();
        for segment in rendition.playlists().flat_map(|playlist| &playlist.segments) {
            let Some(before) = known.insert(segment.msn, segment.clone()) else { continue };
            let same = before.uri.is_none() || before.uri == segment.uri;
            let same = same && (before.duration.is_none() || before.duration == segment.duration);
            let same = same && before.program_date_time == segment.program_date_time;
            // Parts are added at the end, and leave at once.
            let mut parts = before.parts.iter().zip(&segment.parts);
            let same = same && parts.all(|(before, now)| before == now);
            findings.hold(same, || format!("{}: {before:?}, then {segment:?}", rendition.uri));
        }
    }
}

fn discontinuity_sequence(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let mut known: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last = 0;
        for playlist in rendition.playlists() {
            let number = playlist.discontinuity_sequence;
            findings.hold(number >= last, || format!("{}: {last}, {number}", rendition.uri));
            last = number;
            for segment in &playlist.segments {
                let number = segment.discontinuity_sequence;
                let before = *known.entry(segment.msn).or_insert(number);
                findings.hold(before == number, || {
                    format!("{} {}: {before}, then {number}", rendition.uri, segment.msn)
                });
            }
        }
    }
    let numbers = evidence.renditions.iter().filter_map(Rendition::last);
    let numbers: Vec<u64> = numbers.map(|it| it.discontinuity_sequence).collect();
    findings.note(format!("they are {numbers:?}"));
}

fn window(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        // It may be short as long as nothing has been removed.
        let mut numbers = rendition.playlists().map(|playlist| playlist.media_sequence);
        let Some(first) = numbers.next() else { continue };
        for playlist in rendition.playlists().filter(|it| it.media_sequence > first) {
            if playlist.skipped.is_some() || playlist.ended {
                continue;
            }
            let (lasts, target) = (playlist.duration(), playlist.target_duration);
            findings.hold(lasts >= 3.0 * target as f64, || {
                format!("{}: {lasts:.3} s with a target of {target}", rendition.uri)
            });
        }
    }
}

fn hint_true(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        for pair in rendition.snapshots.windows(2) {
            let [before, after] = pair else { continue };
            let (Ok(said), Some((msn, part))) = (&before.playlist, before.next()) else { continue };
            let (Some(hint), Ok(after)) = (said.part_hint(), &after.playlist) else { continue };
            let segment = after.segments.iter().find(|segment| segment.msn == msn);
            let listed = segment.and_then(|segment| segment.parts.get(part as usize));
            // A segment may end where a part of it was expected: then it is the first of the next.
            let whole = segment.is_some_and(|segment| segment.uri.is_some());
            let next = after.segments.iter().find(|segment| segment.msn == msn + 1);
            let next = next.and_then(|segment| segment.parts.first()).filter(|_| whole);
            let Some(listed) = listed.or(next) else { continue };
            findings.hold(listed.uri == hint, || format!("{hint} hinted, {} listed", listed.uri));
        }
    }
}

fn reports_true(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        for snapshot in &rendition.snapshots {
            let Ok(playlist) = &snapshot.playlist else { continue };
            for report in &playlist.reports {
                let of = |uri: &str| uri.split('?').next() == report.uri.split('?').next();
                let other = evidence.renditions.iter().find(|other| of(&other.uri));
                let Some(other) = other else { continue };
                let Some(said) = report.last_msn.zip(report.last_part) else { continue };
                let edge = |it: &super::Snapshot| it.playlist.as_ref().ok()?.last_part();
                // What was given before we asked had happened; what is asked for after we were
                // answered includes all that had.
                let (asked, answered) = (snapshot.fetched.asked, snapshot.fetched.answered);
                let mut all = other.snapshots.iter();
                let before = all.clone().rfind(|it| it.fetched.answered <= asked).and_then(edge);
                let after = all.find(|it| it.fetched.asked >= answered).and_then(edge);
                let not_old = before.is_none_or(|before| said >= before);
                let not_new = after.is_none_or(|after| said <= after);
                if before.is_some() || after.is_some() {
                    findings.hold(not_old && not_new, || {
                        format!("{}: {said:?}, not in {before:?} to {after:?}", report.uri)
                    });
                }
            }
        }
    }
}

fn discontinuity(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let segments: Vec<_> = rendition.segments().into_values().collect();
        for pair in segments.windows(2) {
            let [one, next] = pair else { continue };
            if one.map != next.map && next.msn == one.msn + 1 {
                findings.hold(next.discontinuity, || {
                    format!("{} {}: {:?}", rendition.uri, next.msn, next.map)
                });
            }
        }
    }
}

fn end(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let mut ended = rendition.playlists().skip_while(|playlist| !playlist.ended);
        let Some(first) = ended.next() else { continue };
        let whole = first.segments.iter().all(|segment| segment.uri.is_some());
        findings.hold(whole, || format!("{}: its last segment is not whole", rendition.uri));
        for later in ended {
            findings.hold(later.edge() == first.edge(), || format!("{} goes on", rendition.uri));
        }
    }
}
