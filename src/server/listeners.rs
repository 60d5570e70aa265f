//! Every port that the server listens on: the one list for what is printed and what is checked.

use crate::ingest::Port;
use std::fmt;
use std::net::SocketAddr;

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port, and the option that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) purpose: &'static str,
    pub(super) option: &'static str,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

/// All of them. A new port is one row here, or in `ingest::ports`.
pub(super) fn listeners(
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    media: SocketAddr,
    media_tcp: bool,
    ways_in: &[Port],
) -> Vec<Listener> {
    let rows = [
        ("HTTP", "network.http_listen", Protocol::Tcp, http),
        ("HTTPS", "network.https_listen", Protocol::Tcp, https),
        ("media", "network.media_listen", Protocol::Udp, Some(media)),
        ("media", "network.media_listen", Protocol::Tcp, media_tcp.then_some(media)),
    ];
    let listener = |(purpose, option, protocol, address): (_, _, _, Option<SocketAddr>)| {
        Some(Listener { purpose, option, protocol, address: address? })
    };
    let way_in = |port: &Port| Listener {
        purpose: port.purpose,
        option: port.option,
        protocol: if port.is_udp { Protocol::Udp } else { Protocol::Tcp },
        address: port.address,
    };
    rows.into_iter().filter_map(listener).chain(ways_in.iter().map(way_in)).collect()
}

/// As a firewall writes it: `8189/udp`.
impl fmt::Display for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address.port(), self.protocol)
    }
}
