//! What only real connections show of LL-HLS: waiting, streaming, cutting off; by HTTP/1.1 and by
//! HTTP/2, with TLS and without.

use super::fake::SEGMENT_BYTES;
use super::sockets::{PATIENCE, Running, read_all, root, tls, tls_config};
use super::*;
use axum::body::Bytes;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use signaling::media_server::hls::Unfinished;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What is not there yet.
const BLOCKING: &str = "/hls/a/video.m3u8?_HLS_msn=7&_HLS_part=0";
/// What is being made.
const GROWING: &str = "/hls/a/r_video_7.m4s";

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it is done in time")
}

/// The segment that is being made gets these pieces.
fn pieces(running: &Running) -> mpsc::Sender<Result<Bytes, Unfinished>> {
    let (send, receive) = mpsc::channel(1);
    *running.fake.pieces.lock().expect("nobody panics with it") = Some(receive);
    send
}

type Sender = http2::SendRequest<Body>;

async fn http2_over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = connected.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn get(sender: &mut Sender, path: &str) -> Response<Incoming> {
    let uri = format!("http://localhost{path}");
    let request = Request::get(uri).body(Body::empty()).expect("a good request");
    within(sender.send_request(request)).await.expect("it is answered")
}

#[tokio::test]
async fn a_blocking_reload_outlasts_the_times_that_requests_have() {
    let mut config = config();
    config.limits.head_timeout = Duration::from_millis(20);
    config.limits.body_timeout = Duration::from_millis(20);
    config.limits.idle_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    let mut stream = running.http().await;
    stream.write_all(request(BLOCKING).as_bytes()).await.expect("it reads");
    within(running.fake.wait_begun.notified()).await;
    // A connection that asks nothing is closed meanwhile: the time has passed, twice.
    for _ in 0..2 {
        let mut idle = running.http().await;
        assert_eq!(read_all(&mut idle).await, "");
    }
    running.fake.parts.add_permits(1);
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("#EXTM3U\nr_video_7.0.m4s\n"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn who_leaves_waits_no_more() {
    let running = Running::start(&config()).await;
    let mut stream = running.http().await;
    stream.write_all(request(BLOCKING).as_bytes()).await.expect("it reads");
    within(running.fake.wait_begun.notified()).await;
    drop(stream);
    within(running.fake.wait_ended.notified()).await;

    let mut sender = http2_over(running.http().await).await;
    let uri = format!("http://localhost{BLOCKING}");
    let request = Request::get(uri).body(Body::empty()).expect("a good request");
    let answer = tokio::spawn(sender.send_request(request));
    within(running.fake.wait_begun.notified()).await;
    answer.abort();
    within(running.fake.wait_ended.notified()).await;
    running.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_with_tls_and_without_and_many_may_wait_on_one_connection() {
    let (config, directory) = tls_config("hls-http2");
    let running = Running::start(&config).await;
    let address = running.addresses.https.expect("HTTPS is served");
    let root = root(&directory.join("self-signed.crt"));
    let secure = tls(address, root, b"h2").await.expect("it is trusted");
    for mut sender in [http2_over(secure).await, http2_over(running.http().await).await] {
        let waiting: Vec<_> = (0..90)
            .map(|_| {
                let mut sender = sender.clone();
                tokio::spawn(async move { get(&mut sender, BLOCKING).await.status() })
            })
            .collect();
        // Another request gets past those that wait.
        let answer = get(&mut sender, "/hls/a/index.m3u8").await;
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, hyper::Version::HTTP_2));
        running.fake.parts.add_permits(90);
        for answer in waiting {
            assert_eq!(within(answer).await.expect("no panic"), 200);
        }
        let segment = get(&mut sender, "/hls/a/r_video_6.m4s").await;
        assert_eq!(segment.headers()["content-length"], SEGMENT_BYTES.to_string());
        let body = within(segment.into_body().collect()).await.expect("it is whole").to_bytes();
        assert!(body == fake::segment(), "in pieces it is the same");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_segment_that_is_being_made_is_sent_as_it_grows() {
    let running = Running::start(&config()).await;
    let grow = pieces(&running);
    let mut stream = running.http().await;
    stream.write_all(request(GROWING).as_bytes()).await.expect("it reads");
    let mut text = String::new();
    for piece in ["first-part", "second-part"] {
        grow.send(Ok(Bytes::from_static(piece.as_bytes()))).await.expect("it is read");
        let came = async {
            while !text.contains(piece) {
                let mut bytes = [0; 1024];
                let length = stream.read(&mut bytes).await.expect("it is open");
                assert!(length > 0, "it is closed after {text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        };
        within(came).await;
    }
    drop(grow);
    text.push_str(&read_all(&mut stream).await);
    assert!(text.contains("transfer-encoding: chunked"), "{text}");
    assert!(text.contains("cache-control: public, max-age=31536000, immutable"), "{text}");
    assert!(text.contains("etag: \"r_video_7.m4s\""), "{text}");
    assert!(text.ends_with("\r\n0\r\n\r\n"), "it ends as a whole answer does: {text}");

    let grow = pieces(&running);
    let mut sender = http2_over(running.http().await).await;
    let mut body = get(&mut sender, GROWING).await.into_body();
    for piece in ["first", "second"] {
        grow.send(Ok(Bytes::from_static(piece.as_bytes()))).await.expect("it is read");
        let frame = within(body.frame()).await.expect("it goes on").expect("it is well");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(grow);
    let rest = within(body.collect()).await.expect("it ends well");
    assert!(rest.to_bytes().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_segment_whose_rest_does_not_come_is_seen_to_be_cut_off() {
    let running = Running::start(&config()).await;
    let grow = pieces(&running);
    let mut stream = running.http().await;
    stream.write_all(request(GROWING).as_bytes()).await.expect("it reads");
    grow.send(Ok(Bytes::from_static(b"begun"))).await.expect("it is read");
    grow.send(Err(Unfinished)).await.expect("it is read");
    let text = read_all(&mut stream).await;
    assert!(text.contains("begun") && !text.contains("\r\n0\r\n"), "{text}");

    let grow = pieces(&running);
    let mut sender = http2_over(running.http().await).await;
    let body = get(&mut sender, GROWING).await.into_body();
    grow.send(Ok(Bytes::from_static(b"begun"))).await.expect("it is read");
    grow.send(Err(Unfinished)).await.expect("it is read");
    within(body.collect()).await.expect_err("the stream is reset");
    running.stop().await;
}

#[tokio::test]
async fn who_takes_no_more_of_an_answer_is_cut_off() {
    let mut config = config();
    config.limits.idle_timeout = Duration::from_millis(50);
    config.limits.stop_timeout = Duration::from_millis(20);
    let running = Running::start(&config).await;
    // One that is whole, and one that is being made.
    let mut stalled = running.http().await;
    stalled.write_all(request("/hls/a/r_video_6.m4s").as_bytes()).await.expect("it reads");
    let grow = pieces(&running);
    let mut growing = running.http().await;
    growing.write_all(request(GROWING).as_bytes()).await.expect("it reads");
    let piece = Bytes::from(vec![7; 1 << 20]);
    within(async { while grow.send(Ok(piece.clone())).await.is_ok() {} }).await;

    // By HTTP/2 other requests go on, and do not save it.
    let mut sender = http2_over(running.http().await).await;
    let stuck = get(&mut sender, "/hls/a/r_video_6.m4s").await;
    let busy = async {
        loop {
            let request = Request::get("http://localhost/hls/a/index.m3u8").body(Body::empty());
            if sender.send_request(request.expect("a good request")).await.is_err() {
                return;
            }
        }
    };
    within(busy).await;
    drop(stuck);
    // The first one was no better off: it is closed, and what was not sent never comes.
    let mut came = Vec::new();
    let _ = within(stalled.read_to_end(&mut came)).await;
    assert!(came.len() < SEGMENT_BYTES, "{} bytes came", came.len());
    running.stop().await;
}

#[tokio::test]
async fn a_cookie_goes_by_tls_only_where_it_was_set_so() {
    let (mut config, directory) = tls_config("hls-cookie");
    config.credentials = config.credentials.with_view_rule("*", "v");
    let running = Running::start(&config).await;
    let ask = request("/hls/a/index.m3u8?token=v");
    let mut plain = running.http().await;
    plain.write_all(ask.as_bytes()).await.expect("it reads");
    let answer = read_all(&mut plain).await;
    assert!(answer.contains("Path=/hls/a/; HttpOnly; SameSite=Lax\r\n"), "{answer}");
    let address = running.addresses.https.expect("HTTPS is served");
    let root = root(&directory.join("self-signed.crt"));
    let mut secure = tls(address, root, b"http/1.1").await.expect("it is trusted");
    secure.write_all(ask.as_bytes()).await.expect("it reads");
    let answer = read_all(&mut secure).await;
    assert!(answer.contains("SameSite=Lax; Secure\r\n"), "{answer}");
    running.stop().await;
}
