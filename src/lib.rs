//! millrace: an ultra-low-latency WebRTC SFU for live streaming.

pub mod clock;
pub mod codec;
pub mod config;
pub mod media;
pub mod peer;
pub mod shard;
