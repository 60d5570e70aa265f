//! From the entrance to what a shard is handed, with a shard that only notes it.
//!
//! - `tapped`: to those who read the stream

mod tapped;

use super::b_frames::ADVICE;
use super::{Entrance, Feed, FeedTools, Gate, Refusal, Request};
use crate::bus::directory::{Directory, DirectoryError, DirectoryLimits};
use crate::bus::{Bus, ShardLink, ShardWay};
use crate::clock::HandClock;
use crate::config::Config;
use crate::config::transcode::WorkerProgram;
use crate::engine::command::{Command, EndReason, Opening, Written};
use crate::engine::message::Term;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::frame::{AudioCoding, Coding, Frame};
use crate::media::id::{SessionId, StreamName};
use crate::media::protocol::Protocol;
use crate::media::time::WallTime;
use crate::transcode::Transcoder;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Notes what it is handed.
#[derive(Default)]
struct Notes {
    is_full: AtomicBool,
    openings: Mutex<Vec<Opening>>,
    ended: Mutex<Vec<(SessionId, EndReason)>>,
    written: Mutex<Vec<Written>>,
    refused: Mutex<Vec<&'static str>>,
}

impl ShardWay for Notes {
    fn command(&self, command: Command) -> bool {
        match command {
            Command::Publish(opening) => self.openings.lock().expect("fine").push(*opening),
            Command::End(session, reason) => {
                self.ended.lock().expect("fine").push((session, reason));
            }
            _ => {}
        }
        !self.is_full.load(Ordering::Relaxed)
    }

    fn write(&self, _session: SessionId, written: Written) -> bool {
        let is_taken = !self.is_full.load(Ordering::Relaxed);
        if is_taken && !written.packets.is_empty() {
            self.written.lock().expect("fine").push(written);
        }
        is_taken
    }

    fn load(&self) -> f32 {
        0.0
    }
}

struct Rig {
    notes: Arc<Notes>,
    directory: Arc<Directory>,
    bus: Arc<Bus>,
    clock: HandClock,
    entrance: Entrance,
    transcoder: Transcoder,
}

/// An entrance where every stream's token is `right`, or `other`, and no sound is transcoded.
fn rig() -> Rig {
    rig_with(WorkerProgram::Off)
}

/// The same with this program to transcode sound.
fn rig_with(worker: WorkerProgram) -> Rig {
    let mut config = Config::default();
    config.transcode.worker = worker;
    rig_of(config)
}

/// The same with this configuration.
fn rig_of(config: Config) -> Rig {
    let limits = DirectoryLimits { streams: 2, ..DirectoryLimits::roomy() };
    let directory = Arc::new(Directory::new(limits));
    let notes = Arc::new(Notes::default());
    let shard: ShardLink = notes.clone();
    let bus = Arc::new(Bus::new(Arc::clone(&directory), vec![shard]));
    let clock = HandClock::starting_at(WallTime::since_unix_epoch(Duration::from_secs(1_000)));
    let transcoder = Transcoder::new(&config, clock.clock());
    let notes_refused = Arc::clone(&notes);
    let gate = Gate {
        allows: Box::new(|_: &str, token: &str| match token {
            "right" => Some(1),
            "other" => Some(2),
            _ => None,
        }),
        refused: Box::new(move |why| notes_refused.refused.lock().expect("fine").push(why)),
    };
    let epoch = clock.clock().epoch();
    let own = Arc::clone(&bus);
    let tools = FeedTools { settings: config.ingest, epoch, transcoder: transcoder.clone() };
    let entrance = Entrance::new(own, clock.clock(), gate, tools);
    Rig { notes, directory, bus, clock, entrance, transcoder }
}

impl Rig {
    fn request<'a>(stream: &'a str, token: &'a str) -> Request<'a> {
        let remote = SocketAddr::from(([127, 0, 0, 1], 5_000));
        Request { protocol: Protocol::Rtmp, stream, token, remote }
    }

    fn refusal(&self, stream: &str, token: &str) -> Refusal {
        let checked = self.entrance.check(Self::request(stream, token));
        let refusal = self.entrance.admit(Self::request(stream, token)).expect_err("refused");
        if !matches!(refusal, Refusal::Full(_) | Refusal::Busy) {
            assert_eq!(checked, Err(refusal.clone()));
        }
        refusal
    }

