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
}

impl KeyframeRequester {
    /// Asks at most once per `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, wanted: false, asked: None }
    }

    /// Somebody waits for a keyframe.
    pub const fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe came: nobody waits any more.
    pub const fn arrived(&mut self) {
        self.wanted = false;
    }

    /// Whether to ask now; counts as asked.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due || (self.wanted && self.asked.is_none()) {
            self.asked = Some(now);
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
        requester.arrived();
        assert!(!requester.poll(start + Duration::from_secs(9)));
        assert_eq!(requester.deadline(), None);
        requester.want();
        assert!(requester.poll(start + Duration::from_secs(9)));
    }
}
