//! Streams that are written here, out of frames that did not come by WebRTC: viewers begin in the
//! past and go on as with any other publisher, who may be of either sort.

use crate::camera::Camera;
use crate::shards::{SHARDS, publish_at, view_at};
use crate::world::{World, ms, secs};
use millrace::engine::Input;
use millrace::engine::command::{Command, EndReason, Event, Opening, Written};
use millrace::engine::message::SenderReport;
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::id::{SessionId, StreamName};
use millrace::media::layer::{Lane, LayerId};
use millrace::media::packet::PacketFields;
use millrace::media::protocol::Protocol;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pictures from one keyframe to the next: ten seconds, as encoders have it.
const GROUP: u64 = 300;
const PICTURE: Duration = Duration::from_micros(33_333);

/// Somebody who writes stream lot-42 at a shard.
struct Author {
    shard: usize,
    session: SessionId,
    pictures: u64,
    next_at: Instant,
    /// Its payloads, in order.
    sent: Vec<Vec<u8>>,
    ended: Arc<Mutex<Vec<EndReason>>>,
}

impl Author {
    /// The number is in its session and in all that it writes.
    fn begins(world: &mut World, number: u8, shard: usize) -> Self {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let (told, session) = (Arc::clone(&ended), SessionId::from_random([number; 16]));
        let opening = Opening {
            session,
            stream: StreamName::parse("lot-42").expect("a name"),
            protocol: Protocol::Rtmp,
            created: world.now,
            ended: Box::new(move |reason| told.lock().expect("not poisoned").push(reason)),
        };
        world.command_at(shard, Command::Publish(Box::new(opening)));
        let (pictures, next_at) = (0, world.now);
        Self { shard, session, pictures, next_at, sent: Vec::new(), ended }
    }

    /// Writes a picture of three packets and the sound that goes with it.
    fn writes(&mut self, world: &mut World) {
        let (number, keyframe) = (self.pictures, self.pictures.is_multiple_of(GROUP));
        let format = |codec| Format { codec, parameters: String::new() };
        let timestamp = (1 << 33) + number * 3_000;
        let unit = if keyframe { 5 } else { 1 };
        let packet = |index: u64| {
            let mut payload = vec![0x60 | unit; 200];
            payload[1..9].copy_from_slice(&(number * 3 + index).to_be_bytes());
            payload[9] = self.session.to_string().as_bytes()[1];
            let sequence = (1 << 20) + number * 3 + index;
            let fields = PacketFields::single(Codec::H264, sequence, timestamp, world.now);
            Arc::new(PacketFields { marker: index == 2, keyframe, ..fields }.with(payload))
        };
        let packets: Vec<_> = (0..3).map(packet).collect();
        self.sent.extend(packets.iter().map(|packet| packet.payload.clone()));
        let lane = Lane::Video(LayerId::ONLY);
        let (ntp, arrival) = (world.epoch.wall_of(world.now), world.now);
        let report = Some(SenderReport { lane, ntp, timestamp, arrival });
        let format = keyframe.then(|| format(Codec::H264));
        self.hands(world, Written { format, report, packets, ..Written::default() });
        self.pictures += 1;
        self.next_at += PICTURE;
    }

    fn hands(&self, world: &mut World, written: Written) {
        let session = self.session;
        world.with_arena(self.shard, |engine, now, arena| {
            engine.handle(Input::Written(session, written), now, arena);
        });
        world.deliver_messages();
    }

    fn writes_for(&mut self, world: &mut World, span: Duration) {
        let until = world.now + span;
        while self.next_at < until {
            let wait = self.next_at.saturating_duration_since(world.now);
            world.run_for(wait);
            self.writes(world);
        }
        let rest = until.saturating_duration_since(world.now);
        world.run_for(rest + ms(20));
    }

    fn ended(&self) -> Vec<EndReason> {
        self.ended.lock().expect("not poisoned").clone()
    }
}

fn world(seed: u64) -> World {
    let mut world = World::sharded(seed, SHARDS);
    // The oracle knows clients only, and an author is none.
    world.strict = false;
    world
}

