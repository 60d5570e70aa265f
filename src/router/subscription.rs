//! One viewer's hold on one track: waits for a decodable start, then renumbers packet by packet,
//! whichever layer they come from.

use super::rewriter::{After, Limits, Numbers, Rewriter, Verdict};
use crate::media::codec::{Codec, Kind};
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::Packet;
use crate::media::patch::Patch;

/// A viewer's time with one layer, from a keyframe on, with timestamps moved by `shift`. What is of
/// the past goes out compressed.
#[derive(Debug)]
pub struct Stay {
    /// Of which layer; of sound [`LayerId::ONLY`].
    pub layer: LayerId,
    /// What its timestamps are moved by.
    pub shift: u64,
    past: Past,
    rewriter: Rewriter,
}

impl Stay {
    /// The RTP timestamp with which a packet of this one goes to the viewer: of the present it is
    /// the same but for the shift, of the past nearer to the present. It depends on nothing else,
    /// so that a packet that is sent again is the same packet.
    pub const fn timestamp(&self, timestamp: u64) -> u64 {
        self.past.compress(timestamp.wrapping_add(self.shift))
    }

    /// How a packet went to the viewer, if that is known.
    pub fn again(&self, packet: &Packet) -> Option<Place> {
        self.place(packet, self.rewriter.again(packet))
    }

    fn place(&self, packet: &Packet, verdict: Verdict) -> Option<Place> {
        let Verdict::Send(sequence, patch) = verdict else { return None };
        Some(Place { sequence, timestamp: self.timestamp(packet.timestamp), patch })
    }
}

/// How a packet goes to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its extended sequence number.
    pub sequence: u64,
    /// Its extended RTP timestamp.
    pub timestamp: u64,
    /// How it differs from what the publisher sent.
    pub patch: Patch,
}

/// What was there before a viewer came goes out with compressed RTP timestamps.
///
/// It is sent in less time than it took, and its timestamps say so: they begin with the present,
/// run as the time does in which it is sent, and meet those of the publisher where both are at the
/// same moment. So a receiver learns the one clock that it needs from then on. (With timestamps
/// that ended where the past did, Chromium took the burst's clock for the stream's: its picture
/// stood for 0.6 s after the burst, and it smoothed no jitter for the next half minute.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Past {
    /// The first RTP timestamp of it.
    begins: u64,
    /// From this RTP timestamp on nothing is changed.
    ends: u64,
    /// The time before that runs so much faster.
    compression: u64,
}

impl Past {
    /// There is none.
    const NONE: Self = Self { begins: 0, ends: 0, compression: 1 };
    /// Pictures 33 ms apart go out 1 ms apart: faster than decoders are it need not be.
    const COMPRESSION_MAX: u64 = 32;
    /// Below that it would take as long as the past itself.
    const COMPRESSION_MIN: u64 = 2;

    /// The past from the timestamp `first` to that of the `present`, which takes `least` ticks to
    /// send, or more.
    fn between(first: u64, present: u64, least: u64) -> Self {
        let span = present.saturating_sub(first);
        let takes = least.max(span / (Self::COMPRESSION_MAX - 1)).max(1);
        let compression = (span + takes) / takes;
        let compression = compression.clamp(Self::COMPRESSION_MIN, Self::COMPRESSION_MAX);
        // While the past is sent the present goes on.
        let ends = present.saturating_add(span / (compression - 1));
        Self { begins: first, ends, compression }
    }

    /// Whether a timestamp is of it. A clock that was set back is not.
    const fn covers(&self, timestamp: u64) -> bool {
        timestamp < self.ends && timestamp.saturating_add(Subscription::BACK_MAX) >= self.begins
    }

    const fn compress(&self, timestamp: u64) -> u64 {
        if self.covers(timestamp) {
            self.ends - (self.ends - timestamp) / self.compression
        } else {
            timestamp
        }
    }
}

