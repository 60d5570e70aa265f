//! A stream that is live by RTMP all the time that a test does its worst beside it, of which every
//! picture is accounted for.

use super::encoder::{Encoder, picture, setup};
use super::rtmp_address;
use crate::harness::{PUBLISH_TOKEN, Server, until};
use anyhow::{Context as _, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const INTERVAL_MS: u32 = 20;

/// The live stream.
pub(super) struct Live {
    session: String,
    sent: Arc<AtomicU32>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Live {
    pub(super) async fn start(server: &Server) -> anyhow::Result<Self> {
        let address = rtmp_address(server).await?;
        let mut encoder =
            Encoder::publish(address, &format!("beside?token={PUBLISH_TOKEN}")).await?;
        encoder.say(&setup()).await?;
        let sent = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(INTERVAL_MS.into()));
            loop {
                ticks.tick().await;
                let number = counter.fetch_add(1, Ordering::SeqCst);
                encoder.say(&picture(number, number * INTERVAL_MS)).await?;
            }
        });
        let session = Self::session(server).await?;
        Ok(Self { session, sent, task })
    }

    async fn session(server: &Server) -> anyhow::Result<String> {
        let stream = server.stream("beside").await?.context("it is live")?;
        Ok(stream["publisher"]["session"].as_str().context("a session")?.to_owned())
    }

    /// It is the same session, and all that was sent until now has come.
    pub(super) async fn is_untouched(&self, server: &Server) -> anyhow::Result<()> {
        ensure!(!self.task.is_finished(), "its connection is closed");
        let sent = u64::from(self.sent.load(Ordering::SeqCst));
        let all = async || {
            let stream = server.stream("beside").await.ok()??;
            let taken = stream["publisher"]["frames"]["taken"].as_u64()?;
            (taken >= sent).then_some(stream)
        };
        let stream = until("every picture that was sent", all).await?;
        ensure!(Self::session(server).await? == self.session, "another session: {stream}");
        ensure!(stream["publisher"]["frames"]["overrun"] == 0, "{stream}");
        server.assert_sound();
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}
