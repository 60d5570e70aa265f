//! Stream, session and layer names as distinct types.

use std::fmt;
use std::sync::Arc;

/// The name under which a publisher sends and viewers watch.
///
/// One to 128 characters of `A-Z a-z 0-9 . _ ~ -`, and `/` between non-empty parts: what a URL
/// path carries without escapes, so that the same name works in WHIP, RTMP, SRT and HLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// Why a text is no stream name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more than [`StreamName::LENGTH_MAX`] characters.
    #[error(
        "a stream name has 1 to {max} characters, this one has {0}",
        max = StreamName::LENGTH_MAX
    )]
    Length(usize),
    /// A character outside the set.
    #[error(
        "a stream name is made of letters, digits and . _ ~ - with / between parts; {0:?} is none"
    )]
    Character(char),
    /// An empty part, `.` or `..`.
    #[error("a stream name has no empty part and none called . or ..")]
    Part,
}

impl StreamName {
    /// The longest name.
    pub const LENGTH_MAX: usize = 128;

    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let length = text.chars().count();
        if length == 0 || length > Self::LENGTH_MAX {
            return Err(NameError::Length(length));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "._~-/".contains(c);
        if let Some(illegal) = text.chars().find(|&c| !legal(c)) {
            return Err(NameError::Character(illegal));
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(NameError::Part);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One client's stay, from POST to DELETE or loss. Unguessable: it is the key to the session URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Makes an id of 16 random bytes.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the 32 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Shows the first digits only: enough to find a session in the log, too few to end it.
impl fmt::Debug for SessionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_are_what_a_url_path_carries_unescaped() {
        for good in ["a", "lot-42", "live/lot_42", "a.b~c"] {
            assert!(StreamName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "/a", "a/", "a//b", "..", "a/../b", "ä", "a?b", "a%20b"] {
            assert!(StreamName::parse(bad).is_err(), "{bad}");
        }
        assert!(StreamName::parse(&"x".repeat(129)).is_err());
    }

    #[test]
    fn session_ids_are_read_back() {
        let id = SessionId::from_random([0xa5; 16]);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse("a5"), None);
        assert_eq!(SessionId::parse(&"g".repeat(32)), None);
        assert_eq!(format!("{id:?}"), "a5a5a5a5");
    }
}
