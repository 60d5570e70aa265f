//! What README and `docs/` name is there: links, files, options, metrics, commands, HTTP paths, and
//! the words of the server that somebody looks for who has them on the screen.

use super::assert_none;
use super::source::{Source, is_word, tree};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The folders whose files documents name.
const FOLDERS: [&str; 6] = ["configs/", "docs/", "scripts/", "src/", "tests/", "web/"];
/// Of the system's paths, which are no HTTP paths, the first parts.
const SYSTEM: [&str; 2] = ["etc", "var"];
/// What is called like an option and is a program.
const PROGRAMS: [&str; 1] = ["hls.js"];
/// Where the server's words are quoted.
const QUOTING: &str = "docs/troubleshooting.md";

#[test]
fn links_lead_somewhere() {
    let documents = tree(&["md"]);
    let faults: Vec<String> = documents.iter().flat_map(|it| broken_links(it, is_there)).collect();
    assert_none(&faults);
}

#[test]
fn what_documents_name_is_there() {
    let read = |path| fs::read_to_string(top().join(path)).expect("a file of the tree");
    let names = Names {
        options: options(&read("configs/default.toml")),
        metrics: read("src/telemetry/metrics.rs"),
        makefile: read("Makefile"),
        routes: read("signaling/src/lib.rs"),
    };
    let faults: Vec<String> = documents().iter().flat_map(|it| names.unknown(it)).collect();
    assert_none(&faults);
}

#[test]
fn configurations_in_documents_have_no_fault() {
    let mut seen = 0;
    for document in documents() {
        for (at, block) in blocks(&document.text, "toml").iter().enumerate() {
            let name = format!("{}-{at}.toml", document.path.replace('/', "-"));
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::write(&path, block).expect("a folder to write to");
            let arguments = [OsString::from("millrace"), "--config".into(), path.into()];
            let loaded = millrace::config::load(arguments, []);
            assert!(loaded.is_ok(), "{}: {loaded:?} in\n{block}", document.path);
            seen += 1;
        }
    }
    assert!(seen > 0, "no configuration was looked at");
}

#[test]
fn words_that_are_quoted_are_said() {
    let said: String = tree(&["rs", "ts"])
        .iter()
        .filter(|it| ["src/", "signaling/src/", "web/src/"].iter().any(|f| it.path.starts_with(f)))
        .map(|it| unbroken(&it.text))
        .collect();
    let document = documents().into_iter().find(|it| it.path == QUOTING).expect("it is there");
    assert!(document.text.contains("\n> "), "nothing is quoted");
    assert_none(&unsaid(&document, &said));
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is written for those who use the program.
fn documents() -> Vec<Source> {
    let all = tree(&["md"]).into_iter();
    all.filter(|it| it.path == "README.md" || it.path.starts_with("docs/")).collect()
}

/// Whether there is such a file, with such a heading if one is named.
fn is_there(path: &Path, heading: Option<&str>) -> bool {
    let path = top().join(path);
    match heading {
        None => path.exists(),
        Some(heading) => fs::read_to_string(path)
            .is_ok_and(|text| text.lines().any(|line| slug(line).as_deref() == Some(heading))),
    }
}

/// How a heading is named in links to it.
fn slug(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|&c| is_word(c) || c == ' ' || c == '-');
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
}

/// Links within the tree that lead nowhere.
fn broken_links(document: &Source, is_there: fn(&Path, Option<&str>) -> bool) -> Vec<String> {
    let targets = document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let own = |target: &&str| !target.contains("://") && !target.starts_with("mailto:");
    let is_broken = |target: &&str| {
        let (path, heading) = match target.split_once('#') {
            Some((path, heading)) => (path, Some(heading)),
            None => (*target, None),
        };
        let mut full = PathBuf::from(&document.path);
        if !path.is_empty() {
            full.pop();
            for part in Path::new(path).components() {
                match part {
                    Component::ParentDir => drop(full.pop()),
                    part => full.push(part),
                }
            }
        }
        !is_there(&full, heading)
    };
    let broken = targets.filter(own).filter(is_broken);
    broken.map(|target| format!("{}: {target} leads nowhere", document.path)).collect()
}

/// What there is to be named.
#[derive(Debug, Default)]
struct Names {
    /// As `section.key`.
    options: BTreeSet<String>,
    metrics: String,
    makefile: String,
    routes: String,
}

impl Names {
    /// What a document names and nothing is called.
    fn unknown(&self, document: &Source) -> Vec<String> {
        let mut faults: BTreeSet<String> = BTreeSet::new();
        let words = document.text.split(|c: char| !is_word(c) && c != '.');
        for word in words.map(|word| word.trim_matches('.')) {
            if !self.has_word(word) {
                faults.insert(format!("{}: there is no {word}", document.path));
            }
        }
        for span in spans(&document.text) {
            if !self.has_span(span) {
                faults.insert(format!("{}: there is no `{span}`", document.path));
            }
        }
        faults.into_iter().collect()
    }

