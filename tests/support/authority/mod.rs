//! A small certificate authority that speaks ACME (RFC 8555) over TLS on loopback.
//!
//! It is as strict as a real one where a client can go wrong: it checks each request's signature,
//! nonce and URL, looks for the proof over TLS-ALPN-01 (RFC 8737), and checks the signing request.
//!
//! - `jws`: its signed requests
//! - `proof`: its look at the server that asks

mod jws;
mod proof;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use jws::{Request, digest, encoded};
use proof::proof;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

const DAY: Duration = Duration::from_hours(24);

/// How the authority is disposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It issues certificates that hold for 90 days from now.
    Fine,
    /// It issues certificates whose renewal is due at once.
    Late,
    /// It answers every order with an error.
    Down,
}

/// The authority; what it knows is behind one lock.
pub(crate) struct Ca {
    base: String,
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    name_leads_to: watch::Sender<Option<SocketAddr>>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    mood: Option<Mood>,
    nonces: HashSet<String>,
    nonces_given: u64,
    /// Public keys by account URL.
    accounts: HashMap<String, Value>,
    contacts: Vec<Value>,
    orders: Vec<Order>,
    refused: usize,
}

#[derive(Clone)]
struct Order {
    domain: String,
    token: String,
    status: &'static str,
    certificate: Option<String>,
    error: Option<String>,
}

