//! The results of a ramp in one line for each phase, for a table of many runs.

use super::layers::LayersReport;
use super::report::{CostReport, Report, cell};
use super::spread::Spread;
use serde::Serialize;
use std::fmt;

/// The line above the others; `scripts/load` prints it by `summary-head`.
const HEAD: [(&str, usize); 18] = [
    ("run", 30),
    ("phase", 7),
    ("viewers", 8),
    ("refused", 8),
    ("packets/s", 10),
    ("us/pkt", 7),
    ("of sendto", 10),
    ("server %", 9),
    ("generator us/pkt", 17),
    ("lost", 6),
    ("latency p50/p99", 16),
    ("connect p50/p99", 16),
    ("keyframe p50/p99", 17),
    ("behind p99", 11),
    ("KiB/viewer", 11),
    ("PLI/s", 6),
    ("us/viewer/s", 13),
    ("layers", 20),
];

/// One phase of one run. Losses and latencies are those of the viewers who were there first.
#[derive(Debug, Serialize)]
struct Row {
    cells: Vec<String>,
}

/// The lines of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    rows: Vec<Row>,
}

impl Summary {
    /// The head of the table alone.
    pub(crate) fn head() -> Self {
        let cells = HEAD.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { rows: vec![Row { cells }] }
    }

    /// Takes from the results what goes into the table.
    pub(crate) fn new(name: &str, report: &Report, sendto_us: Option<f64>) -> Self {
        let costs = report.costs.iter().filter(|cost| cost.phase != "joining");
        Self { rows: costs.map(|cost| row(name, cost, report, sendto_us)).collect() }
    }
}

fn row(name: &str, cost: &CostReport, report: &Report, sendto_us: Option<f64>) -> Row {
    // Who joined before or in this phase.
    let group = report.groups.get(usize::from(cost.phase != "steady"));
    let group = group.or(report.groups.first());
    let earliest = report.phases.iter().find(|it| it.name == cost.phase && it.group == "watching");
    let pair = |spread: Option<&Spread>| {
        let cells = spread.map(|it| format!("{}/{}", cell(it.p50), cell(it.p99)));
        cells.unwrap_or_else(|| "-".to_owned())
    };
    let two = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.2}"));
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |it| it.to_string());
    let ratio = cost.server_us_per_packet.zip(sendto_us).map(|(ours, bare)| ours / bare);
    let kibibytes = report.server_resident_bytes_per_viewer.map(|it| it as f64 / 1_024.0);
    let requests = report.publisher.as_ref().map(|it| it.keyframe_requests_a_second_max as u64);
    let layers = group.and_then(|it| it.layers.as_ref());
    let refused = group.map(|it| it.joins.refused.values().sum::<usize>() as u64);
    Row {
        cells: vec![
            name.to_owned(),
            cost.phase.to_owned(),
            number(group.map(|it| it.connected as u64)),
            number(refused),
            format!("{:.0}", cost.packets_a_second),
            two(cost.server_us_per_packet),
            two(ratio),
            cell(cost.server_cpu_percent),
            two(cost.generator_us_per_packet),
            number(earliest.map(|it| it.lost)),
            pair(earliest.map(|it| &it.latency_ms)),
            pair(group.map(|it| &it.connect_ms)),
            pair(group.map(|it| &it.first_keyframe_ms)),
            cell(group.and_then(|it| it.behind_ms.p99)),
            cell(kibibytes),
            number(requests),
            cell(cost.server_us_per_viewer_second),
            layers.map_or_else(|| "-".to_owned(), LayersReport::counts),
        ],
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, row) in self.rows.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            for (column, (cell, (_, width))) in row.cells.iter().zip(HEAD).enumerate() {
                match column {
                    0 | 1 => write!(out, "{cell:<width$}")?,
                    _ => write!(out, "{cell:>width$}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_as_wide_as_its_columns() {
        let width: usize = HEAD.iter().map(|(_, width)| width).sum();
        assert_eq!(Summary::head().to_string().len(), width);
    }
}
