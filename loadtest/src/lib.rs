//! A black-box client of WHIP, WHEP, RTMP and SRT: it speaks only the public protocols and shares
//! no code with the server it publishes to and watches.

pub mod codec;
pub mod continuity;
pub mod floor;
pub mod hls;
pub mod http;
pub mod impair;
pub mod interop;
pub mod layers;
pub mod light;
pub mod lip_sync;
pub mod probe;
pub mod push;
pub mod report;
pub mod source;
pub mod srt;
pub mod swarm;
pub mod watched;
pub mod whep;
pub mod whip;
