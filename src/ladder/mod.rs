//! Layers made of a picture that comes in one.
//!
//! - `plan`: which layers, and at which rates

mod plan;
