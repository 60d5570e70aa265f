//! One table of all metrics: name, kind and help. Where a value comes from is `server`'s business.

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The name, unit last.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Row {
    Row { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Row {
    Row { name, kind: Kind::Gauge, help }
}

/// Sessions there are, by role and state.
pub const SESSIONS: Row = gauge("millrace_sessions", "Sessions there are, by role and state.");
/// Streams that are live.
pub const STREAMS: Row = gauge("millrace_streams", "Streams that are live.");
/// Sessions that ended, by role and reason.
pub const SESSIONS_ENDED: Row =
    counter("millrace_sessions_ended_total", "Sessions that ended, by role and reason.");
/// Offers that got no session, by reason.
pub const SESSIONS_REFUSED: Row =
    counter("millrace_sessions_refused_total", "Offers that got no session, by reason.");
/// Sessions that got ready for media, by role and SRTP profile.
pub const SESSIONS_CONNECTED: Row = counter(
    "millrace_sessions_connected_total",
    "Sessions that got ready for media, by role and SRTP profile.",
);
/// Datagrams received on the media port.
pub const DATAGRAMS_IN: Row =
    counter("millrace_datagrams_received_total", "Datagrams received on the media port.");
/// Datagrams that belong to no session.
pub const STRANGERS: Row =
    counter("millrace_datagrams_unknown_total", "Datagrams that belong to no session.");
/// Media packets received from publishers that were new.
pub const PACKETS_IN: Row = counter(
    "millrace_packets_received_total",
    "Media packets received from publishers that were new.",
);
/// Media packets received twice or too late to be of use.
pub const PACKETS_DROPPED: Row = counter(
    "millrace_packets_dropped_total",
    "Media packets received twice or too late to be of use.",
);
/// Media packets put on their way to viewers, retransmissions not counted.
pub const PACKETS_OUT: Row = counter(
    "millrace_packets_forwarded_total",
    "Media packets put on their way to viewers, retransmissions not counted.",
);
/// Of those, packets from before the viewer came.
pub const PACKETS_BURST: Row = counter(
    "millrace_packets_burst_total",
    "Of those, packets from before the viewer came, sent so that it starts at once.",
);
/// Viewers who began with a keyframe that was there.
pub const STARTS_CACHED: Row = counter(
    "millrace_starts_cached_total",
    "Viewers of video who began with the newest keyframe, which the server had kept.",
);
/// Viewers for whom a keyframe was wanted.
pub const STARTS_REQUESTED: Row = counter(
    "millrace_starts_requested_total",
    "Viewers of video who had to wait for a keyframe: none was kept.",
);
/// Packets sent to viewers again.
pub const RETRANSMISSIONS: Row =
    counter("millrace_retransmissions_total", "Packets sent to viewers again.");
/// Packets a viewer asked for again and did not get: too old or over its share.
pub const RETRANSMISSIONS_REFUSED: Row = counter(
    "millrace_retransmissions_refused_total",
    "Packets a viewer asked for again and did not get: too old or over its share.",
);
/// Packets sent once more to learn what a viewer's path carries.
pub const PROBE_PACKETS: Row = counter(
    "millrace_probe_packets_total",
    "Packets sent once more to learn whether a viewer's path carries a better layer.",
);
/// Bytes of those.
pub const PROBE_BYTES: Row = counter(
    "millrace_probe_bytes_total",
    "Bytes of packets sent once more to learn whether a viewer's path carries a better layer.",
);
/// Feedback on single packets that viewers sent.
pub const FEEDBACK_PACKETS: Row = counter(
    "millrace_feedback_packets_total",
    "Packets of transport-wide feedback from viewers that were read.",
);
/// Keyframe requests sent to publishers.
pub const KEYFRAME_REQUESTS: Row =
    counter("millrace_keyframe_requests_total", "Keyframe requests sent to publishers.");
/// Batches of packets that went out to the viewers of a stream.
pub const BATCHES: Row = counter(
    "millrace_batches_total",
    "Batches of packets that went out to the viewers of a stream.",
);
/// Datagrams the kernel took.
pub const DATAGRAMS_OUT: Row =
    counter("millrace_datagrams_sent_total", "Datagrams the kernel took.");
/// UDP messages the kernel took; one carries up to 64 datagrams (GSO).
pub const MESSAGES_OUT: Row = counter(
    "millrace_messages_sent_total",
    "UDP messages the kernel took; one carries up to 64 datagrams (GSO).",
);
/// Bytes of datagrams the kernel took.
pub const BYTES_OUT: Row =
    counter("millrace_bytes_sent_total", "Bytes of datagrams the kernel took.");
/// System calls made to send.
pub const SYSTEM_CALLS: Row = counter("millrace_send_calls_total", "System calls made to send.");
/// Datagrams the kernel did not take.
pub const SEND_DROPPED: Row =
    counter("millrace_datagrams_unsent_total", "Datagrams the kernel did not take.");
/// Sessions there are, by the shard that owns them.
pub const SHARD_SESSIONS: Row =
    gauge("millrace_shard_sessions", "Sessions there are, by the shard that owns them.");
/// Datagrams passed on to the shard that owns their session.
pub const DATAGRAMS_CROSSED: Row = counter(
    "millrace_datagrams_crossed_total",
    "Datagrams passed on to the shard that owns their session.",
);
/// Media packets taken over from the shard that has their publisher.
pub const PACKETS_CROSSED: Row = counter(
    "millrace_packets_crossed_total",
    "Media packets taken over from the shard that has their publisher.",
);
/// Packets and datagrams between shards that found no room.
pub const CROSSING_DROPPED: Row = counter(
    "millrace_crossing_dropped_total",
    "Packets and datagrams between shards that found no room.",
);
/// Datagrams of handshakes that found too many waiting.
pub const HANDSHAKES_DROPPED: Row = counter(
    "millrace_handshake_datagrams_dropped_total",
    "Datagrams of handshakes that found too many waiting.",
);
/// The share of a shard's time that serving its viewers took in the last second.
pub const SHARD_LOAD: Row = gauge(
    "millrace_shard_load_ratio",
    "The share of a shard's time that serving its viewers took in the last second.",
);
/// How long after its oldest packet came a batch had been sent to all viewers, where that lasts.
pub const SHARD_LATENESS: Row = gauge(
    "millrace_shard_lateness_seconds",
    "How long after its oldest packet came a batch had been sent to all viewers, where that lasts.",
);
/// Whether new viewers are taken: 1, or 0 while they are refused for want of capacity.
pub const ADMISSION_OPEN: Row = gauge(
    "millrace_admission_open",
    "Whether new viewers are taken: 1, or 0 while they are refused for want of capacity.",
);
/// Resident memory of the process.
pub const MEMORY: Row = gauge("millrace_memory_bytes", "Resident memory of the process.");
/// The resident memory beyond which new viewers are refused.
pub const MEMORY_MAX: Row =
    gauge("millrace_memory_max_bytes", "The resident memory beyond which new viewers are refused.");
/// Datagrams from clients that found the receive buffer full.
pub const RECEIVE_DROPPED: Row = counter(
    "millrace_datagrams_overflowed_total",
    "Datagrams from clients that found the receive buffer full.",
);
/// Viewers that lost the picture of a publisher that ignores requests and began again.
pub const STARTS_AGAIN: Row = counter(
    "millrace_starts_again_total",
    "Viewers that lost the picture of a publisher that ignores requests and began again.",
);
/// Changes of the layers that viewers get.
pub const LAYER_SWITCHES: Row = counter(
    "millrace_layer_switches_total",
    "Changes of the layer of the picture that a viewer gets, by direction: up or down.",
);
/// Pictures that were taken away for the sake of the sound.
pub const PICTURES_STOPPED: Row = counter(
    "millrace_pictures_stopped_total",
    "Pictures taken away from viewers whose link carried not even the smallest layer.",
);
/// TCP connections that carry media.
pub const TCP_CONNECTIONS: Row =
    gauge("millrace_tcp_connections", "TCP connections for media that are open.");
/// Datagrams lost as a client's TCP connection took less than it was sent.
pub const TCP_DROPPED: Row = counter(
    "millrace_tcp_datagrams_dropped_total",
    "Datagrams lost as a client's TCP connection took less than it was sent.",
);
/// Sessions ended by a fault in code.
pub const FAULTS: Row = counter("millrace_faults_total", "Sessions ended by a fault in code.");

/// Round-trip time of a publisher's link, where its protocol tells.
pub const LINK_ROUND_TRIP: Row = gauge(
    "millrace_link_round_trip_seconds",
    "Round-trip time of a publisher's link, where its protocol tells (SRT).",
);
/// How long a publisher's link waits for lost packets.
pub const LINK_LATENCY: Row = gauge(
    "millrace_link_latency_seconds",
    "The agreed latency of a publisher's link: so long packets wait for lost ones (SRT).",
);
/// Packets received on a publisher's link.
pub const LINK_PACKETS: Row =
    counter("millrace_link_packets_total", "Packets received on a publisher's link (SRT).");
/// Packets missing on a publisher's link.
pub const LINK_LOST: Row = counter(
    "millrace_link_lost_packets_total",
    "Packets missing on a publisher's link when others came after them (SRT).",
);
/// Packets that came again on a publisher's link.
pub const LINK_RETRANSMITTED: Row = counter(
    "millrace_link_retransmitted_packets_total",
    "Packets that came again on a publisher's link (SRT).",
);
/// Packets given up on a publisher's link.
pub const LINK_DROPPED: Row = counter(
    "millrace_link_dropped_packets_total",
    "Packets of a publisher's link that came too late, or never (SRT).",
);
/// Gaps in the transport stream on a publisher's link.
pub const LINK_GAPS: Row = counter(
    "millrace_link_continuity_errors_total",
    "Gaps in the transport stream that a publisher's link brought (SRT).",
);
/// What those gaps cost.
pub const LINK_DAMAGED: Row = counter(
    "millrace_link_damaged_units_total",
    "Pictures and pieces of sound that gaps in the transport stream cost (SRT).",
);
/// Frames of publishers that do not come by WebRTC.
pub const FRAMES_IN: Row = counter(
    "millrace_frames_total",
    "Frames of publishers that do not come by WebRTC, and those left out, by reason.",
);
/// Processes that transcode sound.
pub const TRANSCODE_WORKERS: Row =
    gauge("millrace_transcode_workers", "Worker processes that transcode the sound of a stream.");
/// Processes that were started anew.
pub const TRANSCODE_RESTARTS: Row = counter(
    "millrace_transcode_restarts_total",
    "Worker processes that died, failed or hung, and were started again.",
);
/// Frames that no worker took.
pub const TRANSCODE_DROPPED: Row = counter(
    "millrace_transcode_frames_dropped_total",
    "Frames of sound or picture that no worker process took in time.",
);
/// Processes that make layers.
pub const LADDER_WORKERS: Row = gauge(
    "millrace_ladder_workers",
    "Worker processes that make layers of the picture of a stream.",
);
/// What waits for their decoders.
pub const LADDER_WAITING: Row = gauge(
    "millrace_ladder_waiting_frames",
    "Frames that wait for the decoder of the made layers, by stream.",
);
/// What their workers left out.
pub const LADDER_DROPPED: Row = counter(
    "millrace_ladder_frames_dropped_total",
    "Frames that a worker left out since it was too slow for them, by stream.",
);
/// What they decoded and did not encode.
pub const LADDER_SKIPPED: Row = counter(
    "millrace_ladder_pictures_skipped_total",
    "Pictures that a worker did not encode since it was too slow for them, by stream and layer.",
);
/// Whether they keep up.
pub const LADDER_SPEED: Row = gauge(
    "millrace_ladder_speed_ratio",
    "Time of the picture that its made layers' worker decodes in a second, by stream: 1 keeps up.",
);
/// What decoding takes.
pub const LADDER_DECODE: Row = gauge(
    "millrace_ladder_decode_seconds",
    "How long a frame takes to decode for made layers, by stream.",
);
/// What encoding takes.
pub const LADDER_ENCODE: Row = gauge(
    "millrace_ladder_encode_seconds",
    "How long a picture takes to scale and encode, by stream and layer.",
);
/// Streams that are packaged for HLS.
pub const HLS_STREAMS: Row = gauge("millrace_hls_streams", "Streams that are packaged for HLS.");
/// Media held for HLS.
pub const HLS_HELD: Row = gauge("millrace_hls_held_bytes", "Media held for HLS, in bytes.");
/// Requests that wait.
pub const HLS_WAITING: Row = gauge(
    "millrace_hls_waiting",
    "Requests that wait for the next part or playlist: about as many as there are players.",
);
/// Times that a stream began to be packaged.
pub const HLS_BEGUN: Row =
    counter("millrace_hls_begun_total", "Times that a stream began to be packaged for HLS.");
/// Requests that waited in vain.
pub const HLS_NOT_IN_TIME: Row = counter(
    "millrace_hls_not_in_time_total",
    "Requests of HLS players that waited in vain for what comes next.",
);
/// Attempts to make a thumbnail, by result.
pub const THUMBNAILS: Row = counter(
    "millrace_thumbnails_total",
    "Attempts to make a thumbnail, by result: made, failed, or refused as too many were asked for.",
);

/// Every row.
pub const ALL: &[Row] = &[
    SESSIONS,
    STREAMS,
    SESSIONS_ENDED,
    SESSIONS_REFUSED,
    SESSIONS_CONNECTED,
    DATAGRAMS_IN,
    STRANGERS,
    PACKETS_IN,
    PACKETS_DROPPED,
    PACKETS_OUT,
    PACKETS_BURST,
    STARTS_CACHED,
    STARTS_REQUESTED,
    RETRANSMISSIONS,
    RETRANSMISSIONS_REFUSED,
    KEYFRAME_REQUESTS,
    BATCHES,
    DATAGRAMS_OUT,
    MESSAGES_OUT,
    BYTES_OUT,
    SYSTEM_CALLS,
    SEND_DROPPED,
    SHARD_SESSIONS,
    DATAGRAMS_CROSSED,
    PACKETS_CROSSED,
    CROSSING_DROPPED,
    HANDSHAKES_DROPPED,
    RECEIVE_DROPPED,
    SHARD_LOAD,
    SHARD_LATENESS,
    ADMISSION_OPEN,
    MEMORY,
    MEMORY_MAX,
    STARTS_AGAIN,
    LAYER_SWITCHES,
    PICTURES_STOPPED,
    TCP_CONNECTIONS,
    TCP_DROPPED,
    FAULTS,
    LINK_ROUND_TRIP,
    LINK_LATENCY,
    LINK_PACKETS,
    LINK_LOST,
    LINK_RETRANSMITTED,
    LINK_DROPPED,
    LINK_GAPS,
    LINK_DAMAGED,
    FRAMES_IN,
    TRANSCODE_WORKERS,
    TRANSCODE_RESTARTS,
    TRANSCODE_DROPPED,
    LADDER_WORKERS,
    LADDER_WAITING,
    LADDER_DROPPED,
    LADDER_SKIPPED,
    LADDER_SPEED,
    LADDER_DECODE,
    LADDER_ENCODE,
    THUMBNAILS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_one_system_and_counters_end_in_total() {
        let mut names: Vec<_> = ALL.iter().map(|row| row.name).collect();
        for row in ALL {
            assert!(row.name.starts_with("millrace_"), "{}", row.name);
            let counts = row.name.ends_with("_total");
            assert_eq!(counts, row.kind == Kind::Counter, "{}", row.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
