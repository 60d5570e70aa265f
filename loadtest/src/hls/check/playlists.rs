//! Rules that each playlist keeps or breaks by itself.

use super::evidence::{Evidence, Rendition};
use super::{Check, Findings};
use crate::hls::playlist::MediaPlaylist;

/// What rounding to five decimals may add up to, in seconds.
pub(super) const ROUNDING: f64 = 0.001;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "multivariant-syntax",
        rule: "the multivariant playlist can be read without tolerance",
        section: "§4.4.6",
        run: multivariant_syntax,
    },
    Check {
        id: "media-syntax",
        rule: "each media playlist can be read without tolerance",
        section: "§4.4.3 to §4.4.5",
        run: media_syntax,
    },
    Check {
        id: "version",
        rule: "EXT-X-VERSION is 6 with EXT-X-MAP and 9 with EXT-X-SKIP, at least",
        section: "§8",
        run: version,
    },
    Check {
        id: "target-duration",
        rule: "EXTINF, rounded, is at most the target duration",
        section: "§4.4.3.1",
        run: target_duration,
    },
    Check {
        id: "block-reload",
        rule: "a low-latency playlist says CAN-BLOCK-RELOAD=YES",
        section: "Appendix B.1, §4.4.3.8",
        run: block_reload,
    },
    Check {
        id: "part-hold-back",
        rule: "PART-HOLD-BACK is at least three part targets (twice is a MUST)",
        section: "§4.4.3.8",
        run: part_hold_back,
    },
    Check {
        id: "hold-back",
        rule: "HOLD-BACK is at least three target durations",
        section: "§4.4.3.8",
        run: hold_back,
    },
    Check {
        id: "can-skip-until",
        rule: "CAN-SKIP-UNTIL is at least six target durations",
        section: "§4.4.3.8",
        run: can_skip_until,
    },
    Check {
        id: "has-parts",
        rule: "a live playlist has parts at its end, and EXT-X-PART-INF",
        section: "§4.4.3.7, Appendix B.1",
        run: has_parts,
    },
    Check {
        id: "part-longest",
        rule: "no part is longer than the part target",
        section: "§4.4.4.9",
        run: part_longest,
    },
    Check {
        id: "part-shortest",
        rule: "a part is at least 85 % of the part target, unless it is INDEPENDENT, a GAP or \
               before one, or the last of its segment",
        section: "§4.4.4.9",
        run: part_shortest,
    },
    Check {
        id: "parts-sum",
        rule: "the parts of a segment are as long as EXTINF says",
        section: "§4.4.4.9, §4.4.4.1",
        run: parts_sum,
    },
    Check {
        id: "parts-recent",
        rule: "parts are listed of the last three target durations",
        section: "§6.2.2",
        run: parts_recent,
    },
    Check {
        id: "map",
        rule: "each segment has an EXT-X-MAP",
        section: "§3.1.2, §4.4.4.5",
        run: map,
    },
    Check {
        id: "hint",
        rule: "a live playlist hints at the part that comes next, and not at one that is listed",
        section: "§4.4.5.3, Appendix B.1",
        run: hint,
    },
    Check {
        id: "reports",
        rule: "each other rendition has one report, with LAST-MSN and LAST-PART",
        section: "§4.4.5.4, Appendix B.1",
        run: reports,
    },
    Check {
        id: "date-time",
        rule: "segments have EXT-X-PROGRAM-DATE-TIME",
        section: "§4.4.4.6, Appendix B.1",
        run: date_time,
    },
    Check {
        id: "date-time-steady",
        rule: "EXT-X-PROGRAM-DATE-TIME goes on as the durations say, within 50 ms",
        section: "§6.2.1",
        run: date_time_steady,
    },
];

/// Every playlist that could be read, with the rendition it is of.
fn all(evidence: &Evidence) -> impl Iterator<Item = (&Rendition, &MediaPlaylist)> {
    let of = |rendition| Rendition::playlists(rendition).map(move |playlist| (rendition, playlist));
    evidence.renditions.iter().flat_map(of)
}

fn multivariant_syntax(evidence: &Evidence, findings: &mut Findings) {
    let fault = &evidence.master_fault;
    findings.hold(fault.is_none(), || {
        let status = evidence.multivariant.status;
        fault.as_ref().map_or(String::new(), |fault| format!("status {status}: {fault}"))
    });
}

