//! What of a viewer's link its sound takes, which the picture has to leave.

use crate::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// What a viewer's sound takes, headers included.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) rate: Bitrate,
    bytes: u64,
    at: Option<Instant>,
}

impl Sound {
    /// Before anything was measured: Opus at a rate that is usual for it.
    const USUAL: Bitrate = Bitrate::kbps(80);
    /// So long is measured.
    const SPAN: Duration = Duration::from_secs(2);

    /// Before anything is known.
    pub(super) const fn new() -> Self {
        Self { rate: Self::USUAL, bytes: 0, at: None }
    }

    /// So many bytes went out until now.
    pub(super) fn measure(&mut self, bytes: u64, now: Instant) {
        let Some(at) = self.at else {
            (self.at, self.bytes) = (Some(now), bytes);
            return;
        };
        let span = now.saturating_duration_since(at);
        if span >= Self::SPAN {
            self.rate = Bitrate::of(bytes.saturating_sub(self.bytes), span);
            (self.at, self.bytes) = (Some(now), bytes);
        }
    }
}
