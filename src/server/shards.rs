//! The shards: their sockets, their start, and the ways to them.

use super::kernel::Grants;
use super::{StartError, system, tcp};
use crate::bus::{ShardLink, ShardWay};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::address::ipv6_works;
use crate::engine::command::{Command, Written};
use crate::engine::{Engine, Place};
use crate::media::id::SessionId;

use crate::shard::socket::MediaSocket;
use crate::shard::{Handle, Links, ShardEvent, ShardSettings};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use tracing::warn;

/// Starts a shard for each socket; `make` says what it reads the time from, what decides for it,
/// and whom it tells.
pub(super) fn start_shards<T>(
    config: &Config,
    sockets: Vec<MediaSocket>,
    make: impl Fn(Place) -> (Clock, Engine, T),
) -> Result<Arc<Vec<Handle>>, StartError>
where
    T: FnMut(ShardEvent) + Send + 'static,
{
    let shards = sockets.len();
    let ways = Links::between(shards).map_err(system("a descriptor"))?;
    let start = |(index, (socket, links))| {
        let (clock, engine, tell) = make(Place { shard: index, shards });
        let (pinned, batch_wait) = (shards > 1, config.whep.batch_wait);
        let settings = ShardSettings { index, pinned, clock, batch_wait };
        Handle::spawn(settings, socket, engine, links, tell).map_err(system("a thread"))
    };
    sockets.into_iter().zip(ways).enumerate().map(start).collect::<Result<_, _>>().map(Arc::new)
}

/// The way to one of the shards, which does not keep them from ending.
struct Way {
    shards: Weak<Vec<Handle>>,
    index: usize,
}

impl ShardWay for Way {
    fn command(&self, command: Command) -> bool {
        let Some(shards) = self.shards.upgrade() else { return false };
        let sent = shards[self.index].command(command);
        if let Err(error) = sent {
            warn!(shard = self.index, %error, "a command is lost");
        }
        sent.is_ok()
    }

    fn write(&self, session: SessionId, written: Written) -> bool {
        self.shards.upgrade().is_some_and(|shards| shards[self.index].write(session, written))
    }

    fn load(&self) -> f32 {
        self.shards.upgrade().map_or(1.0, |shards| shards[self.index].gauges().load)
    }
}

pub(super) fn links(shards: &Arc<Vec<Handle>>) -> Vec<ShardLink> {
    let way = |index| -> ShardLink { Arc::new(Way { shards: Arc::downgrade(shards), index }) };
    (0..shards.len()).map(way).collect()
}

/// The media port: a socket for each shard, and one that listens for TCP where that is wanted.
pub(super) fn bind_media(
    config: &Config,
) -> Result<(Vec<MediaSocket>, Option<TcpListener>), StartError> {
    /// Where the system chooses, a port that is free for UDP may be taken for TCP.
    const PORTS_TRIED: usize = 20;
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let wanted = config.network.media_listen.address(ipv6_works()).unwrap_or(any);
    let mut tries = if wanted.port() == 0 { PORTS_TRIED } else { 1 };
    loop {
        let (sockets, address) = bind_udp(config, wanted)?;
        if !config.network.media_tcp {
            return Ok((sockets, None));
        }
        tries -= 1;
        match tcp::listen(address) {
            Ok(listener) => return Ok((sockets, Some(listener))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(StartError::MediaTcp { address, error }),
        }
    }
}

fn bind_udp(
    config: &Config,
    mut address: SocketAddr,
) -> Result<(Vec<MediaSocket>, SocketAddr), StartError> {
    let buffers = Grants::wanted(config).buffers;
    let mut sockets = Vec::new();
    let shards = match config.server.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    };
    for _ in 0..shards {
        let failed = |error| StartError::Media { address, error };
        let socket = MediaSocket::bind(address, buffers, true).map_err(failed)?;
        // The others share the port that the first one got.
        address = socket.local_address().map_err(failed)?;
        sockets.push(socket);
    }
    Ok((sockets, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address::Listen;

    #[test]
    fn a_tcp_port_that_is_taken_is_told_with_what_to_do_and_one_can_do_without() {
        let other = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = other.local_addr().expect("a bound listener has an address");
        let mut config = Config::default();
        config.server.shards = 2;
        config.network.media_listen = Listen::At(address);
        let error = bind_media(&config).expect_err("the port is taken").to_string();
        for part in [&format!("{address}/tcp"), "network.media_tcp", "network.media_listen"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        config.network.media_tcp = false;
        let (sockets, listener) = bind_media(&config).expect("nobody has the port of UDP");
        assert!(sockets.len() == 2 && listener.is_none());
    }

    #[test]
    fn where_the_system_chooses_it_is_one_port_for_both() {
        let mut config = Config::default();
        config.server.shards = 2;
        config.network.media_listen = Listen::At(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (sockets, listener) = bind_media(&config).expect("there are free ports");
        let listener = listener.expect("it listens for TCP too");
        let address = listener.local_addr().expect("a bound listener has an address");
        for socket in sockets {
            assert_eq!(socket.local_address().expect("a bound socket has an address"), address);
        }
    }
}
