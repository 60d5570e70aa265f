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
        assert_eq!(forwarded.map(|packet| packet.codec.kind()), Some(kind));
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

#[test]
fn each_layer_comes_out_in_a_numbering_of_its_own() {
    let mut world = World::new(&[simulcast()]);
    let mut forwarded: BTreeMap<LayerId, Vec<Arc<Packet>>> = BTreeMap::new();
    for frame in 0..60_u32 {
        for (rid, ssrc, packets) in [("q", 10, 1), ("h", 11, 3), ("f", 12, 8)] {
            for index in 0..packets {
                let sequence = (ssrc * 5_000 + frame * packets + index) as u16;
                let key = frame % 30 == 0 && index == 0;
                let mut payload = if key { KEY.to_vec() } else { vec![0, 0] };
                payload.resize(600, ssrc as u8);
                // Each layer counts time from another start.
                let timestamp = (ssrc * 100_000_000).wrapping_add(frame * 3_000);
                let mut packet = Rtp::new(VIDEO, ssrc, sequence, &payload).at(timestamp);
                packet.marker = index + 1 == packets;
                if frame == 0 {
                    packet = packet.with(MID, "1").with(RID, rid);
                }
                let packet = world.deliver(&packet).expect("all are handed on");
                forwarded.entry(packet.layer).or_default().push(packet);
            }
        }
        world.advance(33);
    }
    for (layer, packets) in &forwarded {
        let ssrc = 10 + layer.index() as u8;
        assert!(packets.iter().all(|packet| packet.payload.last() == Some(&ssrc)));
        assert!(packets.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
        let passed = packets.last().map(|last| last.timestamp - packets[0].timestamp);
        assert_eq!(passed, Some(59 * 3_000));
        assert_eq!(packets.iter().filter(|packet| packet.keyframe).count(), 2);
        assert_eq!(world.receiver.rid(*layer), ["q", "h", "f"][layer.index()]);
    }
    assert_eq!(forwarded.len(), 3);
    let report = world.report(Kind::Video);
    assert!(report.bitrate > Bitrate::kbps(1_200), "of all: {}", report.bitrate);
}

#[test]
fn a_keyframe_is_asked_of_the_layer_that_it_is_wanted_of() {
    let mut world = World::new(&[simulcast()]);
    for (rid, ssrc) in [("q", 10), ("h", 11), ("f", 12)] {
        world.deliver(&Rtp::new(VIDEO, ssrc, 1, &KEY).with(MID, "1").with(RID, rid));
    }
    let half = LayerId::at(1).expect("few");
    world.receiver.request_keyframe(half, world.now);
    assert_eq!(world.pli_targets(), [11]);
    // What is lost of a layer that nobody is sent is nobody's loss.
    world.receiver.set_watched(|layer| layer == half);
    world.deliver(&Rtp::new(VIDEO, 11, 2, &KEY));
    for ssrc in [10, 11, 12] {
        world.deliver(&Rtp::new(VIDEO, ssrc, 5, &DELTA));
    }
    let mut asked = Vec::new();
    for _ in 0..300 {
        world.advance(10);
        asked.extend(world.pli_targets());
    }
    asked.dedup();
    assert_eq!(asked, [11]);
}

#[test]
fn each_layer_is_repaired_by_its_repaired_rid() {
    let mut world = World::new(&[simulcast()]);
    let mut forwarded: BTreeMap<LayerId, Vec<u64>> = BTreeMap::new();
    let mut lost = Vec::new();
    let mut take = |packet: Option<Arc<Packet>>, ssrc: u32| {
        let packet = packet.expect("media, or its repair");
        assert_eq!(packet.payload.last(), Some(&(ssrc as u8)));
        forwarded.entry(packet.layer).or_default().push(packet.sequence);
    };
    for sequence in 1..100_u16 {
        for (rid, ssrc) in [("q", 10_u32), ("h", 11), ("f", 12)] {
            let mut payload = if sequence == 1 { KEY.to_vec() } else { DELTA.to_vec() };
            payload.resize(100, ssrc as u8);
            let mut packet = Rtp::new(VIDEO, ssrc, sequence, &payload);
            if sequence < 5 {
                packet = packet.with(MID, "1").with(RID, rid);
            }
            if sequence % 7 == 0 {
                lost.push((rid, packet));
            } else {
                take(world.deliver(&packet), ssrc);
            }
        }
        world.advance(10);
        if sequence % 7 == 0 {
            continue; // what is lost shows with the next packet
        }
        let asked = world.nacked();
        for (rid, packet) in lost.drain(..) {
            assert!(asked.contains(&packet.sequence));
            // Whose retransmissions these are is said by the extension only, once.
            let mut repair = packet.as_rtx(packet.ssrc + 100, sequence / 7);
            if sequence == 8 {
                repair = repair.with(MID, "1").with(REPAIRED, rid);
            }
            take(world.deliver(&repair), packet.ssrc);
        }
    }
    assert_eq!(forwarded.len(), 3);
    for sequences in forwarded.values_mut() {
        sequences.sort_unstable();
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "every one, once");
        assert_eq!(sequences.len(), 99);
    }
}

#[test]
fn sender_reports_are_told_in_the_numbering_of_their_layer() {
    let mut world = World::new(&[simulcast()]);
    let second = 1_u64 << 32;
    let mut told = Vec::new();
    for (rid, ssrc) in [("q", 10_u32), ("h", 11)] {
        let timestamp = ssrc * 100_000_000;
        let media = Rtp::new(VIDEO, ssrc, 1, &KEY).at(timestamp).with(RID, rid);
        let packet = world.deliver(&media).expect("media");
        let heard = world.report_sender(ssrc, 50 * second, timestamp + 9_000).expect("known");
        assert_eq!(heard.rtp_timestamp, packet.timestamp + 9_000);
        told.push(heard.lane);
    }
    assert_eq!(told, [0, 1].map(|at| Lane::Video(LayerId::at(at).expect("few"))));
    assert_eq!(world.report_sender(12, 50 * second, 777_000), None, "nothing has come of it");
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
    // The picture is, and comes when another keyframe has begun: what it needs is before it.
    assert_eq!(deliver(9, 12_000, &sps), Some(true));
    assert_eq!(deliver(10, 12_000, &pps), Some(false));
    assert_eq!(deliver(12, 15_000, &sps), Some(true));
    assert_eq!(deliver(11, 12_000, &idr), Some(false));
    assert_eq!(world.report(Kind::Video).dimensions, Some((640, 480)));
    assert_eq!(world.report(Kind::Video).keyframes, 5);
}
