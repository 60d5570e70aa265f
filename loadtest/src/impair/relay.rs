//! The UDP relay: one socket for all clients, one to the server for each of them, as NAT has it.

use super::Way;
use super::link::{Link, LinkSettings};
use super::script::Step;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

/// Clients at the same time; others are not served.
const CLIENTS_MAX: usize = 1_024;
/// A client that has sent nothing for so long is forgotten: longer than any consent check.
const IDLE: Duration = Duration::from_mins(1);
/// Between two looks for such clients.
const SWEEP: Duration = Duration::from_secs(5);
/// Datagrams under way; more are lost.
const UNDER_WAY_MAX: usize = 65_536;
/// Datagrams from the server that wait to be looked at.
const ARRIVED_MAX: usize = 4_096;
/// No datagram of WebRTC is larger.
const DATAGRAM_MAX: usize = 2_048;

/// What a relay does.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Where clients send to.
    pub listen: SocketAddr,
    /// The server's media address.
    pub server: SocketAddr,
    /// Each client's way to the server, at first.
    pub up: LinkSettings,
    /// Each client's way back.
    pub down: LinkSettings,
    /// What changes later, in order.
    pub steps: Vec<Step>,
    /// The seed of losses and jitter.
    pub seed: u64,
}

/// What a relay has done.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Datagrams handed on.
    pub passed: AtomicU64,
    /// Datagrams lost on purpose, or for want of room in a queue.
    pub lost: AtomicU64,
    /// Bytes on their way to clients.
    pub down_bytes: AtomicU64,
    /// The longest that a queue to a client has been, in microseconds, since that was taken.
    pub down_queue_micros: AtomicU64,
}