    fn admit(&self, stream: &str) -> Feed {
        self.entrance.admit(Self::request(stream, "right")).expect("it may publish")
    }

    /// A frame that comes now and is shown so many milliseconds after the publisher's start.
    fn frame(&self, coding: Coding, ms: i64, data: &[u8]) -> Frame {
        let ticks = 5_000_000 + ms * 90;
        Frame {
            coding,
            decode_ticks: ticks,
            present_ticks: ticks,
            arrival: self.clock.clock().now(),
            data: Bytes::copy_from_slice(data),
        }
    }

    fn written(&self) -> Vec<Written> {
        std::mem::take(&mut self.notes.written.lock().expect("fine"))
    }
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text).expect("a name")
}

/// A VP8 frame.
fn vp8(is_key: bool) -> [u8; 300] {
    let mut frame = [0x9d; 300];
    frame[..10].copy_from_slice(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
    frame[0] |= u8::from(!is_key);
    frame
}

const VP8: Coding = Coding::Video(Codec::Vp8);
const OPUS: Coding = Coding::Audio(AudioCoding::Opus);

#[tokio::test]
async fn who_may_not_publish_is_told_why_and_nothing_is_made() {
    let rig = rig();
    assert!(matches!(rig.refusal("a b", "right"), Refusal::BadName(_)));
    let without = rig.refusal("lot-42", "");
    assert!(without.to_string().contains("?token="), "{without}");
    assert_eq!(rig.refusal("lot-42", "wrong"), Refusal::WrongToken(name("lot-42")));
    let _first = rig.admit("lot-42");
    assert_eq!(rig.refusal("lot-42", "other"), Refusal::Taken(name("lot-42")));
    let _second = rig.admit("lot-43");
    assert_eq!(rig.refusal("lot-44", "right"), Refusal::Full("limits.streams_max"));
    assert_eq!(rig.notes.openings.lock().expect("fine").len(), 2);
    rig.notes.is_full.store(true, Ordering::Relaxed);
    assert_eq!(rig.refusal("lot-42", "right"), Refusal::Busy);
    assert_eq!(rig.directory.counts(), (0, 2), "who was refused has left nothing");
    rig.entrance.close();
    assert_eq!(rig.refusal("lot-42", "right"), Refusal::Stopping);
    let logged = (0..99).filter(|_| rig.entrance.may_log()).count();
    assert_eq!(logged, 10, "strangers fill no log");
    let counted = rig.notes.refused.lock().expect("fine").clone();
    assert!(counted.contains(&"wrong_token") && counted.contains(&"stopping"), "{counted:?}");
}

#[tokio::test]
async fn frames_become_packets_whose_reports_keep_sound_and_picture_together() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    for index in 0..100_i64 {
        rig.clock.advance(Duration::from_millis(20));
        feed.write(rig.frame(OPUS, index * 20, &[0xfc, 1, 2]));
        if index % 2 == 0 {
            feed.write(rig.frame(VP8, index * 20, &vp8(index == 0)));
        }
    }
    let written = rig.written();
    assert_eq!(written.len(), 150);
    let formats: Vec<Codec> =
        written.iter().filter_map(|it| it.format.as_ref()).map(|format| format.codec).collect();
    assert!(formats.contains(&Codec::Opus) && formats.contains(&Codec::Vp8), "{formats:?}");
    // What each track's reports say of when its frame of 1,000 ms is shown.
    let shown = |kind: Kind, rate: f64| -> Vec<f64> {
        let of_kind = written.iter().filter(|it| it.packets[0].codec.kind() == kind);
        let base = of_kind.clone().next().expect("some").packets[0].timestamp;
        of_kind
            .filter_map(|it| it.report)
            .map(|report| {
                let ahead = 1.0 - (report.timestamp - base) as f64 / rate;
                report.ntp.as_unix().as_secs_f64() + ahead
            })
            .collect()
    };
    let (sound, picture) = (shown(Kind::Audio, 48_000.0), shown(Kind::Video, 90_000.0));
    assert!(sound.len() >= 2 && picture.len() >= 2, "one a second");
    for (a, b) in sound.iter().zip(&picture) {
        assert!((a - b).abs() < 0.001, "{a} {b}");
    }
    let known = rig.bus.details(feed.session()).expect("it is known");
    assert!(known.frames.taken > 60 && known.notices.is_empty(), "{known:?}");
}

