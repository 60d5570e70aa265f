//! A bad network for real clients: a UDP relay before the server's media port, and an HTTP front
//! that makes clients send their media to the relay.
//!
//! - `front`: passes HTTP through and rewrites the candidates of answers
//! - `link`: what one way of the path does to datagrams, pure
//! - `relay`: the sockets, one to the server for each client
//! - `script`: the settings, and when they change

mod front;
mod link;
mod relay;
mod script;

pub use front::{Front, rewrite_candidates};
pub use link::{Link, LinkSettings};
pub use relay::{Relay, RelayCounters, RelayOptions};
pub use script::{Change, Script, ScriptError, Step};

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}
