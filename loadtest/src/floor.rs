//! The bare cost of sending UDP on this machine: what a server's cost is to be held against.
//!
//! Nothing is decided, sealed or counted here: packets that lie ready in memory go to sockets on
//! loopback, which another core empties as the swarm does. Everything that the kernel does in the
//! sender's name is in the figure, delivery included, as it is in the server's.

use crate::swarm::{Inbox, prepare};
use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;
use std::fmt;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Header, payload and tag of a full packet.
const PACKET: usize = 1_200;
/// Packets of a frame of 2.5 Mb/s at 30 fps.
const FRAME: usize = 9;
/// Messages of one `sendmmsg`.
const MESSAGES: usize = 64;
/// Between two rounds over the sockets, as in the swarm.
const ROUND: Duration = Duration::from_millis(1);
/// How long a round's packets may take to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(2);

/// The ways of handing packets to the kernel.
const WAYS: [(&str, Way); 3] = [
    ("sendto, a packet a call", Bench::sendto),
    ("sendmmsg, 64 packets a call", Bench::sendmmsg),
    ("sendmmsg of UDP GSO, 64 frames of 9 a call", Bench::segmented),
];

type Way = fn(&mut Bench) -> anyhow::Result<()>;

/// What is sent where.
#[derive(Debug, Clone, Copy)]
pub struct FloorOptions {
    /// Sockets to send to.
    pub viewers: usize,
    /// How long.
    pub duration: Duration,
    /// The core that sends, and the one that receives; any where it is none.
    pub cores: Option<(usize, usize)>,
}

/// The cost of one way.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WayReport {
    /// Which.
    pub way: &'static str,
    /// CPU time of the sending thread for each packet.
    pub us_per_packet: f64,
    /// Time that passed for each packet: more where the thread did not have the core to itself.
    pub elapsed_us_per_packet: f64,
}

/// What sending costs on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct FloorReport {
    /// Sockets sent to.
    pub viewers: usize,
    /// Bytes of a packet.
    pub packet_bytes: usize,
    /// Packets sent in each way.
    pub packets: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// The ways, the plainest first.
    pub ways: Vec<WayReport>,
}

impl fmt::Display for FloorReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "UDP on loopback, packets of {} bytes to {} sockets, {} in each way, {} lost",
            self.packet_bytes, self.viewers, self.packets, self.lost
        )?;
        let plainest = self.ways.first().map_or(1.0, |way| way.us_per_packet);
        write!(out, "{:<44} {:>10} {:>10} {:>11}", "way", "CPU us", "of sendto", "elapsed us")?;
        for WayReport { way, us_per_packet, elapsed_us_per_packet } in &self.ways {
            let ratio = us_per_packet / plainest;
            write!(
                out,
                "\n{way:<44} {us_per_packet:>10.2} {ratio:>10.2} {elapsed_us_per_packet:>11.2}"
            )?;
        }
        Ok(())
    }
}

/// Sends in every way in turn until the time is up.
///
/// # Errors
///
/// When a socket, a core or the kernel's UDP GSO is not to be had.
pub fn run(options: FloorOptions) -> anyhow::Result<FloorReport> {
    let viewers = options.viewers.max(1);
    let (send_core, receive_core) = options.cores.unzip();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let receiver = Receiver::start(viewers, &socket, receive_core)?;
    // A thread of its own: the caller goes on where it was.
    let send = move || -> anyhow::Result<FloorReport> {
        pin(send_core)?;
        let mut bench = Bench::new(socket, &receiver.addresses);
        let mut spent = [(Duration::ZERO, Duration::ZERO); WAYS.len()];
        let (mut rounds, mut sent) = (0_u64, 0);
        let started = Instant::now();
        while started.elapsed() < options.duration || rounds == 0 {
            for ((_, way), (cpu, elapsed)) in WAYS.iter().zip(&mut spent) {
                let (at, used) = (Instant::now(), thread_time()?);
                way(&mut bench)?;
                *cpu += thread_time()?.saturating_sub(used);
                *elapsed += at.elapsed();
                sent += bench.packets();
                receiver.wait_for(sent);
            }
            rounds += 1;
        }
        let packets = rounds * bench.packets();
        let per_packet = |time: Duration| time.as_secs_f64() * 1e6 / packets as f64;
        let ways = WAYS.iter().zip(spent).map(|((way, _), (cpu, elapsed))| WayReport {
            way,
            us_per_packet: per_packet(cpu),
            elapsed_us_per_packet: per_packet(elapsed),
        });
        let lost = sent.saturating_sub(receiver.received.load(Ordering::Relaxed));
        Ok(FloorReport { viewers, packet_bytes: PACKET, packets, lost, ways: ways.collect() })
    };
    let thread = std::thread::Builder::new().name("floor".to_owned()).spawn(send)?;
    thread.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?
}

/// Binds the calling thread to a core.
fn pin(core: Option<usize>) -> anyhow::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("there is no core {core}"))
}

fn thread_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

