//! The vocabulary: plain data, no behaviour beyond arithmetic.
//!
//! - `arena`: the send arena, where protected packets wait for the socket
//! - `bitrate`: bits per second as a type
//! - `codec`: the codecs forwarded here, and one negotiated format
//! - `every`: what is done now and then
//! - `frame`: one access unit or audio frame, for ways in and out that do not speak RTP
//! - `id`: stream, session and layer names as distinct types
//! - `layer`: which layers a track has, and what a packet is within its own
//! - `meter`: the rate of the last second, or of another while
//! - `packet`: one RTP packet with its shared payload, and the pool that recycles them
//! - `patch`: how a packet goes to one viewer otherwise than it came
//! - `protocol`: how a session's media comes in or goes out
//! - `sample`: the same on a common time line, for ways out that are packaged
//! - `spacing`: how far apart keyframes are
//! - `time`: RTP ticks, extended sequence numbers, wall time

pub mod arena;
pub mod bitrate;
pub mod codec;
pub mod every;
pub mod frame;
pub mod id;
pub mod layer;
pub mod meter;
pub mod packet;
pub mod patch;
pub mod protocol;
pub mod sample;
pub mod spacing;
pub mod time;
