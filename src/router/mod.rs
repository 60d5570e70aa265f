//! Selective forwarding (RFC 7667 §3.7): who gets which packet of one stream, and when.
//!
//! - `allocator`: which layer a viewer's link carries
//! - `batch`: packets that wait to go out together, equalised so that one UDP message takes many
//! - `choice`: what a viewer wishes to see
//! - `cache`: everything since the newest keyframe, for viewers who come in between
//! - `handover`: what another router begins with
//! - `history`: the last seconds of a track, for duplicates and retransmission
//! - `keyframe`: many viewers' requests become few PLIs
//! - `layers`: what each layer carries, best first
//! - `pacer`: a keyframe departs in slices
//! - `rewriter`: which packets of a lane a viewer is sent, and the numbers they get
//! - `rtp_stream`: one lane on its way through: the sound, or one layer of the picture
//! - `shift`: the timestamps of a later publisher go on from those of the one before
//! - `subscription`: one viewer's hold on one track: waits for a keyframe, then renumbers,
//!   whichever layer it comes from
//! - `tests`: what comes in, and what goes out of it
//! - `time_line`: RTP timestamps of every lane on the server's clock
//! - `timestamps`: what they are moved by for a viewer

pub mod allocator;
pub mod batch;
pub mod cache;
pub mod choice;
mod handover;
pub mod history;
pub mod keyframe;
pub mod layers;
pub mod pacer;
pub mod rewriter;
mod rtp_stream;
pub mod shift;
pub mod subscription;
#[cfg(test)]
mod tests;
pub mod time_line;
mod timestamps;

use crate::media::codec::Kind;
use crate::media::layer::{Lane, LayerId, LayerState, MadeLayer};
use crate::media::packet::Packet;
use crate::media::time::Epoch;
use batch::Waiting;
use cache::KeyframeCache;
use history::Pushed;
use layers::Layers;
use rtp_stream::RtpStream;
use shift::Shifts;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time_line::TimeLine;

/// How a layer without a name is called beside layers that are made of it.
const SOURCE_LAYER: &str = "source";
/// Keyframes of what is made here are asked for more often: they cost no uplink, and whoever comes
/// to a layer that has just begun for somebody else is not to wait for a second.
const MADE_KEYFRAMES_APART: Duration = Duration::from_millis(250);

/// How a router behaves; the reasons stand beside the options of the same names.
#[derive(Debug, Clone, Copy)]
pub struct RouterSettings {
    /// How long packets are kept for retransmission.
    pub history: Duration,
    /// How long the oldest packet of a batch waits for the rest of its frame.
    pub batch_wait: Duration,
    /// The shortest time between two keyframe requests to the publisher.
    pub keyframe_request_interval: Duration,
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(2),
            batch_wait: Duration::from_millis(8),
            keyframe_request_interval: Duration::from_secs(1),
        }
    }
}

/// The forwarding core of one stream: its publishers' packets in, batches for its viewers out.
#[derive(Debug)]
pub struct Router {
    settings: RouterSettings,
    epoch: Epoch,
    audio: RtpStream,
    /// The layers, each at its place as soon as something has come of it or is asked of it.
    video: Vec<RtpStream>,
    layers: Layers,
    /// The names of the layers, by their places in the publisher's offer.
    rids: Arc<[String]>,
    batches: u64,
    /// Since when what departs has been stale.
    stale_since: Option<Instant>,
    time_line: TimeLine,
    shifts: Shifts,
    /// Nothing of a later publisher's video has come yet.
    begins: bool,
    /// Layers have come, or come back, or their sizes have changed, since this was last asked.
    changed: bool,
}

impl Router {
    /// A machine that stood still for a moment makes one batch stale, or two, and is live again;
    /// one that lags behind for so long is overloaded.
    const LAG_MAX: Duration = Duration::from_millis(200);

