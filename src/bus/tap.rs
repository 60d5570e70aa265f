//! Reads a stream out: its packets or frames, whichever way it comes in.
//!
//! Whoever tells a tap something never waits for it: what finds its queue full is lost, which is
//! said where there is room again. Publishers follow each other, at different shards or beside
//! them, and each tells of its own: here it is put in order.

use super::Bus;
use crate::engine::command::{Command, Waiting};
use crate::engine::message::Term;
use crate::engine::tap::{TapId, TapSink, Tapped};
use crate::media::id::StreamName;
use dashmap::DashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Reads one stream out, publisher after publisher. Dropping it ends that.
pub struct Tap {
    bus: Arc<Bus>,
    stream: StreamName,
    id: TapId,
    sink: Arc<Inbox>,
    inbox: mpsc::Receiver<Item>,
    order: Order,
    /// In order, what is told next.
    ready: VecDeque<Tapped>,
    /// Shards that had no room for the command.
    owed: Vec<usize>,
    stopping: watch::Receiver<bool>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tap").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Where a tap is told things.
struct Inbox {
    queue: mpsc::Sender<Item>,
    /// What waits in the queue.
    waiting: Arc<AtomicUsize>,
    /// Counts what was lost.
    lost: AtomicU64,
    /// Something was lost without which the rest makes no sense.
    is_broken: AtomicBool,
    takes_made: bool,
}

/// What waits in a queue.
struct Item {
    term: Term,
    /// How much had been lost before it.
    lost: u64,
    tapped: Tapped,
    /// Counts it as long as it waits.
    _waiting: Option<Waiting>,
}

/// Who reads which stream, for publishers that do not come by WebRTC: shards are told.
#[derive(Default)]
pub(super) struct Taps {
    by_stream: DashMap<StreamName, Vec<(TapId, Arc<Inbox>)>>,
    /// Counts their comings and goings.
    changes: AtomicU64,
    next: AtomicU64,
}

/// Those who read the stream of one publisher that does not come by WebRTC. Dropping it tells them
/// that it has left.
pub struct Readers {
    bus: Arc<Bus>,
    stream: StreamName,
    term: Term,
    /// Up to which change those below are known.
    changes: u64,
    known: Vec<(TapId, Arc<Inbox>)>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Readers").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Inbox {
    /// Bytes of media that may wait: as much as is kept since a keyframe, and as much again. What
    /// finds nothing waiting has room whatever its size.
    const WAITING_MAX: usize = 32 << 20;
    /// So much counts whatever waits at least; so there are at most 8192 of them.
    const ITEM_COUNTS_FOR: usize = 4 << 10;
    /// So much memory each packet takes, whatever its size.
    const PACKET_COUNTS_FOR: usize = 1280;
    /// Room in the queue beside media: publishers and formats change seldom.
    const CHANGES_MAX: usize = 256;

    fn new(takes_made: bool) -> (Arc<Self>, mpsc::Receiver<Item>) {
        let items = Self::WAITING_MAX / Self::ITEM_COUNTS_FOR + Self::CHANGES_MAX;
        let (queue, inbox) = mpsc::channel(items);
        let (waiting, lost, is_broken) = (Arc::default(), AtomicU64::new(0), AtomicBool::default());
        (Arc::new(Self { queue, waiting, lost, is_broken, takes_made }), inbox)
    }

