//! A live stream that must notice nothing: every packet of it is accounted for.

use crate::harness::{Server, received, until};
use anyhow::Context;
use bytes::Bytes;
use loadtest::codec::Codec;
use loadtest::light::PUBLISHED_SSRCS;
use loadtest::source::Stamp;
use loadtest::whep::{ViewOptions, WhepClient};
use loadtest::whip::{PublishOptions, Resend, WhipClient};

/// So much more may be resident after a second round of the same than after the first.
const GROWTH_MAX: u64 = 8 << 20;
/// As many as are on several of four shards, whichever the kernel chooses.
const VIEWERS: usize = 4;
/// Minutes of the stream.
const KEPT: usize = 32_768;

/// A publisher and its viewers.
pub(super) struct Bystanders {
    pub(super) server: Server,
    pub(super) publisher: WhipClient,
    viewers: Vec<WhepClient>,
}

/// A viewer is live after so many packets of video. Before that it walks through the past, and a
/// newer keyframe makes it leave the rest of that out.
const LIVE_AFTER: u64 = 60;

impl Bystanders {
    pub(super) async fn start(options: &[(&str, &str)]) -> anyhow::Result<Self> {
        let server = Server::with(options).await?;
        // Nothing is sent again, so nothing hides what was lost, on either way.
        let resend = Resend::Never;
        let options = PublishOptions { history: KEPT, resend, ..PublishOptions::default() };
        let publisher = server.publish("live", options).await?;
        let mut viewers = Vec::new();
        for _ in 0..VIEWERS {
            let options = ViewOptions { nack: false, keep: KEPT, ..ViewOptions::default() };
            viewers.push(server.view("live", options).await?);
        }
        for viewer in &viewers {
            received(viewer, Codec::H264, LIVE_AFTER).await?;
        }
        Ok(Self { server, publisher, viewers })
    }

    /// The server's ICE user name fragments in their sessions: strangers may guess them.
    pub(super) fn ufrags(&self) -> Vec<String> {
        let of_viewers = self.viewers.iter().map(|viewer| viewer.answer.ufrag.clone());
        of_viewers.chain([self.publisher.answer.ufrag.clone()]).collect()
    }

