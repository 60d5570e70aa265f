//! Whether this machine can serve what is configured, and what to do where it cannot.
//!
//! - `addresses`: what clients are told, and what the server's name leads to
//! - `files`: the certificate and the state directory
//! - `machine`: buffers, descriptors, memory, clock
//! - `ports`: whether each can be had
//! - `sound`: whether it can be transcoded
//!
//! Each check is a function from a reading to a finding: tests make up readings of machines that
//! are hard to come by. Nothing is changed: what is tried is taken back at once.

mod addresses;
mod files;
mod machine;
mod ports;
mod sound;

use crate::config::Config;
use crate::config::address::ipv6_works;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    Warning,
    Failure,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    what: String,
    /// What to do; nothing where all is well.
    advice: String,
}

impl Finding {
    fn fine(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, what: what.into(), advice: String::new() }
    }

    fn warning(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, what: what.into(), advice: advice.into() }
    }

    fn failure(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failure, what: what.into(), advice: advice.into() }
    }
}

/// One line: the verdict, what is so, and what to do.
impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Fine => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Failure => "fail",
        };
        write!(out, "{verdict}  {}", self.what)?;
        if !self.advice.is_empty() {
            write!(out, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// What all checks have found.
#[derive(Debug)]
pub struct Report(Vec<Finding>);

impl Report {
    /// Whether the server would not start, or nobody could use it.
    pub fn has_failures(&self) -> bool {
        self.count(Verdict::Failure) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            writeln!(out, "{finding}")?;
        }
        let [fine, warnings, failures] =
            [Verdict::Fine, Verdict::Warning, Verdict::Failure].map(|it| self.count(it));
        writeln!(out, "{fine} ok, {warnings} to look at, {failures} to mend")
    }
}

/// Checks the machine against the configuration. Blocks: it binds ports and asks for names.
pub fn diagnose(config: &Config) -> Report {
    let mut findings = ports::check(config);
    findings.extend(addresses::check(config));
    findings.extend(files::check(config));
    findings.extend(machine::check(config));
    findings.extend(sound::check(config));
    Report(findings)
}

/// Whether the server of this configuration runs and is well. Blocks for some seconds at most.
///
/// # Errors
///
/// Why it did not answer, or what it answered instead.
pub fn check_health(config: &Config) -> io::Result<()> {
    let (http, https, _) = addresses_of(config);
    let (address, tls) = match (http, https) {
        (Some(http), _) => (http, false),
        (None, Some(https)) => (https, true),
        (None, None) => return Err(io::Error::other("neither HTTP nor HTTPS is configured")),
    };
    signaling::probe::healthy(on_this_machine(address), tls)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// Whether root asks, who may more than the service: whose the process is, its own entry tells.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Where HTTP, HTTPS and media are to be.
fn addresses_of(config: &Config) -> (Option<SocketAddr>, Option<SocketAddr>, SocketAddr) {
    let network = &config.network;
    let ipv6 = ipv6_works();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let media = network.media_listen.address(ipv6).unwrap_or(any);
    (network.http_listen.address(ipv6), network.https_listen.address(ipv6), media)
}

/// How this machine reaches an address of its own.
fn on_this_machine(address: SocketAddr) -> SocketAddr {
    // The IPv6 wildcard takes IPv4 as well, and every machine has that loopback address.
    if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_finding_and_fails_with_any_failure() {
        let mut findings = vec![Finding::fine("a is there"), Finding::warning("b is small", "buy")];
        let report = Report(findings.clone());
        assert!(!report.has_failures());
        let text = "ok    a is there\nwarn  b is small; buy\n1 ok, 1 to look at, 0 to mend\n";
        assert_eq!(report.to_string(), text);
        findings.push(Finding::failure("c is missing", "make one"));
        let report = Report(findings);
        assert!(report.has_failures());
        assert!(report.to_string().contains("\nfail  c is missing; make one\n"));
    }
}
