//! Frames that wait for a worker: few, and the oldest goes first when there are more.

use crate::media::frame::Frame;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Two and a half seconds of AAC: as long as a worker may take that starts for the first time. One
/// that runs takes frames as they come.
const FRAMES_MAX: usize = 128;
/// Sound that has waited longer would come too late for live viewers.
const AGE_MAX: Duration = Duration::from_millis(300);

/// Between whoever has frames and the task that hands them to the worker.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    closed: bool,
    dropped: u64,
    /// What is wrong with the worker, while it is.
    fault: Option<String>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame last; never waits.
    pub(super) fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.frames.len() >= FRAMES_MAX {
            state.frames.pop_front();
            state.dropped += 1;
        }
        state.frames.push_back(frame);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the first frame.
    pub(super) fn pop(&self) -> Option<Frame> {
        self.state().frames.pop_front()
    }

    /// Drops what has waited too long.
    pub(super) fn drop_old(&self, now: Instant) {
        let mut state = self.state();
        let is_old = |frame: &Frame| now.saturating_duration_since(frame.arrival) > AGE_MAX;
        while state.frames.front().is_some_and(is_old) {
            state.frames.pop_front();
            state.dropped += 1;
        }
    }

    /// How many frames were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state().dropped)
    }

    /// Says that nothing more comes.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Whether nothing more comes: the end is at once, whatever waits.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Done when something has changed since this was asked last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes what is wrong with the worker, or that all is well again.
    pub(super) fn note(&self, fault: Option<String>) {
        self.state().fault = fault;
    }

    /// What is wrong with the worker.
    pub(super) fn fault(&self) -> Option<String> {
        self.state().fault.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::media::frame::{AudioCoding, Coding};
    use bytes::Bytes;

    fn frame(ticks: i64, arrival: Instant) -> Frame {
        Frame {
            coding: Coding::Audio(AudioCoding::Opus),
            decode_ticks: ticks,
            present_ticks: ticks,
            arrival,
            data: Bytes::from_static(b"a"),
        }
    }

    #[test]
    fn more_frames_than_there_is_room_for_cost_the_oldest() {
        let (queue, now) = (Queue::default(), Clock::system().now());
        for ticks in 0..FRAMES_MAX as u32 + 3 {
            queue.push(frame(i64::from(ticks), now));
        }
        assert_eq!(queue.take_dropped(), 3);
        assert_eq!(queue.take_dropped(), 0);
        assert_eq!(queue.pop().map(|frame| frame.present_ticks), Some(3));
    }

    #[test]
    fn frames_that_have_waited_too_long_are_dropped() {
        let (queue, start) = (Queue::default(), Clock::system().now());
        for number in 0..10_u32 {
            queue.push(frame(i64::from(number), start + Duration::from_millis(100) * number));
        }
        queue.drop_old(start + Duration::from_secs(1));
        assert_eq!(queue.pop().map(|frame| frame.present_ticks), Some(7));
        assert_eq!(queue.take_dropped(), 7);
    }
}
