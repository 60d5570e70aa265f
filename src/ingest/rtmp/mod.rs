//! RTMP and RTMPS.
//!
//! - `address`: what encoders call server and stream key
//! - `amf`: values in AMF0
//! - `chunk`: chunks -> messages
//! - `flv`: audio and video messages -> frames
//! - `reply`: what is said to an encoder
//! - `session`: one encoder's commands

pub mod address;
pub mod amf;
pub mod chunk;
pub mod flv;
mod reply;
pub mod session;
