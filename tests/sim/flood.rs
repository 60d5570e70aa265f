//! A viewer that asks for everything gets little, and the others notice nothing.

use crate::camera::Camera;
use crate::keyframes::assert_one_per_second;
use crate::lot::{Lot, browser};
use crate::sessions::{ssrc, viewer_ssrc};
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::engine::command::LayerChoice;
use millrace::media::codec::Kind;
use rtc_rtcp::packet::{Packet, marshal};
use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use std::time::Duration;

/// A keyframe's worth that may be asked for before anything is earned.
const CREDIT: f64 = 96.0 * 1024.0;

/// Asks for the newest thousand video packets again, all at once.
pub(crate) fn flood(world: &mut World, viewer: usize) {
    ask_again(world, viewer, 1_000);
}

/// The same of so many.
fn ask_again(world: &mut World, viewer: usize, count: usize) {
    let got = &world.viewer(viewer).got[1];
    let newest = &got[got.len().saturating_sub(count)..];
    let numbers: Vec<u16> = newest.iter().map(|got| got.sequence as u16).collect();
    if numbers.is_empty() {
        return;
    }
    let media_ssrc = ssrc(viewer_ssrc(viewer), Kind::Video);
    let packets: [Box<dyn Packet>; 2] = [
        Box::new(ReceiverReport::default()),
        Box::new(TransportLayerNack {
            sender_ssrc: 77,
            media_ssrc,
            nacks: nack_pairs_from_sequence_numbers(&numbers),
        }),
    ];
    let compound = marshal(&packets).expect("a compound");
    world.send_rtcp(viewer, &compound);
}

/// Asks for a keyframe, by turns with PLI and FIR.
pub(crate) fn ask_for_keyframe(world: &mut World, viewer: usize, number: u32) {
    let media_ssrc = ssrc(viewer_ssrc(viewer), Kind::Video);
    let request: Box<dyn Packet> = if number.is_multiple_of(2) {
        Box::new(PictureLossIndication { sender_ssrc: 77, media_ssrc })
    } else {
        let fir = vec![FirEntry { ssrc: media_ssrc, sequence_number: number as u8 }];
        Box::new(FullIntraRequest { sender_ssrc: 77, media_ssrc, fir })
    };
    let compound = marshal(&[Box::new(ReceiverReport::default()), request]);
    world.send_rtcp(viewer, &compound.expect("a compound"));
}

/// What the quiet viewer of a world gets while its neighbour, with RTX or without, floods or not.
fn quiet_beside(rtx: bool, floods: bool) -> (Vec<(Duration, u64)>, World) {
    let mut world = World::seeded(61);
    let camera = Camera { payload_bytes: 1_000, ..Camera::default() };
    world.publish("lot-42", camera);
    let greedy = world.view("lot-42", Screen { rtx, nack: true, ..Screen::default() });
    let quiet = world.view("lot-42", Screen::default());
    for _ in 0..150 {
        world.run_for(ms(100));
        if floods {
            flood(&mut world, greedy);
        }
    }
    world.run_for(ms(500));
    let start = world.epoch.instant;
    let got = world.viewer(quiet).got.iter().flatten();
    (got.map(|got| (got.at - start, got.sequence)).collect(), world)
}

#[test]
fn a_viewer_that_asks_for_everything_gets_15_percent_and_the_others_notice_nothing() {
    for rtx in [true, false] {
        let (undisturbed, calm) = quiet_beside(rtx, false);
        let (beside_a_flood, flooded) = quiet_beside(rtx, true);
        assert!(undisturbed.len() > 2_000);
        assert!(undisturbed == beside_a_flood, "the same packets at the same times");
        let (before, after) = (calm.viewer(1), flooded.viewer(1));
        assert_eq!(before.rtx.packets, 0);
        let (media, again) = if rtx {
            assert_eq!(before.media.packets, after.media.packets);
            (after.media.bytes as f64, after.rtx.bytes as f64)
        } else {
            // What it has already its transport drops, but what was sent is counted.
            let sent = |world: &World| world.viewer(1).media.bytes as f64;
            assert_eq!(before.media.packets, after.media.packets, "replays are not opened");
            (sent(&flooded), flooded.oracle.repeated_bytes() as f64)
        };
        assert!(again > CREDIT, "the flood uses its credit up: {again}");
        assert!(again <= CREDIT + media * 0.15, "{again} of {media}");
        let refused = flooded.engine.counters().retransmissions_refused;
        assert!(refused > 10_000, "{refused}");
    }
}

