//! Packets that wait to go out together, so that one UDP message carries many of them.
//!
//! UDP GSO takes packets of equal size (the last may be shorter). Encoders cut a frame into nearly
//! equal packets; up to four bytes of RTP padding make them equal.

use super::pacer::Pacer;
use crate::media::codec::Kind;
use crate::media::packet::Packet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A packet that waits, with the RTP padding it goes out with.
#[derive(Debug)]
pub struct Waiting {
    /// The packet.
    pub packet: Arc<Packet>,
    /// Bytes of RTP padding; zero for none.
    pub padding: u8,
}

/// What waits of one lane, and beside it what is going out while more comes in.
#[derive(Debug)]
pub struct Batch {
    kind: Kind,
    waiting: Vec<Waiting>,
    going: Vec<Waiting>,
    /// There is nothing left to wait for.
    complete: bool,
    wait: Duration,
    pacer: Pacer,
}

impl Batch {
    /// Packets of the same run differ by no more than this; padding makes up the difference.
    const PADDING_MAX: usize = 4;
    /// As many as go out at a time: more waiting gains nothing.
    const PACKETS_MAX: usize = Pacer::BUCKET;
    /// What may wait while a batch goes out: more than a viewer is sent at a time.
    pub const WAITING_MAX: usize = 1024;

    /// Video that has waited for so long is of the past: a shard that lags behind so far would
    /// never catch up by sending all of it, and whoever watches would be ever later.
    pub const STALE: Duration = Duration::from_millis(400);

    /// An empty batch whose oldest packet waits at most `wait` for the rest of its frame.
    pub fn new(kind: Kind, wait: Duration) -> Self {
        let room = || Vec::with_capacity(128);
        let (waiting, going, pacer) = (room(), room(), Pacer::default());
        Self { kind, waiting, going, complete: false, wait, pacer }
    }

    /// How long the oldest packet waits for the rest of its frame from now on.
    pub const fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// Whether one more packet may wait.
    pub const fn has_room(&self) -> bool {
        self.waiting.len() < Self::WAITING_MAX
    }

    /// Adds a packet. The last packet of a picture, or a full batch, completes it.
    pub fn push(&mut self, packet: Arc<Packet>) {
        self.complete |= self.kind == Kind::Video && packet.marker;
        self.waiting.push(Waiting { packet, padding: 0 });
        self.complete |= self.waiting.len() >= Self::PACKETS_MAX;
    }

    /// When the oldest packet has waited long enough.
    pub fn deadline(&self) -> Option<Instant> {
        let released = self.released_at()?;
        Some(self.paced_until().map_or(released, |paced| paced.max(released)))
    }

    /// Whether something should go out now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// From when on the packets wait for no others.
    fn released_at(&self) -> Option<Instant> {
        let oldest = self.waiting.first()?.packet.arrival;
        Some(if self.complete { oldest } else { oldest + self.wait })
    }

    /// Until when the pacer holds them back. Sound is too little to be paced.
    fn paced_until(&self) -> Option<Instant> {
        match self.kind {
            Kind::Audio => None,
            Kind::Video => self.pacer.ready_at(self.waiting.len()),
        }
    }

    /// Lets go out, made equal, what of that which waits the pacer allows. What went before must
    /// be gone.
    pub fn depart(&mut self, now: Instant) {
        self.gone();
        if self.paced_until().is_some_and(|paced| paced > now) {
            return;
        }
        let count = match self.kind {
            Kind::Audio => self.waiting.len(),
            Kind::Video => self.pacer.slice(self.waiting.len(), now),
        };
        if count == self.waiting.len() {
            std::mem::swap(&mut self.waiting, &mut self.going);
        } else {
            self.going.extend(self.waiting.drain(..count));
        }
        // The rest has waited for its picture already.
        self.complete = !self.waiting.is_empty();
        if self.kind == Kind::Video {
            self.pacer.take(count, now);
            self.equalise();
        }
    }

    /// Whether video has waited for so long that it is better lost than sent.
    pub fn is_stale(&self, now: Instant) -> bool {
        let is_video = self.kind == Kind::Video;
        is_video && self.waiting.first().is_some_and(|it| it.packet.arrival + Self::STALE < now)
    }

