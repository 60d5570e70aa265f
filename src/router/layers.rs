//! What each layer of the video carries, as measured here: by that they are put in order, never by
//! their names.

use crate::media::bitrate::Bitrate;
use crate::media::codec::Codec;
use crate::media::layer::{LayerId, LayerState, MadeLayer, SPATIAL_MAX, Sizes, SpatialState};
use crate::media::meter::Meter;
use crate::media::packet::Packet;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The while over which layers are measured: a page that stands still has one picture a second, of
/// which the smallest layer's comes first.
const SPAN: Duration = Duration::from_secs(2);
/// How long nothing has come of a layer that has stopped, while the others went on.
const STOPPED_AFTER: Duration = Duration::from_millis(300);
/// Two seconds of video: timestamps that are further back are those of a clock that was set back.
const BACK_MAX: u64 = 180_000;
/// How many pictures of the others came in that time: layers of a still page are slow, all of them.
const STOPPED_AFTER_PICTURES: u32 = 8;
/// Temporal layers that are told apart: L1T3 has three.
const TEMPORAL_MAX: usize = 4;

/// So long what is made of a layer tells less of it than what it was made for: it begins with a
/// keyframe.
const MADE_KNOWN_AFTER: Duration = Duration::from_secs(2);

/// All layers of one publisher.
#[derive(Debug, Default)]
pub struct Layers {
    measured: Vec<Option<Measured>>,
    /// Those that are made here, behind the publisher's own.
    made: Arc<[MadeLayer]>,
}

/// One of them.
#[derive(Debug)]
struct Measured {
    began: Instant,
    codec: Codec,
    /// By spatial layer, and within that by temporal layer.
    bytes: Vec<[Meter; TEMPORAL_MAX]>,
    temporal_max: usize,
    /// One is counted for each.
    pictures: Meter,
    /// The RTP timestamp of the newest.
    newest: Option<u64>,
    /// As the newest keyframe that told any has told them.
    sizes: Sizes,
    last: Instant,
    /// Pictures of others since something came of this one.
    pictures_of_others: u32,
}

impl Measured {
    fn new(codec: Codec, now: Instant) -> Self {
        Self {
            began: now,
            codec,
            bytes: Vec::with_capacity(1),
            temporal_max: 0,
            pictures: Meter::new(SPAN, now),
            newest: None,
            sizes: Sizes::default(),
            last: now,
            pictures_of_others: 0,
        }
    }

    fn is_active(&self, now: Instant) -> bool {
        self.pictures_of_others < STOPPED_AFTER_PICTURES
            || now.saturating_duration_since(self.last) < STOPPED_AFTER
    }

    /// Whether a picture begins with this packet, whichever of its packets it is: of a full queue
    /// on the way in the last ones of each may be lost. Takes note of it.
    fn begins_picture(&mut self, packet: &Packet) -> bool {
        // A clock that is set back goes on from there.
        let is_behind = |newest: u64| newest.saturating_sub(BACK_MAX)..=newest;
        if self.newest.is_some_and(|newest| is_behind(newest).contains(&packet.timestamp)) {
            return false;
        }
        self.newest = Some(packet.timestamp);
        true
    }

    /// Counts a packet's bytes.
    fn count(&mut self, packet: &Packet, now: Instant) {
        let temporal = usize::from(packet.scale.temporal).min(TEMPORAL_MAX - 1);
        let spatial = usize::from(packet.scale.spatial).min(SPATIAL_MAX - 1);
        self.temporal_max = self.temporal_max.max(temporal);
        while self.bytes.len() <= spatial {
            self.bytes.push(std::array::from_fn(|_| Meter::new(SPAN, now)));
        }
        self.bytes[spatial][temporal].add(packet.payload.len(), now);
    }

    /// How many temporal and spatial layers there are. Where keyframes tell the sizes of several
    /// spatial layers, there are no others: a publisher leaves out the highest at times.
    fn extent(&self) -> (usize, usize) {
        let spatial = if self.sizes.len() > 1 { self.sizes.len() } else { self.bytes.len() };
        (self.temporal_max + 1, spatial)
    }

    /// What each spatial layer carries with those below it.
    fn spatial(&self, now: Instant) -> Vec<SpatialState> {
        let (temporal_count, spatial_count) = self.extent();
        let mut rates = [Bitrate::default(); TEMPORAL_MAX];
        let mut rows = self.bytes.iter();
        let mut states = Vec::with_capacity(spatial_count);
        for spatial in 0..spatial_count {
            let is_highest = spatial + 1 == spatial_count;
            // Whatever is above the highest that is told belongs to it.
            for row in rows.by_ref().take(if is_highest { SPATIAL_MAX } else { 1 }) {
                for (rate, meter) in rates.iter_mut().zip(row) {
                    *rate = *rate + meter.rate_since(self.began, now);
                }
            }
            let mut sum = Bitrate::default();
            let up_to = |rate: &Bitrate| {
                sum = sum + *rate;
                sum
            };
            let temporal = rates[..temporal_count].iter().map(up_to).collect();
            let own = self.sizes.get(spatial).filter(|_| self.sizes.len() == spatial_count);
            states.push(SpatialState { dimensions: own, temporal });
        }
        states
    }

