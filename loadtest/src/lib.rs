//! A black-box WHIP and WHEP client: it speaks only the public protocols and shares no code with
//! the server it publishes to and watches.

pub mod codec;
pub mod floor;
pub mod http;
pub mod impair;
pub mod interop;
pub mod light;
pub mod probe;
pub mod report;
pub mod source;
pub mod srt;
pub mod swarm;
pub mod watched;
pub mod whep;
pub mod whip;
