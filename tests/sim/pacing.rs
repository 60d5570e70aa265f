//! A keyframe comes to its viewers in slices, any other picture at once.

use crate::camera::{Camera, Repair};
use crate::scalable::Mode;
use crate::viewer::{Got, Screen};
use crate::world::{World, ms, secs};
use millrace::media::codec::Codec;

/// Pictures of 14 packets, a keyframe of four times as many each second.
const LARGE: Camera = Camera {
    codec: Codec::H264,
    frame_rate: 30,
    ladder: &[],
    together: false,
    packets: 14,
    payload_bytes: 1_000,
    group: 30,
    audio: true,
    repair: Repair::No,
    obliges: true,
    mode: Mode::L1T1,
};

#[test]
fn a_keyframe_comes_in_slices_and_any_other_picture_at_once() {
    for (seed, eager) in [(81, false), (82, true)] {
        let mut world = World::seeded(seed);
        world.eager = eager;
        world.publish("lot-42", LARGE);
        world.run_for(secs(1));
        let viewer = world.view("lot-42", Screen::default());
        world.run_for(secs(5));
        let got = &world.viewer(viewer).got[1];
        // How a viewer is let in is another matter.
        let settled = got.iter().position(|it| it.at >= got[0].at + secs(2)).expect("it goes on");
        let pictures = got[settled..].chunk_by(|a, b| a.timestamp == b.timestamp);
        let span = |picture: &[Got]| picture[picture.len() - 1].at - picture[0].at;
        let spans = pictures.map(|picture| (picture.len(), span(picture)));
        let (keyframes, others): (Vec<_>, Vec<_>) = spans.partition(|(packets, _)| *packets > 30);
        assert!(keyframes.len() >= 2 && others.len() >= 50);
        assert!(keyframes.iter().all(|(_, span)| (ms(4)..ms(8)).contains(span)), "{keyframes:?}");
        assert!(others.iter().all(|(_, span)| span.is_zero()), "{others:?}");
        let within = |first: &Got| {
            let millisecond = first.at..first.at + ms(1);
            got.iter().filter(|it| millisecond.contains(&it.at)).count()
        };
        let most = got[settled..].iter().map(within).max();
        assert_eq!(most, Some(16), "in any millisecond");
    }
}
