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
            received(viewer, Codec::H264, 30).await?;
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
            for (codec, ssrc) in [(Codec::Opus, 0), (Codec::H264, 1)] {
                self.account_for(viewer, codec, PUBLISHED_SSRCS[ssrc])?;
            }
        }
        Ok(())
    }

    /// What a viewer received from its first packet on is what was sent, each packet once. What
    /// the kernel has dropped at the viewer's own socket is none of the server's making.
    fn account_for(&self, viewer: &WhepClient, codec: Codec, ssrc: u32) -> anyhow::Result<()> {
        let payload_type = viewer.answer.payload_type(codec).context("agreed")?;
        let received = viewer.log().read(|log| {
            let packets = log.of_payload_type(payload_type).map(|it| &it.packet);
            in_order(packets.map(|it| (it.header.sequence_number, it.payload.clone())))
        });
        let sent: Vec<Bytes> = self.publisher.log().read(|log| {
            let of_track = log.sent.iter().filter(|packet| packet.header.ssrc == ssrc);
            of_track.map(|packet| packet.payload.clone()).collect()
        });
        // Parameter sets are the same each time; a stamp is not.
        let stamped = received.iter().position(|it| Stamp::read(it).is_some()).context("stamps")?;
        let place = sent.iter().position(|it| *it == received[stamped]).context("it was sent")?;
        let mut rest = sent.get(place.saturating_sub(stamped)..).unwrap_or_default();
        let mut missing = 0;
        for payload in &received {
            let passed = rest.iter().position(|sent| sent == payload);
            let passed = passed.with_context(|| format!("{codec}: a packet that was not sent"))?;
            missing += passed;
            rest = &rest[passed + 1..];
        }
        let dropped = dropped_at(viewer.sender().local_address()?.port())?;
        assert!(missing <= dropped, "{codec}: {missing} missing, {dropped} of our own making");
        Ok(())
    }
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
