//! A certificate from an authority (RFC 8555): ordered, proven, kept, and renewed in time.
//!
//! The proof is TLS-ALPN-01 (RFC 8737): the authority opens a TLS connection to the name that is to
//! be certified, and is shown a certificate with what it asked for. So nothing but the HTTPS port
//! has to be open. Whatever fails, the certificate in use stays, and it is tried again later.

use crate::certificate::{Facts, facts};
use crate::config::Acme;
use crate::tls::{self, CertificateError, Certificates, Proof, since_epoch};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long one order may take, the authority's look at us included.
const ORDER_TIMEOUT: Duration = Duration::from_mins(5);
/// How the authority is asked whether it has finished.
const POLLING: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(2));
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_hours(6);

/// Why there is no certificate from the authority.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("{}", with_causes(.0))]
    Authority(#[from] Error),
    #[error("the authority offers no TLS-ALPN-01, the one proof that is implemented")]
    NoTlsAlpn,
    #[error(
        "the authority does not believe that this server is {domain}: {reason}; the name must \
         lead to this machine, and port 443 there to network.https_listen"
    )]
    NotProven { domain: String, reason: String },
    #[error("the authority did not finish within five minutes")]
    TooLong,
    #[error(
        "the new certificate is already to be renewed; is the clock of this machine right? It is \
         in use nevertheless"
    )]
    AlreadyDue,
    #[error("what the authority sent is no certificate")]
    NoCertificate,
    #[error("cannot make a key or a request: {0}")]
    Request(#[from] rcgen::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Where account and certificate are kept. Another authority has other files: what a try with a
/// staging authority has left is not taken for the real thing.
pub(crate) struct Store {
    folder: PathBuf,
    account: PathBuf,
    /// Key and chain in one file, so that they change together.
    pub(crate) certificate: PathBuf,
}

impl Store {
    pub(crate) fn new(acme: &Acme) -> Self {
        let digest = Sha256::digest(&acme.directory_url);
        let mut authority = String::new();
        for byte in digest.iter().take(4) {
            // Writing to a String does not fail.
            let _ = write!(authority, "{byte:02x}");
        }
        let folder = acme.directory.join("acme");
        Self {
            account: folder.join(format!("account-{authority}.json")),
            certificate: folder.join(format!("{}-{authority}.pem", acme.domain)),
            folder,
        }
    }

    /// What there is of a certificate.
    fn facts(&self) -> Option<Facts> {
        facts(&tls::read_file(&self.certificate).ok()?)
    }
}

/// Sees to it that there is a certificate and that it is renewed; ends never.
pub(crate) async fn keep(acme: Acme, certificates: Arc<Certificates>, look_every: Duration) {
    let store = Store::new(&acme);
    let domain = &acme.domain;
    let now = || i64::try_from(since_epoch()).unwrap_or(i64::MAX);
    let mut retry = acme.retry;
    loop {
        if store.facts().is_some_and(|facts| facts.is_for(domain) && !facts.is_due(now())) {
            retry = acme.retry;
            sleep(look_every).await;
            continue;
        }
        tracing::info!(domain, authority = acme.directory_url, "asking for a certificate");
        let obtained = timeout(ORDER_TIMEOUT, obtain(&acme, &store, &certificates)).await;
        // Whatever came of it, nobody asks for the proof any more.
        certificates.prove(None);
        let obtained = match obtained.unwrap_or(Err(AcmeError::TooLong)) {
            Ok(facts) if facts.is_due(now()) => Err(AcmeError::AlreadyDue),
            Ok(facts) => Ok(facts),
            Err(error) => Err(error),
        };
        match obtained {
            Ok(facts) => {
                let days = (facts.valid_until - now()) / (24 * 3600);
                tracing::info!(domain, days, "the authority has issued a certificate");
            }
            Err(error) => {
                tracing::warn!(
                    domain, %error, retry_in_s = retry.as_secs(),
                    "no new certificate from the authority; the present one stays in use"
                );
                sleep(retry).await;
                retry = (retry * 4).min(RETRY_MAX);
            }
        }
    }
}

/// One order, from the account to the certificate in use.
async fn obtain(
    acme: &Acme,
    store: &Store,
    certificates: &Arc<Certificates>,
) -> Result<Facts, AcmeError> {
    tls::make_folder(&store.folder)?;
    let account = account(acme, store).await?;
    let names = [Identifier::Dns(acme.domain.clone())];
    let ordered = account.new_order(&NewOrder::new(&names)).await;
    if let Err(Error::Api(problem)) = &ordered
        && problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
    {
        // It does no more; the next attempt makes another.
        let _ = fs::remove_file(&store.account);
    }
    let mut order = ordered?;
    prove(&mut order, acme, certificates).await?;
    let key = KeyPair::generate()?;
    let mut request = CertificateParams::new([acme.domain.clone()])?;
    request.distinguished_name = DistinguishedName::new();
    order.finalize_csr(request.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&POLLING).await?;
    let facts = facts(chain.as_bytes()).ok_or(AcmeError::NoCertificate)?;
    let both = format!("{}{chain}", key.serialize_pem());
    tls::replace(&store.certificate, both.as_bytes(), 0o600)?;
    certificates.refresh();
    Ok(facts)
}

/// The account at the authority: the kept one, or a new one.
async fn account(acme: &Acme, store: &Store) -> Result<Account, AcmeError> {
    let builder = match &acme.root_file {
        Some(path) => Account::builder_with_root(path)?,
        None => Account::builder()?,
    };
    let kept = tls::read_file(&store.account).ok();
    if let Some(credentials) = kept.and_then(|json| serde_json::from_slice(&json).ok()) {
        return Ok(builder.from_credentials(credentials).await?);
    }
    let contact: Vec<String> = acme.email.iter().map(|email| format!("mailto:{email}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder.create(&wanted, acme.directory_url.clone(), None).await?;
    let json = serde_json::to_vec(&credentials).map_err(Error::Json)?;
    tls::replace(&store.account, &json, 0o600)?;
    Ok(account)
}

/// Shows the authority that the name is ours.
async fn prove(
    order: &mut Order,
    acme: &Acme,
    certificates: &Certificates,
) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or(AcmeError::NoTlsAlpn)?;
        let digest = challenge.key_authorization().digest();
        let key = proof(&acme.domain, digest.as_ref())?;
        certificates.prove(Some(Proof { domain: acme.domain.clone(), key: Arc::new(key) }));
        challenge.set_ready().await?;
    }
    if order.poll_ready(&POLLING).await? == OrderStatus::Ready {
        return Ok(());
    }
    let reason = refusal(order).await.unwrap_or_else(|| "it does not say why".to_owned());
    Err(AcmeError::NotProven { domain: acme.domain.clone(), reason })
}

/// The certificate that carries what the authority asked for (RFC 8737 §3).
fn proof(domain: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let private = ring::sign::any_supported_type(&private).map_err(CertificateError::Unusable)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], private))
}

/// What the authority says was wrong with the proof.
async fn refusal(order: &mut Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let mut problems = state.challenges.iter().filter_map(|it| it.error.as_ref());
        if let Some(problem) = problems.next() {
            return Some(problem.to_string());
        }
    }
    None
}

/// An error with all that caused it: by itself, the HTTP client's says only that it failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
