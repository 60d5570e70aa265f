//! What a viewer's link carries -> which layer it is to get: down at once, up with room and
//! patience.
//!
//! Pure: it is told what the layers carry, what the viewer wishes and what its link is taken to
//! carry, and says what is to flow, and which rate is to be found out next. How the picture gets
//! there (keyframes, packets that are left out) is `subscription`'s matter.
//!
//! Sound comes first: what it takes is not there for the picture, and where even the smallest layer
//! does not fit, its lower temporal layers are tried, then no picture.
//!
//! - `ladder`: what a viewer can be sent, smallest first
//! - `tests`: links that change, tremble and lie

mod ladder;
#[cfg(test)]
mod tests;

use super::choice::LayerChoice;
use crate::media::bitrate::Bitrate;
use crate::media::layer::{LayerState, SelectedLayer};
use ladder::{Ladder, Rung};
use std::time::{Duration, Instant};

/// What a viewer's link is taken to carry, sound and headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// Whatever is sent: the viewer tells nothing by which it could be known.
    Unmeasured,
    /// Nothing is known yet; so much is tried.
    Start(Bitrate),
    /// So much, as estimated.
    Estimated(Bitrate),
}

/// What an allotment goes by.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// What each layer carries, best first.
    pub layers: &'a [LayerState],
    /// What the sound takes.
    pub sound: Bitrate,
    /// What the viewer wishes to see.
    pub choice: &'a LayerChoice,
    /// What its link carries.
    pub capacity: Capacity,
    /// The highest spatial layer that it can make use of.
    pub spatial_max: u8,
}

/// What a viewer is to get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allotment {
    /// The layer that is to flow; no picture without.
    pub target: Option<SelectedLayer>,
    /// Whether the link carries this rate is worth finding out: that of the next layer up, or of
    /// the present one with some room.
    pub wanted: Option<Bitrate>,
}

/// One viewer's allotments, and what was learnt from them.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    position: Position,
    /// The wish that it went by last.
    choice: LayerChoice,
    /// The layer that was wished for by name could flow.
    is_granted: bool,
    /// The link is taken to carry a layer though its estimate says less.
    trial: Option<Trial>,
    /// Since when the estimate has been a little below what flows.
    short_since: Option<Instant>,
    /// Since when the estimate has had room for the next layer, and the least that it was since.
    room: Option<(Instant, u64)>,
    /// When it went up last, and from where.
    climbed: Option<(Instant, Position)>,
    /// When it had to go down last.
    fell: Option<Instant>,
    failures: Failures,
    /// The last two times that the link, or a layer that stopped, has changed what flows.
    changes: [Option<Instant>; 2],
    /// When it was moved down last.
    lowered: Option<Instant>,
}

/// A layer is tried: until the estimate falls below a floor, or says as much as that needs.
#[derive(Debug, Clone, Copy)]
struct Trial {
    floor: Bitrate,
    /// By then the estimate says what the link carries, if nothing was known of it before.
    until: Option<Instant>,
}

/// Where a viewer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    /// Nothing was allotted yet, or no picture was wished for.
    #[default]
    Outside,
    /// The link does not carry the smallest layer.
    Below,
    /// It gets this.
    On(SelectedLayer),
}

/// Ways up that were of no use: each makes the next wait longer, for a time.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: Option<Instant>,
}

impl Failures {
    /// So long after the first nobody goes up again: with the way down before and the way up and
    /// down that failed, a picture changes three times in that time at most.
    const PAUSE: Duration = Duration::from_secs(10);
    /// The longest pause.
    const PAUSE_MAX: Duration = Duration::from_secs(80);
    /// They are forgotten after that time.
    const REMEMBERED: Duration = Duration::from_mins(2);

    fn add(&mut self, now: Instant) {
        let is_recent = self.last.is_some_and(|last| now < last + Self::REMEMBERED);
        self.count = if is_recent { self.count.saturating_add(1) } else { 1 };
        self.last = Some(now);
    }

    /// When the next way up may be tried.
    fn over_at(&self) -> Option<Instant> {
        let doubled = self.count.saturating_sub(1).min(8);
        Some(self.last? + (Self::PAUSE * (1 << doubled)).min(Self::PAUSE_MAX))
    }

    fn are_over(&self, now: Instant) -> bool {
        self.over_at().is_none_or(|at| now >= at)
    }
}

