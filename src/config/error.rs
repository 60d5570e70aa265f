//! Everything that can be wrong with a configuration, in the operator's words.

use std::fmt;

/// Why there is no configuration to start with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line is no such line; clap's text says what would be right.
    #[error("{0}")]
    Arguments(String),
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The file is no TOML.
    #[error("{path} is not TOML:\n{reason}")]
    Syntax {
        /// Which file.
        path: String,
        /// What the parser says, with the line.
        reason: String,
    },
    /// Keys or values are wrong: all of them, so that one run shows every fault.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

/// One wrong key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is no such option.
    UnknownKey {
        /// As it was written.
        key: String,
        /// Where.
        origin: String,
        /// The option that was probably meant.
        meant: Option<String>,
    },
    /// The option is there, the value is none of its own.
    BadValue {
        /// The option, as `section.key`.
        key: String,
        /// The value as it was written; secrets are not repeated.
        value: String,
        /// Where.
        origin: String,
        /// What would be right.
        takes: String,
    },
    /// Each value is fine, but not together with another.
    Conflict(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, origin, meant: Some(meant) } => {
                write!(out, "{key} ({origin}) is not an option; did you mean {meant}?")
            }
            Self::UnknownKey { key, origin, meant: None } => write!(
                out,
                "{key} ({origin}) is not an option; configs/default.toml lists them all"
            ),
            Self::BadValue { key, value, origin, takes } => {
                write!(out, "{key} is {value} ({origin}), but takes {takes}")
            }
            Self::Conflict(text) => out.write_str(text),
        }
    }
}

/// One problem per line.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
