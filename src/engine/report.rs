//! What is live in one engine, as plain data for operators.

use crate::media::bitrate::Bitrate;
use crate::media::codec::{Format, Kind};
use crate::media::id::{SessionId, StreamName};
use crate::media::layer::{LayerState, SelectedLayer};
use crate::media::protocol::Protocol;
use crate::peer::estimate::Estimate;
use crate::peer::srtp::SrtpProfile;
use std::time::Duration;

/// One stream.
#[derive(Debug, Clone)]
pub struct StreamState {
    /// Its name.
    pub name: StreamName,
    /// How long media has flowed.
    pub age: Duration,
    /// Who sends it.
    pub publisher: Option<SessionState>,
    /// What flows.
    pub tracks: Vec<TrackState>,
    /// Who takes it.
    pub viewers: Vec<ViewerState>,
}

/// What both sides have in common.
#[derive(Debug, Clone)]
pub struct SessionState {
    /// The session.
    pub session: SessionId,
    /// How its media comes or goes.
    pub protocol: Protocol,
    /// How long since it was made.
    pub age: Duration,
    /// How its media is protected, if it comes or goes by WebRTC.
    pub profile: Option<SrtpProfile>,
    /// Round-trip time, where it is known.
    pub round_trip: Option<Duration>,
}

/// One track of a publisher.
#[derive(Debug, Clone)]
pub struct TrackState {
    /// Audio or video.
    pub kind: Kind,
    /// What flows.
    pub format: Format,
    /// Its rate over the last second or so.
    pub bitrate: Bitrate,
    /// Packets received.
    pub packets: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Keyframes seen.
    pub keyframes: u64,
    /// What each layer carries, best first.
    pub layers: Vec<LayerState>,
}

/// One viewer.
#[derive(Debug, Clone)]
pub struct ViewerState {
    /// The session.
    pub session: SessionState,
    /// Share of packets lost in its last report, 0 to 1: the worse of its tracks.
    pub loss: f64,
    /// Datagrams sent.
    pub packets: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Retransmissions sent.
    pub retransmitted: u64,
    /// What flows to it of the picture.
    pub layer: Option<SelectedLayer>,
    /// What its path carries, where that is measured.
    pub estimate: Option<Estimate>,
}

/// What an engine counts, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams taken in.
    pub datagrams: u64,
    /// Datagrams of no session.
    pub strangers: u64,
    /// Media packets of publishers that were new.
    pub packets_in: u64,
    /// Media packets that came twice or too late.
    pub packets_dropped: u64,
    /// Media packets put into the send arena.
    pub packets_out: u64,
    /// Of those, packets of the past for viewers who catch up.
    pub packets_burst: u64,
    /// Viewers who began with a keyframe that was there.
    pub starts_cached: u64,
    /// Viewers for whom a keyframe had to be asked for.
    pub starts_requested: u64,
    /// Retransmissions put into the send arena.
    pub retransmissions: u64,
    /// Retransmissions asked for that could not or must not be sent.
    pub retransmissions_refused: u64,
    /// Packets sent once more to learn what a viewer's path carries.
    pub probe_packets: u64,
    /// Their bytes.
    pub probe_bytes: u64,
    /// Transport-wide feedback of viewers that was read.
    pub feedback_packets: u64,
    /// Keyframe requests sent to publishers.
    pub keyframe_requests: u64,
    /// Batches that went out.
    pub batches: u64,
    /// Datagrams passed on to the shard that owns their session.
    pub datagrams_forwarded: u64,
    /// Datagrams that another shard passed on.
    pub datagrams_handed: u64,
    /// Media packets that another shard handed over.
    pub packets_handed: u64,
    /// Messages to other shards that were lost because too many waited.
    pub messages_dropped: u64,
    /// Viewers that had lost the picture and began again from the keyframe cache.
    pub starts_again: u64,
    /// Changes of a viewer's layer to a better one.
    pub layers_up: u64,
    /// And to a lesser one.
    pub layers_down: u64,
    /// Pictures that were taken away as a viewer's link carried none.
    pub pictures_stopped: u64,
    /// Sessions ended by a fault in code.
    pub faults: u64,
}
