//! The one thread that waits for all connections and takes out what has come in.
//!
//! It never waits for anybody: what a publisher's task has no room for is lost to that publisher
//! alone, and each connection gives only so much before the others have had their turn.

use super::libsrt::{self, Events, MESSAGE_MAX, Poll, Received, Socket, SocketId, Statistics};
use crate::clock::Clock;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long it may take to notice that the server stops.
const LOOK_UP: Duration = Duration::from_millis(100);
/// What one connection gives in its turn: a keyframe of 90 kB.
const MESSAGES_PER_TURN: usize = 64;
/// Callers taken in before the connections get their turn again.
const CALLERS_PER_TURN: usize = 16;
/// What waits for a publisher's task: 3 MB, more than a second of any stream.
const BATCHES_MAX: usize = 32;

/// What came in at once on one connection.
#[derive(Debug)]
pub(super) struct Batch {
    /// Messages end to end.
    pub(super) bytes: Vec<u8>,
    pub(super) arrival: Instant,
}

/// What becomes of callers.
pub(super) trait Callers: Send + Sync {
    /// Takes one that has been let in and is connected.
    fn take(&self, caller: Socket, remote: SocketAddr);

    /// Time goes by, whether or not anybody calls.
    fn turn(&self, now: Instant);
}

/// The thread; dropping it stops it.
#[derive(Debug)]
pub(super) struct Receiver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    poll: Poll,
    entries: Mutex<HashMap<SocketId, Entry>>,
    clock: Clock,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("poll", &self.poll).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Entry {
    Listener { socket: Arc<Socket>, callers: Arc<dyn Callers> },
    Connection { socket: Arc<Socket>, batches: mpsc::Sender<Batch>, overrun: Arc<AtomicU64> },
}

impl Entry {
    fn callers(&self) -> Option<Arc<dyn Callers>> {
        match self {
            Self::Listener { callers, .. } => Some(Arc::clone(callers)),
            Self::Connection { .. } => None,
        }
    }
}

/// A socket that is served; dropping it closes the socket, which may take a moment.
#[derive(Debug)]
pub(super) struct Registration {
    socket: Arc<Socket>,
    shared: Arc<Shared>,
}

/// A connection that is served.
#[derive(Debug)]
pub(super) struct Connection {
    registration: Registration,
    batches: mpsc::Receiver<Batch>,
    overrun: Arc<AtomicU64>,
}

impl Receiver {
    /// Starts the thread, for so many sockets.
    pub(super) fn start(sockets_max: usize, clock: Clock) -> io::Result<Self> {
        let poll = Poll::new().map_err(io::Error::other)?;
        let entries = Mutex::default();
        let shared = Arc::new(Shared { poll, entries, clock, stopping: AtomicBool::new(false) });
        let served = Arc::clone(&shared);
        let run = move || served.run(sockets_max);
        let thread = thread::Builder::new().name("srt".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Serves a listener.
    pub(super) fn listen(
        &self,
        socket: Socket,
        callers: Arc<dyn Callers>,
    ) -> Result<Registration, libsrt::Error> {
        let socket = Arc::new(socket);
        self.door().register(&socket, Entry::Listener { socket: Arc::clone(&socket), callers })
    }

    /// What takes connections in.
    pub(super) fn door(&self) -> Door {
        Door(Arc::clone(&self.shared))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell; a panic in it was logged as one.
            let _ = thread.join();
        }
    }
}

/// Takes connections in.
#[derive(Debug, Clone)]
pub(super) struct Door(Arc<Shared>);

impl Door {
    /// Serves a connection from now on.
    pub(super) fn connection(&self, socket: Socket) -> Result<Connection, libsrt::Error> {
        let (sender, batches) = mpsc::channel(BATCHES_MAX);
        let (socket, overrun) = (Arc::new(socket), Arc::<AtomicU64>::default());
        let entry = Entry::Connection {
            socket: Arc::clone(&socket),
            batches: sender,
            overrun: Arc::clone(&overrun),
        };
        let registration = self.register(&socket, entry)?;
        Ok(Connection { registration, batches, overrun })
    }

    fn register(&self, socket: &Arc<Socket>, entry: Entry) -> Result<Registration, libsrt::Error> {
        let Self(shared) = self;
        shared.entries().insert(socket.id(), entry);
        let registration = Registration { socket: Arc::clone(socket), shared: Arc::clone(shared) };
        shared.poll.add(socket)?;
        Ok(registration)
    }
}

impl Registration {
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.forget(self.socket.id());
    }
}

impl Connection {
    /// What came in; `None` once nothing more will.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// How the connection fares.
    pub(super) fn statistics(&self) -> Option<Statistics> {
        self.registration.socket().statistics()
    }

    /// Bytes that were lost here, since their task was too slow.
    pub(super) fn overrun_bytes(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, HashMap<SocketId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: SocketId) {
        self.poll.remove(id);
        // Dropped when the lock is free again: it may be what closes the socket.
        let entry = self.entries().remove(&id);
        drop(entry);
    }

    fn run(&self, sockets_max: usize) {
        let mut events = Events::with_room(sockets_max);
        let mut turned = self.clock.now();
        while !self.stopping.load(Ordering::Acquire) {
            let now = self.clock.now();
            if now.saturating_duration_since(turned) >= LOOK_UP {
                turned = now;
                self.turn(now);
            }
            for id in self.poll.wait(&mut events, LOOK_UP) {
                let entry = self.entries().get(&id).cloned();
                match entry {
                    None => self.poll.remove(id),
                    Some(Entry::Listener { socket, callers }) => {
                        for _ in 0..CALLERS_PER_TURN {
                            let Some((caller, remote)) = socket.accept() else { break };
                            callers.take(caller, remote);
                        }
                    }
                    Some(Entry::Connection { socket, batches, overrun }) => {
                        let goes_on = self.take_out(&socket, &batches, &overrun);
                        if !goes_on {
                            self.forget(id);
                        }
                    }
                }
            }
        }
    }

    fn turn(&self, now: Instant) {
        let listeners: Vec<Arc<dyn Callers>> =
            self.entries().values().filter_map(Entry::callers).collect();
        for callers in listeners {
            callers.turn(now);
        }
    }

    /// Takes out what has come in; false once nothing more will.
    fn take_out(
        &self,
        socket: &Socket,
        batches: &mpsc::Sender<Batch>,
        overrun: &AtomicU64,
    ) -> bool {
        let mut bytes = Vec::new();
        let mut goes_on = true;
        for _ in 0..MESSAGES_PER_TURN {
            let len = bytes.len();
            bytes.resize(len + MESSAGE_MAX, 0);
            let received = socket.receive(bytes.get_mut(len..).unwrap_or_default());
            let more = if let Received::Message(more) = received { more } else { 0 };
            bytes.truncate(len + more);
            if more == 0 {
                goes_on = received == Received::Nothing;
                break;
            }
        }
        if !bytes.is_empty() {
            let len = bytes.len() as u64;
            let batch = Batch { bytes, arrival: self.clock.now() };
            if batches.try_send(batch).is_err() {
                overrun.fetch_add(len, Ordering::Relaxed);
            }
        }
        goes_on
    }
}
