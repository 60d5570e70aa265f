//! RTMP and RTMPS in: real encoders, and hostile ones.
//!
//! - `encoder`: one that says what a test wants it to
//! - `hostile`: what strangers send
//! - `live`: a live stream of which every picture is accounted for
//! - `publishers`: who may publish, and what they are told
//! - `recordings`: what real encoders sent
//! - `watched`: seen and heard by WHEP

mod encoder;
mod hostile;
mod live;
mod publishers;
mod recordings;
mod watched;

use crate::harness::Server;
use std::net::SocketAddr;

/// Where the server listens for RTMP.
async fn rtmp_address(server: &Server) -> anyhow::Result<SocketAddr> {
    server.listens("\"RTMP\"").await
}
