//! Certificates: the operator's or an authority's, read again when they change, or one made here
//! and kept.
//!
//! A bad new pair never takes HTTPS down: the one that worked stays, and the log says why.

use crate::acme::Store;
use crate::certificate::{Facts, facts};
use crate::config::CertificateSource;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a self-signed certificate is always for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long a self-signed certificate holds; Apple's clients take none that holds over 825 days.
const VALIDITY: Duration = Duration::from_hours(397 * 24);
/// How old it is when another is made.
const RENEWAL_AGE: Duration = Duration::from_hours(300 * 24);
/// A certificate is valid from this long before it is made, for clients whose clock is slow.
const CLOCK_SLACK: Duration = Duration::from_hours(24);
/// What an authority names in its handshake when it looks for the proof (RFC 8737 §6.1).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";
/// The most bytes read of a PEM file.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file or folder that cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file that is too large to be a certificate or key.
    #[error("{path} is too large to be a certificate or a key", path = .0.display())]
    TooLarge(PathBuf),
    /// A file without a certificate, or with a broken one.
    #[error("{path} has no PEM certificate that can be read", path = .0.display())]
    NoCertificate(PathBuf),
    /// A file without a private key.
    #[error("{path} has no PEM private key that can be read", path = .0.display())]
    NoKey(PathBuf),
    /// A key of a kind that is not served with, or of another certificate.
    #[error("certificate and key cannot be served with: {0}")]
    Unusable(#[from] rustls::Error),
    /// The self-signed certificate cannot be made.
    #[error("no self-signed certificate can be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// The certificate in use, and where a newer one comes from.
#[derive(Debug)]
pub struct Certificates {
    source: CertificateSource,
    current: RwLock<Current>,
    proof: RwLock<Option<Proof>>,
}

/// The certificate that proves to an authority that a name is ours (RFC 8737 §3).
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) domain: String,
    pub(crate) key: Arc<CertifiedKey>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// The digest of the pair last looked at, good or bad: each is tried, and told of, once.
    tried: [u8; 32],
}

/// A certificate chain and its key as PEM.
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificates {
    /// Reads the operator's certificate, or makes one where there is none yet.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] says which file is wrong and why.
    pub fn load(source: CertificateSource) -> Result<Self, CertificateError> {
        let pair = read_pair(&source)?;
        let key = Arc::new(certified_key(&source, &pair)?);
        let current = RwLock::new(Current { key, tried: pair.digest() });
        Ok(Self { source, current, proof: RwLock::new(None) })
    }

    /// Where the certificate comes from.
    pub(crate) const fn source(&self) -> &CertificateSource {
        &self.source
    }

    /// From now on an authority that asks is shown this.
    pub(crate) fn prove(&self, proof: Option<Proof>) {
        *self.proof.write().unwrap_or_else(PoisonError::into_inner) = proof;
    }

    /// Looks at the files again and takes a changed pair if it is good.
    pub fn refresh(&self) {
        let pair = match read_pair(&self.source) {
            Ok(pair) => pair,
            // A file that is being replaced may be missing for a moment.
            Err(error) => return tracing::debug!(%error, "the certificate cannot be looked at"),
        };
        let tried = pair.digest();
        if self.read().tried == tried {
            return;
        }
        let outcome = certified_key(&self.source, &pair);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.tried = tried;
        match outcome {
            Ok(key) => {
                current.key = Arc::new(key);
                tracing::info!("the changed certificate is in use");
            }
            Err(error) => {
                tracing::warn!(%error, "the changed certificate is bad; the old one stays in use");
            }
        }
    }

    /// TLS 1.2 and 1.3 with whatever is spoken inside.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Unusable`] if the cryptography does not support these versions.
    pub fn plain_server_config(self: &Arc<Self>) -> Result<ServerConfig, CertificateError> {
        Ok(ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>))
    }

    /// The same with HTTP/2 and HTTP/1.1 inside.
    ///
    /// # Errors
    ///
    /// As for [`Self::plain_server_config`].
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, CertificateError> {
        let mut config = self.plain_server_config()?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if matches!(self.source, CertificateSource::Acme(_)) {
            config.alpn_protocols.push(ACME_PROTOCOL.to_vec());
        }
        Ok(config)
    }

    /// The proof for a name, while one is asked for.
    fn proof(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let proof = self.proof.read().unwrap_or_else(PoisonError::into_inner);
        let proof = proof.as_ref().filter(|proof| name == Some(proof.domain.as_str()))?;
        Some(Arc::clone(&proof.key))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority offers this protocol and no other (RFC 8737 §3).
        let is_authority = hello.alpn().is_some_and(|offered| offered.eq([ACME_PROTOCOL]));
        if is_authority {
            return self.proof(hello.server_name());
        }
        Some(Arc::clone(&self.read().key))
    }
}

impl Pair {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&self.certificate));
        digest.update(Sha256::digest(&self.key));
        digest.finalize().into()
    }
}

