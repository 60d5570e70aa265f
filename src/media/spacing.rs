//! How far apart the keyframes of a stream are.

use std::time::{Duration, Instant};

/// Remembers the last few steps from keyframe to keyframe.
#[derive(Debug, Clone, Default)]
pub struct Spacing {
    /// The newest one: what tells it from others, and when it came.
    newest: Option<(u64, Instant)>,
    steps: [Option<Duration>; Spacing::STEPS],
    next: usize,
}

impl Spacing {
    /// What an encoder did before is no guide to what it does now.
    const STEPS: usize = 8;

    /// A keyframe came, or one more packet of it: they have the same timestamp.
    pub fn note(&mut self, timestamp: u64, arrival: Instant) {
        match self.newest {
            Some((newest, _)) if newest == timestamp => {}
            Some((_, before)) => {
                self.steps[self.next] = Some(arrival.saturating_duration_since(before));
                self.next = (self.next + 1) % Self::STEPS;
                self.newest = Some((timestamp, arrival));
            }
            None => self.newest = Some((timestamp, arrival)),
        }
    }

    /// The longest of the last steps, the one that lasts until now included; `None` before the
    /// first keyframe.
    pub fn longest(&self, now: Instant) -> Option<Duration> {
        let present = self.newest.map(|(_, at)| now.saturating_duration_since(at));
        self.steps.iter().flatten().copied().chain(present).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_the_last_eight_steps_is_told() {
        let start = Instant::now();
        let mut spacing = Spacing::default();
        let mut at = start;
        let mut note = |timestamp, after| {
            at += Duration::from_secs(after);
            spacing.note(timestamp, at);
            spacing.longest(at).map(|longest| longest.as_secs())
        };
        assert_eq!(note(0, 0), Some(0));
        assert_eq!(note(0, 1), Some(1), "another packet of it");
        assert_eq!(note(1, 3), Some(4));
        assert_eq!((2..9).map(|n| note(n, 2)).last(), Some(Some(4)));
        assert_eq!(note(9, 2), Some(2), "that is long ago");
        let later = at + Duration::from_secs(7);
        assert_eq!(spacing.longest(later), Some(Duration::from_secs(7)), "none since");
    }
}
