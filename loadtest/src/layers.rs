//! Which of its publisher's layers a viewer gets, told by the stamps: stays, switches, frames, and
//! whether the stream is whole that the server makes of several.
//!
//! Of the sequence numbers it knows which gaps are of the server's making: within a layer the
//! stamps count the packets as well, and what the network has lost is missing from both.

use crate::source::Stamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Stays that are kept; beyond them the last one is written over.
const STAYS_MAX: usize = 256;
/// Whoever has had nothing for so long may have a newer time line.
const PAUSE_MICROS: u64 = 200_000;
/// A picture that has stood for so long is another stay.
const INTERRUPTED_MICROS: u64 = 500_000;
/// Frames that a late packet may belong to, and RTP ticks in a millisecond.
const FRAMES_REMEMBERED: usize = 64;
const TICKS: f64 = 90.0;

/// A packet of video with a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glimpse {
    /// Its sequence number, extended by the wraps before it.
    pub sequence: u64,
    /// Its RTP time.
    pub timestamp: u32,
    /// What the publisher wrote.
    pub stamp: Stamp,
    /// When it came, in microseconds since any moment.
    pub at_micros: u64,
}

/// An uninterrupted time with a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// The layer's place in the publisher's offer.
    pub layer: u8,
    /// Where nobody stamps what is sent: the size of the picture instead.
    pub size: Option<[u16; 2]>,
    /// When its first packet came, and its last.
    pub from_micros: u64,
    /// The latter.
    pub to_micros: u64,
    /// Frames of it, as far as anything of them came.
    pub frames: u64,
}

impl Stay {
    /// Frames per second.
    pub fn frame_rate(&self) -> f64 {
        let micros = self.to_micros.saturating_sub(self.from_micros);
        // The first frame begins the time, and the last one ends it.
        self.frames.saturating_sub(1) as f64 / (micros.max(1) as f64 / 1e6)
    }
}

/// What one video stream showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LayerReport {
    /// The stays, oldest first.
    pub stays: Vec<Stay>,
    /// Changes from one layer to another.
    pub switches: u64,
    /// Frames of each layer.
    pub frames: BTreeMap<u8, u64>,
    /// Sequence numbers that were left out by the server.
    pub made_gaps: u64,
    /// Timestamps that were before those of the packet before.
    pub backwards: u64,
    /// The largest change, by a switch without a pause, of what RTP time is ahead of the clock of
    /// the publisher: what picture and sound would be apart by. A stay may begin with a past whose
    /// times are closer together; it is judged as long behind the switch as that was before it.
    pub clock_step_ms_max: f64,
}

/// Watches one video stream.
#[derive(Debug, Default)]
pub struct LayerWatch {
    newest: Option<Glimpse>,
    /// The last packet before a switch, and when that was sent by which the switch is judged.
    left: Option<(Glimpse, u64)>,
    report: LayerReport,
    remembered: Vec<u32>,
    next: usize,
}

impl LayerWatch {
    /// Takes a packet, each once.
    pub fn take(&mut self, glimpse: Glimpse) {
        let Some(newest) = self.newest else {
            self.newest = Some(glimpse);
            self.begin(glimpse);
            self.count_frame(glimpse.timestamp, glimpse.stamp.layer);
            return;
        };
        if glimpse.sequence > newest.sequence {
            self.follow(newest, glimpse);
            self.newest = Some(glimpse);
        }
        if glimpse.timestamp != newest.timestamp {
            self.count_frame(glimpse.timestamp, glimpse.stamp.layer);
        }
    }

    /// Takes a packet without a stamp, and the size that a keyframe begins with.
    pub fn take_unstamped(&mut self, timestamp: u32, size: Option<[u16; 2]>, at_micros: u64) {
        let report = &mut self.report;
        let before = report.stays.last().map(|stay| stay.size);
        if before.is_none() || size.is_some() && before != Some(size) {
            report.switches += u64::from(before.is_some());
            let stay = Stay { size, from_micros: at_micros, ..Stay::default() };
            self.push(stay);
        }
        if let Some(stay) = self.report.stays.last_mut() {
            stay.to_micros = at_micros;
        }
        self.count_frame(timestamp, 0);
    }

