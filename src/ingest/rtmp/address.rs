//! The name of a stream and a token, out of what encoders call server and stream key.
//! Fuzz target: `rtmp_address`.
//!
//! The application and the key with `/` between them are the stream's name, as in other servers,
//! so that one URL names it whichever way an encoder divides that. `live` is what everybody writes
//! as the application who has none: it is left out. The token stands in the query of the key or,
//! where the key has none, of the application.

/// Left out at the start of a name.
const APPLICATION: &str = "live";
/// The parameter that is the token.
const TOKEN: &str = "token";

/// What somebody wants to publish, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The name of the stream; empty where there was none.
    pub stream: String,
    /// The token; empty where there was none.
    pub token: String,
}

impl Address {
    /// Reads the application of `connect` and the stream key of `publish`.
    pub fn parse(application: &str, key: &str) -> Self {
        let (application, application_query) = split(application);
        let (key, key_query) = split(key);
        let parts = application.split('/').chain(key.split('/')).filter(|part| !part.is_empty());
        let mut parts: Vec<&str> = parts.collect();
        if parts.first() == Some(&APPLICATION) {
            parts.remove(0);
        }
        let token = token(key_query).or_else(|| token(application_query)).unwrap_or_default();
        Self { stream: parts.join("/"), token }
    }
}

/// A path and its query. Some encoders write a second question mark for a second parameter.
fn split(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn token(query: &str) -> Option<String> {
    query.split(['&', '?']).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == TOKEN && !value.is_empty()).then(|| decoded(value))
    })
}

/// A text without its percent-encoding (RFC 3986 §2.1); what is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| first == b'%');
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digits.and_then(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
        if let Some(byte) = byte {
            bytes.push(byte as u8);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_same_stream_however_an_encoder_divides_it() {
        for (application, key, stream, token) in [
            ("live", "lot-42?token=secret", "lot-42", "secret"),
            ("live/", "/lot-42?token=secret", "lot-42", "secret"),
            ("", "lot-42?token=secret", "lot-42", "secret"),
            ("live/lot-42?token=secret", "", "lot-42", "secret"),
            ("live?token=secret", "lot-42", "lot-42", "secret"),
            ("live?token=one", "lot-42?token=two", "lot-42", "two"),
            ("live", "hall/lot-42", "hall/lot-42", ""),
            ("live/hall", "lot-42", "hall/lot-42", ""),
            ("hall", "lot-42", "hall/lot-42", ""),
            ("hall", "live", "hall/live", ""),
            ("live", "live", "live", ""),
            ("live", "", "", ""),
            ("live", "a?b=c&token=x%2By%3d%", "a", "x+y=%"),
            ("live", "a?b=c?token=x", "a", "x"),
            ("live", "a?token=", "a", ""),
        ] {
            let expected = Address { stream: stream.to_owned(), token: token.to_owned() };
            assert_eq!(Address::parse(application, key), expected, "{application} {key}");
        }
    }
}
