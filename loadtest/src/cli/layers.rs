//! Which of a publisher's layers viewers got, and how whole the streams made of them were.

use loadtest::layers::LayerReport;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What those got who are with one layer at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct LayerRow {
    viewers: usize,
    /// Frames per second since the last switch, of the viewer with the fewest and on average.
    frame_rate_min: f64,
    frame_rate_mean: f64,
}

/// The viewers of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct LayersReport {
    /// By the layer's place in the publisher's offer, or by its size.
    last: BTreeMap<String, LayerRow>,
    switches: u64,
    /// Of the viewer with the most.
    switches_max: u64,
    made_gaps: u64,
    backwards: u64,
    clock_step_ms_max: f64,
}

impl LayersReport {
    /// Nothing, where nobody got any layer but the first.
    pub(super) fn of<'a>(viewers: impl Iterator<Item = &'a LayerReport> + Clone) -> Option<Self> {
        let is_other = |report: &LayerReport| {
            let has_size = report.stays.iter().any(|stay| stay.size.is_some());
            has_size || report.frames.keys().any(|layer| *layer > 0)
        };
        viewers.clone().any(is_other).then_some(())?;
        let mut this = Self::default();
        for report in viewers {
            this.switches += report.switches;
            this.switches_max = this.switches_max.max(report.switches);
            this.made_gaps += report.made_gaps;
            this.backwards += report.backwards;
            this.clock_step_ms_max = this.clock_step_ms_max.max(report.clock_step_ms_max);
            let Some(stay) = report.stays.last() else { continue };
            let name = stay.size.map_or_else(
                || stay.layer.to_string(),
                |[width, height]| format!("{width}x{height}"),
            );
            let (row, rate) = (this.last.entry(name).or_default(), stay.frame_rate());
            let is_first = row.viewers == 0;
            row.frame_rate_min = if is_first { rate } else { row.frame_rate_min.min(rate) };
            row.frame_rate_mean += rate;
            row.viewers += 1;
        }
        for row in this.last.values_mut() {
            row.frame_rate_mean /= row.viewers as f64;
        }
        Some(this)
    }

    /// Who is with which, in a word: `0:100,2:50`.
    pub(super) fn counts(&self) -> String {
        let counts = self.last.iter().map(|(layer, row)| format!("{layer}:{}", row.viewers));
        counts.collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for LayersReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, row) in &self.last {
            let LayerRow { viewers, frame_rate_min, frame_rate_mean } = row;
            writeln!(
                out,
                "  layer {layer}: {viewers} viewers, {frame_rate_mean:.2} frames/s, the least \
                 {frame_rate_min:.2}"
            )?;
        }
        write!(
            out,
            "  {} switches, {} of one viewer at most; {} numbers left out, {} timestamps \
             backwards, clock steps of {:.1} ms at most",
            self.switches,
            self.switches_max,
            self.made_gaps,
            self.backwards,
            self.clock_step_ms_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadtest::layers::Stay;

    fn viewer(layer: u8, frames: u64) -> LayerReport {
        let stay = Stay { layer, to_micros: 1_000_000, frames, ..Stay::default() };
        let frames = BTreeMap::from([(layer, frames)]);
        LayerReport { stays: vec![stay], frames, switches: u64::from(layer), ..Default::default() }
    }

    #[test]
    fn viewers_are_counted_by_the_layer_they_are_with() {
        let report = LayersReport::of([viewer(0, 31), viewer(2, 16), viewer(2, 11)].iter());
        let report = report.expect("there are several layers");
        assert_eq!(report.last["0"].viewers, 1);
        let last = &report.last["2"];
        assert_eq!((last.viewers, last.frame_rate_min, last.frame_rate_mean), (2, 10.0, 12.5));
        assert_eq!((report.switches, report.switches_max), (4, 2));
    }

    #[test]
    fn of_one_layer_there_is_nothing_to_say() {
        assert_eq!(LayersReport::of([viewer(0, 31)].iter()), None);
    }
}
