//! Keeps the worker of one stream running: hands it frames, takes what it makes, and starts another
//! one where it dies, fails or hangs.

use super::Counts;
use super::backoff::Backoff;
use super::exchange::Exchange;
use super::ipc::{Message, Sound};
use super::process::{Launch, Process};
use super::queue::Queue;
use crate::clock::Clock;
use crate::media::frame::{AudioCoding, CLOCK_RATE, Coding, Frame};
use crate::media::id::StreamName;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// How long a worker may take to start: GStreamer may look at all its plugins first.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// A worker that gives nothing for so long hangs, if it got at least [`OWED_TICKS`] meanwhile.
const HUNG: Duration = Duration::from_secs(2);
/// More sound than any codec keeps to itself.
const OWED_TICKS: u64 = CLOCK_RATE as u64;
/// How often that is looked at where nothing else happens.
const LOOK: Duration = Duration::from_millis(250);
/// So much waits for the socket before more is taken from the queue.
const BYTES_MAX: usize = 64 * 1024;

/// What keeps one worker running.
pub(super) struct Supervisor<S> {
    pub(super) stream: StreamName,
    pub(super) launch: Launch,
    /// How frames are encoded, until one is not.
    pub(super) from: AudioCoding,
    pub(super) to: AudioCoding,
    pub(super) bitrate_bps: u32,
    pub(super) queue: Arc<Queue>,
    pub(super) counts: Arc<Counts>,
    pub(super) clock: Clock,
    pub(super) sink: S,
}

/// Why a worker has ended.
#[derive(Debug)]
enum End {
    /// Nobody needs it any more.
    Closed,
    /// Something went wrong.
    Fault(String),
}

impl<S: FnMut(Frame) + Send> Supervisor<S> {
    /// Runs workers, one after the other, until nobody needs them.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.queue.is_closed() {
            let began = self.clock.now();
            let End::Fault(fault) = self.run_one().await else { break };
            let ran = self.clock.now().saturating_duration_since(began);
            let wait = backoff.after(ran);
            let stream = &self.stream;
            if self.queue.fault().is_none() {
                warn!(%stream, %fault, "a worker has failed; another one is started");
            } else {
                debug!(%stream, %fault, ?wait, "the next one has failed too");
            }
            self.queue.note(Some(fault));
            self.counts.restarts.fetch_add(1, Ordering::Relaxed);
            idle(&self.queue, wait).await;
        }
        self.count_dropped();
        debug!(stream = %self.stream, "the sound is no longer transcoded");
    }

    /// Runs one worker.
    async fn run_one(&mut self) -> End {
        let process = match self.launch.start(None) {
            Ok(process) => process,
            Err(error) => return End::Fault(format!("it does not start: {error}")),
        };
        info!(stream = %self.stream, process = process.id(), to = %self.to, "a worker was started");
        let mut talk = Talk::new(self.clock.now());
        let end = loop {
            if let Some(end) = self.turn(&process, &mut talk).await {
                break end;
            }
        };
        let last_words = process.end().await;
        match end {
            // It has said nothing itself: how it ended, or what it printed, says more.
            End::Fault(fault) if fault.is_empty() => End::Fault(last_words),
            end => end,
        }
    }

    /// Waits for whatever happens next, and sees to it.
    async fn turn(&mut self, process: &Process, talk: &mut Talk) -> Option<End> {
        self.count_dropped();
        if self.queue.is_closed() {
            return Some(End::Closed);
        }
        if let Some(fault) = talk.overdue(self.clock.now()) {
            return Some(End::Fault(fault.to_owned()));
        }
        self.fill(talk);
        let exchange = &mut talk.exchange;
        let has_bytes = exchange.waiting() > 0;
        let socket = &process.socket;
        let done = tokio::select! {
            ready = socket.readable() => ready.and_then(|()| exchange.read(socket)),
            ready = socket.writable(), if has_bytes => ready.and_then(|()| exchange.write(socket)),
            () = self.queue.changed() => return None,
            () = tokio::time::sleep(LOOK) => return None,
        };
        if done.is_ok() {
            return self.take(talk);
        }
        // It has gone; its last words may wait still. Whether there are any shows next.
        let _ = talk.exchange.read(socket);
        self.take(talk).or(Some(End::Fault(String::new())))
    }

    /// Takes frames from the queue as far as the worker takes them.
    fn fill(&mut self, talk: &mut Talk) {
        while talk.is_ready && talk.exchange.waiting() < BYTES_MAX {
            let Some(frame) = self.queue.pop() else { break };
            let Coding::Audio(coding) = &frame.coding else { continue };
            if *coding != self.from {
                self.from = coding.clone();
                self.configure(talk);
            }
            let message = Message::Frame { ticks: frame.present_ticks, data: frame.data.to_vec() };
            if talk.exchange.put(&message) {
                talk.sent(&frame, self.clock.now());
            }
        }
    }

    /// Tells the worker what it is to do.
    fn configure(&self, talk: &mut Talk) {
        let (from, to) = (Sound::from(&self.from), Sound::from(&self.to));
        talk.exchange.put(&Message::Configure { from, to, bitrate_bps: self.bitrate_bps });
    }

    /// Sees to what the worker has told.
    fn take(&mut self, talk: &mut Talk) -> Option<End> {
        loop {
            match talk.exchange.take_next() {
                Ok(None) => return None,
                Ok(Some(Message::Ready)) => {
                    talk.is_ready = true;
                    self.configure(talk);
                    self.queue.drop_old(self.clock.now());
                }
                Ok(Some(Message::Format(sound))) => talk.format = Some(sound.into()),
                Ok(Some(Message::Frame { ticks, data })) => {
                    let Some(coding) = talk.format.clone() else {
                        return Some(End::Fault("frames of no known format".to_owned()));
                    };
                    if !talk.has_given {
                        talk.has_given = true;
                        self.queue.note(None);
                    }
                    talk.owed = None;
                    (self.sink)(Frame {
                        coding: Coding::Audio(coding),
                        decode_ticks: ticks,
                        present_ticks: ticks,
                        // What a worker keeps to itself is no lateness of the server's: of ten
                        // AAC frames in one packet of MPEG-TS it gives the last one when the next
                        // ten come, a quarter of a second later.
                        arrival: self.clock.now(),
                        data: Bytes::from(data),
                    });
                }
                Ok(Some(Message::Failed(fault))) => return Some(End::Fault(fault)),
                Ok(Some(Message::Configure { .. })) => {
                    return Some(End::Fault("it tells the server what to do".to_owned()));
                }
                Err(error) => return Some(End::Fault(error.to_string())),
            }
        }
    }

    fn count_dropped(&self) {
        let dropped = self.queue.take_dropped();
        self.counts.dropped_frames.fetch_add(dropped, Ordering::Relaxed);
    }
}

