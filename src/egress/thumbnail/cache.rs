//! What is made is kept for some seconds, and all who ask while it is being made wait for the same.

use super::{Refused, Thumbnail};
use crate::clock::Clock;
use crate::media::id::StreamName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What came of an attempt.
pub(super) type Outcome = Result<Thumbnail, Refused>;

/// The newest of each stream of which one was asked for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cache {
    slots: Arc<Mutex<HashMap<StreamName, Slot>>>,
    clock: Clock,
}

#[derive(Debug)]
enum Slot {
    /// It is being made.
    Making(watch::Receiver<Option<Outcome>>),
    /// That came of it, at this moment.
    Made(Instant, Outcome),
}

impl Slot {
    /// Whether it is of use: the newest, or on its way. Nobody tells anything any more where a
    /// fault has ended an attempt.
    fn is_good(&self, now: Instant) -> bool {
        match self {
            Self::Made(at, _) => now < *at + Cache::APART,
            Self::Making(making) => making.has_changed().is_ok(),
        }
    }
}

impl Cache {
    /// No stream's is made more often than that.
    pub(super) const APART: Duration = Duration::from_secs(5);

    pub(super) fn new(clock: Clock) -> Self {
        Self { slots: Arc::default(), clock }
    }

    /// What is kept, or what comes of `make`, which goes on in a task of its own.
    pub(super) async fn get<F>(&self, stream: &StreamName, make: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let now = self.clock.now();
        let mut making = {
            let mut slots = self.lock();
            match slots.get(stream).filter(|slot| slot.is_good(now)) {
                Some(Slot::Made(at, outcome)) => {
                    let fresh_for = (*at + Self::APART).saturating_duration_since(now);
                    return outcome.clone().map(|it| Thumbnail { fresh_for, ..it });
                }
                Some(Slot::Making(making)) => making.clone(),
                None => {
                    let making = self.begin(stream, make());
                    slots.insert(stream.clone(), Slot::Making(making.clone()));
                    making
                }
            }
        };
        let outcome = making.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(Refused::Failed))
    }

    fn begin(
        &self,
        stream: &StreamName,
        make: impl Future<Output = Outcome> + Send + 'static,
    ) -> watch::Receiver<Option<Outcome>> {
        let (told, making) = watch::channel(None);
        let (cache, stream) = (self.clone(), stream.clone());
        tokio::spawn(async move {
            let outcome = make.await;
            let now = cache.clock.now();
            if outcome == Err(Refused::Busy) {
                // Of this stream nothing was tried.
                cache.forget(&stream);
            } else {
                cache.lock().insert(stream, Slot::Made(now, outcome.clone()));
            }
            // Nobody may wait for it any more.
            told.send_replace(Some(outcome));
        });
        making
    }

    /// A stream is over: the next one of its name has nothing to do with it.
    pub(super) fn forget(&self, stream: &StreamName) {
        self.lock().remove(stream);
    }

    /// Forgets what is too old to be given to anybody.
    pub(super) fn look(&self) {
        let now = self.clock.now();
        self.lock().retain(|_, slot| slot.is_good(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamName, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::media::time::WallTime;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::Semaphore;

    struct Rig {
        hands: HandClock,
        cache: Cache,
        begun: Arc<AtomicU64>,
        /// An attempt needs one of these.
        leave: Arc<Semaphore>,
    }

    impl Rig {
        fn new() -> Self {
            let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::ZERO));
            let cache = Cache::new(hands.clock());
            Self { hands, cache, begun: Arc::default(), leave: Arc::new(Semaphore::new(0)) }
        }

        /// Asks; what is made is named by the number of the attempt, unless `refused` comes of it.
        async fn get(&self, name: &str, refused: Option<Refused>) -> Outcome {
            let (begun, leave) = (Arc::clone(&self.begun), Arc::clone(&self.leave));
            let make = || async move {
                let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
                leave.acquire().await.expect("it is open").forget();
                refused.map_or_else(|| Ok(numbered(number)), Err)
            };
            self.cache.get(&stream(name), make).await
        }

        fn begun(&self) -> u64 {
            self.begun.load(Ordering::Relaxed)
        }
    }

    fn stream(name: &str) -> StreamName {
        StreamName::parse(name).expect("a name")
    }

    fn numbered(number: u64) -> Thumbnail {
        let made = WallTime::since_unix_epoch(Duration::from_secs(number));
        Thumbnail { jpeg: Bytes::from_static(b"jpeg"), made, fresh_for: Cache::APART }
    }

    #[tokio::test]
    async fn all_who_ask_at_the_same_time_get_the_same() {
        let rig = Rig::new();
        let asked = async { tokio::join!(rig.get("a", None), rig.get("a", None)) };
        let other = rig.get("b", None);
        let leave = async { rig.leave.add_permits(2) };
        let ((first, second), other, ()) = tokio::join!(asked, other, leave);
        assert_eq!(first, second);
        assert_ne!(first, other);
        assert_eq!(rig.begun(), 2);
    }

    #[tokio::test]
    async fn it_is_kept_for_a_while_and_made_anew_after_that() {
        let rig = Rig::new();
        rig.leave.add_permits(10);
        assert_eq!(rig.get("a", None).await, Ok(numbered(1)));
        rig.hands.advance(Duration::from_secs(3));
        let again = Thumbnail { fresh_for: Duration::from_secs(2), ..numbered(1) };
        assert_eq!(rig.get("a", None).await, Ok(again));
        rig.hands.advance(Duration::from_secs(2));
        assert_eq!(rig.get("a", None).await, Ok(numbered(2)));
        rig.cache.forget(&stream("a"));
        assert_eq!(rig.get("a", None).await, Ok(numbered(3)));
    }

    #[tokio::test]
    async fn a_failure_is_kept_as_long_but_not_that_there_was_no_time_for_it() {
        let rig = Rig::new();
        rig.leave.add_permits(10);
        assert_eq!(rig.get("a", Some(Refused::Failed)).await, Err(Refused::Failed));
        assert_eq!(rig.get("a", None).await, Err(Refused::Failed));
        assert_eq!(rig.begun(), 1);
        rig.hands.advance(Cache::APART);
        assert_eq!(rig.get("a", Some(Refused::Busy)).await, Err(Refused::Busy));
        assert_eq!(rig.get("a", None).await, Ok(numbered(3)));
    }

    #[tokio::test]
    async fn whoever_waits_no_longer_takes_it_from_nobody() {
        let rig = Rig::new();
        let first = tokio::time::timeout(Duration::ZERO, rig.get("a", None)).await;
        assert!(first.is_err(), "it takes longer");
        rig.leave.add_permits(1);
        assert_eq!(rig.get("a", None).await, Ok(numbered(1)));
        assert_eq!(rig.begun(), 1);
    }

    #[tokio::test]
    async fn an_attempt_that_a_fault_ends_is_followed_by_another() {
        let rig = Rig::new();
        rig.leave.close();
        assert_eq!(rig.get("a", None).await, Err(Refused::Failed), "it has panicked");
        let rig = Rig { leave: Arc::new(Semaphore::new(1)), ..rig };
        assert_eq!(rig.get("a", None).await, Ok(numbered(2)));
    }

    #[tokio::test]
    async fn nothing_is_kept_that_nobody_gets() {
        let rig = Rig::new();
        rig.leave.add_permits(10);
        for number in 0..10 {
            rig.get(&format!("cam-{number}"), None).await.expect("one");
        }
        rig.cache.look();
        assert_eq!(rig.cache.lock().len(), 10);
        rig.hands.advance(Cache::APART);
        rig.cache.look();
        assert!(rig.cache.lock().is_empty());
    }
}
