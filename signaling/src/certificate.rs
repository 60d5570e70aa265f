//! What a certificate says of itself: since when, until when, for whom, and by whom.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What a chain of certificates says; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Since when the first certificate is valid.
    pub valid_from: i64,
    /// Until when.
    pub valid_until: i64,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Whether it vouches for itself.
    pub is_self_signed: bool,
    /// Whether each certificate is followed by that of its issuer, and one follows at all.
    pub is_whole_chain: bool,
}

impl Facts {
    /// Of its time this much, counted from the end, is for renewing it.
    const RENEWAL_SHARE: i64 = 3;

    /// Whether it is time for another one: a third of its time is left, as authorities advise.
    pub const fn is_due(&self, now: i64) -> bool {
        let time = self.valid_until.saturating_sub(self.valid_from);
        now >= self.valid_until.saturating_sub(time / Self::RENEWAL_SHARE)
    }

    /// Whether it is for this name, by a wildcard too (RFC 9525 §6.3).
    pub fn is_for(&self, name: &str) -> bool {
        let fits = |pattern: &String| {
            let wildcard = pattern.strip_prefix("*.");
            let below = wildcard.zip(name.split_once('.').map(|(_, rest)| rest));
            pattern.eq_ignore_ascii_case(name)
                || below.is_some_and(|(pattern, rest)| pattern.eq_ignore_ascii_case(rest))
        };
        self.names.iter().any(fits)
    }
}

/// What a PEM chain says, the server's own certificate first; `None` where it is none.
pub fn facts(pem: &[u8]) -> Option<Facts> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok()?;
    let chain: Option<Vec<X509Certificate<'_>>> =
        chain.iter().map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect();
    let chain = chain?;
    let first = chain.first()?;
    let is_self_signed = first.issuer() == first.subject();
    let links_fit = chain.windows(2).all(|pair| pair[0].issuer() == pair[1].subject());
    Some(Facts {
        valid_from: first.validity().not_before.timestamp(),
        valid_until: first.validity().not_after.timestamp(),
        names: names(first),
        is_self_signed,
        is_whole_chain: links_fit && (chain.len() > 1 || is_self_signed),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok().map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::time::{Duration, UNIX_EPOCH};

    fn params(name: &str) -> CertificateParams {
        let names = vec![name.to_owned(), "192.0.2.7".to_owned()];
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (UNIX_EPOCH + Duration::from_secs(1_000)).into();
        params.not_after = (UNIX_EPOCH + Duration::from_secs(4_000)).into();
        params
    }

    /// A certificate and that of its issuer.
    fn chain() -> (String, String) {
        let key = || KeyPair::generate().expect("a key");
        let mut root = params("root.example");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = key();
        let root_pem = root.self_signed(&root_key).expect("a root").pem();
        let issuer = Issuer::new(root, root_key);
        let leaf = params("*.example.org").signed_by(&key(), &issuer).expect("a certificate");
        (leaf.pem(), root_pem)
    }

    #[test]
    fn a_certificate_tells_its_time_its_names_and_its_chain() {
        let (leaf, root) = chain();
        let whole = facts(format!("{leaf}{root}").as_bytes()).expect("a chain");
        assert_eq!((whole.valid_from, whole.valid_until), (1_000, 4_000));
        assert_eq!(whole.names, ["*.example.org", "192.0.2.7"]);
        assert!(whole.is_whole_chain && !whole.is_self_signed);
        assert!(!facts(leaf.as_bytes()).expect("a certificate").is_whole_chain);
        assert!(!facts(format!("{leaf}{leaf}").as_bytes()).expect("two").is_whole_chain);
        assert!(facts(root.as_bytes()).expect("a root").is_self_signed);
        for nothing in ["", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            assert_eq!(facts(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn the_last_third_of_its_time_is_for_renewing_it() {
        let facts = facts(chain().0.as_bytes()).expect("a certificate");
        assert!(!facts.is_due(1_000) && !facts.is_due(2_999));
        assert!(facts.is_due(3_000) && facts.is_due(5_000));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let facts = facts(chain().0.as_bytes()).expect("a certificate");
        assert!(facts.is_for("live.example.org") && facts.is_for("LIVE.EXAMPLE.ORG"));
        for name in ["example.org", "a.live.example.org", "live.example.com", "org", ""] {
            assert!(!facts.is_for(name), "{name}");
        }
    }
}
