//! What must hold of a track of which frames are left out: nothing tells of that, and nothing that
//! is sent refers to them.

use super::{Opened, Run, Source, Sources, Track, Verdict};
use crate::oracle::{Rule, broken};
use crate::scalable;
use millrace::media::codec::{Codec, Kind};
use millrace::media::layer::Lane;

/// The numbers of the frame that the highest packet is of, as the viewer sees them, and which frame
/// of which publisher that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    source: usize,
    lane: Lane,
    frame: usize,
    picture: u16,
    base: u8,
}

impl Track {
    /// Whether a packet lies within a run of which frames are left out, by the order of both
    /// numberings.
    pub(super) fn lies_within(
        &self,
        run: &Run,
        (number, index): (u64, usize),
        publisher: &Source,
    ) -> bool {
        let before = self.offered.range(run.first.1..number).next_back();
        let after = self.offered.range(number + 1..).next();
        let same =
            |offered: &super::Offered| (offered.source, offered.lane) == (run.source, run.lane);
        let behind = before.is_some_and(|(_, it)| same(it) && it.index < index);
        let ahead = after.is_none_or(|(_, it)| !same(it) || index < it.index);
        // Another keyframe may be begun with, under the next number or behind such as were kept
        // free, past what was in between.
        let begins_anew = publisher.original(run.lane, index).begins
            && before.is_some_and(|(&last, it)| {
                let free = number - last - 1;
                let is_owed = |skipped| {
                    let original = publisher.original(run.lane, skipped);
                    let is_begun = original.frame.is_some_and(|it| run.frames.contains(&it));
                    let has_come = free == 0 || original.rank != 0;
                    has_come && (is_begun || publisher.is_base(run.lane, skipped))
                };
                free <= self.kept_free && (it.index + 1..index).any(is_owed)
            });
        behind && ahead && !begins_anew
    }

    /// How many packets, behind the last that was sent, were missing where something came that is
    /// left out: their numbers are kept free.
    pub(super) fn kept_free(&self, all: &Sources) -> u64 {
        let Some(last) = self.offered.values().next_back() else { return 0 };
        let Some(source) = all.get(last.source).filter(|it| it.is_scalable()) else { return 0 };
        let ranks = source.ranks(last.lane, last.index + 1).rev().skip_while(|&rank| rank == 0);
        let (mut earliest, mut missing) = (usize::MAX, 0);
        for rank in ranks {
            if rank == 0 || rank > earliest {
                missing += 1;
            } else {
                earliest = rank;
            }
        }
        missing
    }

    /// Looks at the packet with the highest number so far, within a run or at its beginning.
    pub(super) fn goes_on(
        &mut self,
        number: u64,
        (source, lane, index): (usize, Lane, usize),
        publisher: &Source,
        opened: &Opened<'_>,
        what: &str,
    ) -> Verdict {
        let original = publisher.original(lane, index);
        let Some(frame) = original.frame else { return Ok(()) };
        let Some(run) = self.runs.last_mut() else { return Ok(()) };
        let before = self.offered.range(run.first.1..number).next_back();
        let (mut is_sure, begins) = (self.kept_free == 0, before.is_none());
        // Of the past the order need not be that of arrival: gaps may be filled yet.
        let is_live = publisher.arrivals[original.rank - 1].at > run.began + Self::CATCH_UP;
        if let Some((&last, before)) = before {
            let skipped = before.index + 1..index;
            let known = |&index: &usize| {
                let rank = publisher.original(lane, index).rank;
                is_live && rank != 0 && rank < original.rank
            };
            let unknown = skipped.len() - skipped.clone().filter(known).count();
            let blanks = (last + 1..number).filter(|it| self.blanks.contains(it)).count();
            let gap = (number - last - 1) as usize - blanks;
            if gap > unknown {
                return broken(Rule::Gap, format!("{what} after {last}: {unknown} may come yet"));
            }
            for index in skipped.clone().filter(known) {
                let left_out = publisher.original(lane, index).frame;
                if publisher.is_base(lane, index)
                    || left_out.is_some_and(|it| run.frames.contains(&it))
                {
                    return broken(Rule::Missing, format!("packet {index} before {what}"));
                }
            }
            is_sure = unknown == 0;
            let ended = publisher.original(lane, before.index);
            let pictures = [ended.frame.unwrap_or(frame), frame];
            let [one, other] = pictures.map(|it| publisher.frame(lane, it).picture);
            if one != other && is_sure && ended.ends && !before.marker {
                return broken(Rule::Marker, format!("nothing before {what} ends a picture"));
            }
        }
        if run.frames.insert(frame) && is_sure && is_live {
            let lacks = |&&it: &&usize| {
                !run.frames.contains(&it) && publisher.came_before(lane, it, original.rank)
            };
            if let Some(lacks) = publisher.frame(lane, frame).refers.iter().find(lacks) {
                return broken(Rule::Reference, format!("{what}, frame {frame} to {lacks}"));
            }
        }
        let numbered = self.is_numbered((source, lane, frame), publisher, opened, begins, what);
        if is_sure { numbered } else { Ok(()) }
    }

