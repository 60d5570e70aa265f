//! Certificates from an authority, end to end: a real client of ours, a strict authority of the
//! test's own, and HTTPS as browsers see it.
//!
//! - `authority`: the authority, which the tests of the whole server ask too

#[path = "../../../tests/support/authority/mod.rs"]
mod authority;

use authority::{Ca, Mood};
use axum::Router;
use axum::routing::get;
use rustls_pki_types::CertificateDer;
use signaling::Config;
use signaling::auth::Credentials;
use signaling::config::{Acme, CertificateSource, Limits};
use signaling::serve::{Listeners, serve};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// No wait in these tests takes longer on a machine that works at all.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at something that cannot be waited on.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The name that is to be certified; it leads to the server of the test.
const DOMAIN: &str = "live.example.org";

/// A server that may ask the authority.
struct Server {
    https: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start(ca: &Ca, directory: &Path) -> Self {
        let limits =
            Limits { certificate_interval: Duration::from_millis(20), ..Limits::default() };
        fs::create_dir_all(directory).expect("a folder for the test");
        let root_file = directory.join("root.pem");
        fs::write(&root_file, ca.root_pem()).expect("the folder is ours");
        let certificate = CertificateSource::Acme(Acme {
            domain: DOMAIN.to_owned(),
            email: Some("ana@example.org".to_owned()),
            directory_url: ca.directory_url(),
            root_file: Some(root_file),
            directory: directory.to_owned(),
            names: vec![],
            retry: Duration::from_millis(20),
        });
        let config = Config {
            http: None,
            https: Some(([127, 0, 0, 1], 0).into()),
            certificate,
            certificate_is_shared: false,
            credentials: Credentials::new("publish-token", "admin-token"),
            ice_servers: vec![],
            trusted_proxies: vec![],
            pages: false,
            hls: false,
            media_hint: String::new(),
            retry_after: Duration::from_secs(2),
            limits,
        };
        let listeners = Listeners::bind(&config).await.expect("port 0 is free");
        let https = listeners.addresses().https.expect("HTTPS is configured");
        let app = Router::new().route("/healthz", get(async || "ok\n"));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listeners, app, stopped).await.expect("it serves");
        });
        Self { https, stop, served }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it still runs");
        timeout(PATIENCE, self.served).await.expect("it stops in time").expect("without a panic");
    }

    /// Whether it answers, whoever certifies it.
    async fn is_well(&self) -> bool {
        let address = self.https;
        let asked = tokio::task::spawn_blocking(move || signaling::probe::healthy(address, true));
        asked.await.expect("no panic").is_ok()
    }

    /// The certificate that a browser accepts which trusts the authority, if there is one.
    async fn trusted(&self, ca: &Ca) -> Option<CertificateDer<'static>> {
        let stream = ca.browser(DOMAIN, self.https).await.ok()?;
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(chain.first()?.clone().into_owned())
    }
}

/// Looks again and again until there is something, or it has taken too long.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut ticks = interval(LOOK_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    match timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => unreachable!("{what}: not within {PATIENCE:?}"),
    }
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("acme-{name}"));
    let _ = fs::remove_dir_all(&folder);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_from_the_authority_and_outlives_a_restart() {
    let ca = Ca::start().await;
    let state = folder("comes");
    let server = Server::start(&ca, &state).await;
    assert!(server.is_well().await, "until the certificate is there, one of our own serves");
    ca.name_leads_to(server.https);
    let first = until("a certificate", async || server.trusted(&ca).await).await;
    assert_eq!(ca.contacts(), [serde_json::json!(["mailto:ana@example.org"])]);
    for entry in fs::read_dir(state.join("acme")).expect("it was made") {
        let entry = entry.expect("it can be read");
        let mode = entry.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
    server.stop().await;
    let orders = ca.orders();
    ca.set_mood(Mood::Down);
    let again = Server::start(&ca, &state).await;
    assert_eq!(again.trusted(&ca).await, Some(first));
    assert_eq!((ca.orders(), ca.accounts()), (orders, 1));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_without_a_restart() {
    let ca = Ca::start().await;
    ca.set_mood(Mood::Late);
    let server = Server::start(&ca, &folder("renewed")).await;
    ca.name_leads_to(server.https);
    let first = until("a certificate", async || server.trusted(&ca).await).await;
    ca.set_mood(Mood::Fine);
    let renewed = async || server.trusted(&ca).await.filter(|new| *new != first);
    until("another certificate", renewed).await;
    assert_eq!(ca.accounts(), 1, "the account is kept");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_fails_leaves_the_server_serving_and_is_asked_again() {
    let ca = Ca::start().await;
    ca.set_mood(Mood::Down);
    let server = Server::start(&ca, &folder("fails")).await;
    ca.name_leads_to(server.https);
    until("two attempts", async || (ca.refused() >= 2).then_some(())).await;
    assert!(server.is_well().await);
    assert_eq!(server.trusted(&ca).await, None);
    ca.set_mood(Mood::Fine);
    until("a certificate", async || server.trusted(&ca).await).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_gets_no_certificate() {
    let ca = Ca::start().await;
    let [server, other] = [folder("name"), folder("other")];
    let other = Server::start(&ca, &other).await;
    ca.name_leads_to(other.https);
    until("its certificate", async || other.trusted(&ca).await).await;
    // The other one has its certificate and proves nothing any more.
    let server = Server::start(&ca, &server).await;
    until("a proof that is not believed", async || ca.disbeliefs().pop()).await;
    assert!(server.is_well().await);
    assert_eq!(server.trusted(&ca).await, None);
    for server in [server, other] {
        server.stop().await;
    }
}
