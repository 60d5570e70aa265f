//! The results of a ramp, as a table for people and as JSON for programs.

use super::layers::LayersReport;
use super::spread::Spread;
use clap::Args;
use loadtest::report::PublishReport;
use loadtest::swarm::{Flow, Joins, Outcome, Phase, Usage, ViewerOutcome};
use serde::Serialize;
use std::fmt;

/// Names of the groups, in their order.
const GROUPS: [&str; 2] = ["watching", "burst"];
/// The phases without the second group.
const BEFORE_BURST: [&str; 2] = ["joining", "steady"];
/// Reasons why viewers are over that are shown.
const REASONS_MAX: usize = 5;

/// What must hold, else the command fails.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limits {
    /// Fail when more packets than this are lost once everybody watches.
    #[arg(long, value_name = "PACKETS")]
    fail_lost: Option<u64>,
    /// Fail when the latency's 99th percentile is above this once everybody watches.
    #[arg(long, value_name = "MS")]
    fail_p99_ms: Option<f64>,
}

impl Limits {
    /// Holds the results against the limits.
    pub(crate) fn check(&self, report: &Report) -> anyhow::Result<()> {
        let measured = || report.phases.iter().filter(|phase| phase.name != "joining");
        let is_limited = self.fail_lost.is_some() || self.fail_p99_ms.is_some();
        let packets: u64 = measured().map(|phase| phase.packets).sum();
        anyhow::ensure!(!is_limited || packets > 0, "no packet came while it was measured");
        let lost: u64 = measured().map(|phase| phase.lost).sum();
        let p99 = measured().filter_map(|phase| phase.latency_ms.p99).fold(0.0, f64::max);
        if let Some(limit) = self.fail_lost {
            anyhow::ensure!(lost <= limit, "{lost} packets are lost, {limit} may be");
        }
        if let Some(limit) = self.fail_p99_ms {
            anyhow::ensure!(p99 <= limit, "p99 is {p99:.1} ms, {limit} may be");
        }
        Ok(())
    }
}

/// What came in from a run.
pub(crate) struct Watched {
    pub(crate) outcome: Outcome,
    pub(crate) joins: Vec<Joins>,
    pub(crate) undeleted: usize,
}

/// One group in one phase.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PhaseReport {
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) seconds: f64,
    pub(super) packets: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) recovered: u64,
    pub(super) latency_ms: Spread,
}

/// How a group joined.
#[derive(Debug, Clone, Serialize)]
pub(super) struct GroupReport {
    pub(super) group: &'static str,
    pub(super) joins: Joins,
    pub(super) connected: usize,
    pub(super) over: usize,
    pub(super) over_reasons: Vec<String>,
    /// From POST to the end of DTLS.
    pub(super) connect_ms: Spread,
    /// From the end of DTLS.
    pub(super) first_packet_ms: Spread,
    /// From the end of DTLS.
    pub(super) first_keyframe_ms: Spread,
    /// From POST.
    pub(super) post_to_keyframe_ms: Spread,
    /// Viewers for whom it could be told, three seconds after connecting.
    pub(super) compared: usize,
    /// How far behind the earliest viewer they were then; a lead counts as none.
    pub(super) behind_ms: Spread,
    /// How far their RTP times were from the earliest viewer's.
    pub(super) rtp_offset_ms: Spread,
    /// Of a publisher with several layers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layers: Option<LayersReport>,
}

/// One phase's use of the machine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CostReport {
    pub(super) phase: &'static str,
    pub(super) packets_a_second: f64,
    pub(super) server_us_per_packet: Option<f64>,
    pub(super) server_cpu_percent: Option<f64>,
    /// Microseconds of its CPU for each viewer who was there at the end, and second.
    pub(super) server_us_per_viewer_second: Option<f64>,
    pub(super) generator_us_per_packet: Option<f64>,
    pub(super) generator_cpu_percent: f64,
    pub(super) server_resident_bytes: Option<u64>,
}

/// The results.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(super) packets: u64,
    pub(super) phases: Vec<PhaseReport>,
    pub(super) groups: Vec<GroupReport>,
    pub(super) costs: Vec<CostReport>,
    /// Before anybody joined.
    pub(super) server_start_resident_bytes: Option<u64>,
    /// What each viewer added, measured at the end.
    pub(super) server_resident_bytes_per_viewer: Option<u64>,
    /// DELETEs that the server refused.
    pub(super) undeleted: usize,
    pub(super) publisher: Option<PublishReport>,
}

