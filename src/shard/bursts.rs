//! What the past may cost: a part of the shard's time, whoever joins.

use std::time::{Duration, Instant};

/// Earns time as it passes, and says how many packets it buys.
#[derive(Debug)]
pub(super) struct Bursts {
    earned_until: Instant,
    /// What may be spent, in nanoseconds; below zero after more was spent than there was.
    reserve: i64,
    /// What a packet cost of late, in nanoseconds.
    packet: i64,
}

impl Bursts {
    /// One part in so many: three stay for those who watch already.
    const PART: i64 = 4;
    /// The most that may be spent at once, and be owed: as long as a turn may send besides.
    const RESERVE_MAX: i64 = 2_000_000;
    /// Taken for a packet's cost before any is known; more than it is on any machine of today.
    const PACKET: i64 = 4_000;
    /// Nor does one cost more: who was interrupted for long has learnt nothing of packets.
    const PACKET_MAX: i64 = 50_000;
    /// No packet is cheaper: a clock that stands still must not make them free.
    const PACKET_MIN: i64 = 100;

    pub(super) const fn new(now: Instant) -> Self {
        Self { earned_until: now, reserve: Self::RESERVE_MAX, packet: Self::PACKET }
    }

    /// How many packets may be sent now.
    pub(super) fn affordable(&mut self, now: Instant) -> usize {
        let elapsed = nanos(now.saturating_duration_since(self.earned_until));
        self.earned_until = self.earned_until.max(now);
        self.reserve = (self.reserve + elapsed / Self::PART).min(Self::RESERVE_MAX);
        let packets = usize::try_from(self.reserve / self.packet).unwrap_or(0);
        // One at least, or what a packet costs would never be learnt again.
        packets.max(usize::from(self.reserve > 0))
    }

    /// So many were sent, and took so long.
    pub(super) fn spent(&mut self, packets: usize, took: Duration) {
        self.reserve = (self.reserve - nanos(took)).max(-Self::RESERVE_MAX);
        if let Ok(packets @ 1..) = u32::try_from(packets) {
            let each = nanos(took / packets).min(Self::PACKET_MAX);
            self.packet = ((self.packet * 3 + each) / 4).max(Self::PACKET_MIN);
        }
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::media::time::WallTime;

    /// Turns for a second, each of which does something else for a while; tells the share of the
    /// time that bursts took, and the packets.
    fn share(packet: Duration, else_for: Duration) -> (f64, usize) {
        let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::ZERO));
        let clock = hands.clock();
        let start = clock.now();
        let mut bursts = Bursts::new(start);
        let (mut packets, mut took) = (0, Duration::ZERO);
        while clock.now() - start < Duration::from_secs(1) {
            hands.advance(else_for);
            let began = clock.now();
            let affordable = bursts.affordable(began);
            hands.advance(packet * affordable as u32);
            bursts.spent(affordable, clock.now() - began);
            packets += affordable;
            took += clock.now() - began;
        }
        (took.as_secs_f64() / (clock.now() - start).as_secs_f64(), packets)
    }

    #[test]
    fn bursts_take_a_quarter_of_the_time_whatever_a_packet_costs() {
        for (packet_nanos, turn_micros) in [(700, 300), (1_000, 1_000), (20_000, 500)] {
            let packet = Duration::from_nanos(packet_nanos);
            let (share, packets) = share(packet, Duration::from_micros(turn_micros));
            assert!((0.22..=0.26).contains(&share), "{share} at {packet_nanos} ns");
            assert!(packets > 200_000_000 / packet_nanos as usize, "{packets}");
        }
    }

    #[test]
    fn what_is_not_spent_is_lost_but_for_a_reserve() {
        let start = Instant::now();
        let mut bursts = Bursts::new(start);
        let at_once = bursts.affordable(start);
        assert_eq!(bursts.affordable(start + Duration::from_hours(1)), at_once);
        bursts.spent(at_once, Duration::from_hours(1));
        assert_eq!(bursts.affordable(start + Duration::from_hours(1)), 0, "it is in debt");
        let later = start + Duration::from_hours(1) + Duration::from_secs(1);
        assert!(bursts.affordable(later) > 0, "and free of it soon");
    }

    #[test]
    fn one_slow_packet_does_not_end_all_bursts() {
        let start = Instant::now();
        let mut bursts = Bursts::new(start);
        assert!(bursts.affordable(start) > 0);
        bursts.spent(1, Duration::from_millis(9));
        for second in 1..60 {
            let now = start + Duration::from_secs(second);
            let packets = bursts.affordable(now);
            bursts.spent(packets, Duration::from_micros(packets as u64));
        }
        assert!(bursts.affordable(start + Duration::from_mins(1)) > 0);
    }
}
