//! One stream: its router, its publisher, its viewers, who outlast the publisher.

use super::abroad::Parcel;
use super::catch_up::{Begins, CatchUps};
use super::made::{Making, Watched};
use super::message::Term;
use super::peer::{Peer, Side, Viewing};
use super::publication::Publication;
use super::report::{StreamState, TrackState};
use super::tap::Tapping;
use crate::media::codec::{Format, Kind};
use crate::media::id::StreamName;
use crate::media::layer::LayerState;
use crate::media::time::Epoch;
use crate::router::{Router, RouterSettings};
use slab::Slab;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one publisher sends at a time, and who takes it.
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) router: Router,
    /// The session whose media flows.
    pub(super) publisher: Option<usize>,
    /// Who writes it, if it does not come by WebRTC.
    pub(super) publication: Option<Box<Publication>>,
    /// Who makes other layers of what its publisher sends here, if somebody does.
    pub(super) making: Option<Making>,
    /// Which of those viewers get.
    pub(super) watched: Watched,
    /// Which publisher that is, or was last.
    pub(super) term: Option<Term>,
    /// The shard that has the publisher, if it is not this one and the stream is followed.
    pub(super) source: Option<usize>,
    /// Whether what it begins with has come from there.
    pub(super) has_started: bool,
    /// The shards that follow it here.
    pub(super) followers: Vec<usize>,
    /// Who reads it, if somebody does.
    pub(super) tapping: Option<Box<Tapping>>,
    /// What they are handed next.
    pub(super) parcel: Parcel,
    /// Sessions that take it and are connected.
    pub(super) viewers: Vec<usize>,
    /// Sessions of either side, connected or not: the stream goes with the last.
    pub(super) members: usize,
    /// Until when its viewers wait for a publisher, while there is none.
    pub(super) vacant_until: Option<Instant>,
    /// What flows now.
    pub(super) formats: [Option<Format>; 2],
    /// When that changed last.
    changed: [Option<Instant>; 2],
    /// Those of the batch that goes out who have not been served yet; last first.
    pub(super) unserved: Vec<usize>,
    /// Whether a batch is going out.
    pub(super) departing: bool,
    /// What the layers carried when that was looked at last, best first.
    pub(super) layers: Arc<[LayerState]>,
    /// When that is looked at again.
    pub(super) choose_at: Option<Instant>,
    /// Moves on with every batch, so that nobody is always last.
    pub(super) rotation: usize,
    since: Instant,
}

impl Stream {
    /// No encoder changes its codec as often.
    const FORMAT_KEPT: Duration = Duration::from_millis(200);

    pub(super) fn new(
        name: StreamName,
        settings: RouterSettings,
        epoch: Epoch,
        now: Instant,
    ) -> Self {
        Self {
            name,
            router: Router::new(settings, epoch),
            publisher: None,
            publication: None,
            making: None,
            watched: Watched::default(),
            term: None,
            source: None,
            has_started: false,
            followers: Vec::new(),
            tapping: None,
            parcel: Parcel::default(),
            viewers: Vec::new(),
            members: 0,
            vacant_until: None,
            formats: [None, None],
            changed: [None; 2],
            unserved: Vec::new(),
            departing: false,
            layers: Arc::default(),
            choose_at: None,
            rotation: 0,
            since: now,
        }
    }

    /// Does something with all who take it.
    pub(super) fn each_viewer(
        &self,
        peers: &mut Slab<Peer>,
        mut work: impl FnMut(usize, &mut Viewing),
    ) {
        for &key in &self.viewers {
            if let Some(Side::Viewer(viewing)) = peers.get_mut(key).map(|peer| &mut peer.side) {
                work(key, viewing);
            }
        }
    }

    /// Whether another format may flow from now on. It costs work for every viewer, and messages
    /// that must arrive: a publisher that sends two codecs at a time gets one of them through.
    pub(super) fn may_change(&mut self, kind: Kind, now: Instant) -> bool {
        let changed = &mut self.changed[kind.index()];
        let may = changed.is_none_or(|changed| now >= changed + Self::FORMAT_KEPT);
        if may {
            *changed = Some(now);
        }
        may
    }

    /// Whether it is published here.
    pub(super) const fn has_publisher(&self) -> bool {
        self.publisher.is_some() || self.publication.is_some()
    }

    /// Whether media flows, or did and there are viewers who wait for more; or somebody writes it,
    /// who may have to be told why nothing flows.
    pub(super) fn is_live(&self) -> bool {
        let is_watched = self.has_publisher() || !self.viewers.is_empty();
        let has_media = self.formats.iter().any(Option::is_some);
        self.publication.is_some() || (is_watched && has_media)
    }

