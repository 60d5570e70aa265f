//! A publisher of layers, a link that loses, and a viewer that knows what each frame refers to.

use super::described::descriptor;
use super::*;
use std::collections::BTreeMap;

/// One frame of the publisher's.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) scale: Scale,
    pub(super) is_key: bool,
    /// What it refers to.
    pub(super) references: Vec<usize>,
    pub(super) packets: Vec<Packet>,
}

/// What is left to chance.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a lane is encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    pub(super) codec: Codec,
    pub(super) spatial: u8,
    pub(super) temporal: u8,
}

pub(super) const VP8: Encoding = Encoding { codec: Codec::Vp8, spatial: 1, temporal: 3 };
/// `L3T3_KEY`: spatial layers refer to each other in keyframes only.
pub(super) const SVC: Encoding = Encoding { codec: Codec::Vp9, spatial: 3, temporal: 3 };

/// The same, where nothing but the dependency descriptor says so.
pub(super) const DESCRIBED: Encoding = Encoding { codec: Codec::Av1, ..SVC };

/// Where a lane's numbers begin: anywhere, so that all of them wrap now and then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) sequence: u64,
    pub(super) timestamp: u64,
    pub(super) picture: u16,
    pub(super) base: u8,
}

impl Origin {
    /// The first number in dependency descriptors: 16 bits of it.
    const fn frame(self) -> u16 {
        self.picture << 1
    }
}

/// Some pictures of a lane, the first a keyframe.
pub(super) fn encode(
    encoding: Encoding,
    pictures: usize,
    origin: Origin,
    chance: &mut Chance,
) -> Vec<Frame> {
    let Origin { mut sequence, mut timestamp, mut picture, mut base } = origin;
    let mut frames: Vec<Frame> = Vec::new();
    for number in 0..pictures {
        let is_key = number == 0 || chance.percent(2);
        let pattern = [0, 2, 1, 2][number % 4].min(encoding.temporal - 1);
        let temporal = if is_key || chance.percent(5) { 0 } else { pattern };
        let is_switch = temporal > 0 && chance.percent(30);
        timestamp += 1 + chance.below(6_000);
        picture = (picture + 1) & 0x7fff;
        base = base.wrapping_add(u8::from(temporal == 0));
        for spatial in 0..encoding.spatial {
            let index = frames.len();
            let newest = |spatial: u8, temporal: u8| {
                frames
                    .iter()
                    .rposition(|it| it.scale.spatial == spatial && it.scale.temporal == temporal)
            };
            let mut references = Vec::new();
            if is_key {
                references.extend((spatial > 0).then(|| index - 1));
            } else {
                references.extend(newest(spatial, 0));
                // What was before the newest keyframe is not referred to any more.
                let key = frames.iter().rposition(|it| it.is_key).unwrap_or(0);
                let lower = (1..temporal).filter_map(|layer| newest(spatial, layer));
                references.extend(lower.filter(|it| *it > key));
                let own = newest(spatial, temporal).filter(|it| !is_switch && *it > key);
                references.extend(own);
            }
            let count = 1 + chance.below(3);
            let packets = (0..count).map(|at| {
                let ends = at + 1 == count;
                let marker = ends && spatial + 1 == encoding.spatial;
                let scale = Scale { spatial, temporal, is_switch, ends };
                let [high, low] = picture.to_be_bytes();
                let start = if at == 0 { 0x90 } else { 0x80 };
                let payload = match encoding.codec {
                    Codec::Vp8 => {
                        vec![start, 0xe0, 0x80 | high, low, base, temporal << 6, at as u8]
                    }
                    _ => vec![at as u8],
                };
                Packet {
                    codec: encoding.codec,
                    layer: LayerId::ONLY,
                    scale,
                    sequence: sequence + at,
                    timestamp,
                    marker,
                    keyframe: is_key && spatial == 0 && at == 0,
                    sizes: Sizes::default(),
                    arrival: Instant::now(),
                    payload,
                    dependency: match encoding.codec {
                        Codec::Av1 => {
                            let has_structure = is_key && spatial == 0 && at == 0;
                            let number = origin.frame().wrapping_add(index as u16);
                            let place = [at == 0, ends];
                            descriptor(place, scale, number, origin.base % 64, has_structure)
                        }
                        _ => Vec::new(),
                    },
                }
            });
            let packets: Vec<Packet> = packets.collect();
            sequence += count;
            let scale = packets[0].scale;
            frames.push(Frame { scale, is_key, references, packets });
        }
    }
    frames
}

