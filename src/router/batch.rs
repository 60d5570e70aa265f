//! Packets that wait to go out together, so that one UDP message carries many of them.
//!
//! UDP GSO takes packets of equal size (the last may be shorter). Encoders cut a frame into nearly
//! equal packets; up to four bytes of RTP padding make them equal.

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

/// What waits of one stream, and beside it what is going out while more comes in.
#[derive(Debug)]
pub struct Batch {
    waiting: [Vec<Waiting>; 2],
    going: [Vec<Waiting>; 2],
    oldest: Option<Instant>,
    complete: bool,
    wait: Duration,
}

impl Batch {
    /// Packets of the same run differ by no more than this; padding makes up the difference.
    const PADDING_MAX: usize = 4;
    /// As many as one UDP message takes: more waiting gains nothing.
    const PACKETS_MAX: usize = 64;
    /// What may wait of a kind while a batch goes out: more than a viewer is sent at a time.
    pub const WAITING_MAX: usize = 1024;

    /// An empty batch whose oldest packet waits at most `wait`.
    pub fn new(wait: Duration) -> Self {
        let room = || Vec::with_capacity(Self::PACKETS_MAX * 2);
        Self {
            waiting: [room(), room()],
            going: [room(), room()],
            oldest: None,
            complete: false,
            wait,
        }
    }

    /// Whether one more packet of that kind may wait.
    pub fn has_room(&self, kind: Kind) -> bool {
        self.waiting[kind.index()].len() < Self::WAITING_MAX
    }

    /// Adds a packet. The last packet of a frame, or a full batch, completes it.
    pub fn push(&mut self, packet: Arc<Packet>) {
        let kind = packet.codec.kind();
        let waiting = &mut self.waiting[kind.index()];
        self.oldest = Some(self.oldest.map_or(packet.arrival, |o| o.min(packet.arrival)));
        self.complete |= kind == Kind::Video && packet.marker;
        waiting.push(Waiting { packet, padding: 0 });
        self.complete |= waiting.len() >= Self::PACKETS_MAX;
    }

    /// When the oldest packet has waited long enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.oldest.map(|oldest| if self.complete { oldest } else { oldest + self.wait })
    }

    /// Whether it should go out now.
    pub fn is_due(&self, now: Instant, eager: bool) -> bool {
        self.deadline().is_some_and(|deadline| eager || deadline <= now)
    }

    /// Lets what waits go out, made equal. What went before must be gone.
    pub fn depart(&mut self) {
        self.going.iter_mut().for_each(Vec::clear);
        std::mem::swap(&mut self.waiting, &mut self.going);
        self.oldest = None;
        self.complete = false;
        self.equalise();
    }

    /// What is going out of one kind.
    pub fn going(&self, kind: Kind) -> &[Waiting] {
        &self.going[kind.index()]
    }

    /// What was going out is gone.
    pub fn gone(&mut self) {
        self.going.iter_mut().for_each(Vec::clear);
    }

    /// Pads video packets so that neighbours of nearly the same size form one run.
    fn equalise(&mut self) {
        let video = &mut self.going[Kind::Video.index()];
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

    fn batch_of(sizes: &[usize]) -> Batch {
        let mut batch = Batch::new(Duration::from_millis(4));
        let arrival = Instant::now();
        for (sequence, &size) in sizes.iter().enumerate() {
            batch.push(Arc::new(Packet {
                codec: Codec::Vp8,
                sequence: sequence as u64,
                timestamp: 0,
                marker: false,
                keyframe: false,
                arrival,
                payload: vec![0; size],
            }));
        }
        batch
    }

    #[test]
    fn nearly_equal_packets_are_padded_and_a_shorter_one_closes_the_run() {
        let mut batch = batch_of(&[1199, 1200, 1198, 700, 1000, 1010, 0, 5]);
        batch.depart();
        let padding: Vec<_> = batch.going(Kind::Video).iter().map(|w| w.padding).collect();
        assert_eq!(padding, [1, 0, 2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_batch_goes_at_the_marker_or_when_the_oldest_has_waited() {
        let mut batch = batch_of(&[10]);
        let arrival = batch.waiting[1][0].packet.arrival;
        assert!(!batch.is_due(arrival, false));
        assert!(batch.is_due(arrival, true));
        assert!(batch.is_due(arrival + Duration::from_millis(4), false));
        let mut last = (*batch.waiting[1][0].packet).clone();
        last.marker = true;
        batch.push(Arc::new(last));
        assert!(batch.is_due(arrival, false));
        batch.depart();
        assert_eq!(batch.going(Kind::Video).len(), 2);
        assert!(!batch.is_due(arrival + Duration::from_secs(1), true), "nothing waits any more");
        batch.gone();
        assert!(batch.going(Kind::Video).is_empty());
    }
}
