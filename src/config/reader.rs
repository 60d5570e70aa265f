//! File, environment and flags behind one look-up by key.
//!
//! Nothing is an error at once: problems are collected, so that one run shows them all. The
//! caller takes the default where a value is bad, and throws the result away in the end.

use super::error::{ConfigError, Problem};
use super::pattern::Row;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Every variable of ours begins so.
pub(super) const VARIABLE_PREFIX: &str = "MILLRACE_";

/// The two variables whose short names are promised to operators, and the options they set.
const SHORT_VARIABLES: [(&str, &str); 2] = [
    ("MILLRACE_PUBLISH_TOKEN", "auth.publish_token"),
    ("MILLRACE_ADMIN_TOKEN", "auth.admin_token"),
];

/// Where state is kept if neither the operator nor systemd says where.
const STATE_DIRECTORY: &str = "millrace-state";

/// What was given, what has been asked for, and what was wrong.
#[derive(Debug, Default)]
pub(super) struct Reader {
    given: BTreeMap<String, Given>,
    options: Vec<OptionText>,
    problems: Vec<Problem>,
    state_directory: Option<PathBuf>,
}

/// One option as `--help` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OptionText {
    /// `section.key`.
    pub(super) key: &'static str,
    /// What it takes, in words.
    pub(super) takes: String,
    /// Its default as text.
    pub(super) default: String,
}

/// A value with the place it came from.
#[derive(Debug)]
struct Given {
    value: Value,
    origin: String,
}

/// Files have types; variables and flags are text.
#[derive(Debug)]
enum Value {
    Toml(toml::Value),
    Text(String),
}

