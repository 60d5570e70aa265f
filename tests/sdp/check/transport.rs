//! BUNDLE, ICE, DTLS and candidates (RFC 9143, RFC 8839, RFC 6544, RFC 8842, RFC 8122, RFC 5761).

use super::Part;
use std::collections::HashMap;
use std::net::IpAddr;

fn bundle<'a>(session: &Part<'a>) -> Option<Vec<&'a str>> {
    let group = session.all("group").into_iter().find_map(|value| value.strip_prefix("BUNDLE"))?;
    Some(group.split(' ').filter(|mid| !mid.is_empty()).collect())
}

/// RFC 9143 §7.3: the group holds the accepted sections, tagged one first. Says which that is.
pub(super) fn check_bundle(
    offer: &Part<'_>,
    offered: &[Part<'_>],
    session: &Part<'_>,
    sections: &[Part<'_>],
    accepted: &[usize],
) -> Result<usize, String> {
    let Some(group) = bundle(session) else {
        demand!(!session.has("group"), "a group of another kind");
        demand!(bundle(offer).is_none(), "the BUNDLE group is lost");
        demand!(accepted.len() == 1, "several sections without BUNDLE");
        return Ok(accepted[0]);
    };
    let asked = bundle(offer).ok_or("a BUNDLE group that was not offered")?;
    demand!(group.iter().all(|mid| asked.contains(mid)), "a mid outside the offered group");
    let mut mids: Vec<&str> = accepted.iter().map(|&index| sections[index].mid()).collect();
    let mut sorted = group.clone();
    mids.sort_unstable();
    sorted.sort_unstable();
    demand!(mids == sorted, "the group {group:?} is not the accepted sections {mids:?}");
    let tagged = sections.iter().position(|section| section.mid() == group[0]);
    let tagged = tagged.ok_or("the tagged section is missing")?;
    demand!(offered[tagged].port() != "0", "the tagged section was offered as bundle-only");
    Ok(tagged)
}

/// RFC 8839 §4.2.3, RFC 8445 §10, RFC 8840 §4.1.1, RFC 8285 §6.
pub(super) fn check_session(
    offer: &Part<'_>,
    tagged: &Part<'_>,
    session: &Part<'_>,
) -> Result<(), String> {
    demand!(session.has("ice-lite"), "no a=ice-lite");
    let mixed = session.has("extmap-allow-mixed");
    demand!(!mixed || offer.has("extmap-allow-mixed"), "a=extmap-allow-mixed was not offered");
    let options: Vec<&str> = session.get("ice-options").unwrap_or_default().split(' ').collect();
    demand!(options.contains(&"ice2"), "no ICE option ice2");
    for option in options {
        let mut asked = tagged.all("ice-options").into_iter().chain(offer.all("ice-options"));
        let trickles = option == "trickle" && asked.any(|value| value.contains("trickle"));
        demand!(option == "ice2" || trickles, "ICE option {option:?} was not offered");
    }
    Ok(())
}

/// RFC 8839 §5.4, RFC 8122 §5, RFC 8842 §5.3, RFC 5761 §5.1.1.
pub(super) fn check_section(
    offer: &Part<'_>,
    asked: &Part<'_>,
    given: &Part<'_>,
    tagged: &Part<'_>,
) -> Result<(), String> {
    for name in ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "rtcp-mux"] {
        demand!(given.has(name), "no a={name}");
        demand!(given.get(name) == tagged.get(name), "a={name} differs within the group");
    }
    demand!(asked.has("rtcp-mux"), "a=rtcp-mux was not offered");
    let is_ice_text = |name, least: usize| {
        let text = given.get(name).unwrap_or_default();
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        (least..=256).contains(&text.len()) && text.chars().all(legal)
    };
    demand!(is_ice_text("ice-ufrag", 4) && is_ice_text("ice-pwd", 22), "bad ICE credentials");
    let (hash, digest) =
        given.get("fingerprint").and_then(|value| value.split_once(' ')).unwrap_or_default();
    let is_byte = |pair: &str| {
        pair.len() == 2 && pair.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c))
    };
    let is_digest = digest.split(':').count() == 32 && digest.split(':').all(is_byte);
    demand!(hash == "sha-256" && is_digest, "bad fingerprint");
    let setup = asked.get("setup").or_else(|| offer.get("setup")).unwrap_or("active");
    let given = given.get("setup").unwrap_or_default();
    let legal = match setup {
        "actpass" => ["active", "passive"].contains(&given),
        "active" => given == "passive",
        "passive" => given == "active",
        _ => false,
    };
    demand!(legal, "setup {given:?} in answer to {setup}");
    Ok(())
}