    /// Lets go of the video that waits, up to the newest keyframe if that is not stale as well.
    /// Tells how many packets are lost, and whether a keyframe is left.
    pub fn skip(&mut self, now: Instant) -> (usize, bool) {
        let video = &mut self.waiting;
        let fresh = |it: &Waiting| it.packet.keyframe && it.packet.arrival + Self::STALE >= now;
        let keyframe = video.iter().rfind(|it| fresh(it)).map(|it| it.packet.timestamp);
        let begins = |it: &Waiting| Some(it.packet.timestamp) == keyframe && it.packet.keyframe;
        let lost = video.iter().position(begins).unwrap_or(video.len());
        video.drain(..lost);
        self.complete = !video.is_empty();
        (lost, !video.is_empty())
    }

    /// When the oldest packet of those that are going out arrived.
    pub fn oldest_going(&self) -> Option<Instant> {
        self.going.first().map(|it| it.packet.arrival)
    }

    /// What waits.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// What is going out.
    pub fn going(&self) -> &[Waiting] {
        &self.going
    }

    /// What was going out is gone.
    pub fn gone(&mut self) {
        self.going.clear();
    }

    /// Pads packets so that neighbours of nearly the same size form one run.
    fn equalise(&mut self) {
        let video = &mut self.going;
        let mut start = 0;
        while start < video.len() {
            let run = run_length(&video[start..]);
            let (run, rest) = video[start..].split_at_mut(run);
            let longest = run.iter().map(size).max().unwrap_or(0);
            for waiting in run.iter_mut() {
                waiting.padding = (longest - size(waiting)) as u8;
            }
            start += run.len();
            // A shorter packet may close the run; it needs no padding.
            start += usize::from(rest.first().is_some_and(|next| size(next) < longest));
        }
    }
}

fn size(waiting: &Waiting) -> usize {
    waiting.packet.payload.len()
}

/// How many packets from the first on can be made equal; at least one.
///
/// An empty packet (the publisher's probe) is never padded: it makes a run of its own.
fn run_length(waiting: &[Waiting]) -> usize {
    let (mut shortest, mut longest) = (usize::MAX, 0);
    for (position, next) in waiting.iter().enumerate() {
        shortest = shortest.min(size(next));
        longest = longest.max(size(next));
        if shortest == 0 || longest - shortest > Batch::PADDING_MAX {
            return position.max(1);
        }
    }
    waiting.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packet::PacketFields;

    fn batch_of(sizes: &[usize], arrival: Instant) -> Batch {
        let mut batch = Batch::new(Kind::Video, Duration::from_millis(4));
        for (sequence, &size) in sizes.iter().enumerate() {
            let fields = PacketFields::single(Codec::Vp8, sequence as u64, 0, arrival);
            batch.push(Arc::new(fields.with(vec![0; size])));
        }
        batch
    }

    #[test]
    fn nearly_equal_packets_are_padded_and_a_shorter_one_closes_the_run() {
        let now = Instant::now();
        let mut batch = batch_of(&[1199, 1200, 1198, 700, 1000, 1010, 0, 5], now);
        batch.depart(now);
        let padding: Vec<_> = batch.going().iter().map(|w| w.padding).collect();
        assert_eq!(padding, [1, 0, 2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_batch_goes_at_the_marker_or_when_the_oldest_has_waited() {
        let arrival = Instant::now();
        let mut batch = batch_of(&[10], arrival);
        assert!(!batch.is_due(arrival));
        assert!(batch.is_due(arrival + Duration::from_millis(4)));
        batch.set_wait(Duration::from_millis(2));
        assert!(batch.is_due(arrival + Duration::from_millis(2)));
        let mut last = (*batch.waiting[0].packet).clone();
        last.marker = true;
        batch.push(Arc::new(last));
        assert!(batch.is_due(arrival));
        batch.depart(arrival);
        assert_eq!(batch.going().len(), 2);
        assert_eq!(batch.oldest_going(), Some(arrival));
        assert!(!batch.is_due(arrival + Duration::from_secs(1)), "nothing waits any more");
        batch.gone();
        assert!(batch.going().is_empty());
    }

    #[test]
    fn a_keyframe_departs_in_slices() {
        let arrival = Instant::now();
        let mut batch = batch_of(&[1_000; 40], arrival);
        batch.depart(arrival);
        assert_eq!(batch.going().len(), 16);
        assert!(!batch.is_due(arrival), "the rest is paced");
        let next = batch.deadline().expect("something waits");
        assert_eq!(next, arrival + Duration::from_millis(1));
        assert!(batch.is_due(next));
        batch.depart(next);
        assert_eq!(batch.going().len(), 10);
    }
}