    /// What something counts for while it waits; `None` where it must not be lost.
    fn size(tapped: &Tapped) -> Option<usize> {
        let bytes = match tapped {
            Tapped::Packets(packets) | Tapped::Made(packets) => {
                packets.iter().map(|it| it.payload.len().max(Self::PACKET_COUNTS_FOR)).sum()
            }
            Tapped::Frame(frame, _) => frame.data.len(),
            Tapped::Clock { .. } | Tapped::Layers(_) => 0,
            Tapped::Began { .. }
            | Tapped::Formats(_)
            | Tapped::NeedsMade(_)
            | Tapped::Lost
            | Tapped::Left(_) => return None,
        };
        Some(bytes.max(Self::ITEM_COUNTS_FOR))
    }
}

impl TapSink for Inbox {
    fn tell(&self, term: Term, tapped: Tapped) {
        let size = Self::size(&tapped);
        // These are told again soon.
        let is_repeated = matches!(tapped, Tapped::Clock { .. } | Tapped::Layers(_));
        let counts = size.is_some() && !is_repeated;
        let note = || {
            self.lost.fetch_add(u64::from(counts), Ordering::AcqRel);
        };
        let waiting = match size {
            None => None,
            Some(size) => match Waiting::add(&self.waiting, size, Self::WAITING_MAX) {
                None => return note(),
                some => some,
            },
        };
        let lost = self.lost.load(Ordering::Acquire);
        let must_arrive = waiting.is_none();
        let item = Item { term, lost, tapped, _waiting: waiting };
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(item) {
            note();
            self.is_broken.fetch_or(must_arrive, Ordering::AcqRel);
        }
    }

    fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    fn takes_made(&self) -> bool {
        self.takes_made
    }
}

/// Whose turn it is: publishers are told of by several threads.
#[derive(Debug, Default)]
struct Order {
    current: Option<Term>,
    lost: u64,
}

impl Order {
    /// Takes what came; what is to be told of it goes to `ready`.
    fn take(&mut self, item: Item, ready: &mut VecDeque<Tapped>) {
        let Item { term, lost, tapped, .. } = item;
        if matches!(tapped, Tapped::Began { .. }) {
            // Of two the later one is right; the other has not heard of it yet.
            if self.current.is_some_and(|current| current > term) {
                return;
            }
            self.leave(ready);
            *self = Self { current: Some(term), lost };
        } else if self.current != Some(term) {
            return;
        }
        if std::mem::replace(&mut self.lost, lost) != lost {
            ready.push_back(Tapped::Lost);
        }
        if matches!(tapped, Tapped::Left(_)) {
            self.current = None;
        }
        ready.push_back(tapped);
    }

    /// Whoever was there has left.
    fn leave(&mut self, ready: &mut VecDeque<Tapped>) {
        ready.extend(self.current.take().map(Tapped::Left));
    }
}

impl Tap {
    /// How soon a shard is told again that had no room for it.
    const AGAIN: Duration = Duration::from_millis(50);

    /// What came next; waits for it. `None`: the server stops. May be given up and called again.
    pub async fn next(&mut self) -> Option<Tapped> {
        loop {
            if let Some(tapped) = self.ready.pop_front() {
                return Some(tapped);
            }
            let Self { inbox, stopping, owed, .. } = self;
            let item = tokio::select! {
                biased;
                item = inbox.recv() => Some(item?),
                () = is_set(stopping) => return None,
                () = tokio::time::sleep(Self::AGAIN), if !owed.is_empty() => None,
            };
            let Some(item) = item else {
                self.tell_shards();
                continue;
            };
            if self.sink.is_broken.load(Ordering::Acquire) {
                self.begin_anew();
                continue;
            }
            self.order.take(item, &mut self.ready);
        }
    }

    /// Asks the publisher for a keyframe, where it can be asked; not more often than
    /// `whip.keyframe_request_interval_ms` allows.
    pub fn want_keyframe(&self) {
        for shard in &self.bus.shards {
            // Where there is no room for it, it is asked for again.
            let _ = shard.command(Command::WantKeyframe(self.stream.clone()));
        }
    }

    /// Tells the shards that have not been told yet.
    fn tell_shards(&mut self) {
        let Self { bus, stream, id, sink, owed, .. } = self;
        owed.retain(|&shard| {
            let sink: Arc<dyn TapSink> = Arc::<Inbox>::clone(sink);
            let command = Command::Tap(stream.clone(), *id, sink);
            bus.shards.get(shard).is_some_and(|shard| !shard.command(command))
        });
    }

    fn begin(&mut self) {
        self.bus.taps.add(&self.stream, self.id, Arc::clone(&self.sink));
        self.owed = (0..self.bus.shards.len()).collect();
        self.tell_shards();
    }

