//! The shell: one thread per shard, with an engine and a socket of the shared UDP port.
//!
//! - `socket`: batched UDP

pub mod socket;
