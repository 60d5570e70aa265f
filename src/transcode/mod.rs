//! What viewers lack is made from what comes in, by processes of their own.
//!
//! - `audio`: the sound of one stream, on its way through a worker
//! - `backoff`: how long to wait before the next start
//! - `capabilities`: what the workers of this machine can do
//! - `cores`: how much of the machine they may take; pure
//! - `exchange`: messages through the socket of one
//! - `group`: a control group of theirs
//! - `ipc`: what server and worker tell each other
//! - `picture`: the picture of one stream, on its way through a worker
//! - `process`: one worker process
//! - `queue`: sound that waits for it
//! - `supervisor`: keeps one for sound running
//! - `unavailable`: why something is not transcoded, and what to do about it
//! - `worker`: the second binary, a package of its own: only there is GStreamer
//!
//! Codecs are large, written in C, and fed by strangers. A fault in one costs a gap in the sound of
//! one stream, or in its made layers, and no viewer.

pub mod audio;
mod backoff;
pub mod capabilities;
pub mod cores;
mod exchange;
mod group;
pub mod ipc;
pub mod picture;
mod process;
mod queue;
mod supervisor;
mod unavailable;

pub use audio::AudioWorker;
pub use picture::PictureWorker;
pub use unavailable::Unavailable;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::transcode::{Transcode, WorkerProgram};
use crate::media::codec::Codec;
use crate::media::frame::{AudioCoding, Frame};
use crate::media::id::StreamName;
use capabilities::{Capabilities, Direction};
use cores::Share;
use group::Group;
use process::Launch;
use queue::Queue;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use supervisor::Supervisor;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

/// Its file name.
const PROGRAM: &str = "millrace-transcode";
/// Where GStreamer keeps what it has found out about its plugins, in the state directory.
const REGISTRY: &str = "gstreamer-registry.bin";
/// AAC in stereo: twice what it needs to be good, as Opus.
const AAC_BITRATE_BPS: u32 = 160_000;

/// What came of asking the worker; nothing before it has answered.
type Probed = Option<Result<Capabilities, Unavailable>>;

/// Starts workers, and knows what they can do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transcoder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Transcode,
    /// `None` where there is none.
    launch: Option<Launch>,
    probed: watch::Receiver<Probed>,
    /// Of workers for sound.
    places: Arc<Semaphore>,
    /// Of workers for pictures.
    picture_places: Arc<picture::Places>,
    counts: Arc<Counts>,
    clock: Clock,
    runtime: Handle,
}

/// What has happened since the start.
#[derive(Debug, Default)]
struct Counts {
    restarts: AtomicU64,
    dropped_frames: AtomicU64,
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TranscodeCounts {
    /// Worker processes for sound now.
    pub workers: usize,
    /// Those for pictures.
    pub pictures: usize,
    /// Workers that were started again after a fault.
    pub restarts: u64,
    /// Frames that no worker took in time.
    pub dropped_frames: u64,
}

/// Why there is no JPEG of a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StillError {
    /// Something is off.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The worker failed by it, in its own words.
    #[error("{0}")]
    Fault(String),
}

impl Transcoder {
    /// Asks in the background what the worker of this machine can do. Within a tokio runtime, where
    /// the workers are watched from then on.
    pub fn new(config: &Config, clock: Clock) -> Self {
        let settings = config.transcode.clone();
        let registry = config.server.state_directory.join(REGISTRY);
        let share = Share::of_this_machine(&settings);
        let launch = program(&settings.worker).map(|program| {
            let group = Group::make();
            info!(may_take = %share, has_group = group.is_some(), "workers for what viewers lack");
            Launch { group, cores: share.list(), ..Launch::new(program, registry) }
        });
        let (told, probed) = watch::channel(None);
        match launch.clone() {
            None => drop(told.send(Some(Err(Unavailable::Off)))),
            Some(launch) => drop(tokio::spawn(async move {
                let answer = launch.probe().await;
                match &answer {
                    Ok(able) => info!(%able, "sound is transcoded"),
                    Err(reason) => warn!(%reason, "sound is not transcoded"),
                }
                // Nobody listens any more where the server has stopped already.
                let _ = told.send(Some(answer));
            })),
        }
        let places = Arc::new(Semaphore::new(settings.workers_max));
        let picture_places = Arc::new(picture::Places::new(share.pictures));
        let (counts, runtime) = (Arc::default(), Handle::current());
        Self {
            shared: Arc::new(Shared {
                settings,
                launch,
                probed,
                places,
                picture_places,
                counts,
                clock,
                runtime,
            }),
        }
    }

    /// What its workers can do, as soon as that is known.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where there is none that works.
    pub async fn probed(&self) -> Result<Capabilities, Unavailable> {
        let mut probed = self.shared.probed.clone();
        // The task that asks was dropped: so was the runtime.
        let Ok(known) = probed.wait_for(Option::is_some).await else {
            return Err(Unavailable::Off);
        };
        known.clone().unwrap_or(Err(Unavailable::Off))
    }

    /// All that is off here and that some stream may need.
    pub async fn missing(&self) -> Vec<Unavailable> {
        self.probed().await.map_or_else(|reason| vec![reason], |able| able.missing())
    }

