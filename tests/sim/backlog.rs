//! A viewer whose connection takes less than it is sent is never far behind.

use crate::camera::Camera;
use crate::oracle::Rule;
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::codec::is_keyframe;
use millrace::engine::{Backlog, Input};
use millrace::media::arena::{Path, SendArena};
use millrace::media::codec::{Codec, Kind};

const AUDIO: usize = Kind::Audio as usize;
const VIDEO: usize = Kind::Video as usize;

/// The shard tells how it stands with what waits for a viewer.
fn tell(world: &mut World, viewer: usize, backlog: Backlog) {
    let path = Path::udp(world.clients[viewer].address, None);
    let now = world.now;
    world.engine.handle(Input::Backlog { path, backlog }, now, &mut SendArena::new(0));
}

fn got(world: &World, viewer: usize) -> [usize; 2] {
    [AUDIO, VIDEO].map(|kind| world.viewer(viewer).got[kind].len())
}

/// Nobody's keyframe comes unasked.
const CAMERA: fn() -> Camera = || Camera { group: u64::MAX, ..Camera::default() };

#[test]
fn who_has_lost_a_packet_goes_on_with_a_keyframe_once_the_backlog_is_gone() {
    let mut world = World::seeded(91);
    // It misses what it skips and begins again, as nobody else may; all other rules hold.
    world.strict = false;
    // Every other second a keyframe comes unasked.
    let camera = world.publish("lot-42", Camera { group: 60, ..Camera::default() });
    let slow = world.view("lot-42", Screen::default());
    let other = world.view("lot-42", Screen::default());
    world.run_for(secs(1));
    let asked = world.publisher(camera).keyframe_requests.len();

    tell(&mut world, slow, Backlog::High);
    let before = got(&world, slow);
    world.run_for(secs(1));
    assert!(got(&world, slow)[VIDEO] > before[VIDEO] + 100, "what flows goes on");

    tell(&mut world, slow, Backlog::Lost);
    world.run_for(ms(20));
    let lost_at = got(&world, slow);
    world.run_for(secs(3));
    let now = got(&world, slow);
    assert_eq!(now[VIDEO], lost_at[VIDEO], "a keyframe begins nothing that there is no room for");
    assert!(now[AUDIO] > lost_at[AUDIO] + 140, "sound goes on");
    assert_eq!(world.publisher(camera).keyframe_requests.len(), asked, "nobody has been asked");

    tell(&mut world, slow, Backlog::Low);
    world.run_for(ms(300));
    let pictures = &world.viewer(slow).got[VIDEO];
    let (last, first) = (&pictures[lost_at[VIDEO] - 1], &pictures[lost_at[VIDEO]]);
    assert!(is_keyframe(Codec::H264, &first.payload));
    assert_eq!(first.sequence, last.sequence + 1, "no gap of our making");
    assert_eq!(world.publisher(camera).keyframe_requests.len(), asked + 1);
    assert_eq!(world.viewer(other).missing().0, 0);
    let violations = &world.oracle.violations;
    let skips = [Rule::Missing, Rule::Gap];
    let other = violations.iter().find(|it| !skips.contains(&it.rule));
    assert!(other.is_none(), "{other:?}");
}

#[test]
fn the_burst_of_the_past_waits_for_room_and_goes_on_where_it_was() {
    let mut world = World::seeded(92);
    let camera = world.publish("lot-42", CAMERA());
    let old = world.view("lot-42", Screen::default());
    world.run_for(secs(8));
    let asked = world.publisher(camera).keyframe_requests.len();
    let newcomer = world.view("lot-42", Screen::default());
    while got(&world, newcomer)[VIDEO] == 0 {
        world.run_for(ms(1));
    }
    tell(&mut world, newcomer, Backlog::High);
    world.run_for(ms(20));
    let paused = got(&world, newcomer)[VIDEO];
    let wakes = world.wakes;
    world.run_for(ms(400));
    assert_eq!(got(&world, newcomer)[VIDEO], paused);
    assert!(world.wakes < wakes + 100, "a burst that waits wakes nobody each millisecond");
    tell(&mut world, newcomer, Backlog::Low);
    world.run_for(secs(1));
    assert_eq!(world.engine.catching_up(), 0);
    world.run_for(secs(1));
    let last = |viewer: usize| world.viewer(viewer).got[VIDEO].last().map(|it| it.at);
    assert_eq!(last(newcomer), last(old), "it is live");
    assert_eq!(world.viewer(newcomer).missing().0, 0);
    assert_eq!(world.publisher(camera).keyframe_requests.len(), asked);
}

#[test]
fn a_client_that_goes_over_to_another_path_is_held_no_more() {
    let mut world = World::seeded(93);
    world.publish("lot-42", CAMERA());
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(1));
    tell(&mut world, viewer, Backlog::Lost);
    world.run_for(secs(1));
    let before = got(&world, viewer)[VIDEO];
    world.rebind(viewer, 7_000);
    world.run_for(secs(3));
    assert!(got(&world, viewer)[VIDEO] > before + 50, "it goes on with its next check");
    // What is told of a path that is no longer in use is nothing to it.
    let former = Path::udp(([192, 0, 2, 1], 1_000 + viewer as u16).into(), None);
    let input = Input::Backlog { path: former, backlog: Backlog::Lost };
    let (now, before) = (world.now, got(&world, viewer)[VIDEO]);
    world.engine.handle(input, now, &mut SendArena::new(0));
    world.run_for(secs(1));
    assert!(got(&world, viewer)[VIDEO] > before + 50);
}