fn media_syntax(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        for snapshot in &rendition.snapshots {
            let fault = snapshot.playlist.as_ref().err();
            findings.hold(fault.is_none(), || {
                let fault = fault.map(ToString::to_string).unwrap_or_default();
                format!("{}: {fault}", snapshot.fetched.url)
            });
        }
        for playlist in rendition.playlists() {
            for tag in &playlist.unknown {
                findings.note(format!("tags that are not known here: {tag}"));
            }
        }
    }
}

fn version(evidence: &Evidence, findings: &mut Findings) {
    let deltas = evidence.renditions.iter().flat_map(|it| &it.probes.deltas);
    let deltas = deltas.filter_map(|(_, delta)| delta.playlist.as_ref().ok());
    for playlist in all(evidence).map(|(_, playlist)| playlist).chain(deltas) {
        let has_map = playlist.segments.iter().any(|segment| segment.map.is_some());
        let wanted = match playlist.skipped {
            Some(_) => 9,
            None if has_map => 6,
            None => 1,
        };
        let version = playlist.version;
        findings.hold(version >= wanted, || format!("{version}, {wanted} is needed"));
    }
}

fn target_duration(evidence: &Evidence, findings: &mut Findings) {
    for (_, playlist) in all(evidence) {
        for segment in playlist.complete() {
            let duration = segment.duration.unwrap_or(0.0);
            let target = playlist.target_duration;
            findings.hold(duration.round() <= target as f64, || {
                format!("segment {}: {duration} s, target {target}", segment.msn)
            });
        }
    }
}

fn block_reload(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence).filter(|(_, playlist)| !playlist.ended) {
        let says = playlist.control.is_some_and(|control| control.can_block_reload);
        findings.hold(says, || rendition.uri.clone());
    }
}

fn part_hold_back(evidence: &Evidence, findings: &mut Findings) {
    // With different part targets, three times the longest (a SHOULD).
    let targets = all(evidence).filter_map(|(_, playlist)| playlist.part_target);
    let longest = targets.fold(0.0, f64::max);
    for (rendition, playlist) in all(evidence).filter(|(_, it)| it.part_target.is_some()) {
        let back = playlist.control.and_then(|control| control.part_hold_back);
        findings.hold(back.is_some_and(|back| back + 1e-9 >= 3.0 * longest), || {
            format!("{}: {back:?} with a part target of {longest}", rendition.uri)
        });
    }
}

fn hold_back(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence) {
        if let Some(back) = playlist.control.and_then(|control| control.hold_back) {
            let target = playlist.target_duration;
            findings.hold(back >= 3.0 * target as f64, || {
                format!("{}: {back} with a target duration of {target}", rendition.uri)
            });
        }
    }
}

fn can_skip_until(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence) {
        if let Some(boundary) = playlist.control.and_then(|control| control.can_skip_until) {
            let target = playlist.target_duration;
            findings.hold(boundary >= 6.0 * target as f64, || {
                format!("{}: {boundary} with a target duration of {target}", rendition.uri)
            });
        }
    }
}

fn has_parts(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence).filter(|(_, playlist)| !playlist.ended) {
        let has = playlist.segments.last().is_some_and(|segment| !segment.parts.is_empty());
        findings.hold(has && playlist.part_target.is_some(), || rendition.uri.clone());
    }
}

fn part_longest(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let Some(target) = rendition.last().and_then(|it| it.part_target) else { continue };
        let mut longest: f64 = 0.0;
        for (msn, number, part, _) in rendition.parts() {
            longest = longest.max(part.duration);
            findings.hold(part.duration <= target + 1e-9, || {
                format!("{} {msn}.{number}: {} s of {target}", rendition.uri, part.duration)
            });
        }
        findings.note(format!("{}: {longest} s of {target}", rendition.uri));
    }
}

