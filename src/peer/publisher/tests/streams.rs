//! What comes out: SSRCs, layers, keyframes, padding.

use super::*;

#[test]
fn announced_ssrcs_need_no_extension() {
    let mut media = video();
    media.ssrcs = vec![AnnouncedSsrc { ssrc: 7, rtx: Some(8) }];
    let mut world = World::new(&[media]);
    let first = world.deliver(&Rtp::new(VIDEO, 7, 10, &KEY)).expect("media");
    let missed = Rtp::new(VIDEO, 7, 11, &DELTA);
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 12, &DELTA)).is_some());
    let repaired = world.deliver(&missed.as_rtx(8, 500)).expect("its retransmission");
    assert_eq!(repaired.sequence, first.sequence + 1);
    assert_eq!(repaired.payload, DELTA);
    assert!(world.deliver(&missed).is_none(), "it came before");
    assert!(world.deliver(&missed.as_rtx(8, 501)).is_none());
}

#[test]
fn a_retransmission_may_come_before_all_media() {
    let mut world = World::new(&[simulcast()]);
    let identify = |packet: Rtp, id: u8| packet.with(MID, "1").with(id, "h");
    let lost = Rtp::new(VIDEO, 7, 20, &KEY);
    let first = world.deliver(&identify(lost.as_rtx(8, 900), REPAIRED)).expect("a keyframe");
    let second = world.deliver(&identify(Rtp::new(VIDEO, 7, 21, &DELTA), RID)).expect("media");
    assert_eq!(second.sequence, first.sequence + 1);
    // From here on without extensions.
    let third = world.deliver(&Rtp::new(VIDEO, 7, 23, &DELTA)).expect("media");
    assert_eq!(third.sequence, first.sequence + 3);
    let repaired = world.deliver(&Rtp::new(VIDEO, 7, 22, &DELTA).as_rtx(8, 901));
    assert_eq!(repaired.map(|packet| packet.sequence), Some(first.sequence + 2));
}

#[test]
fn packets_that_belong_nowhere_are_dropped() {
    let mut world = World::new(&[video(), audio()]);
    assert!(world.deliver(&Rtp::new(55, 7, 1, &KEY)).is_none(), "unknown payload type");
    let foreign = Rtp::new(VIDEO, 7, 1, &KEY).with(MID, "2");
    assert!(world.deliver(&foreign).is_none(), "a section that was refused");
    let mut world = World::new(&[simulcast()]);
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY)).is_none(), "no RID yet");
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 2, &KEY).with(RID, "x")).is_none(), "no such RID");
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 3, &KEY).with(RID, "f")).is_some());
}

#[test]
fn audio_and_video_are_told_apart() {
    let mut world = World::new(&[audio(), video()]);
    for (packet, kind) in
        [(Rtp::new(AUDIO, 5, 1, &[0xfc]), Kind::Audio), (Rtp::new(VIDEO, 7, 1, &KEY), Kind::Video)]
    {
        let bytes = packet.to_bytes();
        let header = RtpHeader::read(&bytes).expect("well-formed");
        let forwarded = world.receiver.handle_rtp(&header, &bytes, world.now, &mut world.pool);
        assert_eq!(forwarded.map(|(kind, _)| kind), Some(kind));
    }
    let video = world.report(Kind::Video);
    assert_eq!(video.dimensions, Some((640, 480)));
    assert_eq!(video.format.map(|format| format.codec), Some(Codec::Vp8));
    assert_eq!((video.packets, video.bytes, video.keyframes), (1, KEY.len() as u64, 1));
    assert_eq!(world.report(Kind::Audio).keyframes, 0, "a word for pictures");
}

#[test]
fn padding_on_the_media_ssrc_keeps_its_number_and_probes_on_rtx_vanish() {
    let mut world = World::new(&[video()]);
    let first = world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY)).expect("media");
    let padding = world.deliver(&Rtp::new(VIDEO, 7, 2, &[]).padded(200)).expect("a number");
    assert_eq!((padding.sequence, padding.keyframe), (first.sequence + 1, false));
    assert!(padding.payload.is_empty());
    assert!(world.deliver(&Rtp::new(RTX, 8, 1, &[]).padded(200)).is_none());
    let padded = world.deliver(&Rtp::new(VIDEO, 7, 3, &DELTA).padded(4)).expect("media");
    assert_eq!(padded.payload, DELTA);
}

