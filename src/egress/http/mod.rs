//! Streams packaged for HTTP (draft-pantos-hls-rfc8216bis).
//!
//! - `presentation`: the renditions of one stream, out of its samples; pure

pub mod presentation;
