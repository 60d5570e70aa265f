//! One track to one viewer: whose packets it gets, under which numbers, and what it is owed.
//!
//! - `described`: what dependency descriptors say
//! - `layers`: of viewers who may be moved from layer to layer
//! - `owed`: what it is owed of that which came in
//! - `scaled`: of frames that are left out

mod described;
mod layers;
mod owed;
mod scaled;

use super::selected::Selected;
use super::source::{Arrival, Source, Sources};
use super::{Rule, Verdict, broken};
use described::{Described, Moved};
use millrace::media::codec::{Codec, Kind};
use millrace::media::layer::Lane;
use millrace::media::time::{Unwrapper, micros_of_ticks, ticks_of};
use millrace::peer::agreement::SentMedia;
use millrace::peer::header::RtpHeader;
use rtc_rtcp::sender_report::SenderReport;
use scaled::Numbered;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// One packet of media as it was offered to the viewer.
#[derive(Debug, Clone, Copy)]
struct Offered {
    source: usize,
    lane: Lane,
    index: usize,
    timestamp: u32,
    marker: bool,
    at: Instant,
}

/// A part of the track in which each number is the publisher's, moved by a constant.
#[derive(Debug)]
struct Run {
    source: usize,
    lane: Lane,
    /// The publisher's packet that it begins with, and its number to the viewer.
    first: (usize, u64),
    began: Instant,
    offered: HashSet<usize>,
    /// The highest rank so far of a packet that came when the run was live.
    newest_rank: usize,
    /// Of which frames something was sent, where frames can be left out.
    frames: HashSet<usize>,
    /// By what the numbers in descriptors are moved, once one has come.
    moved: Option<Moved>,
}

/// The highest number of a track.
#[derive(Debug, Clone, Copy)]
struct Newest {
    timestamp: u32,
    clock_rate: u32,
    sent: Instant,
    source: usize,
    /// When its publisher captured it, since it began.
    captured: Duration,
}

/// One track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(super) agreed: SentMedia,
    numbering: Unwrapper,
    offered: BTreeMap<u64, Offered>,
    runs: Vec<Run>,
    newest: Option<Newest>,
    /// Numbers under which nothing but padding came.
    blanks: HashSet<u64>,
    numbered: Option<Numbered>,
    described: Described,
    /// Of how many packets it was not known, behind the last that was sent, whether they are left
    /// out.
    kept_free: u64,
    /// When it went on with another layer of the same publisher, and whether with a lower one.
    switches: Vec<(Instant, bool)>,
    /// What was sent of late, and when, in bytes.
    recent: VecDeque<(Instant, usize)>,
    recent_bytes: usize,
    /// Up to where it was looked whether it got what it is owed: whose packets, and how many.
    looked: (usize, usize),
    media_bytes: u64,
    again_bytes: u64,
}

/// A packet to a viewer, opened.
pub(super) struct Opened<'a> {
    pub(super) header: RtpHeader,
    /// The whole of it.
    pub(super) plain: &'a [u8],
    pub(super) payload: &'a [u8],
    /// Bytes of the datagram.
    pub(super) len: usize,
    pub(super) at: Instant,
    /// When the viewer asked for a keyframe last.
    pub(super) asked: Option<Instant>,
    /// The viewer has asked for it again.
    pub(super) is_again: bool,
    /// How many bytes of probes it may have been sent by now.
    pub(super) probes: u64,
    /// It has said what it wishes to see.
    pub(super) wishes: bool,
}

/// What a track must know of its viewer.
pub(super) struct Watch<'a> {
    pub(super) stream: &'a str,
    pub(super) connected: Instant,
    pub(super) now: Instant,
    pub(super) selected: &'a Selected,
}

impl Track {
    /// What came in goes out within this: batches wait, keyframes are paced.
    const PROMPT: Duration = Duration::from_millis(100);
    /// So soon a viewer has begun where it can.
    const START: Duration = Duration::from_millis(500);
    /// So soon one who has begun in the past is live.
    const CATCH_UP: Duration = Duration::from_secs(3);
    /// So soon a viewer sees something of a publisher that sends keyframes when asked.
    const OBLIGED: Duration = Duration::from_secs(4);
    /// A keyframe that is older may not be kept any more.
    const KEPT: Duration = Duration::from_secs(10);
    /// So long after it has asked a viewer may begin again.
    const ASKED: Duration = Duration::from_secs(2);
    /// What is sent of late is of that while.
    const RECENT: Duration = Duration::from_secs(3);
    /// So long after its link has changed a viewer gets what it carries, but for a trial.
    const SETTLES: Duration = Duration::from_secs(8);
    const OVERLOAD: f64 = 1.3;
    /// The smallest layers are tried whatever the link is taken to carry, bits per second.
    const SMALLEST: f64 = 500_000.0;
    /// So soon a layer is left that has stopped, while the others flow.
    const LEFT: Duration = Duration::from_millis(1_500);
    /// Where a keyframe was asked for just before it is not asked for again for so long.
    const REQUESTS_APART: Duration = Duration::from_secs(1);
    /// A viewer is sent so many layers in turn within this while, at most.
    const SWITCHES: (usize, Duration) = (3, Duration::from_secs(10));
    /// Steps down that follow each other within this are one.
    const ONE_FALL: Duration = Duration::from_secs(2);
    /// What may be sent again before anything is earned, and the packet that uses it up.
    const CREDIT: u64 = 96 * 1024 + 1_500;
    /// Of what is sent, in hundredths.
    const SHARE: u64 = 15;