impl Ca {
    /// Starts one; it ends with the test's runtime.
    pub(crate) async fn start() -> Arc<Self> {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "authority of the test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root_pem = params.self_signed(&key).expect("a root").pem();
        let issuer = Issuer::new(params, key);
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("https://{}", tcp.local_addr().expect("bound"));
        let tls = own_tls(&issuer);
        let books = Mutex::default();
        let name_leads_to = watch::Sender::new(None);
        let ca = Arc::new(Self { base, issuer, root_pem, name_leads_to, books });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&ca));
        tokio::spawn(async move { axum::serve(Door { tcp, tls }, app).await });
        ca
    }

    pub(crate) fn directory_url(&self) -> String {
        format!("{}/directory", self.base)
    }

    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The connection of a browser that trusts nobody but this authority.
    pub(crate) async fn browser(
        &self,
        name: &'static str,
        server: SocketAddr,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.root_pem.as_bytes()).expect("a root");
        roots.add(root).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name).expect("a name");
        let stream = TcpStream::connect(server).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.books().mood = Some(mood);
    }

    /// What the domain name system says of every name. Until it says anything, it is waited for:
    /// a server on a free port is known only once it has begun to ask for its certificate.
    pub(crate) fn name_leads_to(&self, address: SocketAddr) {
        self.name_leads_to.send_replace(Some(address));
    }

    pub(crate) fn contacts(&self) -> Vec<Value> {
        self.books().contacts.clone()
    }

    pub(crate) fn accounts(&self) -> usize {
        self.books().accounts.len()
    }

    /// Orders that were taken.
    pub(crate) fn orders(&self) -> usize {
        self.books().orders.len()
    }

    /// Orders that were answered with an error.
    pub(crate) fn refused(&self) -> usize {
        self.books().refused
    }

    /// Why proofs were not believed.
    pub(crate) fn disbeliefs(&self) -> Vec<String> {
        self.books().orders.iter().filter_map(|order| order.error.clone()).collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nobody panics with the books open")
    }

    fn nonce(&self) -> HeaderValue {
        let mut books = self.books();
        books.nonces_given += 1;
        let nonce = encoded(&digest(&format!("nonce {}", books.nonces_given)));
        books.nonces.insert(nonce.clone());
        HeaderValue::from_str(&nonce).expect("letters and digits")
    }

    fn directory(&self) -> Value {
        let url = |name: &str| format!("{}/{name}", self.base);
        json!({
            "newNonce": url("new-nonce"),
            "newAccount": url("new-account"),
            "newOrder": url("new-order"),
            "revokeCert": url("revoke"),
            "keyChange": url("key-change"),
        })
    }

    /// Answers a request whose signature, nonce and URL are right.
    async fn serve(&self, path: &str, request: &Request) -> Result<Answer, Fault> {
        let (what, number) =
            path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
        if what == "new-account" {
            let mut books = self.books();
            let url = format!("{}/account/{}", self.base, books.accounts.len());
            let key = request.key.clone().ok_or(Fault::bad("an account needs a key"))?;
            books.accounts.insert(url.clone(), key);
            books.contacts.push(request.payload["contact"].clone());
            return Ok(Answer::created(url, json!({ "status": "valid" })));
        }
        if what == "new-order" {
            return self.new_order(&request.payload);
        }
        let number: usize = number.parse().map_err(|_| Fault::bad("no such resource"))?;
        match what {
            "authorization" | "order" => {}
            "challenge" => self.look_for_proof(number, &request.thumbprint).await?,
            "finalize" => self.finalize(number, &request.payload)?,
            "certificate" => {
                let pem = self.order(number)?.certificate.ok_or(Fault::bad("there is none"))?;
                return Ok(Answer { pem: Some(pem), ..Answer::default() });
            }
            _ => return Err(Fault::bad("no such resource")),
        }
        let order = self.order(number)?;
        Ok(Answer {
            body: match what {
                "authorization" => self.authorization(number, &order),
                "challenge" => self.challenge(number, &order),
                _ => self.order_body(number, &order),
            },
            ..Answer::default()
        })
    }

    fn order(&self, number: usize) -> Result<Order, Fault> {
        self.books().orders.get(number).cloned().ok_or(Fault::bad("no such order"))
    }

    fn new_order(&self, payload: &Value) -> Result<Answer, Fault> {
        let mut books = self.books();
        if books.mood == Some(Mood::Down) {
            books.refused += 1;
            return Err(Fault {
                status: 503,
                kind: "serverInternal",
                detail: "out of order".into(),
            });
        }
        let identifier = &payload["identifiers"][0];
        let domain = identifier["value"].as_str().filter(|_| identifier["type"] == "dns");
        let domain = domain.ok_or(Fault::bad("an order is for a name"))?.to_owned();
        let number = books.orders.len();
        let token = encoded(&digest(&format!("token {number}")));
        let order = Order { domain, token, status: "pending", certificate: None, error: None };
        books.orders.push(order.clone());
        drop(books);
        let url = format!("{}/order/{number}", self.base);
        Ok(Answer::created(url, self.order_body(number, &order)))
    }

    fn order_body(&self, number: usize, order: &Order) -> Value {
        let mut body = json!({
            "status": order.status,
            "identifiers": [{ "type": "dns", "value": order.domain }],
            "authorizations": [format!("{}/authorization/{number}", self.base)],
            "finalize": format!("{}/finalize/{number}", self.base),
        });
        if order.certificate.is_some() {
            body["certificate"] = json!(format!("{}/certificate/{number}", self.base));
        }
        body
    }

    fn authorization(&self, number: usize, order: &Order) -> Value {
        let status = if order.status == "ready" { "valid" } else { order.status };
        json!({
            "status": status,
            "identifier": { "type": "dns", "value": order.domain },
            "challenges": [self.challenge(number, order)],
        })
    }

    fn challenge(&self, number: usize, order: &Order) -> Value {
        let status = if order.status == "ready" { "valid" } else { order.status };
        let mut body = json!({
            "type": "tls-alpn-01",
            "url": format!("{}/challenge/{number}", self.base),
            "token": order.token,
            "status": status,
        });
        if let Some(error) = &order.error {
            body["error"] =
                json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": error });
        }
        body
    }

    /// Connects to where the name leads, and looks at what is shown there.
    async fn look_for_proof(&self, number: usize, thumbprint: &str) -> Result<(), Fault> {
        let order = self.order(number)?;
        let mut leads = self.name_leads_to.subscribe();
        let known = leads.wait_for(Option::is_some).await.ok().and_then(|known| *known);
        let address = known.ok_or(Fault::bad("the name leads nowhere"))?;
        let expected = digest(&format!("{}.{thumbprint}", order.token));
        let outcome = proof(address, &order.domain, &expected).await;
        let order = &mut self.books().orders[number];
        order.status = if outcome.is_ok() { "ready" } else { "invalid" };
        order.error = outcome.err();
        Ok(())
    }

    fn finalize(&self, number: usize, payload: &Value) -> Result<(), Fault> {
        let order = self.order(number)?;
        if order.status != "ready" {
            return Err(Fault::bad("the order is not ready"));
        }
        let request = payload["csr"].as_str().and_then(jws::decoded);
        let request = CertificateSigningRequestDer::from(request.unwrap_or_default());
        // This checks the signature, so that the key is the asker's.
        let mut request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|_| Fault::bad("the signing request is broken"))?;
        let names = CertificateParams::new([order.domain.clone()]).expect("a name");
        if request.params.subject_alt_names != names.subject_alt_names {
            return Err(Fault::bad("the signing request is for other names"));
        }
        let now = SystemTime::now();
        let (from, until) = match self.books().mood {
            Some(Mood::Late) => (now - 60 * DAY, now + DAY),
            _ => (now - DAY, now + 89 * DAY),
        };
        request.params.not_before = from.into();
        request.params.not_after = until.into();
        let certificate = request.signed_by(&self.issuer).expect("it can be signed");
        let order = &mut self.books().orders[number];
        order.certificate = Some(format!("{}{}", certificate.pem(), self.root_pem));
        order.status = "valid";
        Ok(())
    }
}

