//! The sound of a stream as AAC, which every player has: as it is, or by way of a worker.

use crate::media::every::Every;
use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use crate::media::id::StreamName;
use crate::media::layer::LayerId;
use crate::media::sample::Sample;
use crate::media::time::{WallTime, micros_of_ticks};
use crate::transcode::{AudioWorker, Transcoder, Unavailable};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::warn;

/// AAC-LC in stereo at 48 kHz: only the kind counts, when it is asked for.
fn aac() -> AudioCoding {
    AudioCoding::Aac(Arc::from([0x11, 0x90].as_slice()))
}

/// The sound of one stream, publisher after publisher.
#[derive(Debug)]
pub(super) struct Sound {
    stream: StreamName,
    transcoder: Transcoder,
    worker: Option<AudioWorker>,
    /// When one is looked for.
    looks: Every,
    /// Why there was none when one was looked for last.
    off: Option<Unavailable>,
    made: (mpsc::Sender<Frame>, mpsc::Receiver<Frame>),
    /// Which moment one of the ticks stands for.
    known: Option<(i64, WallTime)>,
}

impl Sound {
    /// Frames that may wait for the packager: five seconds.
    const WAITING_MAX: usize = 256;
    /// How long it is not tried again to find a worker.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);

    pub(super) fn new(stream: StreamName, transcoder: Transcoder) -> Self {
        let made = mpsc::channel(Self::WAITING_MAX);
        let looks = Every::new(Self::LOOK_AGAIN);
        Self { stream, transcoder, worker: None, looks, off: None, made, known: None }
    }

    /// Another publisher begins: what is being made of the one before is on another line.
    pub(super) fn begin(&mut self) {
        self.worker = None;
        self.looks = Every::new(Self::LOOK_AGAIN);
        self.off = None;
        self.known = None;
        self.made = mpsc::channel(Self::WAITING_MAX);
    }

    /// Takes a sound that is not AAC. False: nobody makes it so.
    pub(super) fn write(&mut self, sample: &Sample, now: Instant) -> bool {
        let Coding::Audio(coding) = &sample.coding else { return false };
        self.known = Some((sample.present_ticks, sample.wall));
        if self.worker.is_none() && self.looks.is_due(now) {
            self.find_worker(coding.clone());
        }
        let Some(worker) = &mut self.worker else { return false };
        worker.write(Frame {
            coding: sample.coding.clone(),
            decode_ticks: sample.present_ticks,
            present_ticks: sample.present_ticks,
            arrival: sample.arrival,
            data: sample.data.clone(),
        });
        true
    }

    fn find_worker(&mut self, coding: AudioCoding) {
        let made = self.made.0.clone();
        // Where there is no room for a sound the next one goes on.
        let sink = move |frame| drop(made.try_send(frame));
        match self.transcoder.audio(&self.stream, coding, aac(), sink) {
            Ok(worker) => self.worker = Some(worker),
            Err(reason) => {
                if self.off.as_ref() != Some(&reason) {
                    warn!(stream = %self.stream, %reason, "HLS has no sound as AAC");
                }
                self.off = Some(reason);
            }
        }
    }

    /// What was made; waits for it.
    pub(super) async fn made(&mut self) -> Sample {
        loop {
            // It holds a sender of its own, so that this never ends.
            let Some(frame) = self.made.1.recv().await else {
                return std::future::pending().await;
            };
            if let Some((ticks, wall)) = self.known {
                let later = micros_of_ticks(frame.present_ticks - ticks, CLOCK_RATE);
                return Sample {
                    coding: frame.coding,
                    layer: LayerId::ONLY,
                    decode_ticks: frame.present_ticks,
                    present_ticks: frame.present_ticks,
                    wall: wall.offset_micros(later),
                    starts: true,
                    arrival: frame.arrival,
                    data: frame.data,
                };
            }
        }
    }
}