#[tokio::test]
async fn a_frame_that_found_no_room_costs_those_until_the_next_keyframe() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    let mut write = |ms: i64, is_key, is_full| {
        rig.notes.is_full.store(is_full, Ordering::Relaxed);
        rig.clock.advance(Duration::from_millis(40));
        feed.write(rig.frame(VP8, ms, &vp8(is_key)));
    };
    write(0, true, false);
    write(40, false, true);
    for ms in [80, 120, 160] {
        write(ms, false, false);
    }
    write(200, true, false);
    write(240, false, false);
    let ticks: Vec<u64> = rig.written().iter().map(|it| it.packets[0].timestamp).collect();
    let ms: Vec<u64> = ticks.iter().map(|it| (it - ticks[0]) / 90).collect();
    assert_eq!(ms, [0, 200, 240]);
}

#[tokio::test]
async fn sound_that_nobody_can_make_opus_is_left_out_and_said() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    let aac = Coding::Audio(AudioCoding::Aac(Arc::from([0x12, 0x10])));
    for index in 0..60 {
        rig.clock.advance(Duration::from_millis(20));
        feed.write(rig.frame(aac.clone(), index * 20, &[0x21, 0x10]));
        feed.write(rig.frame(VP8, index * 20, &vp8(index == 0)));
    }
    let written = rig.written();
    assert_eq!(written.len(), 60, "the picture goes on");
    let known = rig.bus.details(feed.session()).expect("it is known");
    assert!(known.notices[0].contains("no sound"), "{known:?}");
}

#[tokio::test]
async fn keyframes_that_are_so_far_apart_that_viewers_wait_for_them_are_told() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    let mut told = |seconds: std::ops::Range<i64>, is_key: fn(i64) -> bool| {
        for second in seconds {
            feed.write(rig.frame(VP8, second * 1000, &vp8(is_key(second))));
            rig.clock.advance(Duration::from_secs(1));
        }
        rig.bus.details(feed.session()).expect("it is known").notices
    };
    assert!(told(0..12, |second| second == 0).is_empty(), "all of that is kept for viewers");
    let notices = told(12..16, |_| false);
    assert!(notices[0].contains("keyframe interval to 2 s"), "{notices:?}");
    assert_eq!(told(16..17, |_| true).len(), 1, "one does not make it better");
    assert!(told(17..18, |_| true).is_empty());
}

#[tokio::test]
async fn sound_that_changes_its_coding_with_every_frame_starts_no_process_for_each() {
    let rig = rig_with(WorkerProgram::At("/nowhere/millrace-transcode".into()));
    let mut feed = rig.admit("lot-42");
    let aac = Coding::Audio(AudioCoding::Aac(Arc::from([0x12, 0x10])));
    for index in 0..50 {
        rig.clock.advance(Duration::from_millis(40));
        feed.write(rig.frame(aac.clone(), index * 40, &[0x21, 0x10]));
        feed.write(rig.frame(OPUS, index * 40 + 20, &[0xfc, 1, 2]));
    }
    // None of those that are not needed any more has had its turn to end yet.
    assert_eq!(rig.transcoder.counts().workers, 1);
    assert_eq!(rig.written().len(), 50, "what is Opus already is heard");
}

#[tokio::test]
async fn who_sends_more_than_its_thread_takes_leaves_the_others_room() {
    let rig = rig();
    let mut flood = rig.admit("lot-42");
    let mut other = rig.admit("lot-43");
    for index in 0..5_000 {
        flood.write(rig.frame(VP8, index, &vp8(true)));
    }
    // Here nothing is taken, so that all that has found room waits.
    let waiting = rig.notes.written.lock().expect("fine").len();
    assert!((100..1_000).contains(&waiting), "{waiting}");
    other.write(rig.frame(VP8, 0, &vp8(true)));
    assert_eq!(rig.written().len(), waiting + 1, "the other one is not held up");
    flood.write(rig.frame(VP8, 5_000, &vp8(true)));
    assert_eq!(rig.written().len(), 1, "nor is the first, once its own was taken");
}

