//! Who may use whom inside `src`, and where the outside things may be named.

use super::assert_none;
use super::source::{Source, is_word, tree};
use std::collections::BTreeSet;

/// Each part of `src`, and what it may use of the others.
const MAY_USE: [(&str, &[&str]); 20] = [
    ("media", &[]),
    ("clock", &["media"]),
    ("codec", &["media"]),
    ("router", &["media", "codec"]),
    ("peer", &["media", "codec"]),
    ("engine", &["media", "codec", "router", "peer"]),
    ("config", &["media"]),
    ("telemetry", &["media", "config"]),
    ("bus", &["media", "config", "peer", "engine"]),
    ("sessions", &["media", "codec", "config", "clock", "peer", "engine", "bus"]),
    ("ingest", &["bus", "engine", "transcode", "media", "codec", "config", "clock"]),
    ("egress", &["bus", "engine", "transcode", "media", "codec", "config", "clock"]),
    (
        "ladder",
        &["bus", "engine", "transcode", "ingest", "egress", "media", "codec", "config", "clock"],
    ),
    ("transcode", &["media", "config", "clock"]),
    // A package of its own: its compiler sees nothing of the others.
    ("worker", &["*"]),
    ("shard", &["bus", "engine", "media", "config", "clock", "telemetry"]),
    ("server", &["*"]),
    ("main", &["config", "server", "telemetry"]),
    ("lib", &[]),
    ("bin", &["*"]),
];

/// The folder of the second binary.
const WORKER: &str = "src/transcode/worker/";

/// Outside things, and the only places in `src` that may name them. A name ending in `*` stands
/// for all that begin so; an empty list of places means nowhere.
const OUTSIDE: [(&[&str], &[&str]); 22] = [
    (&["rtc_*", "rtp", "interceptor", "ring", "p224"], &["src/peer/"]),
    (&["axum", "hyper", "hyper_util", "tower", "tower_http", "reqwest", "webrtc"], &[]),
    (
        &["gstreamer", "gstreamer_app", "gstreamer_video", "gst", "libsrt"],
        &["src/transcode/worker/", "src/ingest/srt/"],
    ),
    (&["signaling"], &["src/server", "src/main.rs"]),
    (
        &["tokio"],
        &[
            "src/server",
            "src/main.rs",
            "src/bus/",
            "src/ingest/",
            "src/egress/",
            "src/ladder/",
            "src/transcode/",
        ],
    ),
    (&["clap", "toml"], &["src/config/"]),
    (&["libc", "socket2"], &["src/shard/", "src/ingest/srt/"]),
    (&["nix"], &["src/shard/", "src/config/address.rs", "src/server/kernel.rs"]),
    (&["tracing_subscriber"], &["src/telemetry/"]),
    (&["anyhow"], &["src/main.rs", "src/transcode/worker/"]),
    (&["rustix"], &["src/transcode/worker/"]),
    (&["crossbeam_channel", "dashmap"], &["src/bus/", "src/shard/", "src/server"]),
    (
        &["getrandom"],
        &["src/sessions.rs", "src/ingest/", "src/egress/", "src/server", "src/main.rs"],
    ),
    (&["base64"], &["src/egress/source/"]),
    (&["rml_rtmp"], &["src/ingest/rtmp/"]),
    (&["tokio_rustls"], &["src/ingest/rtmp/", "src/server"]),
    (&["slab"], &["src/engine/", "src/shard/"]),
    (&["ipnet"], &["src/config/"]),
    (&["futures_util"], &["src/server", "src/ingest/", "src/egress/", "src/transcode/"]),
    (
        &["bytes"],
        &["src/media/", "src/codec/", "src/peer/", "src/ingest/", "src/egress/", "src/transcode/"],
    ),
    (&["thiserror"], &["src/"]),
    (&["tracing"], &["src/"]),
];

/// Words that may stand in one place only: the clock is read once, `unsafe` is kept in a cage.
const CAGED: [(&str, &[&str]); 3] = [
    ("Instant::now", &["src/clock.rs"]),
    ("SystemTime::now", &["src/clock.rs"]),
    ("unsafe", &["src/shard/socket/", "src/shard/socket.rs", "src/ingest/srt/libsrt/"]),
];

#[test]
fn parts_use_only_what_the_table_allows() {
    let faults: Vec<String> = server_sources().iter().flat_map(wrong_arrows).collect();
    assert_none(&faults);
}

