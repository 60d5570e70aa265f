//! How files look: their lengths, openings, contents pages, fuzz targets, leftovers.

use super::assert_none;
use super::source::{Source, is_word, tree};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// A longer file is two ideas.
const LINES_MAX: usize = 500;
/// The longest line.
const COLUMNS_MAX: usize = 100;
/// Where bytes of strangers are read. Left out below: single names (`media`), whose tests try every
/// kind, and what the operator writes (`config`).
const HOSTILE: [&str; 2] = ["src/", "signaling/src/"];
/// How bytes and texts come in.
const BYTES: [&str; 3] = [": &[u8]", ": &mut [u8]", ": &str"];
/// What a function is called that makes sense of bytes.
const READS: [&str; 7] = ["parse", "read", "decode", "depacketize", "unpack", "peek", "scan"];

#[test]
fn files_and_lines_are_short() {
    let faults: Vec<String> = written().iter().flat_map(too_long).collect();
    assert_none(&faults);
}

#[test]
fn every_file_says_first_what_it_is() {
    let faults: Vec<String> = rust().iter().filter_map(no_opening).collect();
    assert_none(&faults);
}

#[test]
fn every_folder_lists_its_files() {
    let sources = rust();
    let faults: Vec<String> = sources.iter().flat_map(|it| unlisted(it, &sources)).collect();
    assert_none(&faults);
}

#[test]
fn every_parser_names_its_fuzz_target() {
    let faults: Vec<String> = rust().iter().filter_map(unnamed_fuzz_target).collect();
    assert_none(&faults);
}

#[test]
fn every_named_fuzz_target_is_there() {
    let sources = rust();
    let faults: Vec<String> =
        sources.iter().filter_map(|source| missing_fuzz_target(source, &sources)).collect();
    assert_none(&faults);
}

#[test]
fn nothing_is_left_to_do_without_an_issue() {
    let faults: Vec<String> = everything().iter().flat_map(leftovers).collect();
    assert_none(&faults);
}

#[test]
fn default_toml_is_the_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/default.toml");
    let arguments = ["millrace", "--config", path].map(OsString::from);
    let loaded = millrace::config::load(arguments, []).expect("the file has no fault");
    assert_eq!(loaded, millrace::config::Action::Run(Box::default()));
}

#[test]
fn every_option_has_an_effect() {
    let sources = rust();
    let server = sources.iter().filter(|source| source.path.starts_with("src/"));
    let code: String = server.clone().map(|source| source.code(false)).collect();
    let options = server.filter(|source| source.path.starts_with("src/config/"));
    let faults: Vec<String> = options.flat_map(|source| unread(source, &code)).collect();
    assert_none(&faults);
}

/// The words that mark what is left to do; spelled so that this file is not full of them.
fn marks() -> [String; 3] {
    [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat())
}

fn rust() -> Vec<Source> {
    tree(&["rs"])
}

fn written() -> Vec<Source> {
    tree(&["rs", "ts", "mjs"])
}

fn everything() -> Vec<Source> {
    tree(&["rs", "ts", "mjs", "css", "html", "toml", "md", "yml"])
}

/// Public fields that nobody reads: as options they would be promises that nobody keeps.
fn unread(config: &Source, server: &str) -> Vec<String> {
    let is_read = |field: &str| {
        let access = format!(".{field}");
        let mut found = server.match_indices(&access);
        found.any(|(at, _)| !server[at + access.len()..].starts_with(is_word))
    };
    config
        .code(false)
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("pub ")?.split_once(": "))
        .map(|(field, _)| field)
        .filter(|field| field.chars().all(is_word) && !is_read(field))
        .map(|field| format!("{}: nobody reads {field}", config.path))
        .collect()
}

/// Too many lines before the tests, or too many characters on one.
fn too_long(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let count = source.before_tests().lines().count();
    if count > LINES_MAX {
        faults.push(format!("{}: {count} lines before its tests", source.path));
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            faults.push(format!("{}:{number}: {columns} characters", source.path));
        }
    }
    faults
}

