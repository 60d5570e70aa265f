//! What the operator decides about HTTP, as plain checked values; `millrace` fills it in.

use crate::auth::Credentials;
use axum::http::HeaderValue;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything this crate is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP is served; `None`: nowhere. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Where HTTPS is served; `None`: nowhere. Port 0 takes a free one.
    pub https: Option<SocketAddr>,
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
    /// Whether something besides HTTPS is served with it.
    pub certificate_is_shared: bool,
    /// The tokens and what each is good for.
    pub credentials: Credentials,
    /// STUN and TURN servers told to every client.
    pub ice_servers: Vec<IceServer>,
    /// The proxies whose word on the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the pages are served.
    pub pages: bool,
    /// Whether streams can be watched by HLS; pages are told.
    pub hls: bool,
    /// The announced media address and port, so that a page can name what it cannot reach:
    /// `192.0.2.1:8189`.
    pub media_hint: String,
    /// When to try again after "not live" and "taken".
    pub retry_after: Duration,
    /// What a connection may cost.
    pub limits: Limits,
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// PEM files of the operator's, read again when they change.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Made here at the first start and kept.
    SelfSigned {
        /// Where it is kept with its key.
        directory: PathBuf,
        /// Names and addresses it is for, besides `localhost`, `127.0.0.1` and `::1`.
        names: Vec<String>,
    },
    /// From an authority; until it has come, one that is made here.
    Acme(Acme),
}

/// Whom to ask for a certificate (RFC 8555), and where it is kept.
#[derive(Debug, Clone)]
pub struct Acme {
    /// The name that it is for.
    pub domain: String,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// The URL of the authority's directory.
    pub directory_url: String,
    /// The root certificate of an authority that the system does not trust, as PEM.
    pub root_file: Option<PathBuf>,
    /// Where account, certificate and key are kept.
    pub directory: PathBuf,
    /// What the certificate that is made here is for, besides the domain and this machine.
    pub names: Vec<String>,
    /// How long to wait after a failure; each further one in a row waits four times as long.
    pub retry: Duration,
}

impl Acme {
    /// What [`Acme::retry`] is unless a test is in a hurry. Let's Encrypt takes five failures an
    /// hour: with this there are four in the first one, and fewer later.
    pub const RETRY: Duration = Duration::from_mins(1);
}

/// What a connection and a request may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest offer: the longest a browser sends is 10 KiB.
    pub offer_bytes_max: usize,
    /// Connections at a time, HTTP and HTTPS together.
    pub connections_max: usize,
    /// The same from one IPv4 address or one IPv6 /64.
    pub connections_per_address_max: usize,
    /// From accepting to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the head of a request, from its connection's being free.
    pub head_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// How long a connection may go without a request; it lives once to twice as long.
    pub idle_timeout: Duration,
    /// How long the media threads may take to report what is live.
    pub report_timeout: Duration,
    /// How long requests in flight may take when the server stops.
    pub stop_timeout: Duration,
    /// How often the certificate files are looked at.
    pub certificate_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            offer_bytes_max: 64 * 1024,
            connections_max: 4_096,
            connections_per_address_max: 1_024,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            report_timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(3),
            certificate_interval: Duration::from_secs(5),
        }
    }
}

/// A STUN or TURN server as clients are told of it (RFC 9725 §4.6).
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    link: HeaderValue,
}

/// Why a STUN or TURN server cannot be told to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IceServerError {
    /// Not a URI of RFC 7064 or RFC 7065.
    #[error("{0:?} is no ICE server; it starts with stun:, stuns:, turn: or turns:")]
    Url(String),
    /// A TURN server without credentials, or a STUN server with some.
    #[error("{0}: a TURN server needs a username and a credential, a STUN server has none")]
    Credential(String),
    /// A character that no HTTP header carries.
    #[error("{0}: the username or the credential has a character that HTTP headers cannot carry")]
    Character(String),
}

