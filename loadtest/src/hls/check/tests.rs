//! Each rule is kept by a stream that keeps to all, and found broken where one thing is changed.

use super::evidence::{Evidence, Fetched, Rendition, Snapshot};
use super::sample::{FIRST, evidence, pack};
use super::{CheckReport, Verdict, checks};
use crate::hls::playlist::Multivariant;
use std::collections::BTreeSet;

type Fault = Box<dyn Fn(&mut Evidence)>;

/// The rendition with the picture.
fn video(evidence: &mut Evidence) -> &mut Rendition {
    evidence.renditions.iter_mut().find(|it| it.is_video).expect("a picture")
}

/// Changes the text of a playlist that came.
fn retell(snapshot: &mut Snapshot, mut change: impl FnMut(String) -> String) {
    let text = String::from_utf8(snapshot.fetched.body.to_vec()).expect("text");
    snapshot.fetched.body = change(text).into();
    *snapshot = Snapshot::new(snapshot.fetched.clone(), snapshot.wanted);
}

/// Changes all playlists of the picture.
fn text(from: &'static str, to: &'static str) -> Fault {
    late_text(0, from, to)
}

/// Changes the playlists of the picture from one on.
fn late_text(since: usize, from: &'static str, to: &'static str) -> Fault {
    Box::new(move |evidence| {
        let mut found = false;
        for snapshot in video(evidence).snapshots.iter_mut().skip(since) {
            retell(snapshot, |text| {
                found |= text.contains(from);
                text.replace(from, to)
            });
        }
        assert!(found, "{from} stands somewhere");
    })
}

/// Changes a file of the picture.
fn file(name: &'static str, change: impl Fn(&mut Fetched) + 'static) -> Fault {
    Box::new(move |evidence| change(video(evidence).files.get_mut(name).expect("such a file")))
}

fn bytes(name: &'static str, at: usize, value: u8) -> Fault {
    file(name, move |fetched| {
        let mut body = fetched.body.to_vec();
        body[at] = value;
        fetched.body = body.into();
    })
}

fn on(change: impl Fn(&mut Rendition) + 'static) -> Fault {
    Box::new(move |evidence| change(video(evidence)))
}

fn master(from: &'static str, to: &'static str) -> Fault {
    Box::new(move |evidence| {
        let text = String::from_utf8(evidence.multivariant.body.to_vec()).expect("text");
        let text = text.replace(from, to);
        match Multivariant::read(text.as_bytes()) {
            Ok(read) => evidence.master = Some(read),
            Err(fault) => evidence.master_fault = Some(fault),
        }
    })
}

/// One fault for each rule of playlists.
fn faults_of_playlists() -> Vec<(&'static str, Fault)> {
    let part = "#EXT-X-PART:DURATION=0.2,URI=\"video_13.4.m4s\"";
    let long = "#EXT-X-PART:DURATION=0.21,URI=\"video_13.4.m4s\"";
    let short = "#EXT-X-PART:DURATION=0.16,URI=\"video_13.4.m4s\"";
    let map = "#EXT-X-MAP:URI=\"video_init0.mp4\"\n";
    let report = "#EXT-X-RENDITION-REPORT:URI=\"aac.m3u8\",LAST-MSN=13,LAST-PART=4";
    vec![
        ("multivariant-syntax", master("BANDWIDTH=2700000,", "")),
        ("media-syntax", text("#EXTINF:2.00000,", "#EXTINF:2.00000")),
        ("version", text("#EXT-X-VERSION:6", "#EXT-X-VERSION:5")),
        ("target-duration", text("#EXTINF:2.00000,\nvideo_13.m4s", "#EXTINF:2.6,\nvideo_13.m4s")),
        ("block-reload", text("CAN-BLOCK-RELOAD=YES,", "")),
        ("part-hold-back", text("PART-HOLD-BACK=0.6", "PART-HOLD-BACK=0.5")),
        ("hold-back", text(",HOLD-BACK=6", ",HOLD-BACK=5.9")),
        ("can-skip-until", text("CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=11")),
        (
            "has-parts",
            on(|rendition| {
                retell(&mut rendition.snapshots[5], |text| {
                    let lines = text.lines().filter(|line| !line.starts_with("#EXT-X-PART:"));
                    lines.collect::<Vec<_>>().join("\n")
                });
            }),
        ),
        ("part-longest", text(part, long)),
        ("part-shortest", text(part, short)),
        ("parts-sum", text(part, short)),
        (
            "parts-recent",
            late_text(
                35,
                "#EXTINF:2.00000,\nvideo_11.m4s",
                "#EXT-X-PART:DURATION=2,URI=\"old\"\n#EXTINF:2.00000,\nvideo_11.m4s",
            ),
        ),
        ("map", text(map, "")),
        ("hint", text("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video_13.4.m4s\"\n", "")),
        ("reports", text(report, "")),
        ("date-time", text("#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:20:26.000Z\n", "")),
        ("date-time-steady", text("22:20:26.000Z", "22:20:26.100Z")),
    ]
}

