//! What the publishers have sent, and what of it has reached the server.

use crate::publisher::{Carried, Publishing, lane_at, lane_index};
use crate::scalable::{Frame, Mode, unnumbered};
use millrace::media::codec::{Codec, Kind};
use millrace::media::layer::Lane;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::time::{Duration, Instant};

/// One packet as its publisher has sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Original {
    /// A keyframe begins with it.
    pub(crate) begins: bool,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    /// How long after its publisher began.
    pub(crate) captured: Duration,
    /// Which frame it is of, where frames can be left out.
    pub(crate) frame: Option<usize>,
    /// Its frame ends with it.
    pub(crate) ends: bool,
    /// Which of the publisher's packets to reach the server it was, counted from one; zero before.
    pub(crate) rank: usize,
    arrived: Option<Instant>,
}

/// A packet has reached the server for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) lane: Lane,
    pub(crate) index: usize,
    /// It came so late that the server need not pass it on.
    pub(crate) late: bool,
}

/// A frame that can be left out, or that others refer to, with the numbers of its packets.
#[derive(Debug)]
struct Known {
    frame: Frame,
    packets: Range<usize>,
}

/// One publisher.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) stream: String,
    codec: Codec,
    mode: Mode,
    /// Whether it sends keyframes when asked, over links that lose nothing.
    pub(crate) obliges: bool,
    pub(crate) connected: Option<Instant>,
    pub(crate) ended: bool,
    /// What pictures take, by lane.
    takes: Vec<usize>,
    /// By lane.
    packets: Vec<Vec<Original>>,
    /// The frames of each lane, where some can be left out.
    frames: Vec<Vec<Known>>,
    /// What dependency descriptors say, by lane and packet.
    descriptors: HashMap<(usize, usize), Vec<u8>>,
    /// The lowest packet of each lane that is still taken, once any has been let go.
    low: Vec<Option<usize>>,
    /// What has reached the server, in that order.
    pub(crate) arrivals: Vec<Arrival>,
    /// Since when packets of each lane come without a longer pause, and when the last came.
    flows: Vec<Option<(Instant, Instant)>>,
    /// When the newest keyframe of each lane began to arrive.
    keyframes: Vec<Option<Instant>>,
    /// SSRCs whose numbering is known.
    heard: HashSet<u32>,
    /// When it was asked for a keyframe of an SSRC last.
    pub(crate) asked: HashMap<u32, Instant>,
}

/// All of them, by the numbers of their clients.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    all: BTreeMap<usize, Source>,
    /// Whose packet a payload is, and which.
    by_payload: HashMap<u64, (usize, Lane, usize)>,
}

/// A hash that tells payloads apart.
pub(crate) fn digest(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

impl Source {
    /// So long packets are kept. What is missing between two that are let go is not waited for.
    const KEPT: Duration = Duration::from_secs(2);
    /// A longer pause ends the flow of pictures.
    const PAUSE: Duration = Duration::from_millis(500);

    pub(crate) fn original(&self, lane: Lane, index: usize) -> Original {
        self.packets[lane_index(lane)][index]
    }

    /// When packets of a lane have come, from this one on, compared with others; zero: not yet.
    pub(crate) fn ranks(
        &self,
        lane: Lane,
        from: usize,
    ) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.packets[lane_index(lane)].iter().skip(from).map(|packet| packet.rank)
    }

    /// Its lanes of pictures.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Lane> {
        (1..self.packets.len()).map(lane_at)
    }

    /// Whether the pictures of one lane take less than those of another.
    pub(crate) fn takes_less(&self, lane: Lane, than: Lane) -> bool {
        self.takes[lane_index(lane)] < self.takes[lane_index(than)]
    }

    /// Whether its pictures come in several encodings, or frames of them can be left out.
    pub(crate) fn has_choice(&self) -> bool {
        self.packets.len() > 2 || self.is_scalable()
    }

    /// Whether frames can be left out.
    pub(crate) fn is_scalable(&self) -> bool {
        self.mode.is_scalable()
    }

    /// One of the frames of a lane.
    pub(crate) fn frame(&self, lane: Lane, frame: usize) -> &Frame {
        &self.frames[lane_index(lane)][frame].frame
    }

    /// The dependency descriptor of a packet.
    pub(crate) fn descriptor(&self, lane: Lane, index: usize) -> Option<&[u8]> {
        self.descriptors.get(&(lane_index(lane), index)).map(Vec::as_slice)
    }

    /// How many templates the structure has that comes with a packet's frame, if one does.
    pub(crate) fn template_count(&self, lane: Lane, index: usize) -> Option<u8> {
        let frame = self.original(lane, index).frame?;
        Some(self.frame(lane, frame).says.template_count())
    }

    /// Whether a packet is of the lowest layers, of which nothing may be left out.
    pub(crate) fn is_base(&self, lane: Lane, index: usize) -> bool {
        let frame = self.original(lane, index).frame.map(|frame| self.frame(lane, frame));
        frame.is_none_or(|frame| (frame.spatial, frame.temporal) == (0, 0))
    }

    /// Whether all of a frame had reached the server, in time, before the packet of this rank.
    pub(crate) fn came_before(&self, lane: Lane, frame: usize, rank: usize) -> bool {
        let mut packets = self.frames[lane_index(lane)][frame].packets.clone();
        packets.all(|index| {
            let own = self.original(lane, index).rank;
            (1..rank).contains(&own) && !self.arrivals[own - 1].late
        })
    }

    /// When a lane's newest keyframe began to arrive.
    pub(crate) fn keyframe(&self, lane: Lane) -> Option<Instant> {
        self.keyframes[lane_index(lane)]
    }

    /// When something of a lane came last, if anything has.
    pub(crate) fn last(&self, lane: Lane) -> Option<Instant> {
        self.flows[lane_index(lane)].map(|(_, last)| last)
    }

    pub(crate) fn codec(&self, kind: Kind) -> Codec {
        match kind {
            Kind::Audio => Codec::Opus,
            Kind::Video => self.codec,
        }
    }

    /// Whether its packets are taken now.
    pub(crate) fn is_live(&self) -> bool {
        self.connected.is_some() && !self.ended
    }

    /// Since when a lane flows, if it does.
    pub(crate) fn flows_since(&self, lane: Lane, now: Instant) -> Option<Instant> {
        let (since, last) = self.flows[lane_index(lane)]?;
        (now < last + Self::PAUSE).then_some(since)
    }

    /// SRTP sends no rollover counter, which begins at zero: of a numbering that had come around
    /// before anything of it came nobody knows that (RFC 3711 §3.3.1).
    fn can_be_opened(&mut self, Carried { ssrc, has_turned, .. }: Carried) -> bool {
        if !has_turned {
            self.heard.insert(ssrc);
        }
        self.heard.contains(&ssrc)
    }

    fn arrived(&mut self, lane: Lane, index: usize, now: Instant) {
        let rank = self.arrivals.len() + 1;
        let place = lane_index(lane);
        let packet = &mut self.packets[place][index];
        let begins = packet.begins;
        if packet.rank != 0 {
            return;
        }
        packet.rank = rank;
        packet.arrived = Some(now);
        let late = self.low[place].is_some_and(|low| index < low);
        if begins && !late {
            self.keyframes[place] = Some(now);
        }
        let flows = self.flows[place].filter(|(_, last)| now < *last + Self::PAUSE);
        self.flows[place] = Some((flows.map_or(now, |(since, _)| since), now));
        self.let_go(place, now);
        self.arrivals.push(Arrival { at: now, lane, index, late });
    }

    fn let_go(&mut self, place: usize, now: Instant) {
        let (packets, low) = (&self.packets[place], &mut self.low[place]);
        let newest = packets.iter().rposition(|packet| packet.arrived.is_some()).unwrap_or(0);
        for (index, packet) in packets.iter().enumerate().take(newest).skip(low.unwrap_or(0)) {
            match packet.arrived {
                Some(at) if now <= at + Self::KEPT => break,
                None if low.is_none() => {}
                _ => *low = Some(index + 1),
            }
        }
    }
}

