//! `[auth]`: tokens, and for which streams they are good.

use super::reader::Reader;
use super::token::Token;

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Publishes any stream; `None` lets the first start make one.
    pub publish_token: Option<Token>,
    /// For `/api`, `/metrics` and the list of streams; `None` lets the first start make one.
    pub admin_token: Option<Token>,
    /// Tokens that publish the streams of a pattern only.
    pub publish_tokens: Vec<StreamToken>,
    /// Tokens that watch the streams of a pattern; without any, everybody watches everything,
    /// with one or more, nobody does without a token that fits.
    pub view_tokens: Vec<StreamToken>,
}

/// A token for the streams whose names fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamToken {
    /// A stream name, in which `*` stands for any text.
    pub pattern: String,
    /// The token.
    pub token: Token,
}

impl StreamToken {
    /// Reads one row of a table.
    fn parse(pattern: &str, token: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._~-/*".contains(c);
        let fits = (1..=128).contains(&pattern.len()) && pattern.chars().all(legal);
        fits.then(|| Token::parse(token))?.map(|token| Self { pattern: pattern.to_owned(), token })
    }
}

impl Auth {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let token = |reader: &mut Reader, key| {
            let takes = format!("{}, or nothing: then one is made and kept", Token::TAKES);
            reader.text(key, "", &takes, |text| match text {
                "" => Some(None),
                text => Token::parse(text).map(Some),
            })
        };
        let table = |reader: &mut Reader, key| {
            let takes =
                format!("rows of a stream name, in which * is any text, = {}", Token::TAKES);
            reader.table(key, &takes, StreamToken::parse)
        };
        Self {
            publish_token: token(reader, "auth.publish_token"),
            admin_token: token(reader, "auth.admin_token"),
            publish_tokens: table(reader, "auth.publish_tokens"),
            view_tokens: table(reader, "auth.view_tokens"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_stream_names_with_stars() {
        assert!(StreamToken::parse("lot-*", "secret").is_some());
        for bad in ["", "a b", "lot?", "ä"] {
            assert_eq!(StreamToken::parse(bad, "secret"), None, "{bad}");
        }
        assert_eq!(StreamToken::parse("lot-*", ""), None);
    }
}
