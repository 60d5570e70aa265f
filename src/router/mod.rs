//! Selective forwarding (RFC 7667 §3.7): who gets which packet of one stream, and when.
//!
//! - `allocator`: which layer a viewer's link carries
//! - `batch`: packets that wait to go out together, equalised so that one UDP message takes many
//! - `choice`: what a viewer wishes to see
//! - `cache`: everything since the newest keyframe, for viewers who come in between
//! - `history`: the last seconds of a track, for duplicates and retransmission
//! - `keyframe`: many viewers' requests become few PLIs
//! - `layers`: what each layer carries, best first
//! - `pacer`: a keyframe departs in slices
//! - `rewriter`: which packets of a lane a viewer is sent, and the numbers they get
//! - `rtp_stream`: one lane on its way through: the sound, or one layer of the picture
//! - `shift`: the timestamps of a later publisher go on from those of the one before
//! - `subscription`: one viewer's hold on one track: waits for a keyframe, then renumbers,
//!   whichever layer it comes from
//! - `time_line`: RTP timestamps of every lane on the server's clock

pub mod allocator;
pub mod batch;
pub mod cache;
pub mod choice;
pub mod history;
pub mod keyframe;
pub mod layers;
pub mod pacer;
pub mod rewriter;
mod rtp_stream;
pub mod shift;
pub mod subscription;
pub mod time_line;

use crate::media::codec::Kind;
use crate::media::layer::{Lane, LayerId, LayerState};
use crate::media::packet::Packet;
use crate::media::time::{Epoch, WallTime};
use batch::Waiting;
use cache::KeyframeCache;
use history::Pushed;
use layers::Layers;
use rtp_stream::RtpStream;
use shift::Shifts;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time_line::TimeLine;

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

    /// A packet says something of its lane's clock.
    fn place(&mut self, packet: &Packet) {
        let (lane, clock_rate) = (packet.lane(), packet.codec.clock_rate());
        self.time_line.packet(lane, packet.timestamp, clock_rate, packet.arrival);
        self.shifts.packet(lane, packet.timestamp, clock_rate, packet.arrival);
    }

    /// Takes the publisher's sender report in: the timestamp is extended as its packets' are.
    pub fn sender_report(&mut self, lane: Lane, ntp: WallTime, timestamp: u64, now: Instant) {
        self.time_line.sender_report(lane, ntp, timestamp, now);
    }

    /// What each layer of the video carries, best first.
    pub fn layers(&self, now: Instant) -> Vec<LayerState> {
        let mut states = self.layers.states(now);
        for state in &mut states {
            if let Some(rid) = self.rids.get(state.layer.index()) {
                state.rid.clone_from(rid);
            }
        }
        states
    }

    /// The present publisher's layers have these names, in the order of its offer.
    pub fn set_rids(&mut self, rids: Arc<[String]>) {
        self.rids = rids;
    }

    /// The names of the layers.
    pub fn rids(&self) -> Arc<[String]> {
        Arc::clone(&self.rids)
    }

    /// Whether layers have come, or come back, or have other sizes, since this was last asked.
    pub const fn take_changed(&mut self) -> bool {
        std::mem::replace(&mut self.changed, false)
    }

    /// What another router needs to go on with this stream: the time line, and all video since the
    /// newest keyframe of each layer with the padding it went out with.
    pub fn past_and_present(&self) -> (TimeLine, Vec<(Arc<Packet>, u8)>) {
        let video = self.video.iter().flat_map(RtpStream::since_keyframe);
        (self.time_line.clone(), video.collect())
    }

    /// What somebody who takes the stream as it comes in needs to go on with it: all video since
    /// the newest keyframe of each layer, and the sound with it as far as that is kept, in the
    /// order of arrival.
    pub fn since_keyframe(&self) -> Vec<Arc<Packet>> {
        let (_, video) = self.past_and_present();
        let since = video.iter().map(|(packet, _)| packet.arrival).min();
        let sound = self.audio.history.after(0).map(|(packet, _)| packet);
        let waiting = self.audio.batch.waiting().iter().map(|it| &it.packet);
        let sound = sound.chain(waiting).filter(|it| since.is_none_or(|since| it.arrival >= since));
        let mut packets: Vec<_> = sound.map(Arc::clone).collect();
        packets.extend(video.into_iter().map(|(packet, _)| packet));
        packets.sort_by_key(|packet| packet.arrival);
        packets
    }

    /// How far apart the last keyframes of a layer came, at most; of all, the furthest.
    pub fn keyframes_apart(&self, now: Instant) -> Option<Duration> {
        self.video.iter().filter_map(|stream| stream.keyframes_apart(now)).max()
    }

    /// The RTP timestamp of this moment as the publisher counts, as far as anything is known of it.
    pub fn estimate_at(&self, lane: Lane, now: Instant) -> Option<(WallTime, u64)> {
        self.time_line.estimate_at(lane, now)
    }

    /// Goes on with the stream of another router, whose packets count as gone out.
    pub fn go_on(&mut self, time_line: TimeLine, packets: Vec<(Arc<Packet>, u8)>, now: Instant) {
        self.time_line = time_line;
        for (packet, padding) in packets {
            let lane = packet.lane();
            if self.stream_mut(lane).go_on(Arc::clone(&packet), padding) {
                self.shifts.packet(
                    lane,
                    packet.timestamp,
                    packet.codec.clock_rate(),
                    packet.arrival,
                );
                self.changed |= self.layers.packet(&packet);
            }
        }
        for stream in &mut self.video {
            if stream.cache.packets().next().is_some() {
                stream.keyframe.arrived(now);
                self.begins = false;
            }
        }
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

    /// What the timestamps of a lane are moved by for a viewer who begins with it now, so that what
    /// it is sent goes on: after a layer whose timestamps were moved so for it, if there was one.
    pub fn shift(&self, lane: Lane, after: Option<(LayerId, u64)>, now: Instant) -> u64 {
        let kind = lane.kind();
        let first = || self.shifts.lane(kind).map(|lane| (lane, self.shifts.by(kind)));
        let known = after.map(|(layer, by)| (Lane::Video(layer), by)).or_else(first);
        let Some((known, by)) = known else { return self.shifts.by(kind) };
        let at = |lane| self.time_line.estimate_at(lane, now).map(|(_, timestamp)| timestamp);
        match (at(known), at(lane)) {
            (Some(known), Some(own)) if own != known => by.wrapping_add(known.wrapping_sub(own)),
            _ => by,
        }
    }

    /// The RTP timestamp of this moment on a lane, moved by so much, for a sender report; `None`
    /// while it is not known.
    pub fn timestamp_at(&self, lane: Lane, by: u64, now: Instant) -> Option<(WallTime, u64)> {
        let (wall, timestamp) = self.time_line.timestamp_at(lane, now)?;
        Some((wall, timestamp.wrapping_add(by)))
    }

    /// The same for a viewer that nothing of this kind has begun to flow to, as it would begin.
    pub fn timestamp_to_begin_at(&self, kind: Kind, now: Instant) -> Option<(WallTime, u64)> {
        self.timestamp_at(self.shifts.lane(kind)?, self.shifts.by(kind), now)
    }
}

