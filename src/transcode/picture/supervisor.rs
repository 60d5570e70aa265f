//! Keeps the worker of one stream's picture running: hands it frames and orders, takes what it
//! makes, and starts another one where it dies, fails or hangs.

use super::watchdog::Watchdog;
use super::{Layer, MadeFrame, Orders, PictureWorker, Places, SourceFrame, Standby, Told};
use crate::clock::Clock;
use crate::media::codec;
use crate::media::id::StreamName;
use crate::transcode::backoff::Backoff;
use crate::transcode::exchange::Exchange;
use crate::transcode::ipc::picture::{ARGUMENT, Codec, Order, Report};
use crate::transcode::process::{Launch, Process};
use crate::transcode::{Counts, Unavailable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};

/// How often it is looked whether a worker hangs, where nothing else happens.
const LOOK: Duration = Duration::from_millis(250);
/// So much waits for the socket before more is taken from what waits for the worker: a frame is
/// left out more easily before it is half written.
const BYTES_MAX: usize = 64 * 1024;
/// So many workers that fail in a row are enough: their stream is what they fail by.
const FAILURES_MAX: u32 = 5;
/// How long it is not tried again then.
const PAUSE: Duration = Duration::from_mins(1);
/// One that nobody needs any more stays so long: viewers come and go.
const STAYS: Duration = Duration::from_secs(30);
/// How soon one that could stand by looks again whether there is room.
const ROOM_AGAIN: Duration = Duration::from_secs(1);

/// What keeps one worker running.
pub(in crate::transcode) struct Supervisor<S> {
    stream: StreamName,
    launch: Launch,
    orders: Arc<Orders>,
    places: Arc<Places>,
    counts: Arc<Counts>,
    clock: Clock,
    sink: S,
    /// A worker has failed since one was well.
    has_failed: bool,
    /// Since when none is needed.
    unneeded_since: Option<Instant>,
}

/// Why a worker has ended.
#[derive(Debug)]
enum End {
    /// Nobody needs the picture any more.
    Closed,
    /// Nobody needs the worker for now.
    Unneeded,
    /// Something went wrong.
    Fault(String),
}

/// What passes between the server and one worker.
#[derive(Debug)]
struct Talk {
    exchange: Exchange<Report>,
    watchdog: Watchdog,
    is_ready: bool,
    /// What the frames are that it gets.
    codec: Option<codec::Codec>,
    /// The layers that it was told to make.
    layers: BTreeMap<u8, Layer>,
    /// Of them, those of which frames may come that were started before.
    awaited: BTreeSet<u8>,
}

impl Talk {
    fn new(now: Instant) -> Self {
        Self {
            exchange: Exchange::new(),
            watchdog: Watchdog::new(now),
            is_ready: false,
            codec: None,
            layers: BTreeMap::new(),
            awaited: BTreeSet::new(),
        }
    }

    fn put_frame(&mut self, frame: &SourceFrame) {
        if self.codec != Some(frame.codec) {
            let Some(codec) = named(frame.codec) else { return };
            self.exchange.put(&Order::Source(codec));
            self.codec = Some(frame.codec);
        }
        // What is longer than a message may be no decoder takes: it goes on with a keyframe.
        if self.exchange.put(&order_of(frame)) {
            self.watchdog.give(frame.ticks);
        }
    }

    /// Tells it which layers to make, where that has changed.
    fn put_layers(&mut self, wanted: &BTreeMap<u8, Layer>) {
        for (number, layer) in wanted {
            match self.layers.insert(*number, layer.clone()) {
                Some(before) if before == *layer => {}
                Some(Layer {
                    bitrate_bps: _,
                    ref encoder,
                    number,
                    width,
                    height,
                    frame_rate_mhz,
                }) if (&layer.encoder, layer.width, layer.height, layer.frame_rate_mhz)
                    == (encoder, width, height, frame_rate_mhz) =>
                {
                    let bitrate_bps = layer.bitrate_bps;
                    self.exchange.put(&Order::Bitrate { layer: number, bitrate_bps });
                }
                _ => {
                    self.exchange.put(&Order::Start(layer.clone()));
                    self.awaited.insert(*number);
                }
            }
        }
    }

    /// Tells it which layers to make no longer.
    fn stop_others(&mut self, wanted: &BTreeMap<u8, Layer>) {
        let Self { exchange, layers, .. } = self;
        layers.retain(|number, _| {
            let stays = wanted.contains_key(number);
            if !stays {
                exchange.put(&Order::Stop(*number));
            }
            stays
        });
    }
}

