//! What only real connections show: framing, TLS, HTTP/2, limits, graceful stop.

use super::*;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use signaling::media_server::{ViewerEvent, ViewerNews};
use signaling::serve::{Listeners, ServeError, serve};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No wait in these tests takes longer on a machine that works at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A server on free ports of loopback.
pub(super) struct Running {
    pub(super) fake: Arc<Fake>,
    pub(super) addresses: Addresses,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    pub(super) async fn start(config: &Config) -> Self {
        Self::on(Listeners::bind(config).await.expect("port 0 is free"), config)
    }

    pub(super) fn on(listeners: Listeners, config: &Config) -> Self {
        let addresses = listeners.addresses();
        let fake = Arc::new(Fake::default());
        let app = app(Arc::clone(&fake) as _, config, addresses);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listeners, app, async {
            let _ = stopped.await;
        }));
        Self { fake, addresses, stop, served }
    }

    pub(super) async fn http(&self) -> TcpStream {
        let address = self.addresses.http.expect("HTTP is served");
        TcpStream::connect(address).await.expect("it listens")
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).expect("it still runs");
        let ended = timeout(PATIENCE, self.served).await.expect("it stops in time");
        ended.expect("it does not panic").expect("it serves");
    }
}

/// A configuration with a certificate folder of its own.
pub(super) fn tls_config(name: &str) -> (Config, PathBuf) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    let source = CertificateSource::SelfSigned { directory: directory.clone(), names: vec![] };
    (Config { https: config().http, certificate: source, ..config() }, directory)
}

pub(super) fn root(path: &std::path::Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("it was made")
}

/// Connects and verifies the server's certificate against that root.
pub(super) async fn tls(
    address: SocketAddr,
    root: CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a certificate of ours is a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default versions are supported")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").expect("it is a name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Reads until the server closes.
pub(super) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    // A connection that is cut off shows as an error; what came before it counts.
    let _ = read.expect("the server closes in time");
    String::from_utf8(bytes).expect("answers are text")
}

/// Reads one answer that has no body.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("the answer comes in time");
        text.push(byte.expect("the answer is whole"));
    }
    String::from_utf8(text).expect("heads are text")
}

/// As ffmpeg writes it (`tests/data/offers/ffmpeg-9.0.2-whip-post-headers.txt`).
const POST: &str = "POST /whip/ff1 HTTP/1.1\r\nUser-Agent: Lavf/63.1.102\r\nAccept: */*\r\n\
    Connection: close\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nIcy-MetaData: 1\r\n\
    Content-Type: application/sdp\r\nAuthorization: Bearer publish-token\r\n\r\nv=0\r\n";
/// Keeps the connection and has an answer without body.
const OPTIONS: &str = "OPTIONS /whip/a HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_answer_has_a_length_and_is_not_chunked() {
    let running = Running::start(&config()).await;
    let mut stream = running.http().await;
    stream.write_all(POST.as_bytes()).await.expect("it reads");
    let answer = read_all(&mut stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 201 created\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-length: 13\r\n"), "{answer}");
    assert!(!answer.contains("transfer-encoding"), "ffmpeg fails on a chunked answer");
    running.stop().await;
}

