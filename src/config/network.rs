//! `[network]`: ports, announced addresses, TLS, ICE servers, proxies.

use super::acme::{self, Acme};
use super::address::{Listen, PublicAddresses};
use super::reader::Reader;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
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
    /// Asked once at the start for our outside address, where `auto` finds no public one.
    pub stun_server: Option<StunServer>,
    /// The name that clients reach this server by.
    pub domain: Option<String>,
    /// Who certifies that name, where the operator gives no certificate.
    pub acme: Acme,
    /// The operator's certificate; without one and without a name the first start makes one.
    pub tls: Option<Tls>,
    /// STUN and TURN servers, handed to clients as `Link` headers (RFC 9725 §4.6).
    pub ice_servers: Vec<IceServer>,
    /// Whose `X-Forwarded-For` and `Forwarded` are believed. Nobody's by default: whoever else may
    /// write them could take any address.
    pub trusted_proxies: Vec<IpNet>,
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

impl Tls {
    fn read(reader: &mut Reader) -> Option<Self> {
        let file = |text: &str| Some(PathBuf::from(text));
        let certificate = "a PEM file, or nothing for a certificate of our own";
        let key = "the PEM file with the certificate's private key";
        let certificate_file = reader.text("network.tls_certificate_file", "", certificate, file);
        let key_file = reader.text("network.tls_key_file", "", key, file);
        match (certificate_file.as_os_str().is_empty(), key_file.as_os_str().is_empty()) {
            (true, true) => None,
            (false, false) => Some(Self { certificate_file, key_file }),
            _ => {
                reader.conflict(
                    "network.tls_certificate_file and network.tls_key_file belong together: \
                     set both, or neither",
                );
                None
            }
        }
    }
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

/// A server that tells us how the outside sees us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// Its name or address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

impl StunServer {
    /// RFC 8489 §19.
    const PORT: u16 = 3478;

    /// Reads `stun:host` or `stun:host:port` (RFC 7064), or the same without `stun:`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("stun:").unwrap_or(text);
        let bare_ipv6 = text.parse::<Ipv6Addr>().is_ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !bare_ipv6 && !text.ends_with(']') => (host, port.parse().ok()?),
            _ => (text, Self::PORT),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_good = match bracketed {
            Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
            None => bare_ipv6 || is_host_name(host),
        };
        let host = bracketed.unwrap_or(host).to_owned();
        (is_good && port != 0).then_some(Self { host, port })
    }
}

/// Written so that it can be given again.
impl fmt::Display for StunServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "stun:[{}]:{}", self.host, self.port)
        } else {
            write!(out, "stun:{}:{}", self.host, self.port)
        }
    }
}

fn is_host_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(fits)
}

/// Reads a network such as `10.0.0.0/8`, or one address.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Network {
    pub(super) fn read(reader: &mut Reader) -> Self {
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
            stun_server: reader.text(
                "network.stun_server",
                "",
                "stun:host or stun:host:port, or nothing",
                |text| match text {
                    "" => Some(None),
                    text => StunServer::parse(text).map(Some),
                },
            ),
            domain: acme::read_domain(reader),
            acme: Acme::read(reader),
            tls: Tls::read(reader),
            ice_servers: reader.list(
                "network.ice_servers",
                &[],
                "a list of \"stun:host:port\" and \"turn:host:port username password\"",
                |items| items.iter().map(|item| IceServer::parse(item)).collect(),
            ),
            trusted_proxies: reader.list(
                "network.trusted_proxies",
                &[],
                "a list of addresses and networks such as [\"127.0.0.1\", \"10.0.0.0/8\"]",
                |items| items.iter().map(|item| network(item)).collect(),
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
        if network.domain.is_some() && network.https_listen == Listen::Off {
            reader.conflict(
                "network.domain needs network.https_listen, by which its certificate comes: set \
                 both, or neither",
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
    fn a_stun_server_has_a_port_where_none_is_given() {
        for (text, host, port) in [
            ("stun:stun.example.org", "stun.example.org", 3478),
            ("stun:stun.example.org:19302", "stun.example.org", 19302),
            ("192.0.2.1:3479", "192.0.2.1", 3479),
            ("[2001:db8::1]", "2001:db8::1", 3478),
            ("stun:[2001:db8::1]:5", "2001:db8::1", 5),
            ("2001:db8::1", "2001:db8::1", 3478),
        ] {
            let server = StunServer::parse(text).expect(text);
            assert_eq!((server.host.as_str(), server.port), (host, port), "{text}");
            assert_eq!(StunServer::parse(&server.to_string()), Some(server), "{text}");
        }
        for bad in ["stun:", ":3478", "a b", "stun.example:0", "x:y", "turn:x", "[x]", "stun:[::1"]
        {
            assert_eq!(StunServer::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        let read = |text: &str| network(text).map(|network| network.to_string());
        assert_eq!(read("10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(read("::1").as_deref(), Some("::1/128"));
        for bad in ["", "loopback", "10.0.0.0/33", "10.0.0", "proxy.example"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let turn = IceServer::parse("turn:turn.example ana pass").expect("good");
        assert!(!format!("{turn:?}").contains("pass"));
    }
}
