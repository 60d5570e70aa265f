//! The load generator's viewers against a server: what they measure is what was sent.

use crate::harness::{Server, until};
use crate::impair::before;
use loadtest::http::Signaling;
use loadtest::impair::LinkSettings;
use loadtest::light::{Feedback, Identity};
use loadtest::source::VideoSettings;
use loadtest::swarm::{JoinOptions, Joined, Joins, Outcome, Status, Swarm, SwarmOptions};
use loadtest::whip::PublishOptions;
use std::sync::Arc;

/// Packets that all viewers together wait for.
const PACKETS: u64 = 1_000;

fn video_only() -> PublishOptions {
    let video = VideoSettings { bitrate_bps: 2_500_000, ..VideoSettings::default() };
    PublishOptions { video: Some(video), audio: false, ..PublishOptions::default() }
}

/// Joins, waits until `enough`, and ends.
pub(crate) async fn watch(
    url: String,
    viewers: usize,
    nack: bool,
    enough: impl Fn(Status) -> bool,
) -> anyhow::Result<(Outcome, Joins)> {
    let identity = Identity::generate()?;
    let feedback = Feedback::None;
    let options = SwarmOptions { identity, groups: 1, nack, feedback, server_process: None };
    let swarm = Arc::new(Swarm::start(options)?);
    let client = Signaling::new(None)?;
    let joining = JoinOptions {
        url,
        group: 0,
        viewers,
        rate: None,
        in_flight: 4,
        retry: false,
        choices: Vec::new(),
    };
    let joined = Joined::post(&swarm, &client, &joining).await?;
    until("the viewers have seen enough", async || enough(swarm.status()).then_some(())).await?;
    swarm.finish().await;
    let joins = joined.joins.clone();
    assert_eq!(joined.delete(&client, 4).await, 0, "every session was there to be ended");
    let swarm = Arc::into_inner(swarm).expect("the posts are done");
    Ok((swarm.end()?, joins))
}

#[tokio::test]
async fn every_viewer_of_a_swarm_sees_every_packet_and_a_keyframe() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("swarm", video_only()).await?;
    let enough = |status: Status| status.served == 8 && status.packets >= PACKETS;
    let (outcome, joins) = watch(server.whep("swarm"), 8, false, enough).await?;
    assert_eq!((joins.answered, joins.failed), (8, 0));
    for viewer in &outcome.viewers {
        assert_eq!((viewer.counts.lost, viewer.counts.duplicates), (0, 0), "{viewer:?}");
        assert!(viewer.connect_us.is_some() && viewer.first_keyframe_us.is_some(), "{viewer:?}");
        assert_eq!(viewer.over, None);
    }
    let received: u64 = outcome.viewers.iter().map(|viewer| viewer.counts.received).sum();
    let latency = &outcome.phases[0].flows[0].latency;
    assert_eq!(outcome.phases[0].packets(), received);
    // All but the parameter sets carry a stamp.
    assert!(latency.total() > received * 9 / 10, "{} of {received}", latency.total());
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}

#[tokio::test]
async fn refused_viewers_are_counted_apart() -> anyhow::Result<()> {
    let server = Server::with(&[("limits.viewers_per_stream_max", "3")]).await?;
    let _publisher = server.publish("swarm", video_only()).await?;
    let (outcome, joins) =
        watch(server.whep("swarm"), 5, false, |status| status.watching == 3).await?;
    assert_eq!(outcome.viewers.len(), 3);
    assert_eq!(joins.refused.get(&503), Some(&2), "{joins:?}");
    assert_eq!(joins.retry_after_s.values().sum::<usize>(), 2);
    Ok(())
}

#[tokio::test]
async fn viewers_that_ask_for_lost_packets_get_them() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let publisher = server.publish("swarm", video_only()).await?;
    let down = LinkSettings { loss_percent: 3.0, ..LinkSettings::default() };
    let (relay, front) = before(&server, "swarm", down).await?;
    let url = format!("http://{}/whep/swarm", front.address());
    let enough = |status: Status| status.served == 2 && status.recovered > 10;
    let (outcome, _) = watch(url, 2, true, enough).await?;
    let lost: u64 = outcome.viewers.iter().map(|viewer| viewer.counts.lost).sum();
    let dropped = relay.counters().lost.load(std::sync::atomic::Ordering::Relaxed);
    assert!(lost < dropped, "{lost} are missing of {dropped} that were dropped");
    publisher.end().await?;
    server.assert_sound();
    Ok(())
}
