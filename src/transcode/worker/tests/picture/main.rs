//! The worker for pictures by itself: what it makes of streams of all codecs, and what it does
//! where it is given nonsense or too much.

#[path = "../../../ipc/mod.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is public in the server; sound is in it too")]
mod ipc;
mod layers;
mod source;
mod still;
mod stress;
mod talk;
