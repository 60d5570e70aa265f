//! The ways in that do not speak WebRTC: started and stopped together.

use crate::ingest::{Entrance, ListenError, Port, Running};
use signaling::serve::Addresses;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::warn;

/// All of them that the configuration wants.
pub(super) struct WaysIn {
    entrance: Arc<Entrance>,
    running: Vec<Running>,
    stop: watch::Sender<bool>,
}

impl WaysIn {
    /// Starts those that are wanted.
    ///
    /// # Errors
    ///
    /// [`ListenError`]: a port cannot be had.
    #[expect(clippy::unnecessary_wraps, reason = "there is no way in yet that can fail")]
    pub(super) fn start(entrance: Entrance) -> Result<Self, ListenError> {
        let entrance = Arc::new(entrance);
        let (stop, _stopping) = watch::channel(false);
        let running = Vec::new();
        Ok(Self { entrance, running, stop })
    }

    /// Where they listen.
    pub(super) fn ports(&self) -> Vec<Port> {
        self.running.iter().flat_map(|running| running.ports.iter().copied()).collect()
    }

    /// What the pages are told: the ports of HTTP, and these.
    pub(super) fn among(&self, http: Addresses) -> Addresses {
        let of = |purpose: &str| {
            let ports = self.running.iter().flat_map(|running| &running.ports);
            ports.into_iter().find(|port| port.purpose == purpose).map(|port| port.address)
        };
        Addresses { rtmp: of("RTMP"), rtmps: of("RTMPS"), srt: of("SRT"), ..http }
    }

    /// Lets nobody in any more; those who are in are told by their streams' end.
    pub(super) fn close(&self) {
        self.entrance.close();
        // Where none runs nobody listens.
        let _ = self.stop.send(true);
    }

    /// Waits until all have ended.
    pub(super) async fn ended(self) {
        for Running { task, .. } in self.running {
            if let Err(error) = task.await {
                warn!(%error, "a way in ended badly");
            }
        }
    }
}
