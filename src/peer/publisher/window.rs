//! Which of the newest sequence numbers of a layer have come: each packet passes once.

/// How far behind the newest packet one may come: over a second at 40 Mb/s.
const SPAN: u64 = 4096;

/// A bitmap over the newest [`SPAN`] extended sequence numbers.
#[derive(Debug, Clone)]
pub(super) struct Window {
    seen: [u64; (SPAN / 64) as usize],
    newest: Option<u64>,
}

impl Window {
    /// Nothing has come.
    pub(super) const fn new() -> Self {
        Self { seen: [0; (SPAN / 64) as usize], newest: None }
    }

    /// Notes a sequence number; `false` if it came before or is too old to tell.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        match self.newest {
            None => self.newest = Some(sequence),
            Some(newest) if sequence > newest => {
                for passed in newest + 1..=sequence.min(newest + SPAN) {
                    self.seen[word(passed)] &= !bit(passed);
                }
                self.newest = Some(sequence);
            }
            Some(newest) => {
                if newest - sequence >= SPAN || self.seen[word(sequence)] & bit(sequence) != 0 {
                    return false;
                }
            }
        }
        self.seen[word(sequence)] |= bit(sequence);
        true
    }

    /// The highest sequence number that came.
    pub(super) const fn newest(&self) -> Option<u64> {
        self.newest
    }
}

const fn word(sequence: u64) -> usize {
    (sequence % SPAN / 64) as usize
}

const fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_passes_once_in_whatever_order() {
        let mut window = Window::new();
        let order = [70_000, 70_002, 70_001, 70_002, 69_999, 70_001, 74_097, 70_001, 70_003];
        let passed: Vec<_> = order.iter().map(|&sequence| window.insert(sequence)).collect();
        assert_eq!(passed, [true, true, true, false, true, false, true, false, true]);
    }

    #[test]
    fn a_jump_beyond_the_span_forgets_all_of_it() {
        let mut window = Window::new();
        for sequence in 100_000..104_096 {
            assert!(window.insert(sequence));
        }
        assert!(window.insert(1_000_000));
        assert!((1_000_000 - SPAN + 1..1_000_000).all(|sequence| window.insert(sequence)));
        assert!(!window.insert(1_000_000 - SPAN));
        assert!(window.insert(2_000_000));
        assert!(!window.insert(2_000_000 - SPAN - 5), "too old to tell");
        assert_eq!(window.newest(), Some(2_000_000));
    }
}