/// A file that does not open with `//!`.
fn no_opening(source: &Source) -> Option<String> {
    let opens = source.text.starts_with("//! ");
    (!opens).then(|| format!("{}: opens without //!", source.path))
}

/// Files beside a contents page (`mod.rs`) that it does not list as `name`.
fn unlisted(page: &Source, all: &[Source]) -> Vec<String> {
    let Some(folder) = page.path.strip_suffix("mod.rs") else { return Vec::new() };
    let opening: Vec<&str> = page.text.lines().take_while(|line| line.starts_with("//!")).collect();
    let opening = opening.join("\n");
    all.iter()
        .filter_map(|source| source.path.strip_prefix(folder))
        .map(|inside| inside.split('/').next().unwrap_or(inside))
        .map(|first| first.strip_suffix(".rs").unwrap_or(first))
        .filter(|name| !matches!(*name, "mod" | "tests"))
        .collect::<BTreeSet<&str>>()
        .into_iter()
        .filter(|name| !opening.contains(&format!("`{name}`")))
        .map(|name| format!("{}: does not list `{name}`", page.path))
        .collect()
}

/// The name after `Fuzz target:` in a file's opening.
fn fuzz_target(source: &Source) -> Option<&str> {
    let opening_end = source.text.find("\n\n").unwrap_or(source.text.len());
    let (_, after) = source.text[..opening_end].split_once("Fuzz target: `")?;
    after.split('`').next()
}

/// A file that makes sense of strangers' bytes and names no fuzz target.
fn unnamed_fuzz_target(source: &Source) -> Option<String> {
    let hostile = HOSTILE.iter().any(|place| source.path.starts_with(place));
    let is_name = source.path.starts_with("src/media/");
    let is_operator = source.path.starts_with("src/config/");
    if !hostile || is_name || is_operator || source.is_test() {
        return None;
    }
    let code = source.code(false);
    let parser = parser_of_bytes(&code)?;
    fuzz_target(source)
        .is_none()
        .then(|| format!("{}: fn {parser} reads bytes; name its fuzz target", source.path))
}

/// The first public function named like a parser that takes bytes.
fn parser_of_bytes(code: &str) -> Option<&str> {
    code.match_indices("fn ").find_map(|(at, _)| {
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        let rest = &code[at + 3..];
        let name = rest.split(|c| !is_word(c)).next().unwrap_or_default();
        let signature = rest.split(['{', ';']).next().unwrap_or_default();
        let parses = READS.iter().any(|word| name.starts_with(word));
        (line.trim_start().starts_with("pub")
            && parses
            && BYTES.iter().any(|it| signature.contains(it)))
        .then_some(name)
    })
}

/// A fuzz target that a file names and `tests/fuzz` does not have.
fn missing_fuzz_target(source: &Source, all: &[Source]) -> Option<String> {
    let target = fuzz_target(source)?;
    let exists = all.iter().filter(|it| it.path.starts_with("tests/fuzz/")).any(|it| {
        it.text.match_indices(target).any(|(at, _)| {
            !it.text[..at].ends_with(is_word) && !it.text[at + target.len()..].starts_with(is_word)
        })
    });
    (!exists).then(|| format!("{}: tests/fuzz has no {target}", source.path))
}

