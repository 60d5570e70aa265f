//! What comes of holding a rule against what a server gave.

use serde::Serialize;

/// Faults of one rule that are told.
const TOLD_MAX: usize = 4;

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "evidence", rename_all = "snake_case")]
pub enum Verdict {
    /// It was kept; what shows it.
    Pass(String),
    /// It was broken; where.
    Fail(String),
    /// It did not come to it.
    NotSeen,
}

/// Collects what is found.
#[derive(Debug, Default)]
pub struct Findings {
    seen: usize,
    faults: Vec<String>,
    note: Option<String>,
}

impl Findings {
    /// One case of the rule: it is kept or not.
    pub(super) fn hold(&mut self, is_kept: bool, fault: impl FnOnce() -> String) {
        self.seen += 1;
        if !is_kept {
            self.faults.push(fault());
        }
    }

    /// What else is worth telling.
    pub(super) fn note(&mut self, note: String) {
        self.note = Some(note);
    }

    pub(super) fn verdict(self) -> Verdict {
        let note = self.note.map_or(String::new(), |note| format!("; {note}"));
        if self.seen == 0 {
            return Verdict::NotSeen;
        }
        if self.faults.is_empty() {
            return Verdict::Pass(format!("{} seen{note}", self.seen));
        }
        let told: Vec<&str> = self.faults.iter().take(TOLD_MAX).map(String::as_str).collect();
        let count = self.faults.len();
        Verdict::Fail(format!("{count} of {}: {}{note}", self.seen, told.join(" | ")))
    }
}
