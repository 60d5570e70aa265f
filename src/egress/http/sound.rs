//! The sound of a stream as AAC, which every player has: as it is, or by way of a worker.

use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use crate::media::id::StreamName;
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
    /// When one was looked for last, and why there is none.
    looked: Option<(Instant, Option<Unavailable>)>,
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
        Self { stream, transcoder, worker: None, looked: None, made, known: None }
    }

    /// Another publisher begins: what is being made of the one before is on another line.
    pub(super) fn begin(&mut self) {
        self.worker = None;
        self.looked = None;
        self.known = None;
        self.made = mpsc::channel(Self::WAITING_MAX);
    }

    /// Takes a sound that is not AAC. False: nobody makes it so.
    pub(super) fn write(&mut self, sample: &Sample, now: Instant) -> bool {
        let Coding::Audio(coding) = &sample.coding else { return false };
        self.known = Some((sample.present_ticks, sample.wall));
        let is_due = self.looked.as_ref().is_none_or(|(at, _)| now >= *at + Self::LOOK_AGAIN);
        if self.worker.is_none() && is_due {
            self.find_worker(coding.clone(), now);
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

    fn find_worker(&mut self, coding: AudioCoding, now: Instant) {
        let made = self.made.0.clone();
        // Where there is no room for a sound the next one goes on.
        let sink = move |frame| drop(made.try_send(frame));
        let found = self.transcoder.audio(&self.stream, coding, aac(), sink);
        let reason = match found {
            Ok(worker) => {
                self.worker = Some(worker);
                None
            }
            Err(reason) => {
                let is_known = matches!(&self.looked, Some((_, Some(known))) if *known == reason);
                if !is_known {
                    warn!(stream = %self.stream, %reason, "HLS has no sound as AAC");
                }
                Some(reason)
            }
        };
        self.looked = Some((now, reason));
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
