//! One connection's task: what comes in becomes frames, and those go into the stream.

use super::libsrt::Statistics;
use super::mpegts::{Damage, Demuxer};
use super::receiver::{Batch, Connection};
use crate::engine::command::EndReason;
use crate::ingest::{Feed, LinkReport};
use crate::media::frame::Frame;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval_at};
use tracing::{debug, info, warn};

/// How often statistics are told.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A transport stream that says not what it carries for so many bytes is none: it should do so
/// every 100 ms.
const UNRECOGNISED_MAX: usize = 4 << 20;
/// So often it is logged which tracks are not used: a stream can say something new in each packet.
const UNUSED_TOLD_MAX: u32 = 16;

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The other side closed it, or is gone.
    Peer,
    /// The server ended the session.
    Session(EndReason),
    /// It sends something that is no transport stream.
    NoTransportStream,
}

/// What is being received.
struct Publisher {
    connection: Connection,
    feed: Feed,
    demuxer: Demuxer,
    frames: Vec<Frame>,
    /// Packets that came again: the library counts them from one report to the next.
    again: u64,
    unrecognised_bytes: usize,
    unused_told: u32,
    reported: Damage,
    overrun: u64,
}

/// Receives until there is nothing more to receive, or the session is over.
pub(super) async fn run(connection: Connection, feed: Feed) -> End {
    let mut publisher = Publisher {
        connection,
        feed,
        demuxer: Demuxer::default(),
        frames: Vec::new(),
        again: 0,
        unrecognised_bytes: 0,
        unused_told: 0,
        reported: Damage::default(),
        overrun: 0,
    };
    let end = publisher.receive().await;
    let Publisher { connection, feed, demuxer, .. } = publisher;
    let (session, stream, damage) = (feed.session(), feed.stream(), demuxer.damage());
    info!(?session, %stream, ?end, ?damage, "SRT connection ended");
    drop(feed);
    // Closing waits for a thread of the library.
    let _ = tokio::task::spawn_blocking(move || drop(connection)).await;
    end
}

impl Publisher {
    async fn receive(&mut self) -> End {
        let mut reports = interval_at(tokio::time::Instant::now() + REPORT_EVERY, REPORT_EVERY);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                reason = self.feed.wait_ended() => return End::Session(reason),
                _ = reports.tick() => self.report(),
                batch = self.connection.next() => {
                    let Some(batch) = batch else { return End::Peer };
                    self.take(&batch);
                    if self.unrecognised_bytes > UNRECOGNISED_MAX {
                        let (session, stream) = (self.feed.session(), self.feed.stream());
                        warn!(?session, %stream, "what comes in over SRT is no MPEG transport \
                            stream; set the encoder's format to mpegts");
                        return End::NoTransportStream;
                    }
                }
            }
        }
    }

    fn take(&mut self, batch: &Batch) {
        self.demuxer.push(&batch.bytes, batch.arrival, &mut self.frames);
        for frame in self.frames.drain(..) {
            self.feed.write(frame);
        }
        if let Some(unused) = self.demuxer.take_unused() {
            if !unused.is_empty() && self.unused_told < UNUSED_TOLD_MAX {
                self.unused_told += 1;
                let (session, stream) = (self.feed.session(), self.feed.stream());
                info!(?session, %stream, ?unused, "tracks that are not used");
            }
            self.feed.note_tracks(unused);
        }
        if self.demuxer.is_recognised() {
            self.unrecognised_bytes = 0;
        } else {
            self.unrecognised_bytes += batch.bytes.len();
        }
    }

    fn report(&mut self) {
        let damage = self.demuxer.damage();
        if damage != self.reported {
            self.feed.note_damaged(damage.dropped_units);
            debug!(session = ?self.feed.session(), ?damage, "the transport stream has gaps");
            self.reported = damage;
        }
        let overrun = self.connection.overrun_bytes();
        if overrun != self.overrun {
            let (session, stream) = (self.feed.session(), self.feed.stream());
            warn!(?session, %stream, bytes = overrun, "the server is too slow for it");
            self.overrun = overrun;
        }
        let Some(statistics) = self.connection.statistics() else { return };
        self.again += statistics.again_packets;
        self.feed.set_link(link(&statistics, self.again, damage));
    }
}

fn link(statistics: &Statistics, again: u64, damage: Damage) -> LinkReport {
    LinkReport {
        round_trip: statistics.round_trip,
        latency: statistics.latency,
        packets: statistics.received_packets,
        lost_packets: statistics.lost_packets,
        retransmitted_packets: again,
        dropped_packets: statistics.dropped_packets,
        undecrypted_packets: statistics.undecrypted_packets,
        continuity_errors: damage.continuity_errors,
        damaged_units: damage.dropped_units,
    }
}
