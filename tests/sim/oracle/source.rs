//! What the publishers have sent, and what of it has reached the server.

use crate::publisher::Publishing;
use millrace::media::codec::{Codec, Kind};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// One packet as its publisher has sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Original {
    /// A keyframe begins with it.
    pub(crate) begins: bool,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    /// Which of the publisher's packets to reach the server it was, counted from one; zero before.
    pub(crate) rank: usize,
    arrived: Option<Instant>,
}

/// A packet has reached the server for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) kind: Kind,
    pub(crate) index: usize,
    /// It came so late that the server need not pass it on.
    pub(crate) late: bool,
}

/// One publisher.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) stream: String,
    codec: Codec,
    /// Whether it sends keyframes when asked, over links that lose nothing.
    pub(crate) obliges: bool,
    pub(crate) connected: Option<Instant>,
    pub(crate) ended: bool,
    packets: [Vec<Original>; 2],
    /// The lowest packet, by kind, that is still taken, once any has been let go.
    low: [Option<usize>; 2],
    /// What has reached the server, in that order.
    pub(crate) arrivals: Vec<Arrival>,
    /// Since when pictures come without a longer pause, and when the last came.
    flow: Option<(Instant, Instant)>,
    /// When the newest keyframe began to arrive.
    pub(crate) keyframe: Option<Instant>,
    /// When it was asked for a keyframe last.
    pub(crate) asked: Option<Instant>,
}

/// All of them, by the numbers of their clients.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    all: BTreeMap<usize, Source>,
    /// Whose packet a payload is, and which.
    by_payload: HashMap<u64, (usize, Kind, usize)>,
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

    pub(crate) fn original(&self, kind: Kind, index: usize) -> Original {
        self.packets[kind.index()][index]
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

    /// Since when pictures flow, if they do.
    pub(crate) fn flows_since(&self, now: Instant) -> Option<Instant> {
        let (since, last) = self.flow?;
        (now < last + Self::PAUSE).then_some(since)
    }

    fn arrived(&mut self, kind: Kind, index: usize, now: Instant) {
        let rank = self.arrivals.len() + 1;
        let packet = &mut self.packets[kind.index()][index];
        let begins = packet.begins;
        if packet.rank != 0 {
            return;
        }
        packet.rank = rank;
        packet.arrived = Some(now);
        let late = self.low[kind.index()].is_some_and(|low| index < low);
        if kind == Kind::Video {
            if begins && !late {
                self.keyframe = Some(now);
            }
            let flows = self.flow.filter(|(_, last)| now < *last + Self::PAUSE);
            self.flow = Some((flows.map_or(now, |(since, _)| since), now));
        }
        self.let_go(kind, now);
        self.arrivals.push(Arrival { at: now, kind, index, late });
    }
}

impl Source {
    fn let_go(&mut self, kind: Kind, now: Instant) {
        let (packets, low) = (&self.packets[kind.index()], &mut self.low[kind.index()]);
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
        let source = Source {
            stream: stream.to_owned(),
            codec: publishing.camera.codec,
            obliges: false,
            connected: None,
            ended: false,
            packets: [Vec::new(), Vec::new()],
            low: [None; 2],
            arrivals: Vec::new(),
            flow: None,
            keyframe: None,
            asked: None,
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

    /// Whose packet this payload is.
    pub(crate) fn find(&self, payload: &[u8]) -> Option<(usize, Kind, usize)> {
        self.by_payload.get(&digest(payload)).copied()
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
        for kind in Kind::ALL {
            let known = &mut source.packets[kind.index()];
            for sent in &publishing.sent[kind.index()][known.len()..] {
                self.by_payload.insert(digest(&sent.payload), (number, kind, known.len()));
                let (marker, timestamp) = (sent.header.marker, sent.header.timestamp);
                let begins = sent.keyframe;
                known.push(Original { begins, marker, timestamp, rank: 0, arrived: None });
            }
        }
        if !source.is_live() {
            return;
        }
        if let Some((kind, index)) = publishing.carried(datagram) {
            source.arrived(kind, index, now);
        }
    }
}
