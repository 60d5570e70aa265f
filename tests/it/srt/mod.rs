//! SRT in: real encoders and an independent stack, refusals, takeovers, streams that are fetched.
//!
//! - `clients`: ffmpeg, GStreamer, `srt-live-transmit`
//! - `hostile`: what a public port must stand
//! - `packets`: handshakes made by hand
//! - `watched`: SRT in, WHEP out

mod clients;
mod hostile;
mod packets;
mod watched;

use crate::harness::{PUBLISH_TOKEN, SOON, Server, until};
use anyhow::Context;
use bytes::Bytes;
use loadtest::srt::{CallError, CallOptions, SrtCaller};
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// A passphrase for every test that needs one.
const PASSPHRASE: &str = "passphrase-of-the-tests";

/// A server with SRT on a free port, and that port.
async fn server(options: &[(&str, &str)]) -> anyhow::Result<(Server, SocketAddr)> {
    let mut all = vec![("srt.listen", "127.0.0.1:0")];
    all.extend_from_slice(options);
    let server = Server::with(&all).await?;
    let line = server.said(&["listening", "purpose=\"SRT\""]).await?;
    let (_, address) = line.split_once("address=").context("an address")?;
    Ok((server, address.trim().parse()?))
}

/// What a publisher asks for.
fn publishing(stream: &str) -> CallOptions {
    CallOptions::new(format!("#!::r={stream},m=publish,token={PUBLISH_TOKEN}"))
}

/// Ten seconds of H.264 and AAC as a transport stream, made once.
async fn recording() -> anyhow::Result<Bytes> {
    static MADE: tokio::sync::OnceCell<Bytes> = tokio::sync::OnceCell::const_new();
    let make = async || {
        let mut ffmpeg = ffmpeg_source(false);
        let output = ffmpeg.args(["-t", "10", "-f", "mpegts", "-"]).output().await?;
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "ffmpeg: {error}");
        Ok(Bytes::from(output.stdout))
    };
    MADE.get_or_try_init(make).await.cloned()
}

/// ffmpeg with a picture and a tone, encoded; in its own time, or as fast as it can.
fn ffmpeg_source(is_live: bool) -> Command {
    let codecs = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 30 \
        -b:v 200k -c:a aac";
    encoder(is_live, codecs)
}

/// The same with codecs of the test's own.
fn encoder(is_live: bool, codecs: &str) -> Command {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error"]);
    if is_live {
        ffmpeg.arg("-re");
    }
    let input = "-f lavfi -i testsrc2=size=160x120:rate=30 \
        -f lavfi -i sine=frequency=440:sample_rate=48000";
    ffmpeg.args(input.split_whitespace()).args(codecs.split_whitespace()).kill_on_drop(true);
    ffmpeg
}

/// Sends the recording over and over, in its own time, until it is dropped or the connection ends.
struct Sending(JoinHandle<std::io::Result<()>>);

