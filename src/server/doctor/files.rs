//! The certificate, and the directory that the server keeps its state in.

use super::super::certificate::source;
use super::{Finding, addresses_of, is_root};
use crate::clock::Clock;
use crate::config::Config;
use signaling::certificate::Facts;
use signaling::config::CertificateSource;
use signaling::tls::{CertificateError, examine};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const DAY: i64 = 24 * 3600;
/// A certificate that somebody has to renew is told of this long before its end.
const DAYS_LEFT_MIN: i64 = 14;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let directory = &config.server.state_directory;
    let mut findings = vec![state(directory, &attempt(directory))];
    findings.extend(secrets(directory));
    let (_, https, _) = addresses_of(config);
    if https.is_some() {
        let source = source(config, &[]);
        let now = Clock::system().wall().as_unix().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let domain = config.network.domain.as_deref();
        findings.push(certificate(&source, &examine(&source), domain, now));
        if let CertificateSource::Files { key, .. } = &source {
            let mode = fs::metadata(key).map_or(0o777, |file| file.permissions().mode());
            findings.extend(out_of_reach(key, is_root(), mode));
        }
    }
    findings
}

/// A key that root can read, who asks, and the service cannot, which is somebody else.
fn out_of_reach(key: &Path, is_root: bool, mode: u32) -> Option<Finding> {
    let is_for_others = mode & 0o077 != 0;
    (is_root && !is_for_others).then(|| {
        let key = key.display();
        Finding::warning(
            format!("only the owner of {key} and root can read it"),
            "where millrace runs as a service, which is neither: LoadCredential= in its unit \
             passes the files on, see docs/as-a-service.md",
        )
    })
}

