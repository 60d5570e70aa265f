//! One worker process, and the socket pair to it.

use super::Unavailable;
use super::capabilities::Capabilities;
use super::group::Group;
use super::ipc::CORES;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// The first time GStreamer looks at all its plugins, which takes some seconds on a slow disk.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// As much as is read of what a worker prints.
const PRINTED_MAX: u64 = 64 * 1024;
/// As much as is kept of its complaints.
const COMPLAINT_MAX: usize = 500;
/// How long the complaints of one that has ended are read.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Of the server's environment, what the worker gets: not the tokens.
const VARIABLES: [&str; 4] = ["PATH", "HOME", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"];

/// How to start one.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    /// Where GStreamer keeps what it knows of its plugins: without it, each start would take as
    /// long as the first, and a service has no home directory.
    pub(super) registry: PathBuf,
    /// Whether workers may make code while they run, as ORC does for the machine that it finds: it
    /// scales pictures in a third of the time. Known after [`Self::probe`].
    pub(super) may_make_code: Arc<AtomicBool>,
    /// The cores that workers run on, as [`CORES`] has them; `None` for all.
    pub(super) cores: Option<String>,
    pub(super) group: Option<Group>,
}

/// What came of asking one.
enum Asked {
    Able(Capabilities),
    /// It was killed by a signal.
    Killed(Unavailable),
    Unable(Unavailable),
}

/// A running worker; dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) socket: UnixStream,
    complaint: Arc<Mutex<String>>,
    /// Reads its complaints.
    drain: Option<JoinHandle<()>>,
}

impl Launch {
    /// How to start this program.
    pub(super) fn new(program: PathBuf, registry: PathBuf) -> Self {
        Self { program, registry, may_make_code: Arc::default(), cores: None, group: None }
    }

    /// Asks the worker what it can do.
    ///
    /// The unit of the service forbids memory that is written and run. ORC makes its code in a file
    /// then, and ends the process where no folder takes one that may be run: the worker is asked
    /// again without, and all workers go without.
    pub(super) async fn probe(&self) -> Result<Capabilities, Unavailable> {
        let first = self.ask(true).await;
        self.may_make_code.store(matches!(first, Asked::Able(_)), Ordering::Relaxed);
        let answer = match first {
            Asked::Killed(_) => self.ask(false).await,
            answer => answer,
        };
        match answer {
            Asked::Able(able) => Ok(able),
            Asked::Killed(reason) | Asked::Unable(reason) => Err(reason),
        }
    }

    async fn ask(&self, makes_code: bool) -> Asked {
        let broken = |reason: String| Unavailable::Broken { program: self.program.clone(), reason };
        let mut command = self.command(makes_code);
        command.arg("--probe").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Asked::Unable(Unavailable::NoWorker(self.program.clone()));
            }
            Err(error) => return Asked::Unable(broken(error.to_string())),
        };
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let answered = tokio::time::timeout(PROBE_TIMEOUT, async {
            let (printed, complaint) = tokio::join!(text_of(out), text_of(err));
            (printed, complaint, child.wait().await)
        });
        match answered.await {
            Err(_) => Asked::Unable(broken("it does not answer".to_owned())),
            Ok((printed, _, Ok(status))) if status.success() => {
                Asked::Able(Capabilities::parse(&printed))
            }
            Ok((_, complaint, Ok(status))) => {
                let reason = broken(match complaint.lines().next() {
                    Some(line) => line.chars().take(COMPLAINT_MAX).collect(),
                    None => status.to_string(),
                });
                if status.signal().is_some() {
                    Asked::Killed(reason)
                } else {
                    Asked::Unable(reason)
                }
            }
            Ok((.., Err(error))) => Asked::Unable(broken(error.to_string())),
        }
    }

    /// Starts a worker, with this argument.
    pub(super) fn start(&self, argument: Option<&str>) -> io::Result<Process> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let mut command = self.command(self.may_make_code.load(Ordering::Relaxed));
        command.args(argument).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        let mut child = command.spawn()?;
        if let (Some(group), Some(process)) = (&self.group, child.id()) {
            group.take(process);
        }
        let complaint = Arc::new(Mutex::new(String::new()));
        let err = child.stderr.take();
        let drain = err.map(|err| tokio::spawn(drain(err, Arc::clone(&complaint))));
        Ok(Process { child, socket, complaint, drain })
    }

    fn command(&self, makes_code: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("GST_REGISTRY", &self.registry);
        if let Some(cores) = &self.cores {
            command.env(CORES, cores);
        }
        if !makes_code {
            command.env("ORC_CODE", "backup");
        }
        let ours = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            VARIABLES.contains(&&*name) || name.starts_with("GST_")
        });
        command.envs(ours).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Process {
    /// Its number.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it, and waits until it is gone; what it said last, or how it ended.
    pub(super) async fn end(mut self) -> String {
        // One that has ended by itself cannot be killed, and has a status to tell.
        let _ = self.child.start_kill();
        let status = self.child.wait().await;
        if let Some(drain) = self.drain.take() {
            // A process of its own may hold its error output open.
            let _ = tokio::time::timeout(LAST_WORDS, drain).await;
        }
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        match (complaint.lines().next(), status) {
            (Some(line), _) => line.to_owned(),
            (None, Ok(status)) => status.to_string(),
            (None, Err(error)) => error.to_string(),
        }
    }
}

/// All of a short text.
async fn text_of(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What cannot be read is not there.
        let _ = from.take(PRINTED_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a worker's complaints as long as it lives, so that it can go on complaining; keeps the
/// first.
async fn drain(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<String>>) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = COMPLAINT_MAX.saturating_sub(kept.len());
        kept.extend(text.chars().take(room / 4));
    }
}
