//! The invariants of ARCHITECTURE.md, kept by reading the source tree.
//!
//! - `documents`: what README and `docs/` name is there
//! - `layers`: who may use whom, and which outside things
//! - `shape`: lengths, openings, contents pages, fuzz targets, leftovers
//! - `source`: the files, and their code without comments and texts
//!
//! Every rule is a function from a file to its faults, and is itself tried on a bad sample: a
//! rule that finds nothing must be shown to find something.

mod documents;
mod layers;
mod shape;
mod source;

/// Fails with every fault on a line of its own.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
