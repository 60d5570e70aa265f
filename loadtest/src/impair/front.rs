//! The HTTP front: passes everything through to the server, and writes the relay's address into
//! the candidates of answers. A browser or OBS only changes the URL.

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Connections at the same time; others wait.
const CONNECTIONS_MAX: usize = 256;
/// No answer is longer.
const SDP_MAX: usize = 1 << 18;

type Body = Either<Incoming, Full<Bytes>>;

/// A running front; dropping it ends it.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    /// Passes HTTP from `listen` to `server`. Candidates become `relay`; where that has no address
    /// of its own (`0.0.0.0`), the one at which the client reached the front.
    ///
    /// # Errors
    ///
    /// When the address is not to be had.
    pub async fn start(
        listen: SocketAddr,
        server: SocketAddr,
        relay: SocketAddr,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, server, relay)) })
    }

    /// Where clients send their offers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, relay: SocketAddr) {
    // Dropping the set ends the connections.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: those that are open end some time.
            tokio::task::yield_now().await;
            continue;
        };
        let reached = stream.local_addr().map_or(relay.ip(), |address| address.ip());
        let ip = if relay.ip().is_unspecified() { reached } else { relay.ip() };
        let relay = SocketAddr::new(ip, relay.port());
        let service = service_fn(move |request| async move {
            Ok::<_, Infallible>(pass(request, server, relay).await.unwrap_or_else(|error| {
                let text = format!("the server behind the impaired path failed: {error:#}\n");
                let mut response = Response::new(Either::Right(Full::from(text)));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }))
        });
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that breaks off is none of our business.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Sends a request on, by a connection of its own, and brings the response back.
async fn pass(
    request: Request<Incoming>,
    server: SocketAddr,
    relay: SocketAddr,
) -> anyhow::Result<Response<Body>> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (mut head, body) = sender.send_request(request).await?.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_sdp = kind.is_some_and(|kind| kind.contains("sdp"));
    if !is_sdp {
        return Ok(Response::from_parts(head, Either::Left(body)));
    }
    let body = Limited::new(body, SDP_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer's body: {error}"))?.to_bytes();
    let sdp = rewrite_candidates(std::str::from_utf8(&body)?, relay);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(sdp.len()));
    Ok(Response::from_parts(head, Either::Right(Full::from(sdp))))
}

/// Makes the UDP candidates of each section one, which leads to the relay. Others would go around
/// it, and are left out.
pub fn rewrite_candidates(sdp: &str, relay: SocketAddr) -> String {
    let mut out = String::with_capacity(sdp.len());
    let mut has_candidate = false;
    for line in sdp.split_inclusive('\n') {
        if line.starts_with("m=") {
            has_candidate = false;
        }
        let Some(candidate) = line.strip_prefix("a=candidate:") else {
            out.push_str(line);
            continue;
        };
        // RFC 8839 §5.1: foundation, component, transport, priority, address, port, the rest.
        let mut words: Vec<&str> = candidate.trim_end().split(' ').collect();
        let is_udp = words.get(2).is_some_and(|transport| transport.eq_ignore_ascii_case("udp"));
        let (ip, port) = (relay.ip().to_string(), relay.port().to_string());
        if let Some([address, old_port]) = words.get_mut(4..6)
            && is_udp
            && !has_candidate
        {
            (*address, *old_port) = (&ip, &port);
            has_candidate = true;
            out.push_str("a=candidate:");
            out.push_str(&words.join(" "));
            out.push_str("\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_one_candidate_which_is_the_relay() {
        let sdp = "v=0\r\nm=audio 9\r\n\
                   a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host\r\n\
                   a=candidate:2 1 udp 2130706430 2001:db8::1 8189 typ host\r\n\
                   a=end-of-candidates\r\nm=video 9\r\n\
                   a=candidate:3 1 TCP 1 192.0.2.1 8189 typ host tcptype passive\r\n\
                   a=candidate:1 1 UDP 2130706431 192.0.2.1 8189 typ host generation 0\r\n";
        let relay = "127.0.0.1:5000".parse().expect("an address");
        let wanted = "v=0\r\nm=audio 9\r\n\
                      a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\n\
                      a=end-of-candidates\r\nm=video 9\r\n\
                      a=candidate:1 1 UDP 2130706431 127.0.0.1 5000 typ host generation 0\r\n";
        assert_eq!(rewrite_candidates(sdp, relay), wanted);
    }

    #[test]
    fn a_broken_candidate_is_left_out() {
        let relay = "127.0.0.1:5000".parse().expect("an address");
        assert_eq!(rewrite_candidates("a=candidate:1 1 udp\r\na=mid:0\r\n", relay), "a=mid:0\r\n");
    }
}
