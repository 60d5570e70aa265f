//! Probes: a viewer is sent packets of the past once more beside its media, to learn whether its
//! path carries more (`peer/estimate/probe` decides when, and how much).

use super::fan_out::again;
use super::peer::{Peer, Side};
use super::report::Counters;
use crate::media::arena::SendArena;
use crate::media::codec::Kind;
use crate::peer::outgoing::{Outgoing, Wire};
use crate::router::Router;
use std::time::Instant;

/// What went out as a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Probed {
    packets: u64,
    bytes: u64,
}

impl Probed {
    const fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// What a packet without payload takes in the arena at most.
const EMPTY_ROOM: usize = 400;

/// So many packets before the newest are looked at: more than a step of any probe needs.
const LOOKED_AT_MAX: u64 = 64;

/// Sends a viewer what is due of a probe: the newest packets that it was sent, one after the other.
pub(super) fn send(
    peer: &mut Peer,
    router: &Router,
    now: Instant,
    arena: &mut SendArena,
) -> Probed {
    let mut probed = Probed::default();
    let Some(path) = peer.transport.path() else { return probed };
    let Side::Viewer(viewing) = &mut peer.side else { return probed };
    let mut due = viewing.viewer.probe(now);
    if due == 0 {
        return probed;
    }
    // A viewer that begins, or whose connection is full, has enough to take.
    let is_busy = viewing.held || viewing.catching_up.is_some();
    let subscription = viewing.subscriptions[Kind::Video.index()].as_ref().filter(|_| !is_busy);
    if let (Some(subscription), Some(sealer), Some(mut track)) =
        (subscription, peer.transport.sealer(), viewing.viewer.sending(Kind::Video, now))
    {
        let mut wire = Wire { sealer, path, arena };
        let next = subscription.next_out();
        for sequence in (next.saturating_sub(LOOKED_AT_MAX)..next).rev() {
            if due == 0 {
                break;
            }
            let Some(numbered) = again(subscription, router, sequence as u16) else { continue };
            if Outgoing::room(numbered.packet, 0) + 2 > wire.arena.remaining() {
                break;
            }
            let bytes = track.probe(Some(numbered), &mut wire);
            if bytes == 0 {
                break;
            }
            due = due.saturating_sub(bytes);
            probed.add(bytes);
        }
        // While no picture flows there is no packet of the past, but still something to learn.
        while due > 0 && wire.arena.remaining() > EMPTY_ROOM {
            let bytes = track.probe(None, &mut wire);
            if bytes == 0 {
                break;
            }
            due = due.saturating_sub(bytes);
            probed.add(bytes);
        }
    }
    if probed.packets == 0 {
        viewing.viewer.give_up_probe(now);
    }
    probed
}

impl Counters {
    /// A step of a probe went out.
    pub(super) const fn probed(&mut self, probed: Probed) {
        self.probe_packets += probed.packets;
        self.probe_bytes += probed.bytes;
    }
}
