//! Every metric with its present value.

use super::admission::Admission;
use super::ladders;
use super::ledger::{Came, Ledger};
use super::memory;
use super::thumbnails;
use crate::bus::publication::{Details, FrameCounts, LinkReport};
use crate::egress::http::HlsCounts;
use crate::egress::thumbnail::ThumbnailCounts;
use crate::ladder::LadderReport;
use crate::media::id::StreamName;
use crate::sessions::Sessions;
use crate::shard::gauges::Reading;
use crate::shard::{Handle, ShardCounts};
use crate::telemetry::metrics::{self, Kind, Row};
use crate::transcode::TranscodeCounts;
use signaling::media_server::{Metric, MetricKind};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a shard may take to count before it is left out.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

pub(super) fn metric(row: Row, samples: Samples) -> Metric {
    let kind = match row.kind {
        Kind::Counter => MetricKind::Counter,
        Kind::Gauge => MetricKind::Gauge,
    };
    Metric { name: row.name, help: row.help, kind, samples }
}

/// What happens beside the shards.
pub(super) struct Beside {
    pub(super) transcoding: TranscodeCounts,
    pub(super) packaging: HlsCounts,
    pub(super) ladders: Vec<(StreamName, LadderReport)>,
    pub(super) thumbnails: ThumbnailCounts,
}

/// Reads everything; a shard that does not answer in time is missing.
pub(super) async fn readings(
    sessions: &Sessions,
    shards: &[Handle],
    ledger: &Ledger,
    admission: &Admission,
    beside: Beside,
) -> Vec<Metric> {
    let mut counts = Vec::new();
    for (index, shard) in shards.iter().enumerate() {
        let (reply, answer) = oneshot::channel();
        // A late answer finds nobody listening: that is fine.
        if shard
            .count(move |counts| {
                let _ = reply.send(counts);
            })
            .is_err()
        {
            continue;
        }
        if let Ok(Ok(counted)) = tokio::time::timeout(COUNT_TIMEOUT, answer).await {
            counts.push((index, counted));
        }
    }
    let (pending, all) = sessions.bus.directory().counts();
    let connected = all.saturating_sub(pending);
    let live = sessions.bus.directory().live_streams().len();
    let mut metrics = vec![
        metric(
            metrics::SESSIONS,
            vec![
                (vec![("state", "pending".to_owned())], pending as f64),
                (vec![("state", "claimed".to_owned())], connected as f64),
            ],
        ),
        metric(metrics::STREAMS, vec![(Vec::new(), live as f64)]),
        metric(metrics::SESSIONS_CONNECTED, connected_samples(ledger)),
        metric(metrics::SESSIONS_ENDED, ended_samples(ledger)),
        metric(metrics::SESSIONS_REFUSED, refused_samples(ledger)),
    ];
    metrics.extend(shard_metrics(&counts));
    metrics.extend(publication_metrics(&sessions.bus.all_details()));
    metrics.extend(capacity_metrics(shards, admission));
    metrics.extend(transcode_metrics(beside.transcoding));
    metrics.extend(ladders::readings(beside.transcoding.pictures, &beside.ladders));
    metrics.extend(hls_metrics(beside.packaging));
    metrics.push(thumbnails::reading(beside.thumbnails));
    metrics
}

/// How packaging for HLS fares.
fn hls_metrics(counts: HlsCounts) -> [Metric; 5] {
    let one = |value: f64| vec![(Vec::new(), value)];
    [
        metric(metrics::HLS_STREAMS, one(counts.packages as f64)),
        metric(metrics::HLS_HELD, one(counts.held_bytes as f64)),
        metric(metrics::HLS_WAITING, one(counts.waiting as f64)),
        metric(metrics::HLS_BEGUN, one(counts.begun as f64)),
        metric(metrics::HLS_NOT_IN_TIME, one(counts.not_in_time as f64)),
    ]
}