    /// The numbers in descriptors go on by one from frame to frame of VP8, whose receivers wait for
    /// what is missing, and from run to run; else as the publisher's do.
    fn is_numbered(
        &mut self,
        (source, lane, frame): (usize, Lane, usize),
        publisher: &Source,
        opened: &Opened<'_>,
        begins: bool,
        what: &str,
    ) -> Verdict {
        let codec = publisher.codec(Kind::Video);
        let numbers = scalable::numbers(codec, opened.payload);
        let Some((picture, base)) = numbers else { return Ok(()) };
        let before = self.numbered.replace(Numbered { source, lane, frame, picture, base });
        let Some(before) = before.filter(|it| it.source == source) else { return Ok(()) };
        let one = publisher.frame(before.lane, before.frame);
        let other = publisher.frame(lane, frame);
        let pictures = other.picture.wrapping_sub(one.picture) as u16;
        let (by, base_by) = match codec {
            _ if begins => (1, 1),
            _ if before.frame == frame => (0, 0),
            Codec::Vp8 => (1, u8::from(other.temporal == 0)),
            _ => (pictures, u8::from(other.temporal == 0 && one.picture != other.picture)),
        };
        let found = (picture.wrapping_sub(before.picture) & 0x7fff, base.wrapping_sub(before.base));
        if found != (by, base_by) {
            return broken(Rule::Numbers, format!("{what}: by {found:?}, not {:?}", (by, base_by)));
        }
        Ok(())
    }

    /// Whether frames may be left out of what it is sent.
    pub(super) fn leaves_out(&self) -> bool {
        self.runs.iter().any(|run| !run.frames.is_empty())
    }

    /// Nothing but padding, under a number that was kept for what came too late to tell.
    pub(super) fn blank(&mut self, number: u64) -> Verdict {
        if !self.leaves_out() {
            return broken(Rule::Content, format!("number {number} is empty"));
        }
        self.blanks.insert(number);
        Ok(())
    }

    /// Whether the end of the picture may be marked where its publisher has not: the rest of it is
    /// left out.
    pub(super) fn may_end(publisher: &Source, lane: Lane, index: usize) -> bool {
        let original = publisher.original(lane, index);
        publisher.is_scalable() && lane.kind() == Kind::Video && original.ends
    }

    /// Which frames were sent whole since then, as far as the last packet of each tells: spatial
    /// and temporal layer.
    pub(in super::super) fn frames<'a>(
        &'a self,
        since: std::time::Instant,
        all: &'a Sources,
    ) -> impl Iterator<Item = (u8, u8)> + 'a {
        self.offered.values().filter(move |offered| offered.at >= since).filter_map(|offered| {
            let source = all.get(offered.source)?;
            let original = source.original(offered.lane, offered.index);
            let frame = source.frame(offered.lane, original.frame.filter(|_| original.ends)?);
            Some((frame.spatial, frame.temporal))
        })
    }
}