#[test]
fn outside_things_are_named_in_their_places_only() {
    let faults: Vec<String> = server_sources().iter().flat_map(misplaced_outsiders).collect();
    assert_none(&faults);
}

#[test]
fn the_clock_and_unsafe_stay_in_their_places() {
    let faults: Vec<String> = server_sources().iter().flat_map(escaped_words).collect();
    assert_none(&faults);
}

#[test]
fn every_dependency_of_the_server_has_a_row_and_a_use() {
    let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    let code: String = server_sources().iter().map(|source| source.code(true)).collect();
    let faults: Vec<String> =
        dependencies.keys().filter_map(|name| idle_dependency(name, &code)).collect();
    assert_none(&faults);
}

fn server_sources() -> Vec<Source> {
    tree(&["rs"]).into_iter().filter(|source| source.path.starts_with("src/")).collect()
}

/// The part of `src` a file belongs to: its first folder, or its name.
fn part(path: &str) -> &str {
    if path.starts_with(WORKER) {
        return "worker";
    }
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The module a file is, as the folders and names that lead to it.
fn module(path: &str) -> Vec<&str> {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let mut names: Vec<&str> = inside.split('/').collect();
    if matches!(names.last(), Some(&"mod" | &"lib" | &"main")) {
        names.pop();
    }
    names
}

/// The parts that a file uses and may not.
fn wrong_arrows(source: &Source) -> Vec<String> {
    let from = part(&source.path);
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == from) else {
        return vec![format!("{}: {from} has no row in MAY_USE", source.path)];
    };
    used_parts(source)
        .into_iter()
        .filter(|to| to != from && !allowed.contains(&"*") && !allowed.contains(&to.as_str()))
        .map(|to| format!("{}: {from} may not use {to}", source.path))
        .collect()
}

/// The parts of `src` that a file names, however it spells the way there.
fn used_parts(source: &Source) -> BTreeSet<String> {
    let code = source.code(true);
    let mut used = BTreeSet::new();
    let root = if source.path == "src/main.rs" { "millrace::" } else { "crate::" };
    for after in roots(&code, root) {
        used.extend(first_names(after));
    }
    // `super` as often as the module is deep is the crate again.
    let depth = module(&source.path).len();
    if depth > 0 {
        for after in roots(&code, &"super::".repeat(depth)) {
            let names = first_names(after).into_iter();
            used.extend(names.filter(|name| MAY_USE.iter().any(|(part, _)| part == name)));
        }
    }
    used
}

/// What follows each occurrence of a path's beginning.
fn roots<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(root)
        .filter(|(at, _)| !code[..*at].ends_with(|c| is_word(c) || c == ':'))
        .map(|(at, _)| &code[at + root.len()..])
}