    fn state(&self, layer: LayerId, now: Instant) -> LayerState {
        let spatial = self.spatial(now);
        let highest = spatial.last().and_then(|highest| highest.temporal.last());
        let bitrate = highest.copied().unwrap_or_default();
        // A picture counts as one byte: eight bits a second are one a second.
        let frame_rate = self.pictures.rate_since(self.began, now).as_bps() as f64 / 8.0;
        LayerState {
            layer,
            rid: String::new(),
            codec: Some(self.codec),
            bitrate,
            dimensions: self.sizes.largest(),
            frame_rate,
            is_active: self.is_active(now),
            is_made: false,
            is_idle: false,
            is_withdrawn: false,
            spatial,
        }
    }
}

impl Layers {
    /// A packet has come that was not here before. True: with it a layer begins, or has others
    /// within it, or its picture has another size.
    pub fn packet(&mut self, packet: &Packet) -> bool {
        let (index, now) = (packet.layer.index(), packet.arrival);
        let Self { measured, .. } = self;
        if measured.len() <= index {
            measured.resize_with(index + 1, || None);
        }
        let is_new = measured[index].is_none();
        let layer = measured[index].get_or_insert_with(|| Measured::new(packet.codec, now));
        let was_active = layer.is_active(now);
        let begins_picture = layer.begins_picture(packet);
        layer.last = now;
        layer.codec = packet.codec;
        layer.pictures_of_others = 0;
        let before = (layer.extent(), layer.sizes);
        let has_spatial = packet.codec.has_spatial_layers();
        // What no viewer is sent does not count.
        if has_spatial || packet.scale.spatial == 0 {
            layer.count(packet, now);
        }
        layer.pictures.add(usize::from(begins_picture), now);
        if !packet.sizes.is_empty() {
            layer.sizes = if has_spatial { packet.sizes } else { packet.sizes.get(0).into() };
        }
        let has_changed = is_new || !was_active || before != (layer.extent(), layer.sizes);
        if begins_picture {
            self.count_for_others(index);
        }
        has_changed
    }

    /// A picture has come of the layer at this place.
    fn count_for_others(&mut self, index: usize) {
        let others = self.measured.iter_mut().enumerate().filter(|(other, _)| *other != index);
        for other in others.filter_map(|(_, other)| other.as_mut()) {
            other.pictures_of_others = other.pictures_of_others.saturating_add(1);
        }
    }

    /// Whether something has come of the layer at this place.
    pub fn has_come(&self, index: usize) -> bool {
        self.measured.get(index).is_some_and(Option::is_some)
    }

    /// Whether a keyframe of the layer at this place can be had for the asking: it flows, or none
    /// has come of any yet. One that has stopped begins with a keyframe when it comes back. What is
    /// made here is made for the asking.
    pub fn may_answer(&self, index: usize, now: Instant) -> bool {
        if let Some(made) = self.made_at(index) {
            return made.is_available;
        }
        match self.measured.get(index) {
            Some(Some(layer)) => layer.is_active(now),
            _ => self.measured.iter().all(Option::is_none),
        }
    }

    /// These are made here from now on.
    pub fn set_made(&mut self, made: Arc<[MadeLayer]>) {
        self.made = made;
    }

    /// Those that are made here.
    pub const fn made(&self) -> &Arc<[MadeLayer]> {
        &self.made
    }

    /// The layer at this place, if it is made here.
    pub fn made_at(&self, index: usize) -> Option<&MadeLayer> {
        self.made.get(MadeLayer::index(LayerId::at(index)?)?)
    }

    /// A layer is no longer made: it can be had as if nothing had come of it.
    pub fn forget(&mut self, layer: LayerId) {
        if let Some(measured) = self.measured.get_mut(layer.index()) {
            *measured = None;
        }
    }

    /// What a layer carries that is made here.
    fn made_state(&self, made: &MadeLayer, layer: LayerId, now: Instant) -> LayerState {
        let wanted = made.state(layer);
        let Some(Some(measured)) = self.measured.get(layer.index()) else { return wanted };
        let is_active = measured.is_active(now);
        if now < measured.began + MADE_KNOWN_AFTER {
            return LayerState { is_active, is_idle: false, ..wanted };
        }
        let state = measured.state(layer, now);
        LayerState {
            is_active,
            rid: wanted.rid,
            is_made: true,
            is_withdrawn: wanted.is_withdrawn,
            dimensions: state.dimensions.or(wanted.dimensions),
            ..state
        }
    }

