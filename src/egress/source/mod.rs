//! What a tap gives, as samples on one time line: packets are put in order and together, and what
//! decoders need stands before each start.
//!
//! Pure; what it holds is bounded. Fuzz target: `source`.
//!
//! - `assembly`: packets of a lane into whole frames in their order
//! - `chain`: one lane, from its packets to its samples
//! - `line`: one line for all lanes, and what its times stand for
//! - `picture`: a picture's frames with what decoders need

mod assembly;
mod chain;
mod line;
mod picture;

use crate::engine::message::Term;
use crate::engine::tap::Tapped;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::frame::{Coding, Frame};
use crate::media::layer::{Lane, LayerId, LayerState};
use crate::media::packet::Packet;
use crate::media::sample::Sample;
use crate::media::time::{Epoch, WallTime};
use assembly::Assembly;
use chain::Chain;
use line::Line;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What comes of a tap.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A publisher begins: what comes from now on is on a line of its own.
    Began {
        /// Which.
        term: Term,
        /// Whether it can be asked for keyframes.
        takes_requests: bool,
        /// The longest time between two of its last keyframes, as far as that is known.
        keyframes_apart: Option<Duration>,
    },
    /// A frame of it.
    Sample(Sample),
    /// Something is missing: what comes next of that layer of the picture begins with a keyframe.
    /// Again, where that is lost too.
    Gap(LayerId),
    /// Whether viewers by WebRTC can have only what is made of its picture.
    NeedsMade(bool),
    /// What the layers of its picture carry.
    Layers(Vec<LayerState>),
    /// It sends a picture that cannot be packaged, for this reason.
    NotPlayable(String),
    /// It has left.
    Left,
}

/// Where what is found goes.
type Emit<'a> = &'a mut dyn FnMut(Found);

/// Puts together what a tap gives. Pure: it is told the time.
#[derive(Debug)]
pub struct Source {
    epoch: Epoch,
    /// Whoever takes it takes every codec.
    takes_all: bool,
    publisher: Option<Publisher>,
}

/// One publisher's time.
#[derive(Debug)]
struct Publisher {
    term: Term,
    /// The sound, and each layer of the picture: no more than there are names for.
    chains: BTreeMap<Lane, Chain>,
    line: Line,
    /// The picture that was agreed.
    format: Option<Format>,
    takes_all: bool,
    /// It cannot be packaged, which has been told.
    refused: Option<Codec>,
}

impl Source {
    /// Nothing yet. `epoch` tells the wall time of arrivals, for a publisher whose clock is not
    /// told.
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, takes_all: false, publisher: None }
    }

    /// The same for somebody who takes every codec, also those that are not packaged.
    pub const fn of_any_codec(epoch: Epoch) -> Self {
        Self { epoch, takes_all: true, publisher: None }
    }

    /// Takes in what a tap gave; what comes of it goes to `emit`, in order.
    pub fn take(&mut self, tapped: Tapped, now: Instant, emit: &mut dyn FnMut(Found)) {
        if let Tapped::Began { term, takes_requests, keyframes_apart } = tapped {
            self.publisher = Some(Publisher::new(term, self, takes_requests));
            emit(Found::Began { term, takes_requests, keyframes_apart });
            return;
        }
        let Some(publisher) = &mut self.publisher else { return };
        match tapped {
            Tapped::Formats(formats) => publisher.take_formats(&formats, emit),
            Tapped::Packets(packets) | Tapped::Made(packets) => {
                publisher.take_packets(&packets, now, emit);
            }
            Tapped::Clock { lane, timestamp, wall } => {
                publisher.take_clock(lane, timestamp, wall, emit);
            }
            Tapped::Layers(layers) => emit(Found::Layers(publisher.playable(layers))),
            Tapped::Frame(frame, wall) => publisher.take_frame(frame, wall, emit),
            Tapped::NeedsMade(needs_made) => emit(Found::NeedsMade(needs_made)),
            Tapped::Lost => publisher.lose(emit),
            Tapped::Left(term) if term == publisher.term => {
                publisher.leave(emit);
                self.publisher = None;
            }
            Tapped::Began { .. } | Tapped::Left(_) => {}
        }
    }

    /// When it wants to be called by [`Self::handle_timeout`]: a missing packet or clock is not
    /// waited for any longer.
    pub fn deadline(&self) -> Option<Instant> {
        let publisher = self.publisher.as_ref()?;
        publisher.chains.values().filter_map(Chain::deadline).min()
    }

    /// Gives up what is overdue.
    pub fn handle_timeout(&mut self, now: Instant, emit: &mut dyn FnMut(Found)) {
        if let Some(publisher) = &mut self.publisher {
            publisher.poll(now, emit);
        }
    }
}

