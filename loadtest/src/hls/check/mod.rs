//! Whether a server keeps to the rules of LL-HLS (draft-pantos-hls-rfc8216bis-16; the text of §4.4
//! was held against -22 as well): it is watched as a player would, asked what no player asks, and
//! each rule is held against all that it gave.
//!
//! - `delivery`: rules of delivery directives, hints and headers
//! - `evidence`: what a server gave
//! - `findings`: what comes of a rule
//! - `gather`: asks for it
//! - `live`: rules of playlists over time
//! - `media`: rules of what is in the files
//! - `playlists`: rules of each playlist
//! - `sample`: what the tests break

mod delivery;
mod evidence;
mod findings;
mod gather;
mod live;
mod media;
mod playlists;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use evidence::{Evidence, Fetched, Probes, Rendition, Snapshot};
pub use findings::{Findings, Verdict};
pub use gather::{GatherOptions, gather};

use serde::Serialize;
use std::fmt;

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its short name.
    pub id: &'static str,
    /// What it says.
    pub rule: &'static str,
    /// Where it stands, in the draft unless it says otherwise.
    pub section: &'static str,
    run: fn(&Evidence, &mut Findings),
}

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Its short name.
    pub id: &'static str,
    /// What it says.
    pub rule: &'static str,
    /// Where it stands.
    pub section: &'static str,
    /// Whether it was kept, and what shows it.
    pub verdict: Verdict,
}

/// What became of all rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// In the order of the table.
    pub results: Vec<CheckResult>,
}

impl CheckReport {
    /// Holds all rules against what a server gave.
    pub fn new(evidence: &Evidence) -> Self {
        let judge = |check: &Check| {
            let mut findings = Findings::default();
            (check.run)(evidence, &mut findings);
            let Check { id, rule, section, .. } = *check;
            CheckResult { id, rule, section, verdict: findings.verdict() }
        };
        Self { results: checks().map(judge).collect() }
    }

    /// The rules that were broken.
    pub fn failed(&self) -> impl Iterator<Item = &CheckResult> {
        self.results.iter().filter(|result| matches!(result.verdict, Verdict::Fail(_)))
    }

    /// The rule of that name.
    pub fn get(&self, id: &str) -> Option<&Verdict> {
        self.results.iter().find(|result| result.id == id).map(|result| &result.verdict)
    }
}

/// All rules.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    [playlists::CHECKS, live::CHECKS, delivery::CHECKS, media::CHECKS].into_iter().flatten()
}

impl fmt::Display for CheckReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CheckResult { id, rule, section, verdict } in &self.results {
            let (word, evidence) = match verdict {
                Verdict::Pass(evidence) => ("pass", evidence),
                Verdict::Fail(evidence) => ("FAIL", evidence),
                Verdict::NotSeen => ("-", &"not seen".to_owned()),
            };
            writeln!(out, "{word:<5} {id:<22} {rule} ({section})\n{:29}{evidence}", "")?;
        }
        let count = |wanted: fn(&Verdict) -> bool| {
            self.results.iter().filter(|result| wanted(&result.verdict)).count()
        };
        write!(
            out,
            "{} pass, {} fail, {} not seen",
            count(|verdict| matches!(verdict, Verdict::Pass(_))),
            count(|verdict| matches!(verdict, Verdict::Fail(_))),
            count(|verdict| matches!(verdict, Verdict::NotSeen)),
        )
    }
}