/// The paths of a source's certificate and key.
fn paths(source: &CertificateSource) -> (PathBuf, PathBuf) {
    match source {
        CertificateSource::Files { certificate, key } => (certificate.clone(), key.clone()),
        CertificateSource::SelfSigned { directory, .. } => {
            (directory.join("self-signed.crt"), directory.join("self-signed.key"))
        }
        CertificateSource::Acme(acme) => {
            let path = Store::new(acme).certificate;
            (path.clone(), path)
        }
    }
}

/// What there is of a source's certificate, without making one; `None` where there is none yet.
///
/// # Errors
///
/// [`CertificateError`] says which file is wrong and why.
pub fn examine(source: &CertificateSource) -> Result<Option<Facts>, CertificateError> {
    let (certificate, key) = paths(source);
    let comes_by_itself = !matches!(source, CertificateSource::Files { .. });
    if comes_by_itself && !certificate.exists() {
        return Ok(None);
    }
    let pair = Pair { certificate: read_file(&certificate)?, key: read_file(&key)? };
    certified_key(source, &pair)?;
    facts(&pair.certificate).map(Some).ok_or(CertificateError::NoCertificate(certificate))
}

fn read_pair(source: &CertificateSource) -> Result<Pair, CertificateError> {
    let (certificate, key) = paths(source);
    let read = || Ok(Pair { certificate: read_file(&certificate)?, key: read_file(&key)? });
    match source {
        CertificateSource::Files { .. } => read(),
        CertificateSource::SelfSigned { directory, names } => self_signed(directory, names),
        CertificateSource::Acme(acme) => {
            let issued = read().and_then(|pair| certified_key(source, &pair).map(|_| pair));
            issued.or_else(|_| {
                let names = [slice::from_ref(&acme.domain), &acme.names].concat();
                self_signed(&acme.directory, &names)
            })
        }
    }
}

/// The pair that was made here, made anew where it is old or for other names.
fn self_signed(directory: &Path, names: &[String]) -> Result<Pair, CertificateError> {
    let source =
        CertificateSource::SelfSigned { directory: directory.to_owned(), names: names.to_vec() };
    let (certificate, key) = paths(&source);
    let read = || Ok(Pair { certificate: read_file(&certificate)?, key: read_file(&key)? });
    let names = all_names(names);
    let now = since_epoch();
    match read() {
        Ok(pair) if is_fresh(&pair.certificate, &names, now) => return Ok(pair),
        Ok(_) => {}
        Err(CertificateError::File { error, .. })
            if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let pair = make_pair(&names, now)?;
    make_folder(directory)?;
    // The key first: a certificate without its key would not be noticed as missing.
    replace(&key, &pair.key, 0o600)?;
    replace(&certificate, &pair.certificate, 0o644)?;
    tracing::info!(path = %certificate.display(), "made a self-signed certificate");
    Ok(pair)
}

/// Makes a folder, and those above it, for its owner only.
pub(crate) fn make_folder(path: &Path) -> Result<(), CertificateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| CertificateError::File { path: path.to_owned(), error })
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let fault = |error| CertificateError::File { path: path.to_owned(), error };
    if fs::metadata(path).map_err(fault)?.len() > PEM_BYTES_MAX {
        return Err(CertificateError::TooLarge(path.to_owned()));
    }
    fs::read(path).map_err(fault)
}

/// Writes a file beside its place and moves it there: a reader sees the old or the new one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), CertificateError> {
    let fault = |error| CertificateError::File { path: path.to_owned(), error };
    let beside = path.with_extension("new");
    // What a start that was cut short may have left, perhaps with another mode.
    let _ = fs::remove_file(&beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(&beside).map_err(fault)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(fault)?;
    fs::rename(&beside, path).map_err(fault)
}

fn certified_key(
    source: &CertificateSource,
    pair: &Pair,
) -> Result<CertifiedKey, CertificateError> {
    let (certificate_path, key_path) = paths(source);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pair.certificate).collect();
    let chain = chain.unwrap_or_default();
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate(certificate_path));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&pair.key).map_err(|_| CertificateError::NoKey(key_path))?;
    let key = CertifiedKey::new(chain, ring::sign::any_supported_type(&key)?);
    match key.keys_match() {
        // Not every kind of key can be compared; the handshake would tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(key),
        Err(error) => Err(error.into()),
    }
}

