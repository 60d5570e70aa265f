//! Ways out that do not speak WebRTC: each reads a stream by a tap, and needs nothing else of the
//! server.
//!
//! - `source`: what a tap gives, as samples on one time line
//! - `http`: LL-HLS
//! - `thumbnail`: a JPEG now and then

pub mod http;
pub mod source;
pub mod thumbnail;
