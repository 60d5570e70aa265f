//! One WebRTC endpoint, sans-IO, around the WebRTC stack; the only folder that names that stack.
//!
//! - `agreement`: what offer and answer agreed on, as plain data
//! - `assembly`: handshake messages put together from their fragments
//! - `binding`: one question to a STUN server
//! - `client_hello`: which SRTP profiles a client offers, so that AES-GCM can win
//! - `dtls`: one DTLS association, `rtc-dtls` behind a small type
//! - `estimate`: what the path to a viewer carries
//! - `extension_block`: the header extensions of one packet to a viewer
//! - `flight`: the last flight of a DTLS handshake, and when it is sent again
//! - `header`: a view of an RTP header
//! - `identity`: the server's DTLS certificate and the configurations made of it
//! - `offer`: what is answered to an offer
//! - `open`: the opener, protected packets become plain ones in place
//! - `outgoing`: one track on its way to one viewer
//! - `playout_delay`: what a viewer is told of the time between arrival and display
//! - `provider`: the library's cryptography, and signatures on P-224
//! - `publisher`: the receive side of a publisher session
//! - `record`: DTLS records and handshake fragments, read in place
//! - `reference_time`: how a viewer learns the round trip
//! - `seal`: the sealer, header and shared payload become a protected packet
//! - `srtp`: profiles, session keys and nonces of both
//! - `stun`: ICE-lite, reads connectivity checks and answers them
//! - `testing`: a client for tests
//! - `transport`: ICE, DTLS, SRTP, path and consent of one session
//! - `viewer`: the send side of a viewer's session

pub mod agreement;
mod assembly;
pub mod binding;
pub mod client_hello;
mod dtls;
pub mod estimate;
mod extension_block;
mod flight;
pub mod header;
pub mod identity;
pub mod offer;
pub mod open;
pub mod outgoing;
pub mod playout_delay;
mod provider;
pub mod publisher;
mod record;
mod reference_time;
pub mod seal;
pub mod srtp;
pub mod stun;
#[doc(hidden)]
pub mod testing;
pub mod transport;
pub mod viewer;