/// A host candidate of UDP, or of TCP that waits to be connected to.
struct Candidate<'a> {
    foundation: &'a str,
    transport: &'a str,
    priority: u32,
    address: IpAddr,
    port: &'a str,
}

/// RFC 8839 §5.1, RFC 8445 §5.1.2, RFC 6544 §4.5.
fn read_candidate(candidate: &str) -> Result<Candidate<'_>, String> {
    let words: Vec<&str> = candidate.split(' ').collect();
    let [foundation, "1", transport, priority, ip, port, "typ", "host", ref more @ ..] = words[..]
    else {
        return Err(format!("{candidate:?} is no host candidate"));
    };
    let is_whole = match transport {
        "udp" => more.is_empty(),
        "tcp" => more == ["tcptype", "passive"],
        _ => false,
    };
    demand!(is_whole, "{candidate:?} is no candidate of a server");
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    let is_foundation = (1..=32).contains(&foundation.len()) && foundation.chars().all(legal);
    demand!(is_foundation, "bad foundation");
    let priority: u32 = priority.parse().map_err(|_| "bad priority")?;
    let kind = priority >> 24;
    let is_kind = kind == 126 || (transport == "tcp" && kind < 126);
    demand!(is_kind && priority & 0xff == 255, "bad priority {priority}");
    let address = ip.parse().map_err(|_| "bad address")?;
    demand!(port.parse::<u16>().is_ok_and(|port| port > 0), "bad port {port}");
    Ok(Candidate { foundation, transport, priority, address, port })
}

/// RFC 8839 §4.2.1.2, RFC 8445 §5.1.1.3 and §5.1.2.1, RFC 9143 §7.1.1.
pub(super) fn check_candidates(
    given: &Part<'_>,
    is_tagged: bool,
    tagged: &Part<'_>,
) -> Result<(), String> {
    demand!(given.port() == tagged.port(), "another port within the group");
    demand!(given.connection == tagged.connection, "another address within the group");
    let candidates: Vec<Candidate<'_>> =
        given.all("candidate").into_iter().map(read_candidate).collect::<Result<_, _>>()?;
    demand!(is_tagged != candidates.is_empty(), "candidates belong into the tagged section");
    demand!(given.has("end-of-candidates") == is_tagged, "bad a=end-of-candidates");
    let mut foundations = HashMap::new();
    for pair in candidates.windows(2) {
        // ffmpeg uses no other than the first.
        let is_ordered = pair[0].transport == "udp" || pair[1].transport == "tcp";
        demand!(is_ordered, "a UDP candidate behind one of TCP");
        demand!(pair[1].priority < pair[0].priority, "bad priority {}", pair[1].priority);
    }
    for &Candidate { foundation, transport, address, .. } in &candidates {
        let base = (address, transport);
        let alone = *foundations.entry(foundation).or_insert(base) == base;
        let shared = foundations.iter().all(|(other, at)| *at != base || *other == foundation);
        demand!(alone && shared, "foundation {foundation} of {address} {transport}");
    }
    if let Some(Candidate { address, port, .. }) = candidates.first() {
        let version = if address.is_ipv4() { "IP4" } else { "IP6" };
        let connection = format!("IN {version} {address}");
        demand!(given.connection == Some(&connection), "c= is not the first candidate");
        demand!(given.port() == *port, "the port is not the first candidate's");
    }
    Ok(())
}