impl Sending {
    async fn start(mut caller: SrtCaller) -> anyhow::Result<Self> {
        let stream = recording().await?;
        let send = async move {
            loop {
                caller.send_stream(&stream).await?;
            }
        };
        Ok(Self(tokio::spawn(send)))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream's publisher as the API tells it, if it has one.
async fn publisher(server: &Server, stream: &str) -> anyhow::Result<Option<Value>> {
    let stream = server.stream(stream).await?;
    Ok(stream.map(|it| it["publisher"].clone()).filter(|it| !it.is_null()))
}

/// How many frames have been taken in of a stream.
async fn taken(server: &Server, stream: &str) -> anyhow::Result<u64> {
    let publisher = publisher(server, stream).await?;
    Ok(publisher.and_then(|it| it["frames"]["taken"].as_u64()).unwrap_or(0))
}

/// Waits until so many more frames have been taken in.
async fn goes_on(server: &Server, stream: &str, frames: u64) -> anyhow::Result<()> {
    let begin = taken(server, stream).await?;
    let look = async || {
        let now = taken(server, stream).await.ok()?;
        (now >= begin + frames || now < begin).then_some(())
    };
    until(&format!("{frames} frames of {stream}"), look).await
}

/// A reason as the caller is told it.
async fn rejection(remote: SocketAddr, options: &CallOptions) -> anyhow::Result<String> {
    match SrtCaller::call(remote, options).await {
        Ok(_) => anyhow::bail!("{options:?} was let in"),
        Err(CallError::Rejected(reason)) => Ok(reason),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn an_independent_stack_publishes_with_every_key_length() -> anyhow::Result<()> {
    let (server, remote) = server(&[("srt.passphrases", &format!("e*={PASSPHRASE}"))]).await?;
    for (stream, key_bytes) in
        [("plain", None), ("e16", Some(16)), ("e24", Some(24)), ("e32", Some(32))]
    {
        let encryption = key_bytes.map(|it| (it, PASSPHRASE.to_owned()));
        let options = CallOptions { encryption, ..publishing(stream) };
        let caller = SrtCaller::call(remote, &options);
        let _sending = Sending::start(caller.await.context(stream)?).await?;
        goes_on(&server, stream, 30).await?;
    }
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn a_refused_caller_is_told_the_reason() -> anyhow::Result<()> {
    let tokens = "lot-*=token-of-the-lots";
    let (server, remote) = server(&[
        ("auth.publish_tokens", tokens),
        ("srt.passphrases", &format!("secret={PASSPHRASE}")),
    ])
    .await?;
    let caller = SrtCaller::call(remote, &publishing("lot-1")).await?;
    let _sending = Sending::start(caller).await?;
    goes_on(&server, "lot-1", 5).await?;
    let without_secret = format!("publish:secret:{PUBLISH_TOKEN}");
    // What is asked for, what comes back, what the log says.
    let table = [
        ("", "Server(BadRequest)", "names no stream"),
        ("#!::r=a b,m=publish,token=x", "Server(BadRequest)", "letters, digits"),
        ("#!::r=stage,m=request", "Server(BadMode)", "watch them with WHEP"),
        ("#!::r=stage,m=publish,t=file", "Server(NotSupMedia)", "t=stream"),
        ("publish:stage", "Server(Unauthorized)", "needs a token"),
        ("publish:stage:wrong", "Server(Forbidden)", "does not publish stream stage"),
        ("publish:stage:token-of-the-lots", "Server(Forbidden)", "does not publish stream stage"),
        ("publish:lot-1:token-of-the-lots", "Server(Conflict)", "with another token"),
        (without_secret.as_str(), "Core(Unsecure)", ""),
    ];
    for (id, expected, words) in table {
        assert_eq!(
            rejection(remote, &CallOptions::new(id)).await.with_context(|| id.to_owned())?,
            expected,
            "{id}"
        );
        if !words.is_empty() {
            server.said(&["SRT caller refused", words]).await?;
        }
    }
    let wrong = Some((16, "not-the-passphrase".to_owned()));
    let wrong = CallOptions { encryption: wrong, ..publishing("secret") };
    assert_eq!(rejection(remote, &wrong).await?, "Core(BadSecret)");
    let unexpected = Some((16, PASSPHRASE.to_owned()));
    let unexpected = CallOptions { encryption: unexpected, ..publishing("stage") };
    assert_eq!(rejection(remote, &unexpected).await?, "Core(Unsecure)");
    goes_on(&server, "lot-1", 30).await?;
    assert!(publisher(&server, "secret").await?.is_none(), "nothing was taken by a wrong secret");
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn the_same_token_takes_a_stream_over_at_once() -> anyhow::Result<()> {
    let (server, remote) = server(&[]).await?;
    let first = Sending::start(SrtCaller::call(remote, &publishing("a")).await?).await?;
    goes_on(&server, "a", 10).await?;
    let before = publisher(&server, "a").await?.context("a publisher")?["session"].clone();
    let _second = Sending::start(SrtCaller::call(remote, &publishing("a")).await?).await?;
    let replaced = async || {
        let now = publisher(&server, "a").await.ok()??["session"].clone();
        (now != before).then_some(())
    };
    until("the second publishes", replaced).await?;
    goes_on(&server, "a", 10).await?;
    server.said(&["SRT connection ended", "end=Session(Replaced"]).await?;
    drop(first);
    Ok(())
}

#[tokio::test]
async fn an_encoder_comes_back_from_the_same_port() -> anyhow::Result<()> {
    let (server, remote) = server(&[]).await?;
    let from = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    for _ in 0..3 {
        let socket = tokio::net::UdpSocket::bind(from).await?;
        let caller = SrtCaller::call_from(socket, remote, &publishing("a")).await?;
        let sending = Sending::start(caller).await?;
        goes_on(&server, "a", 10).await?;
        // It vanishes without a word.
        drop(sending);
        let free = async || tokio::net::UdpSocket::bind(from).await.ok().map(drop);
        until("the port is free", free).await?;
    }
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_per_address() -> anyhow::Result<()> {
    for (option, others) in [
        ("srt.connections_max", ("srt.connections_per_address_max", "9")),
        ("srt.connections_per_address_max", ("srt.connections_max", "9")),
    ] {
        let (server, remote) = server(&[(option, "2"), others]).await?;
        let callers = [
            SrtCaller::call(remote, &publishing("a")).await?,
            SrtCaller::call(remote, &publishing("b")).await?,
        ];
        let both = async || {
            let [a, b] = ["a", "b"].map(|name| publisher(&server, name));
            let (a, b) = (a.await.ok()?, b.await.ok()?);
            a.and(b).map(drop)
        };
        until("both publish", both).await?;
        assert_eq!(rejection(remote, &publishing("c")).await?, "Server(Overload)");
        server.said(&["SRT caller refused", option]).await?;
        let [first, _second] = callers;
        first.close().await?;
        let again = async || SrtCaller::call(remote, &publishing("c")).await.ok();
        let _third = until("there is a place again", again).await?;
    }
    Ok(())
}

#[tokio::test]
async fn ipv6_and_ipv4_callers_come_to_one_wildcard_port() -> anyhow::Result<()> {
    let (server, address) = server(&[("srt.listen", "*:0")]).await?;
    let mut hosts = vec!["127.0.0.1"];
    if address.is_ipv6() {
        hosts.push("::1");
    }
    for host in hosts {
        let remote = SocketAddr::new(host.parse()?, address.port());
        let caller = SrtCaller::call(remote, &publishing("a")).await.context(host)?;
        let _sending = Sending::start(caller).await?;
        goes_on(&server, "a", 10).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_an_error_at_the_start() -> anyhow::Result<()> {
    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .env_clear()
        .env("MILLRACE_SRT__LISTEN", &port)
        .env("MILLRACE_RTMP__LISTEN", "off")
        .env("MILLRACE_RTMP__TLS_LISTEN", "off")
        .env("MILLRACE_NETWORK__HTTP_LISTEN", "127.0.0.1:0")
        .env("MILLRACE_NETWORK__HTTPS_LISTEN", "off")
        .env("MILLRACE_NETWORK__MEDIA_LISTEN", "127.0.0.1:0")
        .env("MILLRACE_PUBLISH_TOKEN", "a")
        .env("MILLRACE_ADMIN_TOKEN", "b")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, output).await.context("it should have ended")??;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("cannot listen for SRT") && said.contains("srt.listen"), "{said}");
    Ok(())
}

#[tokio::test]
async fn stopping_ends_connections_in_time() -> anyhow::Result<()> {
    let (mut server, remote) = server(&[]).await?;
    let _sending = Sending::start(SrtCaller::call(remote, &publishing("a")).await?).await?;
    goes_on(&server, "a", 10).await?;
    server.terminate()?;
    let status = server.exited(SOON).await?;
    assert!(status.success(), "{status}");
    server.assert_sound();
    Ok(())
}

/// ffmpeg as a listener on this port.
fn listening(port: u16, passphrase: &str) -> anyhow::Result<Child> {
    let url = format!("srt://127.0.0.1:{port}?mode=listener&passphrase={passphrase}");
    Ok(ffmpeg_source(true).args(["-f", "mpegts", &url]).spawn()?)
}

#[tokio::test]
async fn a_stream_is_fetched_again_when_it_is_back() -> anyhow::Result<()> {
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let url = format!("a=srt://127.0.0.1:{port}?passphrase={PASSPHRASE}&latency=80");
    let (server, _) = server(&[("srt.pull", &url)]).await?;
    for _ in 0..2 {
        let mut encoder = listening(port, PASSPHRASE)?;
        goes_on(&server, "a", 30).await?;
        let publisher = publisher(&server, "a").await?.context("a publisher")?;
        assert_eq!(publisher["protocol"], "srt");
        encoder.kill().await?;
        let gone = async || publisher_is_gone(&server, "a").await;
        until("the session has ended", gone).await?;
    }
    server.assert_sound();
    Ok(())
}

async fn publisher_is_gone(server: &Server, stream: &str) -> Option<()> {
    publisher(server, stream).await.ok()?.is_none().then_some(())
}