    pub(super) fn new(agreed: SentMedia) -> Self {
        Self {
            agreed,
            numbering: Unwrapper::default(),
            offered: BTreeMap::new(),
            runs: Vec::new(),
            newest: None,
            blanks: HashSet::new(),
            numbered: None,
            described: Described::default(),
            kept_free: 0,
            switches: Vec::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            looked: (0, 0),
            media_bytes: 0,
            again_bytes: 0,
        }
    }

    /// How often it went on from one publisher to another.
    pub(super) fn went_on(&self) -> usize {
        self.runs.windows(2).filter(|pair| pair[0].source != pair[1].source).count()
    }

    /// How often it went on with another layer of the same publisher.
    pub(super) fn switched(&self) -> usize {
        self.switches.len()
    }

    /// Which of the publisher's lanes it is sent, since when.
    pub(super) fn stays(&self) -> impl Iterator<Item = (Instant, Lane)> {
        self.runs.iter().map(|run| (run.began, run.lane))
    }

    fn kind(&self) -> Kind {
        self.agreed.kind
    }

    /// The payload types agreed for a codec.
    fn payload_types(&self, codec: Codec) -> Option<(u8, Option<u8>)> {
        let mut formats = self.agreed.formats.iter();
        let format = formats.find(|format| format.format.codec == codec)?;
        Some((format.payload_type, format.rtx))
    }

    /// Looks at a packet under the SSRC of media.
    pub(super) fn media(&mut self, opened: &Opened<'_>, to: &str, all: &Sources) -> Verdict {
        let Opened { header, payload, .. } = opened;
        let number = self.numbering.extend(u32::from(header.sequence), 16);
        if self.offered.contains_key(&number) {
            // That its bytes are the same the nonce rule has seen.
            if self.agreed.rtx_ssrc.is_some() {
                return broken(Rule::Retransmission, format!("number {number} twice, not by RTX"));
            }
            return self.again(opened);
        }
        self.media_bytes += opened.len as u64;
        self.note_sent(opened);
        if payload.is_empty() {
            return self.blank(number);
        }
        let Some((source, lane, index)) = all.find(payload) else {
            return broken(Rule::Content, format!("number {number} holds what nobody sent"));
        };
        let Some(publisher) = all.get(source).filter(|it| it.stream == to) else {
            return broken(Rule::Content, format!("number {number} is of another stream"));
        };
        let (kind, original) = (lane.kind(), publisher.original(lane, index));
        let what = format!("number {number}, {lane:?} packet {index} of publisher {source}");
        if kind != self.kind() {
            return broken(Rule::Ssrc, format!("{what} under the SSRC of {}", self.kind()));
        }
        let codec = publisher.codec(kind);
        let types = self.payload_types(codec);
        if types.map(|(media, _)| media) != Some(header.payload_type) {
            let found = header.payload_type;
            return broken(Rule::PayloadType, format!("{what}: {codec} as {found}, not {types:?}"));
        }
        if original.rank == 0 {
            return broken(Rule::Content, format!("{what} has not reached the server"));
        }
        let ends = original.marker || (header.marker && Self::may_end(publisher, lane, index));
        if header.marker != ends {
            return broken(Rule::Marker, what);
        }
        self.kept_free = self.kept_free(all);
        self.place(number, (source, lane, index), publisher, opened, &what)?;
        self.is_described(number, (lane, index), publisher, opened, &what)?;
        if self.offered.last_key_value().is_none_or(|(&newest, _)| newest < number) {
            self.goes_on(number, (source, lane, index), publisher, opened, &what)?;
        } else if let Some(frame) = original.frame
            && let Some(run) = self.runs.iter_mut().rfind(|run| run.first.1 <= number)
        {
            run.frames.insert(frame);
        }
        let (timestamp, marker) = (header.timestamp, header.marker);
        if self.offered.last_key_value().is_none_or(|(&newest, _)| newest < number) {
            let (clock_rate, sent) = (codec.clock_rate(), opened.at);
            let captured = original.captured;
            self.newest = Some(Newest { timestamp, clock_rate, sent, source, captured });
        }
        let offered = Offered { source, lane, index, timestamp, marker, at: opened.at };
        self.offered.insert(number, offered);
        self.timestamps_rise(number, publisher, &what)
    }