/// As where a link drops what is too much for it, and then some of what comes instead.
#[test]
fn what_is_sent_again_of_a_layer_that_was_left_leaves_room_for_the_one_that_flows() {
    let mut lot = Lot::viewed(63, browser(), 8_000);
    let ana = lot.ana();
    lot.until(ana, "f", secs(12));
    lot.world.run_for(secs(3));
    lot.choose(ana, &LayerChoice { rid: Some("h".to_owned()), ..LayerChoice::default() });
    lot.until(ana, "h", secs(5));
    let mut again = |count, then| {
        let before = lot.world.engine.counters().retransmissions;
        ask_again(&mut lot.world, ana, count);
        lot.world.run_for(then);
        lot.world.engine.counters().retransmissions - before
    };
    // A quarter of the credit, and the first packets of the other layer.
    let of_left = again(1_000, ms(100));
    assert!((10..40).contains(&of_left), "{of_left}");
    let of_present = again(8, ms(100));
    assert_eq!(of_present, 8);
}

#[test]
fn a_flood_of_keyframe_requests_costs_the_publisher_one_a_second() {
    let mut world = World::seeded(62);
    let camera = world.publish("lot-42", Camera { group: u64::MAX, ..Camera::default() });
    let viewer = world.view("lot-42", Screen::default());
    world.run_for(secs(1));
    for number in 0..500 {
        ask_for_keyframe(&mut world, viewer, number);
        world.run_for(ms(10));
    }
    let requests = &world.publisher(camera).keyframe_requests;
    assert!((5..=8).contains(&requests.len()), "{}", requests.len());
    assert_one_per_second(requests);
}

/// What a quiet viewer gets of a publisher that ignores requests for keyframes, while its neighbour
/// asks for one all the time, or does not.
fn quiet_beside_requests(asks: bool) -> (Vec<(Duration, u64)>, World) {
    let mut world = World::seeded(63);
    world.publish("lot-42", Camera { group: 150, obliges: false, ..Camera::default() });
    let greedy = world.view("lot-42", Screen { rtx: false, nack: false, ..Screen::default() });
    let quiet = world.view("lot-42", Screen::default());
    let media_ssrc = ssrc(viewer_ssrc(greedy), Kind::Video);
    world.run_for(secs(1));
    for _ in 0..400 {
        world.run_for(ms(50));
        if asks {
            let loss = PictureLossIndication { sender_ssrc: 77, media_ssrc };
            let compound = marshal(&[Box::new(ReceiverReport::default()), Box::new(loss)]);
            world.send_rtcp(greedy, &compound.expect("a compound"));
        }
    }
    let start = world.epoch.instant;
    let got = world.viewer(quiet).got.iter().flatten();
    (got.map(|got| (got.at - start, got.sequence)).collect(), world)
}

/// Each time it begins again with what there is since the newest keyframe, five seconds at most.
#[test]
fn a_flood_of_requests_that_are_ignored_brings_the_past_every_four_seconds() {
    let (undisturbed, calm) = quiet_beside_requests(false);
    let (beside_a_flood, flooded) = quiet_beside_requests(true);
    assert!(undisturbed.len() > 2_000);
    assert!(undisturbed == beside_a_flood, "the same packets at the same times");
    let again = flooded.engine.counters().starts_again;
    assert!((2..=5).contains(&again), "{again} in 20 s");
    let (before, after) = (calm.viewer(1).media.bytes, flooded.viewer(1).media.bytes);
    assert!(after > before && after < before * 5 / 2, "{after} instead of {before}");
}