/// Marks of unfinished work without the number of an issue: `#12` on the same line.
fn leftovers(source: &Source) -> Vec<String> {
    let marks = marks();
    let has_mark = |line: &str| marks.iter().any(|mark| line.contains(mark.as_str()));
    let has_issue = |line: &str| {
        line.match_indices('#')
            .any(|(at, _)| line[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
    };
    (1..)
        .zip(source.text.lines())
        .filter(|(_, line)| has_mark(line) && !has_issue(line))
        .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
        .collect()
}

#[test]
fn a_long_file_and_a_long_line_are_found() {
    let long = "x\n".repeat(LINES_MAX + 1);
    assert_eq!(too_long(&Source::sample("src/a.rs", &long)).len(), 1);
    let tests = format!("//! a\n\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(too_long(&Source::sample("src/a.rs", &tests)), [""; 0]);
    let wide = "ä".repeat(COLUMNS_MAX + 1);
    assert_eq!(too_long(&Source::sample("src/a.rs", &wide)), ["src/a.rs:1: 101 characters"]);
    assert_eq!(too_long(&Source::sample("src/a.rs", &wide[2..])), [""; 0]);
}

#[test]
fn a_file_without_an_opening_is_found() {
    assert!(no_opening(&Source::sample("src/a.rs", "use std::fmt;")).is_some());
    assert!(no_opening(&Source::sample("src/a.rs", "//! What it is.")).is_none());
}

#[test]
fn a_file_missing_from_the_contents_page_is_found() {
    let page = Source::sample("src/a/mod.rs", "//! A.\n//!\n//! - `b`: one\n\npub mod b; // `c`\n");
    let files = ["src/a/mod.rs", "src/a/b.rs", "src/a/c.rs", "src/a/d/mod.rs", "src/e.rs"];
    let all: Vec<Source> = files.iter().map(|path| Source::sample(path, "")).collect();
    let expected = ["src/a/mod.rs: does not list `c`", "src/a/mod.rs: does not list `d`"];
    assert_eq!(unlisted(&page, &all), expected);
}

#[test]
fn a_parser_without_a_fuzz_target_is_found() {
    let parser = "pub fn parse(bytes: &[u8]) -> Option<u8> { None }";
    let with = |opening: &str| Source::sample("src/codec/a.rs", &format!("{opening}\n\n{parser}"));
    assert!(unnamed_fuzz_target(&with("//! A.")).is_some());
    assert!(unnamed_fuzz_target(&with("//! A. Fuzz target: `a`.")).is_none());
    let method = Source::sample(
        "signaling/src/a.rs",
        "//! A.\n\nimpl A {\n    pub(crate) fn read_all(\n        from: &[u8],\n    ) {}\n}",
    );
    assert!(unnamed_fuzz_target(&method).is_some());
    let private = Source::sample("src/codec/a.rs", "//! A.\n\nfn parse(bytes: &[u8]) {}");
    assert!(unnamed_fuzz_target(&private).is_none(), "its caller is the parser");
}

#[test]
fn a_fuzz_target_that_is_not_there_is_found() {
    let parser = Source::sample("src/codec/a.rs", "//! A. Fuzz target: `codec_a`.\n\nfn x() {}");
    let fuzz = |text: &str| [Source::sample("tests/fuzz/main.rs", text)];
    assert!(missing_fuzz_target(&parser, &fuzz("fn codec_a() {}")).is_none());
    assert!(missing_fuzz_target(&parser, &fuzz("fn codec_av1() {}")).is_some());
    assert!(missing_fuzz_target(&parser, std::slice::from_ref(&parser)).is_some());
}

#[test]
fn an_option_without_effect_is_found() {
    let config = Source::sample("src/config/a.rs", "pub struct A {\n    pub b: u8,\n}");
    assert_eq!(unread(&config, "f(config.a.b)"), [""; 0]);
    assert_eq!(unread(&config, "f(config.a.bc)"), ["src/config/a.rs: nobody reads b"]);
}

#[test]
fn a_leftover_without_an_issue_is_found() {
    for mark in marks() {
        let faults = leftovers(&Source::sample("src/a.rs", &format!("\n// {mark}: later")));
        assert_eq!(faults, [format!("src/a.rs:2: // {mark}: later")]);
        assert_eq!(leftovers(&Source::sample("src/a.rs", &format!("// {mark} #12"))), [""; 0]);
    }
}
