//! What a viewer is to get, as the engine tells whoever listens.

use super::{Rule, Verdict, broken};
use millrace::engine::command::Selection;
use millrace::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

/// What was told of one viewer's selection.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// It wishes for something of its own: what its link carries does not decide alone.
    wishes: bool,
    /// It wishes for no picture.
    paused: bool,
    has_target: bool,
    /// Times without picture: from when that was told to when one flowed again.
    stopped: Vec<(Instant, Option<Instant>)>,
    /// Since when it was to get more than its link was taken to carry.
    beyond: Option<Instant>,
    changed: Option<Instant>,
    estimate: Option<Bitrate>,
    /// The highest so far, and since when anything has been told.
    highest: Option<Bitrate>,
    since: Option<Instant>,
}

impl Selected {
    /// So late something is told at most.
    pub(super) const TOLD: Duration = Duration::from_millis(400);
    /// A layer may take so much more than the estimate says, as that is never quiet.
    const SHORT: f64 = 1.3;
    /// So long after it has wished for something it has it.
    const SETTLES: Duration = Duration::from_secs(5);
    /// What probes take of what a link carries, and at once in bytes.
    const PROBES: f64 = 0.04;
    const PROBES_AT_ONCE: u64 = 64_000;
    /// The first estimate may be told two seconds after it is known, and all at once have come.
    const PROBES_UNTOLD: u64 = 48_000;
    /// So long it may be more than that, while another layer is on its way.
    const BEYOND: Duration = Duration::from_secs(3);

    pub(super) fn wishes(&mut self, paused: bool, now: Instant) {
        (self.wishes, self.paused) = (true, paused);
        if paused && self.stopped.last().is_none_or(|(_, until)| until.is_some()) {
            self.stopped.push((now, None));
        }
    }

    pub(super) fn disturb(&mut self, now: Instant) {
        (self.changed, self.beyond) = (Some(now), None);
    }

    /// What it is to get was told.
    pub(super) fn told(&mut self, selection: &Selection, now: Instant) -> Verdict {
        self.estimate = selection.estimate;
        self.highest = self.highest.max(selection.estimate);
        self.since.get_or_insert(now);
        self.has_target = selection.target.is_some();
        let flows = selection.current.is_some() && self.has_target;
        let open = self.stopped.last_mut().filter(|(_, until)| until.is_none());
        match open {
            None if !flows => self.stopped.push((now, None)),
            Some((_, until)) if flows && !self.paused => *until = Some(now),
            _ => {}
        }
        let (Some(target), Some(estimate)) = (selection.target, selection.estimate) else {
            self.beyond = None;
            return Ok(());
        };
        let of = |state: &&millrace::media::layer::LayerState| state.layer == target.layer;
        let Some(state) = selection.layers.iter().find(of) else { return Ok(()) };
        let lowest = selection.layers.iter().filter(|it| it.is_active).map(|it| it.bitrate).min();
        let takes = state.rate(target);
        let fits = takes <= estimate.scaled(Self::SHORT) || Some(state.bitrate) <= lowest;
        if fits || self.wishes {
            self.beyond = None;
            return Ok(());
        }
        let since = *self.beyond.get_or_insert(now);
        if now > since + Self::BEYOND {
            let how = format!("{takes:?} of {:?}, not {estimate:?}", target.layer);
            return broken(Rule::Target, how);
        }
        Ok(())
    }

    /// How many bytes of probes it may have been sent until now: a part of what its link was taken
    /// to carry, and some at once.
    pub(super) fn probes(&self, now: Instant) -> u64 {
        let (Some(highest), Some(since)) = (self.highest, self.since) else {
            return Self::PROBES_UNTOLD;
        };
        let carried = highest.as_bps() as f64 / 8.0 * (now - since).as_secs_f64();
        Self::PROBES_AT_ONCE + (carried * Self::PROBES) as u64
    }

    pub(super) fn has_wishes(&self) -> bool {
        self.wishes
    }

    /// Whether some picture is to flow, as far as is known, and has been for a while.
    pub(super) fn is_owed_picture(&self, now: Instant) -> bool {
        let unsure = self.estimate.is_none() && !self.wishes;
        let settled = !self.wishes || self.changed.is_none_or(|at| now > at + Self::SETTLES);
        !self.paused && settled && (self.has_target || unsure)
    }

    /// Whether no picture flowed for a part of this while.
    pub(super) fn is_stopped_within(&self, from: Instant, to: Instant) -> bool {
        let overlaps = |(begins, until): &(Instant, Option<Instant>)| {
            *begins <= to && until.is_none_or(|until| from <= until + Self::TOLD * 3)
        };
        self.paused || self.stopped.iter().any(overlaps)
    }

    /// Whether no picture flowed at a moment, or shortly before or after.
    pub(super) fn is_stopped(&self, at: Instant) -> bool {
        self.paused
            || self.stopped.iter().any(|(from, until)| {
                let until = until.map(|until| until + Self::TOLD * 3);
                *from <= at + Self::TOLD && until.is_none_or(|until| at <= until)
            })
    }
}