/// One for each rule of playlists over time.
fn faults_over_time() -> Vec<(&'static str, Fault)> {
    let report = "#EXT-X-RENDITION-REPORT:URI=\"aac.m3u8\",LAST-MSN=13,LAST-PART=4";
    vec![
        ("constant-targets", late_text(20, "TARGETDURATION:2", "TARGETDURATION:3")),
        ("media-sequence", late_text(20, "MEDIA-SEQUENCE:6", "MEDIA-SEQUENCE:3")),
        ("segments-constant", late_text(25, "22:20:26.000Z", "22:20:26.001Z")),
        (
            "discontinuity-sequence",
            late_text(
                20,
                "#EXT-X-MEDIA-SEQUENCE",
                "#EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXT-X-MEDIA-SEQUENCE",
            ),
        ),
        (
            "window",
            on(|rendition| {
                let snapshot = &mut rendition.snapshots[15];
                retell(snapshot, |text| {
                    let from = text.find("#EXT-X-PROGRAM").expect("segments");
                    let to =
                        text.find("#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:20:24").expect("one");
                    let text = format!("{}{}", &text[..from], &text[to..]);
                    text.replace("MEDIA-SEQUENCE:5", "MEDIA-SEQUENCE:12")
                });
            }),
        ),
        ("hint-true", text("HINT:TYPE=PART,URI=\"video_13.4.m4s\"", "HINT:TYPE=PART,URI=\"x\"")),
        (
            "reports-true",
            text(report, "#EXT-X-RENDITION-REPORT:URI=\"aac.m3u8\",LAST-MSN=12,LAST-PART=4"),
        ),
        (
            "discontinuity",
            text(
                "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:20:26.000Z",
                "#EXT-X-MAP:URI=\"n\"\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:20:26.000Z",
            ),
        ),
        (
            "end",
            on(|rendition| {
                retell(&mut rendition.snapshots[30], |text| {
                    let text = text.replace("#EXT-X-PRELOAD-HINT", "#EXT-X-WAS-HINT");
                    format!("{text}#EXT-X-ENDLIST\n")
                });
            }),
        ),
    ]
}

