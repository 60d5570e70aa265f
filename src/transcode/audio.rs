//! The sound of one stream, on its way through a worker.

use super::ipc::Sound;
use super::queue::Queue;
use crate::media::codec::Kind;
use crate::media::frame::{AudioCoding, Frame};
use std::sync::Arc;

/// Where the sound of one stream goes in; what becomes of it goes to the sink that
/// [`super::Transcoder::audio`] got. Dropping it ends the process.
#[derive(Debug)]
pub struct AudioWorker {
    queue: Arc<Queue>,
}

impl AudioWorker {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// Hands in a frame; never waits. Where the worker takes too few, the oldest are dropped. The
    /// coding may change from frame to frame.
    pub fn write(&mut self, frame: Frame) {
        if frame.coding.kind() == Kind::Audio {
            self.queue.push(frame);
        }
    }

    /// What is wrong with the worker, while something is: it has failed, and the next one has given
    /// no sound yet.
    pub fn fault(&self) -> Option<String> {
        self.queue.fault()
    }
}

impl Drop for AudioWorker {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl From<&AudioCoding> for Sound {
    fn from(coding: &AudioCoding) -> Self {
        match coding {
            AudioCoding::Opus => Self::Opus,
            AudioCoding::Aac(config) => Self::Aac(config.to_vec()),
            AudioCoding::Mpeg => Self::Mpeg,
            AudioCoding::Ac3 => Self::Ac3,
        }
    }
}

impl From<Sound> for AudioCoding {
    fn from(sound: Sound) -> Self {
        match sound {
            Sound::Opus => Self::Opus,
            Sound::Aac(config) => Self::Aac(config.into()),
            Sound::Mpeg => Self::Mpeg,
            Sound::Ac3 => Self::Ac3,
        }
    }
}