/// The name that follows, or all first names of a group in braces.
fn first_names(after: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|&c| is_word(c)).collect::<String>();
    let Some(group) = after.strip_prefix('{') else { return vec![name(after)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut begins = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && is_word(c) => {
                names.push(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

/// The row of an outside thing.
fn row_of(name: &str) -> Option<&'static [&'static str]> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    OUTSIDE.iter().find(|(names, _)| names.iter().any(|it| fits(it))).map(|(_, places)| *places)
}

/// A dependency without a row in the table, or without a use.
fn idle_dependency(name: &str, code: &str) -> Option<String> {
    let name = name.replace('-', "_");
    let root = format!("{name}::");
    if row_of(&name).is_none() {
        return Some(format!("{name} has no row in OUTSIDE: say where it may be named"));
    }
    let is_used = roots(code, &root).next().is_some();
    (!is_used).then(|| format!("{name} is a dependency that nothing uses"))
}

/// Outside things named where they may not be. Unit tests may use what they like.
fn misplaced_outsiders(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let code = source.code(false);
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let start = before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
        let name = &before[start..];
        // Not the beginning of a path, or a module beside it that bears the same name.
        if before[..start].ends_with("::") || code.contains(&format!("mod {name};")) {
            continue;
        }
        if let Some(places) = row_of(name)
            && !places.iter().any(|place| source.path.starts_with(place))
        {
            found.insert(name);
        }
    }
    found.iter().map(|name| format!("{}: {name} may not be named here", source.path)).collect()
}

/// Caged words outside their cage. Unit tests may read the clock.
fn escaped_words(source: &Source) -> Vec<String> {
    let code = source.code(false);
    let is_outside = |places: &[&str]| !places.iter().any(|it| source.path.starts_with(it));
    let named = |word: &str| {
        code.match_indices(word).any(|(at, _)| {
            let before = &code[..at];
            // Tokio's own clock goes with tokio's own timers.
            !before.ends_with(is_word)
                && !before.ends_with("tokio::time::")
                && !code[at + word.len()..].starts_with(is_word)
        })
    };
    CAGED
        .iter()
        .filter(|(word, places)| !source.is_test() && is_outside(places) && named(word))
        .map(|(word, places)| format!("{}: {word} belongs to {}", source.path, places[0]))
        .collect()
}

#[test]
fn a_wrong_arrow_is_found_however_it_is_written() {
    for bad in [
        "use crate::peer::Peer;",
        "use crate::{media::id, peer::{self, Peer}};",
        "fn f() { crate::peer::f(); }",
        "use super::super::peer::Peer;",
        "#[cfg(test)]\nmod tests {\n    use crate::peer::Peer;\n}",
    ] {
        let faults = wrong_arrows(&Source::sample("src/router/batch.rs", bad));
        assert_eq!(faults, ["src/router/batch.rs: router may not use peer"], "{bad}");
    }
    let folder = Source::sample("src/router/mod.rs", "use super::peer::Peer;");
    assert_eq!(wrong_arrows(&folder).len(), 1);
    let unknown = Source::sample("src/misc/mod.rs", "");
    assert_eq!(wrong_arrows(&unknown), ["src/misc/mod.rs: misc has no row in MAY_USE"]);
}

#[test]
fn a_right_arrow_is_no_fault() {
    for good in [
        "use crate::media::id::StreamName;",
        "use super::history::History;",
        "// use crate::peer::Peer;",
        "use crate::{codec::h264, media::{packet, time}};",
        "use crate::router::keyframe;",
    ] {
        let faults = wrong_arrows(&Source::sample("src/router/batch.rs", good));
        assert_eq!(faults, [""; 0], "{good}");
    }
    let main = Source::sample("src/main.rs", "use millrace::peer::Peer;");
    assert_eq!(wrong_arrows(&main), ["src/main.rs: main may not use peer"]);
}

#[test]
fn an_outside_thing_in_the_wrong_place_is_found() {
    for (path, text) in [
        ("src/engine/mod.rs", "use rtc_stun::message::Message;"),
        ("src/engine/mod.rs", "fn f() -> ring::digest::Digest {}"),
        ("src/router/mod.rs", "use tokio::sync::mpsc;"),
        ("src/server.rs", "use axum::Router;"),
        ("src/config/mod.rs", "use nix::ifaddrs;"),
    ] {
        assert_eq!(misplaced_outsiders(&Source::sample(path, text)).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/peer/transport/mod.rs", "use rtc_stun::message::Message;"),
        ("src/router/mod.rs", "mod ring;\nuse ring::Ring;"),
        ("src/router/mod.rs", "use super::ring::Ring;"),
        ("src/media/time.rs", "#[cfg(test)]\nmod tests { use ring::digest; }"),
    ] {
        let sample = Source::sample(path, &format!("\n{text}"));
        assert_eq!(misplaced_outsiders(&sample), [""; 0], "{path}: {text}");
    }
}

#[test]
fn an_idle_dependency_is_found() {
    assert_eq!(idle_dependency("rtc-stun", "use rtc_stun::message;"), None);
    assert!(idle_dependency("rtc-stun", "use my_rtc_stun::message;").is_some());
    assert!(idle_dependency("left-pad", "use left_pad::pad;").is_some());
}

#[test]
fn a_caged_word_outside_is_found() {
    for text in ["let now = Instant::now();", "unsafe { f() }", "std::time::SystemTime::now()"] {
        assert_eq!(escaped_words(&Source::sample("src/engine/mod.rs", text)).len(), 1, "{text}");
    }
    for text in ["#![deny(unsafe_code)]", "// unsafe", "clock.now()", "tokio::time::Instant::now()"]
    {
        assert_eq!(escaped_words(&Source::sample("src/engine/mod.rs", text)), [""; 0], "{text}");
    }
}