#[cfg(test)]
mod tests {
    use super::batch::Batch;
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packet::PacketFields;

    const VIDEO: Lane = Lane::Video(LayerId::ONLY);

    fn router(now: Instant) -> Router {
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        Router::new(RouterSettings::default(), Epoch { instant: now, wall })
    }

    #[test]
    fn sound_does_not_end_the_wait_for_a_keyframe() {
        let now = Instant::now();
        let mut router = router(now);
        let packet = |codec| {
            let fields = PacketFields::single(codec, 1, 0, now);
            Arc::new(PacketFields { marker: true, keyframe: true, ..fields }.with(vec![0]))
        };
        router.want_keyframe(LayerId::ONLY);
        assert!(router.keyframe_request_due(now).is_some());
        router.push(&packet(Codec::Opus));
        assert!(router.keyframe_deadline().is_some(), "the viewer still waits");
        router.push(&packet(Codec::Vp8));
        assert_eq!(router.keyframe_deadline(), None);
    }

    /// Whoever came before any layer did would else have the others begin anew each second.
    #[test]
    fn a_layer_that_does_not_flow_is_not_asked_for_a_keyframe() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut router = router(start);
        let (first, second) = (LayerId::ONLY, LayerId::at(1).expect("two"));
        let push = |router: &mut Router, layer, sequence, ms| {
            let fields = PacketFields::single(Codec::Vp8, sequence, 0, at(ms));
            router.push(&Arc::new(PacketFields { layer, marker: true, ..fields }.with(vec![0])));
        };
        router.want_keyframe(first);
        assert_eq!(router.keyframe_request_due(at(0)), Some(first), "nobody knows which will come");
        push(&mut router, second, 1, 500);
        assert_eq!(router.keyframe_request_due(at(1_000)), None, "only the other one has come");
        assert_eq!(router.keyframe_deadline(), Some(at(2_000)), "it may come yet");
        push(&mut router, first, 1, 1_900);
        assert_eq!(router.keyframe_request_due(at(2_000)), Some(first), "it came without one");
        for picture in 0..30 {
            push(&mut router, second, 2 + picture, 2_000 + picture * 33);
        }
        assert_eq!(router.keyframe_request_due(at(3_000)), None, "it has stopped");
        push(&mut router, first, 2, 3_900);
        assert_eq!(router.keyframe_request_due(at(4_000)), Some(first));
    }

    /// Told with the numbers of the publisher before, it would tear sound and picture apart.
    #[test]
    fn a_timestamp_is_not_told_before_it_is_known_by_what_it_is_moved() {
        let now = Instant::now();
        let mut router = router(now);
        let wall = router.epoch.wall;
        let sound = |sequence, timestamp| {
            let fields = PacketFields::single(Codec::Opus, sequence, timestamp, now);
            Arc::new(fields.with(vec![0]))
        };
        router.push(&sound(1, 5_000_000));
        router.sender_report(Lane::Audio, wall, 5_000_000, now);
        let told =
            |router: &Router| router.timestamp_to_begin_at(Kind::Audio, now).map(|(_, at)| at);
        assert!(told(&router).is_some());
        let mut next = TimeLine::new(router.epoch);
        next.packet(Lane::Audio, 70, 48_000, now);
        next.sender_report(Lane::Audio, wall, 70, now);
        router.begin_term();
        router.go_on(next, Vec::new(), now);
        assert_eq!(told(&router), None);
        router.push(&sound(1, 70));
        assert!(told(&router).is_some_and(|at| at > 5_000_000));
    }

    /// A viewer that begins with it is owed them.
    #[test]
    fn what_came_before_a_late_packet_has_passed_it_whichever_batch_it_went_out_with() {
        let now = Instant::now();
        let mut router = router(now);
        router.set_batch_wait(Duration::ZERO);
        let depart = |router: &mut Router, sequences: &[u64]| {
            for &sequence in sequences {
                let fields = PacketFields::single(Codec::H264, sequence, 0, now);
                let fields = PacketFields { keyframe: sequence == 70_000, ..fields };
                router.push(&Arc::new(fields.with(vec![0])));
            }
            router.finish_batch();
            router.begin_batch(now);
        };
        depart(&mut router, &[70_001]);
        depart(&mut router, &[70_002, 70_000, 70_003]);
        let late = &router.batch(VIDEO)[1].packet;
        let passed: Vec<u64> = router.passed(late).map(|(packet, _)| packet.sequence).collect();
        assert_eq!(passed, [70_001, 70_002], "and what comes after it is still to come");
    }

    #[test]
    fn what_waits_is_bounded_when_viewers_are_served_too_slowly() {
        let now = Instant::now();
        let mut router = router(now);
        let push = |router: &mut Router, sequence| {
            let fields = PacketFields::single(Codec::Vp8, sequence, 0, now);
            router.push(&Arc::new(PacketFields { marker: true, ..fields }.with(vec![0])))
        };
        push(&mut router, 0);
        router.begin_batch(now);
        let taken = (1..100_000).filter(|&n| push(&mut router, n) == Pushed::New).count();
        assert_eq!(taken, Batch::WAITING_MAX);
        router.finish_batch();
        let (mut later, mut gone) = (now, 0);
        while let Some(deadline) = router.deadline() {
            later = later.max(deadline);
            assert!(router.is_due(later));
            router.begin_batch(later);
            gone += router.batch(VIDEO).len();
            router.finish_batch();
        }
        assert_eq!(gone, taken);
        assert!(later - now < Duration::from_millis(20), "even a backlog does not last");
        assert_eq!(push(&mut router, 100_000), Pushed::New, "it goes on");
    }

    /// Overload must not make whoever watches ever later.
    #[test]
    fn what_has_waited_too_long_is_lost_up_to_the_next_keyframe() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut router = router(start);
        let push = |router: &mut Router, number: u64, keyframe| {
            let fields = PacketFields::single(Codec::Vp8, number, number * 3_000, at(number * 100));
            router.push(&Arc::new(PacketFields { marker: true, keyframe, ..fields }.with(vec![0])))
        };
        let sent = |router: &mut Router, ms| {
            router.begin_batch(at(ms));
            let sent: Vec<u64> = router.batch(VIDEO).iter().map(|it| it.packet.sequence).collect();
            router.finish_batch();
            sent
        };
        push(&mut router, 0, true);
        assert_eq!(sent(&mut router, 0), [0]);
        push(&mut router, 1, false);
        assert_eq!(sent(&mut router, 550), [1], "a moment's delay costs nothing");
        for number in 2..=5 {
            push(&mut router, number, number == 4);
        }
        assert_eq!(sent(&mut router, 750), [4, 5], "on with the keyframe that came meanwhile");
        push(&mut router, 6, false);
        assert_eq!(sent(&mut router, 1_150), [6]);
        push(&mut router, 7, false);
        assert!(sent(&mut router, 1_400).is_empty(), "nothing that waits is of use");
        assert_eq!(router.cached(), 0);
        assert!(router.keyframe_request_due(at(1_400)).is_some());
        assert_eq!(push(&mut router, 14, false), Pushed::NoRoom);
        assert_eq!(push(&mut router, 15, true), Pushed::New);
        assert_eq!(push(&mut router, 16, false), Pushed::New);
        assert_eq!(sent(&mut router, 1_650), [15, 16]);
    }

    /// The nonce rule: what a packet will be padded with is not known before it goes out, and what
    /// is sent again must be identical.
    #[test]
    fn a_packet_that_waits_cannot_be_sent_again() {
        let now = Instant::now();
        let mut router = router(now);
        router.set_batch_wait(Duration::ZERO);
        for (sequence, size) in [(70_000, 1_000), (70_001, 998)] {
            let fields = PacketFields::single(Codec::Vp8, sequence, 0, now);
            router.push(&Arc::new(fields.with(vec![0; size])));
        }
        assert!(router.past(VIDEO, 70_001).is_none());
        router.begin_batch(now);
        let padding = |sequence| router.past(VIDEO, sequence).map(|(_, padding)| padding);
        assert_eq!((padding(70_000), padding(70_001)), (Some(0), Some(2)));
    }
}