    /// A router for a stream that begins now.
    pub fn new(settings: RouterSettings, epoch: Epoch) -> Self {
        Self {
            settings,
            epoch,
            audio: RtpStream::new(Lane::Audio, settings),
            video: vec![RtpStream::new(Lane::Video(LayerId::ONLY), settings)],
            layers: Layers::default(),
            rids: Arc::default(),
            batches: 0,
            stale_since: None,
            time_line: TimeLine::new(epoch),
            shifts: Shifts::default(),
            begins: false,
            changed: false,
        }
    }

    /// Another publisher goes on with the stream: what is kept of the one before is of no use any
    /// more, as its numbers say nothing here. Batches count on, and timestamps go on rising.
    pub fn begin_term(&mut self) {
        let mut shifts = self.shifts;
        shifts.begin_term();
        let batches = self.batches;
        let new = Self::new(self.settings, self.epoch);
        *self = Self { shifts, batches, begins: true, changed: true, ..new };
    }

    fn stream(&self, lane: Lane) -> Option<&RtpStream> {
        match lane {
            Lane::Audio => Some(&self.audio),
            Lane::Video(layer) => self.video.get(layer.index()),
        }
    }

    fn stream_mut(&mut self, lane: Lane) -> &mut RtpStream {
        let Lane::Video(layer) = lane else { return &mut self.audio };
        for index in self.video.len()..=layer.index() {
            let lane = Lane::Video(LayerId::at(index).unwrap_or_default());
            self.video.push(RtpStream::new(lane, self.settings));
        }
        &mut self.video[layer.index()]
    }

    fn streams(&self) -> impl Iterator<Item = &RtpStream> {
        std::iter::once(&self.audio).chain(&self.video)
    }

    fn streams_mut(&mut self) -> impl Iterator<Item = &mut RtpStream> {
        std::iter::once(&mut self.audio).chain(&mut self.video)
    }

    /// Takes a packet in. A duplicate, or one too old to be of use, is dropped: no viewer is ever
    /// sent the same sequence number twice. So is one for which there is no room any more.
    pub fn push(&mut self, packet: &Arc<Packet>) -> Pushed {
        let lane = packet.lane();
        let pushed = self.stream_mut(lane).push(packet);
        if pushed != Pushed::New {
            return pushed;
        }
        if lane.kind() == Kind::Video {
            self.changed |= self.layers.packet(packet);
            if std::mem::take(&mut self.begins) && !packet.keyframe {
                // Encoders begin with a keyframe: it was lost.
                self.stream_mut(lane).keyframe.want();
            }
        }
        self.place(packet);
        pushed
    }

    /// What each layer of the video carries, best first. Beside made ones the publisher's own has a
    /// name too, so that it can be chosen.
    pub fn layers(&self, now: Instant) -> Vec<LayerState> {
        let mut states = self.named_layers(now);
        if !self.layers.made().is_empty() {
            for state in states.iter_mut().filter(|state| state.rid.is_empty()) {
                state.rid.push_str(SOURCE_LAYER);
            }
        }
        states
    }

    /// The same with the names that the publisher has given.
    fn named_layers(&self, now: Instant) -> Vec<LayerState> {
        let mut states = self.layers.states(now);
        for state in &mut states {
            let rid = self.rids.get(state.layer.index());
            if let Some(rid) = rid.filter(|_| !state.is_made) {
                state.rid.clone_from(rid);
            }
        }
        states
    }

    /// What each layer carries that the publisher sends itself, best first.
    pub fn sent_layers(&self, now: Instant) -> Vec<LayerState> {
        let mut states = self.named_layers(now);
        states.retain(|state| !state.is_made);
        states
    }

    /// Whether a layer is made here.
    pub fn is_made(&self, layer: LayerId) -> bool {
        self.layers.made_at(layer.index()).is_some()
    }

    /// The present publisher's layers have these names, in the order of its offer.
    pub fn set_rids(&mut self, rids: Arc<[String]>) {
        self.rids = rids;
    }