impl Report {
    /// Puts the results of a run together.
    pub(crate) fn new(
        watched: Watched,
        publisher: Option<PublishReport>,
        server: Option<Usage>,
    ) -> Self {
        let Watched { outcome, joins, undeleted } = watched;
        let Outcome { viewers, phases } = outcome;
        let connected = viewers.iter().filter(|it| it.connect_us.is_some()).count() as u64;
        let resident = |phase: &Phase| Some(phase.end.server?.resident_bytes);
        let last = phases.last().and_then(resident);
        let start = server.map(|usage| usage.resident_bytes);
        let added = last.zip(start).map(|(last, start)| last.saturating_sub(start));
        Self {
            packets: phases.iter().map(Phase::packets).sum(),
            groups: (0..).zip(joins).map(|(at, joins)| group_report(at, joins, &viewers)).collect(),
            costs: phases.iter().map(|phase| cost_report(phase, &viewers)).collect(),
            phases: phases.iter().flat_map(phase_reports).collect(),
            server_start_resident_bytes: start,
            server_resident_bytes_per_viewer: added.and_then(|it| it.checked_div(connected)),
            undeleted,
            publisher,
        }
    }
}

fn phase_reports(phase: &Phase) -> impl Iterator<Item = PhaseReport> + '_ {
    let present = |(_, (_, flow)): &(usize, (&&'static str, &Flow))| flow.packets > 0;
    GROUPS.iter().zip(&phase.flows).enumerate().filter(present).map(|(at, (group, flow))| {
        let counts = phase.counts(at);
        PhaseReport {
            name: phase.name,
            group,
            seconds: phase.duration().as_secs_f64(),
            packets: flow.packets,
            lost: counts.lost,
            duplicates: counts.duplicates,
            reordered: counts.reordered,
            recovered: counts.recovered,
            latency_ms: Spread::of(&flow.latency),
        }
    })
}

fn group_report(at: usize, joins: Joins, viewers: &[ViewerOutcome]) -> GroupReport {
    let ours = || viewers.iter().filter(|viewer| viewer.group == at);
    let keyframe = |it: &ViewerOutcome| Some(it.connect_us? + it.first_keyframe_us?);
    let lags = || ours().filter_map(|viewer| viewer.lag);
    let mut over_reasons: Vec<String> = ours().filter_map(|it| it.over.clone()).collect();
    let over = over_reasons.len();
    over_reasons.sort_unstable();
    over_reasons.dedup();
    over_reasons.truncate(REASONS_MAX);
    GroupReport {
        group: GROUPS.get(at).copied().unwrap_or_default(),
        connected: ours().filter(|it| it.connect_us.is_some()).count(),
        over,
        over_reasons,
        connect_ms: Spread::among(ours().filter_map(|it| it.connect_us)),
        first_packet_ms: Spread::among(ours().filter_map(|it| it.first_packet_us)),
        first_keyframe_ms: Spread::among(ours().filter_map(|it| it.first_keyframe_us)),
        post_to_keyframe_ms: Spread::among(ours().filter_map(keyframe)),
        compared: lags().count(),
        behind_ms: Spread::among(lags().map(|lag| u64::try_from(lag.behind_us()).unwrap_or(0))),
        rtp_offset_ms: Spread::among(
            lags().filter_map(|lag| Some((lag.rtp_offset_ms?.abs() * 1_000.0) as u64)),
        ),
        layers: LayersReport::of(ours().map(|viewer| &viewer.layers)),
        joins,
    }
}

fn cost_report(phase: &Phase, viewers: &[ViewerOutcome]) -> CostReport {
    let seconds = phase.duration().as_secs_f64().max(0.001);
    let percent = |cpu: std::time::Duration| cpu.as_secs_f64() / seconds * 100.0;
    let is_there = |it: &&ViewerOutcome| {
        it.connect_us.is_some() && (it.group == 0 || !BEFORE_BURST.contains(&phase.name))
    };
    let present = viewers.iter().filter(is_there).count().max(1) as f64;
    CostReport {
        phase: phase.name,
        packets_a_second: phase.packets() as f64 / seconds,
        server_us_per_packet: phase.server_us_per_packet(),
        server_cpu_percent: phase.server_cpu().map(percent),
        server_us_per_viewer_second: phase
            .server_cpu()
            .map(|cpu| cpu.as_secs_f64() * 1e6 / seconds / present),
        generator_us_per_packet: phase.generator_us_per_packet(),
        generator_cpu_percent: percent(
            phase.end.generator_cpu.saturating_sub(phase.start.generator_cpu),
        ),
        server_resident_bytes: phase.end.server.map(|usage| usage.resident_bytes),
    }
}

/// A number, or a dash.
pub(super) fn cell(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}"))
}