/// A viewer's place in a track, and the sequence numbers it sees.
///
/// While it stays with a layer its numbers are those of the publisher moved by a constant, or,
/// where frames are left out, by what the [`Rewriter`] knows: a packet lost on the way in is a gap
/// that a late retransmission still fills, and a NACK finds its packet. It leaves a layer where a
/// keyframe of the one it aims at begins, and what it has not got by then of the one before still
/// comes.
#[derive(Debug)]
pub struct Subscription {
    kind: Kind,
    /// The layer with whose next keyframe it goes on; none: nothing is to flow.
    target: Option<LayerId>,
    /// Where it is; none: the target's next keyframe begins (video), or the next packet (audio).
    stay: Option<Stay>,
    /// Where it was before, latest first: what was lost of that is still found.
    former: [Option<Box<Stay>>; 2],
    /// The highest layers within a layer that it takes.
    limits: Limits,
    /// Its viewer is sent dependency descriptors.
    takes_dependencies: bool,
    /// The highest numbers of frames sent before the present stay.
    numbers: Numbers,
    /// The extended sequence number after the highest sent; the first one before that.
    next_out: u64,
    /// The highest RTP timestamp sent; zero before that.
    newest: u64,
}

impl Subscription {
    /// Two seconds of video: where the publisher's timestamps go back further, they begin anew.
    const BACK_MAX: u64 = 180_000;
    /// Fifteen seconds of video, more than is kept: beyond it the timestamps have jumped.
    const PAST_MAX: u64 = 1_350_000;

    /// A subscription whose first packet will have this sequence number.
    ///
    /// Half the range is left before the first wrap, as RFC 3711 §3.3.1 advises: the rollover
    /// counter starts at zero on both sides.
    pub const fn new(kind: Kind, random: u16) -> Self {
        let (next_out, target) = ((random & 0x7fff) as u64, Some(LayerId::ONLY));
        Self {
            kind,
            target,
            stay: None,
            former: [None, None],
            limits: Limits::ALL,
            takes_dependencies: false,
            numbers: Numbers::NONE,
            next_out,
            newest: 0,
        }
    }

    /// Its viewer is sent dependency descriptors, or none.
    #[must_use]
    pub fn with_dependencies(self, takes_dependencies: bool) -> Self {
        Self { takes_dependencies, ..self }
    }

    /// The highest spatial layer of this codec that its viewer can make use of.
    pub const fn spatial_max(&self, codec: Codec) -> u8 {
        let is_described = self.takes_dependencies || !codec.needs_dependencies();
        if codec.has_spatial_layers() && is_described { u8::MAX } else { 0 }
    }

    /// It goes on with this layer from its next keyframe on.
    pub const fn aim(&mut self, layer: LayerId) {
        self.target = Some(layer);
    }

