//! A publisher's frames on their way into its stream: put on its time line, rid of B-frames, made
//! into packets, the sound into one that WebRTC plays.

use super::b_frames::{ADVICE, BFrames, Found, Verdict};
use super::sound::Sound;
use super::tapping::Tapping;
use super::timing::{Placed, Placement, Timing};
use super::track::{Place, VideoTrack};
use crate::bus::publication::{FrameCounts, LinkReport, Publication};
use crate::config::ingest::{BFramePolicy, Ingest};
use crate::engine::command::{EndReason, Written};
use crate::engine::message::SenderReport;
use crate::media::codec::{Codec, Kind};
use crate::media::every::Every;
use crate::media::frame::{Coding, Frame};
use crate::media::id::{SessionId, StreamName};
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::PacketPool;
use crate::media::time::Epoch;
use crate::transcode::Transcoder;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What a feed needs beside its publication.
#[derive(Debug, Clone)]
pub struct FeedTools {
    /// How it treats frames.
    pub settings: Ingest,
    /// Tells the wall time of a moment.
    pub epoch: Epoch,
    /// Makes sound Opus.
    pub transcoder: Transcoder,
}

/// Takes one publisher's frames. Dropping it ends the session.
#[derive(Debug)]
pub struct Feed {
    publication: Publication,
    tapping: Tapping,
    timing: Timing,
    picture: Picture,
    sound: Sound,
    epoch: Epoch,
    /// Layers are made of its picture, if that is all that viewers can have.
    makes: bool,
    counts: FrameCounts,
    /// When operators are told of them.
    tells: Every,
}

/// The video of a publisher.
#[derive(Debug)]
struct Picture {
    b_frames: BFrames,
    track: VideoTrack,
    pool: PacketPool,
    /// A frame was lost on its way: those until the next keyframe are of no use.
    broken: bool,
    /// WebRTC cannot play it, as was found then.
    rejected: Option<Instant>,
    reports: Every,
    /// When a decoder could start last, and how long after the time before.
    started: Option<(Instant, Duration)>,
    /// It was logged that this happens too seldom.
    is_sparse_logged: bool,
}

impl Feed {
    /// Operators are told so often how it goes, and viewers' clocks are set so often.
    pub(super) const REPORTS: Duration = Duration::from_secs(1);
    /// Viewers are not let go before what is made of the picture has had so long to come.
    const MADE_WITHIN: Duration = Duration::from_secs(5);

    pub(super) fn new(publication: Publication, tools: FeedTools) -> Self {
        let FeedTools { settings, epoch, transcoder } = tools;
        let stream = publication.stream().clone();
        let writer = publication.writer().clone();
        let policy = settings.b_frame_policy(stream.as_str());
        let makes = policy == BFramePolicy::Transcode && transcoder.has_ladder(&stream);
        let payload_max = settings.payload_max_bytes;
        Self {
            timing: Timing::new(settings.late_max),
            picture: Picture::new(policy, payload_max),
            sound: Sound::new(stream, writer, payload_max, epoch, transcoder),
            tapping: Tapping::new(publication.readers(), epoch),
            publication,
            epoch,
            makes,
            counts: FrameCounts::default(),
            tells: Every::new(Self::REPORTS),
        }
    }

    /// The session, for logs.
    pub const fn session(&self) -> SessionId {
        self.publication.session()
    }

    /// The stream.
    pub const fn stream(&self) -> &StreamName {
        self.publication.stream()
    }

    /// Takes a frame; never waits.
    pub fn write(&mut self, frame: Frame) {
        self.counts.taken += 1;
        let arrival = frame.arrival;
        match frame.coding {
            Coding::Video(codec) => self.write_video(codec, &frame),
            Coding::Audio(_) => self.write_audio(frame),
        }
        if self.tells.is_due(arrival) {
            self.tell(arrival);
        }
    }

    /// So many frames were left out before they came here, since something of them was lost or made
    /// no sense.
    pub const fn note_damaged(&mut self, frames: u64) {
        self.counts.damaged = frames;
    }