    /// What it has seen so far.
    pub fn report(&self) -> &LayerReport {
        &self.report
    }

    fn follow(&mut self, last: Glimpse, now: Glimpse) {
        if now.stamp.layer != last.stamp.layer {
            let has_paused = now.at_micros.saturating_sub(last.at_micros) >= PAUSE_MICROS;
            let [before, begins] = [last, now].map(|it| it.stamp.sent_micros);
            let judged_at = before + before.saturating_sub(begins);
            self.left = Some((last, judged_at)).filter(|_| !has_paused);
        }
        self.judge(now);
        let report = &mut self.report;
        let ticks = now.timestamp.wrapping_sub(last.timestamp).cast_signed();
        report.backwards += u64::from(ticks < 0);
        if now.stamp.layer == last.stamp.layer {
            let numbers = now.sequence - last.sequence;
            let packets = now.stamp.counter.saturating_sub(last.stamp.counter);
            // Fewer numbers than packets are frames that were left out.
            report.made_gaps += numbers.saturating_sub(packets);
            if now.at_micros.saturating_sub(last.at_micros) >= INTERRUPTED_MICROS {
                self.begin(now);
            } else if let Some(stay) = report.stays.last_mut() {
                stay.to_micros = now.at_micros;
            }
            return;
        }
        report.switches += 1;
        self.begin(now);
    }

    /// Compares the clock with that before the switch, once that can be done.
    fn judge(&mut self, now: Glimpse) {
        let sent = now.stamp.sent_micros;
        let Some((last, _)) = self.left.take_if(|(_, at)| sent >= *at) else { return };
        let ticks = now.timestamp.wrapping_sub(last.timestamp).cast_signed();
        let passed = sent as f64 - last.stamp.sent_micros as f64;
        let step = (f64::from(ticks) / TICKS - passed / 1e3).abs();
        self.report.clock_step_ms_max = self.report.clock_step_ms_max.max(step);
    }

    fn begin(&mut self, first: Glimpse) {
        let at = first.at_micros;
        let stay =
            Stay { layer: first.stamp.layer, from_micros: at, to_micros: at, ..Stay::default() };
        self.push(stay);
    }

    fn push(&mut self, stay: Stay) {
        let stays = &mut self.report.stays;
        if stays.len() == STAYS_MAX {
            stays.pop();
        }
        stays.push(stay);
    }