    /// Whether one can be made into the other. While the worker has not answered what it can do,
    /// that is yes: it will soon be seen.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] says what is off and what to do.
    pub fn available(&self, from: &AudioCoding, to: &AudioCoding) -> Result<(), Unavailable> {
        if matches!(to, AudioCoding::Mpeg | AudioCoding::Ac3) {
            return Err(Unavailable::NeverMade(to.to_string()));
        }
        match &*self.shared.probed.borrow() {
            None => Ok(()),
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(able)) => {
                able.check(Direction::Decode, from)?;
                able.check(Direction::Encode, to)
            }
        }
    }

    /// Starts a worker that makes the sound of a stream into another. What it makes goes to `sink`,
    /// in a task of its own: whoever it is, it must not block.
    ///
    /// # Errors
    ///
    /// As [`Self::available`], and where as many run as may.
    pub fn audio(
        &self,
        stream: &StreamName,
        from: AudioCoding,
        to: AudioCoding,
        sink: impl FnMut(Frame) + Send + 'static,
    ) -> Result<AudioWorker, Unavailable> {
        self.available(&from, &to)?;
        let shared = &self.shared;
        let launch = shared.launch.clone().ok_or(Unavailable::Off)?;
        let place = Arc::clone(&shared.places)
            .try_acquire_owned()
            .map_err(|_| Unavailable::Full(shared.settings.workers_max))?;
        let queue = Arc::new(Queue::default());
        let supervisor = Supervisor {
            stream: stream.clone(),
            launch,
            from,
            bitrate_bps: match to {
                AudioCoding::Opus => shared.settings.opus_bitrate_bps,
                _ => AAC_BITRATE_BPS,
            },
            to,
            queue: Arc::clone(&queue),
            counts: Arc::clone(&shared.counts),
            clock: shared.clock.clone(),
            sink,
        };
        shared.runtime.spawn(async move {
            supervisor.run().await;
            drop(place);
        });
        Ok(AudioWorker::new(queue))
    }

    /// Where the picture of a stream goes in, of which layers are made. A process runs while there
    /// are some to make, or as [`PictureWorker::stand_by`] says. What it makes goes to `sink`, in a
    /// task of its own: whoever it is, it must not block.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where there is no worker.
    pub fn picture(
        &self,
        stream: &StreamName,
        sink: impl FnMut(picture::Told) + Send + 'static,
    ) -> Result<PictureWorker, Unavailable> {
        let shared = &self.shared;
        if let Some(Err(reason)) = &*shared.probed.borrow() {
            return Err(reason.clone());
        }
        let launch = shared.launch.clone().ok_or(Unavailable::Off)?;
        let shared_by_all = (Arc::clone(&shared.picture_places), Arc::clone(&shared.counts));
        let clock = shared.clock.clone();
        let (supervisor, worker) =
            picture::Supervisor::new(stream.clone(), launch, shared_by_all, clock, sink);
        shared.runtime.spawn(supervisor.run());
        Ok(worker)
    }

    /// A JPEG of the newest picture of these frames, so high at most: by a process of its own, as
    /// long as this is waited for. The first of them is a keyframe, and all are of one layer.
    ///
    /// # Errors
    ///
    /// [`StillError`] says whether it can be at all.
    pub async fn still(
        &self,
        frames: &[picture::SourceFrame],
        height: u16,
    ) -> Result<Vec<u8>, StillError> {
        let able = self.probed().await?;
        frames.first().map_or(Ok(()), |first| able.check_decoder(first.codec))?;
        let launch = self.shared.launch.as_ref().ok_or(Unavailable::Off)?;
        picture::still(launch, frames, height).await.map_err(StillError::Fault)
    }

    /// Whether layers can be made of pictures of a codec. While the worker has not answered what it
    /// can do, that is yes: it will soon be seen.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] says what is off and what to do.
    pub fn picture_available(&self, from: Codec) -> Result<(), Unavailable> {
        match &*self.shared.probed.borrow() {
            None => Ok(()),
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(able)) => able.check_picture(from),
        }
    }

    /// All that is off here and that a ladder may need.
    pub async fn missing_pictures(&self) -> Vec<Unavailable> {
        self.probed().await.map_or_else(|reason| vec![reason], |able| able.missing_pictures())
    }

    /// Whether layers are to be made of the picture of a stream, and there is something to make
    /// them.
    pub fn has_ladder(&self, stream: &StreamName) -> bool {
        let Shared { settings, launch, probed, .. } = &*self.shared;
        let works = launch.is_some() && !matches!(&*probed.borrow(), Some(Err(_)));
        works && !settings.ladder_of(stream.as_str()).steps().is_empty()
    }

    /// What has happened since the start.
    pub fn counts(&self) -> TranscodeCounts {
        let Shared { settings, places, picture_places, counts, .. } = &*self.shared;
        TranscodeCounts {
            workers: settings.workers_max.saturating_sub(places.available_permits()),
            pictures: picture_places.taken(),
            restarts: counts.restarts.load(Ordering::Relaxed),
            dropped_frames: counts.dropped_frames.load(Ordering::Relaxed),
        }
    }
}

/// All that is off on this machine and that some stream may need. Leaves nothing behind.
pub async fn examine(config: &Config) -> Vec<Unavailable> {
    let Some(program) = program(&config.transcode.worker) else { return vec![Unavailable::Off] };
    let name = format!("millrace-{}-{REGISTRY}", std::process::id());
    let registry = std::env::temp_dir().join(name);
    let probed = Launch::new(program, registry.clone()).probe().await;
    // There is none where GStreamer did not start.
    let _ = std::fs::remove_file(registry);
    probed.map_or_else(|reason| vec![reason], |able| able.missing())
}

/// Where the worker is, if one is wanted.
fn program(worker: &WorkerProgram) -> Option<PathBuf> {
    match worker {
        WorkerProgram::Off => None,
        WorkerProgram::At(path) => Some(path.clone()),
        WorkerProgram::Beside => {
            let own = std::env::current_exe().unwrap_or_default();
            Some(own.with_file_name(PROGRAM))
        }
    }
}

#[cfg(test)]
mod tests;
