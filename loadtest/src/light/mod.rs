//! A small WebRTC client of our own, under full control of its owner.
//!
//! It does what the server's protocols need and no more: one path over UDP or TCP to an ICE-lite
//! server, DTLS in either role, SRTP. Everything it sends can be chosen, sealed, mutilated or
//! withheld, which no complete stack allows, and thousands of it fit in one process.
//!
//! - `agent`: the endpoint, sans-IO
//! - `answer`: what is read from the server's SDP
//! - `burst`: several datagrams by one system call
//! - `dtls`: the association, with retransmission that survives loss
//! - `feedback`: what a viewer tells of how packets arrive
//! - `identity`: certificate and fingerprint
//! - `offer`: the SDP it sends
//! - `peer`: the agent with a socket and a task
//! - `stun`: the connectivity checks
//! - `wire`: UDP, or a TCP connection

mod agent;
mod answer;
mod burst;
mod dtls;
mod feedback;
mod identity;
mod offer;
mod peer;
mod stun;
mod wire;

pub use agent::{Agent, AgentConfig, AgentCounters, Event, MediaKeys};
pub use answer::{AgreedPayload, AgreedSection, Answer, AnswerError};
pub use dtls::{DtlsRole, SrtpProfile};
pub use feedback::{Feedback, TransportFeedback};
pub use identity::Identity;
#[cfg(test)]
pub(crate) use identity::crypto_provider;
pub use offer::{
    ABS_SEND_TIME, Direction, MID, Offer, PUBLISHED_SSRCS, Payload, REPAIRED_RID, RID, Section,
    Setup, TRANSPORT_CC, VIDEO_FEEDBACK, publish_audio, publish_video,
};
pub use peer::{Arrival, LightError, LightOptions, LightPeer, LightSender};
pub use wire::Transport;