impl IceServer {
    /// A STUN server: `stun:stun.example.net`.
    ///
    /// # Errors
    ///
    /// [`IceServerError`] where the URL is none of a STUN server.
    pub fn stun(url: &str) -> Result<Self, IceServerError> {
        match scheme(url)? {
            "stun" | "stuns" => Self::from_link(url, &format!("<{url}>; rel=\"ice-server\"")),
            _ => Err(IceServerError::Credential(url.to_owned())),
        }
    }

    /// A TURN server with long-term credentials: `turn:turn.example.net?transport=udp`.
    ///
    /// # Errors
    ///
    /// [`IceServerError`] where the URL is none of a TURN server or the rest cannot be sent.
    pub fn turn(url: &str, username: &str, credential: &str) -> Result<Self, IceServerError> {
        if !matches!(scheme(url)?, "turn" | "turns") || username.is_empty() {
            return Err(IceServerError::Credential(url.to_owned()));
        }
        let link = format!(
            "<{url}>; rel=\"ice-server\"; username=\"{}\"; credential=\"{}\"; \
             credential-type=\"password\"",
            escaped(username),
            escaped(credential)
        );
        Self::from_link(url, &link)
    }

    /// The value of its `Link` header.
    pub(crate) const fn link(&self) -> &HeaderValue {
        &self.link
    }

    fn from_link(url: &str, link: &str) -> Result<Self, IceServerError> {
        // `from_str` takes visible ASCII only.
        match HeaderValue::from_str(link) {
            Ok(link) => Ok(Self { link }),
            Err(_) => Err(IceServerError::Character(url.to_owned())),
        }
    }
}

/// The credential stays out of the log.
impl std::fmt::Debug for IceServer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let link = self.link.to_str().unwrap_or_default();
        out.write_str(link.split_once(';').map_or(link, |(url, _)| url))
    }
}

/// The scheme of an ICE server's URL, all of whose characters may stand in a `Link` header.
fn scheme(url: &str) -> Result<&str, IceServerError> {
    let fault = || IceServerError::Url(url.to_owned());
    let (scheme, rest) = url.split_once(':').ok_or_else(fault)?;
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"<>\"\\".contains(&b);
    if !matches!(scheme, "stun" | "stuns" | "turn" | "turns")
        || rest.is_empty()
        || !rest.bytes().all(is_plain)
    {
        return Err(fault());
    }
    Ok(scheme)
}

/// The inside of a quoted string (RFC 9110 §5.6.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_those_of_rfc_9725() {
        let stun = IceServer::stun("stun:stun.example.net").expect("a STUN server");
        assert_eq!(stun.link(), "<stun:stun.example.net>; rel=\"ice-server\"");
        let turn = IceServer::turn("turn:turn.example.net?transport=udp", "a\"b", "c\\d");
        assert_eq!(
            turn.expect("a TURN server").link(),
            "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"a\\\"b\"; \
             credential=\"c\\\\d\"; credential-type=\"password\""
        );
    }

    #[test]
    fn what_is_no_ice_server_is_refused() {
        for url in ["", "stun:", "http://a", "stun:a>b", "stun:a b", "stun.example.net"] {
            let fault = IceServer::stun(url).expect_err("none");
            assert_eq!(fault, IceServerError::Url(url.to_owned()));
        }
        assert!(matches!(IceServer::stun("turn:a"), Err(IceServerError::Credential(_))));
        assert!(matches!(IceServer::turn("turn:a", "", ""), Err(IceServerError::Credential(_))));
        assert!(matches!(IceServer::turn("turn:a", "u\n", "c"), Err(IceServerError::Character(_))));
    }

    #[test]
    fn a_credential_does_not_show_in_a_log() {
        let turn = IceServer::turn("turn:a", "u", "secret").expect("a TURN server");
        assert_eq!(format!("{turn:?}"), "<turn:a>");
    }
}