#[test]
fn another_ssrc_goes_on_where_the_old_one_ended() {
    let mut world = World::new(&[video()]);
    let before = world.deliver(&Rtp::new(VIDEO, 7, 40_000, &KEY).at(1_000)).expect("media");
    world.advance(100);
    let after = world.deliver(&Rtp::new(VIDEO, 17, 9, &KEY).at(4_000_000_000)).expect("media");
    assert_eq!(after.sequence, before.sequence + 1);
    assert_eq!(after.timestamp, before.timestamp + 9_000, "as much later as it came");
    let next = world.deliver(&Rtp::new(VIDEO, 17, 10, &DELTA).at(4_000_003_000)).expect("media");
    assert_eq!((next.sequence, next.timestamp), (after.sequence + 1, after.timestamp + 3_000));
    // Neither its stragglers nor its retransmissions bring the old one back.
    let straggler = Rtp::new(VIDEO, 7, 40_001, &DELTA);
    assert!(world.deliver(&straggler).is_none());
    let repaired = world.deliver(&Rtp::new(VIDEO, 17, 11, &DELTA).as_rtx(18, 1));
    assert_eq!(repaired.map(|packet| packet.sequence), Some(next.sequence + 1));
    // But it may come back once the new one is silent.
    world.advance(1_500);
    let back = world.deliver(&Rtp::new(VIDEO, 7, 40_500, &KEY)).expect("media");
    assert_eq!(back.sequence, next.sequence + 2);
    assert!(world.deliver(&Rtp::new(VIDEO, 17, 12, &DELTA)).is_none());
}

#[test]
fn retransmissions_of_a_replaced_ssrc_are_not_taken_for_the_new_ones() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 100, &KEY));
    world.deliver(&Rtp::new(VIDEO, 7, 102, &DELTA));
    let repair = Rtp::new(VIDEO, 7, 101, &DELTA).as_rtx(8, 1);
    assert!(world.deliver(&repair).is_some());
    world.advance(1_000);
    world.deliver(&Rtp::new(VIDEO, 17, 90, &KEY));
    world.deliver(&Rtp::new(VIDEO, 17, 110, &DELTA));
    // 103 of the old numbering is missing from the new one.
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 103, &DELTA).as_rtx(8, 2)).is_none());
    assert!(world.deliver(&Rtp::new(VIDEO, 17, 103, &DELTA).as_rtx(18, 1)).is_some());
}

#[test]
fn numbering_that_starts_anew_on_the_same_ssrc_goes_on_behind_the_old() {
    let mut world = World::new(&[video()]);
    let before = world.deliver(&Rtp::new(VIDEO, 7, 100, &KEY)).expect("media");
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 30_000, &KEY)).is_none(), "one may be a mistake");
    let after = world.deliver(&Rtp::new(VIDEO, 7, 30_001, &DELTA)).expect("two are not");
    assert_eq!(after.sequence, before.sequence + 1);
    world.advance(8);
    assert!(world.nacked().is_empty(), "nothing is missing in between");
    assert_eq!(world.pli_targets(), [] as [u32; 0]);
}

/// Feeds frames of three layers for so many milliseconds; a layer is (name, packets per frame).
/// SSRCs are 10, 11, ..; a keyframe comes whenever one is asked for, and after each
/// so many frames.
fn feed(
    world: &mut World,
    layers: &[(&str, u32)],
    keyframe_each: Option<u64>,
    state: &mut BTreeMap<u32, u16>,
    millis: u64,
    forwarded: &mut Vec<Arc<Packet>>,
) {
    let mut asked = Vec::new();
    for frame in 0..millis / 33 {
        for (&(rid, packets), ssrc) in layers.iter().zip(10_u32..) {
            let is_new = !state.contains_key(&ssrc);
            let next = state.entry(ssrc).or_insert((ssrc * 5_000) as u16);
            for index in 0..packets {
                let regular = keyframe_each.is_some_and(|each| frame % each == each - 1);
                let key = (is_new || regular || asked.contains(&ssrc)) && index == 0;
                let mut payload = if key { KEY.to_vec() } else { vec![0, 0] };
                payload.resize(600, ssrc as u8);
                // Each layer counts time from another start.
                let elapsed = (world.now - world.start).as_millis() as u32 * 90;
                let mut packet = Rtp::new(VIDEO, ssrc, *next, &payload);
                packet = packet.at(elapsed.wrapping_add(ssrc * 100_000_000));
                if is_new {
                    packet = packet.with(MID, "1").with(RID, rid);
                }
                *next = next.wrapping_add(1);
                forwarded.extend(world.deliver(&packet));
            }
        }
        world.advance(33);
        asked = world.pli_targets();
    }
}