/// Whether players of HLS take it.
const fn is_packaged(codec: Codec) -> bool {
    !matches!(codec, Codec::Vp8 | Codec::Vp9)
}

impl Publisher {
    /// One who can be asked for keyframes comes by WebRTC, with packets; of another one frames come
    /// that have their times already, and with those what is made of them.
    const fn new(term: Term, source: &Source, has_packets: bool) -> Self {
        let &Source { epoch, takes_all, .. } = source;
        let line = if has_packets { Line::new(epoch) } else { Line::given(epoch) };
        let chains = BTreeMap::new();
        Self { term, chains, line, format: None, takes_all, refused: None }
    }

    /// What becomes of a lane.
    fn chain(&mut self, lane: Lane) -> (&mut Chain, &mut Line) {
        let format = self.format.as_ref();
        let chain = self.chains.entry(lane).or_insert_with(|| Chain::new(lane, format));
        (chain, &mut self.line)
    }

    fn take_formats(&mut self, formats: &[Option<Format>; 2], emit: Emit<'_>) {
        if let Some(format) = &formats[Kind::Video.index()] {
            self.chains.values_mut().for_each(|chain| chain.set_format(format));
            self.format = Some(format.clone());
            self.refuse(format.codec, emit);
        }
    }

    /// Those of these layers that can be packaged.
    fn playable(&self, mut layers: Vec<LayerState>) -> Vec<LayerState> {
        layers.retain(|layer| self.takes_all || layer.codec.is_none_or(is_packaged));
        layers
    }

    /// Tells once of a picture that cannot be packaged; whether it is one.
    fn refuse(&mut self, codec: Codec, emit: Emit<'_>) -> bool {
        let refused = !self.takes_all && !is_packaged(codec);
        if refused && self.refused.replace(codec) != Some(codec) {
            emit(Found::NotPlayable(format!(
                "The picture is {codec}, which HLS players take only as something else: publish \
                 H.264, H.265 or AV1, or have H.264 made of it (transcode.ladder = \"on\")."
            )));
        }
        refused
    }

    fn take_packets(&mut self, packets: &[Arc<Packet>], now: Instant, emit: Emit<'_>) {
        for packet in packets {
            if !self.refuse(packet.codec, emit) {
                self.chain(Lane::of(packet.codec.kind(), packet.layer)).0.push(packet);
            }
        }
        self.poll(now, emit);
        while self.chains.values().map(Chain::len).sum::<usize>() > Assembly::PACKETS_MAX
            && let Some(fullest) = self.chains.values_mut().max_by_key(|chain| chain.len())
        {
            fullest.lose(emit);
        }
    }

    fn poll(&mut self, now: Instant, emit: Emit<'_>) {
        for chain in self.chains.values_mut() {
            chain.poll(now, &mut self.line, emit);
        }
    }

    fn take_clock(&mut self, lane: Lane, timestamp: u64, wall: WallTime, emit: Emit<'_>) {
        let (chain, line) = self.chain(lane);
        chain.take_clock(timestamp, wall, line, emit);
    }

    fn take_frame(&mut self, frame: Frame, wall: WallTime, emit: Emit<'_>) {
        let lane = match &frame.coding {
            Coding::Audio(_) => Lane::Audio,
            Coding::Video(codec) if self.refuse(*codec, emit) => return,
            Coding::Video(_) => Lane::Video(LayerId::ONLY),
        };
        self.chain(lane).0.take_frame(frame, wall, emit);
    }

    /// Something is missing that will not come.
    fn lose(&mut self, emit: Emit<'_>) {
        self.chains.values_mut().for_each(|chain| chain.lose(emit));
    }

    fn leave(&mut self, emit: Emit<'_>) {
        for chain in self.chains.values_mut() {
            chain.estimate_clock(&mut self.line, emit);
        }
        emit(Found::Left);
    }
}

#[cfg(test)]
mod tests;