/// Writes a file where the server will, and removes it. Where there is no directory yet, it is
/// tried where that would be made.
fn attempt(directory: &Path) -> io::Result<()> {
    let is_there = |path: &&Path| path.is_dir();
    let path = directory.ancestors().find(is_there).unwrap_or(Path::new("."));
    let path = path.join(format!(".millrace-doctor-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn state(directory: &Path, outcome: &io::Result<()>) -> Finding {
    let shown = directory.display();
    if directory.exists() && !directory.is_dir() {
        return Finding::failure(
            format!("the state directory {shown} is no directory"),
            "set server.state_directory",
        );
    }
    match outcome {
        Ok(()) if directory.is_dir() => {
            Finding::fine(format!("the state directory {shown} can be written"))
        }
        Ok(()) => Finding::fine(format!("the state directory {shown} can be made")),
        Err(error) => Finding::failure(
            format!("the state directory {shown} cannot be written: {error}"),
            "set server.state_directory to one that this user may write to, or start it as the \
             service, which has one",
        ),
    }
}

/// Secrets that others may read. There need not be any yet.
fn secrets(directory: &Path) -> Option<Finding> {
    let folders = [directory.to_owned(), directory.join("acme")];
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let is_secret = |path: &PathBuf| {
        let is = |end: &str| path.extension().is_some_and(|extension| extension == end);
        path.ends_with("tokens.toml") || ["key", "pem", "json"].into_iter().any(is)
    };
    let mode = |path: &PathBuf| fs::metadata(path).map_or(0, |it| it.permissions().mode());
    let secrets = files.filter_map(|entry| Some(entry.ok()?.path())).filter(is_secret);
    let mut open: Vec<String> = secrets
        .filter(|path| mode(path) & 0o077 != 0)
        .map(|path| path.display().to_string())
        .collect();
    open.sort();
    (!open.is_empty()).then(|| {
        let files = open.join(" ");
        Finding::warning(
            format!("others on this machine may read secrets: {files}"),
            format!("chmod 600 {files}"),
        )
    })
}

fn certificate(
    source: &CertificateSource,
    examined: &Result<Option<Facts>, CertificateError>,
    domain: Option<&str>,
    now: i64,
) -> Finding {
    let advice = match source {
        CertificateSource::Files { .. } => {
            "set network.tls_certificate_file and network.tls_key_file to a certificate with its \
             chain and the key that belongs to it"
        }
        CertificateSource::SelfSigned { .. } | CertificateSource::Acme(_) => {
            "remove that file, and the server makes or gets another"
        }
    };
    let facts = match (examined, source) {
        (Err(error), _) => {
            return Finding::failure(format!("the certificate cannot be used: {error}"), advice);
        }
        (_, CertificateSource::SelfSigned { .. }) => {
            return Finding::warning(
                "the certificate is the server's own, which browsers warn about",
                "set network.domain to have one from an authority, or network.tls_certificate_file",
            );
        }
        (Ok(None), _) => {
            return Finding::warning(
                "there is no certificate from the authority yet",
                "start the server: it asks for one and logs what comes of it",
            );
        }
        (Ok(Some(facts)), _) => facts,
    };
    judge(facts, source, domain, now, advice)
}

/// What is wrong with a certificate whose key fits, the worst first.
fn judge(
    facts: &Facts,
    source: &CertificateSource,
    domain: Option<&str>,
    now: i64,
    advice: &str,
) -> Finding {
    let comes_by_itself = matches!(source, CertificateSource::Acme(_));
    let days = (facts.valid_until - now) / DAY;
    let names = facts.names.join(", ");
    let renewal = if comes_by_itself {
        "the server renews it while it runs; its log says why it could not"
    } else {
        advice
    };
    if now >= facts.valid_until {
        return Finding::failure(
            format!("the certificate has expired {} days ago", -days),
            renewal,
        );
    }
    if now < facts.valid_from {
        return Finding::failure(
            "the certificate is not valid yet",
            "is the clock of this machine right?",
        );
    }
    if let Some(domain) = domain.filter(|domain| !facts.is_for(domain)) {
        return Finding::failure(
            format!("the certificate is for {names}, not for {domain}"),
            format!("{advice}, or correct network.domain"),
        );
    }
    if facts.is_self_signed {
        return Finding::warning(
            "the certificate vouches for itself, which browsers warn about",
            "set network.domain to have one from an authority",
        );
    }
    if !facts.is_whole_chain {
        return Finding::warning(
            "the certificate comes without that of its issuer: some browsers and OBS refuse it",
            "append the authority's intermediate certificates to the file (often fullchain.pem)",
        );
    }
    if days < DAYS_LEFT_MIN && facts.is_due(now) {
        return Finding::warning(format!("the certificate expires in {days} days"), renewal);
    }
    Finding::fine(format!("the certificate is for {names} and holds {days} more days"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn facts() -> Facts {
        Facts {
            valid_from: 0,
            valid_until: 90 * DAY,
            names: vec!["live.example.org".to_owned()],
            is_self_signed: false,
            is_whole_chain: true,
        }
    }

    fn files() -> CertificateSource {
        CertificateSource::Files { certificate: "a.crt".into(), key: "a.key".into() }
    }

    fn found(facts: Facts, now: i64) -> Finding {
        certificate(&files(), &Ok(Some(facts)), Some("live.example.org"), now)
    }

    #[test]
    fn a_good_certificate_is_fine_until_its_last_days() {
        let good = found(facts(), 10 * DAY);
        assert_eq!(
            good.to_string(),
            "ok    the certificate is for live.example.org and holds 80 more days"
        );
        assert_eq!(found(facts(), 75 * DAY).verdict, Verdict::Fine);
        assert_eq!(found(facts(), 80 * DAY).verdict, Verdict::Warning);
        // Six days are a whole life for some.
        let short = Facts { valid_until: 6 * DAY, ..facts() };
        assert_eq!(found(short, 2 * DAY).verdict, Verdict::Fine);
    }

    #[test]
    fn a_certificate_that_clients_refuse_is_a_failure() {
        for (facts, now, words) in [
            (facts(), 100 * DAY, "expired 10 days ago"),
            (facts(), -DAY, "not valid yet"),
            (Facts { names: vec!["other.example".into()], ..facts() }, 0, "not for live.example"),
        ] {
            let found = found(facts, now);
            assert_eq!(found.verdict, Verdict::Failure, "{found}");
            assert!(found.what.contains(words), "{found}");
        }
        let missing = Err(CertificateError::NoKey("a.key".into()));
        let missing = certificate(&files(), &missing, None, 0);
        assert_eq!(missing.verdict, Verdict::Failure);
        assert!(missing.what.contains("a.key"), "{missing}");
    }

    #[test]
    fn a_certificate_that_some_clients_refuse_is_warned_of() {
        for (facts, words) in [
            (Facts { is_self_signed: true, ..facts() }, "vouches for itself"),
            (Facts { is_whole_chain: false, ..facts() }, "without that of its issuer"),
        ] {
            let found = found(facts, 0);
            assert_eq!(found.verdict, Verdict::Warning, "{found}");
            assert!(found.what.contains(words), "{found}");
        }
        let own = CertificateSource::SelfSigned { directory: "x".into(), names: vec![] };
        let own = certificate(&own, &Ok(None), None, 0);
        assert_eq!(own.verdict, Verdict::Warning);
        assert!(own.advice.contains("network.domain"), "{own}");
    }

    #[test]
    fn a_key_that_only_root_can_read_is_warned_of_where_root_asks() {
        let found = |is_root, mode| out_of_reach(Path::new("a.key"), is_root, mode);
        let hidden = found(true, 0o100_600).expect("the service cannot read it");
        assert_eq!(hidden.verdict, Verdict::Warning);
        assert!(hidden.advice.contains("LoadCredential="), "{hidden}");
        assert_eq!(found(true, 0o100_640), None, "it may be in the group");
        assert_eq!(found(false, 0o100_600), None, "that has been tried");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_a_failure() {
        let outcome = Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let found = state(Path::new("/nowhere/at/all"), &outcome);
        assert_eq!(found.verdict, Verdict::Failure);
        assert!(found.advice.contains("server.state_directory"), "{found}");
        let made = state(Path::new("/nowhere/at/all"), &Ok(()));
        assert!(made.what.contains("can be made"), "{made}");
        let file = state(Path::new("/etc/passwd"), &Ok(()));
        assert_eq!(file.verdict, Verdict::Failure, "{file}");
    }

    #[test]
    fn secrets_that_others_may_read_are_named_with_what_to_do() {
        let name = format!("millrace-doctor-secrets-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("tokens.toml");
        fs::write(&path, "x").expect("a file");
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        set(0o600).expect("the file is ours");
        assert_eq!(secrets(&folder), None);
        set(0o644).expect("the file is ours");
        let found = secrets(&folder).expect("a finding");
        assert_eq!(found.advice, format!("chmod 600 {}", path.display()));
        assert!(attempt(&folder.join("not/yet")).is_ok());
        fs::remove_dir_all(&folder).expect("the test made it");
        assert_eq!(secrets(&folder), None);
    }
}