impl Sources {
    pub(crate) fn add(&mut self, number: usize, stream: &str, publishing: &Publishing) {
        let lanes = publishing.camera.lanes();
        let encodings = publishing.camera.encodings();
        let takes = encodings.iter().map(|it| it.packets * it.payload_bytes / it.every as usize);
        let source = Source {
            takes: std::iter::once(0).chain(takes).collect(),
            stream: stream.to_owned(),
            codec: publishing.camera.codec,
            mode: publishing.camera.mode,
            frames: (0..lanes).map(|_| Vec::new()).collect(),
            descriptors: HashMap::new(),
            obliges: false,
            connected: None,
            ended: false,
            packets: vec![Vec::new(); lanes],
            low: vec![None; lanes],
            arrivals: Vec::new(),
            flows: vec![None; lanes],
            keyframes: vec![None; lanes],
            heard: HashSet::new(),
            asked: HashMap::new(),
        };
        self.all.insert(number, source);
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Source> {
        self.all.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Source> {
        self.all.get_mut(&number)
    }

    /// Whose media a stream is: of its publishers the last that came.
    pub(crate) fn of_stream(&self, stream: &str) -> Option<(usize, &Source)> {
        let live = self.all.iter().filter(|(_, it)| it.stream == stream && it.is_live());
        live.max_by_key(|(_, source)| source.connected).map(|(&number, source)| (number, source))
    }

    /// Whose packet this payload is, be it with other numbers in its descriptor.
    pub(crate) fn find(&self, payload: &[u8]) -> Option<(usize, Lane, usize)> {
        let of = |digest| self.by_payload.get(&digest).copied();
        let unnumbered = |codec| of(digest(&unnumbered(codec, payload)));
        of(digest(payload)).or_else(|| unnumbered(Codec::Vp8)).or_else(|| unnumbered(Codec::Vp9))
    }

    /// A datagram of a publisher has reached the server, which knows whose it is.
    pub(crate) fn reached(
        &mut self,
        number: usize,
        publishing: &Publishing,
        datagram: &[u8],
        now: Instant,
    ) {
        let Some(source) = self.all.get_mut(&number) else { return };
        for (place, known) in source.packets.iter_mut().enumerate() {
            for sent in &publishing.sent[place][known.len()..] {
                let index = known.len();
                let payload = match sent.frame {
                    None => digest(&sent.payload),
                    Some(_) => digest(&unnumbered(source.codec, &sent.payload)),
                };
                self.by_payload.insert(payload, (number, lane_at(place), index));
                if let Some(value) = &sent.joined {
                    source.descriptors.insert((place, index), value.clone());
                }
                if let Some(frame) = sent.frame {
                    let frames = &mut source.frames[place];
                    if frames.len() == frame {
                        let frame = publishing.frames[place - 1][frame].clone();
                        frames.push(Known { frame, packets: index..index });
                    }
                    frames[frame].packets.end = index + 1;
                }
                known.push(Original {
                    begins: sent.keyframe,
                    marker: sent.header.marker,
                    timestamp: sent.header.timestamp,
                    captured: sent.captured,
                    frame: sent.frame,
                    ends: sent.ends,
                    rank: 0,
                    arrived: None,
                });
            }
        }
        if !source.is_live() {
            return;
        }
        if let Some(carried) = publishing.carried(datagram)
            && source.can_be_opened(carried)
        {
            source.arrived(carried.lane, carried.index, now);
        }
    }
}