    /// Options, variables, metrics: false where a word looks like one and is none.
    fn has_word(&self, word: &str) -> bool {
        if let Some(variable) = word.strip_prefix("MILLRACE_")
            && let Some((section, key)) = variable.split_once("__")
        {
            let option = format!("{section}.{key}").to_lowercase();
            return option == "section.key" || self.options.contains(&option);
        }
        if word.starts_with("millrace_") {
            return self.metrics.contains(&format!("\"{word}\""));
        }
        let Some((section, _)) = word.split_once('.') else { return true };
        let is_section = self.options.iter().any(|it| it.split('.').next() == Some(section));
        !is_section || PROGRAMS.contains(&word) || self.options.contains(word)
    }

    /// Commands, files, HTTP paths.
    fn has_span(&self, span: &str) -> bool {
        if let Some(target) = span.strip_prefix("make ") {
            return self.makefile.contains(&format!("\n{target}:"));
        }
        if FOLDERS.iter().any(|folder| span.starts_with(folder)) {
            return top().join(span.split(' ').next().unwrap_or_default()).exists();
        }
        let Some(path) = span.strip_prefix('/') else { return true };
        let first = path.split(['/', '#']).next().unwrap_or_default();
        SYSTEM.contains(&first) || self.routes.contains(&format!("\"/{first}"))
    }
}

/// Every option as `section.key`.
fn options(default_toml: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in default_toml.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            found.insert(format!("{section}.{key}"));
        }
    }
    found
}

/// What stands in single backticks.
fn spans(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The fenced blocks in a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let bodies = text.split(&opening).skip(1).filter_map(|rest| rest.split("```").next());
    bodies.map(str::to_owned).collect()
}

/// A source whose texts are not broken over lines.
fn unbroken(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let mut whole = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        if whole.ends_with('\\') {
            whole.pop();
        } else if whole.ends_with("\" +") && line.starts_with('"') {
            whole.truncate(whole.len() - 3);
            whole.push_str(&line[1..]);
            continue;
        } else {
            whole.push('\n');
        }
        whole.push_str(line);
    }
    whole
}

/// Quoted words that nothing says; `...` stands for what differs.
fn unsaid(document: &Source, said: &str) -> Vec<String> {
    let quotes = document.text.lines().filter_map(|line| line.strip_prefix("> "));
    let parts = quotes.flat_map(|quote| quote.split("...")).map(str::trim);
    let unsaid = parts.filter(|part| !said.contains(part));
    unsaid.map(|part| format!("{}: nothing says: {part}", document.path)).collect()
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let document = Source::sample("docs/a.md", "[a](b.md) [b](../c.md#d) [c](#e) [d](http://x/y)");
    let none = |_: &Path, _: Option<&str>| false;
    assert_eq!(broken_links(&document, none).len(), 3);
    let known = |path: &Path, heading: Option<&str>| {
        let wanted = [("docs/b.md", None), ("c.md", Some("d")), ("docs/a.md", Some("e"))];
        wanted.contains(&(path.to_str().unwrap_or_default(), heading))
    };
    assert_eq!(broken_links(&document, known), [""; 0]);
    assert_eq!(slug("## How late is it?").as_deref(), Some("how-late-is-it"));
}

#[test]
fn a_name_of_nothing_is_found() {
    let names = Names {
        options: options("[log]\n# level = 1\nlevel = \"info\"\n"),
        metrics: "name: \"millrace_streams\"".to_owned(),
        makefile: "all:\nrun: web".to_owned(),
        routes: ".route(\"/watch/{*stream}\")".to_owned(),
    };
    let of = |text: &str| names.unknown(&Source::sample("docs/a.md", text));
    let fine = "log.level, --log.level, MILLRACE_LOG__LEVEL, millrace_streams. `make run` e.g. \
                this: `/watch/a` `/etc/x` `tests/it` `scripts/load shards`";
    assert_eq!(of(fine), [""; 0]);
    for wrong in [
        "log.levels",
        "MILLRACE_LOG__LEVELS",
        "millrace_stream",
        "`make runs`",
        "`/watches`",
        "`tests/none`",
    ] {
        assert_eq!(of(wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn words_that_nothing_says_are_found() {
    let said = unbroken("say(\"it \\\n   is full: {} here\"); tell(\"a \" +\n \"b\");");
    let quote = |text: &str| unsaid(&Source::sample("docs/a.md", &format!("> {text}")), &said);
    assert_eq!(quote("it is full: ... here"), [""; 0]);
    assert_eq!(quote("a b"), [""; 0]);
    assert_eq!(quote("it is empty"), ["docs/a.md: nothing says: it is empty"]);
}
