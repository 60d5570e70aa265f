//! Selective forwarding (RFC 7667 §3.7): who gets which packet of one stream, and when.
//!
//! - `batch`: packets that wait to go out together, equalised so that one UDP message takes many
//! - `cache`: everything since the newest keyframe, for viewers who come in between
//! - `history`: the last seconds of a track, for duplicates and retransmission
//! - `keyframe`: many viewers' requests become few PLIs
//! - `pacer`: a keyframe departs in slices
//! - `rewriter`: which packets of a lane a viewer is sent, and the numbers they get
//! - `shift`: the timestamps of a later publisher go on from those of the one before
//! - `subscription`: one viewer's hold on one track: waits for a keyframe, then renumbers
//! - `time_line`: RTP timestamps of both tracks on the server's clock

pub mod batch;
pub mod cache;
pub mod history;
pub mod keyframe;
pub mod pacer;
pub mod rewriter;
pub mod shift;
pub mod subscription;
pub mod time_line;
use crate::media::codec::Kind;
use crate::media::packet::Packet;
use crate::media::spacing::Spacing;
use crate::media::time::{Epoch, WallTime};
use batch::Batch;
use cache::{Departed, KeyframeCache};
use history::{History, Pushed};
use keyframe::KeyframeRequester;
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
    histories: [History; 2],
    cache: KeyframeCache,
    batch: Batch,
    batches: u64,
    /// Nothing is taken in before the next keyframe.
    skipping: bool,
    /// Since when what departs has been stale.
    stale_since: Option<Instant>,
    keyframe: KeyframeRequester,
    spacing: Spacing,
    time_line: TimeLine,
    shifts: Shifts,
    /// Nothing of a later publisher's video has come yet.
    begins: bool,
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
            histories: Kind::ALL.map(|kind| History::new(kind, settings.history)),
            cache: KeyframeCache::default(),
            batch: Batch::new(settings.batch_wait),
            batches: 0,
            skipping: false,
            stale_since: None,
            keyframe: KeyframeRequester::new(settings.keyframe_request_interval),
            spacing: Spacing::default(),
            time_line: TimeLine::new(epoch),
            shifts: Shifts::default(),
            begins: false,
        }
    }

    /// Another publisher goes on with the stream: what is kept of the one before is of no use any
    /// more, as its numbers say nothing here. Batches count on, and timestamps go on rising.
    pub fn begin_term(&mut self) {
        let mut shifts = self.shifts;
        shifts.begin_term();
        let batches = self.batches;
        *self = Self { shifts, batches, begins: true, ..Self::new(self.settings, self.epoch) };
    }

    /// What the present publisher's timestamps of a kind are moved by for the viewers.
    pub const fn shift(&self, kind: Kind) -> u64 {
        self.shifts.by(kind)
    }

    /// Takes a packet in. A duplicate, or one too old to be of use, is dropped: no viewer is ever
    /// sent the same sequence number twice. So is one for which there is no room any more.
    pub fn push(&mut self, packet: Arc<Packet>) -> Pushed {
        let kind = packet.codec.kind();
        if kind == Kind::Video && packet.keyframe {
            self.skipping = false;
        }
        if !self.batch.has_room(kind) || (kind == Kind::Video && self.skipping) {
            return Pushed::NoRoom;
        }
        let pushed = self.histories[kind.index()].push(&packet);
        if pushed != Pushed::New {
            return pushed;
        }
        // Every sound can be a start; what is waited for is a picture.
        if packet.keyframe && kind == Kind::Video {
            self.keyframe.arrived(packet.arrival);
            self.spacing.note(packet.timestamp, packet.arrival);
        } else if self.begins && kind == Kind::Video {
            // Encoders begin with a keyframe: it was lost.
            self.keyframe.want();
        }
        self.begins &= kind != Kind::Video;
        let (timestamp, clock_rate) = (packet.timestamp, packet.codec.clock_rate());
        self.time_line.packet(kind, timestamp, clock_rate, packet.arrival);
        self.shifts.packet(kind, timestamp, clock_rate, packet.arrival);
        self.batch.push(packet);
        Pushed::New
    }

    /// Takes the publisher's sender report in: the timestamp is extended as its packets' are.
    pub fn sender_report(&mut self, kind: Kind, ntp: WallTime, timestamp: u64, now: Instant) {
        self.time_line.sender_report(kind, ntp, timestamp, now);
    }

    /// What another router needs to go on with this stream: the time line, and all video since the
    /// newest keyframe with the padding it went out with.
    pub fn past_and_present(&self) -> (TimeLine, Vec<(Arc<Packet>, u8)>) {
        let departed = self.cache.packets().map(|it| (Arc::clone(&it.packet), it.padding));
        let waiting = self.batch.waiting(Kind::Video);
        let waiting = waiting.iter().map(|it| (Arc::clone(&it.packet), it.padding));
        (self.time_line.clone(), departed.chain(waiting).collect())
    }

    /// What somebody who takes the stream as it comes in needs to go on with it: all video since
    /// the newest keyframe, and the sound with it as far as that is kept, in the order of arrival.
    pub fn since_keyframe(&self) -> Vec<Arc<Packet>> {
        let (_, video) = self.past_and_present();
        let since = video.first().map(|(first, _)| first.arrival);
        let sound = self.histories[Kind::Audio.index()].after(0).map(|(packet, _)| packet);
        let waiting = self.batch.waiting(Kind::Audio).iter().map(|it| &it.packet);
        let sound = sound.chain(waiting).filter(|it| since.is_none_or(|since| it.arrival >= since));
        let mut packets: Vec<_> = sound.map(Arc::clone).collect();
        packets.extend(video.into_iter().map(|(packet, _)| packet));
        packets.sort_by_key(|packet| packet.arrival);
        packets
    }

    /// How far apart the last keyframes came, at most.
    pub fn keyframes_apart(&self, now: Instant) -> Option<Duration> {
        self.spacing.longest(now)
    }

    /// The RTP timestamp of this moment as the publisher counts, as far as anything is known of it.
    pub fn estimate_at(&self, kind: Kind, now: Instant) -> Option<(WallTime, u64)> {
        self.time_line.estimate_at(kind, now)
    }

    /// Goes on with the stream of another router, whose packets count as gone out.
    pub fn go_on(&mut self, time_line: TimeLine, packets: Vec<(Arc<Packet>, u8)>, now: Instant) {
        self.time_line = time_line;
        let history = &mut self.histories[Kind::Video.index()];
        for (packet, padding) in packets {
            if history.push(&packet) != Pushed::New {
                continue;
            }
            history.departed(packet.sequence, padding);
            let (timestamp, clock_rate) = (packet.timestamp, packet.codec.clock_rate());
            self.shifts.packet(Kind::Video, timestamp, clock_rate, packet.arrival);
            let sequence = packet.sequence;
            self.cache.push(Departed { packet, padding }, history.after(sequence));
        }
        if self.cache.packets().next().is_some() {
            self.keyframe.arrived(now);
            self.begins = false;
        }
    }

    /// How long the oldest packet of a batch waits for the rest of its frame from now on.
    pub const fn set_batch_wait(&mut self, wait: Duration) {
        self.settings.batch_wait = wait;
        self.batch.set_wait(wait);
    }

    /// How many packets of a kind wait to go out.
    pub fn waiting(&self, kind: Kind) -> usize {
        self.batch.waiting(kind).len()
    }

    /// When a waiting batch must go out, if nothing completes it before.
    pub fn deadline(&self) -> Option<Instant> {
        self.batch.deadline()
    }

    /// Whether a batch should go out now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.batch.is_due(now)
    }

    /// Lets what waits go out, or a slice of it: until [`Router::finish_batch`] it does not change,
    /// and what comes in meanwhile waits for the next. Tells how many packets had waited too long:
    /// viewers go on with the next keyframe, as live as they were.
    pub fn begin_batch(&mut self, now: Instant) -> usize {
        let since = self.batch.is_stale(now).then(|| self.stale_since.unwrap_or(now));
        self.stale_since = since;
        let lost = if since.is_some_and(|since| now >= since + Self::LAG_MAX) {
            self.skip(now)
        } else {
            0
        };
        self.batch.depart(now);
        self.batches += 1;
        for kind in Kind::ALL {
            let history = &mut self.histories[kind.index()];
            for batch::Waiting { packet, padding } in self.batch.going(kind) {
                history.departed(packet.sequence, *padding);
                if kind == Kind::Video {
                    let departed = Departed { packet: Arc::clone(packet), padding: *padding };
                    self.cache.push(departed, history.after(packet.sequence));
                }
            }
        }
        lost
    }

    fn skip(&mut self, now: Instant) -> usize {
        self.stale_since = None;
        let (lost, keyframe_waits) = self.batch.skip(now);
        self.cache.clear();
        if !keyframe_waits {
            self.skipping = true;
            self.keyframe.want();
        }
        lost
    }

    /// The number of the newest batch: they count from one.
    pub const fn batch_number(&self) -> u64 {
        self.batches
    }

    /// What a new viewer is sent to catch up.
    pub const fn cache(&self) -> &KeyframeCache {
        &self.cache
    }

    /// What goes out of one kind, in order.
    pub fn batch(&self, kind: Kind) -> &[batch::Waiting] {
        self.batch.going(kind)
    }

    /// When the oldest packet of what goes out arrived.
    pub fn batch_arrived(&self) -> Option<Instant> {
        self.batch.oldest_going()
    }

    /// The batch has gone out.
    pub fn finish_batch(&mut self) {
        self.batch.gone();
    }

    /// A packet that has gone out, with the padding it went out with.
    pub fn past(&self, kind: Kind, sequence: u64) -> Option<(&Packet, u8)> {
        let kept = self.histories[kind.index()].get(sequence);
        let kept = kept.map(|(packet, padding)| (&**packet, padding));
        kept.or_else(|| {
            let departed = self.cache.get(sequence).filter(|_| kind == Kind::Video)?;
            Some((&*departed.packet, departed.padding))
        })
    }

    /// The packets after this one, of the present batch, that go out before it or went out with
    /// earlier ones: there are such only after one that was late.
    pub fn passed(&self, packet: &Packet) -> impl Iterator<Item = (&Packet, u8)> {
        let kind = packet.codec.kind();
        let going = self.batch.going(kind);
        let place = going.iter().position(|it| it.packet.sequence == packet.sequence);
        let going = &going[place.unwrap_or(0)..];
        let later = self.histories[kind.index()].after(packet.sequence);
        later
            .filter(|(later, _)| going.iter().all(|w| w.packet.sequence != later.sequence))
            .map(|(later, padding)| (&**later, padding))
    }

    /// A viewer cannot go on without a keyframe.
    pub fn want_keyframe(&mut self) {
        self.keyframe.want();
    }

    /// Whether the publisher does not answer requests for keyframes.
    pub fn keyframe_requests_are_ignored(&self, now: Instant) -> bool {
        self.keyframe.is_ignored(now)
    }

    /// Whether the publisher should be asked for a keyframe now.
    pub fn keyframe_request_due(&mut self, now: Instant) -> bool {
        self.keyframe.poll(now)
    }

    /// When a wanted keyframe may be asked for again.
    pub fn keyframe_deadline(&self) -> Option<Instant> {
        self.keyframe.deadline()
    }

    /// The RTP timestamp of this moment as viewers see it, for a sender report; `None` while it is
    /// not known.
    pub fn timestamp_at(&self, kind: Kind, now: Instant) -> Option<(WallTime, u64)> {
        if !self.shifts.is_known(kind) {
            return None;
        }
        let (wall, timestamp) = self.time_line.timestamp_at(kind, now)?;
        Some((wall, timestamp.wrapping_add(self.shifts.by(kind))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::layer::{LayerId, Scale};

    #[test]
    fn sound_does_not_end_the_wait_for_a_keyframe() {
        let now = Instant::now();
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut router = Router::new(RouterSettings::default(), Epoch { instant: now, wall });
        let packet = |codec| {
            let arrival = now;
            let (sequence, timestamp, marker, keyframe) = (1, 0, true, true);
            let payload = vec![0];
            Arc::new(Packet {
                codec,
                layer: LayerId::ONLY,
                scale: Scale::default(),
                sequence,
                timestamp,
                marker,
                keyframe,
                arrival,
                payload,
            })
        };
        router.want_keyframe();
        assert!(router.keyframe_request_due(now));
        router.push(packet(Codec::Opus));
        assert!(router.keyframe_deadline().is_some(), "the viewer still waits");
        router.push(packet(Codec::Vp8));
        assert_eq!(router.keyframe_deadline(), None);
    }

    /// Told with the numbers of the publisher before, it would tear sound and picture apart.
    #[test]
    fn a_timestamp_is_not_told_before_it_is_known_by_what_it_is_moved() {
        let now = Instant::now();
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut router = Router::new(RouterSettings::default(), Epoch { instant: now, wall });
        let sound = |sequence, timestamp| {
            let (codec, arrival, payload) = (Codec::Opus, now, vec![0]);
            let (marker, keyframe) = (false, false);
            Arc::new(Packet {
                codec,
                layer: LayerId::ONLY,
                scale: Scale::default(),
                sequence,
                timestamp,
                marker,
                keyframe,
                arrival,
                payload,
            })
        };
        router.push(sound(1, 5_000_000));
        router.sender_report(Kind::Audio, wall, 5_000_000, now);
        let told = |router: &Router| router.timestamp_at(Kind::Audio, now).map(|(_, at)| at);
        assert!(told(&router).is_some());
        let mut next = TimeLine::new(router.epoch);
        next.packet(Kind::Audio, 70, 48_000, now);
        next.sender_report(Kind::Audio, wall, 70, now);
        router.begin_term();
        router.go_on(next, Vec::new(), now);
        assert_eq!(told(&router), None);
        router.push(sound(1, 70));
        assert!(told(&router).is_some_and(|at| at > 5_000_000));
    }

    /// A viewer that begins with it is owed them.
    #[test]
    fn what_came_before_a_late_packet_has_passed_it_whichever_batch_it_went_out_with() {
        let now = Instant::now();
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut router = Router::new(RouterSettings::default(), Epoch { instant: now, wall });
        let depart = |router: &mut Router, sequences: &[u64]| {
            for &sequence in sequences {
                router.push(Arc::new(Packet {
                    codec: Codec::H264,
                    layer: LayerId::ONLY,
                    scale: Scale::default(),
                    sequence,
                    timestamp: 0,
                    marker: false,
                    keyframe: sequence == 70_000,
                    arrival: now,
                    payload: vec![0],
                }));
            }
            router.finish_batch();
            router.begin_batch(now);
        };
        depart(&mut router, &[70_001]);
        depart(&mut router, &[70_002, 70_000, 70_003]);
        let late = &router.batch(Kind::Video)[1].packet;
        let passed: Vec<u64> = router.passed(late).map(|(packet, _)| packet.sequence).collect();
        assert_eq!(passed, [70_001, 70_002], "and what comes after it is still to come");
    }

    #[test]
    fn what_waits_is_bounded_when_viewers_are_served_too_slowly() {
        let now = Instant::now();
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut router = Router::new(RouterSettings::default(), Epoch { instant: now, wall });
        let push = |router: &mut Router, sequence| {
            router.push(Arc::new(Packet {
                codec: Codec::Vp8,
                layer: LayerId::ONLY,
                scale: Scale::default(),
                sequence,
                timestamp: 0,
                marker: true,
                keyframe: false,
                arrival: now,
                payload: vec![0],
            }))
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
            gone += router.batch(Kind::Video).len();
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
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut router = Router::new(RouterSettings::default(), Epoch { instant: start, wall });
        let push = |router: &mut Router, number: u64, keyframe| {
            router.push(Arc::new(Packet {
                codec: Codec::Vp8,
                layer: LayerId::ONLY,
                scale: Scale::default(),
                sequence: number,
                timestamp: number * 3_000,
                marker: true,
                keyframe,
                arrival: at(number * 100),
                payload: vec![0],
            }))
        };
        let sent = |router: &mut Router, ms| {
            router.begin_batch(at(ms));
            let sent: Vec<u64> =
                router.batch(Kind::Video).iter().map(|it| it.packet.sequence).collect();
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
        assert_eq!(router.cache().packets().count(), 0);
        assert!(router.keyframe_request_due(at(1_400)));
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
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut router = Router::new(RouterSettings::default(), Epoch { instant: now, wall });
        for (sequence, size) in [(70_000, 1_000), (70_001, 998)] {
            router.push(Arc::new(Packet {
                codec: Codec::Vp8,
                layer: LayerId::ONLY,
                scale: Scale::default(),
                sequence,
                timestamp: 0,
                marker: false,
                keyframe: false,
                arrival: now,
                payload: vec![0; size],
            }));
        }
        assert!(router.past(Kind::Video, 70_001).is_none());
        router.begin_batch(now);
        let padding = |sequence| router.past(Kind::Video, sequence).map(|(_, padding)| padding);
        assert_eq!((padding(70_000), padding(70_001)), (Some(0), Some(2)));
    }
}
