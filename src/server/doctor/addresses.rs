//! What clients are told, whether they can reach it, and where the server's name leads.

use super::super::welcome::HTTPS_PORT;
use super::{Finding, addresses_of};
use crate::config::Config;
use crate::config::address::{interfaces, ipv6_works};
use crate::config::reach::Reach;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let network = &config.network;
    let interfaces = match interfaces() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            return vec![Finding::failure(
                format!("the system does not list its network interfaces: {error}"),
                "see the system's log",
            )];
        }
    };
    let announced = network.public_addresses.announced(&network.media_listen, &interfaces, None);
    let own: Vec<IpAddr> = interfaces.iter().map(|interface| interface.address).collect();
    let asks = network.stun_server.as_ref().map(ToString::to_string);
    let mut findings =
        vec![told(&announced, asks.as_deref()), ipv6(ipv6_works(), &own, &announced)];
    if let Some(domain) = &config.network.domain {
        let found = (domain.as_str(), HTTPS_PORT).to_socket_addrs();
        let found = found.map(|all| all.map(|address| address.ip()).collect());
        findings.push(name(domain, &found, &announced));
        if config.network.tls.is_none() {
            let (_, https, _) = addresses_of(config);
            findings.extend(https.and_then(authority_port));
        }
    }
    findings
}

/// The addresses in the answers to clients. What a STUN server would tell is not known here: the
/// server asks it at its start, from the media port.
fn told(announced: &[IpAddr], asks: Option<&str>) -> Finding {
    let Some(reach) = announced.iter().map(|address| Reach::of(*address)).min() else {
        return Finding::failure(
            "clients are told no address to send media to",
            "set network.public_addresses",
        );
    };
    let all: Vec<String> = announced.iter().map(ToString::to_string).collect();
    let all = all.join(", ");
    match (reach, asks) {
        (Reach::Internet, _) => Finding::fine(format!("clients are told to send media to {all}")),
        (_, Some(server)) => Finding::fine(format!(
            "clients are told to send media to {all}, and to what {server} says at the start"
        )),
        (Reach::Machine, None) => Finding::warning(
            format!("clients are told to send media to {all}, which only this machine reaches"),
            "set network.public_addresses to the address that clients reach",
        ),
        (Reach::Network | Reach::Link, None) => Finding::warning(
            format!("clients are told to send media to {all}, which only this network reaches"),
            "for clients elsewhere set network.public_addresses to the outside address, or \
             network.stun_server; for a server in a local network all is well",
        ),
    }
}

/// Whether clients that have no IPv4 can come.
fn ipv6(works: bool, own: &[IpAddr], announced: &[IpAddr]) -> Finding {
    let outer =
        |all: &[IpAddr]| all.iter().any(|it| it.is_ipv6() && Reach::of(*it) == Reach::Internet);
    if !works {
        return Finding::fine("IPv6 is not there; IPv4 is used alone");
    }
    match (outer(own), outer(announced)) {
        (_, true) => Finding::fine("IPv6 is there and announced"),
        (false, false) => Finding::fine("IPv6 has no address that reaches everywhere"),
        (true, false) => Finding::warning(
            "IPv6 is there, but clients are not told of it",
            "add \"auto\" to network.public_addresses, and listen on *:PORT",
        ),
    }
}

/// Where the server's name leads.
fn name(domain: &str, found: &io::Result<Vec<IpAddr>>, announced: &[IpAddr]) -> Finding {
    let addresses = match found {
        Ok(addresses) => addresses,
        Err(error) => {
            return Finding::failure(
                format!("{domain} leads nowhere ({error})"),
                "make an A or AAAA record with this server's address at the name's provider",
            );
        }
    };
    if addresses.iter().any(|address| announced.contains(address)) {
        return Finding::fine(format!("{domain} leads here"));
    }
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Finding::warning(
        format!(
            "{domain} leads to {}, which clients are not told to send media to",
            all.join(", ")
        ),
        "correct the name's A and AAAA records, or network.public_addresses; behind a proxy or a \
         NAT for HTTPS alone all is well",
    )
}

/// An authority asks on the usual port only (RFC 8737 §3).
fn authority_port(https: SocketAddr) -> Option<Finding> {
    (https.port() != HTTPS_PORT).then(|| {
        Finding::warning(
            format!("network.domain asks for a certificate, but HTTPS is on port {}", https.port()),
            "set network.https_listen to *:443, or forward port 443 to it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn one_address_that_reaches_everywhere_is_enough() {
        assert_eq!(told(&ips(&["10.0.0.5", "8.8.8.8"]), None).verdict, Verdict::Fine);
        let inside = told(&ips(&["10.0.0.5", "fd00::5"]), None);
        assert_eq!(inside.verdict, Verdict::Warning);
        assert!(inside.advice.contains("network.public_addresses"), "{inside}");
        assert_eq!(inside.to_string().lines().count(), 1);
        let asked = told(&ips(&["10.0.0.5"]), Some("stun:stun.example"));
        assert_eq!(asked.verdict, Verdict::Fine);
        assert_eq!(told(&ips(&["127.0.0.1"]), None).verdict, Verdict::Warning);
        assert_eq!(told(&[], None).verdict, Verdict::Failure);
    }

    #[test]
    fn ipv6_that_is_not_announced_is_told_of() {
        let (v4, v6) = (ips(&["8.8.8.8"]), ips(&["2a00:1450::1"]));
        assert_eq!(ipv6(true, &v6, &v4).verdict, Verdict::Warning);
        assert_eq!(ipv6(true, &v6, &v6).verdict, Verdict::Fine);
        assert_eq!(ipv6(true, &ips(&["fe80::1"]), &v4).verdict, Verdict::Fine);
        assert_eq!(ipv6(false, &v4, &v4).verdict, Verdict::Fine);
    }

    #[test]
    fn a_name_must_lead_somewhere_and_should_lead_here() {
        let here = ips(&["8.8.8.8"]);
        assert_eq!(name("a.example", &Ok(here.clone()), &here).verdict, Verdict::Fine);
        let elsewhere = name("a.example", &Ok(ips(&["9.9.9.9"])), &here);
        assert_eq!(elsewhere.verdict, Verdict::Warning);
        let nowhere = name("a.example", &Err(io::Error::other("no such name")), &here);
        assert_eq!(nowhere.verdict, Verdict::Failure);
        assert!(nowhere.advice.contains("A or AAAA record"), "{nowhere}");
    }

    #[test]
    fn an_authority_is_not_expected_on_another_port() {
        let on = |port| authority_port(SocketAddr::from(([0, 0, 0, 0], port)));
        assert_eq!(on(443), None);
        assert_eq!(on(8443).expect("a finding").verdict, Verdict::Warning);
    }
}
