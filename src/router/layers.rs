//! What each layer of the video carries, as measured here: by that they are put in order, never by
//! their names.

use crate::codec;
use crate::media::bitrate::Bitrate;
use crate::media::layer::{LayerId, LayerState};
use crate::media::meter::Meter;
use crate::media::packet::Packet;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// The while over which layers are measured: a page that stands still has one picture a second, of
/// which the smallest layer's comes first.
const SPAN: Duration = Duration::from_secs(2);
/// How long nothing has come of a layer that has stopped, while the others went on.
const STOPPED_AFTER: Duration = Duration::from_millis(300);
/// How many pictures of the others came in that time: layers of a still page are slow, all of them.
const STOPPED_AFTER_PICTURES: u32 = 8;
/// Temporal layers that are told apart: L1T3 has three.
const TEMPORAL_MAX: usize = 4;

/// All layers of one publisher.
#[derive(Debug, Default)]
pub struct Layers(Vec<Option<Measured>>);

/// One of them.
#[derive(Debug)]
struct Measured {
    began: Instant,
    /// By temporal layer.
    bytes: [Meter; TEMPORAL_MAX],
    temporal_max: usize,
    spatial_max: u8,
    /// One is counted for each.
    pictures: Meter,
    dimensions: Option<(u16, u16)>,
    last: Instant,
    /// Pictures of others since something came of this one.
    pictures_of_others: u32,
}

impl Measured {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            bytes: std::array::from_fn(|_| Meter::new(SPAN, now)),
            temporal_max: 0,
            spatial_max: 0,
            pictures: Meter::new(SPAN, now),
            dimensions: None,
            last: now,
            pictures_of_others: 0,
        }
    }

    fn is_active(&self, now: Instant) -> bool {
        self.pictures_of_others < STOPPED_AFTER_PICTURES
            || now.saturating_duration_since(self.last) < STOPPED_AFTER
    }

    fn state(&self, layer: LayerId, now: Instant) -> LayerState {
        let mut sum = Bitrate::default();
        let temporal: Vec<_> = self.bytes[..=self.temporal_max]
            .iter()
            .map(|meter| {
                sum = sum + meter.rate_since(self.began, now);
                sum
            })
            .collect();
        // A picture counts as one byte: eight bits a second are one a second.
        let frame_rate = self.pictures.rate_since(self.began, now).as_bps() as f64 / 8.0;
        LayerState {
            layer,
            rid: String::new(),
            bitrate: sum,
            dimensions: self.dimensions,
            frame_rate,
            is_active: self.is_active(now),
            temporal,
            spatial_max: self.spatial_max,
        }
    }
}

impl Layers {
    /// A packet has come that was not here before. True: with it a layer begins, or has others
    /// within it, or its picture has another size.
    pub fn packet(&mut self, packet: &Packet) -> bool {
        let (index, now) = (packet.layer.index(), packet.arrival);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        if self.0.len() > 1 && packet.marker {
            let others = self.0.iter_mut().enumerate().filter(|(other, _)| *other != index);
            for (_, other) in others {
                let Some(other) = other else { continue };
                other.pictures_of_others = other.pictures_of_others.saturating_add(1);
            }
        }
        let is_new = self.0[index].is_none();
        let layer = self.0[index].get_or_insert_with(|| Measured::new(now));
        let was_active = layer.is_active(now);
        layer.last = now;
        layer.pictures_of_others = 0;
        let temporal = usize::from(packet.scale.temporal).min(TEMPORAL_MAX - 1);
        let extent = (layer.temporal_max, layer.spatial_max);
        layer.temporal_max = layer.temporal_max.max(temporal);
        layer.spatial_max = layer.spatial_max.max(packet.scale.spatial);
        layer.bytes[temporal].add(packet.payload.len(), now);
        layer.pictures.add(usize::from(packet.marker), now);
        let before = layer.dimensions;
        if codec::is_keyframe(packet.codec, &packet.payload)
            && let Some(size) = codec::dimensions(packet.codec, &packet.payload)
        {
            layer.dimensions = Some(size);
        }
        let is_extended = extent != (layer.temporal_max, layer.spatial_max);
        is_new || !was_active || is_extended || before != layer.dimensions
    }

    /// Whether something has come of the layer at this place.
    pub fn has_come(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(Option::is_some)
    }

    /// Whether a keyframe of the layer at this place can be had for the asking: it flows, or none
    /// has come of any yet. One that has stopped begins with a keyframe when it comes back.
    pub fn may_answer(&self, index: usize, now: Instant) -> bool {
        match self.0.get(index) {
            Some(Some(layer)) => layer.is_active(now),
            _ => self.0.iter().all(Option::is_none),
        }
    }

    /// What each carries; best first: those that flow before those that have stopped, by the size
    /// of their pictures where all tell it, then by their rates.
    pub fn states(&self, now: Instant) -> Vec<LayerState> {
        let measured = self.0.iter().enumerate();
        let mut states: Vec<_> = measured
            .filter_map(|(index, layer)| Some(layer.as_ref()?.state(LayerId::at(index)?, now)))
            .collect();
        let all_tell = states.iter().all(|state| state.dimensions.is_some());
        states.sort_by_cached_key(|state| {
            let (width, height) = state.dimensions.filter(|_| all_tell).unwrap_or_default();
            let area = u32::from(width) * u32::from(height);
            Reverse((state.is_active, area, state.bitrate.as_bps()))
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

    /// VP8, one-byte descriptor: a key frame of that width and height.
    fn keyframe(width: u8, height: u8) -> Vec<u8> {
        vec![0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, width, 0, height, 0]
    }

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
            size: Option<(u8, u8)>,
        ) -> bool {
            self.sent += 1;
            let mut payload =
                size.map_or(vec![0x10, 0x11], |(width, height)| keyframe(width, height));
            payload.resize(bytes, 0);
            let arrival = self.start + Duration::from_millis(at_ms);
            let fields = PacketFields {
                layer: LayerId::at(layer).expect("few"),
                scale: Scale { temporal: (self.sent % 2) as u8, ..Scale::default() },
                marker: true,
                keyframe: size.is_some(),
                ..PacketFields::single(Codec::Vp8, self.sent, at_ms * 90, arrival)
            };
            self.layers.packet(&fields.with(payload))
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
        let kbps: Vec<u64> = state.temporal.iter().map(|rate| rate.as_bps() / 1_000).collect();
        assert_eq!(kbps, [120, 240]);
        assert_eq!(state.bitrate, state.temporal[1]);
        assert!((29.0..31.0).contains(&state.frame_rate), "{}", state.frame_rate);
    }
}
