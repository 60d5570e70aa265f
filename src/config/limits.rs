//! `[limits]`: how many, how large, how long. Each protects the rest from one greedy client.

use super::reader::Reader;
use std::time::Duration;

/// What the server takes on before it refuses more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Publishers and viewers together; more get 503.
    pub sessions_max: usize,
    /// Streams that are live at once.
    pub streams_max: usize,
    /// Viewers of one stream.
    pub viewers_per_stream_max: usize,
    /// Sessions that were answered and have not connected yet: each costs memory until its
    /// handshake is done or timed out, and anybody can make them.
    pub pending_sessions_max: usize,
    /// The share of a media thread's time that serving viewers may take, in percent, before new
    /// ones get 503. The rest is for keyframes, handshakes and whatever else the machine does.
    pub load_max_percent: u32,
    /// How late packets may leave before new viewers get 503. A keyframe of 50 packets takes 70
    /// to 90 ms to reach 1,500 viewers from one core.
    pub lateness_max: Duration,
    /// The memory that the process may hold before new viewers get 503. 0 is 80 % of what the
    /// machine has, or of the limit of the process' control group where that is less.
    pub memory_max_bytes: u64,
    /// TCP connections for media that are open at once. Each is a descriptor, and 256 KiB where its
    /// client takes less than it is sent.
    pub media_tcp_connections_max: usize,
    /// HTTP connections that are open at once.
    pub http_connections_max: usize,
    /// The same from one IPv4 address or one IPv6 /64: nobody alone takes all places. A company
    /// behind a NAT is one address, and each of its viewers may hold a connection.
    pub http_connections_per_address_max: usize,
    /// Viewers who listen to events besides the media. Each holds a connection: some of those must
    /// stay free for who comes.
    pub event_streams_max: usize,
    /// The longest body of an HTTP request; real offers have 2 to 12 kB.
    pub http_body_max_bytes: usize,
    /// How long a request may take to come in, and to be answered.
    pub http_request_timeout: Duration,
    /// From the answer to the first media key: ICE and DTLS must be done by then.
    pub handshake_timeout: Duration,
    /// Without a sign of life for so long, a session ends (RFC 7675 §5.1). Firefox checks only
    /// every 4 to 5 s, so less than 30 s would end sessions on a bad link.
    pub consent_timeout: Duration,
    /// A publisher that sends no media for so long ends; its viewers wait for the grace time.
    pub publisher_silence_timeout: Duration,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            sessions_max: reader.number("limits.sessions_max", 10_000, 1..=1_000_000),
            streams_max: reader.number("limits.streams_max", 1000, 1..=100_000),
            viewers_per_stream_max: reader.number(
                "limits.viewers_per_stream_max",
                10_000,
                1..=1_000_000,
            ),
            pending_sessions_max: reader.number("limits.pending_sessions_max", 1000, 1..=100_000),
            load_max_percent: reader.number("limits.load_max_percent", 85, 1..=100),
            lateness_max: reader.milliseconds("limits.lateness_max_ms", 120, 10..=10_000),
            memory_max_bytes: reader.number("limits.memory_max_bytes", 0, 0..=1 << 50),
            media_tcp_connections_max: reader.number(
                "limits.media_tcp_connections_max",
                4000,
                1..=100_000,
            ),
            http_connections_max: reader.number("limits.http_connections_max", 20_000, 1..=200_000),
            http_connections_per_address_max: reader.number(
                "limits.http_connections_per_address_max",
                1000,
                1..=100_000,
            ),
            event_streams_max: reader.number("limits.event_streams_max", 2000, 0..=100_000),
            http_body_max_bytes: reader.number(
                "limits.http_body_max_bytes",
                65_536,
                4096..=1_048_576,
            ),
            http_request_timeout: reader.seconds("limits.http_request_timeout_s", 10, 1..=120),
            handshake_timeout: reader.seconds("limits.handshake_timeout_s", 10, 1..=60),
            consent_timeout: reader.seconds("limits.consent_timeout_s", 30, 5..=300),
            publisher_silence_timeout: reader.seconds(
                "limits.publisher_silence_timeout_s",
                30,
                1..=3600,
            ),
        }
    }
}