    fn write_video(&mut self, codec: Codec, frame: &Frame) {
        let may_pass = self.may_pass(frame);
        let starts = self.picture.track.starts(codec, &frame.data);
        if starts {
            self.picture.note_start(frame.arrival);
        }
        let placed = self.place(frame, starts);
        let picture = &mut self.picture;
        if let Some(placed) = placed {
            let data =
                if starts { picture.track.whole(codec, &frame.data) } else { frame.data.clone() };
            self.tapping.write(Frame { data, ..frame.clone() }, placed, starts);
        }
        let Some(placed) = placed.filter(|_| may_pass && (starts || !picture.broken)) else {
            self.counts.overrun += u64::from(placed.is_some() && may_pass);
            if starts && self.makes && picture.rejected.is_some() {
                return self.announce(codec, frame);
            }
            // What it says of the frames after it is kept: parameter sets may come only once.
            return picture.track.skip(codec, &frame.data);
        };
        let place = Place { ticks: placed.ticks, arrival: frame.arrival };
        let mut packets = Vec::new();
        let pool = &mut picture.pool;
        let format = picture.track.write(codec, &frame.data, place, pool, &mut packets);
        if packets.is_empty() {
            return;
        }
        let report = picture
            .reports
            .is_due(frame.arrival)
            .then(|| report(Kind::Video, placed.ticks, placed.moment, self.epoch));
        let written = Written { format, report, packets, ..Written::default() };
        picture.broken = !self.publication.writer().write(written);
        self.counts.overrun += u64::from(picture.broken);
    }

    /// Says what the picture is of which nothing is sent: the stream is live, with what is made.
    fn announce(&mut self, codec: Codec, frame: &Frame) {
        let place = Place { ticks: 0, arrival: frame.arrival };
        let Picture { track, pool, .. } = &mut self.picture;
        let format = track.write(codec, &frame.data, place, pool, &mut Vec::new());
        // Where there is no room for it, it is said with the next keyframe.
        let _ = self.publication.writer().write(Written { format, ..Written::default() });
    }

    /// Whether WebRTC can play this frame, as far as its order goes.
    fn may_pass(&mut self, frame: &Frame) -> bool {
        match self.picture.b_frames.look(frame) {
            Verdict::Pass => {
                // Each change is told to people; a stream can say of itself what it likes.
                let since = self.picture.rejected;
                let may_change = since.is_some_and(|at| frame.arrival >= at + Self::REPORTS);
                if may_change && self.picture.b_frames.found() == Found::Never {
                    self.accept(frame.arrival);
                }
                self.picture.rejected.is_none()
            }
            verdict => {
                self.counts.b_frames += 1;
                if verdict == Verdict::Reject {
                    self.reject(frame.arrival);
                }
                false
            }
        }
    }

    fn place(&mut self, frame: &Frame, starts: bool) -> Option<Placed> {
        match self.timing.place(frame, starts) {
            Placement::At(placed) => Some(placed),
            Placement::Late => {
                self.counts.late += 1;
                None
            }
            Placement::Misplaced => {
                self.counts.misplaced += 1;
                None
            }
        }
    }

    fn write_audio(&mut self, frame: Frame) {
        let Some(placed) = self.place(&frame, true) else { return };
        self.tapping.write(frame.clone(), placed, true);
        self.counts.overrun += u64::from(!self.sound.write(frame, placed));
    }

    /// WebRTC cannot play the picture: whoever watches is let go, whoever wants to is told.
    fn reject(&mut self, now: Instant) {
        if self.picture.rejected.is_some() {
            return;
        }
        self.picture.rejected = Some(now);
        self.tapping.need_made(self.makes);
        // What came before shows that it cannot be played; nobody is to wait for more of it.
        let ended = Some(LayerId::ONLY);
        let _ = self.publication.writer().write(Written { ended, ..Written::default() });
        let stream = self.publication.stream();
        warn!(%stream, "B-frames: {ADVICE}");
        self.tell(now);
    }

    /// What comes from now on is a picture that WebRTC can play.
    fn accept(&mut self, now: Instant) {
        self.picture.rejected = None;
        self.picture.broken = true;
        self.tapping.need_made(false);
        info!(stream = %self.publication.stream(), "no B-frames any more");
        self.tell(now);
    }