    /// Finds the run that the packet belongs to; begins another one where that is right.
    fn place(
        &mut self,
        number: u64,
        (source, lane, index): (usize, Lane, usize),
        publisher: &Source,
        opened: &Opened<'_>,
        what: &str,
    ) -> Verdict {
        let original = publisher.original(lane, index);
        let place = self.runs.iter().rposition(|run| run.first.1 <= number);
        let is_last = place.is_some_and(|place| place + 1 == self.runs.len());
        let is_whole = |run: &Run| (index - run.first.0) as u64 + run.first.1 == number;
        let lies = |run: &Run| match original.frame {
            None => is_whole(run),
            Some(_) => self.lies_within(run, (number, index), publisher),
        };
        let lies = place.is_some_and(|place| {
            let run = &self.runs[place];
            (run.source, run.lane) == (source, lane) && index >= run.first.0 && lies(run)
        });
        let arrival = publisher.arrivals[original.rank - 1];
        // A picture that was stopped may go on with what was kept from the keyframe on that came
        // right behind what was sent last: numbers do not show it.
        let follows =
            self.offered.last_key_value().is_some_and(|(&newest, _)| newest + 1 == number);
        let is_of_the_past = opened.at > arrival.at + Self::PROMPT;
        let begins_again = original.begins && follows && is_of_the_past && publisher.has_choice();
        let lies = lies && !begins_again;
        if let Some(run) = place.filter(|_| lies).and_then(|place| self.runs.get_mut(place)) {
            run.offered.insert(index);
            // Who takes no RTX is sent again what was not sent the first time, too: it came when no
            // picture was to flow any more.
            let is_again = opened.is_again && self.agreed.rtx_ssrc.is_none();
            if is_last && !is_again && arrival.at > run.began + Self::CATCH_UP {
                if original.rank < run.newest_rank {
                    return broken(Rule::Order, format!("{what} after such that came later"));
                }
                run.newest_rank = original.rank;
            }
            return Ok(());
        }
        if let Some((&newest, _)) = self.offered.last_key_value()
            && !(newest + 1..=newest + 1 + self.kept_free).contains(&number)
        {
            let run = self.runs.last().map(|run| (run.source, run.lane, run.first));
            return broken(Rule::Gap, format!("{what} after {newest}; the run is {run:?}"));
        }
        if self.kind() == Kind::Video && !original.begins {
            return broken(Rule::Keyframe, format!("{what} is not where a keyframe begins"));
        }
        self.begin((source, lane, index), number, publisher, opened, what)
    }

    /// Another run begins, where that is right.
    fn begin(
        &mut self,
        (source, lane, index): (usize, Lane, usize),
        number: u64,
        publisher: &Source,
        opened: &Opened<'_>,
        what: &str,
    ) -> Verdict {
        // Where layers are chosen from, the picture may have been stopped, and goes on.
        let may_stop = publisher.has_choice() || opened.wishes;
        let is_chosen = self.kind() == Kind::Video && may_stop;
        let may_begin_again = is_chosen
            || self.runs.last().is_none_or(|run| {
                let other = run.source != source || run.lane != lane;
                let catches_up = opened.at <= run.began + Self::CATCH_UP;
                let has_asked = opened.asked.is_some_and(|asked| opened.at <= asked + Self::ASKED);
                other || (self.kind() == Kind::Video && (catches_up || has_asked))
            });
        if !may_begin_again {
            return broken(Rule::Gap, format!("{what} begins again without need"));
        }
        if let Some(run) = self.runs.last().filter(|run| run.source == source && run.lane != lane) {
            self.switches.push((opened.at, publisher.takes_less(lane, run.lane)));
        }
        let (first, began) = ((index, number), opened.at);
        let offered = HashSet::from([index]);
        let frames = HashSet::new();
        let (newest_rank, moved) = (0, None);
        self.runs.push(Run { source, lane, first, began, offered, newest_rank, frames, moved });
        Ok(())
    }

