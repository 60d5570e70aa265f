//! Streams packaged for HTTP (draft-pantos-hls-rfc8216bis): LL-HLS.
//!
//! A stream is packaged by a task of its own, from the first request for a playlist until nobody
//! has asked for a while. Whoever asks reads what is there, or waits for what comes next; a
//! playlist is rendered once for all who ask for the same.
//!
//! - `presentation`: the renditions of one stream, out of its samples; pure
//! - `opening`: where a publisher's first segment begins; pure
//! - `packager`: the task of one stream
//! - `sound`: made AAC where it is not
//! - `store`: what is there, and who waits for more
//! - `answers`: a request, and what it gets
//! - `tests`: who waits for what

mod answers;
mod opening;
mod packager;
pub mod presentation;
mod sound;
mod store;
#[cfg(test)]
mod tests;

pub use answers::{Answer, Ask, Directives, Refused, Unfinished};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::egress::{Hls as Settings, HlsMode};
use crate::media::id::StreamName;
use crate::media::time::Epoch;
use crate::transcode::Transcoder;
use packager::Packager;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Store;

/// How a playlist's text becomes what HTTP gives, for so long.
pub type Render<R> = fn(String, Duration) -> R;

/// What packaging needs of the server.
#[derive(Clone)]
pub struct Tools {
    /// Where streams are read.
    pub bus: Arc<Bus>,
    /// The server's clock.
    pub clock: Clock,
    /// Tells the wall time of a moment.
    pub epoch: Epoch,
    /// Makes sound AAC.
    pub transcoder: Transcoder,
    /// How streams are packaged.
    pub settings: Settings,
    /// How long a stream outlasts its publisher.
    pub grace: Duration,
}

/// All streams that are packaged.
pub struct Hls<R> {
    tools: Tools,
    render: Render<R>,
    packages: Packages<R>,
    counts: Counts,
}

/// The streams that are packaged now, by name.
type Packages<R> = Arc<Mutex<HashMap<StreamName, Arc<Store<R>>>>>;

/// What has happened since the start.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    not_in_time: AtomicU64,
}

/// What has happened since the start, and what is, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HlsCounts {
    /// Streams that are packaged.
    pub packages: usize,
    /// Media that is held of them, in bytes.
    pub held_bytes: usize,
    /// Requests that wait for what comes next: about as many players as there are.
    pub waiting: usize,
    /// Times that a stream began to be packaged.
    pub begun: u64,
    /// Requests that waited in vain.
    pub not_in_time: u64,
}

impl<R: Clone + Send + Sync + 'static> Hls<R> {
    /// Nothing is packaged yet. Within a tokio runtime.
    pub fn new(tools: Tools, render: Render<R>) -> Self {
        Self { tools, render, packages: Arc::default(), counts: Counts::default() }
    }

    /// Gives what is asked for; waits where that is still to come.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why there is nothing.
    pub async fn get(&self, ask: Ask<'_>) -> Result<Answer<R>, Refused> {
        let answer = self.answer(ask).await;
        if matches!(answer, Err(Refused::NotInTime(_))) {
            self.counts.not_in_time.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn answer(&self, ask: Ask<'_>) -> Result<Answer<R>, Refused> {
        if self.tools.settings.mode == HlsMode::Off {
            return Err(Refused::Off);
        }
        let begins = answers::is_playlist(ask.file);
        let present = self.lock().get(ask.stream).cloned();
        let store = match present {
            Some(store) => store,
            None if begins => self.begin(ask.stream)?,
            None => return Err(Refused::NotFound),
        };
        store.touch(self.tools.clock.now());
        match store.answer(&ask).await {
            // Its task has ended meanwhile: what is sent now is packaged anew.
            Err(Refused::Closed) if begins => {
                // Where nobody sends it, that will be said to whoever asks again.
                let store = self.begin(ask.stream).map_err(|_| Refused::Closed)?;
                store.touch(self.tools.clock.now());
                store.answer(&ask).await
            }
            answer => answer,
        }
    }

    /// Packages all streams that are live, if they always are.
    pub fn look(&self) {
        if self.tools.settings.mode != HlsMode::Always {
            return;
        }
        for stream in self.tools.bus.directory().live_streams() {
            // Whose publisher has left in between is none of these any more.
            let _ = self.begin(&stream);
        }
    }

    /// The server stops: nobody waits for more.
    pub fn stop(&self) {
        for store in self.lock().values() {
            store.close();
        }
    }

    /// What has happened, and what is.
    pub fn counts(&self) -> HlsCounts {
        let stores: Vec<_> = self.lock().values().cloned().collect();
        HlsCounts {
            packages: stores.len(),
            waiting: stores.iter().map(|store| store.waiting()).sum(),
            held_bytes: stores.iter().map(|store| store.held()).sum(),
            begun: self.counts.begun.load(Ordering::Relaxed),
            not_in_time: self.counts.not_in_time.load(Ordering::Relaxed),
        }
    }

    /// Begins to package a stream, if nobody has.
    fn begin(&self, stream: &StreamName) -> Result<Arc<Store<R>>, Refused> {
        if !self.tools.bus.directory().is_sent(stream) {
            return Err(Refused::NotLive);
        }
        let (now, wall) = (self.tools.clock.now(), self.tools.clock.wall());
        let (store, packager) = {
            let mut packages = self.lock();
            if let Some(store) = packages.get(stream) {
                return Ok(Arc::clone(store));
            }
            let store = Arc::new(Store::new(&self.tools.settings, self.render, now, wall));
            packages.insert(stream.clone(), Arc::clone(&store));
            let packager = Packager::new(stream.clone(), Arc::clone(&store), self.tools.clone());
            (store, packager)
        };
        self.counts.begun.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { stream: stream.clone(), packages: Arc::clone(&self.packages) };
        tokio::spawn(async move {
            // Whatever ends the task, even a fault, nobody is to find what it has left behind.
            let _entry = entry;
            packager.run().await;
        });
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamName, Arc<Store<R>>>> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A package among the others, as long as its task runs.
struct Entry<R: Clone> {
    stream: StreamName,
    packages: Packages<R>,
}

impl<R: Clone> Drop for Entry<R> {
    fn drop(&mut self) {
        let mut packages = self.packages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = packages.remove(&self.stream) {
            store.close();
        }
    }
}
