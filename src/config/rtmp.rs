//! `[rtmp]`: RTMP and RTMPS.

use super::address::Listen;
use super::reader::Reader;
use std::time::Duration;

/// Settings of RTMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtmp {
    /// Where encoders publish.
    pub listen: Listen,
    /// The same with TLS, with the certificate of HTTPS.
    pub tls_listen: Listen,
    /// How long an encoder may say nothing. Encoders send sound all the time, and answer pings.
    pub read_timeout: Duration,
    /// From the connection to `publish`, which takes four round trips.
    pub publish_timeout: Duration,
    /// Connections that do not publish yet: each costs memory, and anybody can make them.
    pub half_open_max: usize,
    /// The same from one IPv4 address or one IPv6 /64.
    pub half_open_per_address_max: usize,
}

impl Rtmp {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.text("rtmp.listen", "*:1935", Listen::TAKES, Listen::parse),
            tls_listen: reader.text("rtmp.tls_listen", "*:1936", Listen::TAKES, Listen::parse),
            read_timeout: reader.seconds("rtmp.read_timeout_s", 10, 1..=120),
            publish_timeout: reader.seconds("rtmp.publish_timeout_s", 10, 1..=120),
            half_open_max: reader.number("rtmp.half_open_max", 1024, 1..=100_000),
            half_open_per_address_max: reader.number(
                "rtmp.half_open_per_address_max",
                128,
                1..=100_000,
            ),
        }
    }
}