#[tokio::test]
async fn problems_have_a_length_too() {
    let running = Running::start(&config()).await;
    let mut stream = running.http().await;
    let post = POST.replace("publish-token", "wrong").replace("ff1", "a");
    stream.write_all(post.as_bytes()).await.expect("it reads");
    let answer = read_all(&mut stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 401 unauthorized\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-length: "), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let running = Running::start(&config()).await;
    let mut stream = running.http().await;
    let head = POST.replace("Content-Length: 5", "Transfer-Encoding: chunked");
    let head = head.trim_end_matches("v=0\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(4_096));
    // The server stops reading at its limit; what it no longer takes fails here.
    for _ in 0..17 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_and_cut_off() {
    let mut config = config();
    config.limits.body_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    let mut stream = running.http().await;
    let head = POST.trim_end_matches("=0\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn a_slow_head_costs_its_connection() {
    let mut config = config();
    config.limits.head_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    let mut silent = running.http().await;
    let mut slow = running.http().await;
    slow.write_all(b"POST /whip/a HTTP/1.1\r\nHos").await.expect("it reads");
    for stream in [&mut silent, &mut slow] {
        let answer = read_all(stream).await;
        assert!(!answer.contains(" 20"), "{answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_is_refused_and_a_free_place_is_used() {
    let mut config = config();
    config.limits.connections_max = 1;
    let running = Running::start(&config).await;
    let mut first = running.http().await;
    first.write_all(OPTIONS.as_bytes()).await.expect("it reads");
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200 "));
    let mut second = running.http().await;
    let refusal = read_all(&mut second).await;
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(refusal.contains("Retry-After: 2\r\n"), "{refusal}");
    let (head, body) = refusal.split_once("\r\n\r\n").expect("it is whole");
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{refusal}");
    drop(first);
    let last = OPTIONS.replace("Host: a", "Host: a\r\nConnection: close");
    let served = async {
        loop {
            let mut next = running.http().await;
            let sent = next.write_all(last.as_bytes()).await;
            if sent.is_ok() && read_all(&mut next).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    timeout(PATIENCE, served).await.expect("the place becomes free");
    running.stop().await;
}

#[tokio::test]
async fn https_serves_both_versions_of_http_with_a_certificate_of_its_own() {
    let (config, directory) = tls_config("both-versions");
    let running = Running::start(&config).await;
    let address = running.addresses.https.expect("HTTPS is served");
    let root = root(&directory.join("self-signed.crt"));

    let mut stream = tls(address, root.clone(), b"http/1.1").await.expect("it is trusted");
    stream.write_all(POST.as_bytes()).await.expect("it reads");
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 201 Created\r\n"));

    let stream = tls(address, root, b"h2").await.expect("it is trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/2");
    let driver = tokio::spawn(connection);
    let ask = Ask::offer("https://localhost/whip/lot-42");
    let answer = sender.send_request(ask.0).await.expect("it answers");
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["content-length"], "13");
    drop((answer, sender));
    let _ = timeout(PATIENCE, driver).await.expect("it ends with its last user");
    running.stop().await;
}

#[tokio::test]
async fn a_failed_or_silent_handshake_costs_its_own_connection() {
    let (mut config, directory) = tls_config("handshake");
    config.limits.handshake_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    let address = running.addresses.https.expect("HTTPS is served");
    let mut silent = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(read_all(&mut silent).await, "");
    let mut plain = TcpStream::connect(address).await.expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it reads");
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("it is closed");
    running.stop().await;
    // The same with time enough: a good client is served after them.
    config.limits.handshake_timeout = PATIENCE;
    let running = Running::start(&config).await;
    let address = running.addresses.https.expect("HTTPS is served");
    let mut plain = TcpStream::connect(address).await.expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it reads");
    tls(address, root(&directory.join("self-signed.crt")), b"h2").await.expect("it is served");
    running.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_whatever_it_speaks() {
    let (mut config, directory) = tls_config("idle");
    config.limits.idle_timeout = Duration::from_millis(20);
    config.limits.stop_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    let address = running.addresses.https.expect("HTTPS is served");
    let root = root(&directory.join("self-signed.crt"));
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let mut idle = tls(address, root.clone(), alpn).await.expect("it is trusted");
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("it is closed");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_server_stops() {
    let running = Running::start(&config()).await;
    running.fake.reports.forget_permits(usize::MAX);
    let mut stream = running.http().await;
    let ask =
        "GET /api/v1/streams HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer admin-token\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    running.fake.report_begun.notified().await;
    let idle = running.http().await;
    let Running { fake, addresses, stop, served } = running;
    stop.send(()).expect("it still runs");
    let address = addresses.http.expect("HTTP is served");
    let closed = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("no new connection is taken");
    fake.reports.add_permits(1);
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let ended = timeout(PATIENCE, served).await.expect("an idle connection does not delay it");
    ended.expect("it does not panic").expect("it serves");
    drop(idle);
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_delay_the_stop_for_ever() {
    let mut config = config();
    config.limits.stop_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    running.fake.reports.forget_permits(usize::MAX);
    let mut stream = running.http().await;
    let ask =
        "GET /api/v1/streams HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer admin-token\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    running.fake.report_begun.notified().await;
    running.stop().await;
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn a_taken_address_is_named_with_advice() {
    let running = Running::start(&config()).await;
    let taken = Config { http: running.addresses.http, https: None, ..config() };
    let fault = Listeners::bind(&taken).await.expect_err("it is taken").to_string();
    let address = running.addresses.http.expect("HTTP is served").to_string();
    assert!(fault.contains(&address) && fault.contains("choose another port"), "{fault}");
    running.stop().await;
}

/// Asks what the pages are told of this server's ports, by way of a proxy or not.
async fn told_ports(running: &Running, forwarded: &str) -> String {
    let mut stream = running.http().await;
    let ask = format!(
        "GET /client-config.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{forwarded}\r\n"
    );
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    read_all(&mut stream).await
}

#[tokio::test]
async fn a_page_behind_a_trusted_proxy_is_not_told_ports_that_it_cannot_reach() {
    let running = Running::start(&config()).await;
    let port = running.addresses.http.expect("HTTP is served").port();
    let own = format!("\"http_port\":{port}");
    let forwarded = "X-Forwarded-For: 203.0.113.7\r\n";
    assert!(told_ports(&running, "").await.contains(&own));
    assert!(told_ports(&running, forwarded).await.contains(&own), "loopback is not trusted");
    running.stop().await;
    let trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let running = Running::start(&Config { trusted_proxies, ..config() }).await;
    let answer = told_ports(&running, forwarded).await;
    assert!(answer.contains("\"http_port\":null"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn one_address_cannot_take_every_connection_but_a_trusted_proxy_can() {
    let mut config = config();
    config.limits.connections_per_address_max = 1;
    let running = Running::start(&config).await;
    let mut first = running.http().await;
    first.write_all(OPTIONS.as_bytes()).await.expect("it reads");
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let refused = read_all(&mut running.http().await).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.ends_with("\r\n\r\ntoo many connections from this address\n"), "{refused}");
    assert!(refused.contains("\r\nContent-Length: 39\r\n"));
    // Another address of loopback is another client.
    let address = running.addresses.http.expect("HTTP is served");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 2], 0).into()).expect("loopback has many addresses");
    let mut other = socket.connect(address).await.expect("it listens");
    other.write_all(OPTIONS.as_bytes()).await.expect("it reads");
    assert!(read_head(&mut other).await.starts_with("HTTP/1.1 200 OK\r\n"));
    drop((first, other));
    running.stop().await;

    config.trusted_proxies = vec!["127.0.0.1".parse::<std::net::IpAddr>().expect("good").into()];
    let running = Running::start(&config).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut stream = running.http().await;
        stream.write_all(OPTIONS.as_bytes()).await.expect("it reads");
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
        all.push(stream);
    }
    drop(all);
    running.stop().await;
}

#[tokio::test]
async fn a_stream_of_events_outlives_the_time_a_connection_may_idle() {
    let limits = Limits { idle_timeout: Duration::from_millis(20), ..Limits::default() };
    let running = Running::start(&Config { limits, ..config() }).await;
    let mut stream = running.http().await;
    let path = format!("/whep/@session/{}/events", fake::SESSION);
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut text = String::new();
    let mut read_until = async |text: &mut String, wanted: &str| {
        let reading = async {
            while !text.contains(wanted) {
                let mut bytes = [0; 1024];
                let length = stream.read(&mut bytes).await.expect("it is open");
                assert!(length > 0, "it is closed after {text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        };
        timeout(PATIENCE, reading).await.expect("it comes in time");
    };
    read_until(&mut text, "text/event-stream").await;
    // Another connection that idles is closed meanwhile: the time has passed.
    let mut idle = running.http().await;
    let closed = timeout(PATIENCE, idle.read(&mut [0])).await.expect("it is closed in time");
    assert_eq!(closed.expect("properly"), 0);
    running.fake.events.send_modify(|news| news.event = Some(ViewerEvent::Inactive));
    read_until(&mut text, "event: inactive").await;
    running.fake.events.send_replace(ViewerNews::default());
}

/// Behind a proxy that is not named as one everybody comes from its address.
#[tokio::test]
async fn streams_of_events_leave_an_address_room_for_requests() {
    let limits = Limits { connections_per_address_max: 4, ..Limits::default() };
    let running = Running::start(&Config { limits, ..config() }).await;
    let path = format!("/whep/@session/{}/events", fake::SESSION);
    let listen = async || {
        let mut stream = running.http().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        (read_head(&mut stream).await, stream)
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let (head, stream) = listen().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        open.push(stream);
    }
    let (head, _) = listen().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    drop(open);
    let again = async {
        while !listen().await.0.starts_with("HTTP/1.1 200 OK\r\n") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("who has gone makes room");
    running.fake.events.send_replace(ViewerNews::default());
}
