//! A UDP relay between one client and the server that drops or changes what a test wants it to.

use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// A relay; dropping it cuts the path.
pub(crate) struct Relay {
    /// Where the client sends to.
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// Relays to `server` what `lost` does not take.
    pub(crate) async fn start(
        server: SocketAddr,
        mut lost: impl FnMut(Way, &[u8]) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let kept = move |way, datagram: &[u8]| {
            if lost(way, datagram) { Vec::new() } else { vec![datagram.to_vec()] }
        };
        Self::changing(server, kept).await
    }

    /// Relays to `server` what `change` makes of each datagram: any number of them.
    pub(crate) async fn changing(
        server: SocketAddr,
        change: impl FnMut(Way, &[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> std::io::Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0").await?;
        let back = UdpSocket::bind("127.0.0.1:0").await?;
        back.connect(server).await?;
        let address = front.local_addr()?;
        Ok(Self { address, task: tokio::spawn(relay(front, back, change)) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    front: UdpSocket,
    back: UdpSocket,
    mut change: impl FnMut(Way, &[u8]) -> Vec<Vec<u8>> + Send,
) {
    let mut client = None;
    let (mut up, mut down) = (vec![0; 2_048], vec![0; 2_048]);
    loop {
        tokio::select! {
            received = front.recv_from(&mut up) => if let Ok((length, from)) = received {
                client = Some(from);
                for datagram in change(Way::Up, up.get(..length).unwrap_or_default()) {
                    let _ = back.send(&datagram).await;
                }
            },
            received = back.recv(&mut down) => if let (Ok(length), Some(to)) = (received, client) {
                for datagram in change(Way::Down, down.get(..length).unwrap_or_default()) {
                    let _ = front.send_to(&datagram, to).await;
                }
            },
        }
    }
}

/// Random numbers that are the same in every run (Knuth's MMIX generator).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice with a seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        dice.roll(1);
        dice
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}
