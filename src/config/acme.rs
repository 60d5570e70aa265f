//! `network.domain` and `network.acme_*`: a certificate that comes, and is renewed, by itself.

use super::reader::Reader;
use std::net::IpAddr;
use std::path::PathBuf;

/// Let's Encrypt: free, and trusted by every browser.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Whom to ask for a certificate (RFC 8555), where there is a domain and no certificate file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Of the account; some authorities write there before a certificate expires.
    pub email: Option<String>,
    /// The authority: the URL of its directory.
    pub directory_url: String,
    /// The root certificate of an authority that the system does not trust, as PEM.
    pub root_file: Option<PathBuf>,
}

impl Acme {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let email = "an e-mail address, or nothing";
        let directory = "the https:// URL of an ACME directory";
        let root = "a PEM file, or nothing for the authorities that the system trusts";
        Self {
            email: reader.text("network.acme_email", "", email, |text| match text {
                "" => Some(None),
                text => is_email(text).then(|| Some(text.to_owned())),
            }),
            directory_url: reader.text(
                "network.acme_directory_url",
                LETS_ENCRYPT,
                directory,
                |text| {
                    let host = text.strip_prefix("https://")?;
                    let fits = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
                    fits.then(|| text.to_owned())
                },
            ),
            root_file: reader.text("network.acme_root_file", "", root, |text| {
                Some((!text.is_empty()).then(|| PathBuf::from(text)))
            }),
        }
    }
}

/// `network.domain`: the name that clients reach this server by.
pub(super) fn read_domain(reader: &mut Reader) -> Option<String> {
    let takes = "a host name such as live.example.org, or nothing";
    reader.text("network.domain", "", takes, |text| match text {
        "" => Some(None),
        text => is_host_name(text).then(|| Some(text.to_ascii_lowercase())),
    })
}

/// A host name (RFC 1123 §2.1); an address is none, and a wildcard can be no server's name.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.parse::<IpAddr>().is_err() && text.split('.').all(is_label)
}

/// Enough to tell an address from something else; the authority knows the rest.
fn is_email(text: &str) -> bool {
    let fits = text.bytes().all(|b| b.is_ascii_graphic() && !b",?&#<>\"\\".contains(&b));
    fits && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && is_host_name(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_neither_address_nor_url_nor_wildcard() {
        for good in ["live.example.org", "LIVE.example", "localhost", "xn--4ca.example", "a.b"] {
            assert!(is_host_name(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "192.0.2.7",
            "::1",
            "https://a.example",
            "a.example:443",
            "*.a.example",
            "a..b",
            "-a",
            "a-",
            "a_b.example",
            "a b",
            ".",
            &long,
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_email_address_has_a_name_and_a_host() {
        assert!(is_email("ana@example.org"));
        for bad in ["ana", "@example.org", "ana@", "ana@1.2.3.4", "a b@example.org", "a,b@c.org"] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