    /// It takes no more than these layers within the layer that it is aimed at: what is above goes
    /// at once, and comes back where that is possible.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        if !self.is_moving()
            && let Some(stay) = &mut self.stay
        {
            stay.rewriter.set_target(limits);
        }
    }

    /// Whether it lacks layers within the layer that flows, which nothing but a keyframe brings.
    pub fn needs_keyframe(&self) -> bool {
        self.stay.as_ref().is_some_and(|stay| stay.rewriter.needs_keyframe())
    }

    /// Nothing flows until it is aimed again.
    pub fn stop(&mut self) {
        self.wait();
        self.target = None;
    }

    /// The layer that it goes on with; none where nothing is to flow.
    pub const fn target(&self) -> Option<LayerId> {
        self.target
    }

    /// The layer that flows.
    pub fn current(&self) -> Option<LayerId> {
        self.stay.as_ref().map(|stay| stay.layer)
    }

    /// Whether it waits for a keyframe of another layer than the one that flows, if one does.
    pub fn is_moving(&self) -> bool {
        self.current() != self.target
    }

    /// Whose packets it takes: first those among which may be the one that it moves with.
    pub fn lanes(&self) -> (Option<Lane>, Option<Lane>) {
        let current = self.current().filter(|&layer| Some(layer) != self.target);
        let lane = |layer| Lane::of(self.kind, layer);
        (self.target.map(lane), current.map(lane))
    }

    /// How a packet goes to the viewer, or `None` if it does not: nothing before a keyframe,
    /// nothing from before the start. With this packet may begin what flows; its timestamps are
    /// then moved by `shift`, which is told the layer before and by what that one's were.
    pub fn select(
        &mut self,
        packet: &Packet,
        shift: impl FnOnce(Option<(LayerId, u64)>) -> u64,
    ) -> Option<Place> {
        let mut current = self.stay.iter().filter(|stay| stay.layer == packet.layer);
        let is_current = current.next().is_some_and(|it| !it.rewriter.is_numbered_anew(packet));
        if Some(packet.layer) == self.target && !is_current {
            let begins = self.kind == Kind::Audio || packet.keyframe;
            if begins {
                self.begin_at(packet, shift(self.moved()), packet.timestamp, 0);
            }
        }
        let former = self.former.iter_mut().flatten().map(|stay| &mut **stay);
        let mut stays = self.stay.iter_mut().chain(former);
        let can_be = |stay: &&mut Stay| stay.layer == packet.layer && stay.rewriter.reaches(packet);
        let stay = stays.find(can_be)?;
        let verdict = stay.rewriter.take(packet);
        // What is left out may leave a number behind for what is missing before it.
        self.next_out = self.next_out.max(stay.rewriter.next_out());
        let place = stay.place(packet, verdict)?;
        self.newest = self.newest.max(place.timestamp);
        Some(place)
    }

    /// Its stays, latest first.
    fn stays(&self) -> impl Iterator<Item = &Stay> {
        self.stay.iter().chain(self.former.iter().flatten().map(|stay| &**stay))
    }

    /// The layer whose timestamps the viewer has seen last, and what they are moved by.
    pub fn moved(&self) -> Option<(LayerId, u64)> {
        self.stays().next().map(|stay| (stay.layer, stay.shift))
    }

    /// From here on flows what begins with this packet, its timestamps moved by `shift`; what is
    /// older than the timestamp of the `present` takes `least` ticks to send, or more. Tells the
    /// timestamp with which it begins: the present's, or a little later, as it must come after all
    /// that was sent. There is no gap to what flowed before.
    pub fn begin_at(&mut self, packet: &Packet, shift: u64, present: u64, least: u64) -> u64 {
        self.wait();
        let (begins, present) = (packet.timestamp.wrapping_add(shift), present.wrapping_add(shift));
        let next = self.newest.saturating_add(1);
        let follows = next <= present.saturating_add(Self::BACK_MAX);
        let present = if follows { present.max(next) } else { present };
        let past = if present.saturating_sub(begins) <= Self::PAST_MAX {
            Past::between(begins, present, least)
        } else {
            Past::NONE
        };
        self.target = Some(packet.layer);
        let after = After { out: self.next_out, numbers: self.numbers };
        let mut rewriter = Rewriter::begin(packet, after, self.spatial_max(packet.codec));
        rewriter.set_target(self.limits);
        self.stay = Some(Stay { layer: packet.layer, shift, past, rewriter });
        present
    }

    /// Whether a packet with this RTP timestamp is of the past, and goes out compressed.
    pub fn is_past(&self, timestamp: u64) -> bool {
        let stay = self.stay.as_ref();
        stay.is_some_and(|stay| stay.past.covers(timestamp.wrapping_add(stay.shift)))
    }

    /// Nothing new flows until the next start.
    pub fn wait(&mut self) {
        let Some(mut stay) = self.stay.take() else { return };
        self.numbers = stay.rewriter.after().numbers.or(self.numbers);
        stay.rewriter.finish();
        // Of what was sent nothing there is nothing to find.
        if self.next_out > stay.rewriter.first_out() {
            self.former.swap(0, 1);
            self.former[0] = Some(Box::new(stay));
        }
    }

    /// The same, and what flowed before is forgotten: its numbers say nothing any more.
    pub fn forget(&mut self) {
        self.wait();
        self.former = [None, None];
    }

    /// The RTP timestamp with which a packet of this one goes to the viewer, from the layer that
    /// flows.
    pub fn timestamp(&self, timestamp: u64) -> u64 {
        self.stay.as_ref().map_or(timestamp, |stay| stay.timestamp(timestamp))
    }

    /// The extended sequence number after the highest sent; the first one before that.
    pub const fn next_out(&self) -> u64 {
        self.next_out
    }

    /// Audio or video.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it still waits for its start.
    pub const fn is_waiting(&self) -> bool {
        self.stay.is_none()
    }

    /// Whether a packet that went to the viewer is of a layer that is left, or is to be: the
    /// picture goes on without it.
    pub fn leaves(&self, packet: &Packet) -> bool {
        self.target != Some(packet.layer)
    }

    /// The stay in which a packet went to the viewer under this sequence number, the publisher's
    /// own of it, and this one's extended form.
    pub fn source_of(&self, sequence: u16) -> Option<(&Stay, u64, u64)> {
        let newest = self.next_out.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(sequence));
        let out = newest.checked_sub(back)?;
        let stay = self.stays().find(|stay| stay.rewriter.first_out() <= out)?;
        Some((stay, stay.rewriter.source_of(out)?, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::packet::PacketFields;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::Instant;

    fn packet(sequence: u64, keyframe: bool) -> Packet {
        let fields = PacketFields::single(Codec::Vp8, sequence, 0, Instant::now());
        PacketFields { keyframe, ..fields }.with(Vec::new())
    }

    fn of_layer(layer: usize, sequence: u64, timestamp: u64, keyframe: bool) -> Packet {
        let layer = LayerId::at(layer).expect("few");
        Packet { layer, timestamp, ..packet(sequence, keyframe) }
    }

    fn select(subscription: &mut Subscription, packet: &Packet) -> Option<u64> {
        subscription.select(packet, |_| 0).map(|place| place.sequence)
    }

    fn source_of(subscription: &Subscription, sequence: u16) -> Option<(u64, u64)> {
        subscription.source_of(sequence).map(|(_, source, out)| (source, out))
    }

    #[test]
    fn video_begins_at_a_keyframe_and_what_came_before_stays_out() {
        let mut subscription = Subscription::new(Kind::Video, 0x8005);
        assert_eq!(select(&mut subscription, &packet(100, false)), None);
        assert_eq!(select(&mut subscription, &packet(101, true)), Some(5));
        assert_eq!(select(&mut subscription, &packet(100, false)), None);
        assert_eq!(select(&mut subscription, &packet(103, false)), Some(7));
        assert_eq!(select(&mut subscription, &packet(102, false)), Some(6));
        assert_eq!(source_of(&subscription, 6), Some((102, 6)));
        assert_eq!(source_of(&subscription, 8), None, "not sent yet");
        assert_eq!(source_of(&subscription, 4), None, "before the first");
    }

    #[test]
    fn audio_begins_at_once() {
        let mut subscription = Subscription::new(Kind::Audio, 0);
        assert_eq!(select(&mut subscription, &packet(7, false)), Some(0));
    }

    #[test]
    fn a_new_start_leaves_no_gap_and_what_was_before_can_be_asked_for() {
        let mut subscription = Subscription::new(Kind::Video, 0);
        subscription.begin_at(&packet(100, true), 0, 9_000, 0);
        assert_eq!(select(&mut subscription, &packet(100, true)), Some(0));
        assert_eq!(select(&mut subscription, &packet(101, false)), Some(1));
        subscription.begin_at(&packet(500, true), 0, 90_000, 0);
        assert_eq!(select(&mut subscription, &packet(102, false)), None, "its turn is over");
        assert_eq!(select(&mut subscription, &packet(500, true)), Some(2));
        assert_eq!(source_of(&subscription, 1), Some((101, 1)));
        assert_eq!(source_of(&subscription, 2), Some((500, 2)));
        subscription.forget();
        assert_eq!(source_of(&subscription, 2), None, "the numbers are another publisher's");
        assert_eq!(select(&mut subscription, &packet(501, false)), None);
        assert_eq!(select(&mut subscription, &packet(600, true)), Some(3));
    }

    #[test]
    fn another_layer_goes_on_with_its_keyframe_and_the_one_before_is_still_repaired() {
        let mut subscription = Subscription::new(Kind::Video, 0);
        assert_eq!(select(&mut subscription, &of_layer(0, 100, 3_000, true)), Some(0));
        assert_eq!(select(&mut subscription, &of_layer(0, 102, 6_000, false)), Some(2));
        let upper = LayerId::at(1).expect("two");
        subscription.aim(upper);
        assert!(subscription.is_moving());
        assert_eq!(select(&mut subscription, &of_layer(1, 7, 500, false)), None);
        // Its clock is another: what it is moved by is told by what the one before was.
        let place = subscription.select(&of_layer(1, 9, 1_000, true), |before| {
            assert_eq!(before, Some((LayerId::ONLY, 0)));
            8_000
        });
        assert_eq!(place, Some(Place { sequence: 3, timestamp: 9_000, patch: Patch::NONE }));
        assert_eq!(subscription.current(), Some(upper));
        assert_eq!(select(&mut subscription, &of_layer(0, 103, 9_000, false)), None, "it is left");
        assert_eq!(select(&mut subscription, &of_layer(0, 101, 3_000, false)), Some(1), "late");
        let (stay, source, _) = subscription.source_of(1).expect("sent");
        assert_eq!((stay.layer, source), (LayerId::ONLY, 101));
        let (stay, source, _) = subscription.source_of(3).expect("sent");
        assert_eq!((stay.layer, source, stay.timestamp(1_000)), (upper, 9, 9_000));
        // Back before its keyframe has come: nothing happens.
        subscription.aim(LayerId::ONLY);
        subscription.aim(upper);
        assert_eq!(select(&mut subscription, &of_layer(1, 10, 4_000, false)), Some(4));
    }

    /// A receiver that goes back to a codec whose frames are numbered takes lower numbers for late.
    #[test]
    fn numbers_of_frames_go_on_past_a_codec_that_has_none() {
        let mut subscription = Subscription::new(Kind::Video, 0).with_dependencies(true);
        let mut begin = |sequence, codec, number: u8| {
            subscription.forget();
            let packet = packet(sequence, true);
            let dependency = [0xc0, 0, number].repeat(usize::from(codec == Codec::Av1));
            let packet = Packet { codec, dependency, ..packet };
            let patch = subscription.select(&packet, |_| 0).expect("it begins").patch;
            number.wrapping_add(patch.dependency.frame as u8)
        };
        assert_eq!(begin(100, Codec::Av1, 50), 50);
        assert_eq!(begin(200, Codec::Av1, 7), 51);
        begin(300, Codec::H264, 0);
        assert_eq!(begin(400, Codec::Av1, 9), 52);
    }

    /// As encoders do that begin anew under another SSRC.
    #[test]
    fn a_publisher_that_numbers_its_frames_anew_is_gone_on_with_from_its_keyframe() {
        let mut subscription = Subscription::new(Kind::Video, 0).with_dependencies(true);
        let mut select = |sequence, keyframe, number: u16| {
            let [high, low] = number.to_be_bytes();
            let dependency = vec![0xc0, high, low];
            let packet = Packet { codec: Codec::Av1, dependency, ..packet(sequence, keyframe) };
            let place = subscription.select(&packet, |before| before.map_or(0, |(_, by)| by))?;
            Some((place.sequence, number.wrapping_add(place.patch.dependency.frame)))
        };
        assert_eq!(select(100, true, 500), Some((0, 500)));
        assert_eq!(select(101, false, 501), Some((1, 501)));
        assert_eq!(select(104, true, 503), Some((4, 503)), "one like any other");
        assert_eq!(select(102, true, 501), Some((2, 501)), "a late one");
        assert_eq!(select(105, true, 3), Some((5, 504)));
        assert_eq!(select(106, false, 4), Some((6, 505)));
        assert_eq!(select(103, false, 502), Some((3, 502)), "from before that");
    }

    /// A layer's keyframe of a moment whose picture was sent already from the one before.
    #[test]
    fn two_pictures_of_one_moment_have_two_timestamps() {
        let mut subscription = Subscription::new(Kind::Video, 0);
        subscription.select(&of_layer(0, 100, 90_000, true), |_| 0);
        subscription.aim(LayerId::at(1).expect("two"));
        let mut last = 90_000;
        for picture in 0..100 {
            let packet = of_layer(1, 50 + picture, 90_000 + picture * 3_000, picture == 0);
            let place = subscription.select(&packet, |_| 0).expect("it flows");
            assert!(place.timestamp > last);
            last = place.timestamp;
        }
        assert_eq!(last, 90_000 + 99 * 3_000, "and soon it is the publisher's again");
    }

    proptest! {
        /// A decoder must see the pictures in their order, each with a time of its own; the first
        /// is of the present, and the past is over when it has been sent.
        #[test]
        fn compressed_timestamps_keep_the_order_and_run_as_the_time_does(
            first in 1_u64 << 33..1 << 34,
            span in 0_u64..12 * 90_000,
            least in 0_u64..90_000,
            at in 0_u64..1 << 21,
            step in 32_u64..1 << 20,
        ) {
            let present = first + span;
            let past = Past::between(first, present, least);
            let at = first + at;
            prop_assert!(past.compress(at + step) > past.compress(at));
            prop_assert!(past.compress(at + 1) >= past.compress(at));
            prop_assert!(past.compress(at) >= at);
            prop_assert!(past.compress(first) >= present.saturating_sub(1));
            prop_assert!(past.compress(first) <= present + 32);
            let takes = past.ends - present;
            prop_assert_eq!(past.compress(past.ends + at), past.ends + at);
            prop_assert!(takes >= least.min(span) / 2, "{} for {}", takes, least);
        }

        /// However far the publisher's clock was misjudged when the one before began.
        #[test]
        fn a_new_start_comes_after_all_that_was_sent(
            sent in 180_000_u64..1 << 33,
            back in 0_u64..90_000,
            span in 0_u64..90_000,
        ) {
            let mut subscription = Subscription::new(Kind::Video, 0);
            let at = |sequence, timestamp| Packet { timestamp, ..packet(sequence, true) };
            select(&mut subscription, &at(1, sent));
            let first = sent - back;
            subscription.wait();
            let keyframe = at(2, first);
            if span > 0 {
                subscription.begin_at(&keyframe, 0, first + span, 0);
            }
            prop_assert_eq!(select(&mut subscription, &keyframe), Some(1));
            prop_assert!(subscription.timestamp(first) > sent.min(first + back));
            prop_assert!(subscription.timestamp(first + 3_000) > subscription.timestamp(first));
            // Where they go back further, nothing is made of it.
            let anew = Packet { timestamp: 5, ..packet(9, true) };
            subscription.wait();
            select(&mut subscription, &anew);
            prop_assert!(sent < 360_000 || subscription.timestamp(5) == 5);
        }

        /// However a viewer is moved between layers, what it is sent is one stream: each number
        /// stands for one packet, is found again, and leaves no gap but where something is lost.
        #[test]
        fn layers_come_out_as_one_unbroken_stream(
            random: u16,
            steps in prop::collection::vec(
                (0_usize..3, 0_usize..3, 0_u32..40, any::<bool>()),
                1..400,
            ),
        ) {
            let mut subscription = Subscription::new(Kind::Video, random);
            let (mut sent, mut next) = (HashMap::new(), [5_000_u64, 70_000, 1 << 20]);
            let (mut last, mut pictures) = (None, 0);
            for (aimed, layer, lost, keyframe) in steps {
                subscription.aim(LayerId::at(aimed).expect("few"));
                pictures += 1;
                // Each layer counts time from another start.
                let timestamp = (1 << 33) + layer as u64 * 1_000_000 + pictures * 3_000;
                for _ in 0..3 {
                    let sequence = next[layer];
                    next[layer] += 1;
                    if lost == 0 {
                        continue;
                    }
                    let packet = of_layer(layer, sequence, timestamp, keyframe);
                    let moved = |_| 0_u64.wrapping_sub(layer as u64 * 1_000_000);
                    let Some(place) = subscription.select(&packet, moved) else { continue };
                    let source = (layer, sequence);
                    prop_assert_eq!(*sent.entry(place.sequence).or_insert(source), source);
                    let found = subscription.source_of(place.sequence as u16);
                    let found = found.map(|(stay, source, _)| (stay.layer.index(), source));
                    prop_assert_eq!(found, Some(source));
                    if let Some((before, (number, at))) = last {
                        let (before, number): ((usize, u64), u64) = (before, number);
                        prop_assert!(place.timestamp >= at, "back in time");
                        let between = place.sequence - number - 1;
                        let lost = if before.0 == layer { sequence - before.1 - 1 } else { 0 };
                        prop_assert_eq!(between, lost, "a gap of our making");
                    }
                    last = Some((source, (place.sequence, place.timestamp)));
                }
            }
        }

        /// The nonce rule (ARCHITECTURE.md): a sequence number never stands for two packets, and
        /// every one that was sent in the last half turn is found again.
        #[test]
        fn a_sequence_number_stands_for_one_packet(
            random: u16,
            start in 0_u64..1 << 40,
            steps in prop::collection::vec(-40_i64..400, 1..500),
        ) {
            let mut subscription = Subscription::new(Kind::Audio, random);
            let mut sent = HashMap::new();
            let mut source = start + 70_000;
            for step in steps {
                source = source.saturating_add_signed(step);
                if let Some(out) = select(&mut subscription, &packet(source, false)) {
                    prop_assert_eq!(*sent.entry(out).or_insert(source), source);
                    prop_assert_eq!(source_of(&subscription, out as u16), Some((source, out)));
                }
            }
        }
    }

    #[test]
    fn a_clock_set_back_runs_on_at_its_own_pace() {
        let mut subscription = Subscription::new(Kind::Video, 0);
        let at = |sequence, timestamp| Packet { timestamp, ..packet(sequence, true) };
        select(&mut subscription, &at(1, 1 << 33));
        let back = (1 << 33) - 54_000_000;
        let step = subscription.timestamp(back + 3_000) - subscription.timestamp(back);
        assert_eq!(step, 3_000);
    }
}