/// How the worker processes fare.
fn transcode_metrics(counts: TranscodeCounts) -> [Metric; 3] {
    let one = |value: f64| vec![(Vec::new(), value)];
    [
        metric(metrics::TRANSCODE_WORKERS, one(counts.workers as f64)),
        metric(metrics::TRANSCODE_RESTARTS, one(counts.restarts as f64)),
        metric(metrics::TRANSCODE_DROPPED, one(counts.dropped_frames as f64)),
    ]
}

/// What is known of publishers that do not come by WebRTC.
fn publication_metrics(all: &[(StreamName, Details)]) -> Vec<Metric> {
    type Read = fn(&LinkReport) -> f64;
    let rows: [(Row, Read); 8] = [
        (metrics::LINK_ROUND_TRIP, |link| link.round_trip.as_secs_f64()),
        (metrics::LINK_LATENCY, |link| link.latency.as_secs_f64()),
        (metrics::LINK_PACKETS, |link| link.packets as f64),
        (metrics::LINK_LOST, |link| link.lost_packets as f64),
        (metrics::LINK_RETRANSMITTED, |link| link.retransmitted_packets as f64),
        (metrics::LINK_DROPPED, |link| link.dropped_packets as f64),
        (metrics::LINK_GAPS, |link| link.continuity_errors as f64),
        (metrics::LINK_DAMAGED, |link| link.damaged_units as f64),
    ];
    let links = || all.iter().filter_map(|(stream, known)| Some((stream, known.link.as_ref()?)));
    let labels = |stream: &StreamName| vec![("stream", stream.to_string())];
    let by_link = |(row, read): (Row, Read)| {
        metric(row, links().map(|(stream, link)| (labels(stream), read(link))).collect())
    };
    let frames = all.iter().flat_map(|(stream, known)| {
        let FrameCounts { taken, late, b_frames, misplaced, damaged, overrun } = known.frames;
        let fates = [
            ("taken", taken),
            ("late", late),
            ("b_frame", b_frames),
            ("misplaced", misplaced),
            ("damaged", damaged),
            ("overrun", overrun),
        ];
        fates.map(|(fate, count)| {
            let labels = vec![("stream", stream.to_string()), ("fate", fate.to_owned())];
            (labels, count as f64)
        })
    });
    let frames = metric(metrics::FRAMES_IN, frames.collect());
    rows.into_iter().map(by_link).chain([frames]).collect()
}

/// What admission is decided by, and what was decided.
fn capacity_metrics(shards: &[Handle], admission: &Admission) -> Vec<Metric> {
    let by_shard = |read: fn(Reading) -> f64| {
        let sample = |(index, shard): (usize, &Handle)| {
            (vec![("shard", index.to_string())], read(shard.gauges()))
        };
        shards.iter().enumerate().map(sample).collect()
    };
    let one = |value: f64| vec![(Vec::new(), value)];
    let open = f64::from(admission.shortage().is_none());
    vec![
        metric(metrics::SHARD_LOAD, by_shard(|reading| f64::from(reading.load))),
        metric(metrics::SHARD_LATENESS, by_shard(|reading| reading.lateness.as_secs_f64())),
        metric(metrics::ADMISSION_OPEN, one(open)),
        metric(metrics::MEMORY, one(memory::resident_bytes() as f64)),
        metric(metrics::MEMORY_MAX, one(admission.memory_max_bytes() as f64)),
    ]
}

fn connected_samples(ledger: &Ledger) -> Samples {
    let counts = ledger.connected_counts().into_iter();
    let sample = |((role, protocol, profile), count): (Came, u64)| {
        let profile = profile.map_or_else(|| "none".to_owned(), |profile| profile.to_string());
        let protocol = protocol.to_string();
        let labels = vec![("role", role.to_string()), ("protocol", protocol), ("profile", profile)];
        (labels, count as f64)
    };
    counts.map(sample).collect()
}

fn ended_samples(ledger: &Ledger) -> Samples {
    let counts = ledger.ended_counts().into_iter();
    let labels = |role: String, reason: &str| vec![("role", role), ("reason", reason.to_owned())];
    counts.map(|((role, reason), n)| (labels(role.to_string(), reason), n as f64)).collect()
}

