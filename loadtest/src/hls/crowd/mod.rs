//! Players of LL-HLS by the thousand in one thread: each follows its playlists by blocking reload
//! and loads parts before they exist, as a player in low-latency mode does, and plays to
//! nobody.
//!
//! Each rendition of each player has two connections, which are kept: one waits for the playlist,
//! the other for the part that is hinted at. A text is read once, however many get it; bodies of
//! media are thrown away unseen.
//!
//! - `connection`: HTTP/1.1, nonblocking
//! - `event_loop`: the thread
//! - `follower`: one rendition of one player
//! - `listing`: what a player takes from a playlist
//! - `playback`: what it would show
//! - `response`: heads, and ends of bodies
//! - `stats`: what is counted

mod connection;
mod event_loop;
mod follower;
mod listing;
mod playback;
mod response;
mod stats;

pub use stats::{Outcome, Span, Status, Tally};

use anyhow::Context;
use event_loop::{Command, EventLoop};
use reqwest::Url;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a crowd is like.
#[derive(Debug, Clone)]
pub struct CrowdOptions {
    /// The multivariant playlist, `http` only.
    pub url: Url,
    /// How many players.
    pub clients: usize,
    /// How many of them come each second.
    pub rate: f64,
    /// Whether they listen as well.
    pub audio: bool,
    /// Whether they take playlists compressed.
    pub gzip: bool,
    /// Whether they ask for delta updates where there are some.
    pub skip: bool,
    /// The server's process, where it runs on this machine.
    pub server_process: Option<u32>,
}

/// A running crowd. Dropping it ends its thread.
#[derive(Debug)]
pub struct Crowd {
    commands: Sender<Command>,
    status: Arc<Mutex<Status>>,
    thread: Option<JoinHandle<anyhow::Result<Outcome>>>,
}

impl Crowd {
    /// Sends the players.
    ///
    /// # Errors
    ///
    /// When the address is none, or the system has no more descriptors or threads.
    pub fn start(options: CrowdOptions) -> anyhow::Result<Self> {
        let address = address(&options.url)?;
        let (commands, receiver) = channel();
        let status = Arc::new(Mutex::new(Status::default()));
        let shared = status.clone();
        let run = move || EventLoop::new(options, address, receiver, shared)?.run();
        let thread = std::thread::Builder::new().name("crowd".to_owned()).spawn(run)?;
        Ok(Self { commands, status, thread: Some(thread) })
    }

    /// How it goes, as of a tenth of a second ago.
    pub fn status(&self) -> Status {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes from now on is measured.
    pub fn measure(&self) {
        // A thread that is gone says why when it is ended.
        let _ = self.commands.send(Command::Measure);
    }

    /// Stops.
    ///
    /// # Errors
    ///
    /// When the thread ended before, for the reason it gives.
    pub fn end(mut self) -> anyhow::Result<Outcome> {
        let _ = self.commands.send(Command::End);
        let thread = self.thread.take().context("a crowd has a thread")?;
        thread.join().map_err(|_| anyhow::anyhow!("the crowd's thread panicked"))?
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::End);
    }
}

fn address(url: &Url) -> anyhow::Result<SocketAddr> {
    anyhow::ensure!(url.scheme() == "http", "{url}: players speak HTTP without TLS");
    let host = url.host_str().context("an address has a host")?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().context("an address has a port")?;
    (host, port).to_socket_addrs()?.next().with_context(|| format!("{host}: no such host"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    /// The newest part: whoever waits for a part gets it made.
    static NEWEST: AtomicU64 = AtomicU64::new(10);

    fn answer(target: &str) -> Vec<u8> {
        let directive = |name: &str| -> Option<u64> {
            let (_, rest) = target.split_once(name)?;
            rest.split('&').next()?.parse().ok()
        };
        let body = if target.starts_with("/hls/a/index.m3u8") {
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nvideo.m3u8?token=t\n".to_owned()
        } else if target.starts_with("/hls/a/video.m3u8?") && target.ends_with("token=t") {
            let wanted = directive("_HLS_msn=").zip(directive("_HLS_part="));
            NEWEST.fetch_max(wanted.map_or(0, |(msn, part)| msn * 2 + part), Ordering::Relaxed);
            let newest = NEWEST.load(Ordering::Relaxed);
            listing::tests::text(newest / 2, newest % 2 + 1)
        } else if target.ends_with(".0") {
            // As of a part that is sent while it is made.
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            return format!("{head}5\r\nhello\r\n0\r\n\r\n").into_bytes();
        } else {
            "x".repeat(100_000)
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body.as_bytes()].concat()
    }

    fn serve(mut stream: TcpStream) -> std::io::Result<()> {
        let (mut heard, mut piece) = (Vec::new(), [0; 4_096]);
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            heard.extend_from_slice(&piece[..count]);
            if heard.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&heard).into_owned();
                let target = text.split(' ').nth(1).unwrap_or_default();
                stream.write_all(&answer(target))?;
                heard.clear();
            }
        }
    }

    #[test]
    fn players_follow_a_stream_part_by_part() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hls/a/index.m3u8", listener.local_addr()?);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        let crowd = Crowd::start(CrowdOptions {
            url: Url::parse(&url)?,
            clients: 5,
            rate: 1_000.0,
            audio: true,
            gzip: false,
            skip: true,
            server_process: None,
        })?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while crowd.status().playing < 5 || crowd.status().responses < 200 {
            anyhow::ensure!(Instant::now() < deadline, "{:?}", crowd.status());
            std::thread::yield_now();
        }
        crowd.measure();
        let outcome = crowd.end()?;
        assert_eq!((outcome.clients, outcome.renditions, outcome.connections), (5, 1, 10));
        let tallies = [&outcome.joining.tally, &outcome.steady.tally];
        assert!(tallies.iter().all(|it| it.refused.is_empty() && it.broken.is_empty()));
        assert!(outcome.joining.tally.bytes > 1_000_000);
        assert_eq!(outcome.faults, [""; 0]);
        Ok(())
    }
}