#[test]
fn simulcast_comes_out_as_one_unbroken_stream_of_the_best_layer() {
    let mut world = World::new(&[simulcast()]);
    let mut state = BTreeMap::new();
    let mut forwarded = Vec::new();
    let all_layers = [("q", 1), ("h", 3), ("f", 8)];
    feed(&mut world, &all_layers, Some(30), &mut state, 3_000, &mut forwarded);
    let top = |packets: &[Arc<Packet>]| packets.last().and_then(|p| p.payload.last().copied());
    assert_eq!(top(&forwarded), Some(12));
    // The best layer ends: the next best takes over; then it is back.
    feed(&mut world, &all_layers[..2], Some(30), &mut state, 2_000, &mut forwarded);
    assert_eq!(top(&forwarded), Some(11));
    feed(&mut world, &all_layers, Some(30), &mut state, 2_000, &mut forwarded);
    assert_eq!(top(&forwarded), Some(12));

    let mut changes = 0;
    assert!(forwarded[0].keyframe);
    for pair in forwarded.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1, "one unbroken numbering");
        assert!(pair[1].timestamp >= pair[0].timestamp);
        assert!(pair[1].timestamp - pair[0].timestamp <= 90 * 1_000, "and no leap in time");
        if pair[0].payload.last() != pair[1].payload.last() {
            changes += 1;
            assert!(pair[1].keyframe, "a layer is taken up at a keyframe only");
            assert!(pair[1].timestamp > pair[0].timestamp);
        }
    }
    assert!((3..=4).contains(&changes), "no flutter: {changes}");
    assert!(world.report(Kind::Video).bitrate > Bitrate::kbps(800));
}

#[test]
fn a_layer_without_keyframes_of_its_own_is_asked_for_one() {
    let mut world = World::new(&[simulcast()]);
    let (mut state, mut forwarded) = (BTreeMap::new(), Vec::new());
    feed(&mut world, &[("q", 1), ("h", 3)], None, &mut state, 2_000, &mut forwarded);
    assert_eq!(forwarded.last().and_then(|packet| packet.payload.last()), Some(&11));
}

#[test]
fn the_largest_layer_is_taken_up_with_the_keyframe_it_begins_with() {
    for order in [["q", "h", "f"], ["f", "h", "q"], ["h", "f", "q"]] {
        let mut world = World::new(&[simulcast()]);
        let mut forwarded = Vec::new();
        // No keyframe but the first, as of an encoder that answers no request.
        for sequence in 1..30 {
            for (rid, ssrc) in order.into_iter().zip(10..) {
                let side = match rid {
                    "q" => 1,
                    "h" => 2,
                    _ => 4,
                };
                let mut payload = if sequence == 1 { KEY.to_vec() } else { DELTA.to_vec() };
                if sequence == 1 {
                    (payload[7], payload[9]) = (side, side);
                }
                payload.resize(usize::from(side) * 100, side);
                let packet = Rtp::new(VIDEO, ssrc, sequence, &payload).with(MID, "1");
                forwarded.extend(world.deliver(&packet.with(RID, rid)));
            }
            world.advance(33);
        }
        let sides = forwarded.iter().filter_map(|packet| packet.payload.last());
        assert_eq!(sides.clone().next_back(), Some(&4), "{order:?}");
        assert_eq!(sides.filter(|side| **side == 4).count(), 29, "{order:?}: from its first on");
        for pair in forwarded.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence + 1, "{order:?}");
        }
    }
}

#[test]
fn a_layer_that_stops_is_replaced_within_half_a_second() {
    let mut world = World::new(&[simulcast()]);
    let (mut state, mut forwarded) = (BTreeMap::new(), Vec::new());
    let layers = [("q", 1), ("h", 3), ("f", 8)];
    feed(&mut world, &layers, Some(30), &mut state, 3_000, &mut forwarded);
    let before = forwarded.len();
    feed(&mut world, &layers[..2], None, &mut state, 500, &mut forwarded);
    assert!(forwarded.len() > before, "it is asked for a keyframe, and taken up with it");
    assert_eq!(forwarded.last().and_then(|packet| packet.payload.last()), Some(&11));
}

