//! What is printed at the start: the addresses to open, the lines to type into OBS, the ports to
//! open in a firewall.

use super::Bound;
use super::listeners::{Listener, Protocol, listeners};
use crate::config::token::Tokens;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The port that `https://` means.
pub(super) const HTTPS_PORT: u16 = 443;

/// The text; the tokens stand in it only where the operator has not set them himself.
pub fn welcome(bound: &Bound, tokens: &Tokens) -> String {
    let mut text = format!("millrace {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {label:<22} {value}");
    };
    let base = |secure: bool, address: SocketAddr| {
        let base = if secure {
            format!("https://{}", secure_host_of(address, bound))
        } else {
            format!("http://{}", host_of(address, bound))
        };
        (base, address.ip().is_loopback())
    };
    let http = bound.http.map(|address| base(false, address));
    let https = bound.https.map(|address| base(true, address));
    let port = |address: Option<SocketAddr>| address.map(|address| address.port());
    if let Some(port) = port(bound.http) {
        line("on this machine", &format!("http://localhost:{port}/"));
    }
    let (inner, outer): (Vec<_>, Vec<_>) =
        https.iter().chain(&http).partition(|(_, is_inner)| *is_inner);
    for (base, _) in &outer {
        line("from other machines", &format!("{base}/"));
    }
    if outer.is_empty() && !inner.is_empty() {
        line("from other machines", "by a proxy on this one only, at the proxy's address");
    }
    // What others reach comes first. With a name there is a certificate that clients trust, and OBS
    // takes no other; without one it takes HTTP only.
    let mut bases = [outer, inner].concat();
    bases.sort_by_key(|(base, is_inner)| {
        (*is_inner, base.starts_with("https:") != bound.domain.is_some())
    });
    let base = bases.first().map_or("", |(base, _)| base.as_str());
    line("publish in a browser", &format!("{base}/publish/live (camera: https or localhost)"));
    line("watch in a browser", &format!("{base}/watch/live"));
    let announced: Vec<String> = bound.announced.iter().map(ToString::to_string).collect();
    line("media goes to", &announced.join(", "));
    let _ = writeln!(text, "  OBS: Settings > Stream");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "    {label:<20} {value}");
    };
    line("Service", "WHIP");
    line("Server", &format!("{base}/whip/live"));
    let set = "the publish token of your configuration";
    let token = if tokens.publish_is_set { set } else { tokens.publish.reveal() };
    line("Bearer Token", token);
    if let Some(server) = rtmp_server(bound) {
        let token = if tokens.publish_is_set { "TOKEN" } else { token };
        let _ = writeln!(text, "  OBS and others by RTMP (Service: Custom...)");
        let _ = writeln!(text, "    {:<20} {server}", "Server");
        let _ = writeln!(text, "    {:<20} live?token={token}", "Stream Key");
    }
    if !tokens.admin_is_set {
        let _ = writeln!(text, "  admin token            {}", tokens.admin.reveal());
    }
    if let Some(path) = &tokens.kept_in {
        let _ = writeln!(text, "  (tokens are kept in {})", path.display());
    }
    let Bound { http, https, media, media_tcp, ways_in, .. } = bound;
    text.push_str(&firewall(&listeners(*http, *https, *media, *media_tcp, ways_in)));
    text
}

/// What encoders call the server; the port that the protocol has anyway is left out.
fn rtmp_server(bound: &Bound) -> Option<String> {
    let port = bound.ways_in.iter().find(|port| port.purpose == "RTMP")?;
    let host = host_of(port.address, bound);
    Some(format!("rtmp://{}/live", host.strip_suffix(":1935").unwrap_or(&host)))
}

/// Host and port as a URL has them; a wildcard becomes an address that clients are told.
fn host_of(address: SocketAddr, bound: &Bound) -> String {
    let ip = if address.ip().is_unspecified() {
        bound.announced.first().map_or(IpAddr::from([127, 0, 0, 1]), SocketAddr::ip)
    } else {
        address.ip()
    };
    SocketAddr::new(ip, address.port()).to_string()
}

/// The same for HTTPS, which goes by the server's name where it has one.
fn secure_host_of(address: SocketAddr, bound: &Bound) -> String {
    match &bound.domain {
        None => host_of(address, bound),
        Some(domain) if address.port() == HTTPS_PORT => domain.clone(),
        Some(domain) => format!("{domain}:{}", address.port()),
    }
}