/// A running relay; dropping it cuts the path.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    counters: Arc<RelayCounters>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts to relay.
    ///
    /// # Errors
    ///
    /// When the address is not to be had.
    pub async fn start(options: RelayOptions) -> std::io::Result<Self> {
        let front = UdpSocket::bind(options.listen).await?;
        let address = front.local_addr()?;
        let counters = Arc::new(RelayCounters::default());
        let state = State {
            front,
            counters: counters.clone(),
            clients: HashMap::new(),
            under_way: BinaryHeap::new(),
            started: Instant::now(),
            accepted: 0,
            options,
        };
        Ok(Self { address, counters, task: tokio::spawn(state.run()) })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn counters(&self) -> &RelayCounters {
        &self.counters
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    upstream: Arc<UdpSocket>,
    up: Link,
    down: Link,
    heard_at: Instant,
    reader: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A datagram on its way; those that come out first compare as least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    at: Instant,
    /// Those that come out at the same moment keep their order.
    number: u64,
    client: SocketAddr,
    up: bool,
    bytes: Bytes,
}

struct State {
    front: UdpSocket,
    counters: Arc<RelayCounters>,
    clients: HashMap<SocketAddr, Client>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    started: Instant,
    /// Counts datagrams and clients.
    accepted: u64,
    options: RelayOptions,
}

impl State {
    async fn run(mut self) {
        let (arrived, mut arrivals) = mpsc::channel(ARRIVED_MAX);
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let now = Instant::now();
            self.take_steps(now);
            self.deliver(now).await;
            let next = self.under_way.peek().map(|Reverse(it)| it.at);
            let step = self.options.steps.first().map(|step| self.started + step.at());
            let next = [next, step].into_iter().flatten().min().unwrap_or(now + SWEEP);
            tokio::select! {
                received = self.front.recv_from(&mut buffer) => {
                    // An ICMP error is the client's, and no reason to stop.
                    if let Ok((length, from)) = received {
                        let bytes = copied(&buffer, length);
                        self.take(Way::Up, from, bytes, &arrived).await;
                    }
                }
                Some((client, bytes)) = arrivals.recv() => {
                    self.take(Way::Down, client, bytes, &arrived).await;
                }
                () = tokio::time::sleep_until(next.into()) => {}
                _ = sweep.tick() => {
                    self.clients.retain(|_, client| client.heard_at.elapsed() < IDLE);
                }
            }
        }
    }

    fn take_steps(&mut self, now: Instant) {
        while let Some(step) = self.options.steps.first().copied()
            && self.started + step.at() <= now
        {
            self.options.steps.remove(0);
            self.options.up = step.up.apply(self.options.up);
            self.options.down = step.down.apply(self.options.down);
            for client in self.clients.values_mut() {
                client.up.set(self.options.up);
                client.down.set(self.options.down);
            }
        }
    }

    async fn take(
        &mut self,
        way: Way,
        address: SocketAddr,
        bytes: Bytes,
        arrived: &mpsc::Sender<(SocketAddr, Bytes)>,
    ) {
        let now = Instant::now();
        if way == Way::Up && !self.clients.contains_key(&address) {
            let Some(client) = self.accept(address, arrived, now).await else { return };
            self.clients.insert(address, client);
        }
        let Some(client) = self.clients.get_mut(&address) else { return };
        let link = match way {
            Way::Up => {
                client.heard_at = now;
                &mut client.up
            }
            Way::Down => &mut client.down,
        };
        let passed = link.pass(bytes.len(), now).filter(|_| self.under_way.len() < UNDER_WAY_MAX);
        let Some(at) = passed else {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.accepted += 1;
        let number = self.accepted;
        let up = way == Way::Up;
        if !up {
            let queue = link.backlog(now).as_micros() as u64;
            self.counters.down_queue_micros.fetch_max(queue, Ordering::Relaxed);
            self.counters.down_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.under_way.push(Reverse(UnderWay { at, number, client: address, up, bytes }));
    }

    /// A new client: its socket to the server, and who reads from it.
    async fn accept(
        &mut self,
        address: SocketAddr,
        arrived: &mpsc::Sender<(SocketAddr, Bytes)>,
        now: Instant,
    ) -> Option<Client> {
        if self.clients.len() >= CLIENTS_MAX {
            return None;
        }
        let any: IpAddr = match self.options.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let upstream = Arc::new(UdpSocket::bind((any, 0)).await.ok()?);
        upstream.connect(self.options.server).await.ok()?;
        let (socket, arrived) = (upstream.clone(), arrived.clone());
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_MAX];
            loop {
                let Ok(length) = socket.recv(&mut buffer).await else { continue };
                let bytes = copied(&buffer, length);
                if arrived.send((address, bytes)).await.is_err() {
                    return;
                }
            }
        });
        self.accepted += 1;
        let seed = self.options.seed.wrapping_add(self.accepted);
        Some(Client {
            upstream,
            up: Link::new(self.options.up, seed),
            down: Link::new(self.options.down, !seed),
            heard_at: now,
            reader: reader.abort_handle(),
        })
    }

    /// Hands on what has come out.
    async fn deliver(&mut self, now: Instant) {
        while self.under_way.peek().is_some_and(|Reverse(next)| next.at <= now) {
            let Some(Reverse(UnderWay { client, up, bytes, .. })) = self.under_way.pop() else {
                return;
            };
            let sent = match self.clients.get(&client) {
                Some(Client { upstream, .. }) if up => upstream.send(&bytes).await,
                Some(_) => self.front.send_to(&bytes, client).await,
                None => continue,
            };
            self.counters.passed.fetch_add(u64::from(sent.is_ok()), Ordering::Relaxed);
        }
    }
}

fn copied(buffer: &[u8], length: usize) -> Bytes {
    Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_client_has_an_address_of_its_own_at_the_server() -> anyhow::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0").await?;
        let relay = Relay::start(RelayOptions {
            listen: "127.0.0.1:0".parse()?,
            server: server.local_addr()?,
            up: LinkSettings::default(),
            down: LinkSettings { delay: Duration::from_millis(2), ..LinkSettings::default() },
            steps: Vec::new(),
            seed: 1,
        })
        .await?;
        let mut seen = Vec::new();
        for name in [b"a", b"b"] {
            let client = UdpSocket::bind("127.0.0.1:0").await?;
            client.connect(relay.address()).await?;
            client.send(name).await?;
            let mut buffer = [0; 16];
            let (length, from) = server.recv_from(&mut buffer).await?;
            assert_eq!(&buffer[..length], name);
            server.send_to(b"answer", from).await?;
            let length = client.recv(&mut buffer).await?;
            assert_eq!(&buffer[..length], b"answer");
            seen.push(from);
        }
        assert_ne!(seen[0], seen[1]);
        assert_eq!(relay.counters().passed.load(Ordering::Relaxed), 4);
        Ok(())
    }
}
