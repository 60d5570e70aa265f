//! Whose a datagram is: by its address, or by the ICE user name of a check, which is also how a
//! session is claimed (RFC 8445 §7.3).

use super::Engine;
use super::command::{EndReason, Event, Prepared};
use super::peer::Peer;
use crate::media::arena::Path;
use crate::media::id::SessionId;
use crate::peer::stun::{self, DatagramKind, classify};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tracing::{debug, error};

/// Who takes a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// This peer of ours.
    Ours(usize),
    /// The shard with this number.
    Theirs(usize),
}

impl Engine {
    /// Whether datagrams from this address belong to a session of this engine's.
    pub fn owns(&self, path: Path) -> bool {
        self.demux.by_address(path.client()).is_some()
    }

    /// Whether this is a DTLS record of a client that is known here: what it asks for takes long,
    /// and may wait. A stranger's costs nothing.
    pub fn shakes_hands(&self, path: Path, bytes: &[u8]) -> bool {
        classify(bytes) == DatagramKind::Dtls && self.owns(path)
    }

    /// Whose datagram this is. A check for a session that waits to be claimed makes its peer.
    pub(super) fn find(&mut self, path: Path, bytes: &[u8], now: Instant) -> Option<Found> {
        let known = self.demux.by_address(path.client());
        if classify(bytes) != DatagramKind::Stun {
            let theirs = || self.foreign.shard_of(path.client(), now).map(Found::Theirs);
            return known.map(Found::Ours).or_else(theirs);
        }
        // A check names its session; the address may have been another's before.
        let ufrag = stun::local_ufrag(bytes)?;
        let named = self.demux.by_ufrag(ufrag);
        if named.is_some() && named == known {
            return named.map(Found::Ours);
        }
        if known.and_then(|owner| self.peers.get(owner)).is_some_and(|o| o.lives_at(path, now)) {
            return None;
        }
        if named.is_none()
            && let Some((shard, session)) = self.owner(ufrag, bytes)
        {
            return self.hand_to(shard, session, path, now);
        }
        if self.lives_elsewhere(path, None, now) {
            return None;
        }
        let claimed = named.or_else(|| self.claim(ufrag, bytes, now));
        let Some(key) = claimed else {
            // Another shard may have been quicker.
            let (shard, session) = self.owner(ufrag, bytes)?;
            return self.hand_to(shard, session, path, now);
        };
        let peer = self.peers.get_mut(key)?;
        if !peer.transport.is_authentic(bytes) {
            return None;
        }
        self.foreign.forget(path.client());
        self.demux.learn(path.client(), key, &mut peer.addresses);
        Some(Found::Ours(key))
    }

    /// The other shard that owns the session with this user name, if the check is authentic.
    fn owner(&mut self, ufrag: &str, check: &[u8]) -> Option<(usize, SessionId)> {
        if self.place.shards == 1 {
            return None;
        }
        let owner = self.claims.owner(ufrag, &mut |local| stun::authentic_check(check, local));
        owner.filter(|&(shard, _)| shard != self.place.shard && shard < self.place.shards)
    }

    /// From now on all that comes from there goes to that shard.
    fn hand_to(
        &mut self,
        shard: usize,
        session: SessionId,
        path: Path,
        now: Instant,
    ) -> Option<Found> {
        if self.lives_elsewhere(path, Some(session), now) {
            return None;
        }
        self.demux.disown(path.client());
        self.foreign.learn(path.client(), shard, session, now);
        Some(Found::Theirs(shard))
    }

    /// Whether another session than this one lives at the address, at another shard. As with our
    /// own, a check that names a living client's address is forged.
    fn lives_elsewhere(&self, path: Path, session: Option<SessionId>, now: Instant) -> bool {
        let living = self.foreign.living(path.client(), Peer::ADDRESS_KEPT, now);
        living.is_some_and(|living| Some(living) != session && self.claims.is_session(living))
    }

    fn claim(&mut self, ufrag: &str, check: &[u8], now: Instant) -> Option<usize> {
        let mut authentic = |prepared: &Prepared| {
            stun::authentic_check(check, &prepared.agreement.transport().local)
        };
        let prepared = self.claims.claim(ufrag, &mut authentic)?;
        let (session, name, role) =
            (prepared.session, prepared.stream.clone(), prepared.agreement.role());
        let index = self.stream_named(&name, now);
        self.streams.get_mut(index)?.members += 1;
        let made = catch_unwind(AssertUnwindSafe(|| {
            debug!(?session, stream = %name, %role, "session claimed");
            Peer::new(prepared, index, &self.settings, &self.identity, now)
        }));
        let Ok(peer) = made else {
            error!(?session, "a fault in code ended this session; please report it with its trace");
            self.counters.faults += 1;
            self.leave(index);
            let reason = EndReason::Fault;
            self.events.push_back(Event::Ended { session, role, stream: name, reason });
            return None;
        };
        let ufrag = peer.ufrag.clone();
        let key = self.peers.insert(peer);
        self.demux.add(session, &ufrag, key);
        // The stream comes while the client shakes hands.
        self.follow(index);
        Some(key)
    }
}
