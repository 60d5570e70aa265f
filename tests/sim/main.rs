//! Engines and their clients in virtual time, over networks by seed; no sockets.
//!
//! The world:
//!
//! - `link`: one direction of a network
//! - `oracle`: what must always hold
//! - `publisher`: a simulated publisher above its transport
//! - `told`: what the engines have told of a session
//! - `viewer`: a simulated viewer above its transport
//! - `world`: an engine, its clients and the links between
//!
//! What it proves:
//!
//! - `backlog`: a viewer whose connection takes less than it is sent
//! - `ending`: how sessions end, and what stays of them
//! - `fault`: a fault in one session ends that session only
//! - `flood`: a viewer that asks for everything gets little, and the others notice nothing
//! - `handshake`: clients connect over bad links
//! - `instant_start`: a viewer begins with the past and is live soon
//! - `keyframes`: many viewers cost the publisher few keyframes
//! - `lip_sync`: sound and picture stay together
//! - `loss`: what retransmission makes of a bad link
//! - `nonce`: nothing is sealed twice with different bytes
//! - `pacing`: a keyframe comes in slices, any other picture at once
//! - `path`: a client's address may change
//! - `reconnect`: viewers outlast their publisher and go on with the next
//! - `sequence`: a viewer's stream has no hole of our making
//! - `shards`: several shards serve as one

mod link;
mod oracle;
mod publisher;
#[path = "../support/sessions.rs"]
mod sessions;
mod told;
mod viewer;
mod world;

mod backlog;
mod ending;
mod fault;
mod flood;
mod handshake;
mod instant_start;
mod keyframes;
mod lip_sync;
mod loss;
mod nonce;
mod pacing;
mod path;
mod reconnect;
mod sequence;
mod shards;