/// A frame, as the worker gets it.
pub(super) fn order_of(frame: &SourceFrame) -> Order {
    let SourceFrame { ticks, starts: is_keyframe, .. } = *frame;
    Order::Frame { ticks, is_keyframe, data: frame.data.to_vec() }
}

/// A codec of the picture, as the worker is told.
pub(super) const fn named(codec: codec::Codec) -> Option<Codec> {
    match codec {
        codec::Codec::H264 => Some(Codec::H264),
        codec::Codec::H265 => Some(Codec::H265),
        codec::Codec::Vp8 => Some(Codec::Vp8),
        codec::Codec::Vp9 => Some(Codec::Vp9),
        codec::Codec::Av1 => Some(Codec::Av1),
        codec::Codec::Opus => None,
    }
}

/// Waits, unless the end comes first.
async fn idle(orders: &Orders, wait: Duration) {
    let over = async {
        while !orders.is_closed() {
            orders.changed.notified().await;
        }
    };
    // Either is fine.
    let _ = tokio::time::timeout(wait, over).await;
}

impl<S: FnMut(Told) + Send> Supervisor<S> {
    /// One for this stream, and the way to it.
    pub(in crate::transcode) fn new(
        stream: StreamName,
        launch: Launch,
        (places, counts): (Arc<Places>, Arc<Counts>),
        clock: Clock,
        sink: S,
    ) -> (Self, PictureWorker) {
        let orders = Arc::<Orders>::default();
        let worker = PictureWorker::new(Arc::clone(&orders));
        let (has_failed, unneeded_since) = (false, None);
        let supervisor = Self {
            stream,
            launch,
            orders,
            places,
            counts,
            clock,
            sink,
            has_failed,
            unneeded_since,
        };
        (supervisor, worker)
    }