/// Frames that `tests/data/frames/make.py` made.
fn recorded(rig: &Rig, file: &str) -> Vec<Frame> {
    let path = format!("{}/tests/data/frames/{file}.frames", env!("CARGO_MANIFEST_DIR"));
    let recorded = std::fs::read(path).expect("it is there");
    let mut rest = recorded.as_slice();
    let mut frames = Vec::new();
    while let Some((decode, tail)) = rest.split_first_chunk() {
        let (present, tail) = tail.split_first_chunk().expect("a present time");
        let (len, tail) = tail.split_first_chunk().expect("a length");
        let (data, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
        let frame = rig.frame(Coding::Video(Codec::H264), 0, data);
        let decode_ticks = i64::from_be_bytes(*decode);
        frames.push(Frame { decode_ticks, present_ticks: i64::from_be_bytes(*present), ..frame });
        rest = tail;
    }
    frames
}

#[tokio::test]
async fn b_frames_that_others_need_are_refused_to_viewers_with_the_setting_to_change() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    // As the shard tells of its media.
    let term = Term { since: rig.clock.clock().now(), session: feed.session() };
    let format = Format { codec: Codec::H264, parameters: String::new() };
    rig.directory.live(&name("lot-42"), term, [None, Some(format)]);
    let formats = || rig.directory.formats(&name("lot-42"), rig.clock.clock().now());
    assert!(formats().is_ok());
    for frame in recorded(&rig, "h264-b-pyramid") {
        rig.clock.advance(Duration::from_millis(40));
        feed.write(Frame { arrival: rig.clock.clock().now(), ..frame });
    }
    assert_eq!(formats(), Err(DirectoryError::NotPlayable(ADVICE)));
    let known = rig.bus.details(feed.session()).expect("it is known");
    assert_eq!(known.notices, [ADVICE]);
    // An encoder that was set right begins anew, and so does the stream.
    let mut again = rig.admit("lot-42");
    for frame in recorded(&rig, "h264-in-order") {
        rig.clock.advance(Duration::from_millis(40));
        again.write(Frame { arrival: rig.clock.clock().now(), ..frame });
    }
    assert!(formats().is_ok());
}

#[tokio::test]
async fn a_stream_that_says_now_this_now_that_of_its_b_frames_is_believed_once_a_second() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    let b_frames = recorded(&rig, "h264-b-pyramid");
    let in_order = recorded(&rig, "h264-in-order");
    let write = |feed: &mut Feed, frames: &[Frame], after: u64| {
        for frame in frames {
            rig.clock.advance(Duration::from_millis(after));
            feed.write(Frame { arrival: rig.clock.clock().now(), ..frame.clone() });
        }
    };
    write(&mut feed, &b_frames, 1);
    let known = rig.bus.details(feed.session()).expect("it is known");
    assert_eq!(known.notices, [ADVICE]);
    rig.written();
    write(&mut feed, &in_order, 1);
    assert_eq!(rig.written().len(), 0, "24 ms later it is not believed");
    write(&mut feed, &in_order, 100);
    write(&mut feed, &in_order, 40);
    assert!(!rig.written().is_empty(), "later it is");
}

#[tokio::test]
async fn b_frames_that_nothing_needs_are_left_out_and_the_rest_comes_in_order() {
    let rig = rig();
    let mut feed = rig.admit("lot-42");
    for frame in recorded(&rig, "h264-b") {
        rig.clock.advance(Duration::from_millis(40));
        feed.write(Frame { arrival: rig.clock.clock().now(), ..frame });
    }
    let times: Vec<u64> = rig.written().iter().map(|it| it.packets[0].timestamp).collect();
    assert!(times.len() > 3 && times.is_sorted(), "{times:?}");
    drop(feed);
    assert_eq!(rig.notes.ended.lock().expect("fine").len(), 1, "dropping it ends it");
}
