//! What is asked of the publisher and reported to it.

use super::*;

#[test]
fn what_is_never_repaired_is_given_up_and_a_keyframe_asked_for() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 10, &KEY));
    world.deliver(&Rtp::new(VIDEO, 7, 12, &DELTA));
    let mut asked = 0;
    let mut wishes = 0;
    for _ in 0..900 {
        world.advance(1);
        let packets = world.poll();
        asked += all::<TransportLayerNack>(&packets).count();
        wishes += all::<PictureLossIndication>(&packets).count();
    }
    assert_eq!((asked, wishes, world.report(Kind::Video).lost_packets), (8, 1, 1));
    // It comes after all, as do a keyframe and another gap before it: no further wish.
    world.deliver(&Rtp::new(VIDEO, 7, 11, &DELTA));
    assert_eq!(world.report(Kind::Video).lost_packets, 0);
    world.deliver(&Rtp::new(VIDEO, 7, 14, &KEY));
    for _ in 0..3_000 {
        world.advance(1);
        assert!(world.pli_targets().is_empty());
    }
    assert_eq!(world.report(Kind::Video).lost_packets, 1);
}

#[test]
fn exactly_what_is_missing_is_asked_for() {
    let mut world = World::new(&[video()]);
    let came = [65_500, 65_501, 65_520, 65_535, 2, 3, 300];
    for sequence in came {
        world.deliver(&Rtp::new(VIDEO, 7, sequence, &KEY));
    }
    world.advance(8);
    let expected: Vec<u16> =
        (65_500..=65_535).chain(0..300).filter(|sequence| !came.contains(sequence)).collect();
    assert_eq!(world.nacked(), expected);
}

#[test]
fn receiver_reports_say_what_was_lost_and_answer_sender_reports() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 65_530, &KEY));
    for sequence in (65_531..=65_535).chain(0..=14).filter(|sequence| sequence % 4 != 3) {
        world.deliver(&Rtp::new(VIDEO, 7, sequence, &DELTA).at(90));
    }
    world.report_sender(7, 0x0000_1234_5678_0000, 90);
    world.advance(999);
    world.poll();
    world.advance(1);
    assert_eq!(world.receiver.deadline(), Some(world.now));
    let packets = world.poll();
    let report = all::<ReceiverReport>(&packets).next().expect("one each second");
    assert_eq!(report.ssrc, REPORTER);
    let block = report.reports.first().expect("on the SSRC that sends");
    assert_eq!(block.ssrc, 7);
    assert_eq!(block.last_sequence_number, 65_536 + 14);
    // 65530..=65535 and 0..=14 are 21 packets, of which 65531, 65535, 3, 7 and 11 were lost.
    assert_eq!(block.total_lost, 5);
    assert_eq!(block.fraction_lost, (5 * 256 / 21) as u8);
    assert_eq!((block.last_sender_report, block.delay), (0x1234_5678, 65_536));
    world.advance(1_000);
    let packets = world.poll();
    let report = all::<ReceiverReport>(&packets).find(|report| !report.reports.is_empty());
    assert_eq!(report.map(|report| report.reports[0].fraction_lost), Some(0), "nothing since");
}

#[test]
fn sender_reports_are_told_in_the_numbering_of_the_track() {
    let mut world = World::new(&[video()]);
    assert_eq!(world.report_sender(7, 1, 5_000), None, "nothing came yet");
    let first = world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY).at(u32::MAX - 10)).expect("media");
    let heard = world.report_sender(7, 0xabcd, 89).expect("known now");
    assert_eq!(heard.lane, Lane::Video(LayerId::ONLY));
    assert_eq!((heard.ntp, heard.rtp_timestamp), (0xabcd, first.timestamp + 100));
    assert_eq!(world.report_sender(8, 1, 5_000), None, "nobody's SSRC");
}

#[test]
fn a_keyframe_is_asked_for_until_it_comes() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY));
    assert!(world.pli_targets().is_empty());
    world.receiver.request_keyframe(LayerId::ONLY, world.now);
    assert_eq!(world.receiver.deadline(), Some(world.now));
    let mut times = Vec::new();
    for millis in 0..5_000 {
        times.extend(world.pli_targets().iter().map(|_| millis));
        world.advance(1);
    }
    assert_eq!(times, [0, 1_000, 2_000], "three times, then never");
    world.receiver.request_keyframe(LayerId::ONLY, world.now);
    assert_eq!(world.pli_targets(), [7]);
    world.deliver(&Rtp::new(VIDEO, 7, 2, &KEY));
    world.advance(1_000);
    assert!(world.pli_targets().is_empty(), "it came");
}