/// The names of a self-signed certificate, each once.
fn all_names(extra: &[String]) -> Vec<String> {
    let mut names: Vec<String> = LOCAL_NAMES.iter().map(|&name| name.to_owned()).collect();
    for name in extra {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The line above a self-signed certificate that says what it is for and when it was made.
fn label(names: &[String], made: u64) -> String {
    format!("# millrace, made {made}, for {}\n", names.join(" "))
}

/// Whether a kept certificate is ours, for these names, and young enough.
fn is_fresh(certificate: &[u8], names: &[String], now: u64) -> bool {
    let first = certificate.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let first = std::str::from_utf8(first).unwrap_or_default();
    let made = first.strip_prefix("# millrace, made ").and_then(|rest| rest.split_once(','));
    let Some(made) = made.and_then(|(made, _)| made.parse::<u64>().ok()) else {
        return false;
    };
    let young = now.checked_sub(made).is_some_and(|age| age < RENEWAL_AGE.as_secs());
    young && label(names, made).trim_end() == first
}

fn make_pair(names: &[String], now: u64) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "millrace (self-signed)");
    let made = UNIX_EPOCH + Duration::from_secs(now);
    params.not_before = (made - CLOCK_SLACK).into();
    params.not_after = (made + VALIDITY).into();
    let certificate = params.self_signed(&key)?;
    let certificate = format!("{}{}", label(names, now), certificate.pem());
    Ok(Pair { certificate: certificate.into_bytes(), key: key.serialize_pem().into_bytes() })
}

pub(crate) fn since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_certificate_is_used_until_it_is_old_or_for_other_names() {
        let names = all_names(&["192.0.2.1".to_owned(), "localhost".to_owned()]);
        assert_eq!(names, ["localhost", "127.0.0.1", "::1", "192.0.2.1"]);
        let made = 1_790_000_000;
        let pair = make_pair(&names, made).expect("it can be made");
        assert!(is_fresh(&pair.certificate, &names, made));
        assert!(is_fresh(&pair.certificate, &names, made + RENEWAL_AGE.as_secs() - 1));
        assert!(!is_fresh(&pair.certificate, &names, made + RENEWAL_AGE.as_secs()));
        assert!(!is_fresh(&pair.certificate, &names, made - 1));
        assert!(!is_fresh(&pair.certificate, &names[..3], made));
        assert!(!is_fresh(b"-----BEGIN CERTIFICATE-----", &names, made));
    }

    #[test]
    fn a_pair_whose_halves_do_not_fit_is_refused() {
        let names = all_names(&[]);
        let source = CertificateSource::SelfSigned { directory: "x".into(), names: vec![] };
        let one = make_pair(&names, since_epoch()).expect("it can be made");
        let other = make_pair(&names, since_epoch()).expect("it can be made");
        assert!(certified_key(&source, &one).is_ok());
        let mixed = Pair { certificate: one.certificate.clone(), key: other.key };
        assert!(matches!(certified_key(&source, &mixed), Err(CertificateError::Unusable(_))));
        let no_key = Pair { certificate: one.certificate, key: b"x".to_vec() };
        assert!(matches!(certified_key(&source, &no_key), Err(CertificateError::NoKey(_))));
        let nothing = Pair { certificate: vec![], key: one.key };
        let fault = certified_key(&source, &nothing);
        assert!(matches!(fault, Err(CertificateError::NoCertificate(_))));
    }

    /// A folder of its own for one test, removed with all that is in it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("millrace-tls-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(folder))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.read().key.cert.first().map_or_else(Vec::new, |first| first.to_vec())
    }

    #[test]
    fn a_self_signed_pair_is_kept_for_its_owner_only_and_used_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("kept");
        let source = |names: &[&str]| CertificateSource::SelfSigned {
            directory: folder.0.clone(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let first = Certificates::load(source(&[])).expect("made");
        let second = Certificates::load(source(&[])).expect("read");
        assert_eq!(served(&first), served(&second));
        let key = fs::metadata(folder.0.join("self-signed.key")).expect("it is kept");
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        let other = Certificates::load(source(&["192.0.2.7"])).expect("made for another address");
        assert_ne!(served(&first), served(&other));
    }

    #[test]
    fn a_good_new_pair_replaces_the_old_one_and_a_bad_one_does_not() {
        let folder = Folder::new("reload");
        fs::create_dir_all(&folder.0).expect("a folder can be made");
        let (certificate, key) = (folder.0.join("a.crt"), folder.0.join("a.key"));
        let write = |pair: &Pair| {
            replace(&key, &pair.key, 0o600).expect("written");
            replace(&certificate, &pair.certificate, 0o644).expect("written");
        };
        let names = all_names(&[]);
        let [one, two] = [0, 1].map(|_| make_pair(&names, since_epoch()).expect("made"));
        write(&one);
        let source =
            CertificateSource::Files { certificate: certificate.clone(), key: key.clone() };
        let certificates = Certificates::load(source).expect("it is good");
        let before = served(&certificates);
        write(&two);
        certificates.refresh();
        let after = served(&certificates);
        assert_ne!(before, after);
        write(&Pair { certificate: one.certificate, key: two.key });
        certificates.refresh();
        assert_eq!(served(&certificates), after);
        fs::remove_file(&certificate).expect("it is there");
        certificates.refresh();
        assert_eq!(served(&certificates), after);
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = Folder::new("missing");
        let path = folder.0.join("a.crt");
        let source = CertificateSource::Files { certificate: path.clone(), key: path.clone() };
        let fault = Certificates::load(source).expect_err("there is none").to_string();
        assert!(fault.starts_with(&path.display().to_string()), "{fault}");
    }
}
