//! RTMP and RTMPS in: real encoders, and hostile ones.
//!
//! - `encoder`: one that says what a test wants it to
//! - `hostile`: what strangers send
//! - `live`: a live stream of which every picture is accounted for
//! - `publishers`: who may publish, and what they are told
//! - `recordings`: what real encoders sent

mod encoder;
mod hostile;
mod live;
mod publishers;
mod recordings;

use crate::harness::Server;
use anyhow::Context as _;
use std::net::SocketAddr;

/// Where the server listens for RTMP.
async fn rtmp_address(server: &Server) -> anyhow::Result<SocketAddr> {
    address_of(server, "\"RTMP\"").await
}

/// Where it listens for this.
async fn address_of(server: &Server, purpose: &str) -> anyhow::Result<SocketAddr> {
    let line = server.said(&["listening", purpose]).await?;
    let (_, rest) = line.split_once("address=").context("an address")?;
    Ok(rest.split_whitespace().next().context("an address")?.parse()?)
}