    /// What each carries; best first: those that flow before those that have stopped, by the size
    /// of their pictures where all tell it, the publisher's own before what is made of it, then by
    /// their rates.
    pub fn states(&self, now: Instant) -> Vec<LayerState> {
        let measured = self.measured.iter().enumerate();
        let mut states: Vec<_> = measured
            .filter(|(index, _)| self.made_at(*index).is_none())
            .filter_map(|(index, layer)| Some(layer.as_ref()?.state(LayerId::at(index)?, now)))
            .collect();
        let made = self.made.iter().enumerate();
        let made = made.filter_map(|(index, made)| Some((made, MadeLayer::id(index)?)));
        states.extend(made.map(|(made, layer)| self.made_state(made, layer, now)));
        let all_tell = states.iter().all(|state| state.dimensions.is_some());
        states.sort_by_cached_key(|state| {
            let (width, height) = state.dimensions.filter(|_| all_tell).unwrap_or_default();
            let area = u32::from(width) * u32::from(height);
            Reverse((state.is_active, area, !state.is_made, state.bitrate.as_bps()))
        });
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::layer::Scale;
    use crate::media::packet::PacketFields;

    struct Feed {
        start: Instant,
        sent: u64,
        layers: Layers,
    }

    impl Feed {
        fn new() -> Self {
            Self { start: Instant::now(), sent: 0, layers: Layers::default() }
        }

        fn picture(
            &mut self,
            layer: usize,
            bytes: usize,
            at_ms: u64,
            size: Option<(u16, u16)>,
        ) -> bool {
            self.packet(layer, (bytes, true), at_ms, size)
        }

        fn packet(
            &mut self,
            layer: usize,
            (bytes, marker): (usize, bool),
            at_ms: u64,
            size: Option<(u16, u16)>,
        ) -> bool {
            self.sent += 1;
            let arrival = self.start + Duration::from_millis(at_ms);
            let fields = PacketFields {
                layer: LayerId::at(layer).expect("few"),
                scale: Scale { temporal: (self.sent % 2) as u8, ..Scale::default() },
                marker,
                keyframe: size.is_some(),
                sizes: size.into(),
                ..PacketFields::single(Codec::Vp8, self.sent, at_ms * 90, arrival)
            };
            self.layers.packet(&fields.with(vec![0; bytes]))
        }

        fn order(&self, at_ms: u64) -> Vec<usize> {
            let states = self.layers.states(self.start + Duration::from_millis(at_ms));
            states.iter().map(|state| state.layer.index()).collect()
        }
    }

    #[test]
    fn layers_are_ordered_by_what_they_carry() {
        let mut feed = Feed::new();
        for picture in 0..60 {
            for (layer, bytes) in [(0, 100), (1, 900), (2, 300)] {
                feed.picture(layer, bytes, picture * 33, None);
            }
        }
        assert_eq!(feed.order(2_000), [1, 2, 0]);
        // Sizes say more than rates, once all are known.
        for (layer, side) in [(0, 160), (1, 90), (2, 120)] {
            assert!(feed.picture(layer, 20, 2_000, Some((side, side))), "its size is new");
        }
        assert_eq!(feed.order(2_000), [0, 2, 1]);
        assert!(!feed.picture(0, 20, 2_033, Some((160, 160))));
    }

    #[test]
    fn a_layer_that_stops_is_noticed_and_noticed_again_when_it_is_back() {
        let mut feed = Feed::new();
        for picture in 0..30 {
            feed.picture(0, 100, picture * 33, None);
            feed.picture(1, 900, picture * 33, None);
        }
        assert_eq!(feed.order(1_000), [1, 0]);
        for picture in 30..45 {
            feed.picture(0, 100, picture * 33, None);
        }
        let states = feed.layers.states(feed.start + Duration::from_millis(45 * 33));
        assert_eq!(feed.order(45 * 33), [0, 1]);
        assert!(states[0].is_active && !states[1].is_active);
        assert!(feed.picture(1, 900, 46 * 33, None));
        assert_eq!(feed.order(46 * 33), [1, 0]);
    }

    /// Else a viewer would be moved to it, and to what was kept of it long ago.
    #[test]
    fn a_layer_that_stops_is_noticed_though_no_picture_of_the_others_comes_whole() {
        let mut feed = Feed::new();
        for picture in 0..45 {
            feed.packet(0, (100, false), picture * 33, None);
            if picture < 30 {
                feed.picture(1, 900, picture * 33, None);
            }
        }
        assert_eq!(feed.order(44 * 33), [0, 1]);
    }

    #[test]
    fn layers_of_a_page_that_stands_still_have_not_stopped() {
        let mut feed = Feed::new();
        for second in 0..5 {
            feed.picture(0, 100, second * 1_000, None);
            feed.picture(1, 900, second * 1_000 + 20, None);
        }
        let states = feed.layers.states(feed.start + Duration::from_millis(4_900));
        assert!(states.iter().all(|state| state.is_active));
        assert_eq!(feed.order(4_900), [1, 0]);
    }

    #[test]
    fn rates_are_told_up_to_each_temporal_layer_from_the_first_moment_on() {
        let mut feed = Feed::new();
        for picture in 0..30 {
            feed.picture(0, 1_000, picture * 33, None);
        }
        let state = &feed.layers.states(feed.start + Duration::from_secs(1))[0];
        let temporal = &state.spatial[0].temporal;
        let kbps: Vec<u64> = temporal.iter().map(|rate| rate.as_bps() / 1_000).collect();
        assert_eq!(kbps, [120, 240]);
        assert_eq!(state.bitrate, temporal[1]);
        assert!((29.0..31.0).contains(&state.frame_rate), "{}", state.frame_rate);
    }

    /// A second of pictures in so many spatial layers, of which the keyframe tells these sizes.
    fn scalable(
        feed: &mut Feed,
        codec: Codec,
        bytes: &[usize],
        sizes: Sizes,
        from: u64,
    ) -> LayerState {
        for picture in 0..30 {
            let at_ms = from + picture * 33;
            let arrival = feed.start + Duration::from_millis(at_ms);
            for (spatial, bytes) in bytes.iter().enumerate() {
                feed.sent += 1;
                let is_start = picture == 0 && spatial == 0;
                let temporal = (picture % 2) as u8;
                let fields = PacketFields {
                    scale: Scale { spatial: spatial as u8, temporal, ..Scale::default() },
                    keyframe: is_start,
                    sizes: if is_start { sizes } else { Sizes::default() },
                    ..PacketFields::single(codec, feed.sent, at_ms * 90, arrival)
                };
                feed.layers.packet(&fields.with(vec![0; *bytes]));
            }
        }
        feed.layers.states(feed.start + Duration::from_millis(from + 1_000)).swap_remove(0)
    }

    #[test]
    fn spatial_layers_are_told_with_those_below_and_with_their_own_sizes() {
        let three = [(320, 180), (640, 360), (1280, 720)];
        let all = three.into_iter().fold(Sizes::default(), Sizes::with);
        let state = scalable(&mut Feed::new(), Codec::Vp9, &[100, 400, 1_500], all, 0);
        let kbps = |it: &SpatialState| -> Vec<u64> {
            it.temporal.iter().map(|rate| rate.as_bps() / 1_000).collect()
        };
        let of = |state: &LayerState| -> Vec<_> {
            state.spatial.iter().map(|it| (it.dimensions, kbps(it))).collect()
        };
        let [lowest, middle, highest] = three.map(Some);
        let expected = [(lowest, vec![12, 24]), (middle, vec![60, 120]), (highest, vec![240, 480])];
        assert_eq!(of(&state), expected);
        assert_eq!((state.bitrate, state.dimensions), (Bitrate::kbps(480), highest));
        assert_eq!((state.spatial_max(), state.temporal_max()), (2, 1));
        // Of the whole alone nothing is known of those below.
        let whole = scalable(&mut Feed::new(), Codec::Av1, &[100, 400], highest.into(), 0);
        assert_eq!(of(&whole), [(None, vec![12, 24]), (None, vec![60, 120])]);
    }

    #[test]
    fn of_what_receivers_cannot_put_together_the_lowest_spatial_layer_is_what_there_is() {
        let sizes = [(320, 180), (640, 360)].into_iter().fold(Sizes::default(), Sizes::with);
        let state = scalable(&mut Feed::new(), Codec::H264, &[100, 400], sizes, 0);
        assert_eq!((state.spatial_max(), state.dimensions), (0, Some((320, 180))));
        assert_eq!(state.bitrate, Bitrate::kbps(24));
    }

    /// As browsers do where their link or their machine gives way.
    #[test]
    fn spatial_layers_that_are_left_out_from_a_keyframe_on_are_not_told() {
        let sizes = [(320, 180), (640, 360)].into_iter().fold(Sizes::default(), Sizes::with);
        let mut feed = Feed::new();
        assert_eq!(
            scalable(&mut feed, Codec::Vp9, &[100, 400, 1_500], sizes.with((1280, 720)), 0)
                .spatial
                .len(),
            3
        );
        let less = scalable(&mut feed, Codec::Vp9, &[100, 400], sizes, 1_000);
        assert_eq!((less.spatial_max(), less.dimensions), (1, Some((640, 360))));
    }
}
