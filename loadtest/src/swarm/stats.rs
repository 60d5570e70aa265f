//! What is counted while a swarm runs: per phase of the run, and per group of viewers.

use super::histogram::Histogram;
use super::process::Usage;
use crate::layers::LayerReport;
use serde::Serialize;
use std::time::Duration;

/// What came to one group in one phase.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    /// Media packets, duplicates included.
    pub packets: u64,
    /// Bytes of them, without IP and UDP headers.
    pub bytes: u64,
    /// Microseconds from the stamp to the kernel's time of arrival.
    pub latency: Histogram,
    /// The same of the last packets of pictures.
    pub frame_latency: Histogram,
}

/// What the sequence numbers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Distinct packets.
    pub received: u64,
    /// Packets that have not come.
    pub lost: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a later one, retransmitted ones included.
    pub reordered: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
}

impl Counts {
    /// Adds what another stream counted.
    pub fn add(&mut self, other: Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.recovered += other.recovered;
    }

    /// What was added since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            received: self.received.saturating_sub(before.received),
            // A packet that was late then may have come since.
            lost: self.lost.saturating_sub(before.lost),
            duplicates: self.duplicates.saturating_sub(before.duplicates),
            reordered: self.reordered.saturating_sub(before.reordered),
            recovered: self.recovered.saturating_sub(before.recovered),
        }
    }
}

/// The state of things at a moment between two phases.
#[derive(Debug, Clone, Default)]
pub struct Mark {
    /// Since the swarm started.
    pub at: Duration,
    /// Per group.
    pub counts: Vec<Counts>,
    /// CPU time of the swarm's thread.
    pub generator_cpu: Duration,
    /// The server, where its process is known.
    pub server: Option<Usage>,
}

/// One phase of a run.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// How it began.
    pub start: Mark,
    /// How it ended.
    pub end: Mark,
    /// Per group.
    pub flows: Vec<Flow>,
}

impl Phase {
    /// How long it lasted.
    pub fn duration(&self) -> Duration {
        self.end.at.saturating_sub(self.start.at)
    }

    /// What a group's sequence numbers say about it.
    pub fn counts(&self, group: usize) -> Counts {
        let of = |mark: &Mark| mark.counts.get(group).copied().unwrap_or_default();
        of(&self.end).since(of(&self.start))
    }

    /// Packets of all groups.
    pub fn packets(&self) -> u64 {
        self.flows.iter().map(|flow| flow.packets).sum()
    }

    /// Microseconds of the generator's CPU for each packet.
    pub fn generator_us_per_packet(&self) -> Option<f64> {
        let used = self.end.generator_cpu.saturating_sub(self.start.generator_cpu);
        per_packet(used, self.packets())
    }

    /// CPU time the server used.
    pub fn server_cpu(&self) -> Option<Duration> {
        Some(self.end.server?.cpu.saturating_sub(self.start.server?.cpu))
    }

    /// Microseconds of the server's CPU for each packet that arrived.
    pub fn server_us_per_packet(&self) -> Option<f64> {
        per_packet(self.server_cpu()?, self.packets())
    }
}

fn per_packet(used: Duration, packets: u64) -> Option<f64> {
    (packets > 0).then(|| used.as_secs_f64() * 1e6 / packets as f64)
}

/// How far a newcomer is behind one who was there before, some time after connecting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Lag {
    /// Microseconds since its newest packet was sent.
    pub age_us: i64,
    /// The same of the earliest viewer at the same moment.
    pub earliest_age_us: i64,
    /// The newcomer's RTP time of a packet less the earliest viewer's of the same one, in
    /// milliseconds.
    pub rtp_offset_ms: Option<f64>,
}

impl Lag {
    /// How far the newcomer is behind.
    pub fn behind_us(&self) -> i64 {
        self.age_us - self.earliest_age_us
    }
}

/// How one viewer fared.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ViewerOutcome {
    /// Whom it is reported with.
    pub group: usize,
    /// Microseconds from POST to the end of DTLS.
    pub connect_us: Option<u64>,
    /// From the end of DTLS to the first media packet.
    pub first_packet_us: Option<u64>,
    /// From the end of DTLS to the first packet of a keyframe.
    pub first_keyframe_us: Option<u64>,
    /// From POST to the last packet of a keyframe of which nothing is missing.
    pub post_to_frame_us: Option<u64>,
    /// Where it stood three seconds after connecting.
    pub lag: Option<Lag>,
    /// What its streams counted.
    pub counts: Counts,
    /// What it saw of its publisher's layers.
    pub layers: LayerReport,
    /// Why it is over, if it is.
    pub over: Option<String>,
}

/// What is known while a swarm runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Viewers that got an answer.
    pub invited: usize,
    /// Of these, who is not connected yet.
    pub connecting: usize,
    /// Who is watching.
    pub watching: usize,
    /// Who has got media.
    pub served: usize,
    /// Who failed, or was ended by the server.
    pub over: usize,
    /// Who is connected and was not asked yet how far it is behind.
    pub settling: usize,
    /// Media packets so far.
    pub packets: u64,
    /// Packets lost so far.
    pub lost: u64,
    /// Packets that came by retransmission so far.
    pub recovered: u64,
    /// 99th percentile of the latency in the last second, in microseconds.
    pub latency_p99_us: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_comes_in_the_next_phase_is_no_negative_loss() {
        let before = Counts { received: 10, lost: 2, ..Counts::default() };
        let after = Counts { received: 15, lost: 1, ..Counts::default() };
        assert_eq!(after.since(before), Counts { received: 5, ..Counts::default() });
    }

    #[test]
    fn cost_per_packet_is_over_all_groups() {
        let flow = |packets| Flow { packets, ..Flow::default() };
        let mut phase = Phase { flows: vec![flow(300), flow(700)], ..Phase::default() };
        phase.end.generator_cpu = Duration::from_millis(2);
        assert_eq!(phase.generator_us_per_packet(), Some(2.0));
        assert_eq!(phase.server_us_per_packet(), None);
    }
}
