//! What is printed at the start: the addresses to open, and the lines to type into OBS.

use super::{Bound, host_of};
use crate::config::token::Tokens;
use std::fmt::Write as _;

/// The text; the tokens stand in it only where the operator has not set them himself.
pub fn welcome(bound: &Bound, tokens: &Tokens) -> String {
    let mut text = format!("millrace {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {label:<22} {value}");
    };
    let http = bound.http.map(|address| format!("http://{}", host_of(address, &bound.announced)));
    let https =
        bound.https.map(|address| format!("https://{}", host_of(address, &bound.announced)));
    let port = |address: Option<std::net::SocketAddr>| address.map(|address| address.port());
    if let Some(port) = port(bound.http) {
        line("on this machine", &format!("http://localhost:{port}/"));
    }
    for base in https.iter().chain(&http) {
        line("from other machines", &format!("{base}/"));
    }
    let base = http.or(https).unwrap_or_default();
    line("publish in a browser", &format!("{base}/publish/live (camera: https or localhost)"));
    line("watch in a browser", &format!("{base}/watch/live"));
    let announced: Vec<String> = bound.announced.iter().map(ToString::to_string).collect();
    let protocols = if bound.media_tcp { "media (UDP, TCP)" } else { "media (UDP)" };
    line(protocols, &announced.join(", "));
    let _ = writeln!(text, "  OBS: Settings > Stream");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "    {label:<20} {value}");
    };
    line("Service", "WHIP");
    line("Server", &format!("{base}/whip/live"));
    match &tokens.kept_in {
        Some(path) => {
            line("Bearer Token", tokens.publish.reveal());
            let _ = writeln!(text, "  admin token            {}", tokens.admin.reveal());
            let _ = writeln!(text, "  (tokens are kept in {})", path.display());
        }
        None => line("Bearer Token", "the publish token of your configuration"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::token::Token;
    use std::net::SocketAddr;
    use std::path::PathBuf;

    fn text(kept_in: Option<PathBuf>) -> String {
        let bound = Bound {
            http: Some(SocketAddr::from(([0, 0, 0, 0], 8080))),
            https: None,
            media: SocketAddr::from(([0, 0, 0, 0], 8189)),
            media_tcp: true,
            announced: vec![SocketAddr::from(([203, 0, 113, 7], 8189))],
        };
        let token = |text: &str| Token::parse(text).expect("a token");
        let tokens = Tokens { publish: token("publish-it"), admin: token("admin-it"), kept_in };
        welcome(&bound, &tokens)
    }

    #[test]
    fn it_says_what_to_open_and_what_to_type_into_obs() {
        let text = text(Some(PathBuf::from("state/tokens.toml")));
        for part in [
            "http://203.0.113.7:8080/watch/live",
            "http://203.0.113.7:8080/whip/live",
            "publish-it",
            "admin-it",
            "203.0.113.7:8189",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn tokens_of_the_operator_are_not_printed() {
        let text = text(None);
        assert!(!text.contains("publish-it") && !text.contains("admin-it"), "{text}");
    }
}