/// Why a request is refused (RFC 8555 §6.7).
pub(crate) struct Fault {
    status: u16,
    kind: &'static str,
    detail: String,
}

impl Fault {
    pub(crate) fn bad(detail: &str) -> Self {
        Self { status: 400, kind: "malformed", detail: detail.to_owned() }
    }

    pub(crate) fn bad_nonce() -> Self {
        Self { status: 400, kind: "badNonce", detail: "not a nonce of this server".to_owned() }
    }
}

#[derive(Default)]
struct Answer {
    created: Option<String>,
    body: Value,
    pem: Option<String>,
}

impl Answer {
    fn created(url: String, body: Value) -> Self {
        Self { created: Some(url), body, pem: None }
    }
}

async fn answer(State(ca): State<Arc<Ca>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert("replay-nonce", ca.nonce());
    if method != Method::POST {
        return (headers, ca.directory().to_string()).into_response();
    }
    let url = format!("{}{}", ca.base, uri.path());
    let request = {
        let mut books = ca.books();
        let Books { nonces, accounts, .. } = &mut *books;
        Request::read(&body, &url, nonces, accounts)
    };
    let answered = match request {
        Ok(request) => ca.serve(uri.path(), &request).await,
        Err(fault) => Err(fault),
    };
    match answered {
        Ok(Answer { pem: Some(pem), .. }) => (headers, pem).into_response(),
        Ok(Answer { created: Some(url), body, .. }) => {
            let url = HeaderValue::from_str(&url).expect("a URL");
            headers.insert("location", url);
            (StatusCode::CREATED, headers, body.to_string()).into_response()
        }
        Ok(Answer { body, .. }) => (headers, body.to_string()).into_response(),
        Err(Fault { status, kind, detail }) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            let body = json!({ "type": kind, "detail": detail, "status": status.as_u16() });
            (status, headers, body.to_string()).into_response()
        }
    }
}

/// TLS for the authority itself, by a certificate of its own.
fn own_tls(issuer: &Issuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let certificate = params.signed_by(&key, issuer).expect("it can be signed");
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("they fit");
    TlsAcceptor::from(Arc::new(config))
}

/// A listener whose connections are TLS.
struct Door {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.tcp.accept().await else { continue };
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