struct Bench {
    socket: UdpSocket,
    addresses: Vec<SocketAddrV4>,
    /// A frame for each viewer: a server does not send the same bytes twice.
    arena: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
    segmented: MultiHeaders<SockaddrIn>,
}

impl Bench {
    fn new(socket: UdpSocket, addresses: &[SocketAddrV4]) -> Self {
        let room = nix::cmsg_space!(u16);
        Self {
            socket,
            addresses: addresses.to_vec(),
            arena: vec![0xA5; addresses.len() * FRAME * PACKET],
            headers: MultiHeaders::preallocate(MESSAGES, None),
            segmented: MultiHeaders::preallocate(MESSAGES, Some(room)),
        }
    }

    fn packets(&self) -> u64 {
        (self.addresses.len() * FRAME) as u64
    }

    fn sendto(&mut self) -> anyhow::Result<()> {
        for (address, frame) in self.addresses.iter().zip(self.arena.chunks(FRAME * PACKET)) {
            let address = SocketAddr::V4(*address);
            for packet in frame.chunks(PACKET) {
                self.socket.send_to(packet, address)?;
            }
        }
        Ok(())
    }

    fn sendmmsg(&mut self) -> anyhow::Result<()> {
        let Self { socket, addresses, arena, headers, .. } = self;
        let names = addresses.iter().flat_map(|address| [*address; FRAME]);
        let messages = names.zip(arena.chunks(PACKET));
        send_batches(socket, headers, messages, &[])
    }

    fn segmented(&mut self) -> anyhow::Result<()> {
        let Self { socket, addresses, arena, segmented, .. } = self;
        let messages = addresses.iter().copied().zip(arena.chunks(FRAME * PACKET));
        let size = PACKET as u16;
        send_batches(socket, segmented, messages, &[ControlMessage::UdpGsoSegments(&size)])
    }
}

/// Hands all messages over, [`MESSAGES`] by each system call.
fn send_batches<'m>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrIn>,
    messages: impl Iterator<Item = (SocketAddrV4, &'m [u8])>,
    control: &[ControlMessage<'_>],
) -> anyhow::Result<()> {
    let mut messages = messages.peekable();
    let mut names = Vec::with_capacity(MESSAGES);
    let mut slices = Vec::with_capacity(MESSAGES);
    while messages.peek().is_some() {
        names.clear();
        slices.clear();
        for (name, bytes) in messages.by_ref().take(MESSAGES) {
            names.push(Some(SockaddrIn::from(name)));
            slices.push([IoSlice::new(bytes)]);
        }
        let flags = MsgFlags::empty();
        let sent = sendmmsg(socket.as_raw_fd(), headers, &slices, &names, control, flags)
            .context("sendmmsg, with UDP GSO where that was asked for")?;
        anyhow::ensure!(sent.count() == slices.len(), "the kernel took a part of the messages");
    }
    Ok(())
}

/// The other side: sockets and the thread that empties them. Dropping it ends the thread.
struct Receiver {
    addresses: Vec<SocketAddrV4>,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Receiver {
    fn start(viewers: usize, sender: &UdpSocket, core: Option<usize>) -> anyhow::Result<Self> {
        let mut sockets = Vec::with_capacity(viewers);
        let mut addresses = Vec::with_capacity(viewers);
        for _ in 0..viewers {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            prepare(&socket)?;
            socket.connect(sender.local_addr()?)?;
            if let SocketAddr::V4(address) = socket.local_addr()? {
                addresses.push(address);
            }
            sockets.push(socket);
        }
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let shared = (received.clone(), stop.clone());
        let empty = move || {
            pin(core)?;
            empty(&sockets, &shared.0, &shared.1)
        };
        let thread = std::thread::Builder::new().name("receiver".to_owned()).spawn(empty)?;
        Ok(Self { addresses, received, stop, thread: Some(thread) })
    }

    /// Until so many packets have come, or the rest is lost.
    fn wait_for(&self, packets: u64) {
        let started = Instant::now();
        while self.received.load(Ordering::Relaxed) < packets && started.elapsed() < ARRIVE_WITHIN {
            std::thread::sleep(ROUND);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes in what comes, as the swarm does.
fn empty(sockets: &[UdpSocket], received: &AtomicU64, stop: &AtomicBool) -> anyhow::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, socket) in (0..).zip(sockets) {
        epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, index))?;
    }
    let mut events = vec![EpollEvent::empty(); sockets.len()];
    let mut inbox = Inbox::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(ROUND);
        let count = epoll.wait(&mut events, 0_u8)?;
        for event in events.iter().take(count) {
            let Some(socket) = sockets.get(event.data() as usize) else { continue };
            let count = inbox.receive(socket, |_, _| {})?;
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_delivers_every_packet() -> anyhow::Result<()> {
        let options = FloorOptions { viewers: 70, duration: Duration::ZERO, cores: None };
        let report = run(options)?;
        assert_eq!((report.packets, report.lost), (70 * FRAME as u64, 0));
        assert_eq!(report.ways.len(), WAYS.len());
        Ok(())
    }
}