#[test]
fn layers_that_are_all_slow_have_not_stopped() {
    let mut world = World::new(&[simulcast()]);
    let mut sent = 0_u16;
    let mut forwarded = Vec::new();
    // One picture a second, as of a page that stands still; a keyframe whenever one is asked for.
    let mut asked = Vec::new();
    for picture in 0..20 {
        for (rid, packets, ssrc) in [("q", 1, 10), ("h", 3, 11), ("f", 8, 12)] {
            for index in 0..packets {
                let key = index == 0 && (picture == 0 || asked.contains(&ssrc));
                let mut payload = if key { KEY.to_vec() } else { vec![0, 0] };
                payload.resize(600, ssrc as u8);
                let sequence = picture * packets + index;
                let mut packet = Rtp::new(VIDEO, ssrc, sequence, &payload).with(RID, rid);
                packet.marker = index + 1 == packets;
                forwarded.extend(world.deliver(&packet));
                sent += 1;
            }
        }
        world.advance(1_000);
        asked = world.pli_targets();
    }
    let top = |packet: &Arc<Packet>| packet.payload.last() == Some(&12);
    let taken = forwarded.iter().position(top).expect("the best layer is taken up");
    assert!(forwarded[taken..].iter().all(top), "and left no more");
    assert!(taken < 10 && sent == 240, "{taken} of {sent}");
}

#[test]
fn each_layer_is_repaired_by_its_repaired_rid() {
    for (rid, ssrc) in [("q", 10), ("h", 11), ("f", 12)] {
        let mut world = World::new(&[simulcast()]);
        let mut forwarded = Vec::new();
        let mut lost = Vec::new();
        for sequence in 1..100_u16 {
            // The others flow as well, with a keyframe that is never taken up.
            for (other, number) in [("q", 10), ("h", 11), ("f", 12)] {
                let length = if number == ssrc { 900 } else { 20 };
                let mut payload = if sequence == 1 { KEY.to_vec() } else { DELTA.to_vec() };
                payload.resize(length, number as u8);
                let mut packet = Rtp::new(VIDEO, number, sequence, &payload);
                if sequence < 5 {
                    packet = packet.with(MID, "1").with(RID, other);
                }
                if sequence == 1 && number != ssrc {
                    continue;
                }
                if sequence % 7 == 0 {
                    lost.push((other, packet));
                } else {
                    forwarded.extend(world.deliver(&packet));
                }
            }
            world.advance(10);
            if sequence % 7 == 0 {
                continue; // what is lost shows with the next packet
            }
            let asked = world.nacked();
            for (index, (other, packet)) in lost.drain(..).enumerate() {
                assert!(asked.contains(&packet.sequence));
                // Whose retransmissions these are is said by the extension only, once.
                let mut repair = packet.as_rtx(packet.ssrc + 100, sequence / 7);
                if sequence == 8 {
                    repair = repair.with(MID, "1").with(REPAIRED, other);
                }
                let repaired = world.deliver(&repair);
                assert_eq!(repaired.is_some(), packet.ssrc == ssrc, "{rid}: {index}");
                forwarded.extend(repaired);
            }
        }
        assert_eq!(forwarded.len(), 99, "{rid}: every packet");
        assert!(forwarded.iter().all(|packet| packet.payload.last() == Some(&(ssrc as u8))));
        let mut sequences: Vec<u64> = forwarded.iter().map(|packet| packet.sequence).collect();
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!(sequences.last().zip(sequences.first()).map(|(l, f)| l - f), Some(98), "{rid}");
        assert_eq!(sequences.len(), 99, "{rid}");
    }
}

#[test]
fn layers_that_carry_nearly_the_same_do_not_take_turns() {
    let mut world = World::new(&[simulcast()]);
    let (mut state, mut forwarded) = (BTreeMap::new(), Vec::new());
    for packets in [10, 11, 10, 9, 10, 11] {
        let layers = [("q", 10), ("h", packets)];
        feed(&mut world, &layers, Some(10), &mut state, 2_000, &mut forwarded);
    }
    assert!(forwarded.iter().all(|packet| packet.payload.last() == Some(&10)));
}

