//! RTMP and RTMPS.

pub mod amf;
pub mod chunk;
pub mod flv;
