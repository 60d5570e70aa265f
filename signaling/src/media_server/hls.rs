//! LL-HLS as HTTP sees it: names and directives in; playlists, media and refusals out.
//!
//! The text of a playlist is made by the media server, once for all who ask for the same; bytes of
//! media pass through unread.

use axum::body::Bytes;
use futures_util::stream::BoxStream;
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
    /// A segment that is being made: what there is of it, and the rest as it comes.
    Growing(BoxStream<'static, Bytes>),
}

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