/// What came of a stay.
pub(super) struct Stay {
    pub(super) rewriter: Rewriter,
    pub(super) frames: Vec<Frame>,
    /// Sequence numbers of the packets that came.
    pub(super) came: HashSet<u64>,
    pub(super) sent: HashMap<u64, Verdict>,
    pub(super) first_out: u64,
    /// Nothing was lost or late.
    pub(super) is_orderly: bool,
}

impl Stay {
    /// Lets a lane flow to the viewer over a bad link, with changes of the target on the way.
    pub(super) fn play(
        frames: Vec<Frame>,
        after: After,
        loss: u64,
        delay: u64,
        chance: &mut Chance,
    ) -> Self {
        let mut order = Vec::new();
        let mut is_orderly = true;
        for (at, packet) in frames.iter().flat_map(|it| &it.packets).enumerate() {
            let is_first = at == 0;
            if !is_first && chance.percent(loss) {
                is_orderly = false;
                continue;
            }
            let late = if is_first || !chance.percent(20) { 0 } else { chance.below(delay + 1) };
            is_orderly &= late == 0;
            order.push((at as u64 + late, packet));
        }
        order.sort_by_key(|(at, _)| *at);
        let mut rewriter = Rewriter::begin(order[0].1, after, u8::MAX);
        let (mut sent, mut came) = (HashMap::new(), HashSet::new());
        let (mut target, mut newest) = (Limits::ALL, 0);
        for (_, packet) in &order {
            if chance.percent(3) {
                let layer = |chance: &mut Chance| [0, 1, 2, u8::MAX][chance.below(4) as usize];
                target = Limits { spatial: layer(chance), temporal: layer(chance) };
                rewriter.set_target(target);
            }
            let verdict = rewriter.take(packet);
            came.insert(packet.sequence);
            if packet.timestamp > newest {
                newest = packet.timestamp;
                let is_sent = matches!(verdict, Verdict::Send(_, patch) if !patch.is_blank);
                assert!(!is_sent || target.pass(packet), "what is too much stops at once");
            }
            assert_eq!(rewriter.again(packet), verdict);
            sent.insert(packet.sequence, verdict);
        }
        Self { rewriter, came, sent, first_out: after.out, is_orderly, frames }
    }

    pub(super) fn is_sent(&self, packet: &Packet) -> bool {
        let verdict = self.sent.get(&packet.sequence);
        matches!(verdict, Some(Verdict::Send(_, patch)) if !patch.is_blank)
    }

    /// Whether nothing of a frame was kept back.
    pub(super) fn is_whole(&self, frame: &Frame) -> bool {
        let mut came = frame.packets.iter().filter(|it| self.came.contains(&it.sequence));
        came.all(|packet| self.is_sent(packet))
    }

    pub(super) fn is_any_sent(&self, frame: &Frame) -> bool {
        frame.packets.iter().any(|packet| self.is_sent(packet))
    }

    /// Every number that is missing is that of a packet which never came.
    pub(super) fn has_no_gaps(&self) {
        let mut outs = BTreeMap::new();
        for (sequence, verdict) in &self.sent {
            if let Verdict::Send(out, _) = verdict {
                assert_eq!(outs.insert(*out, *sequence), None, "a number for two packets");
            }
        }
        for out in self.first_out..self.rewriter.next_out() {
            let source = self.rewriter.source_of(out).expect("none is forgotten so soon");
            match outs.get(&out) {
                Some(sequence) => assert_eq!(source, *sequence),
                None => assert!(!self.came.contains(&source), "{out} is missing, {source} came"),
            }
        }
        assert_eq!(self.rewriter.source_of(self.rewriter.next_out()), None);
        assert!(outs.range(self.rewriter.next_out()..).next().is_none());
    }

