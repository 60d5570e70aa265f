//! Starts the real server as a process of its own on free ports of loopback; publishes, views, and
//! waits for what is to happen by looking, with a deadline.

use anyhow::Context;
use loadtest::codec::Codec;
use loadtest::http::Signaling;
use loadtest::light::{Answer, Offer};
use loadtest::watched::Watched;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, WhipClient, refused_with};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// The token every test publishes with, unless it says otherwise.
pub(crate) const PUBLISH_TOKEN: &str = "publish-token-of-the-tests";
/// The token for the API.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-the-tests";
/// How long anything may take that should take no time; machines under load are slow.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Between two looks at something that cannot be waited on.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Output kept of one server.
const OUTPUT_MAX: usize = 4 << 20;

/// A running server; dropping it kills the process and removes its state.
pub(crate) struct Server {
    child: Child,
    base: String,
    output: Arc<Watched<String>>,
    directory: PathBuf,
    http: Signaling,
}

impl Server {
    /// With the defaults, and four shards.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::with(&[]).await
    }

    /// With some options set: `("limits.sessions_max", "1")`.
    pub(crate) async fn with(options: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_millrace")), options).await
    }

    /// By a command of the test's own.
    pub(crate) async fn spawn(
        mut command: Command,
        options: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        command
            .env_clear()
            .env("MILLRACE_PUBLISH_TOKEN", PUBLISH_TOKEN)
            .env("MILLRACE_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("MILLRACE_SERVER__STATE_DIRECTORY", &directory)
            .env("MILLRACE_NETWORK__HTTP_LISTEN", "127.0.0.1:0")
            .env("MILLRACE_NETWORK__HTTPS_LISTEN", "off")
            .env("MILLRACE_NETWORK__MEDIA_LISTEN", "127.0.0.1:0")
            .env("MILLRACE_RTMP__LISTEN", "127.0.0.1:0")
            .env("MILLRACE_RTMP__TLS_LISTEN", "off")
            .env("MILLRACE_SRT__LISTEN", "off")
            // Whatever the machine has, clients are spread over several shards.
            .env("MILLRACE_SERVER__SHARDS", "4")
            // Debug builds on a shared machine are slow; what that leads to has tests of its own.
            .env("MILLRACE_LIMITS__LOAD_MAX_PERCENT", "100")
            .env("MILLRACE_LIMITS__LATENESS_MAX_MS", "10000")
            // Of most tests nobody hears anything: they need not ask what can be made of sound.
            .env("MILLRACE_TRANSCODE__WORKER", "off")
            // Nor are layers made but where that is tested.
            .env("MILLRACE_TRANSCODE__LADDER", "off")
            .env("MILLRACE_LOG__LEVEL", "debug");
        for (key, value) in options {
            let variable = key.to_uppercase().replace('.', "__");
            command.env(format!("MILLRACE_{variable}"), value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let output = Arc::new(Watched::new(String::new()));
        tokio::spawn(collect(child.stdout.take().context("stdout")?, output.clone()));
        tokio::spawn(collect(child.stderr.take().context("stderr")?, output.clone()));
        let base = output
            .wait(SOON, "the server's address", |text| http_address(text))
            .await
            .with_context(|| output.read(Clone::clone))?;
        let http = Signaling::new(None)?;
        let server = Self { child, base, output, directory, http };
        let healthy = async || {
            let answer = server.http.request(reqwest::Method::GET, &server.url("/healthz"));
            answer.send().await.is_ok_and(|it| it.status().is_success()).then_some(())
        };
        until("the server answers", healthy).await?;
        Ok(server)
    }

    /// A URL of this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Host and port of its HTTP listener.
    pub(crate) fn http_address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Where a stream is published.
    pub(crate) fn whip(&self, stream: &str) -> String {
        self.url(&format!("/whip/{stream}"))
    }

    /// Where a stream is watched.
    pub(crate) fn whep(&self, stream: &str) -> String {
        self.url(&format!("/whep/{stream}"))
    }

    /// Somebody with this token, or with none.
    pub(crate) fn client(&self, token: Option<&str>) -> Signaling {
        self.http.with_token(token)
    }

    /// Somebody who may publish.
    pub(crate) fn publisher(&self) -> Signaling {
        self.client(Some(PUBLISH_TOKEN))
    }

    /// Publishes.
    pub(crate) async fn publish(
        &self,
        stream: &str,
        options: PublishOptions,
    ) -> anyhow::Result<WhipClient> {
        WhipClient::publish(&self.publisher(), &self.whip(stream), options).await
    }

    /// Views, as soon as the stream is live.
    pub(crate) async fn view(
        &self,
        stream: &str,
        options: ViewOptions,
    ) -> anyhow::Result<WhepClient> {
        let client = self.client(None);
        let attempt = async || {
            let view = WhepClient::view(&client, &self.whep(stream), options.clone()).await;
            match view {
                Err(error) if refused_with(&error) == Some(409) => None,
                done => Some(done),
            }
        };
        until("the stream is live", attempt).await?
    }

    /// The JSON of `/api/v1/streams`, one entry.
    pub(crate) async fn stream(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let admin = self.client(Some(ADMIN_TOKEN));
        let body = admin.json(&self.url("/api/v1/streams")).await?;
        let streams = body["streams"].as_array().context("a list of streams")?;
        Ok(streams.iter().find(|stream| stream["name"] == name).cloned())
    }

    /// The sum of a metric's samples; a metric that is not there is an error.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        Ok(self.samples(name).await?.iter().sum())
    }

    /// A metric's samples; a metric that is not there is an error.
    pub(crate) async fn samples(&self, name: &str) -> anyhow::Result<Vec<f64>> {
        let admin = self.client(Some(ADMIN_TOKEN));
        let text = admin.request(reqwest::Method::GET, &self.url("/metrics")).send().await?;
        let text = text.text().await?;
        let is_sample =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let samples: Vec<&str> = text.lines().filter(is_sample).collect();
        anyhow::ensure!(!samples.is_empty(), "no metric {name} in\n{text}");
        Ok(samples.iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect())
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> &Watched<String> {
        &self.output
    }

    /// Waits for a line that contains all these words, whatever their case.
    pub(crate) async fn said(&self, words: &[&str]) -> anyhow::Result<String> {
        let line = |text: &String| {
            let holds = |line: &&str| {
                let line = line.to_lowercase();
                words.iter().all(|word| line.contains(&word.to_lowercase()))
            };
            text.lines().find(holds).map(str::to_owned)
        };
        self.output
            .wait(SOON, &format!("a line with {words:?}"), line)
            .await
            .with_context(|| format!("the server said:\n{}", self.output.read(Clone::clone)))
    }

    /// Where it listens for this: `"RTMP"`, with its quotes, is not `"RTMPS"`.
    pub(crate) async fn listens(&self, purpose: &str) -> anyhow::Result<SocketAddr> {
        let line = self.said(&["listening", purpose, "address="]).await?;
        let (_, rest) = line.split_once("address=").context("an address")?;
        Ok(rest.split_whitespace().next().context("an address")?.parse()?)
    }

    /// Fails when any part of the server panicked.
    pub(crate) fn assert_sound(&self) {
        self.output.read(|text| {
            let panicked = text.lines().find(|line| line.contains("panicked"));
            assert_eq!(panicked, None, "the server said:\n{text}");
        });
    }

    /// Resident memory, in bytes (proc(5), `VmRSS`).
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let id = self.child.id().context("the server is not running")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        let kilobytes = line.split_whitespace().nth(1).context("a number")?;
        Ok(kilobytes.parse::<u64>()? * 1_024)
    }

    /// The number of the process, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop, as an operator's system does.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id().context("the server is not running")?)?;
        let id = nix::unistd::Pid::from_raw(id);
        Ok(nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM)?)
    }

    /// Waits for the process to end.
    pub(crate) async fn exited(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        Ok(tokio::time::timeout(within, self.child.wait()).await.context("it did not exit")??)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The state of a test that failed is of no use to the next one.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Appends every line that comes.
async fn collect(stream: impl AsyncRead + Unpin, output: Arc<Watched<String>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        output.update(|text| {
            if text.len() < OUTPUT_MAX {
                text.push_str(&line);
                text.push('\n');
            }
        });
    }
}

