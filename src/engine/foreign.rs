//! Addresses from which sessions of other shards are reached.
//!
//! A browser checks several pairs of addresses, and the kernel spreads them over the sockets of the
//! shared port; DTLS and SRTP carry no name. Whoever has seen an authentic check for a session of
//! another shard hands that shard every datagram of the address from then on.

use super::demux::Demux;
use crate::media::arena::TransportAddress;
use crate::media::id::SessionId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Address -> the shard that owns the session there.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    owners: HashMap<TransportAddress, Owner>,
    of_session: HashMap<SessionId, Vec<TransportAddress>>,
    /// At so many addresses the silent ones are looked for.
    sweep_at: usize,
    /// When they were looked for last.
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    shard: usize,
    session: SessionId,
    heard: Instant,
}

impl Foreign {
    /// Four for each of ten thousand sessions, and room to spare.
    const ADDRESSES_MAX: usize = 65_536;
    /// A silent address is forgotten after longer than any session may be silent by default.
    const KEPT: Duration = Duration::from_mins(1);
    /// Looking for silent ones costs a millisecond where the table is full.
    const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
    /// Below so many there is nothing to gain by looking for silent ones.
    const SWEEP_MIN: usize = 1024;

    /// Which shard a datagram from this address belongs to.
    pub(super) fn shard_of(&mut self, address: TransportAddress, now: Instant) -> Option<usize> {
        let owner = self.owners.get_mut(&address)?;
        owner.heard = now;
        Some(owner.shard)
    }

    /// Whose address this is, if it was heard of within that time.
    pub(super) fn living(
        &self,
        address: TransportAddress,
        within: Duration,
        now: Instant,
    ) -> Option<SessionId> {
        let owner = self.owners.get(&address)?;
        (now < owner.heard + within).then_some(owner.session)
    }

    /// An authentic check for that session of that shard came from this address. Of a session's
    /// addresses the oldest gives way; where there is no room at all it is not learnt.
    pub(super) fn learn(
        &mut self,
        address: TransportAddress,
        shard: usize,
        session: SessionId,
        now: Instant,
    ) {
        let known = self.owners.get(&address).copied();
        if known.is_none_or(|known| known.session != session) {
            self.forget(address);
            let rested = self.swept.is_none_or(|swept| now >= swept + Self::SWEEP_INTERVAL);
            if rested && self.owners.len() >= self.sweep_at.max(Self::SWEEP_MIN) {
                self.sweep(now);
            }
            if self.owners.len() >= Self::ADDRESSES_MAX {
                return;
            }
            let addresses = self.of_session.entry(session).or_default();
            if addresses.len() >= Demux::ADDRESSES_MAX {
                let oldest = addresses.remove(0);
                self.owners.remove(&oldest);
            }
            addresses.push(address);
        }
        self.owners.insert(address, Owner { shard, session, heard: now });
    }

    /// The address is another's now.
    pub(super) fn forget(&mut self, address: TransportAddress) {
        let Some(owner) = self.owners.remove(&address) else { return };
        let Some(addresses) = self.of_session.get_mut(&owner.session) else { return };
        addresses.retain(|&known| known != address);
        if addresses.is_empty() {
            self.of_session.remove(&owner.session);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let owners = &mut self.owners;
        self.of_session.retain(|_, addresses| {
            addresses.retain(|address| {
                let kept = owners.get(address).is_some_and(|it| now < it.heard + Self::KEPT);
                if !kept {
                    owners.remove(address);
                }
                kept
            });
            !addresses.is_empty()
        });
        self.sweep_at = (self.owners.len() * 2).min(Self::ADDRESSES_MAX);
        self.swept = Some(now);
    }

    /// How many addresses are known.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> TransportAddress {
        TransportAddress::udp(std::net::SocketAddr::from((number.to_be_bytes(), 9)))
    }

    fn session(number: u32) -> SessionId {
        SessionId::from_random(u128::from(number).to_be_bytes())
    }

    #[test]
    fn a_session_with_ever_new_addresses_holds_a_bounded_number() {
        let now = Instant::now();
        let mut foreign = Foreign::default();
        for number in 0..1000 {
            foreign.learn(address(number), 1, session(7), now);
        }
        assert_eq!(foreign.len(), Demux::ADDRESSES_MAX);
        assert_eq!(foreign.shard_of(address(999), now), Some(1));
        assert_eq!(foreign.shard_of(address(1), now), None);
    }

    #[test]
    fn silent_addresses_make_room_and_living_ones_stay() {
        let start = Instant::now();
        let mut foreign = Foreign::default();
        let mut now = start;
        for number in 0..200_000 {
            now += Duration::from_millis(10);
            foreign.learn(address(number), 1, session(number), now);
            assert_eq!(foreign.shard_of(address(0), now), Some(1), "it is heard all the time");
        }
        assert!(foreign.len() < 20_000, "{} addresses", foreign.len());
        assert_eq!(foreign.of_session.len(), foreign.len());
    }

    #[test]
    fn what_lives_is_told_until_it_has_been_silent() {
        let now = Instant::now();
        let (mut foreign, span) = (Foreign::default(), Duration::from_secs(2));
        foreign.learn(address(1), 3, session(1), now);
        assert_eq!(foreign.living(address(1), span, now), Some(session(1)));
        assert_eq!(foreign.living(address(1), span, now + span), None);
        foreign.learn(address(1), 2, session(2), now);
        assert_eq!(foreign.shard_of(address(1), now), Some(2));
        foreign.forget(address(1));
        assert_eq!((foreign.len(), foreign.of_session.len()), (0, 0));
    }

    #[test]
    fn a_full_table_makes_room_again() {
        let start = Instant::now();
        let mut foreign = Foreign::default();
        for number in 0..70_000 {
            foreign.learn(address(number), 1, session(number), start);
        }
        let later = start + Duration::from_hours(1);
        foreign.learn(address(100_000), 1, session(100_000), later);
        assert_eq!(foreign.shard_of(address(100_000), later), Some(1));
    }
}