/// Whether there is anything to choose from in these layers.
pub fn has_choice(layers: &[LayerState]) -> bool {
    let is_scalable = |layer: &LayerState| layer.spatial_max() > 0 || layer.temporal_max() > 0;
    layers.len() > 1 || layers.iter().any(is_scalable)
}

impl Allocator {
    /// What a layer needs must fit so many times for it to be gone up to: estimates tremble.
    const HEADROOM: f64 = 1.05;
    /// And for so long.
    const CLIMB_AFTER: Duration = Duration::from_secs(1);
    /// A layer is left at once where less than this share of what it needs is there.
    const SHORT_MAX: f64 = 0.9;
    /// The smallest where less than this is: an estimate that dips must not take the picture away.
    const SHORT_MAX_SMALLEST: f64 = 0.75;
    /// Where a little less than all is there, after this time.
    const SHORT_FOR: Duration = Duration::from_secs(2);
    /// Falls that follow each other within that time are one.
    const ONE_FALL: Duration = Duration::from_secs(2);
    /// Who has been moved twice within that time does not go up.
    const CALM: Duration = Duration::from_secs(10);
    /// A layer that is left again so soon was no success.
    const FAILED_WITHIN: Duration = Duration::from_secs(15);
    /// Then what so much of the estimate carries has to do, or what was before: it was too high.
    const FAILED_SHARE: f64 = 0.8;
    /// A trial is over where the estimate has come down to this share of what it was: more was
    /// sent, and less arrived.
    const TRIAL_FLOOR: f64 = 0.9;
    /// So long a link of which nothing is known may take to show that it carries what flows: its
    /// feedback comes a round trip and 100 ms after the first packets, and again and again.
    const FIRST_TRIAL: Duration = Duration::from_secs(1);
    /// So long after the picture was taken away it is tried again whatever the estimate: of sound
    /// alone there is little to estimate from.
    const RETRY_AFTER: Duration = Duration::from_secs(4);
    /// The same where a way up has failed before: no longer than that, as a picture that changes is
    /// better than none.
    const RETRY_AGAIN_AFTER: Duration = Duration::from_secs(10);
    /// So many times what the next layer needs is to be found out: a little more than what it
    /// takes to go up there, as what is found out is a little less than what was tried.
    const WANTED: f64 = 1.15;

    /// What the viewer is to get from now on.
    pub fn allot(&mut self, demand: Demand<'_>, now: Instant) -> Allotment {
        let Demand { layers, choice, spatial_max, .. } = demand;
        let mut is_fresh = self.choice != *choice;
        if is_fresh {
            self.choice.clone_from(choice);
            (self.trial, self.climbed) = (None, None);
        }
        if choice.paused {
            let Self { failures, changes, .. } = *self;
            *self = Self { choice: choice.clone(), failures, changes, ..Self::default() };
            return Allotment::default();
        }
        let ladder = Ladder::new(layers, choice, spatial_max);
        is_fresh |= ladder.is_granted() && !self.is_granted;
        self.is_granted = ladder.is_granted();
        let budget = Budget::of(&demand);
        if !ladder.rungs().is_empty() {
            self.walk(&ladder, budget, is_fresh, now);
        }
        let target = match self.position {
            Position::On(target) => Some(target),
            Position::Below | Position::Outside => None,
        };
        Allotment { target, wanted: self.wanted(&ladder, budget, now) }
    }

    /// One step, or none.
    fn walk(&mut self, ladder: &Ladder, budget: Budget, is_fresh: bool, now: Instant) {
        let rungs = ladder.rungs();
        if self.trial.is_some_and(|_| budget.is_all() || self.needs(rungs) <= budget.bps) {
            self.trial = None;
        }
        let place = match self.position {
            Position::Outside => None,
            Position::Below => Some(None),
            Position::On(target) => ladder.find(target).map(Some),
        };
        match place {
            // What it had is not there any more, or nothing was yet.
            None => self.place(ladder, budget, now),
            Some(Some(at)) if self.is_too_much(&rungs[at], at == 0, budget, now) => {
                self.fall(rungs, budget, now);
            }
            Some(at) => self.climb(ladder, at, budget, is_fresh, now),
        }
        // The same layer may have another temporal layer by now.
        if let Position::On(target) = self.position
            && let Some(at) = ladder.find(target)
        {
            self.position = Position::On(rungs[at].selected);
        }
    }

    fn needs(&self, rungs: &[Rung]) -> u64 {
        let Position::On(target) = self.position else { return 0 };
        rungs.iter().find(|rung| rung.selected == target).map_or(0, |rung| rung.needs)
    }