/// The address on this machine that was printed.
fn http_address(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("http://localhost:")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
    let port: u16 = rest.get(..end)?.parse().ok().filter(|port| *port != 0)?;
    Some(format!("http://127.0.0.1:{port}"))
}

/// Looks again and again until there is something, or it has taken too long.
pub(crate) async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, looking).await.with_context(|| format!("{what}: not in time"))
}

/// Waits until a viewer has received this many packets of a codec.
pub(crate) async fn received(viewer: &WhepClient, codec: Codec, count: u64) -> anyhow::Result<()> {
    let payload_type = viewer.answer.payload_type(codec).context("the codec was agreed")?;
    let enough = |log: &loadtest::whep::ViewLog| {
        let summary = log.probe.summary();
        let stream = summary.values().find(|stream| stream.payload_type == payload_type)?;
        (stream.received >= count).then_some(())
    };
    viewer.log().wait(SOON * 2, &format!("{count} packets of {codec}"), enough).await
}

/// The server's media address, which every answer names.
pub(crate) async fn media_address(server: &Server) -> anyhow::Result<SocketAddr> {
    let client = server.client(Some(PUBLISH_TOKEN));
    let offer = Offer { fingerprint: Some(FINGERPRINT.to_owned()), ..Offer::publish(Codec::Vp8) };
    let session = client.offer(&server.whip("address"), &offer.to_string()).await?;
    client.delete(&session.url).await?;
    let answer = Answer::parse(&session.answer)?;
    answer.candidates.first().copied().context("a candidate")
}

/// Some certificate's; nobody connects with it.
const FINGERPRINT: &str = "sha-256 92:21:1B:85:7D:47:3F:24:33:F3:28:3D:83:D4:B1:6B:8E:BA:02:CB:\
    83:E6:A2:5C:BD:93:B0:E6:DD:7F:1D:49";
