//! Whether each port can be had, or a millrace has it already.

use super::super::listeners::{Listener, Protocol, listeners};
use super::{Finding, addresses_of, check_health};
use crate::config::Config;
use crate::ingest;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, UdpSocket};

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let (http, https, media) = addresses_of(config);
    let ways_in = ingest::ports(config);
    let all = listeners(http, https, media, config.network.media_tcp, &ways_in);
    let tried: Vec<(Listener, io::Result<()>)> =
        all.into_iter().map(|listener| (listener, attempt(&listener))).collect();
    let any_taken = tried.iter().any(|(_, outcome)| is_taken(outcome));
    let is_ours = any_taken && check_health(config).is_ok();
    tried.iter().map(|(listener, outcome)| finding(listener, outcome, is_ours)).collect()
}

/// Takes the port, and gives it back.
fn attempt(listener: &Listener) -> io::Result<()> {
    match listener.protocol {
        Protocol::Tcp => TcpListener::bind(listener.address).map(drop),
        Protocol::Udp => UdpSocket::bind(listener.address).map(drop),
    }
}

fn is_taken(outcome: &io::Result<()>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn finding(listener: &Listener, outcome: &io::Result<()>, is_ours: bool) -> Finding {
    let Listener { purpose, option, address, .. } = listener;
    let port = format!("port {listener} ({purpose})");
    let error = match outcome {
        Ok(()) if address.port() == 0 => {
            return Finding::fine(format!("port for {purpose}: any free one"));
        }
        Ok(()) => return Finding::fine(format!("{port} is free")),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse if is_ours => {
            Finding::fine(format!("{port} is taken by the millrace that runs"))
        }
        ErrorKind::AddrInUse => Finding::failure(
            format!("{port} is taken by another program"),
            format!(
                "stop that (as root, `ss -lnp{} sport = :{}` names it), or set {option}",
                if listener.protocol == Protocol::Tcp { "t" } else { "u" },
                address.port()
            ),
        ),
        ErrorKind::PermissionDenied => Finding::failure(
            format!("{port} is not allowed to this user"),
            format!(
                "start it as the service, whose unit has CAP_NET_BIND_SERVICE, or set {option} to \
                 a port from 1024 up"
            ),
        ),
        ErrorKind::AddrNotAvailable => Finding::failure(
            format!("{} is no address of this machine", address.ip()),
            format!("set {option} to one that is, or to *:{}", address.port()),
        ),
        _ => Finding::failure(format!("{port} cannot be had: {error}"), format!("set {option}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use std::net::SocketAddr;

    const HTTP: Listener = Listener {
        purpose: "HTTP",
        option: "network.http_listen",
        protocol: Protocol::Tcp,
        address: SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080)),
    };

    fn found(kind: ErrorKind, is_ours: bool) -> Finding {
        finding(&HTTP, &Err(io::Error::from(kind)), is_ours)
    }

    #[test]
    fn a_free_port_is_fine_and_so_is_one_that_a_running_server_has() {
        assert_eq!(finding(&HTTP, &Ok(()), false).what, "port 8080/tcp (HTTP) is free");
        assert_eq!(found(ErrorKind::AddrInUse, true).verdict, Verdict::Fine);
    }

    #[test]
    fn a_port_that_cannot_be_had_is_a_failure_with_a_way_out() {
        for (kind, what, advice) in [
            (ErrorKind::AddrInUse, "taken by another program", "ss -lnpt sport = :8080"),
            (ErrorKind::PermissionDenied, "not allowed", "CAP_NET_BIND_SERVICE"),
            (ErrorKind::AddrNotAvailable, "no address of this machine", "*:8080"),
            (ErrorKind::OutOfMemory, "cannot be had", "set network.http_listen"),
        ] {
            let found = found(kind, false);
            assert_eq!(found.verdict, Verdict::Failure, "{found}");
            assert!(found.what.contains(what) && found.advice.contains(advice), "{found}");
            assert!(found.advice.contains("network.http_listen"), "{found}");
        }
    }

    #[test]
    fn a_port_is_tried_for_real() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let listener = Listener { address, ..HTTP };
        assert!(is_taken(&attempt(&listener)));
        drop(taken);
        assert!(attempt(&listener).is_ok());
        let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        assert!(is_taken(&attempt(&Listener { address, protocol: Protocol::Udp, ..HTTP })));
    }
}
