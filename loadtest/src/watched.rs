//! A value that others may wait on, until it is as they want it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// State shared between a client's task and its owner.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    /// Watches a value.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the value.
    pub fn read<R>(&self, reader: impl FnOnce(&T) -> R) -> R {
        reader(&self.lock())
    }

    /// Changes the value and wakes those who wait on it.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Waits until `wanted` gives something.
    ///
    /// # Errors
    ///
    /// When the time is up; `what` says what was waited for.
    pub async fn wait<R>(
        &self,
        within: Duration,
        what: &str,
        mut wanted: impl FnMut(&T) -> Option<R>,
    ) -> anyhow::Result<R> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let found = wanted(&self.lock());
                if let Some(found) = found {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(within, waiting)
            .await
            .map_err(|_| anyhow::anyhow!("{what}: not within {within:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_waiter_is_woken_by_the_change_it_waits_for() {
        let watched = Arc::new(Watched::new(0));
        let other = watched.clone();
        let task = tokio::spawn(async move {
            for _ in 0..5 {
                other.update(|value| *value += 1);
                tokio::task::yield_now().await;
            }
        });
        let wanted = |value: &i32| (*value == 5).then_some(*value);
        assert_eq!(watched.wait(Duration::from_secs(5), "five", wanted).await.ok(), Some(5));
        assert!(task.await.is_ok());
    }
}
