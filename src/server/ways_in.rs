//! The ways in that do not speak WebRTC: started and stopped together.

use super::StartError;
use crate::config::Config;
use crate::ingest::{Entrance, Port, Running, rtmp, srt};
use signaling::serve::{Addresses, ServeError};
use signaling::tls::Certificates;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// All of them that the configuration wants.
pub(super) struct WaysIn {
    entrance: Arc<Entrance>,
    running: Vec<Running>,
    stop: watch::Sender<bool>,
}

impl WaysIn {
    /// Starts those that are wanted; `certificates` are what is served with over TLS.
    ///
    /// # Errors
    ///
    /// [`StartError`]: a port cannot be had, or a certificate cannot be served with.
    pub(super) fn start(
        config: &Config,
        entrance: Entrance,
        certificates: Option<&Arc<Certificates>>,
    ) -> Result<Self, StartError> {
        let entrance = Arc::new(entrance);
        let (stop, stopping) = watch::channel(false);
        let tls = certificates.map(Certificates::plain_server_config).transpose();
        let tls = tls.map_err(ServeError::from)?.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let mut running = Vec::from_iter(srt::start(&config.srt, &entrance, &stopping)?);
        running.push(rtmp::start(config, Arc::clone(&entrance), tls.as_ref(), stopping)?);
        for Port { purpose, address, .. } in running.iter().flat_map(|it| &it.ports) {
            info!(purpose, %address, "listening");
        }
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
