//! Reads what a caller wants from its stream id: the access control syntax of libsrt
//! (`docs/features/access-control.md`), and the plain forms that people use.
//!
//! Pure; whether the name is one and the token is right is decided elsewhere. Nothing is
//! percent-decoded: the syntax has no escapes, and neither names nor tokens need any.
//! Fuzz target: `stream_id`.

/// What a publisher asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId<'a> {
    /// The stream's name, unchecked.
    pub stream: &'a str,
    /// The token, empty where there is none.
    pub token: &'a str,
}

/// Why a stream id is none that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    /// Nothing to publish to.
    #[error("the stream id names no stream: use #!::r=NAME,m=publish,token=TOKEN")]
    NoName,
    /// Braces, or some other syntax that nobody uses.
    #[error("the stream id has an unknown syntax: use #!::r=NAME,m=publish,token=TOKEN")]
    Syntax,
    /// `m=request` and the like.
    #[error("streams cannot be watched over SRT: watch them with WHEP")]
    Viewing,
    /// `m=bidirectional`, or a mode that is none.
    #[error("a caller can only publish here: m=publish")]
    Mode,
    /// `t=file`, `t=auth`.
    #[error("a caller can only send a live stream here: t=stream, or no t at all")]
    Type,
}

/// How the access control syntax begins.
const KEYED: &str = "#!::";
/// How a syntax that is none of ours begins.
const EXECUTABLE: &str = "#!";
/// What other servers call watching.
const VIEWING: [&str; 4] = ["request", "read", "play", "view"];
/// What many encoders put before the name, as they do with RTMP.
const APPLICATION: &str = "live/";

/// Reads a stream id.
///
/// Besides the keyed form these are understood: `publish:NAME`, `publish:NAME:TOKEN`,
/// `publish:NAME:USER:TOKEN`, `NAME?token=TOKEN`, and each of them with `live/` before the name.
///
/// # Errors
///
/// [`StreamIdError`] says what cannot be served.
pub fn parse(text: &str) -> Result<StreamId<'_>, StreamIdError> {
    let text = text.trim_end_matches('\0').trim();
    let parsed = match text.strip_prefix(KEYED) {
        Some(pairs) => keyed(pairs)?,
        None if text.starts_with(EXECUTABLE) => return Err(StreamIdError::Syntax),
        None => plain(text)?,
    };
    let stream = parsed.stream.strip_prefix('/').unwrap_or(parsed.stream);
    let stream = stream.strip_prefix(APPLICATION).unwrap_or(stream);
    if stream.is_empty() {
        return Err(StreamIdError::NoName);
    }
    Ok(StreamId { stream, ..parsed })
}

/// `r=NAME,m=publish,token=TOKEN`. Keys that mean nothing here are passed over: user (`u`), host
/// (`h`), session (`s`), and whatever else encoders send.
fn keyed(pairs: &str) -> Result<StreamId<'_>, StreamIdError> {
    let mut parsed = StreamId { stream: "", token: "" };
    for pair in pairs.split(',') {
        let Some((key, value)) = pair.split_once('=') else { continue };
        match (key.trim(), value.trim()) {
            ("r", value) => {
                let resource = with_query(value);
                parsed.stream = resource.stream;
                if !resource.token.is_empty() {
                    parsed.token = resource.token;
                }
            }
            ("token", value) => parsed.token = value,
            // The standard's default is to watch. Nobody watches here: who says nothing publishes.
            ("m", "publish") | ("t", "stream") => {}
            ("m", mode) if VIEWING.contains(&mode) => return Err(StreamIdError::Viewing),
            ("m", _) => return Err(StreamIdError::Mode),
            ("t", _) => return Err(StreamIdError::Type),
            _ => {}
        }
    }
    Ok(parsed)
}

/// `publish:NAME:TOKEN` or `NAME?token=TOKEN`.
fn plain(text: &str) -> Result<StreamId<'_>, StreamIdError> {
    let Some((mode, rest)) = text.split_once(':') else { return Ok(with_query(text)) };
    if VIEWING.contains(&mode) {
        return Err(StreamIdError::Viewing);
    }
    if mode != "publish" {
        return Err(StreamIdError::Syntax);
    }
    let Some((stream, credentials)) = rest.split_once(':') else { return Ok(with_query(rest)) };
    // `USER:TOKEN` where there are two.
    let token = credentials.rsplit(':').next().unwrap_or(credentials);
    Ok(StreamId { stream, token })
}

/// `NAME?token=TOKEN`, or a name alone.
fn with_query(text: &str) -> StreamId<'_> {
    let (stream, query) = text.split_once('?').unwrap_or((text, ""));
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or_default();
    StreamId { stream, token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_people_use_is_understood() {
        // The stream id, the stream's name, the token.
        let table = [
            ("#!::r=lot-42,m=publish,token=abc", "lot-42", "abc"),
            ("#!::m=publish,token=a=b=,r=live/lot-42", "lot-42", "a=b="),
            ("#!::r=lot-42,token=abc", "lot-42", "abc"),
            ("#!::u=ana,h=example.com,s=7,t=stream,x=y,odd,r=a/b,token=abc", "a/b", "abc"),
            ("#!::r=lot-42?token=abc,m=publish", "lot-42", "abc"),
            ("#!::r=lot-42,m=publish", "lot-42", ""),
            ("publish:lot-42", "lot-42", ""),
            ("publish:lot-42:abc", "lot-42", "abc"),
            ("publish:live/lot-42:ana:abc", "lot-42", "abc"),
            ("publish:lot-42?token=abc", "lot-42", "abc"),
            ("lot-42?token=abc", "lot-42", "abc"),
            ("live/lot-42?x=y&token=abc", "lot-42", "abc"),
            ("/live/lot-42?token=abc", "lot-42", "abc"),
            ("lot-42", "lot-42", ""),
            ("lot-42?token=abc\0\0", "lot-42", "abc"),
        ];
        for (text, stream, token) in table {
            assert_eq!(parse(text), Ok(StreamId { stream, token }), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_told_apart() {
        use StreamIdError::{Mode, NoName, Syntax, Type, Viewing};
        let table = [
            ("", NoName),
            ("publish:", NoName),
            ("publish::abc", NoName),
            ("#!::m=publish,token=abc", NoName),
            ("#!::r=live/,m=publish", NoName),
            ("?token=abc", NoName),
            ("#!:{r=lot-42}", Syntax),
            ("#!/bin/sh", Syntax),
            ("write:lot-42", Syntax),
            ("#!::r=lot-42,m=request", Viewing),
            ("read:lot-42", Viewing),
            ("play:lot-42:abc", Viewing),
            ("#!::r=lot-42,m=bidirectional", Mode),
            ("#!::r=lot-42,t=file,m=publish", Type),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }
}