    /// Runs the same attack twice: what the first round left behind, the second finds again. In
    /// the end nobody is left.
    pub(super) async fn survive(
        mut self,
        mut attack: impl AsyncFnMut(&Self, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        attack(&self, 1).await?;
        self.noticed_nothing().await?;
        let before = self.server.resident_bytes()?;
        attack(&self, 2).await?;
        self.noticed_nothing().await?;
        let (server, limit) = (&self.server, before + GROWTH_MAX);
        let returned = async || server.resident_bytes().ok().filter(|now| *now < limit).map(drop);
        until("memory returns", returned).await?;
        let Self { server, publisher, viewers } = self;
        for viewer in viewers {
            viewer.end().await?;
        }
        publisher.end().await?;
        for count in ["millrace_sessions", "millrace_streams"] {
            let gone = async || server.metric(count).await.ok().filter(|&count| count == 0.0);
            until(count, gone).await?;
        }
        Ok(())
    }

    async fn noticed_nothing(&mut self) -> anyhow::Result<()> {
        for viewer in &self.viewers {
            let before = viewer.summary_of(Codec::H264).context("video")?.received;
            received(viewer, Codec::H264, before + 30).await?;
        }
        assert!(self.server.is_running());
        self.server.assert_sound();
        let faults = self.server.metric("millrace_faults_total").await?;
        assert!(faults.abs() < 0.5, "{faults} sessions ended by a fault of the server's");
        for viewer in &self.viewers {
            // What the kernel has dropped at the viewer's own socket is none of our making.
            let dropped = dropped_at(viewer.sender().local_address()?.port())?;
            for (codec, ssrc) in [(Codec::Opus, 0), (Codec::H264, 1)] {
                let missing = self.missing(viewer, codec, PUBLISHED_SSRCS[ssrc])?;
                if missing > dropped && !(codec == Codec::H264 && skips(viewer, dropped)) {
                    let (summary, told) = (viewer.summary(), self.told_of_losses().await?);
                    anyhow::bail!(
                        "{codec}: {missing} missing, {dropped} dropped at the viewer's \
                        socket; it says {summary:?}, the server {told}"
                    );
                }
            }
        }
        Ok(())
    }

    /// What the server counts of what it could not take in, hand over or send.
    async fn told_of_losses(&self) -> anyhow::Result<String> {
        let stream = self.server.stream("live").await?;
        let mut told = vec![format!("{stream:?}")];
        for name in ["packets_dropped", "crossing_dropped", "datagrams_unsent"] {
            let name = format!("millrace_{name}_total");
            told.push(format!("{name} {:?}", self.server.samples(&name).await?));
        }
        Ok(told.join(", "))
    }

    /// How many packets a viewer lacks of those that were sent since it is live. What it has is
    /// what was sent, each packet once.
    fn missing(&self, viewer: &WhepClient, codec: Codec, ssrc: u32) -> anyhow::Result<usize> {
        let payload_type = viewer.answer.payload_type(codec).context("agreed")?;
        let received = viewer.log().read(|log| {
            let packets = log.of_payload_type(payload_type).map(|it| &it.packet);
            in_order(packets.map(|it| (it.header.sequence_number, it.payload.clone())))
        });
        let sent: Vec<Bytes> = self.publisher.log().read(|log| {
            let of_track = log.sent.iter().filter(|packet| packet.header.ssrc == ssrc);
            of_track.map(|packet| packet.payload.clone()).collect()
        });
        let begins = if codec == Codec::H264 { LIVE_AFTER as usize } else { 0 };
        let received = received.get(begins..).unwrap_or_default();
        // Parameter sets are the same each time; a stamp is not.
        let stamped = received.iter().position(|it| Stamp::read(it).is_some()).context("stamps")?;
        let place = sent.iter().position(|it| *it == received[stamped]).context("it was sent")?;
        let mut rest = sent.get(place.saturating_sub(stamped)..).unwrap_or_default();
        let mut missing = 0;
        for payload in received {
            let passed = rest.iter().position(|sent| sent == payload);
            let passed = passed.with_context(|| format!("{codec}: a packet that was not sent"))?;
            missing += passed;
            rest = &rest[passed + 1..];
        }
        Ok(missing)
    }
}

/// Whether a viewer may lack video without a gap in its numbers: where the machine starves a shard,
/// what has waited 400 ms is skipped up to the next keyframe, and the viewer has seen the delay.
fn skips(viewer: &WhepClient, dropped: usize) -> bool {
    const STALE: Option<u64> = Some(400_000);
    let streams = viewer.summary();
    let is_late = streams.values().any(|stream| stream.latency_max_us >= STALE);
    is_late && streams.values().map(|stream| stream.lost).sum::<u64>() <= dropped as u64
}

/// Payloads by their RTP sequence numbers: what overtakes on the way is not lost.
fn in_order(packets: impl Iterator<Item = (u16, Bytes)>) -> Vec<Bytes> {
    let (mut ordered, mut newest) = (Vec::new(), 0_i64);
    for (number, payload) in packets {
        let ahead = i64::from(number.wrapping_sub(newest as u16).cast_signed());
        ordered.push((newest + ahead, payload));
        newest = newest.max(newest + ahead);
    }
    ordered.sort_by_key(|(number, _)| *number);
    ordered.into_iter().map(|(_, payload)| payload).collect()
}

/// How many datagrams the kernel has dropped because the socket with this port was not read in
/// time (proc(5), `/proc/net/udp`).
fn dropped_at(port: u16) -> anyhow::Result<usize> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let local = format!(":{port:04X}");
    let line = |line: &&str| line.split_whitespace().nth(1).is_some_and(|it| it.ends_with(&local));
    let drops = table.lines().find(line).and_then(|line| line.split_whitespace().last());
    Ok(drops.context("the socket's line")?.parse()?)
}
