//! Text exposition of metrics, format 0.0.4 of Prometheus.

use crate::media_server::{Metric, MetricKind};
use std::fmt::Write as _;

/// The media type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric as text.
pub(crate) fn exposition(metrics: &[Metric]) -> String {
    let mut out = String::new();
    for metric in metrics {
        // Writing to a `String` cannot fail, hence the results go unused.
        let _ = write_metric(&mut out, metric);
    }
    out
}

fn write_metric(out: &mut String, metric: &Metric) -> std::fmt::Result {
    let name = metric.name;
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    };
    writeln!(out, "# HELP {name} {}", metric.help.replace('\\', r"\\").replace('\n', r"\n"))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    for (labels, value) in &metric.samples {
        out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            out.push(if index == 0 { '{' } else { ',' });
            write!(out, "{label}=\"{}\"", escaped(text))?;
        }
        if !labels.is_empty() {
            out.push('}');
        }
        writeln!(out, " {}", number(*value))?;
    }
    Ok(())
}

/// The inside of a quoted label value.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// Rust writes `inf`; the format knows `+Inf`, `-Inf` and `NaN`.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values_are_written_as_prometheus_reads_them() {
        let odd = "a\\b\"c\nd".to_owned();
        let metrics = [
            Metric {
                name: "millrace_packets_total",
                help: "Packets\nwith a \\.",
                kind: MetricKind::Counter,
                samples: vec![(vec![("kind", odd), ("shard", "0".to_owned())], 3.0)],
            },
            Metric {
                name: "millrace_load_ratio",
                help: "Load.",
                kind: MetricKind::Gauge,
                samples: vec![(vec![], 0.25), (vec![("x", "y".to_owned())], f64::INFINITY)],
            },
        ];
        assert_eq!(
            exposition(&metrics),
            "# HELP millrace_packets_total Packets\\nwith a \\\\.\n\
             # TYPE millrace_packets_total counter\n\
             millrace_packets_total{kind=\"a\\\\b\\\"c\\nd\",shard=\"0\"} 3\n\
             # HELP millrace_load_ratio Load.\n\
             # TYPE millrace_load_ratio gauge\n\
             millrace_load_ratio 0.25\n\
             millrace_load_ratio{x=\"y\"} +Inf\n"
        );
        assert_eq!((number(f64::NAN), number(f64::NEG_INFINITY)), ("NaN".into(), "-Inf".into()));
    }
}
