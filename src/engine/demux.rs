//! Datagram -> session: by address, else by the ICE user name of a check (RFC 8445 §7.3).

use crate::media::arena::TransportAddress;
use crate::media::id::SessionId;
use std::collections::HashMap;

/// The three ways to find a session; all end with it.
#[derive(Debug, Default)]
pub struct Demux {
    addresses: HashMap<TransportAddress, usize>,
    ufrags: HashMap<String, usize>,
    sessions: HashMap<SessionId, usize>,
}

impl Demux {
    /// A client has a few addresses: interfaces, families, NAT rebinds. More are not kept.
    pub const ADDRESSES_MAX: usize = 16;

    /// A new session.
    pub fn add(&mut self, session: SessionId, ufrag: &str, peer: usize) {
        self.sessions.insert(session, peer);
        self.ufrags.insert(ufrag.to_owned(), peer);
    }

    /// The session's ICE is restarted under a new name; the stale one finds it no more.
    pub fn rename(&mut self, new: &str, stale: Option<&str>, peer: usize) {
        self.ufrags.insert(new.to_owned(), peer);
        if let Some(stale) = stale {
            self.ufrags.remove(stale);
        }
    }

    /// An authenticated check came from this address. What `known` lists is the peer's own record
    /// of its addresses; the oldest gives way.
    pub fn learn(
        &mut self,
        address: TransportAddress,
        peer: usize,
        known: &mut Vec<TransportAddress>,
    ) {
        if self.addresses.insert(address, peer) == Some(peer) {
            return;
        }
        if known.len() >= Self::ADDRESSES_MAX {
            let oldest = known.remove(0);
            self.forget(oldest, peer);
        }
        known.push(address);
    }

    fn forget(&mut self, address: TransportAddress, peer: usize) {
        if self.addresses.get(&address) == Some(&peer) {
            self.addresses.remove(&address);
        }
    }

    /// The address is no longer any of these sessions'.
    pub fn disown(&mut self, address: TransportAddress) {
        self.addresses.remove(&address);
    }

    /// Whose address this is.
    pub fn by_address(&self, address: TransportAddress) -> Option<usize> {
        self.addresses.get(&address).copied()
    }

    /// Whose ICE user name this is.
    pub fn by_ufrag(&self, ufrag: &str) -> Option<usize> {
        self.ufrags.get(ufrag).copied()
    }

    /// Which peer has this session.
    pub fn by_session(&self, session: SessionId) -> Option<usize> {
        self.sessions.get(&session).copied()
    }

    /// A session is over.
    pub fn remove<'a>(
        &mut self,
        session: SessionId,
        ufrags: impl IntoIterator<Item = &'a str>,
        peer: usize,
        known: &[TransportAddress],
    ) {
        self.sessions.remove(&session);
        for ufrag in ufrags {
            self.ufrags.remove(ufrag);
        }
        for &address in known {
            self.forget(address, peer);
        }
    }

    /// How many addresses, user names and sessions are known; all zero when nobody is there.
    pub fn sizes(&self) -> [usize; 3] {
        [self.addresses.len(), self.ufrags.len(), self.sessions.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn address(port: u16) -> TransportAddress {
        TransportAddress::udp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn the_same_address_over_tcp_is_somebody_else() {
        let mut demux = Demux::default();
        let over_tcp = TransportAddress::tcp(address(5).address);
        demux.learn(address(5), 1, &mut Vec::new());
        assert_eq!(demux.by_address(over_tcp), None);
        demux.learn(over_tcp, 2, &mut Vec::new());
        let owners = [address(5), over_tcp].map(|address| demux.by_address(address));
        assert_eq!(owners, [Some(1), Some(2)]);
    }

    #[test]
    fn an_address_goes_to_its_last_owner_and_only_the_owner_takes_it_away() {
        let mut demux = Demux::default();
        let (one, two) = (SessionId::from_random([1; 16]), SessionId::from_random([2; 16]));
        demux.add(one, "one", 1);
        demux.add(two, "two", 2);
        let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
        demux.learn(address(5), 1, &mut of_one);
        demux.learn(address(5), 2, &mut of_two);
        assert_eq!(demux.by_address(address(5)), Some(2));
        demux.remove(one, ["one"], 1, &of_one);
        assert_eq!(demux.by_address(address(5)), Some(2));
        demux.remove(two, ["two"], 2, &of_two);
        assert_eq!(demux.sizes(), [0; 3]);
    }

    #[test]
    fn after_a_restart_of_ice_a_session_is_found_by_its_names_but_the_stale_one() {
        let mut demux = Demux::default();
        let session = SessionId::from_random([1; 16]);
        demux.add(session, "a", 1);
        demux.rename("b", None, 1);
        assert_eq!((demux.by_ufrag("a"), demux.by_ufrag("b")), (Some(1), Some(1)));
        demux.rename("c", Some("a"), 1);
        assert_eq!((demux.by_ufrag("a"), demux.by_ufrag("b")), (None, Some(1)));
        demux.remove(session, ["c", "b"], 1, &[]);
        assert_eq!(demux.sizes(), [0; 3]);
    }

    #[test]
    fn a_client_with_ever_new_addresses_holds_a_bounded_number() {
        let mut demux = Demux::default();
        let mut known = Vec::new();
        for port in 1..1000 {
            demux.learn(address(port), 7, &mut known);
        }
        assert_eq!(demux.sizes()[0], Demux::ADDRESSES_MAX);
        assert_eq!(demux.by_address(address(999)), Some(7));
        assert_eq!(demux.by_address(address(1)), None);
    }
}
