//! One WebRTC endpoint, sans-IO, around the WebRTC stack; the only folder that names that stack.
//!
//! - `agreement`: what offer and answer agreed on, as plain data
//! - `header`: a view of an RTP header

pub mod agreement;
pub mod header;