/// One for each rule of what is asked and answered.
fn faults_of_delivery() -> Vec<(&'static str, Fault)> {
    fn without(fetched: &mut Fetched, name: &str, value: &str) {
        fetched.headers.insert(name.to_owned(), value.to_owned());
    }
    vec![
        (
            "playlist-type",
            on(|it| without(&mut it.snapshots[3].fetched, "content-type", "text/plain")),
        ),
        ("media-type", file("video_13.4.m4s", |it| without(it, "content-type", "text/plain"))),
        ("reload-waits", on(|it| it.snapshots[9].wanted = Some((FIRST + 1, Some(4))))),
        (
            "reload-prompt",
            on(|it| {
                for snapshot in &mut it.snapshots[5..] {
                    snapshot.wanted = Some((FIRST, Some(1)));
                }
            }),
        ),
        ("reload-segment", on(|it| it.probes.segment[0].0 += 1)),
        ("reload-beyond", on(|it| it.probes.beyond[0].0 += 1)),
        ("reload-too-far", on(|it| it.probes.too_far[0].answered += 3.0)),
        ("reload-part-alone", on(|it| it.probes.part_alone[0].status = 200)),
        ("reload-at-once", on(|it| it.probes.plain[1].answered += 3.0)),
        (
            "delta",
            on(|it| {
                retell(&mut it.probes.deltas[0].1, |text| {
                    text.replace("SKIPPED-SEGMENTS=2", "SKIPPED-SEGMENTS=1")
                });
            }),
        ),
        (
            "delta-boundary",
            on(|it| {
                for (whole, _) in &mut it.probes.deltas {
                    retell(whole, |text| text.replace("CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=16"));
                }
            }),
        ),
        (
            "hint-waits",
            on(|it| {
                it.hints.get_mut("video_13.4.m4s").expect("a hint").body = "else".into();
            }),
        ),
        ("same-rendering", on(|it| it.probes.twins[0].1.body = pack(b"else"))),
        ("gzip", on(|it| drop(it.probes.twins[0].1.headers.remove("vary")))),
        ("etag", on(|it| it.probes.unchanged[0].status = 200)),
        ("cross-origin", file("video_13.4.m4s", |it| it.headers.clear())),
        (
            "cache-playlists",
            on(|it| without(&mut it.probes.plain[0], "cache-control", "max-age=60")),
        ),
        ("cache-media", file("video_13.4.m4s", |it| without(it, "cache-control", "no-store"))),
        ("unknown-file", on(|it| it.probes.unknown[0].status = 200)),
        ("listed-files", file("video_13.4.m4s", |it| it.status = 404)),
        ("removed-segments", on(|it| it.probes.removed[0].status = 404)),
    ]
}

/// One for each rule of what is in the files.
fn faults_of_media() -> Vec<(&'static str, Fault)> {
    vec![
        ("init", file("video_init0.mp4", |it| it.body = it.body.slice(..100))),
        ("codecs", on(|it| it.codecs = vec!["avc1.640028".to_owned()])),
        ("resolution", master("RESOLUTION=640x360", "RESOLUTION=641x360")),
        ("chunks", file("video_13.4.m4s", |it| it.body = it.body.slice(..50))),
        ("concatenation", file("video_13.m4s", |it| it.body = it.body.slice(1..))),
        // The last byte of tfdt, behind moof, traf, tfhd and its own head.
        ("decode-times", bytes("video_13.4.m4s", 8 + 8 + 16 + 8 + 4 + 7, 9)),
        ("durations", bytes("video_13.4.m4s", 8 + 8 + 16 + 20 + 8 + 12 + 3, 1)),
        ("independent", text("URI=\"video_13.0.m4s\",INDEPENDENT=YES", "URI=\"video_13.0.m4s\"")),
        (
            "independent-segments",
            file("video_13.m4s", |it| {
                let first = it.body.len() / 10;
                it.body = it.body.slice(first..);
            }),
        ),
        ("bandwidth", master("BANDWIDTH=2700000", "BANDWIDTH=100")),
        ("in-step", text("2023-11-14T22:20", "2023-11-14T22:21")),
    ]
}

#[test]
fn a_stream_that_keeps_to_all_rules_passes_them() {
    let report = CheckReport::new(&evidence());
    for result in &report.results {
        let seen = matches!(result.verdict, Verdict::Pass(_));
        let may_be_unseen = ["discontinuity", "end"].contains(&result.id);
        assert!(seen || may_be_unseen && result.verdict == Verdict::NotSeen, "{result:?}");
    }
}

#[test]
fn each_rule_is_found_broken() {
    let faults =
        [faults_of_playlists(), faults_over_time(), faults_of_delivery(), faults_of_media()];
    let mut broken = BTreeSet::new();
    let mut unseen = Vec::new();
    let good = evidence();
    for (id, fault) in faults.into_iter().flatten() {
        let mut evidence = good.clone();
        fault(&mut evidence);
        let report = CheckReport::new(&evidence);
        broken.insert(id);
        if !matches!(report.get(id), Some(Verdict::Fail(_))) {
            unseen.push((id, report.get(id).cloned()));
        }
    }
    assert_eq!(unseen, []);
    let all: BTreeSet<&str> = checks().map(|check| check.id).collect();
    assert_eq!(broken, all);
}

#[test]
fn nothing_is_found_where_nothing_was_given() {
    let report = CheckReport::new(&Evidence::default());
    let failed: Vec<&str> = report.failed().map(|result| result.id).collect();
    assert_eq!(failed, ["cross-origin"]);
}
