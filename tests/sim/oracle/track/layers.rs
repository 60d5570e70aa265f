//! What must hold of a track whose viewer may be moved from layer to layer.

use super::{Opened, Run, Source, Track, Verdict, Watch};
use crate::oracle::{Rule, broken};
use crate::world::ms;
use millrace::media::bitrate::Bitrate;
use std::time::{Duration, Instant};

impl Track {
    /// Notes what was sent, and forgets what was long ago.
    pub(super) fn note_sent(&mut self, opened: &Opened<'_>) {
        self.recent.push_back((opened.at, opened.len));
        self.recent_bytes += opened.len;
        while let Some((_, len)) =
            self.recent.pop_front_if(|(at, _)| *at + Self::RECENT < opened.at)
        {
            self.recent_bytes -= len;
        }
    }

    /// A link that has been steady for long enough is not sent more than it carries, be it the
    /// smallest layer.
    pub(in super::super) fn fits(
        &self,
        (rate, steady): (Bitrate, Duration),
        now: Instant,
    ) -> Verdict {
        let is_recent = self.recent.back().is_some_and(|(at, _)| now < *at + Self::PROMPT);
        let bps = self.recent_bytes as f64 * 8.0 / Self::RECENT.as_secs_f64();
        let is_recent = is_recent && bps > Self::SMALLEST;
        if is_recent && steady > Self::SETTLES && bps > rate.as_bps() as f64 * Self::OVERLOAD {
            return broken(Rule::Overload, format!("{bps:.0} b/s over a link of {rate:?}"));
        }
        Ok(())
    }

    /// On a steady link layers do not take turns; those of another publisher are others.
    pub(in super::super) fn is_calm(&self, since: Instant) -> Verdict {
        let (most, span) = Self::SWITCHES;
        let source = self.runs.last().map(|run| run.source);
        let runs = self.runs.iter().rev().take_while(|run| Some(run.source) == source);
        let since = runs.last().map_or(since, |first| first.began.max(since));
        let recent = self.switches.iter().filter(|(at, _)| *at >= since);
        let turns = recent.fold(Vec::new(), |mut turns: Vec<(Instant, bool)>, &(at, is_down)| {
            match turns
                .last_mut()
                .filter(|(last, was_down)| is_down && *was_down && at < *last + Self::ONE_FALL)
            {
                Some((last, _)) => *last = at,
                None => turns.push((at, is_down)),
            }
            turns
        });
        let recent: Vec<Instant> = turns.into_iter().map(|(at, _)| at).collect();
        match recent.windows(most + 1).find(|some| some[most] < some[0] + span) {
            None => Ok(()),
            Some(_) => broken(Rule::Oscillation, format!("more than {most} in {span:?}")),
        }
    }

    /// A layer that has stopped is left for one that flows.
    pub(super) fn has_left(run: &Run, watch: &Watch<'_>, source: &Source) -> Verdict {
        let Some(last) = source.last(run.lane).filter(|_| source.obliges) else { return Ok(()) };
        let mut others = source.layers().filter(|&lane| lane != run.lane);
        // One that has flown all the time, and does.
        let flows = |lane| source.flows_since(lane, watch.now).is_some_and(|since| since <= last);
        // Before it could be noticed, that is.
        let before = |at: Instant| at + Self::REQUESTS_APART > last && at < last + ms(250);
        let asked = source.asked.values().any(|&at| before(at));
        let waits = if asked { Self::REQUESTS_APART } else { Duration::ZERO };
        let left_by = last.max(run.began) + Self::LEFT + waits;
        if watch.now > left_by && others.any(flows) {
            let since = watch.now - last;
            return broken(Rule::Stopped, format!("{:?} has stopped {since:?} ago", run.lane));
        }
        Ok(())
    }
}