    fn end(&self) {
        self.bus.taps.remove(&self.stream, self.id);
        for shard in &self.bus.shards {
            // Where there is no room for it, the next one who reads the stream cleans up.
            let _ = shard.command(Command::Untap(self.stream.clone(), self.id));
        }
    }

    /// Begins as if it had just come: too much was lost.
    fn begin_anew(&mut self) {
        self.end();
        (self.sink, self.inbox) = Inbox::new(self.sink.takes_made);
        self.id = self.bus.taps.id();
        self.order.leave(&mut self.ready);
        self.begin();
    }
}

/// Waits until this is set, or nobody can set it any more.
async fn is_set(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|is_set| *is_set).await;
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.end();
    }
}

impl Bus {
    /// Reads a stream out from now on, as its publisher sends it, whether or not somebody publishes
    /// it yet.
    pub fn tap(self: &Arc<Self>, stream: &StreamName) -> Tap {
        self.begin_tap(stream, false)
    }

    /// The same with the layers that are made of it: they are made for this.
    pub fn tap_all(self: &Arc<Self>, stream: &StreamName) -> Tap {
        self.begin_tap(stream, true)
    }

    fn begin_tap(self: &Arc<Self>, stream: &StreamName, takes_made: bool) -> Tap {
        let (sink, inbox) = Inbox::new(takes_made);
        let mut tap = Tap {
            bus: Arc::clone(self),
            stream: stream.clone(),
            id: self.taps.id(),
            sink,
            inbox,
            order: Order::default(),
            ready: VecDeque::new(),
            owed: Vec::new(),
            stopping: self.stopping.subscribe(),
        };
        tap.begin();
        tap
    }
}

