//! Integration tests: one binary, real sockets on loopback.
//!
//! - `shard`: a whole shard, seen from outside
//! - `tidy`: the invariants of ARCHITECTURE.md

mod shard;
mod tidy;
