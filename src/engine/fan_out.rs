//! Media on its way through: a publisher's packet into its stream, batches out to the viewers.

use super::command::{EndReason, Event};
use super::message::{Message, SenderReport, Term};
use super::peer::{Peer, Side};
use super::stream::Stream;
use super::{Counters, Engine};
use crate::media::arena::SendArena;
use crate::media::codec::{Format, Kind};
use crate::media::layer::Lane;
use crate::media::packet::Packet;
use crate::media::time::WallTime;
use crate::peer::outgoing::{Numbered, Outgoing, Sent, Wire};
use crate::peer::viewer::Asked;
use crate::router::Router;
use crate::router::history::Pushed;
use crate::router::subscription::{Place, Subscription};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::trace;

/// What one viewer got of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// All that it takes.
    Yes,
    /// Nothing: the arena has no room for the batch.
    Full,
    /// It has not agreed to the codec that flows.
    NotAgreed,
}

impl Engine {
    /// Takes a publisher's packet into its stream.
    pub(super) fn media(&mut self, key: usize, packet: &Arc<Packet>, now: Instant) {
        let Some(index) = self.peers.get(key).map(|peer| peer.stream) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.publisher != Some(key) {
            return;
        }
        let kind = packet.codec.kind();
        let known = stream.formats[kind.index()].as_ref().map(|format| format.codec);
        if known != Some(packet.codec) {
            if known.is_some() && !stream.may_change(kind, now) {
                self.counters.packets_dropped += 1;
                return;
            }
            self.format_changed(key, index, kind, now);
        }
        self.forward(index, packet);
    }