#[test]
fn a_stream_that_does_not_start_with_a_keyframe_is_asked_for_one() {
    let mut world = World::new(&[video()]);
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 1, &DELTA)).is_some());
    assert_eq!(world.pli_targets(), [7]);
}

#[test]
fn those_who_know_only_fir_are_sent_fir() {
    let mut media = video();
    media.feedback.pli = false;
    let mut world = World::new(&[media]);
    world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY));
    for number in 1..=2 {
        world.receiver.request_keyframe(LayerId::ONLY, world.now);
        let packets = world.poll();
        let fir = all::<FullIntraRequest>(&packets).next().expect("one command");
        let entries: Vec<_> = fir.fir.iter().map(|e| (e.ssrc, e.sequence_number)).collect();
        assert_eq!(entries, [(7, number)]);
        world.advance(1_000);
    }
}

#[test]
fn transport_feedback_covers_all_streams_and_names_one_of_them() {
    let mut world = World::new(&[audio(), video()]);
    for (number, packet) in
        [Rtp::new(AUDIO, 5, 1, &[0xfc]), Rtp::new(VIDEO, 7, 1, &KEY)].into_iter().enumerate()
    {
        world.deliver(&packet.with(TRANSPORT, [0, number as u8]));
    }
    assert_eq!(world.receiver.deadline(), Some(world.now + Duration::from_millis(50)));
    world.advance(50);
    let packets = world.poll();
    let feedback = all::<TransportLayerCc>(&packets).next().expect("it is due");
    assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (REPORTER, 7));
    assert_eq!((feedback.base_sequence_number, feedback.packet_status_count), (0, 2));
    assert!(
        all::<remb::ReceiverEstimatedMaximumBitrate>(&packets).next().is_none(),
        "one is enough"
    );
}

#[test]
fn a_ceiling_is_told_to_those_who_offer_only_that() {
    let mut media = video();
    media.feedback.transport_cc = false;
    let mut world = World::new(&[media]);
    world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY).with(SEND_TIME, [1, 2, 3]));
    world.advance(100);
    let packets = world.poll();
    let told =
        all::<remb::ReceiverEstimatedMaximumBitrate>(&packets).next().expect("from the start");
    assert_eq!(told.ssrcs, [7]);
    assert!((2_990_000.0..=3_000_000.0).contains(&told.bitrate), "{}", told.bitrate);
}

#[test]
fn noise_neither_panics_nor_grows() {
    let mut dice = Dice(11);
    let mut world = World::new(&[simulcast(), audio()]);
    let mut forwarded = 0_u32;
    for _ in 0..60_000 {
        let payload: Vec<u8> = (0..dice.roll(40)).map(|_| dice.roll(256) as u8).collect();
        let payload_type = [VIDEO, RTX, AUDIO, dice.roll(128) as u8][dice.roll(4) as usize];
        let mut packet = Rtp::new(
            payload_type,
            dice.roll(70) as u32,
            (dice.roll(9) * 7_919 + dice.roll(50)) as u16,
            &payload,
        )
        .at((dice.roll(1 << 32)) as u32);
        if dice.hits(50) {
            packet = packet
                .with(RID, ["q", "h", "f", "zz"][dice.roll(4) as usize])
                .with(TRANSPORT, (dice.roll(65_536) as u16).to_be_bytes());
        }
        let mut bytes = packet.to_bytes();
        if dice.hits(10) {
            let index = dice.roll(bytes.len() as u64) as usize;
            bytes[index] = dice.roll(256) as u8;
        }
        forwarded += u32::from(world.deliver_bytes(&bytes).is_some());
        if dice.hits(5) {
            let mut compound: Vec<u8> = (0..dice.roll(80)).map(|_| dice.roll(256) as u8).collect();
            if let Some(head) = compound.first_chunk_mut::<8>() {
                *head = [0x80, 200, 0, 6, 0, 0, 0, dice.roll(70) as u8];
            }
            world.receiver.handle_rtcp(&compound, world.now, &mut |_| {});
        }
        world.advance(dice.roll(4));
        if world.receiver.deadline().is_some_and(|due| due <= world.now) {
            assert!(world.poll().len() < 400, "what one poll sends is bounded");
            assert!(world.receiver.deadline().is_none_or(|due| due > world.now), "no busy loop");
        }
    }
    assert!(forwarded > 1_000, "much of the noise is near enough to media: {forwarded}");
}
