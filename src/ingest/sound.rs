//! The sound of a publisher on its way into its stream: as it is where it is Opus, else by way of a
//! worker that makes it so.

use super::feed::{Feed, report};
use super::timing::Placed;
use super::track::{AudioTrack, Place};
use crate::bus::publication::Writer;
use crate::engine::command::Written;
use crate::media::codec::{Format, Kind};
use crate::media::every::Every;
use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use crate::media::id::StreamName;
use crate::media::packet::PacketPool;
use crate::media::time::{Epoch, micros_of_ticks};
use crate::transcode::{AudioWorker, Transcoder, Unavailable};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// The sound of one publisher.
#[derive(Debug)]
pub(super) struct Sound {
    stream: StreamName,
    transcoder: Transcoder,
    /// Written by whoever has the Opus: this, or the worker's task.
    out: Arc<Mutex<Out>>,
    way: Way,
    /// When a worker is looked for.
    looks: Every,
}

/// How it becomes Opus.
#[derive(Debug)]
enum Way {
    /// Nothing has come yet, or it is Opus already.
    Direct,
    /// A worker makes it so.
    Worker(AudioWorker),
    /// Nobody can, for this reason.
    Off(Unavailable),
}

/// Opus frames into the stream.
#[derive(Debug)]
struct Out {
    writer: Writer,
    track: AudioTrack,
    pool: PacketPool,
    epoch: Epoch,
    format: Option<Format>,
    reports: Every,
    /// Which moment one of the ticks stands for.
    known: Option<Placed>,
}

impl Sound {
    /// How long it is not tried again to find a worker, whether or not there was one: a publisher
    /// that changes its coding with every frame must not start a process for each.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);

    pub(super) fn new(
        stream: StreamName,
        writer: Writer,
        payload_max: usize,
        epoch: Epoch,
        transcoder: Transcoder,
    ) -> Self {
        let out = Out {
            writer,
            track: AudioTrack::new(payload_max),
            pool: PacketPool::default(),
            epoch,
            format: None,
            reports: Every::new(Feed::REPORTS),
            known: None,
        };
        let (out, looks) = (Arc::new(Mutex::new(out)), Every::new(Self::LOOK_AGAIN));
        Self { stream, transcoder, out, way: Way::Direct, looks }
    }

    /// Takes a frame that was placed. False: it was Opus, and there was no room for it.
    pub(super) fn write(&mut self, frame: Frame, placed: Placed) -> bool {
        let Coding::Audio(coding) = &frame.coding else { return true };
        if *coding == AudioCoding::Opus {
            self.way = Way::Direct;
            let place = Place { ticks: placed.ticks, arrival: frame.arrival };
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            out.known = Some(placed);
            return out.write(&frame.data, place);
        }
        self.out.lock().unwrap_or_else(PoisonError::into_inner).known = Some(placed);
        if !matches!(self.way, Way::Worker(_)) && self.looks.is_due(frame.arrival) {
            self.find_worker(coding.clone());
        }
        if let Way::Worker(worker) = &mut self.way {
            let ticks = placed.ticks.cast_signed();
            worker.write(Frame { decode_ticks: ticks, present_ticks: ticks, ..frame });
        }
        true
    }

    fn find_worker(&mut self, coding: AudioCoding) {
        let out = Arc::clone(&self.out);
        let sink = move |frame: Frame| {
            let place =
                Place { ticks: frame.present_ticks.max(0).cast_unsigned(), arrival: frame.arrival };
            // Where there is no room for a sound the next one goes on.
            out.lock().unwrap_or_else(PoisonError::into_inner).write(&frame.data, place);
        };
        match self.transcoder.audio(&self.stream, coding, AudioCoding::Opus, sink) {
            Ok(worker) => self.way = Way::Worker(worker),
            Err(reason) => {
                if !matches!(&self.way, Way::Off(known) if known == &reason) {
                    warn!(stream = %self.stream, %reason, "the stream has no sound");
                }
                self.way = Way::Off(reason);
            }
        }
    }

    /// What operators should know.
    pub(super) fn notice(&self) -> Option<String> {
        match &self.way {
            Way::Direct => None,
            Way::Worker(worker) => worker.fault(),
            Way::Off(reason) => Some(format!("The stream has no sound: {reason}")),
        }
    }
}

/// The moment that these ticks stand for, from that of others on the same line.
fn moment_of(ticks: u64, known: Placed) -> Option<Instant> {
    let later = Duration::from_micros(
        micros_of_ticks(ticks.abs_diff(known.ticks).cast_signed(), CLOCK_RATE).cast_unsigned(),
    );
    if ticks >= known.ticks {
        known.moment.checked_add(later)
    } else {
        known.moment.checked_sub(later)
    }
}

impl Out {
    fn write(&mut self, opus: &[u8], place: Place) -> bool {
        let mut packets = Vec::new();
        let format = self.track.write(opus, place, &mut self.pool, &mut packets);
        let Some(timestamp) = packets.first().map(|packet| packet.timestamp) else { return true };
        if format.is_some() {
            self.format.clone_from(&format);
        }
        let mut written = Written { format, packets, ..Written::default() };
        if self.reports.is_due(place.arrival) {
            written.format.clone_from(&self.format);
            let moment = self.known.and_then(|known| moment_of(place.ticks, known));
            written.report = moment.map(|at| report(Kind::Audio, timestamp, at, self.epoch));
        }
        self.writer.write(written)
    }
}