    /// A packet of a stream that is published here goes to all who take it.
    pub(super) fn forward(&mut self, index: usize, packet: &Arc<Packet>) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let pushed = stream.router.push(packet);
        // That there is no room for it here says nothing of other shards.
        if matches!(pushed, Pushed::New | Pushed::NoRoom) {
            stream.gather(packet);
        }
        match pushed {
            Pushed::New => self.counters.packets_in += 1,
            _ => self.counters.packets_dropped += 1,
        }
        self.layers_changed(index, packet.arrival);
        if !self.waiting.contains(&index) {
            self.waiting.push(index);
        }
    }

    /// The publisher sends another codec than before, or its first packet of this kind.
    fn format_changed(&mut self, key: usize, index: usize, kind: Kind, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        let Side::Publisher(publishing) = &peer.side else { return };
        let term = peer.term();
        let Some(format) = publishing.receiver.report(kind, now).format else { return };
        self.begin_format(index, term, format);
    }

    /// This format of a stream that is published here flows from now on: all are told.
    pub(super) fn begin_format(&mut self, index: usize, term: Term, format: Format) {
        self.set_format(index, format);
        let Some(stream) = self.streams.get(index) else { return };
        let (name, formats) = (stream.name.clone(), stream.formats.clone());
        self.tell_followers(index, |name| Message::Formats(name, formats.clone()));
        self.tell_formats(index, &formats);
        self.events.push_back(Event::Live { stream: name, term, formats });
    }

    /// This format flows on a stream from now on.
    pub(super) fn set_format(&mut self, index: usize, format: Format) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.each_viewer(&mut self.peers, |_, viewing| viewing.set_format(&format));
        let kind = format.codec.kind();
        stream.formats[kind.index()] = Some(format);
    }

    /// How long a packet waits at most for the rest of its frame, from now on.
    pub fn set_batch_wait(&mut self, wait: Duration) {
        if self.settings.router.batch_wait != wait {
            self.settings.router.batch_wait = wait;
            self.streams.iter_mut().for_each(|(_, stream)| stream.router.set_batch_wait(wait));
        }
    }

    /// Sends what is due to those who take it. True: more is left than the arena has room for; send
    /// and clear it, then call again.
    pub fn fan_out(&mut self, now: Instant, arena: &mut SendArena) -> bool {
        for position in 0..self.waiting.len() {
            self.hand_over(self.waiting[position], now);
        }
        let mut position = 0;
        while let Some(&index) = self.waiting.get(position) {
            let Some(stream) = self.streams.get_mut(index) else {
                self.waiting.swap_remove(position);
                continue;
            };
            if !stream.departing {
                if !stream.router.is_due(now) {
                    position += 1;
                    continue;
                }
                let lost = begin(stream, now);
                self.counters.packets_dropped += lost as u64;
                self.counters.batches += 1;
                if lost > 0 {
                    self.wait_for_keyframe(index);
                }
            }
            if !self.serve(index, now, arena) {
                // It goes on before another begins, or the first streams would have all the room.
                self.waiting.rotate_left(position);
                return true;
            }
            let Some(stream) = self.streams.get_mut(index) else { continue };
            let arrived = stream.router.batch_arrived();
            self.served = [self.served, arrived].into_iter().flatten().min();
            stream.router.finish_batch();
            stream.departing = false;
            if stream.router.deadline().is_none() && stream.parcel.is_empty() {
                self.waiting.swap_remove(position);
            } else {
                position += 1;
            }
        }
        false
    }

    /// When the oldest packet of the batches arrived that have been served completely since this
    /// was last asked.
    pub fn take_served(&mut self) -> Option<Instant> {
        self.served.take()
    }

    /// How many viewers and publishers are connected.
    pub fn audience(&self) -> (usize, usize) {
        let viewers = self.streams.iter().map(|(_, stream)| stream.viewers.len()).sum();
        let publishers = self.streams.iter().filter(|(_, s)| s.has_publisher()).count();
        (viewers, publishers)
    }

    /// Video was skipped: viewers go on with the next keyframe, without a gap in their numbers.
    fn wait_for_keyframe(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index) else { return };
        stream.each_viewer(&mut self.peers, |_, viewing| {
            if let Some(video) = &mut viewing.subscriptions[Kind::Video.index()] {
                video.wait();
            }
        });
    }

    /// Serves those of a batch who have not been served; false when the arena is full.
    fn serve(&mut self, index: usize, now: Instant, arena: &mut SendArena) -> bool {
        loop {
            let Some(stream) = self.streams.get_mut(index) else { return true };
            let Some(&key) = stream.unserved.last() else { return true };
            let peer = self.peers.get_mut(key).filter(|peer| peer.stream == index);
            let counters = &mut self.counters;
            let served = match peer {
                Some(peer) => catch_unwind(AssertUnwindSafe(|| {
                    serve_one(peer, &stream.router, now, counters, arena)
                })),
                None => Ok(Served::Yes),
            };
            if let Ok(Served::Full) = served {
                return false;
            }
            stream.unserved.pop();
            match served {
                Err(_) => self.fault(key, now, arena),
                Ok(Served::NotAgreed) => self.end(key, EndReason::CodecNotAgreed, now, arena),
                Ok(Served::Yes | Served::Full) => {}
            }
        }
    }

    /// Reads a client's RTCP.
    pub(super) fn rtcp(&mut self, key: usize, rtcp: &[u8], now: Instant, arena: &mut SendArena) {
        let wall = self.epoch.wall_of(now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let index = peer.stream;
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(path) = peer.transport.path() else { return };
        match &mut peer.side {
            Side::Publisher(publishing) => {
                if stream.publisher != Some(key) {
                    return;
                }
                let is_followed = !stream.followers.is_empty();
                let mut reports = Vec::new();
                publishing.receiver.handle_rtcp(rtcp, now, &mut |report| {
                    let (lane, timestamp) = (report.lane, report.rtp_timestamp);
                    let ntp = WallTime::from_ntp(report.ntp);
                    stream.router.sender_report(lane, ntp, timestamp, now);
                    if let Some(tapping) = &mut stream.tapping {
                        tapping.clock_changed();
                    }
                    if is_followed {
                        reports.push(SenderReport { lane, ntp, timestamp, arrival: now });
                    }
                });
                for report in reports {
                    self.tell_followers(index, |name| Message::SenderReport(name, report));
                }
            }
            Side::Viewer(viewing) => {
                let Some(sealer) = peer.transport.sealer() else { return };
                let mut wire = Wire { sealer, path, arena };
                let subscriptions = &viewing.subscriptions;
                let counters = &mut self.counters;
                let mut is_lost = false;
                let feedback_before = viewing.viewer.feedback_packets();
                viewing.viewer.handle_rtcp(rtcp, (now, wall), |viewer, asked| match asked {
                    Asked::Keyframe => is_lost = true,
                    Asked::Again(kind, sequence) => {
                        let subscription = subscriptions[kind.index()].as_ref();
                        let found = subscription.and_then(|s| again(s, &stream.router, sequence));
                        let (Some(numbered), Some(mut track)) = (found, viewer.sending(kind, now))
                        else {
                            counters.retransmissions_refused += 1;
                            return;
                        };
                        let is_left = subscription.is_some_and(|it| it.leaves(numbered.packet));
                        match track.resend(numbered, is_left, &mut wire) {
                            Sent::Yes => counters.retransmissions += 1,
                            _ => counters.retransmissions_refused += 1,
                        }
                    }
                });
                counters.feedback_packets += viewing.viewer.feedback_packets() - feedback_before;
                if is_lost {
                    if let Some(target) = viewing.target() {
                        stream.router.want_keyframe(target);
                    }
                    self.begin_again(key, now);
                }
                self.told_of_link(key, now);
                self.request_keyframe(index, now);
            }
        }
    }
}

