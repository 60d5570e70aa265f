//! Thumbnails: a JPEG of what a stream shows, for whoever asks.
//!
//! Nothing is read or decoded unless somebody asks. Then the stream is tapped for as long as it
//! takes to find a keyframe, and a worker of its own decodes that: the same way for all streams,
//! with made layers or without. All who ask at the same time, and for some seconds after, get the
//! same.
//!
//! - `cache`: what is kept, and who waits for the same
//! - `search`: which frames it is made of; pure
//! - `shot`: from a tap to a JPEG

mod cache;
mod search;
mod shot;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::media::id::StreamName;
use crate::media::time::{Epoch, WallTime};
use crate::transcode::Transcoder;
use bytes::Bytes;
use cache::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::debug;

/// What making thumbnails needs of the server.
#[derive(Clone)]
pub struct Tools {
    /// Where streams are read.
    pub bus: Arc<Bus>,
    /// The server's clock.
    pub clock: Clock,
    /// Tells the wall time of a moment.
    pub epoch: Epoch,
    /// Has the workers.
    pub transcoder: Transcoder,
    /// How many are made at the same time; none where that is 0.
    pub at_once_max: usize,
}

/// One thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The picture.
    pub jpeg: Bytes,
    /// When it was made: no other of its stream was then.
    pub made: WallTime,
    /// For how long it is given to all who ask.
    pub fresh_for: Duration,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody publishes the stream.
    #[error("the stream is not live")]
    NotLive,
    /// It is sound only.
    #[error("the stream has no picture, only sound")]
    NoPicture,
    /// A decoder has nothing to begin with.
    #[error(
        "the publisher sent no keyframe in time; try again, and set the keyframe interval of the \
         encoder to 2 s"
    )]
    NoKeyframe,
    /// Something that is needed is off or not there.
    #[error("no thumbnail can be made of this picture here: {0}")]
    Unavailable(String),
    /// The worker failed by it.
    #[error("no thumbnail could be made of what is sent now; try again in a few seconds")]
    Failed,
    /// Too many are being made.
    #[error("too many thumbnails are asked for at once; try again in a few seconds")]
    Busy,
}

/// Thumbnails of all streams.
pub struct Thumbnails {
    tools: Tools,
    cache: Cache,
    /// One for each that may be made at the same time.
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// What came of all attempts since the start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThumbnailCounts {
    /// Thumbnails.
    pub made: u64,
    /// None, for want of a keyframe, of a program, or by a fault.
    pub failed: u64,
    /// None, since too many were asked for.
    pub refused: u64,
}

impl Thumbnails {
    /// How long the others are waited for that are being made.
    const TURN_MAX: Duration = Duration::from_secs(5);

    /// None yet. Within a tokio runtime.
    pub fn new(tools: Tools) -> Self {
        let cache = Cache::new(tools.clock.clone());
        let places = Arc::new(Semaphore::new(tools.at_once_max));
        Self { tools, cache, places, counts: Arc::default() }
    }

    /// The thumbnail of a stream; waits for it where it is made anew.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why there is none.
    pub async fn get(&self, stream: &StreamName) -> Result<Thumbnail, Refused> {
        if self.tools.at_once_max == 0 {
            return Err(Refused::Unavailable("transcode.thumbnails_max is 0".to_owned()));
        }
        if !self.tools.bus.directory().is_sent(stream) {
            self.cache.forget(stream);
            return Err(Refused::NotLive);
        }
        let make = || {
            let (tools, places) = (self.tools.clone(), Arc::clone(&self.places));
            let (counts, stream) = (Arc::clone(&self.counts), stream.clone());
            async move {
                let outcome = Self::make(&tools, &places, &stream).await;
                counts.count(&outcome);
                outcome
            }
        };
        self.cache.get(stream, make).await
    }

    async fn make(
        tools: &Tools,
        places: &Semaphore,
        stream: &StreamName,
    ) -> Result<Thumbnail, Refused> {
        let place = tokio::time::timeout(Self::TURN_MAX, places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(Refused::Busy) };
        let began = tools.clock.now();
        let jpeg = shot::make(tools, stream).await?;
        let took = tools.clock.now().saturating_duration_since(began);
        debug!(%stream, bytes = jpeg.len(), ?took, "a thumbnail was made");
        Ok(Thumbnail { jpeg, made: tools.clock.wall(), fresh_for: Cache::APART })
    }

    /// Forgets what nobody gets any more.
    pub fn look(&self) {
        self.cache.look();
    }

    /// What came of all attempts.
    pub fn counts(&self) -> ThumbnailCounts {
        let Counts { made, failed, refused } = &*self.counts;
        let [made, failed, refused] =
            [made, failed, refused].map(|count| count.load(Ordering::Relaxed));
        ThumbnailCounts { made, failed, refused }
    }
}

impl Counts {
    fn count(&self, outcome: &Result<Thumbnail, Refused>) {
        let count = match outcome {
            Ok(_) => &self.made,
            Err(Refused::Busy) => &self.refused,
            Err(Refused::NoKeyframe | Refused::Unavailable(_) | Refused::Failed) => &self.failed,
            Err(Refused::NotLive | Refused::NoPicture) => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