/// Waits, unless the end comes first.
async fn idle(queue: &Queue, wait: Duration) {
    let over = async {
        while !queue.is_closed() {
            queue.changed().await;
        }
    };
    // Either is fine.
    let _ = tokio::time::timeout(wait, over).await;
}

/// What passes between the server and one worker.
#[derive(Debug)]
struct Talk {
    exchange: Exchange<Message>,
    /// How the frames are encoded that it makes.
    format: Option<AudioCoding>,
    started: Instant,
    is_ready: bool,
    has_given: bool,
    owed: Option<Owed>,
}

/// What a worker got since it gave something.
#[derive(Debug, Clone, Copy)]
struct Owed {
    since: Instant,
    first_ticks: i64,
    last_ticks: i64,
}

impl Talk {
    fn new(now: Instant) -> Self {
        Self {
            exchange: Exchange::new(),
            format: None,
            started: now,
            is_ready: false,
            has_given: false,
            owed: None,
        }
    }

    /// Notes that a frame was sent.
    fn sent(&mut self, frame: &Frame, now: Instant) {
        let ticks = frame.present_ticks;
        let new = Owed { since: now, first_ticks: ticks, last_ticks: ticks };
        self.owed.get_or_insert(new).last_ticks = ticks;
    }

    /// Whether the worker takes longer than it may, and for what.
    fn overdue(&self, now: Instant) -> Option<&'static str> {
        if !self.is_ready {
            let is_late = now.saturating_duration_since(self.started) > START_TIMEOUT;
            return is_late.then_some("it does not get ready");
        }
        let owed = self.owed?;
        let is_late = now.saturating_duration_since(owed.since) >= HUNG
            && owed.last_ticks.abs_diff(owed.first_ticks) >= OWED_TICKS;
        is_late.then_some("it takes sound and gives none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_hangs_that_gets_sound_for_two_seconds_and_gives_none() {
        let start = Clock::system().now();
        let at = |ms| start + Duration::from_millis(ms);
        let frame = |ticks| Frame {
            coding: Coding::Audio(AudioCoding::Opus),
            decode_ticks: ticks,
            present_ticks: ticks,
            arrival: start,
            data: Bytes::new(),
        };
        let mut talk = Talk::new(start);
        assert!(talk.overdue(at(14_000)).is_none());
        assert!(talk.overdue(at(16_000)).is_some(), "it never gets ready");
        talk.is_ready = true;
        assert!(talk.overdue(at(60_000)).is_none(), "nothing was sent");
        talk.sent(&frame(0), at(60_000));
        assert!(talk.overdue(at(99_000)).is_none(), "one frame makes no sound");
        talk.sent(&frame(90_000), at(61_000));
        assert!(talk.overdue(at(61_900)).is_none());
        assert!(talk.overdue(at(62_000)).is_some());
        talk.owed = None;
        assert!(talk.overdue(at(99_000)).is_none(), "it gave something");
    }
}