/// A packet that went to a viewer with this sequence number, as it went.
pub(super) fn again<'r>(
    subscription: &Subscription,
    router: &'r Router,
    sequence: u16,
) -> Option<Numbered<'r>> {
    let (stay, source, sequence) = subscription.source_of(sequence)?;
    let lane = Lane::of(subscription.kind(), stay.layer);
    let (packet, padding) = router.past(lane, source)?;
    let Place { sequence, timestamp, patch } =
        stay.again(packet).filter(|it| it.sequence == sequence)?;
    Some(Numbered { packet, padding, sequence, timestamp, patch })
}

/// Lets a batch go out to everybody who is there now, each time from another one on; tells how many
/// packets are lost because they have waited too long.
fn begin(stream: &mut Stream, now: Instant) -> usize {
    let lost = stream.router.begin_batch(now);
    stream.departing = true;
    stream.unserved.clear();
    stream.unserved.extend_from_slice(&stream.viewers);
    if !stream.unserved.is_empty() {
        stream.rotation = (stream.rotation + 1) % stream.unserved.len();
        stream.unserved.rotate_left(stream.rotation);
    }
    lost
}

/// Seals a batch for one viewer into the arena: all of it or nothing.
fn serve_one(
    peer: &mut Peer,
    router: &Router,
    now: Instant,
    counters: &mut Counters,
    arena: &mut SendArena,
) -> Served {
    let Side::Viewer(viewing) = &mut peer.side else { return Served::Yes };
    let room: usize = viewing
        .lanes(router.batch_number())
        .flat_map(|lane| router.batch(lane))
        .map(|waiting| Outgoing::room(&waiting.packet, waiting.padding))
        .sum();
    if room == 0 {
        return Served::Yes;
    }
    let Some(path) = peer.transport.path() else { return Served::Yes };
    if room > arena.remaining() {
        // A batch larger than the whole arena is cut off at its end rather than never sent.
        if !arena.is_empty() {
            return Served::Full;
        }
    }
    let Some(sealer) = peer.transport.sealer() else { return Served::Yes };
    trace!(session = ?peer.session, bytes = room, "batch");
    let mut wire = Wire { sealer, path, arena };
    for kind in Kind::ALL {
        if !viewing.takes(kind, router.batch_number()) {
            continue;
        }
        let refused = viewing.refused(router);
        let Some(subscription) = &mut viewing.subscriptions[kind.index()] else { continue };
        let Some(mut track) = viewing.viewer.sending(kind, now) else { continue };
        track.playout_delay().batch_begins(subscription.next_out());
        let mut forward = |subscription: &mut Subscription, packet: &Packet, padding| {
            let shift = |after| router.shift(packet.lane(), after, now);
            let Some(place) = subscription.select(packet, shift) else { return true };
            let Place { sequence, timestamp, patch } = place;
            let numbered = Numbered { packet, padding, sequence, timestamp, patch };
            let sent = track.send(numbered, &mut wire);
            counters.packets_out += u64::from(sent == Sent::Yes);
            sent != Sent::NotAgreed
        };
        let (first, second) = subscription.lanes();
        for waiting in [first, second].into_iter().flatten().flat_map(|lane| router.batch(lane)) {
            let packet = &waiting.packet;
            if refused[packet.codec as usize] {
                continue; // it is aimed at another layer soon
            }
            let begins = subscription.current() != Some(packet.layer);
            let is_late = || router.passed(packet).next().is_some();
            if begins && kind == Kind::Audio && is_late() {
                continue; // the next one is as good a start
            }
            if !forward(subscription, packet, waiting.padding) {
                return Served::NotAgreed;
            }
            if begins && subscription.current() == Some(packet.layer) {
                // The first packet of a keyframe may come after others of it: repaired, say.
                for (packet, padding) in router.passed(packet) {
                    forward(subscription, packet, padding);
                }
            }
        }
    }
    Served::Yes
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreement, engine, stream_with_packet};
    use super::*;
    use crate::media::arena::Path;
    use std::net::SocketAddr;

    /// Else a stream with more viewers than the arena serves at a time would begin batch after
    /// batch before the others' turn comes.
    #[test]
    fn the_batch_under_way_goes_on_before_another_begins() {
        let now = Instant::now();
        let mut engine = engine(now, vec![agreement(1, "b")]);
        let mut arena = SendArena::new(10_000);
        let waits = stream_with_packet(&mut engine, "a", false, now);
        let goes = stream_with_packet(&mut engine, "b", true, now);
        engine.check(1, 5_000, now, &mut arena);
        engine.streams[goes].viewers = engine.peers.iter().map(|(key, _)| key).collect();
        arena.clear();
        let remote = SocketAddr::from(([192, 0, 2, 9], 9));
        arena.push(Path::udp(remote, None), &[0; 9_500]);
        assert_eq!(engine.waiting, [waits, goes]);
        assert!(engine.fan_out(now, &mut arena), "no room");
        assert_eq!(engine.waiting, [goes, waits]);
        arena.clear();
        assert!(!engine.fan_out(now, &mut arena));
        assert_eq!(engine.waiting, [waits]);
    }
}
