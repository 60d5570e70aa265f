//! Ways in that do not speak WebRTC: each reads frames and writes them into a stream.

pub mod rtmp;
