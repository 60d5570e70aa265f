//! millrace: an ultra-low-latency WebRTC SFU for live streaming.

pub mod bus;
pub mod clock;
pub mod codec;
pub mod config;
pub mod egress;
pub mod engine;
pub mod ingest;
pub mod ladder;
pub mod media;
pub mod peer;
pub mod router;
pub mod server;
pub mod sessions;
pub mod shard;
pub mod telemetry;
pub mod transcode;
