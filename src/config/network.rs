//! `[network]`: ports, announced addresses, TLS, ICE servers.

use super::address::{Listen, PublicAddresses};
use super::reader::Reader;
use std::fmt;
use std::path::PathBuf;

/// Where the server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// WHIP, WHEP, API and pages without TLS.
    pub http_listen: Listen,
    /// The same with TLS: browsers give a page a camera only there (or on localhost).
    pub https_listen: Listen,
    /// All media of all sessions: one UDP port, and the TCP port of the same number.
    pub media_listen: Listen,
    /// Whether media is served over TCP too, for clients whose networks have no UDP.
    pub media_tcp: bool,
    /// The addresses that clients are told.
    pub public_addresses: PublicAddresses,
    /// The operator's certificate; without one the first start makes a self-signed one.
    pub tls: Option<Tls>,
    /// STUN and TURN servers, handed to clients as `Link` headers (RFC 9725 §4.6).
    pub ice_servers: Vec<IceServer>,
    /// Receive buffer of each media socket. A shard that is busy for 20 ms at 1 Gb/s must not
    /// lose its publisher's packets: that is 2.5 MB, doubled for the kernel's own bookkeeping.
    pub udp_receive_buffer_bytes: usize,
    /// Send buffer of each media socket: one keyframe to a thousand viewers waits here.
    pub udp_send_buffer_bytes: usize,
}

/// A certificate with its key, as PEM files; both are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those that lead to its root.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// A server that helps clients through NATs and firewalls.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` (RFC 7064, RFC 7065).
    pub url: String,
    /// Name and password, where the server wants them.
    pub credentials: Option<(String, String)>,
}

impl IceServer {
    /// Reads `URL` or `URL USERNAME CREDENTIAL`. A TURN server without credentials serves nobody.
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (url, credentials) = match words[..] {
            [url] if url.starts_with("stun:") || url.starts_with("stuns:") => (url, None),
            [url, name, password] if url.starts_with("turn:") || url.starts_with("turns:") => {
                (url, Some((name.to_owned(), password.to_owned())))
            }
            _ => return None,
        };
        // What would end the header field (RFC 8288 §3) cannot be part of it.
        let fits =
            |word: &&str| word.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\".contains(&b));
        let host = url.split_once(':').is_some_and(|(_, host)| !host.is_empty());
        (host && words.iter().all(fits)).then(|| Self { url: url.to_owned(), credentials })
    }
}

/// Leaves the password out.
impl fmt::Debug for IceServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.url)
    }
}

impl Network {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let file = |text: &str| Some(PathBuf::from(text));
        let certificate = "a PEM file, or nothing for a certificate of our own";
        let key = "the PEM file with the certificate's private key";
        let certificate_file = reader.text("network.tls_certificate_file", "", certificate, file);
        let key_file = reader.text("network.tls_key_file", "", key, file);
        let tls = match (certificate_file.as_os_str().is_empty(), key_file.as_os_str().is_empty()) {
            (true, true) => None,
            (false, false) => Some(Tls { certificate_file, key_file }),
            _ => {
                reader.conflict(
                    "network.tls_certificate_file and network.tls_key_file belong together: \
                     set both, or neither",
                );
                None
            }
        };
        let listen = |reader: &mut Reader, key, default| {
            reader.text(key, default, Listen::TAKES, Listen::parse)
        };
        let network = Self {
            http_listen: listen(reader, "network.http_listen", "*:8080"),
            https_listen: listen(reader, "network.https_listen", "*:8443"),
            media_listen: reader.text("network.media_listen", "*:8189", Listen::TAKES_ON, |text| {
                Listen::parse(text).filter(|listen| *listen != Listen::Off)
            }),
            media_tcp: reader.text("network.media_tcp", "on", "on or off", |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            }),
            public_addresses: reader.list(
                "network.public_addresses",
                &["auto"],
                "a list of up to 16 addresses such as [\"203.0.113.7\"], of which one may be auto",
                PublicAddresses::parse,
            ),
            tls,
            ice_servers: reader.list(
                "network.ice_servers",
                &[],
                "a list of \"stun:host:port\" and \"turn:host:port username password\"",
                |items| items.iter().map(|item| IceServer::parse(item)).collect(),
            ),
            udp_receive_buffer_bytes: reader.number(
                "network.udp_receive_buffer_bytes",
                5_000_000,
                65_536..=268_435_456,
            ),
            udp_send_buffer_bytes: reader.number(
                "network.udp_send_buffer_bytes",
                5_000_000,
                65_536..=268_435_456,
            ),
        };
        if network.http_listen == Listen::Off && network.https_listen == Listen::Off {
            reader.conflict(
                "network.http_listen and network.https_listen are both off: \
                 nobody could publish or watch",
            );
        }
        network
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_servers_are_stun_alone_or_turn_with_credentials() {
        let turn = IceServer::parse("turn:turn.example:3478?transport=udp ana pass").expect("good");
        assert_eq!(turn.credentials, Some(("ana".to_owned(), "pass".to_owned())));
        assert!(IceServer::parse("stun:stun.example").is_some());
        for bad in ["", "stun:", "http://x", "turn:x", "turn:x ana", "stun:x> y", "stun:\"x"] {
            assert_eq!(IceServer::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let turn = IceServer::parse("turn:turn.example ana pass").expect("good");
        assert!(!format!("{turn:?}").contains("pass"));
    }
}