fn part_shortest(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        let Some(target) = rendition.last().and_then(|it| it.part_target) else { continue };
        let parts = rendition.parts();
        let newest = parts.last().map(|(msn, number, ..)| (*msn, *number));
        for (at, (msn, number, part, is_last)) in parts.iter().enumerate() {
            let before_gap = parts.get(at + 1).is_some_and(|(_, _, next, _)| next.gap);
            // Whether the newest is the last of its segment nobody knows yet.
            let is_excepted = part.independent || part.gap || before_gap || *is_last;
            if is_excepted || newest == Some((*msn, *number)) {
                continue;
            }
            findings.hold(part.duration >= 0.85 * target - 1e-9, || {
                format!("{} {msn}.{number}: {} s of {target}", rendition.uri, part.duration)
            });
        }
    }
}

fn parts_sum(evidence: &Evidence, findings: &mut Findings) {
    for rendition in &evidence.renditions {
        // Of segments that were whole before we came, early parts may have left.
        let seen_from = rendition.playlists().next().and_then(MediaPlaylist::edge);
        let Some((seen_from, _)) = seen_from else { continue };
        for segment in rendition.segments().values().filter(|segment| segment.msn >= seen_from) {
            let Some(duration) = segment.duration else { continue };
            let sum = segment.parts_duration();
            findings.hold((sum - duration).abs() <= ROUNDING, || {
                format!("{} {}: {sum} s, EXTINF {duration}", rendition.uri, segment.msn)
            });
        }
    }
}

fn parts_recent(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence) {
        let mut behind = 0.0;
        for segment in playlist.segments.iter().rev() {
            // All but its last part may be older: segments are listed with all parts or with none.
            let limit = 3.0 * playlist.target_duration as f64;
            findings.hold(segment.parts.is_empty() || behind <= limit + ROUNDING, || {
                format!("{} {}: parts {behind} s behind the end", rendition.uri, segment.msn)
            });
            behind += segment.duration.unwrap_or_else(|| segment.parts_duration());
        }
    }
}

fn map(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence) {
        for segment in &playlist.segments {
            let has = segment.map.is_some() || playlist.skipped.is_some();
            findings.hold(has, || format!("{} {}", rendition.uri, segment.msn));
        }
    }
}

fn hint(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence).filter(|(_, playlist)| !playlist.ended) {
        let mut parts = playlist.segments.iter().flat_map(|segment| &segment.parts);
        let hint = playlist.part_hint();
        let is_new = hint.is_some_and(|hint| !parts.any(|part| part.uri == hint));
        findings.hold(is_new, || format!("{}: {hint:?}", rendition.uri));
    }
}

fn reports(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence) {
        for other in evidence.renditions.iter().filter(|other| other.uri != rendition.uri) {
            let of = |uri: &str| uri.split('?').next() == other.uri.split('?').next();
            let ours: Vec<_> = playlist.reports.iter().filter(|it| of(&it.uri)).collect();
            let says = ours.len() == 1 && ours.iter().all(|it| it.last_msn.is_some());
            let says = says && ours.iter().all(|it| it.last_part.is_some());
            findings.hold(says, || format!("{} of {}: {ours:?}", rendition.uri, other.uri));
        }
    }
}

fn date_time(evidence: &Evidence, findings: &mut Findings) {
    for (rendition, playlist) in all(evidence) {
        let missing = playlist.segments.iter().find(|it| it.program_date_time.is_none());
        findings.hold(missing.is_none(), || {
            format!("{} {}", rendition.uri, missing.map_or(0, |segment| segment.msn))
        });
    }
}

fn date_time_steady(evidence: &Evidence, findings: &mut Findings) {
    let mut worst: f64 = 0.0;
    for rendition in &evidence.renditions {
        let segments: Vec<_> = rendition.segments().into_values().collect();
        for pair in segments.windows(2) {
            let [one, next] = pair else { continue };
            let times = one.program_date_time.zip(next.program_date_time).zip(one.duration);
            let Some(((then, now), duration)) = times else { continue };
            if next.discontinuity || next.msn != one.msn + 1 {
                continue;
            }
            let off = (now - then) as f64 / 1e6 - duration;
            worst = worst.max(off.abs());
            findings.hold(off.abs() <= 0.05, || {
                format!("{} {}: {off:.3} s off", rendition.uri, next.msn)
            });
        }
    }
    findings.note(format!("{:.0} ms off at most", worst * 1_000.0));
}