/// The lines that open every port, for the two firewalls that machines come with. What listens to
/// this machine only needs none.
fn firewall(listeners: &[Listener]) -> String {
    let is_outer = |listener: &&Listener| !listener.address.ip().is_loopback();
    let outer: Vec<&Listener> = listeners.iter().filter(is_outer).collect();
    if outer.is_empty() {
        return String::new();
    }
    let named: Vec<String> = outer.iter().map(|it| format!("{it} ({})", it.purpose)).collect();
    let of = |protocol: Protocol| {
        let ports = outer.iter().filter(|it| it.protocol == protocol);
        let ports: Vec<String> = ports.map(|it| it.address.port().to_string()).collect();
        (!ports.is_empty()).then(|| format!("ufw allow {}/{protocol}", ports.join(",")))
    };
    let ufw: Vec<String> = [Protocol::Tcp, Protocol::Udp].into_iter().filter_map(of).collect();
    let ports: Vec<String> = outer.iter().map(|it| format!("--add-port={it}")).collect();
    format!(
        "  open in the firewall   {}\n    with ufw             {}\n    with firewalld       \
         firewall-cmd {}\n                         (and the same with --permanent)\n",
        named.join(", "),
        ufw.join(" && "),
        ports.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::token::Token;
    use std::path::PathBuf;

    fn bound(announced: &str) -> Bound {
        Bound {
            http: Some(SocketAddr::from(([0, 0, 0, 0], 8080))),
            https: None,
            media: SocketAddr::from(([0, 0, 0, 0], 8189)),
            media_tcp: true,
            ways_in: Vec::new(),
            announced: vec![announced.parse().expect("an address")],
            domain: None,
        }
    }

    fn text(bound: &Bound, kept_in: Option<PathBuf>) -> String {
        let is_set = kept_in.is_none();
        welcome(bound, &tokens(kept_in, is_set, is_set))
    }

    fn tokens(kept_in: Option<PathBuf>, publish_is_set: bool, admin_is_set: bool) -> Tokens {
        let token = |text: &str| Token::parse(text).expect("a token");
        let (publish, admin) = (token("publish-it"), token("admin-it"));
        Tokens { publish, admin, kept_in, publish_is_set, admin_is_set }
    }

    #[test]
    fn it_says_what_to_open_and_what_to_type_into_obs() {
        let text = text(&bound("198.18.0.7:8189"), Some(PathBuf::from("state/tokens.toml")));
        for part in [
            "http://198.18.0.7:8080/watch/live",
            "http://198.18.0.7:8080/whip/live",
            "publish-it",
            "admin-it",
            "198.18.0.7:8189",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_listens_to_this_machine_only_is_no_address_for_others() {
        let http = Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let proxied = Bound { http, ..bound("198.18.0.7:8189") };
        let text_of = |bound: &Bound| text(bound, None);
        let said = text_of(&proxied);
        assert!(said.contains("other machines    by a proxy on this one only"), "{said}");
        assert!(said.contains("http://127.0.0.1:8080/whip/live\n"), "{said}");
        let https = Some(SocketAddr::from(([0, 0, 0, 0], 8443)));
        let said = text_of(&Bound { https, ..proxied });
        assert!(!said.contains("http://127.0.0.1") && !said.contains("proxy"), "{said}");
        assert!(said.contains("https://198.18.0.7:8443/whip/live\n"), "{said}");
    }

    #[test]
    fn encoders_by_rtmp_are_told_server_and_stream_key() {
        let port = |port| crate::ingest::Port {
            purpose: "RTMP",
            option: "rtmp.listen",
            is_udp: false,
            address: SocketAddr::from(([0, 0, 0, 0], port)),
        };
        let tokens = tokens(Some(PathBuf::from("state/tokens.toml")), false, false);
        for (number, server) in
            [(1935, "rtmp://198.18.0.7/live\n"), (1999, "rtmp://198.18.0.7:1999/live\n")]
        {
            let bound = Bound { ways_in: vec![port(number)], ..bound("198.18.0.7:8189") };
            let text = welcome(&bound, &tokens);
            assert!(text.contains(server) && text.contains("live?token=publish-it\n"), "{text}");
        }
    }

    #[test]
    fn tokens_of_the_operator_are_not_printed() {
        let text = text(&bound("198.18.0.7:8189"), None);
        assert!(!text.contains("publish-it") && !text.contains("admin-it"), "{text}");
        let path = Some(PathBuf::from("state/tokens.toml"));
        for (publish_is_set, printed, secret) in
            [(true, "admin-it", "publish-it"), (false, "publish-it", "admin-it")]
        {
            let tokens = tokens(path.clone(), publish_is_set, !publish_is_set);
            let text = welcome(&bound("198.18.0.7:8189"), &tokens);
            assert!(text.contains(printed) && !text.contains(secret), "{text}");
        }
    }

    #[test]
    fn a_name_stands_in_secure_addresses_without_the_usual_port() {
        let https = |port| Some(SocketAddr::from(([0, 0, 0, 0], port)));
        let domain = Some("live.example.org".to_owned());
        let usual = Bound { https: https(443), domain, ..bound("198.18.0.7:8189") };
        assert!(text(&usual, None).contains("https://live.example.org/whip/live\n"));
        let other = Bound { https: https(8443), ..usual };
        assert!(text(&other, None).contains("https://live.example.org:8443/whip/live\n"));
    }

    #[test]
    fn every_port_that_others_must_reach_has_a_firewall_line() {
        let https = Some(SocketAddr::from(([0, 0, 0, 0], 8443)));
        let text = text(&Bound { https, ..bound("198.18.0.7:8189") }, None);
        for part in [
            "8080/tcp (HTTP), 8443/tcp (HTTPS), 8189/udp (media), 8189/tcp (media)",
            "ufw allow 8080,8443,8189/tcp && ufw allow 8189/udp\n",
            "--add-port=8443/tcp --add-port=8189/udp --add-port=8189/tcp\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_listens_to_this_machine_only_needs_no_firewall_line() {
        let http = Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let behind_a_proxy = text(&Bound { http, ..bound("198.18.0.7:8189") }, None);
        let line = "    with ufw             ufw allow 8189/tcp && ufw allow 8189/udp\n";
        assert!(behind_a_proxy.contains(line), "{behind_a_proxy}");
        let media = SocketAddr::from(([127, 0, 0, 1], 8189));
        let alone = Bound { http, media, ..bound("127.0.0.1:8189") };
        assert!(!text(&alone, None).contains("ufw"));
    }
}