    /// Runs workers, one after the other, whenever one is needed, until the picture is over.
    pub(in crate::transcode) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let Some(place) = self.needed().await {
            self.unneeded_since = None;
            self.run_while_needed(&mut backoff).await;
            self.count_dropped();
            drop(place);
            self.orders.state().past.rest();
            (self.sink)(Told::Rests);
        }
        debug!(stream = %self.stream, "the picture is no longer transcoded");
    }

    /// Waits until a worker is needed and there is a place for it; none where the picture is over.
    async fn needed(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            let (must_run, standby, is_closed) = {
                let state = self.orders.state();
                (state.must_run(), state.standby, state.is_closed)
            };
            if is_closed {
                return None;
            }
            if must_run || standby != Standby::No {
                if let Some(place) = self.places.try_take() {
                    return Some(place);
                }
                if must_run {
                    if let Some(place) = self.wait_for_place().await {
                        return Some(place);
                    }
                    continue;
                }
                // Either is fine.
                let _ = tokio::time::timeout(ROOM_AGAIN, self.orders.changed.notified()).await;
            } else {
                self.orders.changed.notified().await;
            }
        }
    }

    /// Waits for a place until none is needed any more.
    async fn wait_for_place(&mut self) -> Option<OwnedSemaphorePermit> {
        (self.sink)(Told::Full(Unavailable::PicturesFull(self.places.max())));
        // What waits for it is not made meanwhile, so that it is not told either.
        let needless = async {
            loop {
                self.orders.changed.notified().await;
                let state = self.orders.state();
                if state.is_closed || (!state.must_run() && state.standby == Standby::No) {
                    break;
                }
            }
        };
        let place = tokio::select! {
            place = self.places.take() => place.ok(),
            () = needless => None,
        };
        (self.sink)(Told::Room);
        place
    }

    async fn run_while_needed(&mut self, backoff: &mut Backoff) {
        while !self.orders.is_closed() {
            let began = self.clock.now();
            let End::Fault(fault) = self.run_one().await else { break };
            let ran = self.clock.now().saturating_duration_since(began);
            let wait = backoff.after(ran);
            let is_given_up = backoff.failures() >= FAILURES_MAX;
            let wait = if is_given_up { PAUSE } else { wait };
            let stream = &self.stream;
            if backoff.failures() == 1 {
                warn!(%stream, %fault, "a worker has failed; another one is started");
            } else if is_given_up {
                warn!(%stream, %fault, ?wait, "workers fail again and again; no layers are made");
            } else {
                debug!(%stream, %fault, ?wait, "the next one has failed too");
            }
            self.has_failed = true;
            self.counts.restarts.fetch_add(1, Ordering::Relaxed);
            (self.sink)(Told::Failed { fault, is_given_up });
            idle(&self.orders, wait).await;
        }
    }

    fn count_dropped(&self) {
        let dropped = self.orders.state().past.take_dropped();
        self.counts.dropped_frames.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Runs one worker.
    async fn run_one(&mut self) -> End {
        let process = match self.launch.start(Some(ARGUMENT)) {
            Ok(process) => process,
            Err(error) => return End::Fault(format!("it does not start: {error}")),
        };
        info!(stream = %self.stream, process = process.id(), "a worker for pictures was started");
        self.orders.state().past.rewind();
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
        if self.orders.is_closed() {
            return Some(End::Closed);
        }
        let socket = &process.socket;
        // Before it is judged: it may be this task that was late.
        let was_read = talk.exchange.read(socket);
        if let Some(end) = self.take(talk) {
            return Some(end);
        }
        if was_read.is_err() {
            return Some(End::Fault(String::new()));
        }
        let runs = !talk.layers.is_empty();
        let now = self.clock.now();
        if let Some(fault) = talk.watchdog.fault(runs, now) {
            return Some(End::Fault(fault.to_owned()));
        }
        if self.is_unneeded(now) {
            return Some(End::Unneeded);
        }
        self.fill(talk);
        let has_bytes = talk.exchange.waiting() > 0;
        let done = tokio::select! {
            ready = socket.readable() => ready,
            ready = socket.writable(), if has_bytes => {
                ready.and_then(|()| talk.exchange.write(socket))
            }
            () = self.orders.changed.notified() => Ok(()),
            () = tokio::time::sleep(LOOK) => Ok(()),
        };
        if done.is_err() {
            // It has gone; its last words may wait still.
            let _ = talk.exchange.read(socket);
            return self.take(talk).or(Some(End::Fault(String::new())));
        }
        None
    }

    /// Whether the worker is to end: it has nothing to make, and others need its place or nobody
    /// has needed it for a while.
    fn is_unneeded(&mut self, now: Instant) -> bool {
        let (must_run, standby) = {
            let state = self.orders.state();
            (state.must_run(), state.standby)
        };
        if !must_run && self.places.are_waited_for() {
            return true;
        }
        if must_run || standby == Standby::IfThereIsRoom {
            self.unneeded_since = None;
            return false;
        }
        now >= *self.unneeded_since.get_or_insert(now) + STAYS
    }

    /// Hands over frames as far as the worker takes them, and orders behind them.
    fn fill(&self, talk: &mut Talk) {
        if !talk.is_ready {
            return;
        }
        let now = self.clock.now();
        let mut state = self.orders.state();
        while talk.exchange.waiting() < BYTES_MAX
            && let Some(frame) = state.past.pop(now)
        {
            talk.put_frame(&frame);
        }
        talk.stop_others(&state.layers);
        // A worker that began in the middle decodes what there is, and encodes nothing of it: that
        // has been seen.
        if state.past.is_caught_up() {
            talk.put_layers(&state.layers);
            if std::mem::take(&mut state.wants_keyframe) && !talk.layers.is_empty() {
                talk.exchange.put(&Order::Keyframe);
            }
        }
    }

    /// Sees to what the worker has told.
    fn take(&mut self, talk: &mut Talk) -> Option<End> {
        loop {
            let report = match talk.exchange.take_next() {
                Ok(None) => return None,
                Ok(Some(report)) => report,
                Err(error) => return Some(End::Fault(error.to_string())),
            };
            talk.watchdog.hear(self.clock.now());
            match report {
                Report::Ready => talk.is_ready = true,
                Report::Decoder(name) => debug!(stream = %self.stream, %name, "decoded by"),
                Report::Encoder { layer, name } => {
                    talk.awaited.remove(&layer);
                    (self.sink)(Told::Encoder { layer, name });
                }
                Report::Refused { layer, reason } => (self.sink)(Told::Refused { layer, reason }),
                Report::Frame { layer, ticks, is_keyframe, data } => {
                    if talk.layers.contains_key(&layer) && !talk.awaited.contains(&layer) {
                        self.is_well();
                        let arrival = self.clock.now();
                        let made = MadeFrame { layer, ticks, is_keyframe, arrival, data };
                        (self.sink)(Told::Frame(made));
                    }
                }
                Report::Load(load) => {
                    talk.watchdog.load(&load);
                    if load.decoded > 0 {
                        self.is_well();
                    }
                    (self.sink)(Told::Load(load));
                }
                Report::Still(_) => {}
                Report::Failed(fault) => return Some(End::Fault(fault)),
            }
        }
    }

    fn is_well(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            (self.sink)(Told::Well);
        }
    }
}