    /// Whatever is sent can be decoded, as far as the link allows.
    pub(super) fn is_decodable(&self) {
        for frame in self.frames.iter().filter(|frame| self.is_any_sent(frame)) {
            assert!(self.is_whole(frame), "half a frame: {frame:?}");
            for reference in &frame.references {
                let reference = &self.frames[*reference];
                assert!(self.is_whole(reference), "{frame:?} lacks {reference:?}");
            }
        }
    }

    /// Each picture has one end.
    pub(super) fn pictures_end(&self) {
        let mut pictures: BTreeMap<u64, Vec<&Packet>> = BTreeMap::new();
        for packet in self.frames.iter().flat_map(|it| &it.packets) {
            pictures.entry(packet.timestamp).or_default().push(packet);
        }
        for packets in pictures.values() {
            if packets.iter().any(|packet| !self.came.contains(&packet.sequence)) {
                continue;
            }
            let sent = packets.iter().filter(|packet| self.is_sent(packet));
            let ends: Vec<bool> = sent
                .map(|packet| match self.sent[&packet.sequence] {
                    Verdict::Send(_, patch) => packet.marker || patch.marker,
                    Verdict::Drop => false,
                })
                .collect();
            if let Some((last, others)) = ends.split_last() {
                assert!(*last && !others.contains(&true), "{ends:?}");
            }
        }
    }

    /// Picture ids and counts of base layer frames as the viewer sees them.
    pub(super) fn numbers(&self) -> Vec<(u16, u8, u8)> {
        let mut numbers = Vec::new();
        for frame in &self.frames {
            let sent = frame.packets.iter().filter(|packet| self.is_sent(packet));
            let seen: HashSet<(u16, u8)> = sent
                .map(|packet| {
                    let Verdict::Send(_, patch) = self.sent[&packet.sequence] else {
                        unreachable!("it is sent")
                    };
                    let mut payload = packet.payload.clone();
                    payload[..patch.head().len()].copy_from_slice(patch.head());
                    assert_eq!(payload[5..], packet.payload[5..], "no more than numbers differ");
                    let own = Descriptor::read(packet.codec, &payload).expect("well-formed");
                    let picture = own.picture_id.expect("patched, not removed").value;
                    (picture, own.base_index.expect("patched, not removed").value)
                })
                .collect();
            assert!(seen.len() <= 1, "a frame has one picture id");
            numbers.extend(seen.iter().map(|(id, base)| (*id, *base, frame.scale.temporal)));
        }
        numbers
    }

    pub(super) fn numbers_go_on(&self, before: Numbers) {
        let mut before = before.picture.zip(before.base);
        for (picture, base, temporal) in self.numbers() {
            if let Some((last, last_base)) = before {
                let ahead = picture.wrapping_sub(last) & 0x7fff;
                assert!((1..1_000).contains(&ahead), "{last} {picture}");
                let base_ahead = base.wrapping_sub(last_base);
                if self.is_orderly {
                    assert_eq!(ahead, 1, "{last} {picture}");
                    assert_eq!(base_ahead, u8::from(temporal == 0));
                }
                assert!(base_ahead < 100);
            }
            before = Some((picture, base));
        }
        let after = self.rewriter.after().numbers;
        let (picture, base) = before.expect("the keyframe was sent");
        let ahead = after.picture.expect("known").wrapping_sub(picture) & 0x7fff;
        // What follows comes after all that was sent, or might yet be.
        assert!(ahead < 1_000 && (!self.is_orderly || ahead == 0), "{picture} {after:?}");
        assert!(after.base.is_some_and(|after| after.wrapping_sub(base) < 100));
    }
}
