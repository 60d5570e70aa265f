//! A fixed window over a stream's sequence numbers: what is lost, came twice, or came late.

/// Numbers that are told apart; one that is older counts as stale.
const WINDOW: u64 = 1_024;
const WORDS: usize = WINDOW as usize / 64;

/// What a sequence number turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The next one, or one beyond a hole.
    New,
    /// One that fills a hole.
    Late,
    /// One that came before.
    Duplicate,
    /// Too old to tell.
    Stale,
}

/// The window of one RTP stream.
#[derive(Debug, Clone, Default)]
pub struct SequenceWindow {
    seen: [u64; WORDS],
    first: u64,
    highest: u64,
    unique: u64,
    duplicates: u64,
    late: u64,
    stale: u64,
}

impl SequenceWindow {
    /// Takes a number, and returns it extended by the wraps before it (RFC 3550 Appendix A.1).
    pub fn take(&mut self, sequence: u16) -> (u64, Place) {
        if self.unique == 0 {
            // Room below the first, for those that it overtook.
            let extended = u64::from(sequence) + (1 << 16);
            (self.first, self.highest) = (extended, extended);
            self.mark(extended);
            return (extended, Place::New);
        }
        let step = sequence.wrapping_sub(self.highest as u16).cast_signed();
        let extended = self.highest.saturating_add_signed(i64::from(step));
        if step > 0 {
            self.forget(self.highest + 1, extended);
            self.highest = extended;
            self.mark(extended);
            return (extended, Place::New);
        }
        if extended + WINDOW <= self.highest {
            self.stale += 1;
            return (extended, Place::Stale);
        }
        if self.is_seen(extended) {
            self.duplicates += 1;
            return (extended, Place::Duplicate);
        }
        self.first = self.first.min(extended);
        self.late += 1;
        self.mark(extended);
        (extended, Place::Late)
    }

    /// How often an extended number has wrapped, counted from the first one's (RFC 3711 §3.3.1).
    pub fn rollovers(extended: u64) -> u32 {
        ((extended >> 16) as u32).saturating_sub(1)
    }

    /// Distinct packets.
    pub fn received(&self) -> u64 {
        self.unique
    }

    /// Packets between the first and the last that have not come, or not yet.
    pub fn lost(&self) -> u64 {
        if self.unique == 0 {
            return 0;
        }
        // A stale packet may be one that was counted as lost before.
        (self.highest - self.first + 1).saturating_sub(self.unique)
    }

    /// Packets that came more than once.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came after a later one.
    pub fn reordered(&self) -> u64 {
        self.late + self.stale
    }

    /// The highest number, as a receiver report has it.
    pub fn highest(&self) -> u32 {
        self.highest.saturating_sub(1 << 16) as u32
    }

    /// The holes of the last `reach` numbers, oldest first.
    pub fn holes(&self, reach: u64) -> impl Iterator<Item = u16> + '_ {
        let from = self.first.max(self.highest.saturating_sub(reach.min(WINDOW - 1)));
        let known = if self.unique == 0 { 0..0 } else { from..self.highest };
        known.filter(|number| !self.is_seen(*number)).map(|number| number as u16)
    }

    fn mark(&mut self, extended: u64) {
        self.unique += 1;
        self.seen[word(extended)] |= 1 << (extended % 64);
    }

    fn is_seen(&self, extended: u64) -> bool {
        self.seen[word(extended)] & (1 << (extended % 64)) != 0
    }

    /// The places of new numbers held those that leave the window.
    fn forget(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            self.seen = [0; WORDS];
            return;
        }
        for number in from..=to {
            self.seen[word(number)] &= !(1 << (number % 64));
        }
    }
}

fn word(extended: u64) -> usize {
    (extended / 64) as usize % WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(numbers: impl IntoIterator<Item = u16>) -> SequenceWindow {
        let mut window = SequenceWindow::default();
        for number in numbers {
            window.take(number);
        }
        window
    }

    fn counts(window: &SequenceWindow) -> (u64, u64, u64, u64) {
        (window.received(), window.lost(), window.duplicates(), window.reordered())
    }

    #[test]
    fn an_unbroken_stream_over_three_wraps_has_no_loss() {
        let numbers = (0..200_000_u64).map(|number| (number + 65_000) as u16);
        assert_eq!(counts(&taken(numbers)), (200_000, 0, 0, 0));
    }

    #[test]
    fn rollovers_count_the_wraps() {
        let mut window = SequenceWindow::default();
        let extended: Vec<u32> = [65_535_u16, 0, 65_534, 1]
            .into_iter()
            .map(|number| SequenceWindow::rollovers(window.take(number).0))
            .collect();
        assert_eq!(extended, [0, 1, 0, 1]);
    }

    #[test]
    fn loss_reordering_and_duplicates_are_told_apart() {
        let window = taken([10, 12, 11, 12, 15]);
        assert_eq!(counts(&window), (4, 2, 1, 1));
        assert_eq!(window.holes(100).collect::<Vec<_>>(), [13, 14]);
    }

    #[test]
    fn one_that_the_first_overtook_is_no_duplicate() {
        assert_eq!(counts(&taken([65_535, 65_534, 65_534, 0])), (3, 0, 1, 1));
    }

    #[test]
    fn a_hole_longer_than_the_window_is_lost_once() {
        let window = taken([5, 5_000, 5_001, 6]);
        assert_eq!(window.take_counts(), (3, 4_994, 1));
    }

    #[test]
    fn a_place_is_not_taken_for_seen_after_the_window_went_round() {
        let mut window = taken(0..1_024);
        // 1024 falls on the place of 0, and is lost.
        assert_eq!(window.take(1_025).1, Place::New);
        assert_eq!(window.take(1_024).1, Place::Late);
        assert_eq!(window.take(1_024).1, Place::Duplicate);
    }

    impl SequenceWindow {
        fn take_counts(&self) -> (u64, u64, u64) {
            (self.received(), self.lost(), self.stale)
        }
    }
}