    /// The names of the layers.
    pub fn rids(&self) -> Arc<[String]> {
        Arc::clone(&self.rids)
    }

    /// These layers are made here from now on, of the only one that the publisher sends.
    pub fn set_made(&mut self, made: Arc<[MadeLayer]>) {
        for index in made.len()..self.layers.made().len() {
            if let Some(layer) = MadeLayer::id(index) {
                self.stop_made(layer);
            }
        }
        self.layers.set_made(made);
        let interval = self.settings.keyframe_request_interval.min(MADE_KEYFRAMES_APART);
        for layer in (0..self.layers.made().len()).filter_map(MadeLayer::id) {
            self.stream_mut(Lane::Video(layer)).keyframe.set_interval(interval);
        }
        self.changed = true;
    }

    /// Whether there are such.
    pub fn has_made(&self) -> bool {
        !self.layers.made().is_empty()
    }

    /// Which of them can be had: bit by bit.
    pub fn made_available(&self) -> u8 {
        let made = self.layers.made().iter().enumerate();
        made.filter(|(_, made)| made.is_available).fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Those that are made here.
    pub fn made(&self) -> Arc<[MadeLayer]> {
        Arc::clone(self.layers.made())
    }

    /// A made layer is not made any more until somebody wants it: what is kept of it is past.
    pub fn stop_made(&mut self, layer: LayerId) {
        self.layers.forget(layer);
        if let Some(stream) = self.video.get_mut(layer.index()) {
            stream.end();
        }
        self.changed = true;
    }

    /// The layers that the publisher sends itself.
    fn sent(&self) -> impl Iterator<Item = &RtpStream> {
        let is_sent = |index: &usize| self.layers.made_at(*index).is_none();
        let all = self.video.iter().enumerate();
        all.filter(move |(index, _)| is_sent(index)).map(|(_, stream)| stream)
    }

    /// Whether layers have come, or come back, or have other sizes, since this was last asked.
    pub const fn take_changed(&mut self) -> bool {
        std::mem::replace(&mut self.changed, false)
    }

    /// How far apart the last keyframes of a layer came, at most; of all, the furthest.
    pub fn keyframes_apart(&self, now: Instant) -> Option<Duration> {
        self.sent().filter_map(|stream| stream.keyframes_apart(now)).max()
    }

    /// How long the oldest packet of a batch waits for the rest of its frame from now on.
    pub fn set_batch_wait(&mut self, wait: Duration) {
        self.settings.batch_wait = wait;
        self.streams_mut().for_each(|stream| stream.batch.set_wait(wait));
    }

    /// How many packets wait to go out.
    pub fn waiting(&self) -> usize {
        self.streams().map(|stream| stream.batch.waiting().len()).sum()
    }

    /// How many packets are kept for viewers who come in between keyframes.
    pub fn cached(&self) -> usize {
        self.video.iter().map(|stream| stream.cache.packets().count()).sum()
    }

    /// When a waiting batch must go out, if nothing completes it before.
    pub fn deadline(&self) -> Option<Instant> {
        self.streams().filter_map(|stream| stream.batch.deadline()).min()
    }

    /// Whether a batch should go out now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.streams().any(|stream| stream.batch.is_due(now))
    }

    /// Lets what waits go out, or a slice of it: until [`Router::finish_batch`] it does not change,
    /// and what comes in meanwhile waits for the next. Sound goes along with every batch, a layer
    /// only when it is due: half a picture would cost a message of its own. Tells how many packets
    /// had waited too long: viewers go on with the next keyframe, as live as they were.
    pub fn begin_batch(&mut self, now: Instant) -> usize {
        let is_stale = self.video.iter().any(|stream| stream.batch.is_stale(now));
        let since = is_stale.then(|| self.stale_since.unwrap_or(now));
        self.stale_since = since;
        let lost = if since.is_some_and(|since| now >= since + Self::LAG_MAX) {
            self.stale_since = None;
            self.video.iter_mut().map(|stream| stream.skip(now)).sum()
        } else {
            0
        };
        self.batches += 1;
        self.audio.depart(now);
        for stream in &mut self.video {
            if stream.batch.is_due(now) {
                stream.depart(now);
            }
        }
        lost
    }

