//! LL-HLS as HTTP sees it: names and directives in; playlists, media and refusals out.
//!
//! The text of a playlist is made by the media server, once for all who ask for the same; bytes of
//! media pass through unread.

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::BoxStream;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// What is asked of a stream by HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HlsRequest<'a> {
    /// The stream name as it stood in the URL, percent-decoded, not yet checked.
    pub stream: &'a str,
    /// The last part of the path: `index.m3u8`, a media playlist, or a file of media.
    pub file: &'a str,
    /// What the query of a media playlist asks for.
    pub directives: Directives,
    /// What is to stand behind `?` in the URLs of a playlist, percent-encoded: the token that came
    /// in the query, as `token=..`; empty where it came otherwise, or none is needed.
    pub query: &'a str,
}

/// Delivery directives (draft-pantos-hls-rfc8216bis, "Delivery Directives Interface").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`: answer when there is this media segment, or a part of a later one.
    pub msn: Option<u64>,
    /// `_HLS_part`: answer when there is this part of it; never without `msn`.
    pub part: Option<u64>,
    /// `_HLS_skip`: a delta update will do.
    pub skip: bool,
}

/// What is given for it.
pub enum HlsAnswer {
    /// A playlist.
    Playlist(Arc<HlsPlaylist>),
    /// A file that is complete and never changes.
    Media(Bytes),
    /// A segment that is being made: what there is of it, and the rest as it comes. It may be kept
    /// for ever when its stream has ended well; else the answer is cut off.
    Growing(BoxStream<'static, Result<Bytes, Unfinished>>),
}

/// The rest of a segment does not come: what was sent of it is not the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rest of the segment did not come")]
pub struct Unfinished;

/// One rendering of a playlist, for all who ask for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HlsPlaylist {
    /// The text.
    pub text: Bytes,
    /// The same, compressed (RFC 1952).
    pub gzip: Bytes,
    /// Identifies the text; without quotes.
    pub etag: String,
    /// For how long a cache may give it to others.
    pub max_age: Duration,
}

impl HlsPlaylist {
    /// Compresses and names the text, once for all who get it.
    pub fn new(text: Bytes, max_age: Duration) -> Self {
        let gzip = gzip(&text);
        let mut etag = String::with_capacity(16);
        for byte in Sha256::digest(&text).iter().take(8) {
            let _ = write!(etag, "{byte:02x}");
        }
        Self { text, gzip, etag, max_age }
    }
}

fn gzip(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::default());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("a vector takes all that is written to it").into()
}

/// Why there is no such thing. Texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HlsError {
    /// The name in the URL is none: 400.
    #[error("{0}")]
    BadName(String),
    /// The directives make no sense, or ask for what is more than two segments ahead: 400.
    #[error("{0}")]
    BadRequest(String),
    /// Nobody publishes that stream now: 404 with `Retry-After`.
    #[error("stream {0} is not live")]
    NotLive(String),
    /// The stream has no such file, or has it no longer: 404.
    #[error("{0}")]
    NotFound(String),
    /// What the publisher sends cannot be packaged, say VP8: 406.
    #[error("{0}")]
    NotPlayable(String),
    /// HLS is switched off here: 404.
    #[error("this server does not serve HLS; its operator can switch it on by hls.mode")]
    Off,
    /// It did not come in time, or a limit is reached, or the server is stopping: 503 with
    /// `Retry-After`.
    #[error("{reason}")]
    Busy {
        /// What was waited for, or what is full.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    #[test]
    fn a_playlist_is_compressed_and_named_by_its_text() {
        let text = "#EXTM3U\n#EXT-X-VERSION:10\n".repeat(20);
        let made = HlsPlaylist::new(text.clone().into(), Duration::from_secs(1));
        let mut unpacked = String::new();
        GzDecoder::new(&*made.gzip).read_to_string(&mut unpacked).expect("it is gzip");
        assert_eq!(unpacked, text);
        assert!(made.gzip.len() < text.len() / 4, "{} bytes", made.gzip.len());
        assert!(made.etag.len() == 16 && made.etag.bytes().all(|b| b.is_ascii_hexdigit()));
        let other = HlsPlaylist::new("#EXTM3U\n".into(), Duration::from_secs(1));
        assert_ne!(other.etag, made.etag);
    }
}
