//! The query of a URL of HLS: delivery directives (draft-pantos-hls-rfc8216bis §6.2.5), and the
//! token that lets the viewer in.
//!
//! What else stands there is the client's own affair: players and caches append what they like.
//! Fuzz target: `hls_query`.

use crate::media_server::hls::Directives;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The parameter that carries a token.
const TOKEN: &str = "token";
/// What may stand as it is in a URL, in a quoted string and in a cookie (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why the query cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Not a decimal number without a sign.
    #[error("{0} is not a number; it is a decimal integer without a sign, 2^64-1 at most")]
    Number(&'static str),
    /// `_HLS_skip` is neither of the two values there are.
    #[error("_HLS_skip is neither YES nor v2")]
    Skip,
    /// The same twice: whichever was meant, one of them is not.
    #[error("{0} is there more than once; it may be there once")]
    Repeated(&'static str),
    /// A part of no segment.
    #[error("_HLS_part is there without _HLS_msn, the number of the segment that it is a part of")]
    PartAlone,
    /// The token's percent-escapes do not spell a text.
    #[error("the percent-escapes of the token do not spell a text")]
    Token,
}

/// Reads the delivery directives of a query.
///
/// # Errors
///
/// [`QueryError`]: there are some, and they make no sense.
pub fn parse_directives(query: &str) -> Result<Directives, QueryError> {
    let (mut msn, mut part, mut skip) = (None, None, None);
    for (name, value) in pairs(query) {
        match name {
            "_HLS_msn" => set(&mut msn, "_HLS_msn", number("_HLS_msn", value)?)?,
            "_HLS_part" => set(&mut part, "_HLS_part", number("_HLS_part", value)?)?,
            "_HLS_skip" if matches!(value, "YES" | "v2") => set(&mut skip, "_HLS_skip", true)?,
            "_HLS_skip" => return Err(QueryError::Skip),
            _ => {}
        }
    }
    if part.is_some() && msn.is_none() {
        return Err(QueryError::PartAlone);
    }
    Ok(Directives { msn, part, skip: skip.unwrap_or_default() })
}

/// Reads the token of a query, where it has one. A `+` is a plus: tokens have no blanks.
///
/// # Errors
///
/// [`QueryError`]: there are several, or none that is a text.
pub fn parse_token(query: &str) -> Result<Option<String>, QueryError> {
    let mut token = None;
    for (_, value) in pairs(query).filter(|(name, _)| *name == TOKEN) {
        let text = percent_decode_str(value).decode_utf8().map_err(|_| QueryError::Token)?;
        set(&mut token, TOKEN, text.into_owned())?;
    }
    Ok(token)
}

/// How the token stands in URLs: one way, however it was written in the query it came by.
pub fn token_pair(token: &str) -> String {
    format!("{TOKEN}={}", escaped(token))
}

/// The text with all that is not unreserved escaped.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn set<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), QueryError> {
    if place.replace(value).is_some() {
        return Err(QueryError::Repeated(name));
    }
    Ok(())
}

/// A decimal-integer (§4.2).
fn number(name: &'static str, text: &str) -> Result<u64, QueryError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(QueryError::Number(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(msn: Option<u64>, part: Option<u64>, skip: bool) -> Directives {
        Directives { msn, part, skip }
    }

    #[test]
    fn directives_are_found_among_what_else_there_is() {
        for (query, expected) in [
            ("", directives(None, None, false)),
            ("token=a&x", directives(None, None, false)),
            ("_HLS_msn=0", directives(Some(0), None, false)),
            ("_HLS_part=3&a=b&_HLS_msn=1234", directives(Some(1234), Some(3), false)),
            ("_HLS_skip=YES&_HLS_msn=7&", directives(Some(7), None, true)),
            ("_HLS_skip=v2", directives(None, None, true)),
            ("_HLS_push=1&_hls_msn=x", directives(None, None, false)),
        ] {
            assert_eq!(parse_directives(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn directives_that_make_no_sense_are_refused() {
        for (query, expected) in [
            ("_HLS_msn=", QueryError::Number("_HLS_msn")),
            ("_HLS_msn", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=-1", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=+1", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=1.5", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=18446744073709551616", QueryError::Number("_HLS_msn")),
            ("_HLS_msn=1&_HLS_part=a", QueryError::Number("_HLS_part")),
            ("_HLS_part=1", QueryError::PartAlone),
            ("_HLS_skip=NO", QueryError::Skip),
            ("_HLS_msn=1&_HLS_msn=1", QueryError::Repeated("_HLS_msn")),
            ("_HLS_msn=1&_HLS_part=1&_HLS_part=2", QueryError::Repeated("_HLS_part")),
            ("_HLS_skip=YES&_HLS_skip=v2", QueryError::Repeated("_HLS_skip")),
        ] {
            assert_eq!(parse_directives(query), Err(expected), "{query}");
        }
    }

    #[test]
    fn a_token_goes_on_in_one_way_of_writing() {
        let token = |query| parse_token(query).map(Option::unwrap_or_default);
        assert_eq!(token("_HLS_msn=1"), Ok(String::new()));
        assert_eq!(token("token=a%2Bb%3d"), token("x=y&token=a+b="));
        assert_eq!(token_pair("a+b=/~"), "token=a%2Bb%3D%2F~");
        assert_eq!(token_pair("\"\n"), "token=%22%0A");
        assert_eq!(token("token=%ff"), Err(QueryError::Token));
        assert_eq!(token("token=a&token=a"), Err(QueryError::Repeated("token")));
    }
}
