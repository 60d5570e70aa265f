//! Ways in that do not speak WebRTC: each reads frames and writes them into a stream.
//!
//! - `srt`: SRT with MPEG-TS

pub mod srt;