    /// Nobody sends it any more. What is on its way still goes out, and the viewers stay until
    /// then: another publisher may go on.
    pub(super) fn vacate(&mut self, until: Instant) {
        self.publisher = None;
        self.publication = None;
        self.source = None;
        (self.making, self.watched) = (None, Watched::default());
        self.followers.clear();
        self.parcel.clear();
        self.wait_for_publisher(until);
    }

    /// If nobody sends it, whoever watches it stays until then, and no longer than it was said
    /// before.
    pub(super) fn wait_for_publisher(&mut self, until: Instant) {
        if !self.has_publisher() && self.source.is_none() {
            self.vacant_until.get_or_insert(until);
        }
    }

    /// Another publisher begins. Viewers go on with its first keyframe, without a gap in what they
    /// are sent, and whoever was still catching up with the one before need not any more.
    pub(super) fn begin_term(&mut self, peers: &mut Slab<Peer>, catch_ups: &mut CatchUps) {
        self.vacant_until = None;
        self.router.begin_term();
        (self.layers, self.choose_at) = (Arc::default(), None);
        self.formats = [None, None];
        self.changed = [None; 2];
        self.unserved.clear();
        self.departing = false;
        let batch = self.router.batch_number();
        self.each_viewer(peers, |key, viewing| {
            viewing.begin_term(batch);
            catch_ups.ended(key);
        });
    }

    /// A viewer is connected: it gets what flows from the newest keyframe on, or from the next.
    pub(super) fn add_viewer(&mut self, key: usize, peer: &mut Peer, now: Instant) -> Begins {
        let Side::Viewer(viewing) = &mut peer.side else { return Begins::Sound };
        for format in self.formats.iter().flatten() {
            viewing.set_format(format);
        }
        self.viewers.push(key);
        let step = self.welcome(viewing, now);
        let Some(target) = viewing.target() else { return Begins::Sound };
        if step.begins || viewing.catch_up_from(&self.router, now) {
            return Begins::Cached;
        }
        self.router.want_keyframe(target);
        Begins::Requested
    }

    pub(super) fn report(&self, peers: &Slab<Peer>, now: Instant) -> StreamState {
        let publisher = self.publisher.and_then(|key| peers.get(key));
        let formats = || {
            let formats = Kind::ALL.into_iter().zip(&self.formats);
            formats.filter_map(|(kind, format)| Some((kind, format.clone()?)))
        };
        let all = self.router.layers(now);
        let made = self.router.made();
        let layers = |kind| if kind == Kind::Video { all.clone() } else { Vec::new() };
        let tracks = match (publisher.map(|peer| &peer.side), &self.publication) {
            (Some(Side::Publisher(publishing)), _) => formats()
                .map(|(kind, format)| {
                    let counters = publishing.receiver.report(kind, now);
                    TrackState {
                        kind,
                        format,
                        bitrate: counters.bitrate,
                        packets: counters.packets,
                        lost: counters.lost_packets,
                        keyframes: counters.keyframes,
                        layers: layers(kind),
                    }
                })
                .collect(),
            (_, Some(publication)) => {
                let track = |(kind, format)| TrackState {
                    layers: if made.is_empty() { Vec::new() } else { layers(kind) },
                    ..publication.track(kind, format, now)
                };
                formats().map(track).collect()
            }
            _ => Vec::new(),
        };
        let writer = self.publication.as_ref().map(|publication| publication.report(now));
        StreamState {
            name: self.name.clone(),
            age: now.saturating_duration_since(self.since),
            publisher: publisher.map(|peer| peer.report(now)).or(writer),
            tracks,
            viewers: self
                .viewers
                .iter()
                .filter_map(|&key| peers.get(key)?.viewer_report(&all, now))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::time::WallTime;

    #[test]
    fn a_publisher_that_sends_two_codecs_at_a_time_changes_the_format_a_few_times_a_second() {
        let start = Instant::now();
        let epoch = Epoch { instant: start, wall: WallTime::since_unix_epoch(Duration::ZERO) };
        let name = StreamName::parse("lot-42").expect("a name");
        let mut stream = Stream::new(name, RouterSettings::default(), epoch, start);
        let at = |ms| start + Duration::from_millis(ms);
        let changes = (0..1_000).filter(|&ms| stream.may_change(Kind::Video, at(ms))).count();
        assert_eq!(changes, 5);
        assert!(stream.may_change(Kind::Audio, at(999)), "the other kind is none of its business");
    }
}
