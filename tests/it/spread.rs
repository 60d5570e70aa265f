//! A way to the server with many addresses at its end: a client with many interfaces, or a NAT that
//! changes its mind.

use loadtest::light::LightOptions;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Whether a datagram is of ICE (RFC 7983 §7).
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
}

/// What a way to the server does with a client's datagram.
#[derive(Clone, Copy)]
pub(crate) enum Route {
    /// It arrives from all addresses, as a browser's checks do.
    All,
    /// It arrives from the address of this number.
    One(usize),
}

/// A way to the server with many addresses at its end, as a client with many interfaces has, or a
/// NAT that changes its mind.
pub(crate) struct Spread {
    address: SocketAddr,
    /// Datagrams that came to each address from the server.
    received: Arc<[AtomicUsize]>,
    // Dropped with it.
    _tasks: JoinSet<()>,
}

impl Spread {
    /// So many that they never all meet the same one of four shards.
    pub(crate) const ADDRESSES: usize = 12;

    /// A way there. Each address hears the server's address only, as it was asked at.
    pub(crate) async fn start(
        server: SocketAddr,
        mut route: impl FnMut(&[u8]) -> Route + Send + 'static,
    ) -> std::io::Result<Self> {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let address = front.local_addr()?;
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        let mut tasks = JoinSet::new();
        let mut backs = Vec::new();
        let received: Arc<[AtomicUsize]> = (0..Self::ADDRESSES).map(|_| 0.into()).collect();
        let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        for number in 0..Self::ADDRESSES {
            let back = Arc::new(UdpSocket::bind(any).await?);
            back.connect(server).await?;
            backs.push(back.clone());
            let (front, client, received) = (front.clone(), client.clone(), received.clone());
            tasks.spawn(async move {
                let mut datagram = vec![0; 2_048];
                loop {
                    let Ok(length) = back.recv(&mut datagram).await else { continue };
                    received[number].fetch_add(1, Ordering::Relaxed);
                    let to = *client.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(to) = to {
                        let _ = front.send_to(&datagram[..length], to).await;
                    }
                }
            });
        }
        tasks.spawn(async move {
            let mut datagram = vec![0; 2_048];
            loop {
                let Ok((length, from)) = front.recv_from(&mut datagram).await else { continue };
                *client.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                let datagram = &datagram[..length];
                let ways = match route(datagram) {
                    Route::All => 0..Self::ADDRESSES,
                    Route::One(back) => back..back + 1,
                };
                for back in &backs[ways] {
                    let _ = back.send(datagram).await;
                }
            }
        });
        Ok(Self { address, received, _tasks: tasks })
    }

    /// How many datagrams came to the address of this number.
    pub(crate) fn received(&self, number: usize) -> usize {
        self.received[number].load(Ordering::Relaxed)
    }

    /// A client that goes this way.
    pub(crate) fn light(&self) -> LightOptions {
        LightOptions { via: Some(self.address), ..LightOptions::default() }
    }
}
