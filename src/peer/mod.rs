//! One WebRTC endpoint, sans-IO, around the WebRTC stack; the only folder that names that stack.
//!
//! - `agreement`: what offer and answer agreed on, as plain data
//! - `header`: a view of an RTP header
//! - `offer`: what is answered to an offer
//! - `open`: the opener, protected packets become plain ones in place
//! - `seal`: the sealer, header and shared payload become a protected packet
//! - `srtp`: profiles, session keys and nonces of both

pub mod agreement;
pub mod header;
pub mod offer;
pub mod open;
pub mod seal;
pub mod srtp;