fn spread(out: &mut fmt::Formatter<'_>, name: &str, spread: &Spread) -> fmt::Result {
    let Spread { p50, p99, max, .. } = *spread;
    writeln!(out, "  {name:<34}{:>9} {:>9} {:>9}", cell(p50), cell(p99), cell(max))
}

impl fmt::Display for GroupReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Joins { asked, answered, failed, .. } = &self.joins;
        write!(out, "{}: {asked} asked, {answered} answered, {failed} failed", self.group)?;
        for (status, count) in &self.joins.refused {
            write!(out, ", {count} refused with {status}")?;
        }
        for (seconds, count) in &self.joins.retry_after_s {
            write!(out, ", {count} told to retry after {seconds} s")?;
        }
        writeln!(out, "; {} connected, {} over before the end", self.connected, self.over)?;
        for reason in self.joins.reasons.iter().chain(&self.over_reasons).take(REASONS_MAX) {
            writeln!(out, "  {reason}")?;
        }
        writeln!(out, "  {:<34}{:>9} {:>9} {:>9}", "ms", "p50", "p99", "max")?;
        spread(out, "POST to connected", &self.connect_ms)?;
        spread(out, "connected to first packet", &self.first_packet_ms)?;
        spread(out, "connected to first keyframe", &self.first_keyframe_ms)?;
        spread(out, "POST to first keyframe", &self.post_to_keyframe_ms)?;
        spread(out, "behind the earliest after 3 s", &self.behind_ms)?;
        spread(out, "RTP time off the earliest's", &self.rtp_offset_ms)?;
        self.layers.iter().try_for_each(|layers| writeln!(out, "{layers}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<9} {:<9} {:>6} {:>10} {:>6} {:>4} {:>8} {:>8} {:>8} {:>8}",
            "phase", "group", "s", "packets", "lost", "dup", "p50 ms", "p99 ms", "p99.9", "max"
        )?;
        for phase in &self.phases {
            let Spread { p50, p99, p999, max, .. } = phase.latency_ms;
            writeln!(
                out,
                "{:<9} {:<9} {:>6.1} {:>10} {:>6} {:>4} {:>8} {:>8} {:>8} {:>8}",
                phase.name,
                phase.group,
                phase.seconds,
                phase.packets,
                phase.lost,
                phase.duplicates,
                cell(p50),
                cell(p99),
                cell(p999),
                cell(max)
            )?;
        }
        writeln!(
            out,
            "{:<9} {:>10} {:>14} {:>9} {:>17} {:>12} {:>14}",
            "phase",
            "packets/s",
            "server us/pkt",
            "server %",
            "generator us/pkt",
            "generator %",
            "server RSS MiB"
        )?;
        for cost in &self.costs {
            let resident = cost.server_resident_bytes.map(|bytes| bytes as f64 / 1_048_576.0);
            let us = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.2}"));
            writeln!(
                out,
                "{:<9} {:>10.0} {:>14} {:>9} {:>17} {:>12.1} {:>14}",
                cost.phase,
                cost.packets_a_second,
                us(cost.server_us_per_packet),
                cell(cost.server_cpu_percent),
                us(cost.generator_us_per_packet),
                cost.generator_cpu_percent,
                cell(resident)
            )?;
        }
        for group in &self.groups {
            write!(out, "{group}")?;
        }
        if let Some(bytes) = self.server_resident_bytes_per_viewer {
            writeln!(out, "server memory: {:.1} KiB per viewer", bytes as f64 / 1_024.0)?;
        }
        if self.undeleted > 0 {
            writeln!(out, "{} sessions could not be deleted", self.undeleted)?;
        }
        match &self.publisher {
            Some(publisher) => write!(out, "publisher: {publisher}"),
            None => write!(out, "{} packets in all", self.packets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadtest::swarm::Mark;
    use std::time::Duration;

    #[test]
    fn what_a_viewer_costs_is_shared_by_all_who_are_there() {
        let of_group = |group| ViewerOutcome { group, connect_us: Some(1), ..Default::default() };
        let viewers = [of_group(0), of_group(0), of_group(1), of_group(1)];
        let mark = |seconds, cpu_ms| Mark {
            at: Duration::from_secs(seconds),
            server: Some(Usage { cpu: Duration::from_millis(cpu_ms), resident_bytes: 0 }),
            ..Mark::default()
        };
        let cost = |name| {
            let phase = Phase { name, start: mark(1, 100), end: mark(3, 140), ..Phase::default() };
            cost_report(&phase, &viewers).server_us_per_viewer_second
        };
        assert_eq!(cost("steady"), Some(10_000.0), "the others are still to come");
        assert_eq!(cost("after"), Some(5_000.0));
    }
}
