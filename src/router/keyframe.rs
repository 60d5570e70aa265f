//! Many viewers' keyframe requests become at most one PLI (RFC 4585 §6.3.1) per interval.
//!
//! A hundred viewers joining at once must not cost the publisher a hundred keyframes.

use std::time::{Duration, Instant};

/// Asks the publisher again and again, but not too often, until a keyframe comes.
#[derive(Debug)]
pub struct KeyframeRequester {
    interval: Duration,
    wanted: bool,
    asked: Option<Instant>,
    /// When the publisher was first asked for the keyframe that is wanted.
    began: Option<Instant>,
    /// The last keyframe came, if it came, too late to be an answer.
    is_ignored: bool,
}

impl KeyframeRequester {
    /// A publisher that answers does so within its round trip and a few frames.
    const ANSWER_MAX: Duration = Duration::from_millis(500);

    /// Asks at most once per `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, wanted: false, asked: None, began: None, is_ignored: false }
    }

    /// From now on it asks at most once per `interval`.
    pub const fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Somebody waits for a keyframe.
    pub const fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe came: nobody waits any more.
    pub fn arrived(&mut self, now: Instant) {
        self.wanted = false;
        if let Some(began) = self.began.take() {
            self.is_ignored = now >= began + Self::ANSWER_MAX;
        }
    }

    /// Whether the publisher does not answer: OBS does not, nor can one that sends by RTMP.
    pub fn is_ignored(&self, now: Instant) -> bool {
        self.is_ignored || self.began.is_some_and(|began| now >= began + Self::ANSWER_MAX)
    }

    /// Whether to ask now; counts as asked.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due || (self.wanted && self.asked.is_none()) {
            self.asked = Some(now);
            self.began.get_or_insert(now);
            return true;
        }
        false
    }

    /// When it may ask again, if somebody waits and it has asked before.
    pub fn deadline(&self) -> Option<Instant> {
        self.asked.filter(|_| self.wanted).map(|asked| asked + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_requests_in_a_second_become_one_until_a_keyframe_comes() {
        let start = Instant::now();
        let mut requester = KeyframeRequester::new(Duration::from_secs(1));
        let asked = (0..2_500)
            .filter(|ms| {
                requester.want();
                requester.poll(start + Duration::from_millis(*ms))
            })
            .count();
        assert_eq!(asked, 3);
        requester.arrived(start + Duration::from_secs(3));
        assert!(!requester.poll(start + Duration::from_secs(9)));
        assert_eq!(requester.deadline(), None);
        requester.want();
        assert!(requester.poll(start + Duration::from_secs(9)));
    }

    #[test]
    fn a_publisher_that_does_not_answer_is_known_until_it_does() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut requester = KeyframeRequester::new(Duration::from_secs(1));
        requester.want();
        assert!(requester.poll(at(0)));
        assert!(!requester.is_ignored(at(400)) && requester.is_ignored(at(500)));
        requester.arrived(at(900));
        assert!(requester.is_ignored(at(901)), "it came by itself");
        for (asked, came, ignored) in [(2_000, 2_100, false), (4_000, 5_000, true)] {
            requester.want();
            assert!(requester.poll(at(asked)));
            requester.arrived(at(came));
            assert_eq!(requester.is_ignored(at(came)), ignored);
        }
        requester.arrived(at(9_000));
        assert!(requester.is_ignored(at(9_000)), "an unasked one says nothing");
    }
}
