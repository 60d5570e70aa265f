//! What a track is owed of that which came in.

use super::{Arrival, Run, Selected, Source, Sources, Track, Verdict, Watch};
use crate::oracle::{Rule, broken};
use millrace::media::codec::Kind;
use millrace::media::layer::Lane;
use std::time::Duration;

impl Track {
    /// Whether it has got, by now, what it is owed of that which came in.
    pub(in super::super) fn owed(&mut self, watch: &Watch<'_>, all: &Sources) -> Verdict {
        let Some((number, source)) = all.of_stream(watch.stream) else { return Ok(()) };
        if self.payload_types(source.codec(self.kind())).is_none() {
            return Ok(());
        }
        if self.looked.0 != number {
            self.looked = (number, 0);
        }
        let run = self.runs.last().filter(|run| run.source == number);
        match run {
            None => self.is_fed(watch, number, source)?,
            Some(run) if self.kind() == Kind::Video && !watch.selected.is_stopped(watch.now) => {
                Self::has_left(run, watch, source)?;
            }
            Some(_) => {}
        }
        while let Some(arrival) = source.arrivals.get(self.looked.1) {
            let waits = match run {
                None => Self::START,
                Some(run) if arrival.at <= run.began + Self::CATCH_UP => Self::CATCH_UP,
                Some(_) => Self::PROMPT,
            };
            let begins = run.map_or(watch.connected, |run| run.began);
            // That no picture is to flow is told a little later.
            let may_stop = source.has_choice() || watch.selected.has_wishes();
            let told = if may_stop { Selected::TOLD } else { Duration::ZERO };
            if watch.now < arrival.at.max(begins) + waits.max(told + Self::PROMPT) {
                break;
            }
            self.looked.1 += 1;
            let Arrival { lane, index, .. } = *arrival;
            if lane.kind() != self.kind() || arrival.late {
                continue;
            }
            let what = format!("{lane:?} packet {index} of publisher {number}");
            let is_picture = lane != Lane::Audio;
            // Of the past comes nothing more once the picture was stopped in the middle of it.
            let stopped_in_the_past = run.is_some_and(|run| {
                let live = run.began + Self::CATCH_UP;
                arrival.at <= live && watch.selected.is_stopped_within(run.began, live)
            });
            if is_picture && (stopped_in_the_past || watch.selected.is_stopped(arrival.at)) {
                continue;
            }
            if run.is_some() {
                if !self.has_got(number, source, arrival) {
                    return broken(Rule::Missing, what);
                }
                continue;
            }
            // Of several layers it may wait for another one.
            let original = source.original(lane, index);
            let begins = original.begins && !source.has_choice();
            // A sound that came behind later ones is no start: the next one is as good.
            let mut later = source.ranks(lane, index + 1);
            let is_passed = later.any(|rank| (1..original.rank).contains(&rank));
            let begins = begins || (lane == Lane::Audio && !is_passed);
            if begins && arrival.at >= watch.connected {
                return broken(Rule::Starved, format!("it did not begin with {what}"));
            }
        }
        Ok(())
    }

    /// Whether it was sent what has come, or needs not be.
    fn has_got(&self, source: usize, publisher: &Source, arrival: &Arrival) -> bool {
        let Arrival { lane, index, at, .. } = *arrival;
        let holds = |run: &Run| run.source == source && run.lane == lane && run.first.0 <= index;
        let Some(place) = self.runs.iter().rposition(holds) else { return true };
        let run = &self.runs[place];
        let frame = publisher.original(lane, index).frame;
        let is_left_out = frame
            .is_some_and(|frame| !publisher.is_base(lane, index) && !run.frames.contains(&frame));
        // What came when it had moved on, or about then, has no place in its numbers any more.
        let has_moved_on = self.runs.get(place + 1).is_some_and(|next| {
            let number = run.first.1 + (index - run.first.0) as u64;
            let left_the_past = next.began <= run.began + Self::CATCH_UP;
            (frame.is_none() && number >= next.first.1)
                || at + Self::PROMPT > next.began
                || left_the_past
        });
        run.offered.contains(&index) || is_left_out || has_moved_on
    }

    /// Whoever sees nothing yet does soon, where a keyframe is kept or the publisher sends one.
    fn is_fed(&self, watch: &Watch<'_>, number: usize, source: &Source) -> Verdict {
        let since = source.layers().filter_map(|lane| source.flows_since(lane, watch.now)).max();
        let (Some(since), Some(published)) = (since, source.connected) else {
            return Ok(());
        };
        if self.kind() == Kind::Audio || !watch.selected.is_owed_picture(watch.now) {
            return Ok(());
        }
        let both = watch.connected.max(published);
        let is_kept = |lane| {
            let keyframe = source.keyframe(lane);
            keyframe.is_some_and(|at| watch.now < at + Self::KEPT && at < both)
        };
        if source.layers().all(is_kept) && watch.now > both + Self::START {
            return broken(Rule::Starved, format!("publisher {number}'s keyframe is there"));
        }
        if source.obliges && watch.now > both.max(since) + Self::OBLIGED {
            return broken(Rule::Starved, format!("publisher {number} sends keyframes when asked"));
        }
        Ok(())
    }
}
