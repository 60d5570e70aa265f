//! Whose word counts on who the client is: `X-Forwarded-For`, else `Forwarded` (RFC 7239), and of
//! trusted proxies only.
//!
//! What a proxy says of the host is not read: every URL that this server gives out is relative to
//! the one it was asked at. Of the scheme (`X-Forwarded-Proto`) only a cookie's `Secure` is made.

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Proxies passed on the way; the longest real chains have three.
const HOPS_MAX: usize = 16;

/// The proxies whose word counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address, as far as it is known.
    pub(crate) address: IpAddr,
    /// It came through a trusted proxy: our own ports are not what it sees.
    pub(crate) proxied: bool,
    /// It speaks TLS, to us or to the proxy.
    pub(crate) secure: bool,
}

impl TrustedProxies {
    /// Those of these networks.
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(networks.to_vec())
    }

    /// Whether this is one of them.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Who sent this request, which came from `peer`, by TLS or without.
    ///
    /// The list is walked from its end: each trusted proxy has appended whom it heard, and what
    /// stands before the first stranger the stranger may have made up.
    pub(crate) fn client(&self, peer: IpAddr, secure: bool, headers: &HeaderMap) -> Client {
        let mut address = peer.to_canonical();
        let proxied = self.trusts(address);
        let mut secure = secure;
        if proxied {
            let scheme = headers.get_all(X_FORWARDED_PROTO).iter().next_back();
            secure |= scheme.is_some_and(|scheme| scheme.as_bytes().ends_with(b"https"));
            for hop in hops(headers).into_iter().rev().take(HOPS_MAX) {
                let Some(hop) = hop else { break };
                address = hop;
                if !self.trusts(address) {
                    break;
                }
            }
        }
        Client { address, proxied, secure }
    }
}

/// Who is said to have sent the request, and each proxy after the first to have passed it on;
/// nothing where it is not said as an address.
///
/// A proxy that knows one header passes on whatever its client wrote into the other, and most know
/// `X-Forwarded-For` only.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let values = |name: &HeaderName| -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
    };
    let listed = values(&X_FORWARDED_FOR);
    if !listed.is_empty() {
        return listed.iter().flat_map(|list| list.split(',')).map(node).collect();
    }
    let listed = values(&FORWARDED);
    listed.iter().flat_map(|list| unquoted_parts(list, ',')).map(forwarded_for).collect()
}

/// The node that one element of `Forwarded` names (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    unquoted_parts(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("for") {
            return None;
        }
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        node(quoted.unwrap_or(value))
    })
}

/// An address, with or without a port, IPv6 with or without brackets (RFC 7239 §6). `unknown` and
/// names that hide an address are none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    address.or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// The parts between separators that stand in no quotes.
fn unquoted_parts(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter| {
        let is_escaped = std::mem::take(&mut escaped);
        match letter {
            '"' if !is_escaped => quoted = !quoted,
            '\\' if quoted && !is_escaped => escaped = true,
            _ => {}
        }
        letter == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.1";

    fn proxies() -> TrustedProxies {
        TrustedProxies::new(&["10.0.0.0/8".parse().expect("a network")])
    }

    /// Who is taken for the client of a request with these headers that came from `peer`.
    fn client(peer: &str, headers: &[(HeaderName, &str)]) -> String {
        let value = |text: &str| HeaderValue::from_str(text).expect("tests write good headers");
        let mut map = HeaderMap::new();
        for (name, text) in headers {
            map.append(name, value(text));
        }
        proxies().client(peer.parse().expect("an address"), false, &map).address.to_string()
    }

    fn by_list(peer: &str, list: &str) -> String {
        client(peer, &[(X_FORWARDED_FOR, list)])
    }

    fn by_forwarded(list: &str) -> String {
        client(PROXY, &[(FORWARDED, list)])
    }

    #[test]
    fn nobody_else_s_word_counts_not_even_loopback_s() {
        for peer in ["192.0.2.9", "127.0.0.1", "::1"] {
            assert_eq!(by_list(peer, "203.0.113.7"), peer);
            assert_eq!(client(peer, &[(FORWARDED, "for=203.0.113.7")]), peer);
        }
    }

    #[test]
    fn a_trusted_proxy_tells_the_client() {
        assert_eq!(by_list(PROXY, "203.0.113.7"), "203.0.113.7");
        assert_eq!(by_list("::ffff:10.0.0.1", "203.0.113.7"), "203.0.113.7", "a mapped peer");
        assert_eq!(by_list(PROXY, " 2001:db8::7 "), "2001:db8::7");
        assert_eq!(by_list(PROXY, "203.0.113.7:5000"), "203.0.113.7");
        assert_eq!(by_list(PROXY, "[2001:db8::7]:5000"), "2001:db8::7");
        assert_eq!(client(PROXY, &[]), PROXY, "it tells nothing");
    }

    #[test]
    fn what_stands_before_the_first_stranger_is_not_believed() {
        assert_eq!(by_list(PROXY, "8.8.8.8, 203.0.113.7"), "203.0.113.7");
        assert_eq!(by_list(PROXY, "8.8.8.8, 203.0.113.7, 10.9.9.9, 10.0.0.2"), "203.0.113.7");
        let two = [(X_FORWARDED_FOR, "8.8.8.8"), (X_FORWARDED_FOR, "203.0.113.7")];
        assert_eq!(client(PROXY, &two), "203.0.113.7", "in several lines");
        assert_eq!(by_list(PROXY, "10.0.0.3, 10.0.0.2"), "10.0.0.3", "a client inside");
        for hidden in ["8.8.8.8, unknown", "8.8.8.8, ", "8.8.8.8, evil", "8.8.8.8, 10.0.0.2, _x"] {
            assert!(by_list(PROXY, hidden).starts_with("10."), "{hidden}");
        }
    }

    #[test]
    fn the_standard_s_own_header_is_read_where_there_is_no_other() {
        assert_eq!(by_forwarded("for=203.0.113.7;proto=https;by=10.0.0.1"), "203.0.113.7");
        assert_eq!(by_forwarded("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(by_forwarded("for=8.8.8.8, FOR=203.0.113.7, for=10.2.2.2"), "203.0.113.7");
        assert_eq!(by_forwarded("host=\"a,for=8.8.8.8\";for=203.0.113.7"), "203.0.113.7");
        assert_eq!(by_forwarded("host=\"a\\\",for=8.8.8.8\" ; for = 203.0.113.7"), "203.0.113.7");
        assert_eq!(by_forwarded("for=8.8.8.8, for=unknown"), PROXY);
        assert_eq!(by_forwarded("proto=https"), PROXY);
        let both = [(FORWARDED, "for=8.8.8.8"), (X_FORWARDED_FOR, "203.0.113.7")];
        assert_eq!(client(PROXY, &both), "203.0.113.7");
    }

    #[test]
    fn a_list_without_end_is_read_to_a_bounded_depth() {
        let list = vec!["10.0.0.2"; 2_000].join(",");
        assert_eq!(by_list(PROXY, &format!("203.0.113.7,{list}")), "10.0.0.2");
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_passed_over(text in "[ -~]{0,200}") {
            let value = HeaderValue::from_str(&text).expect("visible characters");
            for name in [X_FORWARDED_FOR, FORWARDED] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                let peer = PROXY.parse().expect("an address");
                prop_assert!(proxies().client(peer, false, &headers).proxied);
            }
        }
    }
}
