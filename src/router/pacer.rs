//! How much of a picture goes out at a time, so that a keyframe overruns no viewer's link.
//!
//! All viewers of a stream are sent the same packets in the same batch, so one token bucket paces
//! them all. A picture that is no keyframe fits into it and departs whole; a keyframe departs in
//! slices. A shard that takes longer to serve a slice than to earn the next is not slowed down.

use std::time::{Duration, Instant};

/// A token bucket: one token lets one packet go to every viewer.
#[derive(Debug, Default)]
pub struct Pacer {
    /// When the bucket is full again; `None` while nothing has gone.
    full_at: Option<Instant>,
}

impl Pacer {
    /// What the bucket holds: a little more than a picture of 2.5 Mb/s at 30 per second has.
    pub const BUCKET: usize = 16;
    /// The least that is worth a message of its own, if more waits.
    const SLICE: usize = 10;
    /// What earns a token: 10 packets of 1200 bytes per millisecond are 96 Mb/s.
    const PER_PACKET: Duration = Duration::from_micros(100);
    /// Of a backlog at least this part goes at a time, so that none lasts.
    const BACKLOG_PART: usize = 4;

    /// From when on enough is earned for what waits, or for a slice of it; `None` for any time.
    pub fn ready_at(&self, waiting: usize) -> Option<Instant> {
        let spare = Self::BUCKET - waiting.min(Self::SLICE);
        self.full_at?.checked_sub(Self::PER_PACKET * spare as u32)
    }

    /// How many of those that wait may go now.
    pub fn slice(&self, waiting: usize, now: Instant) -> usize {
        self.holds(now).max(waiting / Self::BACKLOG_PART).min(waiting)
    }

    /// So many go now. A backlog empties the bucket, and leaves no debt.
    pub fn take(&mut self, count: usize, now: Instant) {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        let count = count.min(Self::BUCKET) as u32;
        let empty = now + Self::PER_PACKET * Self::BUCKET as u32;
        self.full_at = Some(empty.min(full_at + Self::PER_PACKET * count));
    }

    fn holds(&self, now: Instant) -> usize {
        let missing = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let missing = missing.as_nanos().div_ceil(Self::PER_PACKET.as_nanos());
        Self::BUCKET.saturating_sub(usize::try_from(missing).unwrap_or(Self::BUCKET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How long what waits takes to go out, and in which slices.
    fn drain(mut waiting: usize, serving: Duration) -> (Duration, Vec<usize>) {
        let start = Instant::now();
        let (mut pacer, mut now, mut slices) = (Pacer::default(), start, Vec::new());
        while waiting > 0 {
            now = pacer.ready_at(waiting).map_or(now, |ready| ready.max(now));
            let slice = pacer.slice(waiting, now);
            pacer.take(slice, now);
            slices.push(slice);
            waiting -= slice;
            now += serving;
        }
        (now - start, slices)
    }

    #[test]
    fn a_picture_departs_whole_and_a_keyframe_in_slices() {
        assert_eq!(drain(9, Duration::ZERO).1, [9]);
        let (took, slices) = drain(52, Duration::ZERO);
        assert_eq!(slices, [16, 10, 10, 10, 6]);
        assert!(took < Duration::from_millis(4), "{took:?}");
    }

    #[test]
    fn a_shard_that_serves_slowly_is_not_slowed_down() {
        let serving = Duration::from_millis(20);
        let (took, slices) = drain(52, serving);
        assert_eq!(slices, [16, 16, 16, 4]);
        assert_eq!(took, serving * 4);
    }

    #[test]
    fn a_backlog_drains_ever_faster_the_longer_it_is() {
        let (took, slices) = drain(1_000, Duration::ZERO);
        assert_eq!(slices[..3], [250, 187, 140]);
        assert!(took < Duration::from_millis(20), "{took:?}");
    }

    proptest! {
        /// Whatever the load: what is said to be ready can go, and the rate holds but for backlogs.
        #[test]
        fn the_rate_holds(steps in prop::collection::vec((1..40_usize, 0..3_000_u64), 1..200)) {
            let start = Instant::now();
            let (mut pacer, mut now, mut sent) = (Pacer::default(), start, 0);
            for (waiting, micros) in steps {
                now += Duration::from_micros(micros);
                if pacer.ready_at(waiting).is_none_or(|ready| ready <= now) {
                    let slice = pacer.slice(waiting, now);
                    prop_assert!(slice >= waiting.min(Pacer::SLICE));
                    pacer.take(slice, now);
                    sent += slice;
                    let earned = (now - start).as_micros() as usize / 100;
                    prop_assert!(sent <= Pacer::BUCKET + earned);
                }
            }
        }
    }
}