    /// Tells operators how it goes; and the engine that it does, where nothing of it can be sent.
    fn tell(&mut self, now: Instant) {
        let rejected = self.picture.rejected;
        let has_made = self.makes && self.publication.details().has_made;
        let may_come = |since: Instant| self.makes && now < since + Self::MADE_WITHIN;
        let obstacle = rejected.filter(|since| !has_made && !may_come(*since)).map(|_| ADVICE);
        // Again and again: while another one asked to publish it may not have been taken.
        self.publication.set_obstacle(obstacle);
        let few_keyframes = self.picture.few_keyframes(now);
        if let Some(notice) = &few_keyframes
            && !std::mem::replace(&mut self.picture.is_sparse_logged, true)
        {
            warn!(stream = %self.publication.stream(), "{notice}");
        }
        let notices: Vec<String> = [
            obstacle.map(str::to_owned),
            rejected.filter(|_| has_made).map(|_| format!("B-frames are transcoded. {ADVICE}")),
            self.picture.b_frames_left_out(),
            few_keyframes,
            self.sound.notice(),
        ]
        .into_iter()
        .flatten()
        .collect();
        let frames = self.counts;
        self.publication.describe(|details| {
            details.frames = frames;
            details.notices = notices;
        });
        // A sign of life; where there is no room for it there have been others.
        let _ = self.publication.writer().write(Written::default());
    }

    /// Why it is over, once it is: replaced, ended by an operator, silent, the server stops.
    pub fn ended(&self) -> Option<EndReason> {
        self.publication.ended()
    }

    /// Waits until it is over; may be given up and called again.
    pub async fn wait_ended(&mut self) -> EndReason {
        self.publication.wait_ended().await
    }

    /// What else comes in, and is not used.
    pub fn note_tracks(&mut self, unused: Vec<String>) {
        self.publication.describe(|details| details.unused_tracks = unused);
    }

    /// How the link fares.
    pub fn set_link(&mut self, link: LinkReport) {
        self.publication.describe(|details| details.link = Some(link));
    }
}

/// Says that this timestamp of a track stands for that moment.
pub(super) fn report(kind: Kind, timestamp: u64, moment: Instant, epoch: Epoch) -> SenderReport {
    let lane = Lane::of(kind, LayerId::ONLY);
    SenderReport { lane, ntp: epoch.wall_of(moment), timestamp, arrival: moment }
}

impl Picture {
    /// What is kept for those who begin to watch reaches so far back: they need not wait.
    const KEYFRAMES_APART_MAX: Duration = Duration::from_secs(12);

    fn new(policy: BFramePolicy, payload_max: usize) -> Self {
        Self {
            b_frames: BFrames::new(policy),
            // With another codec it begins anew.
            track: VideoTrack::new(Codec::H264, payload_max),
            pool: PacketPool::default(),
            broken: false,
            rejected: None,
            reports: Every::new(Feed::REPORTS),
            started: None,
            is_sparse_logged: false,
        }
    }

    fn note_start(&mut self, now: Instant) {
        let apart = self.started.map(|(at, _)| now.saturating_duration_since(at));
        self.started = Some((now, apart.unwrap_or_default()));
    }

    /// What operators should know where viewers have to wait for the next keyframe: nobody can ask
    /// an encoder for one that does not come by WebRTC.
    fn few_keyframes(&self, now: Instant) -> Option<String> {
        let (at, apart) = self.started?;
        let apart = apart.max(now.saturating_duration_since(at));
        (apart > Self::KEYFRAMES_APART_MAX).then(|| {
            let seconds = apart.as_secs();
            format!(
                "Keyframes come {seconds} s apart: who begins to watch waits for the next. Set \
                 the encoder's keyframe interval to 2 s."
            )
        })
    }

    /// What operators should know where only B-frames that nothing needs were left out.
    fn b_frames_left_out(&self) -> Option<String> {
        let left_out = self.b_frames.found() == Found::Disposable && self.rejected.is_none();
        left_out
            .then(|| format!("B-frames are left out, so that there are fewer pictures. {ADVICE}"))
    }
}
