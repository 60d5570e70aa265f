//! A stream that is live by RTMP, and watched, all the time that a test does its worst beside
//! it; of which every picture is accounted for.

use super::encoder::{Encoder, number_of, picture, setup};
use super::rtmp_address;
use crate::harness::{PUBLISH_TOKEN, SOON, Server};
use anyhow::{Context as _, ensure};
use loadtest::whep::{ViewLog, ViewOptions, WhepClient};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const INTERVAL_MS: u32 = 20;

/// The live stream.
pub(super) struct Live {
    session: String,
    viewer: WhepClient,
    sent: Arc<AtomicU32>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Live {
    pub(super) async fn start(server: &Server) -> anyhow::Result<Self> {
        let address = rtmp_address(server).await?;
        let key = format!("beside?token={PUBLISH_TOKEN}");
        let mut encoder = Encoder::publish(address, &key).await?;
        encoder.say(&setup()).await?;
        let sent = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(INTERVAL_MS.into()));
            loop {
                ticks.tick().await;
                let number = counter.load(Ordering::SeqCst);
                encoder.say(&picture(number, number * INTERVAL_MS)).await?;
                counter.store(number + 1, Ordering::SeqCst);
            }
        });
        let viewing = ViewOptions { keep: 20_000, ..ViewOptions::default() };
        let viewer = server.view("beside", viewing).await?;
        let live = Self { session: Self::session(server).await?, viewer, sent, task };
        live.is_untouched(server).await?;
        Ok(live)
    }

    async fn session(server: &Server) -> anyhow::Result<String> {
        let stream = server.stream("beside").await?.context("it is live")?;
        Ok(stream["publisher"]["session"].as_str().context("a session")?.to_owned())
    }

    /// It is the same session, and its viewer has every picture that was sent until now.
    pub(super) async fn is_untouched(&self, server: &Server) -> anyhow::Result<()> {
        ensure!(!self.task.is_finished(), "its connection is closed");
        let sent = self.sent.load(Ordering::SeqCst);
        let all = |log: &ViewLog| {
            let mut numbers: Vec<u32> =
                log.received.iter().filter_map(|it| number_of(&it.packet.payload)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            (*numbers.last()? >= sent).then_some(numbers)
        };
        let numbers = self.viewer.log().wait(SOON * 2, "every picture", all).await?;
        let hole = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]);
        ensure!(hole.is_none(), "pictures are missing between {hole:?}");
        ensure!(Self::session(server).await? == self.session, "it is another session");
        server.assert_sound();
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}
