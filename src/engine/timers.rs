//! Who is to be looked at when: one heap for all sessions, entries that moved are skipped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The deadlines of all sessions.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    /// What is in force, by peer.
    scheduled: Vec<Option<Instant>>,
}

impl Timers {
    /// Sets a peer's deadline; an earlier one in force stays, and finds out when it comes.
    pub fn set(&mut self, peer: usize, deadline: Instant) {
        if self.scheduled.len() <= peer {
            self.scheduled.resize(peer + 1, None);
        }
        if self.scheduled[peer].is_some_and(|earlier| earlier <= deadline) {
            return;
        }
        self.scheduled[peer] = Some(deadline);
        self.heap.push(Reverse((deadline, peer)));
    }

    /// The peer is gone.
    pub fn clear(&mut self, peer: usize) {
        if let Some(scheduled) = self.scheduled.get_mut(peer) {
            *scheduled = None;
        }
        self.prune();
    }

    /// The next peer whose time has come; it has no deadline until it is given a new one.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        let &Reverse((deadline, peer)) = self.heap.peek()?;
        if deadline > now {
            return None;
        }
        self.scheduled[peer] = None;
        self.prune();
        Some(peer)
    }

    /// Drops what is not in force from the top, so that it wakes nobody.
    fn prune(&mut self) {
        while let Some(&Reverse((deadline, peer))) = self.heap.peek()
            && self.scheduled.get(peer).copied().flatten() != Some(deadline)
        {
            self.heap.pop();
        }
    }

    /// How many deadlines are kept, in force or not.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_come_in_order_and_moved_or_cleared_ones_do_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(1, at(30));
        timers.set(0, at(20));
        timers.set(1, at(10));
        timers.set(2, at(15));
        timers.clear(2);
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop(at(5)), None);
        assert_eq!(timers.pop(at(99)), Some(1));
        assert_eq!(timers.pop(at(99)), Some(0));
        assert_eq!(timers.pop(at(99)), None);
        assert_eq!(timers.next(), None);
    }
    #[test]
    fn a_peer_that_is_gone_wakes_nobody() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set(0, start + Duration::from_secs(2));
        timers.set(0, start + Duration::from_secs(1));
        timers.set(1, start + Duration::from_secs(3));
        timers.clear(0);
        assert_eq!(timers.next(), Some(start + Duration::from_secs(3)));
        timers.clear(1);
        assert_eq!(timers.next(), None);
    }
}
