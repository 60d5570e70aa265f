//! LL-HLS from outside (draft-pantos-hls-rfc8216bis-16): what thousands of players ask for, and
//! whether what a server gives them keeps to the rules.
//!
//! - `check`: whether a server keeps to the rules
//! - `crowd`: players by the thousand
//! - `mp4`: what is in the files
//! - `playlist`: a strict reader

pub mod check;
pub mod crowd;
pub mod mp4;
pub mod playlist;

use std::io::Read as _;

/// The longest text that is unpacked.
const TEXT_MAX: u64 = 4 << 20;

/// Unpacks what came with `Content-Encoding: gzip` (RFC 1952).
///
/// # Errors
///
/// When it is no gzip.
pub fn gunzip(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed).take(TEXT_MAX).read_to_end(&mut text)?;
    Ok(text)
}