#[test]
fn layers_are_aligned_by_their_sender_reports() {
    let mut world = World::new(&[simulcast()]);
    let mut state = BTreeMap::new();
    let mut forwarded = Vec::new();
    // Only the small layer at first.
    feed(&mut world, &[("q", 1)], Some(30), &mut state, 500, &mut forwarded);
    let elapsed = (world.now - world.start).as_millis() as u32 * 90;
    let second = 1_u64 << 32;
    let heard = world.report_sender(10, 50 * second, elapsed.wrapping_add(1_000_000_000));
    let newest = forwarded.last().expect("q flows").timestamp;
    assert_eq!(heard.map(|report| report.rtp_timestamp), Some(newest + 33 * 90));
    let media = Rtp::new(VIDEO, 11, 1, &DELTA).at(777_000).with(RID, "h");
    assert!(world.deliver(&media).is_none(), "not forwarded yet, but known");
    assert_eq!(world.report_sender(11, 50 * second, 777_000), None);
    // The layer gathers rate; its keyframe, of the same moment plus 100 ms, takes over.
    for index in 2..400 {
        let media = Rtp::new(VIDEO, 11, index, &[0; 600]).at(777_000);
        assert!(world.deliver(&media).is_none());
    }
    world.advance(300);
    let taken = world.deliver(&Rtp::new(VIDEO, 11, 400, &KEY).at(777_000 + 9_000));
    assert_eq!(taken.map(|packet| packet.timestamp), Some(newest + 33 * 90 + 9_000));
}

/// A viewer that begins there sees nothing until the next keyframe.
#[test]
fn a_picture_before_which_nothing_has_come_may_have_lost_its_parameter_sets() {
    let mut media = video();
    media.formats[0].format.codec = Codec::H264;
    let [sps, pps, idr, slice]: [&[u8]; 4] =
        [&[0x67, 0x42, 0xc0, 0x1f], &[0x68, 0xce, 0x0f], &[0x65, 0x88, 0x84], &[0x41, 0x9a, 0x22]];
    let starts = |packets: &[(u16, u32, &[u8])]| -> Vec<u16> {
        let mut world = World::new(&[media.clone()]);
        let start = |&(sequence, timestamp, payload): &(u16, u32, &[u8])| {
            let packet = Rtp::new(VIDEO, 7, sequence, payload).at(timestamp);
            let taken = world.deliver(&packet).expect("each is new");
            taken.keyframe.then_some(sequence)
        };
        packets.iter().filter_map(start).collect()
    };
    // Late, they are the start when they come.
    assert_eq!(starts(&[(2, 0, pps), (3, 0, idr), (1, 0, sps)]), [1]);
    assert_eq!(starts(&[(3, 0, idr), (1, 0, sps), (2, 0, pps)]), [1]);
    // Whoever never sends any is taken at its word with a later picture.
    let mut packets: Vec<_> = (2..20).map(|n| (n, u32::from(n) * 3_000, slice)).collect();
    packets.insert(0, (1, 3_000, idr));
    packets.push((20, 60_000, idr));
    assert_eq!(starts(&packets), [20]);
}

#[test]
fn a_picture_whose_parameter_sets_are_on_their_way_is_no_start() {
    let mut media = video();
    media.formats[0].format.codec = Codec::H264;
    let sps = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0x90, 0x0f, 8, 0x84, 0x6a];
    let [pps, idr, slice] = [[0x68, 0xce, 0x0f], [0x65, 0x88, 0x84], [0x41, 0x9a, 0x22]];
    let mut world = World::new(&[media]);
    let mut deliver = |sequence, timestamp, payload: &[u8]| {
        let packet = Rtp::new(VIDEO, 7, sequence, payload).at(timestamp);
        world.deliver(&packet).map(|packet| packet.keyframe)
    };
    // In order: the first packet of the access unit is the start, and the only one.
    assert_eq!(deliver(1, 0, &sps), Some(true));
    assert_eq!(deliver(2, 0, &pps), Some(false));
    assert_eq!(deliver(3, 0, &idr), Some(false));
    assert_eq!(deliver(4, 3_000, &slice), Some(false));
    // The parameter sets are late: they are the start when they come.
    assert_eq!(deliver(6, 6_000, &pps), Some(false));
    assert_eq!(deliver(7, 6_000, &idr), Some(false));
    assert_eq!(deliver(5, 6_000, &sps), Some(true));
    // There are none: the picture itself.
    assert_eq!(deliver(8, 9_000, &idr), Some(true));
    assert_eq!(world.report(Kind::Video).dimensions, Some((640, 480)));
    assert_eq!(world.report(Kind::Video).keyframes, 3);
}
