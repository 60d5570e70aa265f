//! Made layers as HTTP sees them, in `signaling`'s words.

use super::readings::{Samples, metric};
use super::sound;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::Config;
use crate::ladder::{LadderReport, Ladders, MadeReport, Tools};
use crate::media::id::StreamName;
use crate::media::time::Epoch;
use crate::telemetry::metrics;
use crate::transcode::{Transcoder, Unavailable};
use signaling::media_server::{Metric, StreamReport};
use std::fmt::Write as _;
use std::sync::Arc;

/// What of transcoding is off, and how it gets on: sound, and pictures where there are ladders.
pub(super) async fn advice(config: &Config, transcoder: &Transcoder) -> Option<String> {
    let of_sound = sound::advice(transcoder).await;
    if !config.transcode.has_ladders() {
        return of_sound;
    }
    let missing = tokio::time::timeout(sound::PATIENCE, transcoder.missing_pictures()).await;
    let of_pictures = note(&missing.unwrap_or_default());
    of_sound.into_iter().chain(of_pictures).reduce(|all, more| all + &more)
}

fn note(missing: &[Unavailable]) -> Option<String> {
    let told = missing.iter().filter(|reason| **reason != Unavailable::Off);
    let lines = told.fold(String::new(), |mut lines, reason| {
        // Writing to a String does not fail.
        let _ = writeln!(lines, "  {reason}");
        lines
    });
    (!lines.is_empty()).then(|| {
        format!(
            "\nNOTE: not all pictures can be transcoded (transcode.ladder). Streams that need it, \
             such as those\nwith B-frames, do not play everywhere:\n{lines}"
        )
    })
}

/// Layers are made of the streams that have a ladder.
pub(super) fn ladders(
    config: &Config,
    bus: &Arc<Bus>,
    clock: &Clock,
    epoch: Epoch,
    transcoder: &Transcoder,
) -> Ladders {
    Ladders::new(Tools {
        bus: Arc::clone(bus),
        clock: clock.clone(),
        epoch,
        transcoder: transcoder.clone(),
        settings: config.transcode.clone(),
        payload_max: config.ingest.payload_max_bytes,
        grace: config.whip.grace_time,
    })
}

/// Adds what is known of the layers that are made of a stream.
pub(super) fn add(known: LadderReport, report: &mut StreamReport) {
    if let Some(publisher) = &mut report.publisher {
        publisher.notices.extend(known.notices);
    }
    for layer in report.tracks.iter_mut().flat_map(|track| &mut track.layers) {
        let is_it = |made: &&MadeReport| layer.made && layer.rid.as_ref() == Some(&made.rid);
        layer.encoder = known.layers.iter().find(is_it).and_then(|made| made.encoder.clone());
    }
}

/// How the workers of pictures keep up, by stream.
pub(super) fn readings(pictures: usize, reports: &[(StreamName, LadderReport)]) -> Vec<Metric> {
    let labels = |stream: &StreamName| vec![("stream", stream.to_string())];
    let by_stream = |read: fn(&LadderReport) -> f64| -> Samples {
        reports.iter().map(|(stream, report)| (labels(stream), read(report))).collect()
    };
    let skipped = reports.iter().flat_map(|(stream, report)| {
        report.layers.iter().map(move |layer| {
            let labels = vec![("stream", stream.to_string()), ("layer", layer.rid.clone())];
            (labels, layer.skipped_pictures as f64)
        })
    });
    let by_layer = reports.iter().flat_map(|(stream, report)| {
        report.load.layers.iter().filter_map(move |load| {
            let rid = &report.layers.get(usize::from(load.layer))?.rid;
            let labels = vec![("stream", stream.to_string()), ("layer", rid.clone())];
            Some((labels, f64::from(load.encode_us) / 1e6))
        })
    });
    vec![
        metric(metrics::LADDER_WORKERS, vec![(Vec::new(), pictures as f64)]),
        metric(metrics::LADDER_WAITING, by_stream(|it| f64::from(it.load.waiting))),
        metric(metrics::LADDER_DROPPED, by_stream(|it| it.dropped_frames as f64)),
        metric(metrics::LADDER_SKIPPED, skipped.collect()),
        metric(metrics::LADDER_SPEED, by_stream(|it| f64::from(it.load.speed_percent) / 100.0)),
        metric(metrics::LADDER_DECODE, by_stream(|it| f64::from(it.load.decode_us) / 1e6)),
        metric(metrics::LADDER_ENCODE, by_layer.collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ladder_lacks_is_told_unless_the_operator_wants_nothing_transcoded() {
        assert_eq!(note(&[]), None);
        assert_eq!(note(&[Unavailable::Off]), None);
        let text = note(&[Unavailable::PicturesFull(1)]).expect("it is told");
        assert!(text.contains("transcode.ladder") && text.contains("pictures_max"), "{text}");
    }
}