impl Taps {
    fn id(&self) -> TapId {
        TapId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn add(&self, stream: &StreamName, id: TapId, sink: Arc<Inbox>) {
        self.by_stream.entry(stream.clone()).or_default().push((id, sink));
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn remove(&self, stream: &StreamName, id: TapId) {
        if let Some(mut taps) = self.by_stream.get_mut(stream) {
            taps.retain(|(other, _)| *other != id);
        }
        self.by_stream.remove_if(stream, |_, taps| taps.is_empty());
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Readers {
    /// Those who read the stream of this publisher.
    pub(super) const fn new(bus: Arc<Bus>, stream: StreamName, term: Term) -> Self {
        Self { bus, stream, term, changes: 0, known: Vec::new() }
    }

    /// Which publisher it is.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Tells this to those who have come since this was last called; costs nothing where nobody
    /// has.
    pub fn greet(&mut self, told: impl Fn() -> Vec<Tapped>) {
        let changes = self.bus.taps.changes.load(Ordering::Acquire);
        if std::mem::replace(&mut self.changes, changes) == changes {
            return;
        }
        let taps = self.bus.taps.by_stream.get(&self.stream);
        let taps = taps.map(|taps| taps.value().clone()).unwrap_or_default();
        let is_new = |id| self.known.iter().all(|(known, _)| *known != id);
        for (_, sink) in taps.iter().filter(|(id, _)| is_new(*id)) {
            for tapped in told() {
                sink.tell(self.term, tapped);
            }
        }
        self.known = taps;
    }

    /// Tells this to all who were greeted.
    pub fn tell(&self, told: impl Fn() -> Tapped) {
        for (_, sink) in &self.known {
            sink.tell(self.term, told());
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tell(|| Tapped::Left(self.term));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ShardWay;
    use crate::bus::directory::{Directory, DirectoryLimits};
    use crate::engine::command::Written;
    use crate::media::codec::Codec;
    use crate::media::frame::{Coding, Frame};
    use crate::media::id::SessionId;
    use crate::media::time::WallTime;
    use bytes::Bytes;
    use std::sync::Mutex;
    use std::time::Instant;
    use tokio::task::unconstrained;

    /// A shard that notes who reads its streams.
    #[derive(Default)]
    struct Notes {
        is_full: AtomicBool,
        taps: Mutex<Vec<(TapId, Arc<dyn TapSink>)>>,
        wanted: AtomicUsize,
    }

    impl ShardWay for Notes {
        fn command(&self, command: Command) -> bool {
            if self.is_full.load(Ordering::Relaxed) {
                return false;
            }
            let mut taps = self.taps.lock().expect("fine");
            match command {
                Command::Tap(_, id, sink) => taps.push((id, sink)),
                Command::Untap(_, id) => taps.retain(|(other, _)| *other != id),
                Command::WantKeyframe(_) => {
                    self.wanted.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            true
        }

        fn write(&self, _session: SessionId, _written: Written) -> bool {
            true
        }

        fn load(&self) -> f32 {
            0.0
        }
    }

    struct Rig {
        shards: [Arc<Notes>; 2],
        bus: Arc<Bus>,
        start: Instant,
    }

    fn rig() -> Rig {
        let shards = [Arc::<Notes>::default(), Arc::default()];
        let links = shards.iter().map(|shard| Arc::clone(shard) as crate::bus::ShardLink);
        let bus = Bus::new(Arc::new(Directory::new(DirectoryLimits::roomy())), links.collect());
        Rig { shards, bus: Arc::new(bus), start: Instant::now() }
    }

    impl Rig {
        fn term(&self, number: u8) -> Term {
            let since = self.start + Duration::from_secs(u64::from(number));
            Term { since, session: SessionId::from_random([number; 16]) }
        }

        /// A shard tells whoever reads.
        fn tells(&self, shard: usize, number: u8, tapped: &Tapped) {
            for (_, sink) in &*self.shards[shard].taps.lock().expect("fine") {
                sink.tell(self.term(number), tapped.clone());
            }
        }

        fn began(&self, number: u8) -> Tapped {
            let term = self.term(number);
            Tapped::Began { term, takes_requests: true, keyframes_apart: None }
        }

        fn left(&self, number: u8) -> Tapped {
            Tapped::Left(self.term(number))
        }

        fn frame(&self, size: usize, ticks: i64) -> Tapped {
            let coding = Coding::Video(Codec::Vp8);
            let (arrival, data) = (self.start, Bytes::from(vec![0; size]));
            let frame = Frame { coding, decode_ticks: ticks, present_ticks: ticks, arrival, data };
            Tapped::Frame(frame, WallTime::since_unix_epoch(Duration::ZERO))
        }
    }

    fn name() -> StreamName {
        StreamName::parse("lot-42").expect("a name")
    }

    /// All that is told now, in short.
    async fn told(tap: &mut Tap) -> Vec<String> {
        let mut told = Vec::new();
        let until = |tapped: &Tapped| match tapped {
            Tapped::Began { term, .. } => format!("began {}", short(*term)),
            Tapped::Left(term) => format!("left {}", short(*term)),
            Tapped::Frame(frame, _) => format!("frame {}", frame.present_ticks),
            other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
        };
        while let Ok(tapped) = tokio::time::timeout(Duration::ZERO, unconstrained(tap.next())).await
        {
            told.push(until(&tapped.expect("the server runs")));
        }
        told
    }

    fn short(term: Term) -> String {
        term.session.to_string()[..2].to_owned()
    }

    #[tokio::test]
    async fn of_two_publishers_the_later_one_is_read_and_what_the_other_still_says_is_dropped() {
        let rig = rig();
        let mut tap = rig.bus.tap(&name());
        rig.tells(0, 1, &rig.began(1));
        rig.tells(0, 1, &rig.frame(10, 1));
        assert_eq!(told(&mut tap).await, ["began 01", "frame 1"]);
        rig.tells(1, 3, &rig.began(3));
        rig.tells(1, 3, &rig.frame(10, 2));
        // The first shard has not heard of it yet, nor of one between.
        rig.tells(0, 1, &rig.frame(10, 3));
        rig.tells(0, 1, &rig.left(1));
        rig.tells(0, 2, &rig.began(2));
        rig.tells(0, 2, &rig.frame(10, 4));
        rig.tells(1, 3, &rig.frame(10, 5));
        assert_eq!(told(&mut tap).await, ["left 01", "began 03", "frame 2", "frame 5"]);
        rig.tells(0, 2, &rig.left(2));
        rig.tells(1, 3, &rig.left(3));
        rig.tells(1, 3, &rig.frame(10, 6));
        assert_eq!(told(&mut tap).await, ["left 03"]);
        // Nobody is there: whoever comes is right, whenever its session was made.
        rig.tells(0, 2, &rig.began(2));
        assert_eq!(told(&mut tap).await, ["began 02"]);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_lost_and_that_is_said_before_the_next() {
        let rig = rig();
        let mut tap = rig.bus.tap(&name());
        let mut other = rig.bus.tap(&name());
        rig.tells(0, 1, &rig.began(1));
        // One that is larger than all the room there is has room where nothing waits.
        rig.tells(0, 1, &rig.frame(40 << 20, 0));
        rig.tells(0, 1, &rig.frame(1, 1));
        assert_eq!(told(&mut tap).await, ["began 01", "frame 0"]);
        rig.tells(0, 1, &rig.frame(1, 2));
        assert_eq!(told(&mut tap).await, ["Lost", "frame 2"]);
        let mut taken = 0;
        for ticks in 0..20_000 {
            rig.tells(0, 1, &rig.frame(1, ticks));
        }
        rig.tells(0, 1, &rig.left(1));
        for tapped in told(&mut tap).await {
            taken += usize::from(tapped.starts_with("frame"));
        }
        assert_eq!(taken, 8_192, "and the end arrives");
        assert_eq!(tap.sink.waiting.load(Ordering::Relaxed), 0);
        // The one that did not look has lost its own.
        let all = told(&mut other).await;
        assert_eq!(all[..2], ["began 01", "frame 0"]);
        assert_eq!(all.last().map(String::as_str), Some("left 01"));
    }

    #[tokio::test]
    async fn one_that_has_lost_what_it_cannot_do_without_begins_anew() {
        let rig = rig();
        let mut tap = rig.bus.tap(&name());
        rig.tells(0, 1, &rig.began(1));
        assert_eq!(told(&mut tap).await, ["began 01"]);
        for _ in 0..10_000 {
            rig.tells(0, 1, &Tapped::Formats([None, None]));
        }
        assert_eq!(told(&mut tap).await, ["left 01"]);
        assert_eq!(rig.shards[0].taps.lock().expect("fine").len(), 1);
        rig.tells(0, 1, &rig.began(1));
        assert_eq!(told(&mut tap).await, ["began 01"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_had_no_room_to_be_told_is_told_again() {
        let rig = rig();
        rig.shards[1].is_full.store(true, Ordering::Relaxed);
        let mut tap = rig.bus.tap(&name());
        let mut wait = async || {
            let waited = tokio::time::timeout(Duration::from_millis(200), tap.next()).await;
            assert!(waited.is_err(), "{waited:?}");
        };
        wait().await;
        assert!(rig.shards[1].taps.lock().expect("fine").is_empty());
        rig.shards[1].is_full.store(false, Ordering::Relaxed);
        wait().await;
        wait().await;
        assert_eq!(rig.shards.each_ref().map(|it| it.taps.lock().expect("fine").len()), [1, 1]);
    }

    #[tokio::test]
    async fn dropping_it_or_stopping_the_server_ends_it() {
        let rig = rig();
        let mut tap = rig.bus.tap(&name());
        let other = rig.bus.tap(&name());
        other.want_keyframe();
        let wanted = rig.shards.each_ref().map(|it| it.wanted.load(Ordering::Relaxed));
        assert_eq!(wanted, [1, 1]);
        let taps = || rig.shards.each_ref().map(|it| it.taps.lock().expect("fine").len());
        assert_eq!(taps(), [2, 2]);
        let sink = Arc::clone(&other.sink);
        drop(other);
        assert!(!sink.is_open());
        assert_eq!(taps(), [1, 1]);
        rig.tells(0, 1, &rig.began(1));
        rig.bus.stop();
        assert!(matches!(tap.next().await, Some(Tapped::Began { .. })), "that was before");
        assert!(tap.next().await.is_none());
        drop(tap);
        assert!(rig.bus.taps.by_stream.is_empty());
    }
}