    /// The best that fits, of all there is.
    fn place(&mut self, ladder: &Ladder, budget: Budget, now: Instant) {
        let rungs = ladder.rungs();
        let was_on = matches!(self.position, Position::On(_));
        let top = rungs.len() - 1;
        let fitting = budget.place(rungs);
        // Of what is wished for by name, and of what nothing is known, the best is tried.
        let tried = if ladder.is_granted() && self.failures.are_over(now) {
            Some(top)
        } else if budget.is_start {
            budget.begins_with(rungs)
        } else {
            fitting
        };
        if tried > fitting {
            self.begin_trial(budget, now);
        }
        if was_on {
            self.note_failure(now);
            self.changed(now);
        }
        self.go(rungs, tried, now);
    }

    fn is_too_much(&mut self, rung: &Rung, is_last: bool, budget: Budget, now: Instant) -> bool {
        let [enough, least] = if is_last {
            [Self::SHORT_MAX, Self::SHORT_MAX_SMALLEST]
        } else {
            [1.0, Self::SHORT_MAX]
        };
        let needs = rung.needs as f64;
        if budget.is_start || needs * enough <= budget.bps as f64 {
            self.short_since = None;
            return false;
        }
        if let Some(trial) = self.trial
            && trial.until.is_none_or(|until| now < until)
        {
            return budget.estimate < trial.floor.as_bps();
        }
        if needs * least > budget.bps as f64 {
            return true;
        }
        let since = *self.short_since.get_or_insert(now);
        now >= since + Self::SHORT_FOR
    }

    fn fall(&mut self, rungs: &[Rung], budget: Budget, now: Instant) {
        let mut to = budget.place(rungs);
        if let Some(before) = self.note_failure(now) {
            let before = rungs.iter().rposition(|rung| before == Position::On(rung.selected));
            to = to.min(before).max(budget.scaled(Self::FAILED_SHARE).place(rungs));
        }
        self.lower(now);
        self.go(rungs, to, now);
    }

    /// It is moved down. A link that gives way does so in steps: those count as one change.
    fn lower(&mut self, now: Instant) {
        let is_one = |lowered: Instant| now < lowered + Self::ONE_FALL;
        if self.lowered.is_some_and(is_one) && self.lowered == self.changes[1] {
            self.changes[1] = Some(now);
        } else {
            self.changed(now);
        }
        self.lowered = Some(now);
    }

    /// If it went up just now, that was no success; tells from where it did.
    fn note_failure(&mut self, now: Instant) -> Option<Position> {
        let (_, before) = self.climbed.take_if(|(at, _)| now < *at + Self::FAILED_WITHIN)?;
        self.failures.add(now);
        Some(before)
    }

    const fn changed(&mut self, now: Instant) {
        self.changes = [self.changes[1], Some(now)];
    }

    fn may_go_up(&self, now: Instant) -> bool {
        let is_calm = self.changes[0].is_none_or(|change| now >= change + Self::CALM);
        is_calm && self.failures.are_over(now)
    }

    /// Whether the smallest layer may be tried where there is no picture.
    fn may_come_back(&self, now: Instant) -> bool {
        let has_failed = self.failures.count > 0;
        let pause = if has_failed { Self::RETRY_AGAIN_AFTER } else { Self::RETRY_AFTER };
        self.fell.is_none_or(|fell| now >= fell + pause)
    }

    /// Goes up where that is due.
    fn climb(
        &mut self,
        ladder: &Ladder,
        at: Option<usize>,
        budget: Budget,
        is_fresh: bool,
        now: Instant,
    ) {
        let rungs = ladder.rungs();
        let next = at.map_or(0, |at| at + 1);
        if next >= rungs.len() || budget.is_start {
            self.room = None;
            return;
        }
        if is_fresh && ladder.is_granted() && self.failures.are_over(now) {
            self.begin_trial(budget, now);
            self.go_up(rungs, rungs.len() - 1, now);
            return;
        }
        let has_room = rungs[next].fits(budget.bps, Self::HEADROOM);
        if !has_room {
            self.room = None;
            if at.is_none() && self.may_come_back(now) {
                self.begin_trial(budget, now);
                self.changed(now);
                self.go_up(rungs, 0, now);
            }
            return;
        }
        let (since, least) = self.room.get_or_insert((now, budget.bps));
        *least = budget.bps.min(*least);
        let (since, least) = (*since, *least);
        let may_go = self.may_go_up(now) || (at.is_none() && self.may_come_back(now));
        if is_fresh || (now >= since + Self::CLIMB_AFTER && may_go) {
            let fits = |rung: &&Rung| rung.fits(least, Self::HEADROOM);
            let up = rungs[next..].iter().take_while(fits).count();
            let to = next + up.saturating_sub(1);
            if at.is_some_and(|at| rungs[to].is_like(&rungs[at])) {
                return;
            }
            if !is_fresh {
                self.changed(now);
            }
            self.go_up(rungs, to, now);
        }
    }

