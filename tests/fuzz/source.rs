//! A publisher's packets, clocks and frames as a tap gives them, mixed up at will.

use millrace::codec::configuration::VideoConfiguration;
use millrace::codec::is_keyframe;
use millrace::egress::source::{Found, Source};
use millrace::engine::message::Term;
use millrace::engine::tap::Tapped;
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::frame::{AudioCoding, Coding, Frame};
use millrace::media::id::SessionId;
use millrace::media::layer::{Lane, LayerId, Scale, Sizes};
use millrace::media::packet::Packet;
use millrace::media::sample::Sample;
use millrace::media::time::{Epoch, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What must hold of what is found.
#[derive(Default)]
struct Check {
    is_there: bool,
    /// Where the newest of each lane is decoded.
    last: BTreeMap<Lane, i64>,
    /// These layers come with a start only; so do those of which nothing came.
    flowing: BTreeSet<LayerId>,
}

impl Check {
    fn found(&mut self, found: Found) {
        assert!(self.is_there || matches!(found, Found::Began { .. }));
        match found {
            Found::Began { .. } => {
                *self = Self { is_there: true, ..Self::default() };
            }
            Found::Left => self.is_there = false,
            Found::Gap(layer) => drop(self.flowing.remove(&layer)),
            Found::Layers(layers) => assert!(layers.is_empty()),
            Found::NeedsMade(_) => {}
            Found::NotPlayable(reason) => assert!(reason.len() < 200),
            Found::Sample(sample) => self.sample(&sample),
        }
    }

    fn sample(&mut self, sample: &Sample) {
        let lane = Lane::of(sample.coding.kind(), sample.layer);
        let last = self.last.insert(lane, sample.decode_ticks);
        assert!(last.is_none_or(|last| last < sample.decode_ticks), "{last:?} {sample:?}");
        let Coding::Video(codec) = sample.coding else { return assert!(sample.starts) };
        let is_new = self.flowing.insert(sample.layer);
        assert!(sample.starts || !is_new);
        let read = sample.starts.then(|| VideoConfiguration::read(codec, &sample.data));
        assert!(read.is_none_or(|read| read.is_some()));
    }
}

/// So many layers are sent.
const LAYERS: usize = 3;

/// Steps of a head of eight bytes each, and what it says that follows.
pub(crate) fn source(mut bytes: &[u8]) {
    let start = Instant::now() + Duration::from_hours(1);
    let wall = WallTime::since_unix_epoch(Duration::from_hours(500_000));
    let (mut source, mut now) = (Source::new(Epoch { instant: start, wall }), start);
    let mut check = Check::default();
    let term = |id: u8| Term { since: start, session: SessionId::from_random([id; 16]) };
    let (takes_requests, keyframes_apart) = (true, None);
    source.take(Tapped::Began { term: term(0), takes_requests, keyframes_apart }, now, &mut |it| {
        check.found(it);
    });
    let mut lanes: BTreeMap<Lane, (u64, u64)> = BTreeMap::new();
    while let Some((&[what, codec, step, ahead, turn, shift, passed, len], rest)) =
        bytes.split_first_chunk()
    {
        let (data, rest) = rest.split_at(usize::from(len).min(rest.len()));
        bytes = rest;
        now += Duration::from_millis(u64::from(passed) << (shift & 3));
        while let Some(deadline) = source.deadline().filter(|deadline| *deadline <= now) {
            source.handle_timeout(now, &mut |it| check.found(it));
            assert_ne!(source.deadline(), Some(deadline), "what is overdue is given up");
        }
        let layer = LayerId::at(usize::from(codec) / Codec::ALL.len() % LAYERS).unwrap_or_default();
        let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
        let kind = codec.kind();
        let lane = Lane::of(kind, layer);
        let (sequence, timestamp) = lanes.entry(lane).or_insert((1 << 16, 1 << 32));
        *sequence = sequence.wrapping_add_signed(i64::from(step.cast_signed()));
        let turned = i64::from(turn.cast_signed()) << (shift >> 2 & 31);
        *timestamp = timestamp.wrapping_add_signed(turned) & ((1 << 40) - 1);
        let packet = |ahead: u8| Packet {
            codec,
            layer,
            scale: Scale::default(),
            sequence: sequence.wrapping_add(u64::from(ahead)),
            timestamp: *timestamp,
            marker: what & 0x80 != 0,
            keyframe: is_keyframe(codec, data),
            sizes: Sizes::default(),
            arrival: now,
            payload: data.to_vec(),
            dependency: Vec::new(),
        };
        let parameters = String::from_utf8_lossy(data).into_owned();
        let tapped = match what & 15 {
            0 => Tapped::Began { term: term(ahead), takes_requests, keyframes_apart },
            1 => Tapped::Left(term(ahead)),
            2 => Tapped::Lost,
            3 => Tapped::Formats([None, Some(Format { codec, parameters })]),
            4 => {
                let wall = wall.offset_micros(i64::from(ahead) * 7_000);
                Tapped::Clock { lane, timestamp: *timestamp, wall }
            }
            5 => {
                let coding = match kind {
                    Kind::Video => Coding::Video(codec),
                    Kind::Audio => Coding::Audio(AudioCoding::Mpeg),
                };
                let decode_ticks = timestamp.cast_signed();
                let present_ticks = decode_ticks + i64::from(ahead);
                let (arrival, data) = (now, data.to_vec().into());
                let frame = Frame { coding, decode_ticks, present_ticks, arrival, data };
                Tapped::Frame(frame, wall)
            }
            6 => Tapped::Made([Arc::new(packet(ahead))].into()),
            _ => Tapped::Packets([Arc::new(packet(ahead)), Arc::new(packet(0))].into()),
        };
        source.take(tapped, now, &mut |it| check.found(it));
    }
}
