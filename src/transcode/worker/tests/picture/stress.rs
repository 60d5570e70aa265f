//! Nonsense, too much at once, and starts and stops again and again.

use crate::ipc::picture::{Codec, Layer, Order, Report};
use crate::source::{Frame, X264, frames};
use crate::talk::{Talk, layer};

#[test]
fn a_frame_that_is_broken_costs_what_comes_up_to_the_next_keyframe() {
    let mut source = frames(Codec::H264, X264, 70, (320, 180));
    let mut talk = Talk::start(Codec::H264);
    talk.say(&Order::Start(layer(0, (160, 90), 200_000)));
    talk.feed(&source[..10], &[0]);
    // One with lengths that are none, one of noise, one that is empty.
    source[10].data.truncate(7);
    source[11].data[5..].fill(0xa5);
    source[12].data.clear();
    // Less than a second: what waits longer is dropped up to a keyframe.
    talk.send_all(&source[10..35]);
    let (_, next) = talk.frame();
    assert!(next.is_keyframe, "{}", next.ticks);
    assert_eq!(next.ticks, source[30].ticks);
    talk.wait_for_loads(|loads| loads.iter().map(|load| load.broken).sum::<u32>() == 20);
}

#[test]
fn noise_does_not_end_it() {
    for codec in [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1] {
        let mut talk = Talk::start(codec);
        talk.say(&Order::Start(layer(0, (160, 90), 200_000)));
        let mut state = 7_u32;
        for ticks in 0..200 {
            let mut data = vec![0; 400];
            for byte in &mut data {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            if matches!(codec, Codec::H264 | Codec::H265) {
                data[..4].copy_from_slice(&396_u32.to_be_bytes());
            }
            talk.send(&Frame { ticks: ticks * 3000, is_keyframe: ticks % 10 == 0, data });
        }
        let encoder = match codec {
            Codec::H264 => X264,
            Codec::H265 => "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10",
            Codec::Vp8 => "vp8enc deadline=1",
            Codec::Vp9 => "vp9enc deadline=1 cpu-used=8",
            Codec::Av1 => "av1enc usage-profile=realtime cpu-used=8",
        };
        let mut real = frames(codec, encoder, 10, (320, 180));
        for frame in &mut real {
            frame.ticks += 700_000;
        }
        talk.send_all(&real);
        while talk.frame().1.ticks < 700_000 {}
    }
}

#[test]
fn a_layer_begins_with_the_first_picture_that_came_after_it_was_asked_for() {
    let source = frames(Codec::H264, X264, 60, (320, 180));
    let mut talk = Talk::start(Codec::H264);
    talk.send_all(&source[..50]);
    talk.say(&Order::Start(layer(0, (160, 90), 200_000)));
    talk.send_all(&source[50..]);
    let (_, first) = talk.frame();
    assert!(first.is_keyframe && first.ticks >= source[50].ticks, "{}", first.ticks);
}

#[test]
fn what_comes_all_at_once_is_caught_up_with_and_not_encoded_in_full() {
    // A keyframe at the start only, as after a restart in the middle of a long group.
    let encoder = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000";
    let source = frames(Codec::H264, encoder, 150, (640, 360));
    let mut talk = Talk::start(Codec::H264);
    talk.say(&Order::Start(layer(0, (320, 180), 200_000)));
    talk.send_all(&source);
    let mut made = Vec::new();
    while made.last() != Some(&source[149].ticks) {
        made.push(talk.frame().1.ticks);
    }
    assert!(made.len() < 100, "{} of 150", made.len());
    talk.wait_for_loads(|loads| loads.iter().map(|load| load.decoded).sum::<u32>() == 150);
    assert!(talk.loads.iter().any(|load| load.is_behind));
    assert!(talk.loads.iter().all(|load| load.dropped == 0), "all of them are needed");
}

/// A value of `/proc/PID/status`.
fn status(process: u32, key: &str) -> u64 {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(path).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line for it");
    let number = line.trim_start_matches(':').split_whitespace().next();
    number.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn layers_that_start_and_stop_leave_nothing_behind() {
    let source = frames(Codec::H264, X264, 30, (640, 360));
    let mut talk = Talk::start(Codec::H264);
    let mut ticks = 0;
    let mut cycle = |talk: &mut Talk| {
        for (number, size) in [(0, (480, 270)), (1, (320, 180))] {
            talk.say(&Order::Start(layer(number, size, 400_000)));
        }
        let later: Vec<Frame> =
            source.iter().map(|it| Frame { ticks: it.ticks + ticks, ..it.clone() }).collect();
        ticks += 90_000;
        talk.feed(&later, &[0, 1]);
        talk.say(&Order::Stop(0));
        talk.say(&Order::Stop(1));
        // It obeys one order after the other: what this one comes to shows that those are done.
        talk.say(&Order::Start(Layer { encoder: "none".to_owned(), ..layer(2, (2, 2), 1) }));
        talk.wait(|report| matches!(report, Report::Refused { .. }).then_some(()));
        talk.say(&Order::Stop(2));
    };
    for _ in 0..3 {
        cycle(&mut talk);
    }
    talk.wait_for_load();
    let process = talk.child.id();
    let (threads, resident) = (status(process, "Threads"), status(process, "VmRSS"));
    for _ in 0..20 {
        cycle(&mut talk);
    }
    // A thread that was waited for is counted until the kernel has put it away.
    talk.wait_for_loads(|_| status(process, "Threads") <= threads);
    let grown = status(process, "VmRSS").saturating_sub(resident);
    // An encoder has some megabytes, and forty have come and gone. The allocator's ups and downs
    // are 2 MB over a hundred cycles, and 5 with other tests beside.
    assert!(grown < 8192, "{grown} kB of {resident}");
}