    fn begin_trial(&mut self, budget: Budget, now: Instant) {
        let floor = Bitrate::bps(budget.estimate).scaled(Self::TRIAL_FLOOR);
        let until = budget.is_start.then(|| now + Self::FIRST_TRIAL);
        self.trial = Some(Trial { floor, until }).filter(|_| !budget.is_all());
    }

    fn go_up(&mut self, rungs: &[Rung], to: usize, now: Instant) {
        self.climbed = Some((now, self.position));
        self.go(rungs, Some(to), now);
    }

    fn go(&mut self, rungs: &[Rung], to: Option<usize>, now: Instant) {
        (self.room, self.short_since) = (None, None);
        if let Some(rung) = to.and_then(|to| rungs.get(to)) {
            self.position = Position::On(rung.selected);
        } else {
            self.position = Position::Below;
            self.trial = None;
            self.fell = Some(now);
        }
    }

    fn wanted(&self, ladder: &Ladder, budget: Budget, now: Instant) -> Option<Bitrate> {
        let rungs = ladder.rungs();
        let at = match self.position {
            Position::On(target) => Some(ladder.find(target)?),
            Position::Below => None,
            Position::Outside => return None,
        };
        let next = at.map_or(0, |at| at + 1);
        let soon = now + Self::CLIMB_AFTER;
        // While it waits to go up it may turn out that there is room for more than that.
        let has_no_room = |rung: &&Rung| !rung.fits(budget.bps, Self::HEADROOM);
        let above = rungs.get(next..).unwrap_or_default();
        let next = above.iter().find(has_no_room).or(above.last());
        let next = next.filter(|_| at.is_none() || self.may_go_up(soon));
        let rung = next.or_else(|| rungs.get(at?)).filter(|_| !budget.is_all())?;
        Some(Bitrate::bps((rung.needs as f64 * Self::WANTED) as u64 + budget.sound))
    }
}

/// What there is for the picture, in bits per second.
#[derive(Debug, Clone, Copy)]
struct Budget {
    bps: u64,
    /// With what the sound takes.
    estimate: u64,
    sound: u64,
    /// Nothing is known yet.
    is_start: bool,
}

impl Budget {
    fn of(demand: &Demand<'_>) -> Self {
        let sound = demand.sound.as_bps();
        let (estimate, is_start) = match demand.capacity {
            // Nobody finds out what a link carries for the sake of a single layer.
            _ if !has_choice(demand.layers) => (u64::MAX, false),
            Capacity::Unmeasured => (u64::MAX, false),
            Capacity::Start(rate) => (rate.as_bps(), true),
            Capacity::Estimated(rate) => (rate.as_bps(), false),
        };
        let bps = if estimate == u64::MAX { estimate } else { estimate.saturating_sub(sound) };
        Self { bps, estimate, sound, is_start }
    }

    const fn is_all(&self) -> bool {
        self.estimate == u64::MAX
    }

    fn scaled(self, share: f64) -> Self {
        Self { bps: (self.bps as f64 * share) as u64, ..self }
    }

    /// Where somebody begins of whose link nothing is known: with the best that fits of what flows,
    /// or the smallest of that. What is made only then is waited for where there is nothing else.
    fn begins_with(&self, rungs: &[Rung]) -> Option<usize> {
        let flows = |rung: &Rung| !rung.is_idle;
        let fitting = rungs.iter().rposition(|rung| flows(rung) && rung.needs <= self.bps);
        let smallest = || rungs.iter().position(flows);
        fitting.or_else(smallest).or_else(|| self.place(rungs)).or(Some(0))
    }

    /// The best rung that fits.
    fn place(&self, rungs: &[Rung]) -> Option<usize> {
        rungs.iter().rposition(|rung| rung.needs <= self.bps)
    }
}
