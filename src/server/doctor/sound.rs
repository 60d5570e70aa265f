//! Whether sound can be transcoded here, and how much of the machine that may take.

use super::Finding;
use crate::config::Config;
use crate::config::transcode::WorkerProgram;
use crate::transcode::cores::Share;
use crate::transcode::{Unavailable, examine};

pub(super) fn check(config: &Config) -> Vec<Finding> {
    if config.transcode.worker == WorkerProgram::Off {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return vec![Finding::failure("no runtime can be made", "the kernel must be Linux")];
    };
    let mut findings = findings(runtime.block_on(examine(config)));
    let share = Share::of_this_machine(&config.transcode);
    findings.push(Finding::fine(format!("transcoding may take {share}")));
    findings
}

fn findings(missing: Vec<Unavailable>) -> Vec<Finding> {
    if missing.is_empty() {
        return vec![Finding::fine("all sound can be transcoded")];
    }
    let finding = |reason: Unavailable| {
        let text = reason.to_string();
        let (what, advice) = text.split_once("; ").unwrap_or((&text, ""));
        Finding::warning(what, advice)
    };
    missing.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_cannot_be_transcoded_is_told_with_what_to_install() {
        assert_eq!(findings(Vec::new())[0].verdict, Verdict::Fine);
        let found = findings(vec![Unavailable::NoWorker("/x/millrace-transcode".into())]);
        assert_eq!(found[0].verdict, Verdict::Warning);
        assert!(found[0].what.contains("/x/millrace-transcode"), "{:?}", found[0]);
        assert!(found[0].advice.contains("make run"), "{:?}", found[0]);
    }
}
