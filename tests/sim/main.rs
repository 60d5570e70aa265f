//! Engines and their clients in virtual time, over networks by seed; no sockets.
//!
//! The world:
//!
//! - `agreed`: the codecs that are agreed, and their payload types
//! - `camera`: what a publisher sends
//! - `client`: one client, its transport and its links
//! - `connection`: a client without UDP
//! - `link`: one direction of a network
//! - `lot`: a publisher of several layers, and viewers behind links of their own
//! - `mill`: a publisher of which layers are made
//! - `oracle`: what must always hold
//! - `picture`: packets of pictures, codec by codec
//! - `plan`: what happens in a world, drawn from a seed
//! - `play`: lets happen what is planned
//! - `publisher`: a simulated publisher above its transport
//! - `scalable`: encodings of which frames can be left out
//! - `tells`: what a viewer tells of the path to it
//! - `told`: what the engines have told of a session
//! - `viewer`: a simulated viewer above its transport
//! - `wire`: what goes over the networks, and what the engines tell
//! - `world`: engines, their clients and the links between
//! - `written`: streams that do not come by WebRTC
//!
//! What it proves:
//!
//! - `backlog`: a viewer whose connection takes less than it is sent
//! - `choosing`: a viewer gets the layer that it wishes to see
//! - `climbing`: a viewer climbs to what its link carries and no further
//! - `ending`: how sessions end, and what stays of them
//! - `fault`: a fault in one session ends that session only
//! - `flood`: a viewer that asks for everything gets little, and the others notice nothing
//! - `following`: a viewer gets the layer that its link carries, as that changes
//! - `handshake`: clients connect over bad links
//! - `instant_start`: a viewer begins with the past and is live soon
//! - `keyframes`: many viewers cost the publisher few keyframes
//! - `left_out`: where a link does not carry all of an encoding, frames are left out
//! - `lip_sync`: sound and picture stay together
//! - `listening`: what viewers are told of the time who listen
//! - `layers`: what publishers do with their layers
//! - `loss`: what retransmission makes of a bad link
//! - `made`: layers that are made here of what a publisher sends
//! - `nonce`: nothing is sealed twice with different bytes
//! - `over_tcp`: viewers without UDP get the layer that their connection carries
//! - `pacing`: a keyframe comes in slices, any other picture at once
//! - `path`: a client's address may change
//! - `reconnect`: viewers outlast their publisher and go on with the next
//! - `seeds`: whatever clients and networks do, what must hold holds
//! - `planted`: the oracle finds faults that are planted
//! - `planted_layers`: the same of layers and estimates
//! - `planted_scalable`: the same of what is left out of an encoding
//! - `sequence`: a viewer's stream has no hole of our making
//! - `shards`: several shards serve as one
//! - `tapped`: whoever reads a stream gets it whole
//! - `written`: streams that do not come by WebRTC

mod agreed;
mod camera;
mod client;
mod connection;
mod link;
mod lot;
mod made;
mod mill;
mod oracle;
mod picture;
mod plan;
mod play;
mod publisher;
mod scalable;
#[path = "../support/sessions.rs"]
mod sessions;
mod tells;
mod told;
mod viewer;
mod wire;
mod world;
mod written;

mod backlog;
mod choosing;
mod climbing;
mod ending;
mod fault;
mod flood;
mod following;
mod handshake;
mod instant_start;
mod keyframes;
mod layers;
mod left_out;
mod lip_sync;
mod listening;
mod loss;
mod nonce;
mod over_tcp;
mod pacing;
mod path;
mod planted;
mod planted_layers;
mod planted_scalable;
mod reconnect;
mod seeds;
mod sequence;
mod shards;
mod tapped;
