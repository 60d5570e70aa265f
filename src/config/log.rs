//! `[log]`: what is written about the server's work.

use super::reader::Reader;

/// Settings of the log, which goes to the standard error output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important thing that is written.
    pub level: Level,
    /// For eyes or for machines.
    pub format: Format,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Wake someone.
    Error,
    /// Odd, but served.
    Warn,
    /// A session came or went.
    Info,
    /// A decision.
    Debug,
    /// Each packet.
    Trace,
}

impl Level {
    /// Its word, as `tracing` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line of text, coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

impl Log {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let level = |text: &str| {
            use Level::{Debug, Error, Info, Trace, Warn};
            [Error, Warn, Info, Debug, Trace].into_iter().find(|level| level.as_str() == text)
        };
        let format = |text: &str| match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            _ => None,
        };
        Self {
            level: reader.text("log.level", "info", "error, warn, info, debug or trace", level),
            format: reader.text("log.format", "text", "text or json", format),
        }
    }
}
