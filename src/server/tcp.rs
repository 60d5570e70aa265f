//! Where clients without UDP come in (RFC 6544): accepts their connections, reads the first check
//! of each, and hands connection and check to the shard that the client's session belongs to.
//!
//! A connection whose first frame is no authentic check of a session of ours is closed without a
//! word. Those that have sent none yet are bounded in time and number, and where there are too many
//! the oldest gives way: a client sends its check at once, whoever only takes up room does not.

use crate::bus::directory::{Directory, Owner};
use crate::ingest::places::Places;
use crate::peer::stun;
use crate::shard::Handle;
use crate::shard::tcp::Connection;
use crate::shard::tcp::framing::{DATAGRAM_MAX, HEADER};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// Listens on the media port.
pub(super) fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes connections in.
pub(super) struct Acceptor {
    /// Held by every connection, here and in the shards, as long as it is open.
    open: Arc<()>,
    open_max: usize,
    /// Those whose first check has not come.
    waiting: Places,
    tasks: JoinSet<()>,
    desk: Arc<Desk>,
}

/// Knows which shard a client belongs to.
struct Desk {
    directory: Arc<Directory>,
    /// The server may stop at any time.
    shards: Weak<Vec<Handle>>,
    /// Of those that no shard has claimed yet each goes to the next shard.
    turn: AtomicUsize,
}

impl Acceptor {
    /// Connections that may wait for their first check.
    const WAITING_MAX: usize = 1024;
    /// The same from one address: a company behind one NAT comes at the same minute.
    const WAITING_PER_NETWORK_MAX: usize = 128;
    /// How long one may wait. A client sends its check as soon as it is connected.
    const FIRST_CHECK_WITHIN: Duration = Duration::from_secs(5);
    /// After a failure to accept: of descriptors, say, some may be free by then.
    const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

    /// An acceptor for these shards, of which so many connections may be open.
    pub(super) fn new(
        directory: &Arc<Directory>,
        shards: &Arc<Vec<Handle>>,
        open_max: usize,
    ) -> Self {
        let directory = Arc::clone(directory);
        let desk = Desk { directory, shards: Arc::downgrade(shards), turn: AtomicUsize::new(0) };
        Self {
            open: Arc::new(()),
            open_max,
            waiting: Places::new(Self::WAITING_MAX, Self::WAITING_PER_NETWORK_MAX),
            tasks: JoinSet::new(),
            desk: Arc::new(desk),
        }
    }

    /// Accepts for ever, in a task of its own.
    pub(super) fn start(self, listener: StdListener) -> io::Result<JoinHandle<()>> {
        Ok(tokio::spawn(self.run(TcpListener::from_std(listener)?)))
    }

    async fn run(mut self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => self.take(stream, remote),
                Err(error) => {
                    warn!(%error, "cannot accept a connection for media");
                    sleep(Self::ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn take(&mut self, stream: TcpStream, remote: SocketAddr) {
        while self.tasks.try_join_next().is_some() {}
        if Arc::strong_count(&self.open) > self.open_max {
            debug!("limits.media_tcp_connections_max is reached");
            return;
        }
        let network = self.waiting.make_room(remote.ip());
        let (desk, open) = (Arc::clone(&self.desk), Arc::clone(&self.open));
        let task = self.tasks.spawn(async move {
            if let Err(error) = desk.admit(stream, open).await {
                debug!(%error, "a connection is closed");
            }
        });
        self.waiting.take(network, task, Arc::default());
    }
}

impl Desk {
    /// Waits for the first check, and sends the client on its way.
    async fn admit(&self, mut stream: TcpStream, open: Arc<()>) -> io::Result<()> {
        let first = timeout(Acceptor::FIRST_CHECK_WITHIN, first_frame(&mut stream)).await??;
        let shard =
            self.shard_for(&first).ok_or_else(|| io::Error::other("not a check of ours"))?;
        let connection = Connection::new(stream.into_std()?, open)?;
        let gone = || io::Error::other("the server stops");
        let shards = self.shards.upgrade().ok_or_else(gone)?;
        let handle = shards.get(shard).ok_or_else(gone)?;
        handle.connect(connection, first).map_err(io::Error::other)
    }

    /// The shard of the client whose check this is.
    fn shard_for(&self, check: &[u8]) -> Option<usize> {
        let ufrag = stun::local_ufrag(check)?;
        let authentic = |local: &_| stun::authentic_check(check, local);
        match self.directory.owner_of(ufrag, authentic)? {
            Owner::Shard(shard) => Some(shard),
            Owner::Nobody => {
                let shards = self.shards.upgrade()?.len();
                Some(self.turn.fetch_add(1, Ordering::Relaxed) % shards.max(1))
            }
        }
    }
}

/// Reads one frame and nothing beyond it.
async fn first_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes(header));
    if length > DATAGRAM_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}
