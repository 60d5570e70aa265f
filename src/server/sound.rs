//! What is said at the start about sound that will not be transcoded.

use crate::transcode::{Transcoder, Unavailable};
use std::fmt::Write as _;
use std::time::Duration;

/// How long the start output waits for the worker's answer; later it stands in the log only.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What is off, and how it gets on; `None` where all is well, or off because the operator says so.
pub(super) async fn advice(transcoder: &Transcoder) -> Option<String> {
    let missing = tokio::time::timeout(PATIENCE, transcoder.missing()).await.ok()?;
    note(&missing)
}

fn note(missing: &[Unavailable]) -> Option<String> {
    let told = missing.iter().filter(|reason| **reason != Unavailable::Off);
    let lines = told.fold(String::new(), |mut lines, reason| {
        // Writing to a String does not fail.
        let _ = writeln!(lines, "  {reason}");
        lines
    });
    (!lines.is_empty()).then(|| {
        format!(
            "\nNOTE: not all sound can be transcoded. Streams that need it, such as those of OBS \
             over RTMP,\nplay without sound:\n{lines}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_is_off_is_told_unless_the_operator_wants_it_off() {
        assert_eq!(note(&[]), None);
        assert_eq!(note(&[Unavailable::Off]), None);
        let path = PathBuf::from("/usr/bin/millrace-transcode");
        let text = note(&[Unavailable::NoWorker(path)]).expect("it is told");
        assert!(text.contains("without sound") && text.contains("millrace-transcode"), "{text}");
    }
}