impl Reader {
    /// Takes every key of a TOML text.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`] where it is no TOML.
    pub(super) fn add_file(&mut self, text: &str, path: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            ConfigError::Syntax { path: path.to_owned(), reason: error.to_string() }
        })?;
        for (section, content) in table {
            let toml::Value::Table(keys) = content else {
                self.unknown(&section, path);
                continue;
            };
            for (key, value) in keys {
                let given = Given { value: Value::Toml(value), origin: path.to_owned() };
                self.given.insert(format!("{section}.{key}"), given);
            }
        }
        Ok(())
    }

    /// Takes a variable of the environment, if it is one of ours.
    pub(super) fn add_variable(&mut self, name: &str, value: &str) {
        if name == "STATE_DIRECTORY" {
            // systemd.exec(5): the unit's StateDirectory=, several separated by colons.
            self.state_directory = value.split(':').next().map(PathBuf::from);
            return;
        }
        let Some(path) = name.strip_prefix(VARIABLE_PREFIX) else { return };
        let short = SHORT_VARIABLES.iter().find(|(short, _)| *short == name);
        let key = match (short, path.split_once("__")) {
            (Some((_, key)), _) => (*key).to_owned(),
            (None, Some((section, key))) => format!("{section}.{key}").to_ascii_lowercase(),
            (None, None) => return self.unknown(name, "environment"),
        };
        self.add_text(&key, value, name);
    }

    /// Takes a value as text, from a flag or a variable.
    pub(super) fn add_text(&mut self, key: &str, value: &str, origin: &str) {
        let given = Given { value: Value::Text(value.to_owned()), origin: origin.to_owned() };
        self.given.insert(key.to_owned(), given);
    }

    /// Notes that something was given that is no option.
    fn unknown(&mut self, key: &str, origin: &str) {
        self.problems.push(Problem::UnknownKey {
            key: key.to_owned(),
            origin: origin.to_owned(),
            meant: None,
        });
    }

    /// Notes that two values do not go together.
    pub(super) fn conflict(&mut self, text: &str) {
        self.problems.push(Problem::Conflict(text.to_owned()));
    }

    /// All options that were asked for.
    ///
    /// # Errors
    ///
    /// Every problem found, and every key that nobody asked for.
    pub(super) fn finish(self) -> Result<Vec<OptionText>, ConfigError> {
        let mut problems = self.problems;
        for (key, given) in self.given {
            let meant = closest(&key, self.options.iter().map(|option| option.key));
            problems.push(Problem::UnknownKey { key, origin: given.origin, meant });
        }
        if problems.is_empty() { Ok(self.options) } else { Err(ConfigError::Problems(problems)) }
    }

    /// A whole number within a range.
    pub(super) fn number<N>(&mut self, key: &'static str, default: N, range: RangeInclusive<N>) -> N
    where
        N: Copy + PartialOrd + Display + FromStr + TryFrom<i64>,
    {
        let takes = format!("a whole number from {} to {}", range.start(), range.end());
        self.look_up(key, &default.to_string(), takes, |value| {
            let number = match value {
                Value::Toml(toml::Value::Integer(number)) => N::try_from(*number).ok(),
                Value::Toml(_) => None,
                Value::Text(text) => text.trim().parse().ok(),
            };
            number.filter(|number| range.contains(number))
        })
        .unwrap_or(default)
    }

    /// A time in seconds; the key ends in `_s`.
    pub(super) fn seconds(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_secs(self.number(key, default, range))
    }

    /// A time in milliseconds; the key ends in `_ms`.
    pub(super) fn milliseconds(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_millis(self.number(key, default, range))
    }

    /// One text that `parse` understands; `parse` must understand the default.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: &str,
        takes: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.look_up(key, &format!("{default:?}"), takes.to_owned(), |value| match value {
            Value::Toml(toml::Value::String(text)) | Value::Text(text) => parse(text),
            Value::Toml(_) => None,
        })
        .or_else(|| parse(default))
        .expect("a test reads every default")
    }

    /// A list of texts; in variables and flags separated by commas, or as in the file: the errors
    /// and the notes at the start show that form, and people copy it.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        takes: &str,
        parse: impl Fn(&[&str]) -> Option<T>,
    ) -> T {
        self.look_up(key, &format!("{default:?}"), takes.to_owned(), |value| match value {
            Value::Toml(toml::Value::Array(items)) => {
                let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                parse(&items?)
            }
            Value::Toml(_) => None,
            Value::Text(text) => {
                let list = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let items = parts(list.unwrap_or(text)).into_iter();
                let bare = items.map(|item| if list.is_some() { unquoted(item) } else { item });
                parse(&bare.collect::<Vec<_>>())
            }
        })
        .or_else(|| parse(default))
        .expect("a test reads every default")
    }

    /// A table of texts, empty by default; in variables and flags `name=text,name=text`.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        takes: &str,
        parse: impl Fn(&str, &str) -> Option<T>,
    ) -> Vec<T> {
        self.look_up(key, "{}", takes.to_owned(), |value| match value {
            Value::Toml(toml::Value::Table(rows)) => {
                rows.iter().map(|(name, text)| parse(name, text.as_str()?)).collect()
            }
            Value::Toml(_) => None,
            Value::Text(text) => parts(text)
                .iter()
                .map(|row| row.split_once('=').and_then(|(name, text)| parse(name, text)))
                .collect(),
        })
        .unwrap_or_default()
    }

    /// What something is for the streams of each pattern; [`Row::first`] finds that of a stream.
    pub(super) fn by_stream<T>(
        &mut self,
        key: &'static str,
        takes: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<Row<T>> {
        let takes = format!("rows of a stream name, in which * is any text, = {takes}");
        self.table(key, &takes, |pattern, value| Row::parse(pattern, value, &parse))
    }

    /// The state directory: `auto` is systemd's, else one in the working directory.
    pub(super) fn state_directory(&mut self, key: &'static str) -> PathBuf {
        let fallback = self.state_directory.clone().unwrap_or_else(|| STATE_DIRECTORY.into());
        self.text(key, "auto", "a directory, or auto", |text| match text {
            "" => None,
            "auto" => Some(fallback.clone()),
            path => Some(path.into()),
        })
    }

    /// Lists the option, and reads its value where one was given.
    fn look_up<T>(
        &mut self,
        key: &'static str,
        default: &str,
        takes: String,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let default = default.to_owned();
        self.options.push(OptionText { key, takes: takes.clone(), default });
        let given = self.given.remove(key)?;
        let parsed = parse(&given.value);
        if parsed.is_none() {
            let value = given.value.shown(key);
            self.problems.push(Problem::BadValue {
                key: key.to_owned(),
                value,
                origin: given.origin,
                takes,
            });
        }
        parsed
    }
}

impl Value {
    /// The value as it was written. An error message ends up in logs and screenshots: secrets
    /// are left out.
    fn shown(&self, key: &str) -> String {
        let secret = ["auth.", "srt.pass", "srt.pull", "network.ice_servers"];
        if secret.iter().any(|prefix| key.starts_with(prefix)) {
            return "not shown here, it is secret,".to_owned();
        }
        match self {
            Self::Toml(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

/// The comma-separated parts of a text; none of an empty one.
fn parts(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// A text without the quotes that TOML has around it.
fn unquoted(item: &str) -> &str {
    let inner = |quote| item.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(item)
}

/// The option whose name is nearest to the one written, if it is near at all.
fn closest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().map(str::to_owned);
    known
        .map(|key| {
            let moved = name(key) == name(written);
            (if moved { 0 } else { distance(written, key) }, key)
        })
        .min()
        .filter(|(distance, key)| distance * 3 <= key.len())
        .map(|(_, key)| key.to_owned())
}

/// Levenshtein's distance: letters to change, add or remove.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_letters() {
        for (from, to, expected) in
            [("", "", 0), ("abc", "", 3), ("shard", "shards", 1), ("listen", "silent", 4)]
        {
            assert_eq!(distance(from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_section_is_recognised() {
        let known = ["server.shards", "log.level"];
        assert_eq!(closest("network.shards", known.into_iter()), Some("server.shards".to_owned()));
        assert_eq!(closest("log.lvel", known.into_iter()), Some("log.level".to_owned()));
        assert_eq!(closest("entirely.different", known.into_iter()), None);
    }
}