fn refused_samples(ledger: &Ledger) -> Samples {
    let counts = ledger.refused_counts().into_iter();
    counts.map(|(reason, n)| (vec![("reason", reason.to_owned())], n as f64)).collect()
}

fn shard_metrics(counts: &[(usize, ShardCounts)]) -> Vec<Metric> {
    type Read = fn(&ShardCounts) -> u64;
    let rows: [(Row, Read); 31] = [
        (metrics::DATAGRAMS_IN, |c| c.received.datagrams + c.tcp.received),
        (metrics::STRANGERS, |c| c.engine.strangers),
        (metrics::PACKETS_IN, |c| c.engine.packets_in),
        (metrics::PACKETS_DROPPED, |c| c.engine.packets_dropped),
        (metrics::PACKETS_OUT, |c| c.engine.packets_out),
        (metrics::PACKETS_BURST, |c| c.engine.packets_burst),
        (metrics::STARTS_CACHED, |c| c.engine.starts_cached),
        (metrics::STARTS_REQUESTED, |c| c.engine.starts_requested),
        (metrics::RETRANSMISSIONS, |c| c.engine.retransmissions),
        (metrics::RETRANSMISSIONS_REFUSED, |c| c.engine.retransmissions_refused),
        (metrics::PROBE_PACKETS, |c| c.engine.probe_packets),
        (metrics::PROBE_BYTES, |c| c.engine.probe_bytes),
        (metrics::FEEDBACK_PACKETS, |c| c.engine.feedback_packets),
        (metrics::KEYFRAME_REQUESTS, |c| c.engine.keyframe_requests),
        (metrics::BATCHES, |c| c.engine.batches),
        (metrics::DATAGRAMS_OUT, |c| c.sent.datagrams + c.tcp.datagrams),
        (metrics::MESSAGES_OUT, |c| c.sent.messages + c.tcp.messages),
        (metrics::BYTES_OUT, |c| c.sent.bytes + c.tcp.bytes),
        (metrics::SYSTEM_CALLS, |c| c.sent.system_calls + c.tcp.system_calls),
        (metrics::SEND_DROPPED, |c| {
            c.sent.refused + c.sent.overflowed + c.arena_dropped + c.tcp.unsent
        }),
        (metrics::SHARD_SESSIONS, |c| c.sessions as u64),
        (metrics::DATAGRAMS_CROSSED, |c| c.engine.datagrams_forwarded),
        (metrics::PACKETS_CROSSED, |c| c.engine.packets_handed),
        (metrics::CROSSING_DROPPED, |c| c.links_dropped + c.engine.messages_dropped),
        (metrics::HANDSHAKES_DROPPED, |c| c.handshakes_dropped),
        (metrics::RECEIVE_DROPPED, |c| c.received.overflowed),
        (metrics::STARTS_AGAIN, |c| c.engine.starts_again),
        (metrics::PICTURES_STOPPED, |c| c.engine.pictures_stopped),
        (metrics::TCP_CONNECTIONS, |c| c.tcp.open as u64),
        (metrics::TCP_DROPPED, |c| c.tcp.dropped),
        (metrics::FAULTS, |c| c.engine.faults),
    ];
    let samples = |read: Read| {
        let of_shard = |(index, counted): &(usize, ShardCounts)| {
            (vec![("shard", index.to_string())], read(counted) as f64)
        };
        counts.iter().map(of_shard).collect()
    };
    let mut all: Vec<_> = rows.into_iter().map(|(row, read)| metric(row, samples(read))).collect();
    all.push(metric(metrics::LAYER_SWITCHES, switch_samples(counts)));
    all
}

fn switch_samples(counts: &[(usize, ShardCounts)]) -> Samples {
    let directions = |(index, counted): &(usize, ShardCounts)| {
        let sample = |direction: &str, count: u64| {
            let labels = vec![("shard", index.to_string()), ("direction", direction.to_owned())];
            (labels, count as f64)
        };
        [sample("up", counted.engine.layers_up), sample("down", counted.engine.layers_down)]
    };
    counts.iter().flat_map(directions).collect()
}
