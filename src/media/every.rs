//! What is done now and then, by the time of what comes in. Pure.

use std::time::{Duration, Instant};

/// Something that is done at most once in a while.
#[derive(Debug, Clone, Copy)]
pub struct Every {
    span: Duration,
    last: Option<Instant>,
}

impl Every {
    /// Something that is due at once, and then so long after it was done.
    pub const fn new(span: Duration) -> Self {
        Self { span, last: None }
    }

    /// Whether it is due; counts as done.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now >= last + self.span);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}
