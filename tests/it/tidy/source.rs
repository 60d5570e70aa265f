//! The files of the tree, and their code without comments and texts.

use std::fs;
use std::path::Path;

/// One file of the tree.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// From the top of the tree, with slashes.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
}

/// Folders that hold nothing written here.
const FOREIGN: [&str; 7] = ["target", "node_modules", ".venv", "dist", "data", "corpus", ".git"];

impl Source {
    /// A file that is only in a test.
    pub(super) fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether the file holds nothing but tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests") || self.path.ends_with("tests.rs")
    }

    /// The text before its unit tests, which stand last.
    pub(super) fn before_tests(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod ").map_or(self.text.len(), |at| at + 1);
        &self.text[..end]
    }

    /// The text without comments, texts and characters; lines stay where they are.
    pub(super) fn code(&self, with_tests: bool) -> String {
        blank(if with_tests { &self.text } else { self.before_tests() })
    }
}

/// Every file of ours with one of these extensions, in order.
pub(super) fn tree(extensions: &[&str]) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(top, "", extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The files of one folder, then those of the folders in it.
fn collect(folder: &Path, prefix: &str, extensions: &[&str], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let entry = entry.expect("an entry of the tree");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("it has a type").is_dir() {
            if !FOREIGN.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{path}/"), extensions, found);
            }
        } else if extensions.iter().any(|extension| name.ends_with(&format!(".{extension}"))) {
            let text = fs::read_to_string(entry.path()).expect("sources are UTF-8");
            found.push(Source { path, text });
        }
    }
}

/// Replaces comments, texts and characters by blanks.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, '"'),
            '\'' => character(rest),
            'r' | 'b' | 'c' if !code.ends_with(is_word) => raw_text(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (gone, after) = rest.split_at(skipped);
            code.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// Whether a character can be part of a name.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of what stands in quotes, with escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut inner = text.chars().skip(1);
    match (inner.next(), inner.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(text, '\''),
        _ => 0,
    }
}

/// The length of `r"..."`, `r#"..."#` and their kin; 0 for a name.
fn raw_text(text: &str) -> usize {
    let prefix = text.find(|c: char| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(text.len());
    let hashes = text[prefix..].find(|c| c != '#').unwrap_or(0);
    let opening = prefix + hashes;
    if prefix > 2 || !text[opening..].starts_with('"') {
        return 0;
    }
    if !text[..prefix].contains('r') {
        return opening + quoted(&text[opening..], '"');
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let body = opening + 1;
    text[body..].find(&closing).map_or(text.len(), |end| body + end + closing.len())
}

#[test]
fn code_has_no_comments_texts_and_characters() {
    for (text, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a\"b", 'c', '\'')"#, "f(      ,    ,     )"),
        ("<'a> x", "<'a> x"),
        ("r#\"a\"b\"#; r\"x\\\"; br\"y\"", "        ;      ;      "),
        ("for bar in crate::rb", "for bar in crate::rb"),
        ("\"a\nb\"c", "  \n  c"),
    ] {
        assert_eq!(Source::sample("x.rs", text).code(true), expected, "{text}");
    }
}

#[test]
fn unit_tests_stand_last_and_are_left_out() {
    let source = Source::sample("x.rs", "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n");
    assert_eq!(source.before_tests(), "fn a() {}\n\n");
}

#[test]
fn the_tree_is_read_with_its_folders_and_without_foreign_ones() {
    let paths: Vec<String> = tree(&["rs"]).into_iter().map(|source| source.path).collect();
    for expected in ["src/lib.rs", "src/media/packet.rs", "tests/it/tidy/source.rs"] {
        assert!(paths.iter().any(|path| path == expected), "{expected} is missing");
    }
    assert!(!paths.iter().any(|path| path.starts_with("target/")), "built files are no sources");
}
