//! millrace: an ultra-low-latency WebRTC SFU for live streaming.

pub mod codec;
pub mod config;
pub mod media;
pub mod peer;
