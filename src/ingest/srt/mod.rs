//! SRT in: MPEG-TS over the SRT protocol (draft-sharabayko-srt), by libsrt.
//!
//! - `libsrt`: the library behind a safe face; all `unsafe` is there
//! - `mpegts`: transport stream -> frames
//! - `stream_id`: what a caller wants

mod libsrt;
pub mod mpegts;
pub mod stream_id;
