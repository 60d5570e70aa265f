//! Bounds of what an engine holds, and that it holds nothing when all is over.

use super::{Rule, Verdict, broken};
use millrace::engine::Engine;
use millrace::engine::held::Held;
use std::time::Instant;

/// How many there are outside the engines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside {
    /// Clients that have ever come, with all their addresses.
    pub(crate) addresses: usize,
    /// The streams they know.
    pub(crate) streams: usize,
}

/// Names by which a session is found beside its addresses: its id, and two of ICE's.
const NAMES: usize = 3;
/// Deadlines of a session that are in force or were, within the second before they pass.
const DEADLINES: usize = 256;
/// What may wait of one stream, a frame or a burst of repairs: the router's own bound, per kind.
const WAITING: usize = 2 * 1_024;
/// What a keyframe cache keeps at most.
const CACHED: usize = 1 << 15;
/// What a publisher's pool remembers at most.
const POOLED: usize = 2 * 16_384;

/// What an engine may hold after a step, in which everything it has told was taken.
pub(crate) fn within_bounds(shard: usize, held: &Held, outside: Outside) -> Verdict {
    let Held { sessions, streams, .. } = *held;
    let bounds = [
        ("sessions", sessions, outside.addresses),
        ("streams", streams, outside.streams),
        ("names and addresses", held.names, outside.addresses + NAMES * sessions),
        ("other shards' addresses", held.foreign, outside.addresses),
        ("other shards' streams", held.abroad, outside.streams),
        ("deadlines", held.deadlines, DEADLINES * (sessions + 1)),
        ("viewers who catch up", held.catching_up, sessions),
        ("streams that wait", held.waiting, streams),
        ("packets that wait", held.packets, WAITING * streams),
        ("packets kept for newcomers", held.cached, CACHED * streams),
        ("packets to be used again", held.pooled, POOLED * sessions),
        ("events", held.events, 0),
        ("messages", held.messages, 0),
    ];
    match bounds.iter().find(|(_, held, bound)| held > bound) {
        None => Ok(()),
        Some((what, held, bound)) => {
            broken(Rule::Bounds, format!("shard {shard} holds {held} {what}, not {bound}"))
        }
    }
}

/// Code that panics ends its session and is counted; so are messages between shards that are lost.
pub(crate) fn no_faults(shard: usize, engine: &Engine) -> Verdict {
    let counters = engine.counters();
    if counters.faults + counters.messages_dropped > 0 {
        let (faults, messages) = (counters.faults, counters.messages_dropped);
        return broken(Rule::Fault, format!("shard {shard}: {faults} faults, {messages} lost"));
    }
    Ok(())
}

/// What is left of a shard's engine when all sessions have ended: where others' clients were heard
/// last, which it forgets when it needs the room.
pub(crate) fn nothing_left(shard: usize, engine: &Engine) -> Verdict {
    let held = engine.held();
    let left = Held { foreign: 0, ..held };
    if left != Held::default() {
        return broken(Rule::Ending, format!("shard {shard} is left with {left:?}"));
    }
    let deadline: Option<Instant> = engine.deadline();
    if deadline.is_some() {
        return broken(Rule::Ending, format!("shard {shard} has something to do"));
    }
    Ok(())
}
