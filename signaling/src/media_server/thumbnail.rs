//! Thumbnails as HTTP sees them: bytes that pass through unread, or why there are none.

use axum::body::Bytes;
use std::time::Duration;

/// A JPEG of what a stream shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The picture.
    pub jpeg: Bytes,
    /// Identifies it among those of its stream; without quotes.
    pub etag: String,
    /// For how long it is the newest: a cache may give it to others.
    pub max_age: Duration,
}

/// Why there is none. Texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThumbnailError {
    /// The name in the URL is none: 400.
    #[error("{0}")]
    BadName(String),
    /// Nobody publishes that stream now: 404 with `Retry-After`.
    #[error("stream {0} is not live")]
    NotLive(String),
    /// It is sound only: 404.
    #[error("{0}")]
    NoPicture(String),
    /// This server makes none, or none of such pictures: 501.
    #[error("{0}")]
    Unavailable(String),
    /// It failed this time, or too many are asked for: 503 with `Retry-After`.
    #[error("{reason}")]
    Failed {
        /// What happened.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
}
