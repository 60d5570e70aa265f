//! The settings of both ways, and when they change: a TOML file, or the same words on the command
//! line.
//!
//! ```toml
//! [[step]]
//! at_s = 0
//! down = { rate_kbps = 3000, delay_ms = 20, queue_ms = 200 }
//! up = { delay_ms = 20 }
//!
//! [[step]]
//! at_s = 15.5
//! down = { rate_kbps = 800, loss_percent = 2 }
//! ```
//!
//! A step changes what it names, and leaves the rest as it was. `rate_kbps = 0` takes the limit
//! away again, as `queue_ms = 0` and `queue_bytes = 0` do with theirs.

use super::link::LinkSettings;
use serde::Deserialize;
use std::time::Duration;

/// Why a script is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Not TOML, or with words that mean nothing.
    #[error(transparent)]
    Form(#[from] toml::de::Error),
    /// A time goes backwards, or a share is none.
    #[error("{0}")]
    Value(String),
}

/// What of a link is to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    loss_percent: Option<f64>,
    delay_ms: Option<u32>,
    jitter_ms: Option<u32>,
    rate_kbps: Option<u32>,
    queue_ms: Option<u32>,
    queue_bytes: Option<u32>,
}

impl Change {
    /// Reads `rate_kbps=3000,delay_ms=20`.
    ///
    /// # Errors
    ///
    /// [`ScriptError`].
    pub fn parse(words: &str) -> Result<Self, ScriptError> {
        #[derive(Deserialize)]
        struct Line {
            change: Change,
        }
        let Line { change } = toml::from_str(&format!("change = {{ {words} }}"))?;
        change.check()?;
        Ok(change)
    }

    /// The settings after the change.
    #[must_use]
    pub fn apply(&self, settings: LinkSettings) -> LinkSettings {
        let milliseconds = |value: u32| Duration::from_millis(value.into());
        let limit = |value: u32| (value > 0).then(|| u64::from(value));
        LinkSettings {
            loss_percent: self.loss_percent.unwrap_or(settings.loss_percent),
            delay: self.delay_ms.map_or(settings.delay, milliseconds),
            jitter: self.jitter_ms.map_or(settings.jitter, milliseconds),
            rate_bps: self
                .rate_kbps
                .map_or(settings.rate_bps, |it| limit(it).map(|kbps| kbps * 1_000)),
            queue: self.queue_ms.map_or(settings.queue, |it| limit(it).map(Duration::from_millis)),
            queue_bytes: self.queue_bytes.map_or(settings.queue_bytes, limit),
        }
    }

    fn check(&self) -> Result<(), ScriptError> {
        match self.loss_percent {
            Some(percent) if !(0.0..=100.0).contains(&percent) => {
                Err(ScriptError::Value(format!("loss_percent = {percent} is not 0 to 100")))
            }
            _ => Ok(()),
        }
    }
}

/// A change at a time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    at_s: f64,
    /// To the server.
    #[serde(default)]
    pub up: Change,
    /// To the client.
    #[serde(default)]
    pub down: Change,
}

impl Step {
    /// When, from the start on.
    pub fn at(&self) -> Duration {
        Duration::from_secs_f64(self.at_s)
    }
}

/// All steps, in order.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The steps.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// [`ScriptError`].
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let script: Self = toml::from_str(text)?;
        let mut last = 0.0;
        for step in &script.steps {
            if !(last..=1e6).contains(&step.at_s) {
                return Err(ScriptError::Value(format!("at_s = {} is out of order", step.at_s)));
            }
            last = step.at_s;
            step.up.check()?;
            step.down.check()?;
        }
        Ok(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_changes_what_it_names() {
        let script = Script::parse(
            "[[step]]\nat_s = 0\ndown = { rate_kbps = 3000, queue_ms = 200 }\n\
             [[step]]\nat_s = 1.5\ndown = { rate_kbps = 0, loss_percent = 2 }\nup.delay_ms = 5\n",
        )
        .expect("a script");
        let first = script.steps[0].down.apply(LinkSettings::default());
        assert_eq!(
            (first.rate_bps, first.queue),
            (Some(3_000_000), Some(Duration::from_millis(200)))
        );
        assert_eq!(script.steps[1].at(), Duration::from_millis(1_500));
        let second = script.steps[1].down.apply(first);
        assert_eq!((second.rate_bps, second.queue), (None, first.queue));
        assert!((second.loss_percent - 2.0).abs() < f64::EPSILON);
        let up = script.steps[1].up.apply(LinkSettings::default());
        assert_eq!(up.delay, Duration::from_millis(5));
    }

    #[test]
    fn words_of_the_command_line_are_the_same() {
        let change = Change::parse("delay_ms=20, queue_bytes=9000").expect("two settings");
        let settings = change.apply(LinkSettings::default());
        assert_eq!(settings.delay, Duration::from_millis(20));
        assert_eq!(settings.queue_bytes, Some(9_000));
        assert_eq!(Change::parse("").expect("nothing"), Change::default());
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for words in ["speed=3", "loss_percent=101", "delay_ms=-1", "delay_ms=", "}", "a=1}\n[b]"] {
            assert!(Change::parse(words).is_err(), "{words}");
        }
        for text in ["[[step]]\nat_s = -1", "[[step]]\nat_s = 2\n[[step]]\nat_s = 1", "[[steps]]"] {
            assert!(Script::parse(text).is_err(), "{text}");
        }
    }
}