    fn count_frame(&mut self, timestamp: u32, layer: u8) {
        if self.remembered.contains(&timestamp) {
            return;
        }
        if self.remembered.len() < FRAMES_REMEMBERED {
            self.remembered.push(timestamp);
        } else {
            self.remembered[self.next] = timestamp;
            self.next = (self.next + 1) % FRAMES_REMEMBERED;
        }
        *self.report.frames.entry(layer).or_default() += 1;
        let same = |stay: &&mut Stay| stay.layer == layer;
        if let Some(stay) = self.report.stays.last_mut().filter(same) {
            stay.frames += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of a layer: sequence number, counter, and milliseconds for all three clocks.
    fn glimpse(layer: u8, sequence: u64, counter: u64, milliseconds: u32) -> Glimpse {
        let micros = u64::from(milliseconds) * 1_000;
        Glimpse {
            sequence,
            timestamp: (milliseconds * 90).wrapping_sub(900),
            stamp: Stamp { counter, sent_micros: micros, layer },
            at_micros: micros,
        }
    }

    fn seen(glimpses: impl IntoIterator<Item = Glimpse>) -> LayerReport {
        let mut watch = LayerWatch::default();
        glimpses.into_iter().for_each(|glimpse| watch.take(glimpse));
        watch.report().clone()
    }

    #[test]
    fn stays_and_their_frame_rates_are_told_apart() {
        let first = (0..31).flat_map(|at| {
            let packet = |number| glimpse(0, number, number, at * 20);
            [packet(u64::from(at) * 2), packet(u64::from(at) * 2 + 1)]
        });
        let second = (31..42).map(|at| glimpse(2, u64::from(at) + 31, u64::from(at), at * 20));
        let report = seen(first.chain(second));
        let told: Vec<_> = report.stays.iter().map(|it| (it.layer, it.frames)).collect();
        assert_eq!(told, [(0, 31), (2, 11)]);
        assert!(report.stays.iter().all(|stay| (stay.frame_rate() - 50.0).abs() < 0.1));
        assert_eq!((report.switches, report.made_gaps, report.backwards), (1, 0, 0));
    }

    #[test]
    fn a_picture_that_stood_is_another_stay() {
        let report = seen([glimpse(1, 1, 1, 0), glimpse(1, 2, 2, 400), glimpse(1, 3, 3, 1_000)]);
        let frames: Vec<_> = report.stays.iter().map(|stay| stay.frames).collect();
        assert_eq!((frames, report.switches), (vec![2, 1], 0));
    }

    #[test]
    fn a_gap_of_the_servers_making_is_none_of_the_network() {
        let report = seen([glimpse(0, 1, 1, 0), glimpse(0, 5, 5, 20), glimpse(0, 8, 6, 40)]);
        assert_eq!(report.made_gaps, 2);
        let left_out = seen([glimpse(0, 1, 1, 0), glimpse(0, 2, 9, 20)]);
        assert_eq!(left_out.made_gaps, 0);
    }

    #[test]
    fn a_clock_that_jumps_at_a_switch_is_noticed() {
        let mut late = glimpse(1, 2, 7, 300);
        late.timestamp = late.timestamp.wrapping_add(450);
        assert!(seen([glimpse(0, 1, 1, 0), late]).clock_step_ms_max < 0.01, "after a pause");
        let mut ahead = glimpse(1, 2, 7, 20);
        ahead.timestamp = ahead.timestamp.wrapping_add(450);
        let report = seen([glimpse(0, 1, 1, 0), ahead]);
        assert!((report.clock_step_ms_max - 5.0).abs() < 0.01, "{report:?}");
        let mut behind = glimpse(1, 2, 7, 20);
        behind.timestamp = behind.timestamp.wrapping_sub(9_000);
        assert_eq!(seen([glimpse(0, 1, 1, 0), behind]).backwards, 1);
    }

    /// What is kept since a keyframe 200 ms ago goes out at once, its times closer together.
    #[test]
    fn a_past_is_judged_once_it_is_over() {
        let past = |at: u32| {
            let mut it = glimpse(1, 2 + u64::from(at), 1 + u64::from(at), 800 + at * 20);
            it.at_micros = 1_000_000 + u64::from(at) * 1_000;
            it.timestamp = ((1_000 + at) * 90).wrapping_sub(900);
            it
        };
        let live = |by: u32| {
            let mut it = glimpse(1, 30, 21, 1_210);
            it.timestamp = it.timestamp.wrapping_add(by);
            it
        };
        let all = |last| {
            seen([glimpse(0, 1, 1, 1_000)].into_iter().chain((1..11).map(past)).chain([last]))
        };
        assert!(all(live(0)).clock_step_ms_max < 0.01);
        assert!((all(live(450)).clock_step_ms_max - 5.0).abs() < 0.01);
    }

    #[test]
    fn a_late_packet_is_a_frame_unless_others_of_it_came() {
        let report = seen([
            glimpse(0, 1, 1, 0),
            glimpse(0, 4, 4, 40),
            glimpse(0, 2, 2, 20),
            glimpse(0, 3, 3, 40),
        ]);
        assert_eq!((report.frames[&0], report.backwards, report.switches), (3, 0, 0));
    }
}