/// What a viewer has got of the video, in the order of its numbers, which have no gap.
fn video(world: &World, viewer: usize) -> Vec<Vec<u8>> {
    let mut got = world.viewer(viewer).got[Kind::Video.index()].clone();
    got.sort_by_key(|got| got.sequence);
    for pair in got.windows(2) {
        assert_eq!(pair[0].sequence + 1, pair[1].sequence, "no gap");
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step < 1 << 31, "{step} goes back");
    }
    got.into_iter().map(|got| got.payload).collect()
}

#[test]
fn a_viewer_who_comes_in_the_middle_of_ten_seconds_gets_all_since_the_keyframe_at_once() {
    let mut world = world(900);
    let mut author = Author::begins(&mut world, 7, 1);
    author.writes_for(&mut world, secs(5));
    let viewers: Vec<usize> = (0..SHARDS).map(|shard| view_at(&mut world, shard)).collect();
    author.writes_for(&mut world, ms(800));
    for viewer in viewers {
        let connected = world.connected_at(viewer).expect("it is connected");
        let got = &world.viewer(viewer).got[Kind::Video.index()];
        let first = got.first().expect("it has begun");
        assert!(first.at - connected < ms(50), "{:?}", first.at - connected);
        let got = video(&world, viewer);
        assert_eq!(got[..], author.sent[..got.len()], "from the keyframe on, nothing left out");
        assert!(author.sent.len() - got.len() < 9, "and it is live");
    }
    assert!(author.ended().is_empty());
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    world.command_at(
        1,
        Command::Report(Box::new(move |states| *tell.lock().expect("fine") = states)),
    );
    let states = told.lock().expect("fine");
    assert_eq!(states[0].tracks[0].keyframes, 1, "all its packets are one keyframe");
}

#[test]
fn who_publishes_by_webrtc_takes_over_from_one_who_writes_and_the_other_way_round() {
    for shard in 0..SHARDS {
        let mut world = world(910 + shard as u64);
        let mut author = Author::begins(&mut world, 7, 1);
        author.writes_for(&mut world, secs(1));
        let viewers: Vec<usize> = (0..SHARDS).map(|shard| view_at(&mut world, shard)).collect();
        author.writes_for(&mut world, secs(1));
        let camera = publish_at(&mut world, shard, Camera::default());
        author.writes_for(&mut world, secs(1));
        assert_eq!(author.ended(), [EndReason::Replaced]);
        let mut second = Author::begins(&mut world, 8, 2);
        second.writes_for(&mut world, secs(1));
        assert_eq!(world.ended(camera).map(|(_, reason)| reason), Some(&EndReason::Replaced));
        for viewer in viewers {
            let got = video(&world, viewer);
            let of = |payload: &Vec<u8>| {
                if author.sent.contains(payload) {
                    0
                } else if second.sent.contains(payload) {
                    2
                } else {
                    1
                }
            };
            let mut authors: Vec<u8> = got.iter().map(of).collect();
            authors.dedup();
            assert_eq!(authors, [0, 1, 2], "one after another, viewer {viewer}");
            assert_eq!(got.last(), second.sent.last(), "and it is live");
        }
    }
}

#[test]
fn one_who_writes_nothing_more_is_ended_and_its_viewers_wait_for_the_next() {
    let mut world = world(920);
    let mut author = Author::begins(&mut world, 7, 0);
    author.writes_for(&mut world, secs(1));
    let viewer = view_at(&mut world, 3);
    author.writes_for(&mut world, secs(1));
    world.run_for(secs(31));
    assert_eq!(author.ended(), [EndReason::Silent]);
    let vacant = world.events.iter().filter(|(_, it)| matches!(it, Event::Vacant { .. })).count();
    assert_eq!(vacant, 1);
    let mut next = Author::begins(&mut world, 8, 2);
    next.writes_for(&mut world, secs(1));
    assert_eq!(video(&world, viewer).last(), next.sent.last());
    world.command_at(2, Command::End(next.session, EndReason::Deleted));
    assert_eq!(next.ended(), [EndReason::Deleted]);
    world.run_for(secs(31));
    assert!(world.ended(viewer).is_some(), "nobody came back");
    world.run_for(secs(2));
    for engine in world.shards() {
        let held = engine.held();
        assert_eq!((held.sessions, held.streams, held.packets), (0, 0, 0), "{held:?}");
    }
}
