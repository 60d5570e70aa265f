//! Places for processes that transcode pictures, and who waits for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// How many processes there may be.
#[derive(Debug)]
pub(in crate::transcode) struct Places {
    free: Arc<Semaphore>,
    max: usize,
    waiting: AtomicUsize,
}

/// Somebody waits.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    /// So many.
    pub(in crate::transcode) fn new(max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), max, waiting: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// How many are taken.
    pub(in crate::transcode) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    /// One, if it is free and nobody waits for it. Dropping it gives it back.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// One, as soon as it is free; who has waited longest has the first.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        Arc::clone(&self.free).acquire_owned().await
    }

    /// Whether somebody waits for one.
    pub(super) fn are_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}