    /// In the order of its numbers time goes on; once the viewer is live, as the publisher's does.
    fn timestamps_rise(&self, number: u64, publisher: &Source, what: &str) -> Verdict {
        let here = self.offered[&number];
        let before = self.offered.range(..number).next_back();
        let after = self.offered.range(number + 1..).next();
        let pairs = [before.map(|(_, it)| (*it, here)), after.map(|(_, it)| (here, *it))];
        for (before, after) in pairs.into_iter().flatten() {
            let step = after.timestamp.wrapping_sub(before.timestamp).cast_signed();
            // The last packet of a picture may be missing; all sounds differ.
            let other = (before.source, before.lane) != (after.source, after.lane);
            let goes_on = before.marker || self.kind() == Kind::Audio || other;
            if step < 0 || (goes_on && step == 0) {
                return broken(Rule::Timestamp, format!("{what}: {step} ticks on"));
            }
            let Some(run) = self.runs.last().filter(|run| run.source == before.source) else {
                continue;
            };
            let at = |offered: Offered| publisher.original(offered.lane, offered.index);
            let arrival = |offered: Offered| publisher.arrivals[at(offered).rank - 1].at;
            let live = run.began + Self::CATCH_UP;
            if !other && arrival(before) > live && arrival(after) > live {
                let sent = at(after).timestamp.wrapping_sub(at(before).timestamp).cast_signed();
                if sent != step {
                    return broken(Rule::Timestamp, format!("{what}: {step} ticks, not {sent}"));
                }
            }
        }
        Ok(())
    }

    /// Looks at what a sender report says is the timestamp of this moment: while the track is live
    /// it is near that of the newest packet.
    pub(super) fn reported(&self, timestamp: u32, at: Instant) -> Verdict {
        let Some(newest) = self.live(at) else { return Ok(()) };
        let Newest { clock_rate, sent, .. } = newest;
        let expected = newest.timestamp.wrapping_add(ticks_of(at - sent, clock_rate) as u32);
        let off = timestamp.wrapping_sub(expected).cast_signed();
        if off.unsigned_abs() > clock_rate / 2 {
            return broken(Rule::Report, format!("{} is {off} ticks off", self.kind()));
        }
        Ok(())
    }

    /// What it was sent last, while it is live.
    fn live(&self, at: Instant) -> Option<Newest> {
        let newest = self.newest?;
        let is_live = self.runs.last().is_some_and(|run| at > run.began + Self::CATCH_UP);
        (is_live && at <= newest.sent + Self::PROMPT).then_some(newest)
    }

    /// By how many microseconds what it shows at a moment of the report's clock was captured after
    /// its publisher began; and which publisher that is.
    pub(super) fn capture_clock(&self, report: &SenderReport, at: Instant) -> Option<(usize, i64)> {
        let newest = self.live(at)?;
        let ticks = newest.timestamp.wrapping_sub(report.rtp_time).cast_signed();
        let after_report = micros_of_ticks(ticks.into(), newest.clock_rate);
        Some((newest.source, newest.captured.as_micros() as i64 - after_report))
    }

    /// Looks at a packet under the SSRC of retransmissions (RFC 4588).
    pub(super) fn repair(&mut self, opened: &Opened<'_>, all: &Sources) -> Verdict {
        let Opened { header, payload, .. } = opened;
        if payload.is_empty() {
            // Nothing but padding: a probe where nothing else is at hand.
            return self.again(opened);
        }
        let Some((sequence, payload)) = payload.split_first_chunk::<2>() else {
            return broken(Rule::Retransmission, "it holds no number".to_owned());
        };
        let number = self.numbering.peek(u32::from(u16::from_be_bytes(*sequence)), 16);
        let Some(offered) = self.offered.get(&number).copied() else {
            // What came to the server only after the viewer had begun anew fills a gap of before;
            // behind that may lie nothing but what was kept free and is left out.
            let is_gap = self.offered.keys().chain(&self.blanks).any(|&other| other >= number);
            if is_gap && payload.is_empty() && self.leaves_out() {
                return self.again(opened);
            }
            if is_gap
                && matches!(all.find(payload), Some((_, lane, _)) if lane.kind() == self.kind())
            {
                return Ok(());
            }
            let (found, newest) = (all.find(payload), self.offered.keys().next_back());
            let how = format!("number {number} was never sent, but {newest:?}; {found:?}");
            return broken(Rule::Retransmission, how);
        };
        let publisher = all.get(offered.source).expect("what was offered has a publisher");
        let types = self.payload_types(publisher.codec(self.kind()));
        if types.and_then(|(_, rtx)| rtx) != Some(header.payload_type) {
            return broken(Rule::PayloadType, format!("{} for RTX", header.payload_type));
        }
        let same = all.find(payload) == Some((offered.source, offered.lane, offered.index))
            && header.timestamp == offered.timestamp
            && header.marker == offered.marker;
        if !same {
            return broken(Rule::Retransmission, format!("number {number} was another packet"));
        }
        self.again(opened)
    }

    fn again(&mut self, opened: &Opened<'_>) -> Verdict {
        self.again_bytes += opened.len as u64;
        let (again, media) = (self.again_bytes, self.media_bytes);
        if again > Self::CREDIT + media * Self::SHARE / 100 + opened.probes {
            return broken(Rule::RtxShare, format!("{again} bytes again beside {media}"));
        }
        Ok(())
    }

    pub(super) fn is_picture(&self) -> bool {
        self.kind() == Kind::Video
    }
}
