//! Integration tests: one binary, real sockets on loopback.
//!
//! - `tidy`: the invariants of ARCHITECTURE.md

mod tidy;