    /// The number of the newest batch: they count from one.
    pub const fn batch_number(&self) -> u64 {
        self.batches
    }

    /// What a new viewer of a layer is sent to catch up.
    pub fn cache(&self, layer: LayerId) -> Option<&KeyframeCache> {
        self.video.get(layer.index()).map(|stream| &stream.cache)
    }

    /// How many bytes of payload are kept of a layer since its newest keyframe.
    pub fn cached_bytes(&self, layer: LayerId) -> usize {
        self.video.get(layer.index()).map_or(0, |stream| stream.cache.bytes())
    }

    /// What goes out of one lane, in order.
    pub fn batch(&self, lane: Lane) -> &[Waiting] {
        self.stream(lane).map_or(&[], |stream| stream.batch.going())
    }

    /// When the oldest packet of what goes out arrived.
    pub fn batch_arrived(&self) -> Option<Instant> {
        self.streams().filter_map(|stream| stream.batch.oldest_going()).min()
    }

    /// The batch has gone out.
    pub fn finish_batch(&mut self) {
        self.streams_mut().for_each(|stream| stream.batch.gone());
    }

    /// A packet that has gone out, with the padding it went out with.
    pub fn past(&self, lane: Lane, sequence: u64) -> Option<(&Packet, u8)> {
        self.stream(lane)?.past(sequence)
    }

    /// The packets after this one, of the present batch, that go out before it or went out with
    /// earlier ones: there are such only after one that was late.
    pub fn passed(&self, packet: &Packet) -> impl Iterator<Item = (&Packet, u8)> {
        self.stream(packet.lane()).into_iter().flat_map(|stream| stream.passed(packet))
    }

    /// A viewer cannot go on without a keyframe of a layer.
    pub fn want_keyframe(&mut self, layer: LayerId) {
        self.stream_mut(Lane::Video(layer)).keyframe.want();
    }

    /// Whether a keyframe of a layer waits to go out.
    pub fn keyframe_waits(&self, layer: LayerId) -> bool {
        let waiting = self.video.get(layer.index()).map(|stream| stream.batch.waiting());
        waiting.is_some_and(|waiting| waiting.iter().any(|it| it.packet.keyframe))
    }

    /// Somebody who takes all layers cannot go on without keyframes of those that flow.
    pub fn want_keyframes(&mut self) {
        for (index, stream) in self.video.iter_mut().enumerate() {
            if self.layers.has_come(index) {
                stream.keyframe.want();
            }
        }
    }

    /// Whether the publisher does not answer requests for keyframes of a layer.
    pub fn keyframe_requests_are_ignored(&self, layer: LayerId, now: Instant) -> bool {
        let stream = self.video.get(layer.index());
        stream.is_some_and(|stream| stream.keyframe.is_ignored(now))
    }

    /// The next layer of which the publisher should be asked for a keyframe now; counts as asked.
    /// So does one that does not flow, which is left out: who waits for it is aimed at another one,
    /// and the publisher would be asked for ever.
    pub fn keyframe_request_due(&mut self, now: Instant) -> Option<LayerId> {
        let Self { video, layers, .. } = self;
        let due =
            |(place, stream): (usize, &mut RtpStream)| stream.keyframe.poll(now).then_some(place);
        let mut due = video.iter_mut().enumerate().filter_map(due);
        due.find(|&place| layers.may_answer(place, now)).and_then(LayerId::at)
    }

    /// When a wanted keyframe may be asked for again.
    pub fn keyframe_deadline(&self) -> Option<Instant> {
        self.video.iter().filter_map(|stream| stream.keyframe.deadline()).min()
    }
}
