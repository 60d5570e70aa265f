//! Where segments begin, the same for all renditions: media sequence numbers and discontinuities
//! of one stream mean the same in all its playlists.

use std::collections::VecDeque;

/// How many are remembered: sound follows the picture by far less.
const KEPT: usize = 32;

/// Where a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boundary {
    /// The media sequence number of the segment.
    pub(super) msn: u64,
    /// The discontinuity sequence number of the segment.
    pub(super) discontinuity: u64,
    /// When its first sample is presented, in ticks of the publisher.
    pub(super) at: i64,
    /// Whether decoders can start there.
    pub(super) is_start: bool,
    /// Which publish session that is.
    run: u64,
}

/// The newest of them.
#[derive(Debug)]
pub(super) struct Boundaries {
    /// The first media sequence number.
    first: u64,
    newest: VecDeque<Boundary>,
    run: u64,
}

impl Boundaries {
    /// None yet; numbers begin with `first`.
    pub(super) const fn new(first: u64) -> Self {
        Self { first, newest: VecDeque::new(), run: 0 }
    }

    /// Another publisher: its time line is another.
    pub(super) fn restart(&mut self) {
        self.run += 1;
    }

    /// A segment begins at `at`, not before the last one; `is_discontinuous`: what is in it is
    /// encoded in another way; `is_start`: decoders can start with it.
    pub(super) fn add(&mut self, at: i64, is_discontinuous: bool, is_start: bool) -> Boundary {
        let run = self.run;
        let last = self.newest.back().filter(|last| last.run == run);
        let at = last.map_or(at, |last| at.max(last.at));
        let (msn, discontinuity) = match self.newest.back() {
            Some(last) => {
                let differs = is_discontinuous || last.run != run;
                (last.msn + 1, last.discontinuity + u64::from(differs))
            }
            None => (self.first, 0),
        };
        let boundary = Boundary { msn, discontinuity, at, is_start, run };
        self.newest.push_back(boundary);
        if self.newest.len() > KEPT {
            self.newest.pop_front();
        }
        boundary
    }

    /// Whether there was none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Those of this publisher behind the segment `msn`, or all.
    pub(super) fn after(&self, msn: Option<u64>) -> impl Iterator<Item = Boundary> + '_ {
        let is_later = move |boundary: &&Boundary| msn.is_none_or(|msn| boundary.msn > msn);
        self.newest.iter().filter(|it| it.run == self.run).filter(is_later).copied()
    }

    /// Those from one number to before another, with the time to the next where that is known.
    pub(super) fn between(
        &self,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (Boundary, Option<i64>)> {
        let next = self.newest.iter().skip(1);
        self.newest
            .iter()
            .zip(next)
            .filter(move |(one, _)| (from..to).contains(&one.msn))
            .map(|(one, next)| (*one, (one.run == next.run).then(|| next.at - one.at)))
    }
}
